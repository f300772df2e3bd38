//! Who the parts of this process are to the API, and how others verify the
//! tokens that it gives out.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api_access::bootstrap::controller_identity;
use api_registry::UserInfo;
use api_server::Published;
use controllers::{Account, Issuer, Sign};
use jiff::Timestamp;
use pki::{Ca, Pki, service_account};

/// As long may others keep the documents, as upstream's.
const CACHE_CONTROL: &str = "public, max-age=3600";

/// An identity inside this process.
pub(super) fn user(name: &str, groups: &[&str]) -> UserInfo {
    let groups =
        groups.iter().copied().chain(["system:authenticated"]).map(str::to_owned).collect();
    UserInfo { name: name.to_owned(), groups, ..UserInfo::default() }
}

/// One that may do everything: what the server itself is.
pub(super) fn master(name: &str) -> UserInfo {
    user(name, &["system:masters"])
}

/// A controller's.
pub(super) fn of(account: Account) -> UserInfo {
    match account {
        Account::Server => master("system:apiserver"),
        Account::Aggregator => master("system:kube-aggregator"),
        Account::Watcher => user("system:kube-controller-manager", &[]),
        Account::Of(name) => controller_identity(name),
    }
}

/// OpenID discovery (the issuer, and the keys that it signs with), and the CA
/// by which whoever has a join token knows this server.
pub(super) fn published(keys: &Pki, issuer: &str, url: &str) -> Vec<Published> {
    let discovery = service_account::discovery_document(issuer, url).to_string();
    let jwks = keys.service_account_keys().jwks().to_string();
    let ca = keys.authority(Ca::Server).pem().to_owned();
    [
        ("/cacerts", "application/x-pem-file", ca),
        ("/.well-known/openid-configuration", "application/json", discovery),
        ("/openid/v1/jwks", "application/jwk-set+json", jwks),
    ]
    .map(|(path, media_type, text)| Published {
        path,
        media_type,
        cache_control: CACHE_CONTROL,
        text,
    })
    .into()
}

/// By what extension API servers know callers: certificates of our client CA,
/// and headers from whoever shows a certificate of the front proxy's.
pub(super) fn authentication(keys: &Pki) -> BTreeMap<String, String> {
    let ca = |ca| keys.authority(ca).pem().to_owned();
    [
        ("client-ca-file", ca(Ca::Client)),
        ("requestheader-client-ca-file", ca(Ca::FrontProxy)),
        ("requestheader-allowed-names", r#"["system:auth-proxy"]"#.to_owned()),
        ("requestheader-username-headers", r#"["X-Remote-User"]"#.to_owned()),
        ("requestheader-uid-headers", r#"["X-Remote-Uid"]"#.to_owned()),
        ("requestheader-group-headers", r#"["X-Remote-Group"]"#.to_owned()),
        ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// The name says what is in it: a new CA makes a new bundle.
pub(super) fn trust_bundle_name(keys: &Pki) -> String {
    let pem = keys.authority(Ca::Server).pem();
    let hash = ring::digest::digest(&ring::digest::SHA256, pem.as_bytes());
    let hex: String = hash.as_ref()[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("kubernetes.io:kube-apiserver-serving:{hex}")
}

/// Signs certificates with the CAs of this server.
#[derive(Debug)]
pub(super) struct Signer(pub(super) Arc<Pki>);

impl Sign for Signer {
    fn sign(
        &self,
        issuer: Issuer,
        request: &[u8],
        usages: &[String],
        life: Duration,
        now: Timestamp,
    ) -> Result<String, String> {
        let ca = match issuer {
            Issuer::Clients => Ca::Client,
            Issuer::Servers => Ca::Server,
        };
        let signed = self.0.authority(ca).sign_request(request, usages, life, now);
        signed.map_err(|error| error.to_string())
    }
}

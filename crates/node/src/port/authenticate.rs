//! Who asks: by a certificate, or by a token that the API is asked about.

use std::{collections::BTreeMap, time::Duration};

use client::Resource;
use http::{HeaderMap, header};
use pki::peer::PeerIdentity;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Served;

/// How long an answer is believed: the kubelet's `authentication.webhook.cacheTTL`.
const LIFE: Duration = Duration::from_secs(120);

const TOKEN_REVIEWS: Resource = Resource::cluster("authentication.k8s.io", "v1", "tokenreviews");

/// Whom the API knows, as reviews write it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct User {
    #[serde(rename(deserialize = "username", serialize = "user"))]
    pub(super) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Served {
    /// Nobody where neither is good. `certificate` is one that TLS has verified.
    pub(super) async fn who(
        &self,
        certificate: Option<&[u8]>,
        headers: &HeaderMap,
    ) -> Option<User> {
        let now = self.deps.ambient.now().as_second();
        if let Some(user) = certificate.and_then(|der| of_certificate(der, now)) {
            return Some(user);
        }
        let token = bearer(headers)?;
        if let Some(known) = self.users.get(token.as_bytes()) {
            return known;
        }
        match self.review_token(token).await {
            Ok(user) => {
                self.users.put(token.as_bytes(), user.clone(), LIFE);
                user
            }
            Err(error) => {
                tracing::warn!(error, "whose a token is cannot be found out");
                None
            }
        }
    }

    async fn review_token(&self, token: &str) -> Result<Option<User>, String> {
        let _turn = self.reviews.acquire().await.map_err(|error| error.to_string())?;
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token},
        });
        let answer = self.deps.api.create(TOKEN_REVIEWS, "", &review).await;
        let answer = answer.map_err(|error| error.to_string())?;
        reviewed(&answer.bytes)
    }
}

/// The user of a certificate, as the API server reads it. TLS has looked at its life
/// when the connection was made, and connections live long.
fn of_certificate(der: &[u8], now: i64) -> Option<User> {
    let peer = PeerIdentity::from_der(der).ok()?;
    if peer.common_name.is_empty() || peer.not_after < now {
        return None;
    }
    let mut groups = peer.organizations;
    groups.push("system:authenticated".into());
    let id = vec![format!("X509SHA256={}", peer.fingerprint)];
    Some(User {
        name: peer.common_name,
        uid: String::new(),
        groups,
        extra: BTreeMap::from([("authentication.kubernetes.io/credential-id".into(), id)]),
    })
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// What a TokenReview says.
fn reviewed(bytes: &[u8]) -> Result<Option<User>, String> {
    let mut answer: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let status = answer["status"].take();
    if status["authenticated"] != true {
        return Ok(None);
    }
    let user: User =
        serde_json::from_value(status["user"].clone()).map_err(|error| error.to_string())?;
    match user.name.is_empty() {
        true => Err("the API names nobody".into()),
        false => Ok(Some(user)),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    #[test]
    fn tokens_are_read_from_their_header() {
        let read = |text: &str| {
            let value = text.parse().expect("a header");
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(read("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(read("bearer  abc ").as_deref(), Some("abc"));
        for none in ["", "Bearer", "Bearer ", "Basic abc", "Bearerabc"] {
            assert_eq!(read(none), None, "{none:?}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn only_who_the_api_names_is_somebody() {
        let read = |status: Value| reviewed(json!({"status": status}).to_string().as_bytes());
        let user = json!({"username": "system:serviceaccount:a:b", "uid": "u", "groups": ["g"],
            "extra": {"k": ["v"]}});
        let known = read(json!({"authenticated": true, "user": user})).expect("well formed");
        let known = known.expect("somebody");
        assert_eq!(
            serde_json::to_value(&known).expect("JSON"),
            json!({"user": "system:serviceaccount:a:b", "uid": "u", "groups": ["g"],
                "extra": {"k": ["v"]}})
        );
        assert_eq!(read(json!({"authenticated": false, "user": user})), Ok(None));
        assert_eq!(read(json!({"user": user})), Ok(None));
        assert_eq!(read(json!({})), Ok(None));
        assert!(read(json!({"authenticated": true})).is_err());
        assert!(reviewed(b"junk").is_err());
    }

    #[test]
    fn a_certificate_names_its_user_until_its_end() {
        let key = KeyPair::generate().expect("random");
        let certificate = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params.distinguished_name.push(DnType::OrganizationName, "devs");
            params.not_after = rcgen::date_time_ymd(2030, 1, 1);
            params.self_signed(&key).expect("signed").der().to_vec()
        };
        let jane = certificate("jane");
        let user = of_certificate(&jane, 1_800_000_000).expect("jane");
        assert_eq!((user.name.as_str(), user.groups.len()), ("jane", 2));
        assert_eq!(user.groups, ["devs", "system:authenticated"]);
        assert_eq!(of_certificate(&jane, 1_900_000_000), None, "after its end");
        assert_eq!(of_certificate(&certificate(""), 1_800_000_000), None);
        assert_eq!(of_certificate(b"junk", 0), None);
    }
}

//! Who is calling: a client certificate, a ServiceAccount token, or a bootstrap
//! token.

mod bootstrap_token;
mod token;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use api_object::{Reason, Status};
use api_registry::{Credentials, UserInfo};
use pki::peer::PeerIdentity;

use crate::Access;
pub(crate) use token::TokenCache;

const CACHED_MAX: usize = 1024;

/// Certificates that were read.
#[derive(Default)]
pub(crate) struct CertificateCache(Mutex<HashMap<Box<[u8]>, Known>>);

/// A user, and the last Unix second of its certificate.
type Known = (Arc<UserInfo>, i64);

impl Access {
    pub(crate) async fn identify(
        &self,
        credentials: Credentials<'_>,
    ) -> Result<Option<Arc<UserInfo>>, Status> {
        if let Some(der) = credentials.certificate {
            let (user, not_after) = self.certificate(der).map_err(unauthorized)?;
            if self.now().as_second() > not_after {
                return Err(unauthorized("the certificate has expired".into()));
            }
            // A certificate without a name identifies nobody.
            if !user.name.is_empty() {
                return Ok(Some(user));
            }
        }
        let Some(token) = credentials.bearer.map(str::trim).filter(|token| !token.is_empty())
        else {
            return Ok(None);
        };
        self.synced().await;
        if let Some((id, secret)) = bootstrap_token::parts(token) {
            let user = self.bootstrap_user(id, secret).await.map_err(unauthorized)?;
            return Ok(Some(Arc::new(user)));
        }
        let audience = std::slice::from_ref(&self.settings.issuer);
        let (user, _) = self.token_user(token, audience).await.map_err(unauthorized)?;
        Ok(Some(Arc::new(user)))
    }

    fn certificate(&self, der: &[u8]) -> Result<Known, String> {
        let mut cache = self.certificates.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = cache.get(der) {
            return Ok(found.clone());
        }
        let peer = PeerIdentity::from_der(der)?;
        let not_after = peer.not_after;
        let found = (Arc::new(certificate_user(peer)), not_after);
        if cache.len() >= CACHED_MAX {
            cache.clear();
        }
        cache.insert(der.into(), found.clone());
        Ok(found)
    }
}

fn certificate_user(peer: PeerIdentity) -> UserInfo {
    let mut groups = peer.organizations;
    groups.push("system:authenticated".into());
    let id = format!("X509SHA256={}", peer.fingerprint);
    UserInfo {
        name: peer.common_name,
        uid: String::new(),
        groups,
        extra: BTreeMap::from([(CREDENTIAL_ID.into(), vec![id])]),
    }
}

const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Why is for our log; the caller learns nothing, as upstream.
fn unauthorized(why: String) -> Status {
    tracing::debug!(why, "unable to authenticate the request");
    Status::failure(Reason::Unauthorized, "Unauthorized")
}

//! Who is calling: a client certificate, or a bound ServiceAccount token.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use api_object::{Reason, Status};
use api_registry::{Credentials, UserInfo};
use client::Resource;
use jiff::Timestamp;
use pki::{
    peer::PeerIdentity,
    service_account::{Claims, ObjectRef, VerifyError},
};

use crate::{
    Access,
    state::{NODES, PODS, SECRETS, SERVICE_ACCOUNTS, Seen},
};

/// A token outlives its deleted pod or account by this much, so that a pod
/// can still report while it ends.
const DELETED_LEEWAY_SECONDS: i64 = 60;
const CACHED_MAX: usize = 1024;

/// Tokens whose signature was verified, by their SHA-256. What they are bound
/// to is looked up at every use; the signature costs more than the rest of a
/// small request.
#[derive(Default)]
pub(crate) struct TokenCache(Mutex<HashMap<[u8; 32], Arc<Claims>>>);

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

    /// The user of a token and those of `audiences` it is for. The error is
    /// for the log and for TokenReview.
    pub(crate) async fn token_user(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(UserInfo, Vec<String>), String> {
        let now = self.now();
        let claims = self.verified(token, audiences, now)?;
        let matching =
            audiences.iter().filter(|audience| claims.aud.contains(audience)).cloned().collect();
        self.still_bound(&claims, now).await?;
        Ok((account_user(&claims), matching))
    }

    fn verified(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<Arc<Claims>, String> {
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let key: [u8; 32] = digest.as_ref().try_into().map_err(|_| "no digest".to_owned())?;
        let cached =
            self.tokens.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(claims) = cached
            && now.as_second() < claims.exp
            && claims.nbf <= now.as_second()
            && audiences.iter().any(|audience| claims.aud.contains(audience))
        {
            return Ok(claims);
        }
        let (claims, _) = (self.settings.keys.verify(token, &self.settings.issuer, audiences, now))
            .map_err(|error: VerifyError| error.to_string())?;
        let claims = Arc::new(claims);
        let mut cache = self.tokens.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHED_MAX {
            cache.retain(|_, claims| now.as_second() < claims.exp);
            if cache.len() >= CACHED_MAX {
                cache.clear();
            }
        }
        cache.insert(key, claims.clone());
        Ok(claims)
    }

    /// Whether the account and what the token is bound to still exist.
    async fn still_bound(&self, claims: &Claims, now: Timestamp) -> Result<(), String> {
        let bound = &claims.kubernetes;
        let namespace = bound.namespace.as_str();
        let account = self
            .state()
            .account(namespace, &bound.serviceaccount.name)
            .map(|account| account.seen.clone());
        self.same(SERVICE_ACCOUNTS, namespace, &bound.serviceaccount, account, now).await?;
        if let Some(pod) = &bound.pod {
            let seen = self.state().pods.get(namespace, &pod.name).map(|pod| pod.seen.clone());
            self.same(PODS, namespace, pod, seen, now).await?;
        }
        if let Some(secret) = &bound.secret {
            self.same(SECRETS, namespace, secret, None, now).await?;
        }
        // A pod's token names its node for information; the node binds only
        // where nothing else does.
        if let (Some(node), None, None) = (&bound.node, &bound.pod, &bound.secret) {
            let seen = self.state().nodes.get(&node.name).cloned();
            self.same(NODES, "", node, seen, now).await?;
        }
        Ok(())
    }

    /// Whether the object that was seen is the one that the token names. The
    /// memory may lag behind a write, so a doubt is settled by asking.
    async fn same(
        &self,
        resource: Resource,
        namespace: &str,
        wanted: &ObjectRef,
        seen: Option<Seen>,
        now: Timestamp,
    ) -> Result<(), String> {
        if seen.is_some_and(|seen| alive(&seen, wanted, now)) {
            return Ok(());
        }
        let what = resource.plural.trim_end_matches('s');
        let api = self.api.get().ok_or("access control is not running yet")?;
        match api.get(resource, namespace, &wanted.name).await {
            Ok(object) if alive(&Seen::of(&object.meta), wanted, now) => Ok(()),
            Ok(_) => {
                Err(format!("{what} {namespace}/{} is another one than the token's", wanted.name))
            }
            Err(error) => Err(format!("{what} {namespace}/{}: {error}", wanted.name)),
        }
    }
}

fn alive(seen: &Seen, wanted: &ObjectRef, now: Timestamp) -> bool {
    seen.uid == wanted.uid
        && seen.deleted.is_none_or(|at| now.as_second() <= at.as_second() + DELETED_LEEWAY_SECONDS)
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

fn account_user(claims: &Claims) -> UserInfo {
    let bound = &claims.kubernetes;
    let mut extra = BTreeMap::new();
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    if !claims.jti.is_empty() {
        add("credential-id", &format!("JTI={}", claims.jti));
    }
    if let Some(pod) = &bound.pod {
        add("pod-name", &pod.name);
        add("pod-uid", &pod.uid);
    }
    if let Some(node) = &bound.node {
        add("node-name", &node.name);
        add("node-uid", &node.uid);
    }
    UserInfo {
        name: claims.sub.clone(),
        uid: bound.serviceaccount.uid.clone(),
        groups: vec![
            "system:serviceaccounts".into(),
            format!("system:serviceaccounts:{}", bound.namespace),
            "system:authenticated".into(),
        ],
        extra,
    }
}

/// Why is for our log; the caller learns nothing, as upstream.
fn unauthorized(why: String) -> Status {
    tracing::debug!(why, "unable to authenticate the request");
    Status::failure(Reason::Unauthorized, "Unauthorized")
}

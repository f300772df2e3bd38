//! ServiceAccount tokens: bound ones, and those that live in Secrets. A token
//! is as good as what it is bound to, which is looked up at every use.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use api_object::{Meta, Object};
use api_registry::UserInfo;
use api_schema::tree;
use base64::{Engine, engine::general_purpose::STANDARD};
use client::{Api, PatchKind, Resource};
use jiff::{Timestamp, tz::TimeZone};
use pki::service_account::{Claims, LegacyClaims, ObjectRef, VerifyError};
use serde_json::{Value, json};

use super::{CACHED_MAX, CREDENTIAL_ID};
use crate::{
    Access,
    legacy_tokens::{INVALID_SINCE, LAST_USED},
    state::{NODES, PODS, SECRETS, SERVICE_ACCOUNTS, Seen},
};

/// A token outlives its deleted pod or account by this much, so that a pod
/// can still report while it ends.
const DELETED_LEEWAY_SECONDS: i64 = 60;
/// Upstream's word for a token whose object is gone.
const INVALIDATED: &str = "service account token has been invalidated";

/// Tokens whose signature was verified, by their SHA-256. What they are bound
/// to is looked up at every use; the signature costs more than the rest of a
/// small request.
#[derive(Default)]
pub(crate) struct TokenCache(Mutex<HashMap<[u8; 32], Verified>>);

/// The claims of a token with a valid signature.
#[derive(Clone)]
enum Verified {
    Bound(Arc<Claims>),
    InSecret(Arc<LegacyClaims>),
}

impl Verified {
    /// Whether it could be used at `now` for one of the audiences.
    fn fits(&self, audiences: &[String], issuer: &str, now: i64) -> bool {
        match self {
            Self::Bound(claims) => {
                now < claims.exp
                    && claims.nbf <= now
                    && audiences.iter().any(|audience| claims.aud.contains(audience))
            }
            Self::InSecret(_) => audiences.iter().any(|audience| audience == issuer),
        }
    }
}

impl Access {
    /// The user of a token and those of `audiences` it is for. The error is
    /// for the log and for TokenReview.
    pub(crate) async fn token_user(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(UserInfo, Vec<String>), String> {
        let now = self.now();
        let of = |accepted: &[String]| -> Vec<String> {
            audiences.iter().filter(|audience| accepted.contains(audience)).cloned().collect()
        };
        match self.verified(token, audiences, now)? {
            Verified::Bound(claims) => {
                self.still_bound(&claims, now).await?;
                Ok((bound_user(&claims), of(&claims.aud)))
            }
            Verified::InSecret(claims) => {
                self.still_held(&claims, token, now).await?;
                let user = account_user(&claims.namespace, &claims.account, &claims.account_uid);
                Ok((user, of(std::slice::from_ref(&self.settings.issuer))))
            }
        }
    }

    fn verified(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<Verified, String> {
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let key: [u8; 32] = digest.as_ref().try_into().map_err(|_| "no digest".to_owned())?;
        let cache = || self.tokens.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = cache().get(&key).cloned();
        let issuer = self.settings.issuer.as_str();
        if let Some(verified) = cached
            && verified.fits(audiences, issuer, now.as_second())
        {
            return Ok(verified);
        }
        let keys = &self.settings.keys;
        let verified = match keys.verify(token, issuer, audiences, now) {
            Ok((claims, _)) => Verified::Bound(Arc::new(claims)),
            Err(foreign @ VerifyError::Foreign(_)) => match keys.verify_legacy(token) {
                Ok(claims) => Verified::InSecret(Arc::new(claims)),
                Err(VerifyError::Foreign(_)) => return Err(foreign.to_string()),
                Err(refused) => return Err(refused.to_string()),
            },
            Err(refused) => return Err(refused.to_string()),
        };
        if matches!(verified, Verified::InSecret(_)) && !audiences.iter().any(|a| a == issuer) {
            return Err(format!(
                "token audiences [{issuer:?}] is invalid for the target audiences {audiences:?}"
            ));
        }
        let mut cache = cache();
        if cache.len() >= CACHED_MAX {
            cache.retain(|_, verified| match verified {
                Verified::Bound(claims) => now.as_second() < claims.exp,
                Verified::InSecret(_) => true,
            });
            if cache.len() >= CACHED_MAX {
                cache.clear();
            }
        }
        cache.insert(key, verified.clone());
        Ok(verified)
    }

    /// Whether the account and what the token is bound to still exist.
    async fn still_bound(&self, claims: &Claims, now: Timestamp) -> Result<(), String> {
        let bound = &claims.kubernetes;
        let namespace = bound.namespace.as_str();
        self.account_exists(namespace, &bound.serviceaccount, now).await?;
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

    async fn account_exists(
        &self,
        namespace: &str,
        account: &ObjectRef,
        now: Timestamp,
    ) -> Result<(), String> {
        let seen =
            self.state().account(namespace, &account.name).map(|account| account.seen.clone());
        self.same(SERVICE_ACCOUNTS, namespace, account, seen, now).await
    }

    /// Whether the Secret still holds this very token, and its account exists.
    async fn still_held(
        &self,
        claims: &LegacyClaims,
        token: &str,
        now: Timestamp,
    ) -> Result<(), String> {
        let namespace = claims.namespace.as_str();
        let account = ObjectRef { name: claims.account.clone(), uid: claims.account_uid.clone() };
        self.account_exists(namespace, &account, now).await?;
        let api = self.api.get().ok_or("access control is not running yet")?;
        let secret: Object = api
            .get(SECRETS, namespace, &claims.secret)
            .await
            .map_err(|_| INVALIDATED.to_owned())?;
        if !still_there(&Seen::of(&secret.meta), now) {
            return Err(INVALIDATED.into());
        }
        if secret.meta.labels.get(INVALID_SINCE).is_some_and(|since| !since.is_empty()) {
            return Err("the token in secret has been marked as invalid".into());
        }
        let value: Value = serde_json::from_slice(&secret.bytes).map_err(|e| e.to_string())?;
        let held = STANDARD.decode(tree::text(&value, "data.token")).unwrap_or_default();
        // The signature is ours already, so how long this takes tells nothing.
        if held != token.as_bytes() {
            return Err("service account token does not match server's copy".into());
        }
        self.note_use(api, &secret.meta, now).await;
        Ok(())
    }

    /// Notes the day of a token's last use (KEP-2799), by which unused ones are found.
    async fn note_use(&self, api: &Api, secret: &Meta, now: Timestamp) {
        let today = now.to_zoned(TimeZone::UTC).date().to_string();
        if secret.labels.get(LAST_USED) == Some(&today) {
            return;
        }
        let patch = json!({"metadata": {"uid": secret.uid, "labels": {LAST_USED: today}}});
        let (namespace, name) = (&secret.namespace, &secret.name);
        let noted = api.patch(SECRETS, namespace, name, "", PatchKind::Merge, &patch).await;
        if let Err(error) = noted {
            tracing::warn!(%namespace, %name, %error, "that a token was used cannot be noted");
        }
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
        if seen.is_some_and(|seen| seen.uid == wanted.uid && still_there(&seen, now)) {
            return Ok(());
        }
        let api = self.api.get().ok_or("access control is not running yet")?;
        let found = match api.get(resource, namespace, &wanted.name).await {
            Ok(object) => Seen::of(&object.meta),
            Err(error) if error.is_not_found() && resource != SERVICE_ACCOUNTS => {
                return Err(INVALIDATED.into());
            }
            Err(error) => return Err(error.to_string()),
        };
        if found.uid != wanted.uid {
            let what = resource.plural.trim_end_matches('s');
            return Err(format!(
                "{what} UID ({}) does not match service account {what} ref claim ({})",
                found.uid, wanted.uid
            ));
        }
        match still_there(&found, now) {
            true => Ok(()),
            false if resource == SERVICE_ACCOUNTS => {
                Err(format!("service account {namespace}/{} has been deleted", wanted.name))
            }
            false => Err(INVALIDATED.into()),
        }
    }
}

fn still_there(seen: &Seen, now: Timestamp) -> bool {
    seen.deleted.is_none_or(|at| now.as_second() <= at.as_second() + DELETED_LEEWAY_SECONDS)
}

fn account_user(namespace: &str, name: &str, uid: &str) -> UserInfo {
    UserInfo {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        uid: uid.to_owned(),
        groups: vec![
            "system:serviceaccounts".into(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".into(),
        ],
        extra: BTreeMap::new(),
    }
}

fn bound_user(claims: &Claims) -> UserInfo {
    let bound = &claims.kubernetes;
    let account = &bound.serviceaccount;
    let mut user = account_user(&bound.namespace, &account.name, &account.uid);
    let mut add = |key: String, value: &str| {
        if !value.is_empty() {
            user.extra.insert(key, vec![value.to_owned()]);
        }
    };
    if !claims.jti.is_empty() {
        add(CREDENTIAL_ID.to_owned(), &format!("JTI={}", claims.jti));
    }
    for (what, object) in [("pod", &bound.pod), ("node", &bound.node)] {
        if let Some(object) = object {
            add(format!("authentication.kubernetes.io/{what}-name"), &object.name);
            add(format!("authentication.kubernetes.io/{what}-uid"), &object.uid);
        }
    }
    user
}

#[cfg(test)]
mod tests;

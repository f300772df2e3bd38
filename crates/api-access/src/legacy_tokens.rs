//! Secrets of type `kubernetes.io/service-account-token`: filled with a token,
//! the CA and the namespace, and removed with their account. Upstream's tokens
//! controller; it is here since it signs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api_object::Object;
use api_schema::tree;
use base64::{Engine, engine::general_purpose::STANDARD};
use client::{
    Ambient, Api, DeleteOptions, Error, ListOptions, PatchKind, Preconditions, Reflected, reflect,
};
use pki::service_account::LegacyClaims;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{Access, state::SECRETS};

/// A token in a Secret with this label is refused: its cleaner marked it.
pub(crate) const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// The day on which a token in a Secret was last shown.
pub(crate) const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// How long to wait after a write that failed.
const RETRY: Duration = Duration::from_secs(1);

/// A Secret for a token, as far as it is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    namespace: String,
    name: String,
    uid: String,
    version: String,
    account: String,
    account_uid: String,
    /// What is there of `token`, `ca.crt` and `namespace`, decoded.
    data: BTreeMap<&'static str, Vec<u8>>,
}

impl Held {
    fn of(object: &Object) -> Option<Self> {
        let value: Value = serde_json::from_slice(&object.bytes).ok()?;
        let (meta, annotations) = (&object.meta, &object.meta.annotations);
        let text = |key: &str| annotations.get(key).cloned().unwrap_or_default();
        let data = ["token", "ca.crt", "namespace"].into_iter().filter_map(|key| {
            let encoded = value.get("data")?.get(key)?.as_str()?;
            Some((key, STANDARD.decode(encoded).ok()?))
        });
        (tree::text(&value, "type") == TYPE && meta.deletion_timestamp.is_none()).then(|| Self {
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            version: meta.resource_version.clone(),
            account: text(ACCOUNT),
            account_uid: text(ACCOUNT_UID),
            data: data.collect(),
        })
    }
}

/// What a Secret needs.
#[derive(Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    /// Its account is gone, or another one of its name.
    Removal,
    /// Some of token, CA and namespace; and the account's uid.
    Filling {
        account_uid: String,
        token: bool,
    },
}

/// Decides; `account_uid` is that of the account as it is, if it is.
fn plan(held: &Held, account_uid: Option<&str>, ca: &[u8]) -> Need {
    let Some(account_uid) = account_uid else { return Need::Removal };
    if !held.account_uid.is_empty() && held.account_uid != account_uid {
        return Need::Removal;
    }
    let is = |key, wanted: &[u8]| held.data.get(key).is_some_and(|found| found == wanted);
    let token = held.data.get("token").is_none_or(Vec::is_empty);
    let whole = !token
        && (ca.is_empty() || is("ca.crt", ca))
        && is("namespace", held.namespace.as_bytes())
        && !held.account_uid.is_empty();
    match whole {
        true => Need::Nothing,
        false => Need::Filling { account_uid: account_uid.to_owned(), token },
    }
}

/// Runs until it is dropped.
pub(crate) async fn run(access: Arc<Access>, api: Api, ambient: Ambient) {
    let secrets: watch::Sender<Option<BTreeMap<(String, String), Held>>> = watch::Sender::new(None);
    let options = ListOptions { field_selector: format!("type={TYPE}"), ..ListOptions::default() };
    let mut listed = BTreeMap::new();
    let mut synced = false;
    let follow = reflect(&api, SECRETS, "", &options, &ambient, |told| {
        let key = |object: &Object| (object.meta.namespace.clone(), object.meta.name.clone());
        match told {
            Reflected::Restart => {
                listed.clear();
                synced = false;
            }
            Reflected::Upsert(object) => match Held::of(&object) {
                Some(held) => drop(listed.insert(key(&object), held)),
                None => drop(listed.remove(&key(&object))),
            },
            Reflected::Delete(object) => drop(listed.remove(&key(&object))),
            Reflected::Synced(_) => synced = true,
            Reflected::Progress(_) => return,
        }
        if synced {
            secrets.send_replace(Some(listed.clone()));
        }
    });
    tokio::select! {
        () = follow => {}
        () = keep(&access, &api, secrets.subscribe()) => {}
    }
}

async fn keep(
    access: &Access,
    api: &Api,
    mut secrets: watch::Receiver<Option<BTreeMap<(String, String), Held>>>,
) {
    let mut accounts = access.accounts_changed.subscribe();
    loop {
        accounts.mark_unchanged();
        let known = secrets.borrow_and_update().clone().unwrap_or_default();
        let mut failed = false;
        for held in known.values() {
            if let Err(error) = bring_about(access, api, held).await {
                failed = true;
                let (namespace, name) = (&held.namespace, &held.name);
                tracing::warn!(namespace, name, %error, "the Secret of a token cannot be kept");
            }
        }
        if failed {
            tokio::time::sleep(RETRY).await;
            continue;
        }
        let ended = tokio::select! {
            changed = secrets.changed() => changed.is_err(),
            // Nobody's Secret is concerned where there is none.
            changed = accounts.changed(), if !known.is_empty() => changed.is_err(),
        };
        if ended {
            return;
        }
    }
}

async fn bring_about(access: &Access, api: &Api, held: &Held) -> Result<(), Error> {
    let known = access.state().account(&held.namespace, &held.account).cloned();
    let mut account_uid = known.map(|account| account.seen.uid.clone());
    let ca = access.settings.cluster_ca_pem.as_bytes();
    if plan(held, account_uid.as_deref(), ca) == Need::Removal {
        // The memory may lag behind an account that was just made.
        let asked = api.get(crate::state::SERVICE_ACCOUNTS, &held.namespace, &held.account).await;
        account_uid = match asked {
            Ok(account) => Some(account.meta.uid),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
    }
    let (namespace, name) = (&held.namespace, &held.name);
    let done = match plan(held, account_uid.as_deref(), ca) {
        Need::Nothing => return Ok(()),
        Need::Removal => {
            let options = DeleteOptions {
                preconditions: Some(Preconditions {
                    uid: Some(held.uid.clone()),
                    resource_version: Some(held.version.clone()),
                }),
                ..DeleteOptions::default()
            };
            api.delete(SECRETS, namespace, name, &options).await.map(drop)
        }
        Need::Filling { account_uid, token } => {
            let mut data = json!({ "namespace": STANDARD.encode(namespace) });
            if !ca.is_empty() {
                data["ca.crt"] = STANDARD.encode(ca).into();
            }
            if token {
                let claims = LegacyClaims::new(namespace, name, &held.account, &account_uid);
                match access.settings.keys.sign(&claims) {
                    Ok(token) => data["token"] = STANDARD.encode(token).into(),
                    Err(error) => {
                        tracing::error!(%error, "a token cannot be signed");
                        return Ok(());
                    }
                }
            }
            let patch = json!({
                "metadata": {
                    "uid": held.uid,
                    "resourceVersion": held.version,
                    "annotations": { ACCOUNT_UID: account_uid },
                },
                "data": data,
            });
            api.patch(SECRETS, namespace, name, "", PatchKind::Merge, &patch).await.map(drop)
        }
    };
    match done {
        // Changed or gone meanwhile: the watch tells, and it is looked at anew.
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(data: &[(&'static str, &str)], uid: &str) -> Held {
        Held {
            namespace: "ns".into(),
            name: "s".into(),
            uid: "u".into(),
            version: "1".into(),
            account: "a".into(),
            account_uid: uid.into(),
            data: data.iter().map(|(key, value)| (*key, value.as_bytes().to_vec())).collect(),
        }
    }

    #[test]
    fn secrets_are_filled_once_and_go_with_their_account() {
        let fill = |token| Need::Filling { account_uid: "a-1".into(), token };
        let whole = [("token", "t"), ("ca.crt", "ca"), ("namespace", "ns")];
        for (secret, account, need) in [
            (held(&[], ""), Some("a-1"), fill(true)),
            (held(&[("token", "t")], ""), Some("a-1"), fill(false)),
            (held(&whole, "a-1"), Some("a-1"), Need::Nothing),
            (held(&whole, ""), Some("a-1"), fill(false)),
            (held(&[whole[0], ("ca.crt", "old"), whole[2]], "a-1"), Some("a-1"), fill(false)),
            (held(&whole, "a-0"), Some("a-1"), Need::Removal),
            (held(&whole, "a-1"), None, Need::Removal),
            (held(&[], ""), None, Need::Removal),
        ] {
            assert_eq!(plan(&secret, account, b"ca"), need, "{secret:?} {account:?}");
        }
    }
}

//! Carries out the plans.

use std::sync::Arc;

use api_object::{Meta, time};
use client::{
    Api, Cached, DeleteOptions, Error, Informer, MetaOnly, Outcome, PatchKind, Selection,
    WorkQueue, reconcile_loop,
};
use serde::Deserialize;
use serde_json::json;

use super::plan::{Action, Seen, day, plan, today};
use crate::{
    Context,
    cached::{self, CONFIG_MAPS, NAMESPACES, Pod, SECRETS, SERVICE_ACCOUNTS, null_is_default},
};

const SYSTEM: &str = "kube-system";
const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
const TOKENS: &str = "type=kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// The authenticator refuses what has it.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// Since when uses are noted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tracking {
    data: Since,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Since {
    since: String,
}

/// The Secrets that an account lists.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Account {
    #[serde(deserialize_with = "null_is_default")]
    secrets: Vec<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
}

fn tracking(context: &Context) -> Informer<Tracking> {
    let selection = Selection::all(CONFIG_MAPS).namespace(SYSTEM);
    context.informers.get(selection.fields(&format!("metadata.name={TRACKING}")))
}

/// Notes the day on which the cluster begins to note uses. Never returns.
pub(crate) async fn run_tracking(context: Context) {
    let known = tracking(&context);
    let namespaces: Informer<MetaOnly> = context.informers.get(Selection::all(NAMESPACES));
    let queue = Arc::new(WorkQueue::default());
    let keys = queue.clone();
    known.on_change(move |change| keys.add(change.object().key()));
    let keys = queue.clone();
    // A new cluster has no namespace for it yet.
    namespaces.on_change(move |change| {
        if change.old.is_none() && change.object().meta.name == SYSTEM {
            keys.add(format!("{SYSTEM}/{TRACKING}"));
        }
    });
    queue.add(format!("{SYSTEM}/{TRACKING}"));
    known.wait_synced().await;
    namespaces.wait_synced().await;
    reconcile_loop("legacy-token-tracking", queue, 1, move |key| {
        let (known, context) = (known.get(&key), context.clone());
        let is_there = namespaces.get(SYSTEM).is_some();
        async move {
            if !is_there
                || known.as_ref().is_some_and(|known| day(&known.view.data.since).is_some())
            {
                return Ok(None);
            }
            let data = json!({"since": today(context.ambient.now())});
            let api = &context.api;
            let written = match known {
                None => {
                    let map = json!({
                        "apiVersion": "v1",
                        "kind": "ConfigMap",
                        "metadata": {"name": TRACKING, "namespace": SYSTEM},
                        "data": data,
                    });
                    api.create(CONFIG_MAPS, SYSTEM, &map).await
                }
                Some(_) => {
                    let patch = json!({"data": data});
                    api.patch(CONFIG_MAPS, SYSTEM, TRACKING, "", PatchKind::Merge, &patch).await
                }
            };
            match written {
                // Another server was first.
                Err(error) if !error.is_conflict() => Err(error.into()),
                _ => Ok(None),
            }
        }
    })
    .await;
}

struct Cleaner {
    api: Api,
    tracking: Informer<Tracking>,
    tokens: Informer<MetaOnly>,
    accounts: Informer<Account>,
    pods: Informer<Pod>,
    context: Context,
}

/// Refuses and deletes what nobody uses. Never returns.
pub(crate) async fn run(context: Context) {
    let cleaner = Arc::new(Cleaner {
        api: context.api.clone(),
        tracking: tracking(&context),
        tokens: context.informers.get(Selection::all(SECRETS).fields(TOKENS)),
        accounts: context.informers.get(Selection::all(SERVICE_ACCOUNTS)),
        pods: cached::pods(&context.informers),
        context,
    });
    let queue = cleaner.context.queue();
    let keys = queue.clone();
    cleaner.tokens.on_change(move |change| {
        if let Some(token) = &change.new {
            keys.add(token.key());
        }
    });
    let (keys, tokens) = (queue.clone(), cleaner.tokens.clone());
    cleaner.tracking.on_change(move |_| tokens.list().iter().for_each(|t| keys.add(t.key())));
    cleaner.tracking.wait_synced().await;
    cleaner.tokens.wait_synced().await;
    cleaner.accounts.wait_synced().await;
    cleaner.pods.wait_synced().await;
    reconcile_loop("legacy-token-cleaner", queue, 1, move |key| {
        let cleaner = cleaner.clone();
        async move { cleaner.reconcile(&key).await }
    })
    .await;
}

impl Cleaner {
    async fn reconcile(&self, key: &str) -> Outcome {
        let Some(token) = self.tokens.get(key) else { return Ok(None) };
        let Meta { namespace, name, labels, .. } = &token.meta;
        let account = token.meta.annotations.get(ACCOUNT).cloned().unwrap_or_default();
        let account = self.accounts.get(&format!("{namespace}/{account}"));
        let tracking = self.tracking.get(&format!("{SYSTEM}/{TRACKING}"));
        let label = |key: &str| labels.get(key).map(String::as_str);
        let now = self.context.ambient.now();
        let action = plan(&Seen {
            is_made_by_itself: account
                .is_some_and(|account| account.view.secrets.iter().any(|s| s.name == *name)),
            is_mounted: self.is_mounted(&token),
            created: token.meta.creation_timestamp.as_deref().and_then(time::parse),
            last_used: label(LAST_USED),
            invalid_since: label(INVALID_SINCE),
            tracked_since: tracking.and_then(|tracking| day(&tracking.view.data.since)),
            now,
        });
        let done: Result<(), Error> = match action {
            Action::Leave => return Ok(None),
            Action::LookAgain(wait) => return Ok(Some(wait)),
            Action::Refuse => {
                tracing::warn!(%namespace, %name, "nobody has used the token for a year: it is refused, and deleted in another, unless its label {INVALID_SINCE} is removed");
                let patch = json!({"metadata": {
                    "uid": token.meta.uid,
                    "resourceVersion": token.meta.resource_version,
                    "labels": {INVALID_SINCE: today(now)},
                }});
                let kind = PatchKind::Merge;
                self.api.patch(SECRETS, namespace, name, "", kind, &patch).await.map(drop)
            }
            Action::Delete => {
                tracing::warn!(%namespace, %name, "the token has been refused for a year and is deleted");
                let options = DeleteOptions::uid(&token.meta.uid);
                self.api.delete(SECRETS, namespace, name, &options).await
            }
        };
        match done {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
            _ => Ok(None),
        }
    }

    fn is_mounted(&self, token: &Cached<MetaOnly>) -> bool {
        let pods = self.pods.list_namespace(&token.meta.namespace);
        pods.iter().any(|pod| pod.view.spec.volumes.1.contains(&token.meta.name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use testkit::pod;

    use super::*;
    use crate::stories::{Story, one_node};

    #[tokio::test(start_paused = true)]
    async fn unused_tokens_go_after_two_years() {
        let story = Story::start(one_node().with_running_clock());
        let secret = |name: &str| {
            pod(&format!("default/{name}"))
                .set("/kind", json!("Secret"))
                .set("/type", json!("kubernetes.io/service-account-token"))
                .set("/metadata/annotations", json!({ACCOUNT: "old"}))
                .set("/metadata/creationTimestamp", json!("2020-01-01T00:00:00Z"))
        };
        let account = pod("default/old")
            .set("/kind", json!("ServiceAccount"))
            .set("/secrets", json!([{"name": "old-token"}]));
        story.cluster.create(SERVICE_ACCOUNTS, &account);
        story.cluster.create(SECRETS, &secret("old-token"));
        story.cluster.create(SECRETS, &secret("by-hand"));
        story.moment().await;
        let map = story.cluster.get(CONFIG_MAPS, &format!("{SYSTEM}/{TRACKING}"));
        assert_eq!(map.expect("it is noted")["data"]["since"], "2023-11-14");
        let year = 366 * 24 * 3600;
        story.cluster.set_clock(year);
        story.moment().await;
        let refused = story.cluster.get(SECRETS, "default/old-token").expect("it is there");
        assert_eq!(refused["metadata"]["labels"][INVALID_SINCE], "2024-11-14");
        let kept = || story.cluster.get(SECRETS, "default/by-hand").expect("it is there");
        assert_eq!(kept()["metadata"]["labels"][INVALID_SINCE], Value::Null);
        story.cluster.set_clock(year);
        story.moment().await;
        assert!(story.cluster.get(SECRETS, "default/old-token").is_none());
        kept();
    }
}

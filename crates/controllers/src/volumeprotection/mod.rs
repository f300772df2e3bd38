//! Protection of storage in use: a claim that a pod on a node uses, and a
//! volume that is bound, are not gone before they are let go.
//!
//! Admission puts the finalizers on; this takes them off (and puts them on
//! what was made without).

use std::sync::Arc;

use api_object::Meta;
use client::{
    Api, Cached, Error, Informer, ListOptions, Outcome, PatchKind, Resource, WorkQueue,
    reconcile_loop,
};
use serde_json::{Value, json};

use crate::{
    Context,
    cached::{PODS, Pod},
    storage::{self, BY_CLAIM, CLAIMS, VOLUMES, claim_name},
};

const OF_CLAIM: &str = "kubernetes.io/pvc-protection";
const OF_VOLUME: &str = "kubernetes.io/pv-protection";

/// The finalizers that an object should have, where they are not those it has.
fn plan(meta: &Meta, finalizer: &str, in_use: bool) -> Option<Vec<String>> {
    let has = meta.finalizers.iter().any(|known| known == finalizer);
    let mut finalizers = meta.finalizers.clone();
    match (meta.deletion_timestamp.is_some(), has) {
        (false, false) => finalizers.push(finalizer.to_owned()),
        (true, true) if !in_use => finalizers.retain(|known| known != finalizer),
        _ => return None,
    }
    Some(finalizers)
}

/// Whether a pod holds a claim: only those on a node can have it mounted, and
/// no kubelet starts a pod whose claim is being deleted. A pod that has ended
/// still counts, but not for the claim that was made for it.
fn holds(pod: &Cached<Pod>, claim: &str) -> bool {
    !pod.view.spec.node_name.is_empty()
        && pod.view.spec.volumes.0.iter().any(|volume| {
            claim_name(&pod.meta, volume) == claim
                && (volume.claim.is_some() || !pod.view.is_terminal())
        })
}

async fn write(
    api: &Api,
    resource: Resource,
    meta: &Meta,
    finalizers: &[String],
) -> Result<(), Error> {
    let list = if finalizers.is_empty() { Value::Null } else { json!(finalizers) };
    let patch = json!({"metadata": {
        "uid": meta.uid,
        "resourceVersion": meta.resource_version,
        "finalizers": list,
    }});
    match api.patch(resource, &meta.namespace, &meta.name, "", PatchKind::Merge, &patch).await {
        Err(error) if error.is_not_found() => Ok(()),
        result => result.map(drop),
    }
}

/// Protection of claims. Never returns.
pub(crate) async fn claims(context: Context) {
    let claims = storage::claims(&context.informers);
    let pods = storage::pods_by_claim(&context.informers);
    let queue = Arc::new(WorkQueue::default());
    let keys = queue.clone();
    claims.on_change(move |change| keys.add(change.object().key()));
    let (keys, known) = (queue.clone(), claims.clone());
    pods.on_change(move |change| {
        let deleting = storage::claims_of(change.object()).into_iter().filter(|key| {
            known.get(key).is_some_and(|claim| claim.meta.deletion_timestamp.is_some())
        });
        deleting.for_each(|key| keys.add(key));
    });
    claims.wait_synced().await;
    pods.wait_synced().await;
    let api = context.api;
    reconcile_loop("pvc-protection", queue, 1, move |key| {
        let (api, claims, pods) = (api.clone(), claims.clone(), pods.clone());
        async move { claim(&api, &claims, &pods, &key).await }
    })
    .await;
}

async fn claim(
    api: &Api,
    claims: &Informer<storage::Claim>,
    pods: &Informer<Pod>,
    key: &str,
) -> Outcome {
    let Some(claim) = claims.get(key) else { return Ok(None) };
    let (meta, name) = (&claim.meta, claim.meta.name.as_str());
    let in_use = pods.by_index(BY_CLAIM, key).iter().any(|pod| holds(pod, name));
    let Some(finalizers) = plan(meta, OF_CLAIM, in_use) else { return Ok(None) };
    if meta.deletion_timestamp.is_some() {
        // Data may be removed for this, so the cache's word is not enough.
        let list = api.list(PODS, &meta.namespace, &ListOptions::default()).await?;
        for item in list.items {
            if holds(&Cached::read(api_object::Object::parse(item)?, false)?, name) {
                return Ok(None);
            }
        }
    }
    write(api, CLAIMS, meta, &finalizers).await?;
    Ok(None)
}

/// Protection of volumes. Never returns.
pub(crate) async fn volumes(context: Context) {
    let volumes = storage::volumes(&context.informers);
    let queue = Arc::new(WorkQueue::default());
    let keys = queue.clone();
    volumes.on_change(move |change| keys.add(change.object().key()));
    volumes.wait_synced().await;
    let api = context.api;
    reconcile_loop("pv-protection", queue, 1, move |key| {
        let (api, volumes) = (api.clone(), volumes.clone());
        async move {
            let Some(volume) = volumes.get(&key) else { return Ok(None) };
            let in_use = volume.view.status.phase == "Bound";
            if let Some(finalizers) = plan(&volume.meta, OF_VOLUME, in_use) {
                write(&api, VOLUMES, &volume.meta, &finalizers).await?;
            }
            Ok(None)
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finalizers_come_and_go() {
        let meta = |deleting: bool, finalizers: &[&str]| Meta {
            deletion_timestamp: deleting.then(|| "2023-11-14T22:13:20Z".to_owned()),
            finalizers: finalizers.iter().map(|f| (*f).to_owned()).collect(),
            ..Meta::default()
        };
        for (deleting, has, in_use, then) in [
            (false, &["x"][..], false, Some(&["x", OF_CLAIM][..])),
            (false, &[OF_CLAIM], true, None),
            (true, &[OF_CLAIM, "x"], true, None),
            (true, &[OF_CLAIM, "x"], false, Some(&["x"])),
            (true, &["x"], false, None),
        ] {
            let then = then.map(|f| f.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>());
            assert_eq!(plan(&meta(deleting, has), OF_CLAIM, in_use), then, "{deleting} {has:?}");
        }
    }
}

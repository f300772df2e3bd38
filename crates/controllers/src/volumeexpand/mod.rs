//! Growing claims: one that asks for more than it has is handed to who made
//! its volume.
//!
//! A directory on a node has no size of its own (nothing enforces what its
//! claim asked for), so a claim on one is granted what it asks for at once.

use std::sync::Arc;

use client::{Api, Cached, Informer, Outcome, PatchKind, Recorder, WorkQueue, reconcile_loop};
use serde_json::{Value, json};

use crate::{
    Context,
    storage::{self, CLAIMS, Claim, LOCAL_PATH, PROVISIONED_BY, VOLUMES, Volume, about_claim},
};

const RESIZER: &str = "volume.kubernetes.io/storage-resizer";

/// What a claim that wants to grow needs.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Nothing,
    /// Grown already, but for the words.
    Grant,
    /// Whoever made the volume has to do it.
    Ask(String),
    /// Nobody can.
    Refuse,
}

fn plan(claim: &Cached<Claim>, volume: Option<&Cached<Volume>>) -> Plan {
    let (asked, has) = (claim.view.spec.resources.requests.amount(), &claim.view.status.capacity);
    let Some(volume) = volume.filter(|_| claim.view.status.phase == "Bound") else {
        return Plan::Nothing;
    };
    if asked <= has.amount() || claim.meta.deletion_timestamp.is_some() {
        return Plan::Nothing;
    }
    match (volume.meta.annotations.get(PROVISIONED_BY), &volume.view.spec.csi) {
        (Some(by), _) if by == LOCAL_PATH => Plan::Grant,
        (_, Some(csi)) => Plan::Ask(csi.driver.clone()),
        (Some(by), None) if !by.starts_with("kubernetes.io/") => Plan::Ask(by.clone()),
        _ => Plan::Refuse,
    }
}

struct Expander {
    api: Api,
    claims: Informer<Claim>,
    volumes: Informer<Volume>,
    recorder: Recorder,
}

/// The controller. Never returns. Its keys are those of claims.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Expander {
        api: context.api.clone(),
        claims: storage::claims(&context.informers),
        volumes: storage::volumes(&context.informers),
        recorder: context.recorder("volume_expand"),
    });
    let queue = Arc::new(WorkQueue::default());
    let keys = queue.clone();
    controller.claims.on_change(move |change| {
        if change.new.as_ref().is_some_and(|claim| claim.view.status.phase == "Bound") {
            keys.add(change.object().key());
        }
    });
    controller.volumes.wait_synced().await;
    controller.claims.wait_synced().await;
    reconcile_loop("volume-expand", queue, 1, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

impl Expander {
    async fn reconcile(&self, key: &str) -> Outcome {
        let Some(claim) = self.claims.get(key) else { return Ok(None) };
        let volume = self.volumes.get(&claim.view.spec.volume_name);
        match (plan(&claim, volume.as_deref()), volume) {
            (Plan::Grant, Some(volume)) => {
                let capacity = json!({"storage": claim.view.spec.resources.requests.storage});
                let patch = json!({
                    "metadata": {"uid": volume.meta.uid},
                    "spec": {"capacity": capacity},
                });
                let name = &volume.meta.name;
                self.api.patch(VOLUMES, "", name, "", PatchKind::Merge, &patch).await?;
                let conditions = Value::Null;
                let status = json!({"capacity": capacity, "conditions": conditions});
                self.patch(&claim, "status", json!({"status": status})).await?;
                self.recorder.normal(
                    &about_claim(&claim.meta),
                    "VolumeResizeSuccessful",
                    "Resize volume succeeded",
                );
            }
            (Plan::Ask(who), _) => {
                if claim.meta.annotations.get(RESIZER) != Some(&who) {
                    let annotations = json!({"annotations": {RESIZER: who}});
                    self.patch(&claim, "", json!({"metadata": annotations})).await?;
                    self.recorder.normal(
                        &about_claim(&claim.meta),
                        "ExternalExpanding",
                        "waiting for an external controller to expand this PVC",
                    );
                }
            }
            (Plan::Refuse, _) => self.recorder.warning(
                &about_claim(&claim.meta),
                "ExternalExpanding",
                "didn't find a plugin capable of expanding the volume; waiting for an external controller to process this PVC",
            ),
            (Plan::Nothing | Plan::Grant, _) => {}
        }
        Ok(None)
    }

    async fn patch(
        &self,
        claim: &Cached<Claim>,
        subresource: &str,
        mut patch: Value,
    ) -> Result<(), client::Error> {
        let meta = &claim.meta;
        patch["metadata"]["uid"] = json!(meta.uid);
        let (namespace, name) = (&meta.namespace, &meta.name);
        let kind = PatchKind::Merge;
        self.api.patch(CLAIMS, namespace, name, subresource, kind, &patch).await.map(drop)
    }
}

//! Ephemeral volumes: a pod's volume with a claim template gets a claim of its
//! own, which goes with the pod (KEP-1698).

use std::sync::Arc;

use client::{Api, Cached, Informer, Outcome, Recorder, Reference, WorkQueue, reconcile_loop};
use serde_json::{Value, json};

use crate::{
    Context,
    cached::{PODS, Pod},
    owner,
    storage::{self, CLAIMS, Claim, claim_name},
};

struct Ephemeral {
    api: Api,
    pods: Informer<Pod>,
    claims: Informer<Claim>,
    recorder: Recorder,
}

/// The controller. Never returns. Its keys are those of pods.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Ephemeral {
        api: context.api.clone(),
        pods: storage::pods_by_claim(&context.informers),
        claims: storage::claims(&context.informers),
        recorder: context.recorder("ephemeral_volume"),
    });
    let queue = Arc::new(WorkQueue::default());
    let keys = queue.clone();
    controller.pods.on_change(move |change| {
        let is_concerned = |pod: &Arc<Cached<Pod>>| {
            pod.view.spec.volumes.0.iter().any(|volume| volume.claim.is_none())
        };
        if change.old.is_none() && change.new.as_ref().is_some_and(is_concerned) {
            keys.add(change.object().key());
        }
    });
    let keys = queue.clone();
    controller.claims.on_change(move |change| {
        if change.new.is_none() {
            owner::queue_controller(&keys, "Pod", &change.object().meta);
        }
    });
    controller.claims.wait_synced().await;
    controller.pods.wait_synced().await;
    reconcile_loop("ephemeral-volume", queue, 1, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

/// The claims to be made, by the volume's name, or what stands in the way.
fn plan(
    pod: &Cached<Pod>,
    known: impl Fn(&str) -> Option<Arc<Cached<Claim>>>,
) -> Result<Vec<String>, String> {
    if pod.meta.deletion_timestamp.is_some() || pod.view.is_terminal() {
        return Ok(Vec::new());
    }
    let mut missing = Vec::new();
    for volume in pod.view.spec.volumes.0.iter().filter(|volume| volume.claim.is_none()) {
        let name = claim_name(&pod.meta, volume);
        match known(&format!("{}/{name}", pod.meta.namespace)) {
            None => missing.push(volume.name.clone()),
            Some(claim) if claim.meta.controller().is_some_and(|o| o.uid == pod.meta.uid) => {}
            Some(claim) => {
                return Err(format!(
                    "PVC \"{}\" was not created for pod \"{}\" (pod is not owner)",
                    claim.key(),
                    pod.key()
                ));
            }
        }
    }
    Ok(missing)
}

impl Ephemeral {
    async fn reconcile(&self, key: &str) -> Outcome {
        let Some(pod) = self.pods.get(key) else { return Ok(None) };
        let missing = plan(&pod, |key| self.claims.get(key))?;
        if missing.is_empty() {
            return Ok(None);
        }
        // The cache holds no templates.
        let fresh = match self.api.get(PODS, &pod.meta.namespace, &pod.meta.name).await {
            Ok(fresh) if fresh.meta.uid == pod.meta.uid => fresh,
            Ok(_) => return Ok(None),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let value: Value = serde_json::from_slice(&fresh.bytes)?;
        for volume in value["spec"]["volumes"].as_array().into_iter().flatten() {
            let name = volume["name"].as_str().unwrap_or_default();
            if !missing.iter().any(|missing| missing == name) {
                continue;
            }
            let template = &volume["ephemeral"]["volumeClaimTemplate"];
            let claim = json!({
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {
                    "name": format!("{}-{name}", pod.meta.name),
                    "namespace": pod.meta.namespace,
                    "labels": template["metadata"]["labels"],
                    "annotations": template["metadata"]["annotations"],
                    "ownerReferences": [owner::reference("v1", "Pod", &pod.meta)],
                },
                "spec": template["spec"],
            });
            match self.api.create(CLAIMS, &pod.meta.namespace, &claim).await {
                Ok(_) => {}
                // Ours, which the cache does not show yet, or somebody's: the
                // next look tells.
                Err(error) if error.code() == Some(409) => return Err(error.into()),
                Err(error) if owner::namespace_terminates(&error) => {}
                Err(error) => {
                    let about = Reference::new("v1", "Pod", &pod.meta);
                    let message = format!("ephemeral volume {name}: create PVC: {error}");
                    self.recorder.warning(&about, "FailedBinding", message);
                    return Err(error.into());
                }
            }
        }
        Ok(None)
    }
}

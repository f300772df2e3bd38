//! Carries out what the provisioner plans.

use std::sync::Arc;

use client::{
    Api, Cached, DeleteOptions, Error, Informer, MetaOnly, Outcome, PatchKind, Recorder, Selection,
    WorkQueue, reconcile_loop,
};
use serde_json::{Value, json};

use super::{
    plan::{DIRECTORY, FINALIZER, NODE, OfClaim, OfVolume, claim, volume, volume_name},
    view::{ClaimView, VolumeView},
};
use crate::{
    Context,
    cached::{NODES, Pod},
    storage::{
        self, BY_CLAIM, CLAIMS, CLASSES, Claim, Class, LOCAL_PATH, PROVISIONER, SELECTED_NODE,
        VOLUMES, Volume, about_claim, about_volume, class_of_claim,
    },
};

/// The name that YAML written for k3s expects.
const CLASS: &str = "local-path";
/// The key under which the class is looked after; no object has it.
const CLASS_KEY: &str = "//class";

struct Provisioner {
    api: Api,
    claims: Informer<Claim>,
    volumes: Informer<Volume>,
    classes: Informer<Class>,
    nodes: Informer<MetaOnly>,
    pods: Informer<Pod>,
    recorder: Recorder,
}

/// The controller. Never returns. Its keys are `namespace/name` of claims and
/// names of volumes.
pub(crate) async fn run(context: Context) {
    let informers = &context.informers;
    let provisioner = Arc::new(Provisioner {
        api: context.api.clone(),
        claims: storage::claims(informers),
        volumes: storage::volumes(informers),
        classes: storage::classes(informers),
        nodes: informers.get(Selection::all(NODES)),
        pods: storage::pods_by_claim(informers),
        recorder: context.recorder("local-path-provisioner"),
    });
    provisioner.nodes.wait_synced().await;
    provisioner.classes.wait_synced().await;
    let queue = Arc::new(WorkQueue::default());
    queue.add(CLASS_KEY.to_owned());
    let keys = queue.clone();
    provisioner.classes.on_change(move |change| {
        if change.new.is_none() && change.object().meta.name == CLASS {
            keys.add(CLASS_KEY.to_owned());
        }
    });
    let keys = queue.clone();
    provisioner.claims.on_change(move |change| {
        let by = change.object().meta.annotations.get(PROVISIONER);
        if by.is_some_and(|by| by == LOCAL_PATH) {
            keys.add(change.object().key());
        }
    });
    let keys = queue.clone();
    provisioner.volumes.on_change(move |change| {
        if change.object().meta.labels.contains_key(NODE) {
            keys.add(change.object().key());
        }
    });
    let (keys, volumes) = (queue.clone(), provisioner.volumes.clone());
    let claims = provisioner.claims.clone();
    provisioner.nodes.on_change(move |change| {
        let node = &change.object().meta.name;
        let offers = |side: &Option<Arc<Cached<MetaOnly>>>| {
            side.as_ref().and_then(|node| node.meta.annotations.get(DIRECTORY).cloned())
        };
        if offers(&change.old) != offers(&change.new) {
            let waits = |claim: &Arc<Cached<Claim>>| {
                claim.meta.annotations.get(SELECTED_NODE) == Some(node)
                    && claim.view.spec.volume_name.is_empty()
            };
            claims.list().iter().filter(|c| waits(c)).for_each(|claim| keys.add(claim.key()));
        }
        if change.new.is_none() {
            let its = volumes.list().into_iter().filter(|v| v.meta.labels.get(NODE) == Some(node));
            its.for_each(|volume| keys.add(volume.key()));
        }
    });
    provisioner.volumes.wait_synced().await;
    provisioner.pods.wait_synced().await;
    provisioner.claims.wait_synced().await;
    reconcile_loop("local-path", queue, 1, move |key| {
        let provisioner = provisioner.clone();
        async move {
            match key.contains('/') {
                _ if key == CLASS_KEY => provisioner.class().await,
                true => provisioner.claim(&key).await,
                false => provisioner.volume(&key).await,
            }
        }
    })
    .await;
}

impl Provisioner {
    /// A cluster has the class from its first second, as with k3s. One that
    /// was changed stays as it is.
    async fn class(&self) -> Outcome {
        if self.classes.get(CLASS).is_some() {
            return Ok(None);
        }
        let class = json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": CLASS,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": LOCAL_PATH,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
            // Nothing enforces a directory's size, so there is nothing to be done.
            "allowVolumeExpansion": true,
        });
        made(self.api.create(CLASSES, "", &class).await)?;
        Ok(None)
    }

    async fn claim(&self, key: &str) -> Outcome {
        let Some(found) = self.claims.get(key) else { return Ok(None) };
        let node = found.meta.annotations.get(SELECTED_NODE);
        let view = ClaimView {
            class: class_of_claim(&found).and_then(|class| self.classes.get(class)),
            node: node.and_then(|node| self.nodes.get(node)),
            is_placed: self
                .pods
                .by_index(BY_CLAIM, key)
                .iter()
                .any(|pod| !pod.view.spec.node_name.is_empty()),
            is_made: self.volumes.get(&volume_name(&found.meta.uid)).is_some(),
            claim: found.clone(),
        };
        let about = about_claim(&found.meta);
        let class = class_of_claim(&found).unwrap_or_default();
        let failed =
            |why: &str| format!("failed to provision volume with StorageClass \"{class}\": {why}");
        match claim(&view) {
            OfClaim::Nothing => {}
            OfClaim::Refuse(why) => {
                self.recorder.warning(&about, "ProvisioningFailed", failed(&why));
            }
            OfClaim::Reschedule(why) => {
                self.recorder.warning(&about, "ProvisioningFailed", failed(&why));
                let patch = json!({"metadata": {
                    "uid": found.meta.uid,
                    "resourceVersion": found.meta.resource_version,
                    "annotations": {SELECTED_NODE: Value::Null},
                }});
                let (namespace, name) = (&found.meta.namespace, &found.meta.name);
                let kind = PatchKind::Merge;
                gone(self.api.patch(CLAIMS, namespace, name, "", kind, &patch).await.map(drop))?;
            }
            OfClaim::Provision(volume) => {
                let text = "External provisioner is provisioning volume for claim";
                self.recorder.normal(&about, "Provisioning", format!("{text} \"{key}\""));
                made(self.api.create(VOLUMES, "", &volume).await)?;
                let name = volume_name(&found.meta.uid);
                let text = format!("Successfully provisioned volume {name}");
                self.recorder.normal(&about, "ProvisioningSucceeded", text);
            }
        }
        Ok(None)
    }

    async fn volume(&self, key: &str) -> Outcome {
        let Some(found) = self.volumes.get(key) else { return Ok(None) };
        let node = found.meta.labels.get(NODE);
        let has_node = node.is_some_and(|node| self.nodes.get(node).is_some());
        match volume(&VolumeView { volume: found.clone(), has_node }) {
            OfVolume::Nothing => {}
            OfVolume::Delete => {
                let options = DeleteOptions::uid(&found.meta.uid);
                gone(self.api.delete(VOLUMES, "", key, &options).await)?;
            }
            OfVolume::LetGo(left) => {
                if let Some(left) = left {
                    self.recorder.warning(&about_volume(&found.meta), "VolumeFailedDelete", left);
                }
                gone(self.let_go(&found).await)?;
            }
        }
        Ok(None)
    }

    async fn let_go(&self, volume: &Cached<Volume>) -> Result<(), Error> {
        let mut finalizers = volume.meta.finalizers.clone();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        let patch = json!({"metadata": {
            "uid": volume.meta.uid,
            "resourceVersion": volume.meta.resource_version,
            "finalizers": if finalizers.is_empty() { Value::Null } else { json!(finalizers) },
        }});
        let name = &volume.meta.name;
        self.api.patch(VOLUMES, "", name, "", PatchKind::Merge, &patch).await.map(drop)
    }
}

/// What is there already is as good as made.
fn made<T>(result: Result<T, Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.code() == Some(409) => Ok(()),
        result => result.map(drop),
    }
}

/// What is gone needs nothing more.
fn gone(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        result => result,
    }
}

//! Binds a pod to its node, its volumes first.

use std::sync::Arc;

use client::{Cached, Error, PatchKind, Severity};
use serde_json::json;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use crate::{
    Bind, Binds, Pod,
    act::{Scheduler, reference},
    volumes::SELECTED_NODE,
    watching::{CLAIMS, PODS, VOLUMES},
};

impl Scheduler {
    pub(crate) async fn bind(
        &self,
        pod: &Arc<Cached<Pod>>,
        node: &str,
        binds: &Binds,
        permit: OwnedSemaphorePermit,
    ) {
        let permit = match binds.is_empty() {
            true => permit,
            false => match self.bind_volumes(pod, node, binds, permit).await {
                Ok(permit) => permit,
                Err(why) => {
                    let why = format!("running PreBind plugin \"VolumeBinding\": {why}");
                    return self.binding_failed(pod, binds, Some(why)).await;
                }
            },
        };
        let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": pod.meta.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let bound = self.api.create_sub(PODS, namespace, name, "binding", &binding).await;
        drop(permit);
        match bound {
            Ok(_) => {
                if let Some(recorder) = self.recorder(pod) {
                    let message = format!("Successfully assigned {namespace}/{name} to {node}");
                    let what = ("Scheduled", "Binding");
                    recorder.acted(&reference(pod), None, Severity::Normal, what, message);
                }
            }
            // Somebody deleted it.
            Err(error) if error.is_not_found() => self.binding_failed(pod, binds, None).await,
            Err(error) => {
                let why =
                    format!("binding rejected: running Bind plugin \"DefaultBinder\": {error}");
                self.binding_failed(pod, binds, Some(why)).await;
            }
        }
    }

    /// Asks for the volumes, and waits until the controllers have bound them.
    /// Others may write meanwhile.
    async fn bind_volumes(
        &self,
        pod: &Arc<Cached<Pod>>,
        node: &str,
        binds: &Binds,
        permit: OwnedSemaphorePermit,
    ) -> Result<OwnedSemaphorePermit, String> {
        // Subscribed before anything is asked, so that no answer is missed.
        let mut changes = self.storage.subscribe();
        for (claim, bind) in binds {
            self.ask_for(claim, bind).await.map_err(|error| error.to_string())?;
        }
        drop(permit);
        let bound = async {
            loop {
                changes.borrow_and_update();
                {
                    let shared = self.lock();
                    if !shared.cluster.is_placed(pod) {
                        return Err(format!("pod does not exist any more: {}", pod.key()));
                    }
                    let there = shared.cluster.node(node);
                    let there = there.ok_or_else(|| format!("node {node:?} not found"))?;
                    if shared.cluster.volumes.are_bound(pod, binds, there)? {
                        return Ok(());
                    }
                }
                // The sender lives in `self`.
                changes.changed().await.map_err(|error| error.to_string())?;
            }
        };
        match timeout(self.bind_timeout(pod), bound).await {
            Err(_) => Err("binding volumes: context deadline exceeded".into()),
            Ok(bound) => {
                bound?;
                let permit = self.writes.clone().acquire_owned().await;
                permit.map_err(|error| error.to_string())
            }
        }
    }

    async fn ask_for(&self, claim: &str, bind: &Bind) -> Result<(), Error> {
        let (namespace, name) = claim.split_once('/').unwrap_or(("", claim));
        let known = {
            let shared = self.lock();
            let volumes = &shared.cluster.volumes;
            let volume = match bind {
                Bind::Volume(volume) => volumes.volumes.get(volume).cloned(),
                Bind::New(_) => None,
            };
            (volumes.claims.get(claim).cloned(), volume)
        };
        match (bind, known) {
            (Bind::New(node), (Some(known), _)) => {
                if known.meta.annotations.get(SELECTED_NODE) == Some(node) {
                    return Ok(());
                }
                let patch = json!({
                    "metadata": {"uid": known.meta.uid, "annotations": {SELECTED_NODE: node}},
                });
                let kind = PatchKind::Merge;
                self.api.patch(CLAIMS, namespace, name, "", kind, &patch).await.map(drop)
            }
            (Bind::Volume(volume), (Some(claim), Some(known))) => {
                let patch = json!({
                    // Nobody else may have taken it meanwhile.
                    "metadata": {
                        "uid": known.meta.uid,
                        "resourceVersion": known.meta.resource_version,
                        "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"},
                    },
                    "spec": {"claimRef": {
                        "apiVersion": "v1",
                        "kind": "PersistentVolumeClaim",
                        "namespace": namespace,
                        "name": name,
                        "uid": claim.meta.uid,
                        "resourceVersion": claim.meta.resource_version,
                    }},
                });
                self.api.patch(VOLUMES, "", volume, "", PatchKind::Merge, &patch).await.map(drop)
            }
            // Gone meanwhile: the wait that follows says so.
            _ => Ok(()),
        }
    }
}

//! Gathers what is used where, and carries out the plans.

use std::sync::Arc;

use client::{
    Api, Cached, DeleteOptions, Informer, Outcome, Recorder, Reference, Resource, Selection,
    WorkQueue, reconcile_loop,
};

use super::{
    plan::{name, plan, unique_name},
    view::{Use, View},
};
use crate::{
    Context,
    cached::{BY_NODE, NODES, Pod, null_is_default, views},
    storage::{self, Claim, Volume},
};
use serde::Deserialize;

pub(crate) const ATTACHMENTS: Resource =
    Resource::cluster("storage.k8s.io", "v1", "volumeattachments");
pub(crate) const DRIVERS: Resource = Resource::cluster("storage.k8s.io", "v1", "csidrivers");

views! {
    Attachment { spec: AttachmentSpec, status: AttachmentStatus, }
    AttachmentSpec { node_name: String, source: AttachmentSource, }
    AttachmentSource { persistent_volume_name: String, }
    AttachmentStatus { attached: bool, attach_error: Option<AttachError>, }
    AttachError { message: String, }
    Driver { spec: DriverSpec, }
    DriverSpec { attach_required: Option<bool>, }
    NodeView { status: NodeViewStatus, }
    NodeViewStatus { volumes_in_use: Vec<String>, }
}

const BY_VOLUME: &str = "volume";

struct Attacher {
    api: Api,
    pods: Informer<Pod>,
    claims: Informer<Claim>,
    volumes: Informer<Volume>,
    drivers: Informer<Driver>,
    nodes: Informer<NodeView>,
    attachments: Informer<Attachment>,
    recorder: Recorder,
}

/// The controller. Never returns. Its keys are names of nodes.
pub(crate) async fn run(context: Context) {
    let informers = &context.informers;
    let attacher = Arc::new(Attacher {
        api: context.api.clone(),
        pods: storage::pods_by_claim(informers),
        claims: storage::claims(informers),
        volumes: storage::volumes(informers),
        drivers: informers.get(Selection::all(DRIVERS)),
        nodes: informers.get(Selection::all(NODES)),
        attachments: informers.get(Selection::all(ATTACHMENTS)),
        recorder: context.recorder("attachdetach-controller"),
    });
    let attachments = &attacher.attachments;
    attachments.add_index(BY_NODE, |a| vec![a.view.spec.node_name.clone()]);
    attachments.add_index(BY_VOLUME, |a| vec![a.view.spec.source.persistent_volume_name.clone()]);
    let queue = Arc::new(WorkQueue::default());
    attacher.listen(&queue);
    attacher.drivers.wait_synced().await;
    attacher.nodes.wait_synced().await;
    attacher.volumes.wait_synced().await;
    attacher.claims.wait_synced().await;
    attacher.attachments.wait_synced().await;
    attacher.pods.wait_synced().await;
    reconcile_loop("attachdetach", queue, 1, move |node| {
        let attacher = attacher.clone();
        async move { attacher.reconcile(&node).await }
    })
    .await;
}

impl Attacher {
    fn listen(&self, queue: &Arc<WorkQueue<String>>) {
        let keys = queue.clone();
        self.pods.on_change(move |change| {
            let uses_claims = change.sides().any(|pod| !pod.view.spec.volumes.0.is_empty());
            let node = &change.object().view.spec.node_name;
            if uses_claims && !node.is_empty() {
                keys.add(node.clone());
            }
        });
        let keys = queue.clone();
        self.attachments.on_change(move |change| {
            change.sides().for_each(|a| keys.add(a.view.spec.node_name.clone()));
        });
        // A claim or a driver that comes after its pods.
        let (keys, pods) = (queue.clone(), self.pods.clone());
        self.claims.on_change(move |change| {
            for pod in pods.by_index(storage::BY_CLAIM, &change.object().key()) {
                if !pod.view.spec.node_name.is_empty() {
                    keys.add(pod.view.spec.node_name.clone());
                }
            }
        });
        let (keys, nodes) = (queue.clone(), self.nodes.clone());
        self.drivers.on_change(move |_| {
            nodes.list().iter().for_each(|node| keys.add(node.key()));
        });
        let keys = queue.clone();
        self.nodes.on_change(move |change| {
            let in_use = |side: &Option<Arc<Cached<NodeView>>>| {
                side.as_ref().map(|node| node.view.status.volumes_in_use.clone())
            };
            if in_use(&change.old) != in_use(&change.new) {
                keys.add(change.object().key());
            }
        });
    }

    fn view(&self, node: &str) -> View {
        let mut uses = Vec::new();
        for pod in self.pods.by_index(BY_NODE, node) {
            if pod.view.is_terminal() {
                continue;
            }
            for key in storage::claims_of(&pod) {
                let claim = self.claims.get(&key);
                let volume = claim.and_then(|c| self.volumes.get(&c.view.spec.volume_name));
                let is_its = |volume: &Arc<Cached<Volume>>| {
                    volume.view.spec.claim_ref.as_ref().is_some_and(|r| r.key() == key)
                };
                if let Some(volume) = volume.filter(is_its) {
                    uses.push(Use { pod: pod.key(), volume });
                }
            }
        }
        let drivers = self.drivers.list().into_iter();
        let unattached = drivers.filter(|d| d.view.spec.attach_required == Some(false));
        let elsewhere = uses.iter().flat_map(|used| {
            let volume = &used.volume.meta.name;
            let all = self.attachments.by_index(BY_VOLUME, volume).into_iter();
            let others = all.filter(|a| a.view.spec.node_name != node);
            others.map(|a| (volume.clone(), a.view.spec.node_name.clone()))
        });
        let in_use = self.nodes.get(node).map(|n| n.view.status.volumes_in_use.clone());
        let in_use = in_use.unwrap_or_default();
        let attachments = self.attachments.by_index(BY_NODE, node);
        let mounted = attachments.iter().filter_map(|attachment| {
            let volume = self.volumes.get(&attachment.view.spec.source.persistent_volume_name)?;
            let csi = volume.view.spec.csi.as_ref()?;
            in_use.contains(&unique_name(csi)).then(|| name(csi, node))
        });
        View {
            node: node.to_owned(),
            unattached_drivers: unattached.map(|driver| driver.meta.name.clone()).collect(),
            elsewhere: elsewhere.collect(),
            mounted: mounted.collect(),
            attachments,
            uses,
        }
    }

    async fn reconcile(&self, node: &str) -> Outcome {
        let plan = plan(&self.view(node));
        for attachment in &plan.attach {
            match self.api.create(ATTACHMENTS, "", attachment).await {
                Err(error) if error.code() == Some(409) => {}
                result => drop(result?),
            }
        }
        for name in &plan.detach {
            match self.api.delete(ATTACHMENTS, "", name, &DeleteOptions::default()).await {
                Err(error) if error.is_not_found() => {}
                result => result?,
            }
        }
        for (pod, volume) in &plan.refused {
            self.tell(pod, true, "FailedAttachVolume", format!(
                "Multi-Attach error for volume \"{volume}\" Volume is already exclusively attached to one node and can't be attached to another"
            ));
        }
        for (pod, volume, error) in &plan.told {
            match error.as_str() {
                "" => {
                    let text = format!("AttachVolume.Attach succeeded for volume \"{volume}\" ");
                    self.tell(pod, false, "SuccessfulAttachVolume", text);
                }
                error => {
                    let text =
                        format!("AttachVolume.Attach failed for volume \"{volume}\" : {error}");
                    self.tell(pod, true, "FailedAttachVolume", text);
                }
            }
        }
        Ok(None)
    }

    /// Tells a pod that has not come up yet; later its volumes are no news.
    fn tell(&self, pod: &str, warning: bool, reason: &str, message: String) {
        let Some(pod) = self.pods.get(pod).filter(|pod| pod.view.status.phase == "Pending") else {
            return;
        };
        let about = Reference::new("v1", "Pod", &pod.meta);
        match warning {
            true => self.recorder.warning(&about, reason, message),
            false => self.recorder.normal(&about, reason, message),
        }
    }
}

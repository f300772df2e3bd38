//! Which objects the scheduler follows, and where their changes go.

use std::sync::{Arc, Weak};

use client::{Change, Informer, MetaOnly, Resource, Selection, SharedInformers, View};
use tokio::time::Instant;

use crate::{
    Cluster, Happening, Pod,
    act::Scheduler,
    owners::Selecting,
    preempt::Budget,
    volumes::{Attachment, Capacity, Claim, Class, CsiDriver, CsiNode, Volume},
};

pub(crate) const PODS: Resource = Resource::namespaced("", "v1", "pods");
pub(crate) const CLAIMS: Resource = Resource::namespaced("", "v1", "persistentvolumeclaims");
pub(crate) const VOLUMES: Resource = Resource::cluster("", "v1", "persistentvolumes");
const NODES: Resource = Resource::cluster("", "v1", "nodes");
const NAMESPACES: Resource = Resource::cluster("", "v1", "namespaces");
const SERVICES: Resource = Resource::namespaced("", "v1", "services");
const BUDGETS: Resource = Resource::namespaced("policy", "v1", "poddisruptionbudgets");
/// Who makes pods, and how they are called in owner references.
const CONTROLLERS: [(&str, Resource); 3] = [
    ("ReplicationController", Resource::namespaced("", "v1", "replicationcontrollers")),
    ("ReplicaSet", Resource::namespaced("apps", "v1", "replicasets")),
    ("StatefulSet", Resource::namespaced("apps", "v1", "statefulsets")),
];

const fn storage(plural: &'static str) -> Resource {
    Resource::cluster("storage.k8s.io", "v1", plural)
}

/// The caches.
#[derive(Debug)]
pub(crate) struct Informers {
    all: SharedInformers,
    pub(crate) pods: Informer<Pod>,
}

impl Informers {
    pub(crate) fn new(all: SharedInformers) -> Self {
        // Those that have ended take up nothing, and there may be many.
        let pods = Selection::all(PODS).fields("status.phase!=Succeeded,status.phase!=Failed");
        Self { pods: all.get(pods), all }
    }

    /// Follows everything; returns when the caches are complete.
    pub(crate) async fn follow(&self, scheduler: &Arc<Scheduler>) {
        // The handlers must not keep the caches alive that keep them.
        let to = Arc::downgrade(scheduler);
        let storage_changed = |so: bool| if so { vec![Happening::Storage] } else { Vec::new() };
        self.each(&to, NODES, Cluster::node_changed).await;
        self.each::<MetaOnly>(&to, NAMESPACES, Cluster::namespace_changed).await;
        self.each::<Selecting>(&to, SERVICES, |cluster, change| {
            cluster.owners.service_changed(change);
            Vec::new()
        })
        .await;
        for (kind, resource) in CONTROLLERS {
            self.each::<Selecting>(&to, resource, move |cluster, change| {
                cluster.owners.controller_changed(kind, change);
                Vec::new()
            })
            .await;
        }
        self.each::<Budget>(&to, BUDGETS, |cluster, change| {
            cluster.budget_changed(change);
            Vec::new()
        })
        .await;
        self.each::<Claim>(&to, CLAIMS, move |c, change| {
            storage_changed(c.volumes.claim_changed(change))
        })
        .await;
        self.each::<Volume>(&to, VOLUMES, move |c, change| {
            storage_changed(c.volumes.volume_changed(change))
        })
        .await;
        self.each::<Class>(&to, storage("storageclasses"), move |c, change| {
            storage_changed(c.volumes.class_changed(change))
        })
        .await;
        self.each::<CsiNode>(&to, storage("csinodes"), move |c, change| {
            storage_changed(c.volumes.csi_node_changed(change))
        })
        .await;
        self.each::<CsiDriver>(&to, storage("csidrivers"), move |c, change| {
            storage_changed(c.volumes.csi_driver_changed(change))
        })
        .await;
        let capacities = Resource::namespaced("storage.k8s.io", "v1", "csistoragecapacities");
        self.each::<Capacity>(&to, capacities, move |c, change| {
            storage_changed(c.volumes.capacity_changed(change))
        })
        .await;
        self.each::<Attachment>(&to, storage("volumeattachments"), move |c, change| {
            storage_changed(c.volumes.attachment_changed(change))
        })
        .await;
        // Last, so that no pod is decided upon without what it needs.
        self.pods.on_change(move |change| {
            if let Some(scheduler) = to.upgrade() {
                scheduler.pod_changed(change);
            }
        });
        self.pods.wait_synced().await;
    }

    async fn each<V: View>(
        &self,
        to: &Weak<Scheduler>,
        resource: Resource,
        apply: impl Fn(&mut Cluster, &Change<V>) -> Vec<Happening> + Send + Sync + 'static,
    ) {
        let informer = self.all.get::<V>(Selection::all(resource));
        let to = to.clone();
        informer.on_change(move |change| {
            if let Some(scheduler) = to.upgrade() {
                let mut shared = scheduler.lock();
                let happened = apply(&mut shared.cluster, change);
                shared.happened(&happened, Instant::now());
                drop(shared);
                if !happened.is_empty() {
                    scheduler.woken(happened.iter().any(|h| matches!(h, Happening::Storage)));
                }
            }
        });
        informer.wait_synced().await;
    }
}

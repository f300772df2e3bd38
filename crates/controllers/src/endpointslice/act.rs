//! Carries out EndpointSlice plans.

use std::sync::{Arc, Mutex, PoisonError};

use api_object::LabelSelector;
use client::{
    Cached, Informer, Outcome, Recorder, Reference, Selection, WorkQueue, reconcile_loop,
};

use super::{
    plan::plan,
    trigger::Triggers,
    view::{BY_SERVICE, Slice, ZONE_LABEL, service_of, view},
    writer::Writer,
};
use crate::{
    Context,
    cached::{self, ENDPOINT_SLICES, NODES, Node, Pod, SERVICES, Service},
    owner,
};

const WORKERS: usize = 4;

struct EndpointSlices {
    services: Informer<Service>,
    pods: Informer<Pod>,
    slices: Informer<Slice>,
    nodes: Informer<Node>,
    recorder: Recorder,
    triggers: Mutex<Triggers>,
    writer: Writer,
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(EndpointSlices {
        services: context.informers.get(Selection::all(SERVICES)),
        pods: cached::pods(&context.informers),
        slices: context.informers.get(Selection::all(ENDPOINT_SLICES)),
        nodes: context.informers.get(Selection::all(NODES)),
        recorder: context.recorder("endpoint-slice-controller"),
        triggers: Mutex::default(),
        writer: Writer::new(context.api),
    });
    controller.slices.add_index(BY_SERVICE, service_of);
    let queue = Arc::new(WorkQueue::default());
    controller.watch(&queue);
    controller.services.wait_synced().await;
    controller.pods.wait_synced().await;
    controller.slices.wait_synced().await;
    controller.nodes.wait_synced().await;
    reconcile_loop("endpointslice", queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

impl EndpointSlices {
    fn watch(&self, queue: &Arc<WorkQueue<String>>) {
        let keys = queue.clone();
        self.services.on_change(move |change| keys.add(change.object().key()));
        let keys = queue.clone();
        self.slices.on_change(move |change| {
            change.sides().flat_map(|slice| service_of(slice)).for_each(|key| keys.add(key));
        });
        follow_pods(&self.pods, &self.services, queue);
        let (keys, services) = (queue.clone(), self.services.clone());
        self.nodes.on_change(move |change| {
            let (Some(old), Some(new)) = (&change.old, &change.new) else { return };
            // Seldom, and what does not change with it is not written.
            if old.meta.labels.get(ZONE_LABEL) != new.meta.labels.get(ZONE_LABEL) {
                services.list().iter().for_each(|service| keys.add(service.key()));
            }
        });
    }

    async fn reconcile(&self, key: &str) -> Outcome {
        self.writer.settle(key, &self.slices).await?;
        let triggers = || self.triggers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(service) = self.services.get(key) else {
            triggers().forget(key);
            return Ok(None);
        };
        let view = view(service.clone(), &self.pods, &self.slices, &self.nodes);
        let mut plan = plan(&view);
        plan.triggered = triggers().look(key, &view);
        let owner = owner::reference("v1", "Service", &service.meta);
        match self.writer.carry_out(&service.meta, &owner, &plan).await {
            Ok(()) => Ok(None),
            Err(error) if owner::namespace_terminates(&error) => Ok(None),
            Err(error) => {
                if !error.is_conflict() {
                    let message =
                        format!("Error updating Endpoint Slices for Service {key}: {error}");
                    let about = Reference::new("v1", "Service", &service.meta);
                    self.recorder.warning(&about, "FailedToUpdateEndpointSlices", message);
                }
                Err(error.into())
            }
        }
    }
}

/// Queues the Services that select a pod whenever their endpoints may change with it.
pub(super) fn follow_pods(
    pods: &Informer<Pod>,
    services: &Informer<Service>,
    queue: &Arc<WorkQueue<String>>,
) {
    let (keys, services) = (queue.clone(), services.clone());
    pods.on_change(move |change| {
        if !concerns_endpoints(change) {
            return;
        }
        for service in services.list_namespace(&change.object().meta.namespace) {
            let selector = &service.view.spec.selector;
            let matches = |pod: &Arc<Cached<Pod>>| {
                LabelSelector::from_map(selector).matches(&pod.meta.labels)
            };
            if !selector.is_empty() && change.sides().any(matches) {
                keys.add(service.key());
            }
        }
    });
}

/// Heartbeats and restarts of containers change nothing in a slice.
fn concerns_endpoints(change: &client::Change<Pod>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    let part = |pod: &Cached<Pod>| {
        (
            pod.meta.labels.clone(),
            pod.meta.deletion_timestamp.is_some(),
            pod.view.is_terminal(),
            pod.view.ready().is_some(),
            pod.view.status.pod_ip.clone(),
            pod.view.status.pod_ips.clone(),
            pod.view.spec.clone(),
        )
    };
    part(old) != part(new)
}

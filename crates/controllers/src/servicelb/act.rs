//! Follows Services, their slices and the nodes, and writes statuses.

use std::{collections::BTreeSet, sync::Arc};

use api_types::discovery::EndpointSlice;
use client::{
    Api, Cached, Informer, Outcome, PatchKind, Recorder, Reference, Selection, WorkQueue,
    reconcile_loop,
};
use serde_json::json;

use super::{
    plan::{Candidate, ingress},
    view::{Node, Service},
};
use crate::{
    Context,
    cached::{ENDPOINT_SLICES, NODES, SERVICES},
};

const BY_SERVICE: &str = "balanced-service";

struct ServiceLb {
    api: Api,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    nodes: Informer<Node>,
    recorder: Recorder,
}

fn service_of(slice: &Cached<EndpointSlice>) -> Vec<String> {
    let name = slice.meta.labels.get("kubernetes.io/service-name");
    name.map(|name| format!("{}/{name}", slice.meta.namespace)).into_iter().collect()
}

/// The controller. Never returns. Its keys are those of Services.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(ServiceLb {
        api: context.api.clone(),
        services: context.informers.get(Selection::all(SERVICES)),
        slices: context.informers.get(Selection::all(ENDPOINT_SLICES)),
        nodes: context.informers.get(Selection::all(NODES)),
        recorder: context.recorder("service-controller"),
    });
    controller.slices.add_index(BY_SERVICE, service_of);
    let queue = Arc::new(WorkQueue::default());
    let keys = queue.clone();
    controller.services.on_change(move |change| {
        if change.new.is_some() {
            keys.add(change.object().key());
        }
    });
    let (keys, services) = (queue.clone(), controller.services.clone());
    controller.slices.on_change(move |change| {
        for key in change.sides().flat_map(|slice| service_of(slice)) {
            // Only then does it matter where the endpoints are.
            let local = |s: &Arc<Cached<Service>>| s.view.spec.external_traffic_policy == "Local";
            if services.get(&key).filter(local).is_some() {
                keys.add(key);
            }
        }
    });
    let (keys, services) = (queue.clone(), controller.services.clone());
    controller.nodes.on_change(move |change| {
        let seen = |node: &Arc<Cached<Node>>| {
            (node.view.is_ready(), node.view.addresses(), node.meta.labels.clone())
        };
        if change.old.as_ref().map(seen) != change.new.as_ref().map(seen) {
            let balanced = |s: &Arc<Cached<Service>>| s.view.spec.r#type == "LoadBalancer";
            services.list().iter().filter(|s| balanced(s)).for_each(|s| keys.add(s.key()));
        }
    });
    controller.services.wait_synced().await;
    controller.slices.wait_synced().await;
    controller.nodes.wait_synced().await;
    reconcile_loop("service-lb", queue, 1, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

impl ServiceLb {
    async fn reconcile(&self, key: &str) -> Outcome {
        let Some(service) = self.services.get(key) else { return Ok(None) };
        let nodes = self.nodes.list();
        let candidates: Vec<Candidate<'_>> = nodes
            .iter()
            .map(|node| Candidate {
                name: &node.meta.name,
                labels: &node.meta.labels,
                node: &node.view,
            })
            .collect();
        let local: BTreeSet<String> = (self.slices.by_index(BY_SERVICE, key).iter())
            .flat_map(|slice| &slice.view.endpoints)
            .filter(|endpoint| endpoint.conditions.ready.unwrap_or(true))
            .filter_map(|endpoint| endpoint.node_name.clone())
            .collect();
        let Some(wanted) = ingress(&service.view, &candidates, &local) else { return Ok(None) };
        let known = &service.view.status.load_balancer.ingress;
        if wanted == *known {
            return Ok(None);
        }
        let (namespace, name) = (&service.meta.namespace, &service.meta.name);
        let patch = json!({
            "metadata": {"uid": service.meta.uid},
            "status": {"loadBalancer": {"ingress": wanted}},
        });
        match self.api.patch(SERVICES, namespace, name, "status", PatchKind::Merge, &patch).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() || error.is_conflict() => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        if known.is_empty() {
            let about = Reference::new("v1", "Service", &service.meta);
            self.recorder.normal(&about, "EnsuredLoadBalancer", "Ensured load balancer");
        }
        Ok(None)
    }
}

//! Follows Services, their slices and the nodes, and writes statuses.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use api_types::discovery::EndpointSlice;
use client::{
    Api, Cached, Change, Error, Informer, Outcome, PatchKind, Recorder, Reference, Selection,
};
use serde_json::json;

use super::{
    plan::{Candidate, Claimant, Share, shares},
    view::{Node, Service},
};
use crate::{
    Context,
    cached::{ENDPOINT_SLICES, NODES, SERVICES},
    whole::{Whole, carry_out},
};

const BY_SERVICE: &str = "balanced-service";

struct ServiceLb {
    api: Api,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    nodes: Informer<Node>,
    recorder: Recorder,
    api_port: Option<u16>,
    /// What was told of each Service, by uid: not again as long as it is the same.
    told: Mutex<BTreeMap<String, String>>,
}

fn service_of(slice: &Cached<EndpointSlice>) -> Vec<String> {
    let name = slice.meta.labels.get("kubernetes.io/service-name");
    name.map(|name| format!("{}/{name}", slice.meta.namespace)).into_iter().collect()
}

/// Whether nodes serve it, or did.
fn is_balanced(service: &Service) -> bool {
    service.spec.r#type == "LoadBalancer" || !service.status.load_balancer.ingress.is_empty()
}

/// Whether what is looked at differs before and after.
fn differs<V, T: PartialEq>(change: &Change<V>, seen: impl Fn(&Cached<V>) -> T) -> bool {
    change.old.as_deref().map(&seen) != change.new.as_deref().map(&seen)
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(ServiceLb {
        api: context.api.clone(),
        services: context.informers.get(Selection::all(SERVICES)),
        slices: context.informers.get(Selection::all(ENDPOINT_SLICES)),
        nodes: context.informers.get(Selection::all(NODES)),
        recorder: context.recorder("service-controller"),
        api_port: context.settings.kubernetes_service.as_ref().map(|service| service.port),
        told: Mutex::default(),
    });
    controller.slices.add_index(BY_SERVICE, service_of);
    // Who gets a port depends on who else wants it.
    let whole = Whole::new();
    let balanced = |change: &Change<Service>| {
        let both = change.sides().any(|service| is_balanced(&service.view));
        both && differs(change, |service| (service.meta.uid.clone(), service.view.clone()))
    };
    whole.follow_where(&controller.services, balanced).await;
    let services = controller.services.clone();
    // Only then does it matter where the endpoints are.
    let local = move |change: &Change<EndpointSlice>| {
        let keys: BTreeSet<String> = change.sides().flat_map(|slice| service_of(slice)).collect();
        let found = keys.iter().filter_map(|key| services.get(key));
        found.into_iter().any(|service| service.view.spec.external_traffic_policy == "Local")
    };
    whole.follow_where(&controller.slices, local).await;
    let seen = |node: &Cached<Node>| {
        let endpoints = node.view.status.daemon_endpoints.clone();
        (node.view.is_ready(), node.view.addresses(), node.meta.labels.clone(), endpoints)
    };
    whole.follow_where(&controller.nodes, move |change| differs(change, seen)).await;
    whole
        .run("service-lb", move || {
            let controller = controller.clone();
            async move { controller.reconcile().await }
        })
        .await;
}

impl ServiceLb {
    async fn reconcile(&self) -> Outcome {
        let nodes = self.nodes.list();
        let candidates: Vec<Candidate<'_>> = nodes
            .iter()
            .map(|node| Candidate {
                name: &node.meta.name,
                labels: &node.meta.labels,
                node: &node.view,
            })
            .collect();
        let mut services = self.services.list();
        services.retain(|service| is_balanced(&service.view));
        let claimants: Vec<Claimant<'_>> = (services.iter())
            .map(|service| Claimant {
                key: service.key(),
                created: service.meta.creation_timestamp.as_deref().unwrap_or_default(),
                service: &service.view,
                local: self.nodes_with_endpoints(service),
            })
            .collect();
        let shares = shares(&claimants, &candidates, self.api_port);
        let ours: Vec<_> = services
            .iter()
            .cloned()
            .zip(shares)
            .filter_map(|(s, share)| Some((s, share?)))
            .collect();
        self.tell(&ours);
        let changed: Vec<_> = (ours.into_iter())
            .filter(|(service, share)| share.ingress != service.view.status.load_balancer.ingress)
            .collect();
        carry_out(changed, async |(service, share)| self.write(&service, share).await).await?;
        Ok(None)
    }

    fn nodes_with_endpoints(&self, service: &Cached<Service>) -> BTreeSet<String> {
        if service.view.spec.external_traffic_policy != "Local" {
            return BTreeSet::new();
        }
        let slices = self.slices.by_index(BY_SERVICE, &service.key());
        let endpoints = slices.iter().flat_map(|slice| &slice.view.endpoints);
        endpoints
            .filter(|endpoint| endpoint.conditions.ready.unwrap_or(true))
            .filter_map(|endpoint| endpoint.node_name.clone())
            .collect()
    }

    async fn write(&self, service: &Cached<Service>, share: Share) -> Result<(), Error> {
        let (namespace, name) = (&service.meta.namespace, &service.meta.name);
        let patch = json!({
            "metadata": {"uid": service.meta.uid},
            "status": {"loadBalancer": {"ingress": share.ingress}},
        });
        self.api.patch(SERVICES, namespace, name, "status", PatchKind::Merge, &patch).await?;
        if service.view.status.load_balancer.ingress.is_empty() {
            let about = Reference::new("v1", "Service", &service.meta);
            self.recorder.normal(&about, "EnsuredLoadBalancer", "Ensured load balancer");
        }
        Ok(())
    }

    /// Events of what was refused, and forgets those that it is said of no more.
    fn tell(&self, ours: &[(Arc<Cached<Service>>, Share)]) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = BTreeMap::new();
        for (service, share) in ours.iter().filter(|(_, share)| !share.refused.is_empty()) {
            if told.get(&service.meta.uid) != Some(&share.refused) {
                let about = Reference::new("v1", "Service", &service.meta);
                let message = format!("Error syncing load balancer: {}", share.refused);
                self.recorder.warning(&about, "SyncLoadBalancerFailed", message);
            }
            now.insert(service.meta.uid.clone(), share.refused.clone());
        }
        *told = now;
    }
}

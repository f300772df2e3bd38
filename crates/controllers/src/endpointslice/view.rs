//! What the EndpointSlice controller sees.

use std::{collections::BTreeMap, sync::Arc};

use api_object::LabelSelector;
use api_types::discovery::{Endpoint, EndpointPort};
use client::{Cached, Informer};
use serde::Deserialize;

use crate::cached::{Node, Pod, Service, null_is_default};

/// A slice as the controller keeps it in mind.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Slice {
    pub(super) address_type: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) endpoints: Vec<Endpoint>,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) ports: Vec<EndpointPort>,
}

/// Index of slices: `namespace/service`.
pub(super) const BY_SERVICE: &str = "service";
pub(super) const SERVICE_LABEL: &str = "kubernetes.io/service-name";
pub(super) const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const MANAGED_BY: &str = "endpointslice-controller.k8s.io";
pub(super) const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// One Service, the pods it selects and the slices it has.
#[derive(Debug)]
pub(super) struct View {
    pub(super) service: Arc<Cached<Service>>,
    pub(super) pods: Vec<Arc<Cached<Pod>>>,
    /// Those that this controller manages.
    pub(super) slices: Vec<Arc<Cached<Slice>>>,
    /// The zones of nodes that have one.
    pub(super) zones: BTreeMap<String, String>,
}

pub(super) fn view(
    service: Arc<Cached<Service>>,
    pods: &Informer<Pod>,
    slices: &Informer<Slice>,
    nodes: &Informer<Node>,
) -> View {
    let pods = selected(&service, pods);
    let mut zones = BTreeMap::new();
    for pod in &pods {
        let node = nodes.get(&pod.view.spec.node_name);
        if let Some(zone) = node.and_then(|node| node.meta.labels.get(ZONE_LABEL).cloned()) {
            zones.insert(pod.view.spec.node_name.clone(), zone);
        }
    }
    let slices = slices.by_index(BY_SERVICE, &service.key());
    View { service, pods, slices, zones }
}

/// The pods that a Service selects.
pub(super) fn selected(service: &Cached<Service>, pods: &Informer<Pod>) -> Vec<Arc<Cached<Pod>>> {
    let selector = LabelSelector::from_map(&service.view.spec.selector);
    let mut pods = pods.list_namespace(&service.meta.namespace);
    pods.retain(|pod| selector.matches(&pod.meta.labels));
    pods
}

/// The Service of a slice that this controller manages.
pub(super) fn service_of(slice: &Cached<Slice>) -> Vec<String> {
    managed_service(slice, MANAGED_BY)
}

/// The Service of a slice that a controller of this name manages.
pub(super) fn managed_service(slice: &Cached<Slice>, manager: &str) -> Vec<String> {
    let labels = &slice.meta.labels;
    let managed = labels.get(MANAGED_BY_LABEL).is_some_and(|by| by == manager);
    let service = labels.get(SERVICE_LABEL).filter(|_| managed);
    service.map(|name| format!("{}/{name}", slice.meta.namespace)).into_iter().collect()
}

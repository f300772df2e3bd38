//! Services and EndpointSlices as far as a node serves them. A node keeps those of the
//! whole cluster, so what it does not read is not here, and lists have no room to grow.

use api_types::core;
use client::{Informer, Resource, Selection, SharedInformers};
use serde::{Deserialize, de::IgnoredAny};

const SERVICES: Resource = Resource::namespaced("", "v1", "services");
const ENDPOINT_SLICES: Resource = Resource::namespaced("discovery.k8s.io", "v1", "endpointslices");

/// The Services of all namespaces.
pub(super) fn services(informers: &SharedInformers) -> Informer<Service> {
    informers.get(Selection::all(SERVICES).lean())
}

/// The EndpointSlices of all namespaces, by their Service with
/// [`BY_SERVICE`](super::service_proxy::BY_SERVICE).
pub(super) fn slices(informers: &SharedInformers) -> Informer<EndpointSlice> {
    let slices = informers.get(Selection::all(ENDPOINT_SLICES).lean());
    slices.add_index(super::service_proxy::BY_SERVICE, super::service_proxy::service_of);
    slices
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Service {
    pub(crate) metadata: ServiceMeta,
    pub(crate) spec: ServiceSpec,
    pub(crate) status: core::ServiceStatus,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceMeta {
    pub(crate) labels: Option<Labels>,
    pub(crate) annotations: Option<ServiceAnnotations>,
}

/// Labels of both, as far as they are read.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Labels {
    /// The Service of a slice.
    #[serde(rename = "kubernetes.io/service-name")]
    pub(crate) service: Option<Box<str>>,
    #[serde(rename = "service.kubernetes.io/service-proxy-name")]
    other_proxy: Option<IgnoredAny>,
    #[serde(rename = "service.kubernetes.io/headless")]
    headless: Option<IgnoredAny>,
}

/// Whether the node's own proxy is meant: what another one serves, or what is headless, is
/// left alone, whatever the labels' values. Names are answered all the same.
pub(crate) fn is_proxied(labels: Option<&Labels>) -> bool {
    labels.is_none_or(|labels| labels.other_proxy.is_none() && labels.headless.is_none())
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceAnnotations {
    /// What `spec.loadBalancerSourceRanges` was before it was a field; read where that is
    /// empty.
    #[serde(rename = "service.beta.kubernetes.io/load-balancer-source-ranges")]
    pub(crate) source_ranges: Option<Box<str>>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ServiceSpec {
    pub(crate) ports: Box<[ServicePort]>,
    #[serde(rename = "clusterIP")]
    pub(crate) cluster_ip: Box<str>,
    #[serde(rename = "clusterIPs")]
    pub(crate) cluster_ips: Box<[String]>,
    pub(crate) r#type: Box<str>,
    #[serde(rename = "externalIPs")]
    pub(crate) external_ips: Box<[String]>,
    pub(crate) session_affinity: Box<str>,
    pub(crate) session_affinity_config: Option<core::SessionAffinityConfig>,
    pub(crate) external_name: Box<str>,
    pub(crate) external_traffic_policy: Box<str>,
    pub(crate) health_check_node_port: i32,
    pub(crate) internal_traffic_policy: Option<Box<str>>,
    pub(crate) load_balancer_source_ranges: Box<[String]>,
    pub(crate) publish_not_ready_addresses: bool,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ServicePort {
    pub(crate) name: Box<str>,
    pub(crate) protocol: Box<str>,
    pub(crate) port: i32,
    pub(crate) node_port: i32,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct EndpointSlice {
    pub(crate) metadata: SliceMeta,
    pub(crate) address_type: Box<str>,
    pub(crate) endpoints: Box<[Endpoint]>,
    pub(crate) ports: Box<[EndpointPort]>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct SliceMeta {
    pub(crate) labels: Option<Labels>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Endpoint {
    pub(crate) addresses: Box<[Box<str>]>,
    pub(crate) conditions: api_types::discovery::EndpointConditions,
    pub(crate) hostname: Option<Box<str>>,
    pub(crate) node_name: Option<Box<str>>,
    pub(crate) hints: Option<Box<EndpointHints>>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct EndpointHints {
    pub(crate) for_nodes: Box<[ForName]>,
    pub(crate) for_zones: Box<[ForName]>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ForName {
    pub(crate) name: Box<str>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct EndpointPort {
    pub(crate) name: Option<Box<str>>,
    pub(crate) protocol: Option<Box<str>>,
    pub(crate) port: Option<i32>,
}

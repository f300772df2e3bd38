//! Which slices a Service has, and what is in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use api_types::{
    IntOrString,
    core::ObjectReference,
    discovery::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, ForName},
};
use client::Cached;

use super::view::{MANAGED_BY, MANAGED_BY_LABEL, SERVICE_LABEL, Slice, View};
use crate::cached::{Pod, Service, ServicePort};

/// Upstream's `--max-endpoints-per-slice`.
pub(super) const ENDPOINTS_MAX: usize = 100;
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// What is to be done; nothing, most of the time.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) create: Vec<Slice>,
    /// What the slice is now, and what it shall hold.
    pub(super) update: Vec<(Arc<Cached<Slice>>, Slice)>,
    pub(super) delete: Vec<Arc<Cached<Slice>>>,
    /// The labels of every slice.
    pub(super) labels: BTreeMap<String, String>,
    /// Annotations that every slice has among others.
    pub(super) annotations: BTreeMap<String, String>,
    /// When what is told happened, where that is known; on what is written anyway.
    pub(super) triggered: Option<String>,
}

/// What tells groups of slices apart: a slice has one kind of address and one
/// list of ports. Named ports may have other numbers in other pods.
pub(super) type Group = (&'static str, Vec<Port>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) protocol: String,
    pub(super) port: i32,
    pub(super) app_protocol: Option<String>,
}

/// Decides from what is seen.
pub(super) fn plan(view: &View) -> Plan {
    let service = &view.service;
    let spec = &service.view.spec;
    let mut plan = Plan { labels: labels(service), ..Plan::default() };
    if service.meta.deletion_timestamp.is_some() {
        return plan;
    }
    if spec.selector.is_empty() || spec.r#type == "ExternalName" {
        // Without a selector the slices are somebody else's; ours are left
        // from when there was one.
        return plan;
    }
    let families = families(spec);
    share(&mut plan, &view.slices, wanted(view, &families), &families);
    keep_one(&mut plan, view, &families);
    plan
}

/// The endpoints of a Service, by what tells slices apart.
pub(super) fn wanted(view: &View, families: &[&'static str]) -> BTreeMap<Group, Vec<Endpoint>> {
    let mut wanted: BTreeMap<Group, Vec<Endpoint>> = BTreeMap::new();
    for pod in view.pods.iter().filter(|pod| !pod.view.is_terminal()) {
        let ports = ports(&view.service.view.spec, pod);
        for family in families {
            if let Some(endpoint) = endpoint(view, pod, family) {
                wanted.entry((family, ports.clone())).or_default().push(endpoint);
            }
        }
    }
    wanted
}

/// Plans slices that hold `wanted`, from those there are. A slice of another
/// family goes.
pub(super) fn share(
    plan: &mut Plan,
    slices: &[Arc<Cached<Slice>>],
    mut wanted: BTreeMap<Group, Vec<Endpoint>>,
    families: &[&'static str],
) {
    let mut present: BTreeMap<Group, Vec<Arc<Cached<Slice>>>> = BTreeMap::new();
    for slice in slices {
        let family = families.iter().find(|family| **family == slice.view.address_type);
        let group = family.map(|family| (*family, slice_ports(&slice.view)));
        match group {
            Some(group) if slice.meta.deletion_timestamp.is_none() => {
                present.entry(group).or_default().push(slice.clone());
            }
            Some(_) => {}
            None => plan.delete.push(slice.clone()),
        }
    }
    let groups: BTreeSet<Group> = wanted.keys().chain(present.keys()).cloned().collect();
    for group in groups {
        let endpoints = wanted.remove(&group).unwrap_or_default();
        let slices = present.remove(&group).unwrap_or_default();
        fill(plan, &group, endpoints, slices);
    }
}

/// Spreads a group's endpoints over its slices with few writes: what is in a
/// slice stays there, new ones go where something changes anyway, then where
/// there is room, then into new slices.
fn fill(plan: &mut Plan, group: &Group, endpoints: Vec<Endpoint>, slices: Vec<Arc<Cached<Slice>>>) {
    let mut left: BTreeMap<(String, String), Endpoint> =
        endpoints.into_iter().map(|endpoint| (identity(&endpoint), endpoint)).collect();
    let mut kept: Vec<(Arc<Cached<Slice>>, Vec<Endpoint>)> = Vec::new();
    for slice in slices {
        let endpoints = slice.view.endpoints.iter();
        let endpoints = endpoints.filter_map(|known| left.remove(&identity(known))).collect();
        kept.push((slice, endpoints));
    }
    let mut left: Vec<Endpoint> = left.into_values().collect();
    // Slices that change anyway first, then the fullest.
    let changes = |(slice, endpoints): &(Arc<Cached<Slice>>, Vec<Endpoint>)| {
        *endpoints != slice.view.endpoints || has_stale_labels(plan, slice)
    };
    kept.sort_by_key(|entry| (!changes(entry), std::cmp::Reverse(entry.1.len())));
    for (_, endpoints) in &mut kept {
        let room = ENDPOINTS_MAX.saturating_sub(endpoints.len()).min(left.len());
        endpoints.extend(left.drain(..room));
    }
    for (slice, endpoints) in kept {
        if endpoints.is_empty() {
            plan.delete.push(slice);
        } else if endpoints != slice.view.endpoints || has_stale_labels(plan, &slice) {
            let next = Slice { endpoints, ..slice.view.clone() };
            plan.update.push((slice, next));
        }
    }
    while !left.is_empty() {
        let endpoints = left.drain(..left.len().min(ENDPOINTS_MAX)).collect();
        plan.create.push(new_slice(group, endpoints));
    }
}

/// A Service with no endpoints has one empty slice for each family, so that
/// "none" can be told from "not looked at yet".
fn keep_one(plan: &mut Plan, view: &View, families: &[&'static str]) {
    for family in families {
        let created = plan.create.iter().any(|slice| slice.address_type == *family);
        let going: Vec<&str> = plan.delete.iter().map(|slice| slice.meta.name.as_str()).collect();
        let stays = view.slices.iter().any(|slice| {
            slice.view.address_type == *family && !going.contains(&slice.meta.name.as_str())
        });
        if created || stays {
            continue;
        }
        let last = plan.delete.iter().position(|slice| slice.view.address_type == *family);
        match last {
            Some(last) => {
                let slice = plan.delete.remove(last);
                let empty = Slice { address_type: (*family).into(), ..Slice::default() };
                if slice.view != empty || has_stale_labels(plan, &slice) {
                    plan.update.push((slice, empty));
                }
            }
            None => plan.create.push(new_slice(&(family, Vec::new()), Vec::new())),
        }
    }
}

fn new_slice((family, ports): &Group, endpoints: Vec<Endpoint>) -> Slice {
    let port = |port: &Port| EndpointPort {
        name: Some(port.name.clone()),
        protocol: Some(port.protocol.clone()),
        port: Some(port.port),
        app_protocol: port.app_protocol.clone(),
    };
    Slice { address_type: (*family).into(), endpoints, ports: ports.iter().map(port).collect() }
}

fn slice_ports(slice: &Slice) -> Vec<Port> {
    let port = |port: &EndpointPort| Port {
        name: port.name.clone().unwrap_or_default(),
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
        port: port.port.unwrap_or(0),
        app_protocol: port.app_protocol.clone(),
    };
    let mut ports: Vec<Port> = slice.ports.iter().map(port).collect();
    ports.sort();
    ports
}

fn identity(endpoint: &Endpoint) -> (String, String) {
    let uid = endpoint.target_ref.as_ref().map(|target| target.uid.clone());
    (endpoint.addresses.join(","), uid.unwrap_or_default())
}

/// The families of a Service, the primary one first.
pub(super) fn families(spec: &crate::cached::ServiceSpec) -> Vec<&'static str> {
    let families = spec.ip_families.iter().filter_map(|family| match family.as_str() {
        "IPv4" => Some("IPv4"),
        "IPv6" => Some("IPv6"),
        _ => None,
    });
    let mut families: Vec<_> = families.collect();
    if families.is_empty() {
        let v6 = spec.cluster_ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6());
        families.push(if v6 { "IPv6" } else { "IPv4" });
    }
    families
}

fn endpoint(view: &View, pod: &Cached<Pod>, family: &str) -> Option<Endpoint> {
    let status = &pod.view.status;
    let addresses = status.pod_ips.iter().map(|ip| ip.ip.as_str()).chain([status.pod_ip.as_str()]);
    let address = addresses
        .filter_map(|ip| ip.parse::<IpAddr>().ok())
        .find(|ip| ip.is_ipv6() == (family == "IPv6"))?;
    let service = &view.service;
    let spec = &pod.view.spec;
    let serving = pod.view.ready().is_some();
    let terminating = pod.meta.deletion_timestamp.is_some();
    let ready = service.view.spec.publish_not_ready_addresses || serving && !terminating;
    let named = !spec.hostname.is_empty() && spec.subdomain == service.meta.name;
    let zone = view.zones.get(&spec.node_name).cloned();
    let node_name = (!spec.node_name.is_empty()).then(|| spec.node_name.clone());
    let distribution = service.view.spec.traffic_distribution.as_str();
    Some(Endpoint {
        addresses: vec![address.to_string()],
        conditions: EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        },
        hostname: named.then(|| spec.hostname.clone()),
        target_ref: Some(ObjectReference {
            kind: "Pod".into(),
            namespace: pod.meta.namespace.clone(),
            name: pod.meta.name.clone(),
            uid: pod.meta.uid.clone(),
            ..ObjectReference::default()
        }),
        hints: ready.then(|| hints(distribution, node_name.as_ref(), zone.as_ref())).flatten(),
        node_name,
        zone,
    })
}

/// Whose clients an endpoint is for, where the Service prefers those nearby; each proxy
/// decides by all endpoints' hints whether it follows them.
fn hints(
    distribution: &str,
    node: Option<&String>,
    zone: Option<&String>,
) -> Option<Box<EndpointHints>> {
    let node = match distribution {
        "PreferSameNode" => node,
        "PreferSameZone" | "PreferClose" => None,
        _ => return None,
    };
    let named = |name: Option<&String>| name.map(|name| ForName { name: name.clone() });
    let hints = EndpointHints {
        for_nodes: named(node).into_iter().collect(),
        for_zones: named(zone).into_iter().collect(),
    };
    (hints != EndpointHints::default()).then(|| Box::new(hints))
}

/// The ports of a Service as this pod has them; a named port that the pod
/// does not have is left out.
fn ports(spec: &crate::cached::ServiceSpec, pod: &Cached<Pod>) -> Vec<Port> {
    let port = |service: &ServicePort| {
        let protocol = match service.protocol.as_str() {
            "" => "TCP",
            protocol => protocol,
        };
        Some(Port {
            name: service.name.clone(),
            protocol: protocol.into(),
            port: target_port(service, protocol, pod)?,
            app_protocol: service.app_protocol.clone(),
        })
    };
    let mut ports: Vec<Port> = spec.ports.iter().filter_map(port).collect();
    ports.sort();
    ports
}

fn target_port(service: &ServicePort, protocol: &str, pod: &Cached<Pod>) -> Option<i32> {
    let name = match &service.target_port {
        None | Some(IntOrString::Int(0)) => return Some(service.port),
        Some(IntOrString::Int(port)) => return Some(*port),
        Some(IntOrString::String(name)) => name,
    };
    let spec = &pod.view.spec;
    // Sidecars are init containers that stay.
    let sidecars = spec.init_containers.iter().filter(|c| c.restart_policy == "Always");
    let mut ports = spec.containers.iter().chain(sidecars).flat_map(|c| &c.ports);
    let found = ports.find(|port| {
        let its = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
        port.name == *name && its == protocol
    });
    found.map(|port| port.container_port)
}

/// A Service's own labels and the ones that say what the slices are.
fn labels(service: &Cached<Service>) -> BTreeMap<String, String> {
    let mut labels = service.meta.labels.clone();
    labels.insert(SERVICE_LABEL.into(), service.meta.name.clone());
    labels.insert(MANAGED_BY_LABEL.into(), MANAGED_BY.into());
    match service.view.spec.cluster_ip.as_str() {
        "None" => labels.insert(HEADLESS_LABEL.into(), String::new()),
        _ => labels.remove(HEADLESS_LABEL),
    };
    labels
}

fn has_stale_labels(plan: &Plan, slice: &Cached<Slice>) -> bool {
    let known = &slice.meta.annotations;
    slice.meta.labels != plan.labels
        || plan.annotations.iter().any(|(key, value)| known.get(key) != Some(value))
}

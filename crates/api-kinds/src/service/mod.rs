//! Service: a name and an address for a set of pods.

use std::sync::Arc;

use api_schema::{Column, Hooks, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::row::{Build, row as new_row};

mod validate;

/// Seconds that client-IP affinity lasts.
const AFFINITY_SECONDS: i64 = 10_800;

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        short_names: vec!["svc".into()],
        categories: vec!["all".into()],
        columns: vec![
            Column::name(),
            Column::text("Type", "Type determines how the Service is exposed.", |service, _| {
                tree::text(service, "spec.type").into()
            }),
            Column::text(
                "Cluster-IP",
                "clusterIP is the IP address of the service.",
                |service, _| {
                    let ips = tree::list(service, "spec.clusterIPs");
                    match ips.first().and_then(Value::as_str) {
                        Some(ip) => ip.into(),
                        None => none(tree::text(service, "spec.clusterIP")).into(),
                    }
                },
            ),
            Column::text(
                "External-IP",
                "externalIPs is a list of IP addresses for which nodes in the cluster will also accept traffic for this service.",
                |service, _| external(service).into(),
            ),
            Column::text(
                "Port(s)",
                "The list of ports that are exposed by this service.",
                |service, _| ports(service).into(),
            ),
            Column::age(),
            Column::text(
                "Selector",
                "Route service traffic to pods with label keys and values matching this selector.",
                |service, _| {
                    let pairs: Vec<String> = tree::entries(service, "spec.selector")
                        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
                        .collect();
                    none(&pairs.join(",")).into()
                },
            )
            .wide(),
        ],
        allow_create_on_update: true,
        hooks: Hooks {
            name: api_object::name::dns1035_label,
            default: |_, service| default(service),
            prepare_update,
            validate: |_, service, faults| validate::service(service, faults),
            validate_update: |_, new, old, faults| validate::update(new, old, faults),
            validate_status: |_, new, _, faults| validate::status(new, faults),
            ..Hooks::default()
        },
        ..new_row(schema, "", "v1", "services", "Service", "core/v1.Service")
    };
    row.with_field("spec.clusterIP")
        .with_field("spec.type")
        .with_stream(
            "proxy",
            "ServiceProxyOptions",
            &["create", "delete", "get", "patch", "update"],
            false,
        )
        .with_status();
    row
}

fn none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

fn external(service: &Value) -> String {
    let given = || {
        let ips = tree::list(service, "spec.externalIPs").iter();
        ips.filter_map(Value::as_str).collect::<Vec<_>>()
    };
    match tree::text(service, "spec.type") {
        "ExternalName" => none(tree::text(service, "spec.externalName")).to_owned(),
        "LoadBalancer" => {
            let mut ips: Vec<&str> = tree::list(service, "status.loadBalancer.ingress")
                .iter()
                .map(|ingress| match tree::text(ingress, "ip") {
                    "" => tree::text(ingress, "hostname"),
                    ip => ip,
                })
                .filter(|ip| !ip.is_empty())
                .collect();
            ips.extend(given());
            if ips.is_empty() { "<pending>".into() } else { ips.join(",") }
        }
        _ => none(&given().join(",")).to_owned(),
    }
}

/// `80:30080/TCP,443/TCP`
fn ports(service: &Value) -> String {
    let ports: Vec<String> = tree::list(service, "spec.ports")
        .iter()
        .map(|port| {
            let number = tree::int(port, "port").unwrap_or(0);
            let protocol = tree::text(port, "protocol");
            match tree::int(port, "nodePort").unwrap_or(0) {
                0 => format!("{number}/{protocol}"),
                node => format!("{number}:{node}/{protocol}"),
            }
        })
        .collect();
    none(&ports.join(",")).to_owned()
}

fn default(service: &mut Value) {
    let spec = tree::slot(service, "spec");
    tree::set_if_unset(spec, "sessionAffinity", "None");
    if tree::text(spec, "sessionAffinity") == "ClientIP" {
        tree::set_if_unset(spec, "sessionAffinityConfig.clientIP.timeoutSeconds", AFFINITY_SECONDS);
    } else {
        tree::remove(spec, "sessionAffinityConfig");
    }
    tree::set_if_unset(spec, "type", "ClusterIP");
    for port in tree::list_mut(spec, "ports") {
        tree::set_if_unset(port, "protocol", "TCP");
        let target = tree::get(port, "targetPort");
        if target.is_null() || target == 0 || target == "" {
            let number = tree::get(port, "port").clone();
            tree::set(port, "targetPort", number);
        }
    }
    let kind = tree::text(spec, "type").to_owned();
    let exposed = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
    if exposed || (kind == "ClusterIP" && !tree::list(spec, "externalIPs").is_empty()) {
        tree::set_if_unset(spec, "externalTrafficPolicy", "Cluster");
    }
    if exposed || kind == "ClusterIP" {
        tree::set_if_unset(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        tree::set_if_unset(spec, "allocateLoadBalancerNodePorts", true);
        for ingress in tree::list_mut(service, "status.loadBalancer.ingress") {
            if !tree::text(ingress, "ip").is_empty() {
                tree::set_if_unset(ingress, "ipMode", "VIP");
            }
        }
    }
    cluster_ips(tree::slot(service, "spec"));
}

/// The old single address and the first of the list are one thing.
fn cluster_ips(spec: &mut Value) {
    let single = tree::text(spec, "clusterIP").to_owned();
    let first = tree::list(spec, "clusterIPs").first().and_then(Value::as_str).map(str::to_owned);
    match first {
        None if !single.is_empty() => tree::set(spec, "clusterIPs", vec![single]),
        Some(first) if single.is_empty() => tree::set(spec, "clusterIP", first),
        _ => {}
    }
}

/// A client that knows nothing of addresses and ports the server gave keeps them.
fn prepare_update(_: &ResourceSpec, new: &mut Value, old: &Value) {
    let kind = tree::text(new, "spec.type").to_owned();
    if kind != "LoadBalancer" {
        // Whoever balanced it needs time to stop; nobody should see it meanwhile.
        tree::remove(new, "status.loadBalancer.ingress");
    }
    if kind == "ExternalName" {
        return;
    }
    let had_address = tree::text(old, "spec.type") != "ExternalName";
    if had_address && tree::text(new, "spec.clusterIP").is_empty() {
        tree::copy(old, new, "spec.clusterIP");
        tree::copy(old, new, "spec.clusterIPs");
    }
    for field in ["spec.ipFamilies", "spec.ipFamilyPolicy"] {
        if had_address && tree::get(new, field).is_null() {
            tree::copy(old, new, field);
        }
    }
    let before = tree::list(old, "spec.ports").to_vec();
    if !matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        // Ports on nodes go with the type that needed them, unless the client
        // asks for others, which validation refuses.
        if matches!(tree::text(old, "spec.type"), "NodePort" | "LoadBalancer") {
            let gave: Vec<i64> = before.iter().filter_map(|p| tree::int(p, "nodePort")).collect();
            for port in tree::list_mut(new, "spec.ports") {
                if tree::int(port, "nodePort").is_some_and(|number| gave.contains(&number)) {
                    tree::remove(port, "nodePort");
                }
            }
            tree::remove(new, "spec.externalTrafficPolicy");
            tree::remove(new, "spec.allocateLoadBalancerNodePorts");
            tree::remove(new, "spec.healthCheckNodePort");
            default(new);
        }
        return;
    }
    let taken: Vec<i64> =
        tree::list(new, "spec.ports").iter().filter_map(|p| tree::int(p, "nodePort")).collect();
    for port in tree::list_mut(new, "spec.ports") {
        let same = |other: &&Value| {
            ["port", "protocol"]
                .iter()
                .all(|field| tree::get(other, field) == tree::get(port, field))
        };
        if tree::int(port, "nodePort").unwrap_or(0) == 0
            && let Some(node) = before.iter().find(same).and_then(|p| tree::int(p, "nodePort"))
            && !taken.contains(&node)
        {
            tree::set(port, "nodePort", node);
        }
    }
}

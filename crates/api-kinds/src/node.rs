//! Node: a machine that runs pods.

use std::sync::Arc;

use api_schema::{Column, Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::{Value, json};

use crate::{
    row::{Build, row as new_row},
    rules,
};

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let wide = |name, description, cell| Column::text(name, description, cell).wide();
    let mut row = ResourceSpec {
        short_names: vec!["no".into()],
        columns: vec![
            Column::name(),
            Column::text("Status", "The status of the node", |node, _| status(node).into()),
            Column::text("Roles", "The roles of the node", |node, _| roles(node).into()),
            Column::age(),
            Column::text("Version", "Kubelet Version reported by the node.", |node, _| {
                tree::text(node, "status.nodeInfo.kubeletVersion").into()
            }),
            wide("Internal-IP", "List of addresses reachable to the node.", |node, _| {
                address(node, "InternalIP").into()
            }),
            wide("External-IP", "List of addresses reachable to the node.", |node, _| {
                address(node, "ExternalIP").into()
            }),
            wide(
                "OS-Image",
                "OS Image reported by the node from /etc/os-release (e.g. Debian GNU/Linux 7 (wheezy)).",
                |node, _| known(tree::text(node, "status.nodeInfo.osImage")).into(),
            ),
            wide(
                "Kernel-Version",
                "Kernel Version reported by the node from 'uname -r' (e.g. 3.16.0-0.bpo.4-amd64).",
                |node, _| known(tree::text(node, "status.nodeInfo.kernelVersion")).into(),
            ),
            wide(
                "Container-Runtime",
                "ContainerRuntime Version reported by the node through runtime remote API (e.g. containerd://1.4.2).",
                |node, _| known(tree::text(node, "status.nodeInfo.containerRuntimeVersion")).into(),
            ),
        ],
        hooks: Hooks { default, validate, validate_update, validate_status, ..Hooks::default() },
        ..new_row(schema, "", "v1", "nodes", "Node", "core/v1.Node")
    };
    row.status_on_create = true;
    row.cluster_scoped()
        .with_computed_field("spec.unschedulable", |node| {
            tree::flag(node, "spec.unschedulable").to_string()
        })
        .with_stream(
            "proxy",
            "NodeProxyOptions",
            &["create", "delete", "get", "patch", "update"],
            false,
        )
        .with_status();
    row
}

fn status(node: &Value) -> String {
    let ready = tree::list(node, "status.conditions")
        .iter()
        .find(|condition| tree::text(condition, "type") == "Ready");
    let mut words = vec![match ready.map(|condition| tree::text(condition, "status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }];
    if tree::flag(node, "spec.unschedulable") {
        words.push("SchedulingDisabled");
    }
    words.join(",")
}

fn roles(node: &Value) -> String {
    let mut roles: Vec<&str> = tree::entries(node, "metadata.labels")
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { "<none>".into() } else { roles.join(",") }
}

fn address(node: &Value, kind: &str) -> String {
    tree::list(node, "status.addresses")
        .iter()
        .find(|address| tree::text(address, "type") == kind)
        .map_or("<none>", |address| tree::text(address, "address"))
        .to_owned()
}

fn known(text: &str) -> &str {
    if text.is_empty() { "<unknown>" } else { text }
}

fn default(_: &ResourceSpec, node: &mut Value) {
    // The old single field and the first of the list are one thing.
    let single = tree::text(node, "spec.podCIDR").to_owned();
    let first = tree::list(node, "spec.podCIDRs").first().cloned();
    match (single.as_str(), first) {
        ("", Some(first)) => tree::set(node, "spec.podCIDR", first),
        ("", None) => {}
        (single, first) if first.as_ref().is_none_or(|first| first != single) => {
            tree::set(node, "spec.podCIDRs", json!([single]));
        }
        _ => {}
    }
    if tree::get(node, "status.allocatable").is_null()
        && !tree::get(node, "status.capacity").is_null()
    {
        let capacity = tree::get(node, "status.capacity").clone();
        tree::set(node, "status.allocatable", capacity);
    }
}

fn validate(_: &ResourceSpec, node: &Value, faults: &mut Faults) {
    let spec = Path::new("spec");
    let taints = spec.child("taints");
    let mut seen = Vec::new();
    for (index, taint) in tree::list(node, "spec.taints").iter().enumerate() {
        let path = taints.index(index);
        let key = tree::text(taint, "key");
        faults.invalid_all(&path.child("key"), key, api_object::name::qualified_name(key));
        let value = tree::text(taint, "value");
        faults.invalid_all(&path.child("value"), value, api_object::name::label_value(value));
        let effect = tree::text(taint, "effect");
        if effect.is_empty() {
            faults.required(&path.child("effect"), "");
        }
        if seen.contains(&(key, effect)) {
            faults.duplicate(&path, taint.clone());
        }
        seen.push((key, effect));
    }
    let cidrs = spec.child("podCIDRs");
    for (index, cidr) in tree::list(node, "spec.podCIDRs").iter().enumerate() {
        rules::cidr(&cidrs.index(index), cidr.as_str().unwrap_or_default(), faults);
    }
    let list = tree::list(node, "spec.podCIDRs");
    if !rules::one_of_each_family(list.iter().filter_map(Value::as_str)) {
        let why = "may specify no more than one CIDR for each IP family";
        faults.invalid(&cidrs, list.to_vec(), why);
    }
    for resources in ["capacity", "allocatable"] {
        let status = Path::new("status");
        let path = status.child(resources);
        for (name, amount) in tree::entries(tree::get(node, "status"), resources) {
            rules::amount(&path.key(name), amount.as_str().unwrap_or_default(), faults);
        }
    }
}

/// Upstream judges a write of the status as one of the whole.
fn validate_status(row: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    validate(row, new, faults);
    validate_update(row, new, old, faults);
}

fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    let set_once = |path: &str| {
        let (new, old) = (tree::get(new, path), tree::get(old, path));
        let unset = old.is_null() || old == "" || old.as_array().is_some_and(Vec::is_empty);
        new != old && !unset
    };
    if set_once("spec.podCIDRs") {
        faults.forbidden(
            &Path::new("spec.podCIDRs"),
            "node updates may not change podCIDR except from \"\" to valid",
        );
    }
    if set_once("spec.providerID") {
        faults.forbidden(
            &Path::new("spec.providerID"),
            "node updates may not change providerID except from \"\" to valid",
        );
    }
}

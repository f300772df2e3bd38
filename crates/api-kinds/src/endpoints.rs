//! Endpoints: the older form of EndpointSlice, kept for tools that read it.

use std::sync::Arc;

use api_schema::{Column, Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::{row::row as new_row, rules};

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    ResourceSpec {
        short_names: vec!["ep".into()],
        deprecation: Some(
            "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".into(),
        ),
        // `endpoints` is singular and plural.
        singular: "endpoints".into(),
        columns: vec![
            Column::name(),
            Column::text(
                "Endpoints",
                "The set of all endpoints is the union of all subsets.",
                |object, _| shown(object).into(),
            ),
            Column::age(),
        ],
        allow_create_on_update: true,
        hooks: Hooks { default, validate, ..Hooks::default() },
        ..new_row(schema, "", "v1", "endpoints", "Endpoints", "core/v1.Endpoints")
    }
}

fn shown(object: &Value) -> String {
    let mut all = Vec::new();
    for subset in tree::list(object, "subsets") {
        let addresses = tree::list(subset, "addresses");
        let ports = tree::list(subset, "ports");
        for address in addresses.iter().map(|address| tree::text(address, "ip")) {
            if ports.is_empty() {
                all.push(address.to_owned());
            }
            for port in ports.iter().filter_map(|port| tree::int(port, "port")) {
                all.push(match address.contains(':') {
                    true => format!("[{address}]:{port}"),
                    false => format!("{address}:{port}"),
                });
            }
        }
    }
    match all.len() {
        0 => "<none>".into(),
        1..=3 => all.join(","),
        n => format!("{} + {} more...", all[..3].join(","), n - 3),
    }
}

fn default(_: &ResourceSpec, object: &mut Value) {
    for subset in tree::list_mut(object, "subsets") {
        for port in tree::list_mut(subset, "ports") {
            tree::set_if_unset(port, "protocol", "TCP");
        }
    }
}

fn validate(_: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let subsets = Path::new("subsets");
    for (index, subset) in tree::list(object, "subsets").iter().enumerate() {
        let path = subsets.index(index);
        if ["addresses", "notReadyAddresses"].iter().all(|f| tree::list(subset, f).is_empty()) {
            faults.required(&path, "must specify `addresses` or `notReadyAddresses`");
        }
        for field in ["addresses", "notReadyAddresses"] {
            let list = path.child(field);
            for (index, address) in tree::list(subset, field).iter().enumerate() {
                let element = list.index(index);
                rules::ip(&element.child("ip"), tree::text(address, "ip"), faults);
            }
        }
        let ports = path.child("ports");
        for (index, port) in tree::list(subset, "ports").iter().enumerate() {
            let path = ports.index(index);
            rules::port(&path.child("port"), tree::int(port, "port").unwrap_or(0), faults);
        }
    }
}

//! IPAddress: an address that is taken, and by which object. Its name is the
//! address.

use std::{net::IpAddr, sync::Arc};

use api_object::name;
use api_schema::{Column, Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::{
    row::{Build, row as new_row},
    rules,
};

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        short_names: vec!["ip".into()],
        columns: vec![
            Column::name(),
            Column::text(
                "ParentRef",
                "ParentRef references the resource that an IPAddress is attached to. An IPAddress must reference a parent object.",
                |address, _| parent(tree::get(address, "spec.parentRef")).into(),
            ),
            Column::age(),
        ],
        hooks: Hooks {
            name: canonical,
            validate,
            validate_update: |_, new, old, faults| {
                let path = "spec.parentRef";
                let (new, old) = (tree::get(new, path), tree::get(old, path));
                rules::immutable(&Path::new(path), new, old, faults);
            },
            ..Hooks::default()
        },
        ..new_row(
            schema,
            "networking.k8s.io",
            "v1",
            "ipaddresses",
            "IPAddress",
            "networking/v1.IPAddress",
        )
    };
    row.cluster_scoped();
    row
}

/// `services/default/kubernetes`
fn parent(parent: &Value) -> String {
    if parent.is_null() {
        return "<none>".into();
    }
    let resource = match tree::text(parent, "group") {
        "" => tree::text(parent, "resource").to_owned(),
        group => format!("{}.{group}", tree::text(parent, "resource")),
    };
    let parts = [&*resource, tree::text(parent, "namespace"), tree::text(parent, "name")];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

/// Two spellings of one address would be two objects.
fn canonical(text: &str) -> Vec<String> {
    match text.parse::<IpAddr>() {
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()],
        Ok(address) if address.to_string() != text => {
            vec![format!("must be in canonical form ({:?})", address.to_string())]
        }
        Ok(_) => Vec::new(),
    }
}

fn validate(_: &ResourceSpec, address: &Value, faults: &mut Faults) {
    let (path, parent) = (Path::new("spec.parentRef"), tree::get(address, "spec.parentRef"));
    if parent.is_null() {
        faults.required(&path, "");
        return;
    }
    let group = tree::text(parent, "group");
    rules::optional_name(&path.child("group"), group, name::dns1123_subdomain, faults);
    for field in ["resource", "name"] {
        let text = tree::text(parent, field);
        rules::required_name(&path.child(field), text, name::path_segment, faults);
    }
    let namespace = tree::text(parent, "namespace");
    rules::optional_name(&path.child("namespace"), namespace, name::path_segment, faults);
}

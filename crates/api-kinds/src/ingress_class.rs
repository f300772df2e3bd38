//! IngressClass: which controller serves the Ingresses that name it.

use std::sync::Arc;

use api_object::name;
use api_schema::{Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::{
    row::{Build, row as new_row},
    rules,
};

const CONTROLLER_BYTES_MAX: usize = 250;

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        columns: vec![
            Column::name(),
            Column::text(
                "Controller",
                "Controller that is responsible for handling this class",
                |class, _| tree::text(class, "spec.controller").into(),
            ),
            Column::text(
                "Parameters",
                "A reference to a resource with additional parameters",
                |class, _| parameters(tree::get(class, "spec.parameters")).into(),
            ),
            Column::age(),
        ],
        generation: Generation::Spec,
        hooks: Hooks {
            default: |_, class| {
                if tree::get(class, "spec.parameters").is_object() {
                    tree::set_if_unset(class, "spec.parameters.scope", "Cluster");
                }
            },
            validate,
            validate_update: |_, new, old, faults| {
                let path = "spec.controller";
                let (new, old) = (tree::get(new, path), tree::get(old, path));
                rules::immutable(&Path::new(path), new, old, faults);
            },
            ..Hooks::default()
        },
        ..new_row(
            schema,
            "networking.k8s.io",
            "v1",
            "ingressclasses",
            "IngressClass",
            "networking/v1.IngressClass",
        )
    };
    row.cluster_scoped();
    row
}

/// `Kind.group/name`
fn parameters(parameters: &Value) -> String {
    if parameters.is_null() {
        return "<none>".into();
    }
    let (kind, name) = (tree::text(parameters, "kind"), tree::text(parameters, "name"));
    match tree::text(parameters, "apiGroup") {
        "" => format!("{kind}/{name}"),
        group => format!("{kind}.{group}/{name}"),
    }
}

fn validate(_: &ResourceSpec, class: &Value, faults: &mut Faults) {
    let path = Path::new("spec.controller");
    let controller = tree::text(class, "spec.controller");
    if controller.len() > CONTROLLER_BYTES_MAX {
        faults.too_long(&path, CONTROLLER_BYTES_MAX);
    }
    rules::domain_prefixed_path(&path, controller, faults);
    let (path, parameters) = (Path::new("spec.parameters"), tree::get(class, "spec.parameters"));
    if parameters.is_null() {
        return;
    }
    let group = tree::text(parameters, "apiGroup");
    rules::optional_name(&path.child("apiGroup"), group, name::dns1123_subdomain, faults);
    for field in ["kind", "name"] {
        let text = tree::text(parameters, field);
        rules::required_name(&path.child(field), text, name::path_segment, faults);
    }
    let namespace = tree::text(parameters, "namespace");
    let at = path.child("namespace");
    match tree::text(parameters, "scope") {
        "Namespace" if namespace.is_empty() => {
            faults.required(&at, "`parameters.scope` is set to 'Namespace'");
        }
        "Namespace" => faults.invalid_all(&at, namespace, name::dns1123_label(namespace)),
        "Cluster" if !namespace.is_empty() => {
            faults.forbidden(&at, "`parameters.scope` is set to 'Cluster'");
        }
        "Cluster" => {}
        other => faults.unsupported(&path.child("scope"), other, ["Cluster", "Namespace"]),
    }
}

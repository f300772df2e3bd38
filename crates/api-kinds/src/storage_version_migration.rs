//! StorageVersionMigration: all objects of a resource are to be written anew.

use std::sync::Arc;

use api_object::name;
use api_schema::{Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::{
    conditions,
    row::{Build, row as new_row},
    rules,
};

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        columns: vec![
            Column::name(),
            Column::text("Resource", "Fully qualified resource to migrate", |object, _| {
                resource(object).into()
            }),
        ],
        generation: Generation::Spec,
        hooks: Hooks { validate, validate_update, validate_status, ..Hooks::default() },
        ..new_row(
            schema,
            "storagemigration.k8s.io",
            "v1",
            "storageversionmigrations",
            "StorageVersionMigration",
            "storagemigration/v1.StorageVersionMigration",
        )
    };
    row.cluster_scoped().with_status();
    row
}

fn resource(object: &Value) -> String {
    let resource = tree::text(object, "spec.resource.resource");
    match tree::text(object, "spec.resource.group") {
        "" => resource.to_owned(),
        group => format!("{resource}.{group}"),
    }
}

fn validate(_: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let path = Path::new("spec.resource");
    let resource = tree::text(object, "spec.resource.resource");
    let wrong = name::dns1035_label(resource);
    let at = path.child("resource");
    if resource.is_empty() {
        faults.required(&at, "resource is required to be set");
    } else if !wrong.is_empty() {
        faults.invalid(&at, resource, wrong.join(","));
    }
    let group = tree::text(object, "spec.resource.group");
    let wrong = name::dns1123_subdomain(group);
    if !group.is_empty() && !wrong.is_empty() {
        faults.invalid(&path.child("group"), group, wrong.join(","));
    }
}

fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    rules::immutable(&Path::new("spec"), tree::get(new, "spec"), tree::get(old, "spec"), faults);
}

fn validate_status(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    let path = Path::new("status");
    let at = path.child("resourceVersion");
    let (version, before) =
        (tree::text(new, "status.resourceVersion"), tree::text(old, "status.resourceVersion"));
    if !version.is_empty() && !is_version(version) {
        faults.invalid(&at, version, format!("resource version is not well formed: {version}"));
    }
    let list = tree::list(new, "status.conditions");
    let at_conditions = path.child("conditions");
    conditions::validate(&at_conditions, list, faults);
    if !before.is_empty() && before != version {
        faults.invalid(&at, version, "field is immutable");
    }
    let is = |kind| conditions::is_true(list, kind);
    let was = |kind| conditions::is_true(tree::list(old, "status.conditions"), kind);
    for (wrong, detail) in [
        (
            is("Succeeded") && is("Failed"),
            "Both success and failed conditions cannot be true at the same time",
        ),
        (
            is("Succeeded") && is("Running"),
            "Running condition cannot be true when success condition is true",
        ),
        (
            is("Failed") && is("Running"),
            "Running condition cannot be true when failed condition is true",
        ),
        (
            was("Succeeded") && !is("Succeeded"),
            "Success condition cannot be set to false once it is true",
        ),
        (was("Failed") && !is("Failed"), "Failed condition cannot be set to false once it is true"),
    ] {
        if wrong {
            faults.invalid(&at_conditions, Value::from(list), detail);
        }
    }
}

/// A decimal number without zeros before it.
fn is_version(text: &str) -> bool {
    text.bytes().all(|c| c.is_ascii_digit()) && (text == "0" || !text.starts_with('0'))
}

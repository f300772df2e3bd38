//! Namespace: goes away only when its content is gone and `finalize` says so.

use std::sync::Arc;

use api_object::name;
use api_schema::{Column, Faults, Hooks, Path, ResourceSpec, Role, Schema, tree};
use serde_json::{Value, json};

use crate::row::{Build, row as new_row};

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        short_names: vec!["ns".into()],
        columns: vec![
            Column::name(),
            Column::text("Status", "The status of the namespace", |object, _| {
                tree::text(object, "status.phase").into()
            }),
            Column::age(),
        ],
        hooks: Hooks {
            name: name::dns1123_label,
            default,
            prepare_create,
            prepare_update,
            prepare_status,
            reset: &[("finalize", "status")],
            validate_status,
            ..Hooks::default()
        },
        ..new_row(schema, "", "v1", "namespaces", "Namespace", "core/v1.Namespace")
    };
    // Upstream has no deletecollection of namespaces, to be safe.
    row.verbs.retain(|verb| verb != "deletecollection");
    row.cluster_scoped().with_field("status.phase").with_part(
        "finalize",
        &["update"],
        Role::Part { prepare: prepare_finalize, validate: validate_finalize },
    );
    row.with_status();
    row
}

fn default(_: &ResourceSpec, object: &mut Value) {
    let name = tree::text(object, "metadata.name").to_owned();
    if !name.is_empty() {
        tree::as_map(tree::slot(object, "metadata.labels"))
            .insert("kubernetes.io/metadata.name".into(), name.into());
    }
    tree::set_if_unset(object, "status.phase", "Active");
}

fn prepare_create(_: &ResourceSpec, object: &mut Value) {
    tree::set(object, "status", json!({ "phase": "Active" }));
    let mut finalizers = tree::list(object, "spec.finalizers").to_vec();
    if !finalizers.iter().any(|finalizer| finalizer == "kubernetes") {
        finalizers.push("kubernetes".into());
    }
    tree::set(object, "spec.finalizers", finalizers);
}

fn prepare_update(_: &ResourceSpec, new: &mut Value, old: &Value) {
    tree::copy(old, new, "spec.finalizers");
}

fn prepare_status(_: &ResourceSpec, new: &mut Value, old: &Value) {
    tree::copy(old, new, "spec");
}

fn validate_status(_: &ResourceSpec, new: &Value, _: &Value, faults: &mut Faults) {
    let phase = tree::text(new, "status.phase");
    let deleted = !tree::get(new, "metadata.deletionTimestamp").is_null();
    let path = Path::new("status.phase");
    match (deleted, phase) {
        (false, "Active") | (true, "Terminating") => {}
        (false, _) => {
            faults.invalid(&path, phase, "may only be 'Active' if `deletionTimestamp` is empty");
        }
        (true, _) => faults.invalid(
            &path,
            phase,
            "may only be 'Terminating' if `deletionTimestamp` is not empty",
        ),
    }
}

fn prepare_finalize(_: &ResourceSpec, new: &mut Value, old: &Value) {
    tree::copy(old, new, "status");
}

fn validate_finalize(_: &ResourceSpec, new: &Value, _: &Value, faults: &mut Faults) {
    let path = Path::new("spec.finalizers");
    for (index, finalizer) in tree::list(new, "spec.finalizers").iter().enumerate() {
        let text = finalizer.as_str().unwrap_or_default();
        if !text.contains('/') && text != "kubernetes" {
            faults.invalid(
                &path.index(index),
                text,
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
        faults.invalid_all(&path.index(index), text, name::qualified_name(text));
    }
}

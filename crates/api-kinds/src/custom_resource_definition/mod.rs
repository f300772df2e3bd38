//! CustomResourceDefinition: a kind that makes kinds.
//!
//! `validate` checks names, versions and conversion, `schema` whether the
//! schemas are structural, and [`rows`] makes rows of the catalogue of a
//! definition whose names are accepted. Conditions are set by who serves the
//! kinds, which is not here.

mod conversion;
mod rows;
mod schema;
mod schema_lists;
mod validate;

use std::sync::Arc;

use api_object::time;
use api_schema::{Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::row::{Build, row as new_row};

pub use rows::rows;
pub use validate::is_protected;

/// Keeps a definition until its objects are gone.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        short_names: vec!["crd".into(), "crds".into()],
        categories: vec!["api-extensions".into()],
        columns: vec![
            Column::name(),
            Column::text(
                "Created At",
                "CreationTimestamp is a timestamp representing the server time when this object was created.",
                |object, _| tree::text(object, "metadata.creationTimestamp").into(),
            ),
        ],
        generation: Generation::Spec,
        hooks: Hooks {
            default,
            prepare_create: |_, definition| store_versions(definition),
            prepare_update: |_, definition, _| store_versions(definition),
            validate_create: |_, definition, faults| validate::definition(definition, None, faults),
            validate_update: validate::update,
            validate_status: |_, definition, _, faults| {
                validate::stored_versions(definition, faults);
            },
            begin_delete,
            ..Hooks::default()
        },
        ..new_row(
            schema,
            "apiextensions.k8s.io",
            "v1",
            "customresourcedefinitions",
            "CustomResourceDefinition",
            "apiextensions/v1.CustomResourceDefinition",
        )
    };
    row.cluster_scoped().with_status();
    row
}

fn default(_: &ResourceSpec, definition: &mut Value) {
    let Some(spec) = definition.get_mut("spec").filter(|spec| spec.is_object()) else { return };
    let kind = tree::text(spec, "names.kind").to_owned();
    if !kind.is_empty() {
        tree::set_if_unset(spec, "names.singular", kind.to_lowercase());
        tree::set_if_unset(spec, "names.listKind", format!("{kind}List"));
    }
    tree::set_if_unset(spec, "conversion.strategy", "None");
    if let Some(service) = tree::at_mut(spec, "conversion.webhook.clientConfig.service") {
        tree::set_if_unset(service, "port", 443);
    }
}

/// A version that objects are stored in is remembered for as long as objects
/// may be stored in it.
fn store_versions(definition: &mut Value) {
    let storage = storage_version(definition).to_owned();
    let mut stored = tree::list(definition, "status.storedVersions").to_vec();
    if !storage.is_empty() && !stored.iter().any(|version| *version == *storage) {
        stored.push(storage.into());
        tree::set(definition, "status.storedVersions", stored);
    }
}

/// The version that objects are stored in; empty where none is marked.
pub(crate) fn storage_version(definition: &Value) -> &str {
    let versions = tree::list(definition, "spec.versions");
    let storage = versions.iter().find(|version| tree::flag(version, "storage"));
    storage.map(|version| tree::text(version, "name")).unwrap_or_default()
}

/// The first deletion only says that the objects are to go.
fn begin_delete(definition: &mut Value, now: Timestamp) {
    let mut finalizers = tree::list(definition, "metadata.finalizers").to_vec();
    if !finalizers.iter().any(|finalizer| *finalizer == CLEANUP_FINALIZER) {
        finalizers.push(CLEANUP_FINALIZER.into());
        tree::set(definition, "metadata.finalizers", finalizers);
    }
    let condition = json!({
        "type": "Terminating",
        "status": "True",
        "lastTransitionTime": time::format_seconds(now),
        "reason": "InstanceDeletionPending",
        "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will be in progress as soon as possible",
    });
    set_condition(definition, condition);
}

/// Puts a condition among the status's, in the place of the one of its type. The
/// time of the old one stays where the status does not change.
pub fn set_condition(definition: &mut Value, mut condition: Value) {
    let mut conditions = tree::list(definition, "status.conditions").to_vec();
    let kind = tree::text(&condition, "type").to_owned();
    match conditions.iter_mut().find(|known| tree::text(known, "type") == kind) {
        Some(known) => {
            if tree::text(known, "status") == tree::text(&condition, "status") {
                tree::copy(known, &mut condition, "lastTransitionTime");
            }
            *known = condition;
        }
        None => conditions.push(condition),
    }
    tree::set(definition, "status.conditions", conditions);
}

/// Whether a condition of the status is true.
pub fn is_true(definition: &Value, condition: &str) -> bool {
    tree::list(definition, "status.conditions").iter().any(|known| {
        tree::text(known, "type") == condition && tree::text(known, "status") == "True"
    })
}

/// `spec.versions[0]` and each that follows, with its path.
fn each_version(definition: &Value, mut visit: impl FnMut(&Value, &Path<'_>)) {
    let versions = Path::new("spec.versions");
    for (index, version) in tree::list(definition, "spec.versions").iter().enumerate() {
        visit(version, &versions.index(index));
    }
}

/// One fault of all that is wrong with a name, as upstream joins them here.
fn invalid_name(path: &Path<'_>, name: &str, wrong: &[String], faults: &mut Faults) {
    if !wrong.is_empty() {
        faults.invalid(path, name, wrong.join(","));
    }
}

#[cfg(test)]
mod tests;

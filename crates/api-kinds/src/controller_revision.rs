//! ControllerRevision: what a DaemonSet or StatefulSet looked like once.

use std::sync::Arc;

use api_object::GroupVersion;
use api_schema::{Cell, Column, Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::{row::row as new_row, rules};

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    ResourceSpec {
        columns: vec![
            Column::name(),
            Column::text("Controller", "Controller of the object", |revision, _| {
                controller(revision).into()
            }),
            Column::new(
                "Revision",
                "string",
                "Revision indicates the revision of the state represented by Data.",
                Cell::Path("revision".into()),
            ),
            Column::age(),
        ],
        allow_unconditional_update: false,
        hooks: Hooks { validate, validate_update, ..Hooks::default() },
        ..new_row(
            schema,
            "apps",
            "v1",
            "controllerrevisions",
            "ControllerRevision",
            "apps/v1.ControllerRevision",
        )
    }
}

/// `daemonset.apps/a`
fn controller(revision: &Value) -> String {
    let owners = tree::list(revision, "metadata.ownerReferences");
    let Some(owner) = owners.iter().find(|owner| tree::flag(owner, "controller")) else {
        return "<none>".into();
    };
    let kind = tree::text(owner, "kind").to_lowercase();
    let name = tree::text(owner, "name");
    match GroupVersion::parse(tree::text(owner, "apiVersion")) {
        Some(version) if !version.group.is_empty() => format!("{kind}.{}/{name}", version.group),
        _ => format!("{kind}/{name}"),
    }
}

fn validate(_: &ResourceSpec, revision: &Value, faults: &mut Faults) {
    if tree::get(revision, "data").is_null() {
        faults.required(&Path::new("data"), "data is mandatory");
    }
    rules::not_negative(&Path::new("revision"), tree::int(revision, "revision"), faults);
}

fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    rules::immutable(&Path::new("data"), tree::get(new, "data"), tree::get(old, "data"), faults);
}

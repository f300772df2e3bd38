//! RuntimeClass: which way of running containers a pod asks for.

use std::sync::Arc;

use api_object::name;
use api_schema::{Column, Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::{
    pod,
    row::{Build, row as new_row},
    rules,
};

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        columns: vec![
            Column::name(),
            // Upstream has no words for this column.
            Column::text("Handler", "", |class, _| tree::text(class, "handler").into()),
            Column::age(),
        ],
        allow_unconditional_update: false,
        hooks: Hooks { default, validate, validate_update, ..Hooks::default() },
        ..new_row(
            schema,
            "node.k8s.io",
            "v1",
            "runtimeclasses",
            "RuntimeClass",
            "node/v1.RuntimeClass",
        )
    };
    row.cluster_scoped();
    row
}

fn default(_: &ResourceSpec, class: &mut Value) {
    if let Some(overhead) = tree::at_mut(class, "overhead.podFixed") {
        rules::round_amounts(overhead);
    }
}

fn validate(_: &ResourceSpec, class: &Value, faults: &mut Faults) {
    let handler = tree::text(class, "handler");
    faults.invalid_all(&Path::new("handler"), handler, name::dns1123_label(handler));
    let overhead = Path::new("overhead.podFixed");
    for (resource, amount) in tree::entries(class, "overhead.podFixed") {
        let path = overhead.key(resource);
        faults.invalid_all(&path, resource, name::qualified_name(resource));
        rules::amount(&path, amount.as_str().unwrap_or_default(), faults);
    }
    let scheduling = Path::new("scheduling");
    let selector = tree::get(class, "scheduling.nodeSelector");
    rules::labels(&scheduling.child("nodeSelector"), selector, faults);
    let tolerations = tree::list(class, "scheduling.tolerations");
    let path = scheduling.child("tolerations");
    pod::validate_tolerations(&path, tolerations, faults);
    for (index, toleration) in tolerations.iter().enumerate() {
        if tolerations[..index].contains(toleration) {
            faults.duplicate(&path.index(index), toleration.clone());
        }
    }
}

fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    let path = "handler";
    rules::immutable(&Path::new(path), tree::get(new, path), tree::get(old, path), faults);
}

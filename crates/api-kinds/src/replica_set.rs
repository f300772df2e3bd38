//! ReplicaSet: a number of pods of one template.

use std::sync::Arc;

use api_schema::{Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::{
    deployment::{selector_and_template, selector_is_immutable},
    pod,
    row::{Build, row as new_row},
    rules,
};

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut columns = vec![
        Column::name(),
        Column::integer("Desired", "Replicas is the number of desired pods.", "spec.replicas"),
        Column::integer(
            "Current",
            "Replicas is the most recently observed number of non-terminating pods.",
            "status.replicas",
        ),
        Column::integer(
            "Ready",
            "The number of non-terminating pods targeted by this ReplicaSet with a Ready Condition.",
            "status.readyReplicas",
        ),
        Column::age(),
    ];
    columns.extend(pod::template_columns());
    let mut row = ResourceSpec {
        short_names: vec!["rs".into()],
        categories: vec!["all".into()],
        columns,
        generation: Generation::Spec,
        hooks: Hooks {
            default,
            validate,
            validate_update: selector_is_immutable,
            warnings: |new, old| pod::warnings_of("spec.template.spec", new, old),
            ..Hooks::default()
        },
        ..new_row(schema, "apps", "v1", "replicasets", "ReplicaSet", "apps/v1.ReplicaSet")
    };
    row.with_computed_field("status.replicas", |object| {
        tree::int(object, "status.replicas").unwrap_or(0).to_string()
    })
    .with_scale()
    .with_status();
    row
}

fn default(_: &ResourceSpec, object: &mut Value) {
    tree::set_if_unset(object, "spec.replicas", 1);
    pod::default_template(tree::slot(object, "spec.template"));
}

fn validate(_: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(object, "spec"));
    for field in ["replicas", "minReadySeconds"] {
        rules::not_negative(&path.child(field), tree::int(spec, field), faults);
    }
    selector_and_template(&path, spec, faults);
}

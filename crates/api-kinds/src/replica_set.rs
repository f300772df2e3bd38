//! ReplicaSet: a number of pods of one template.

use std::sync::Arc;

use api_schema::{Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::{
    deployment::WORDS,
    pod,
    row::{Build, row as new_row},
    rules, workload,
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
    columns.extend(workload::template_columns());
    let mut row = ResourceSpec {
        short_names: vec!["rs".into()],
        categories: vec!["all".into()],
        columns,
        generation: Generation::Spec,
        hooks: Hooks {
            default,
            validate,
            validate_update: workload::selector_is_immutable,
            validate_status: |_, new, _, faults| validate_status(new, faults),
            warnings: |new, old| workload::warnings("spec.template", new, old),
            ..Hooks::default()
        },
        ..new_row(schema, "apps", "v1", "replicasets", "ReplicaSet", "apps/v1.ReplicaSet")
    };
    row.with_computed_field("status.replicas", |object| {
        tree::int(object, "status.replicas").unwrap_or(0).to_string()
    })
    .with_scale_absent_as("apps", "replicasets/scale")
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
    workload::selector(&path, spec, &WORDS, faults);
    workload::template(&path.child("template"), tree::get(spec, "template"), &WORDS, faults);
}

/// Faults of the counts of a ReplicaSet or ReplicationController.
pub(crate) fn validate_status(new: &Value, faults: &mut Faults) {
    const DETAIL: &str = "cannot be greater than status.replicas";
    let status = tree::get(new, "status");
    let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    workload::counts(status, &["replicas", "observedGeneration"], faults);
    workload::counts(status, &parts, faults);
    workload::parts(status, &parts, ("replicas", DETAIL), faults);
    let ready = ("readyReplicas", "cannot be greater than readyReplicas");
    workload::parts(status, &["availableReplicas"], ready, faults);
}

//! ReplicationController: what ReplicaSets were before selectors had operators.

use std::sync::Arc;

use api_schema::{Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::{
    pod, replica_set,
    row::{Build, row as new_row},
    rules,
    workload::{self, Words},
};

const WORDS: Words = Words { selector: "replicationcontroller", template: "ReplicationController" };

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut columns = vec![
        Column::name(),
        Column::integer(
            "Desired",
            "Replicas is the number of desired replicas. This is a pointer to distinguish between explicit zero and unspecified. Defaults to 1.",
            "spec.replicas",
        ),
        Column::integer(
            "Current",
            "Replicas is the most recently observed number of replicas.",
            "status.replicas",
        ),
        Column::integer(
            "Ready",
            "The number of ready replicas for this replication controller.",
            "status.readyReplicas",
        ),
        Column::age(),
    ];
    columns.extend(workload::template_columns());
    let mut row = ResourceSpec {
        short_names: vec!["rc".into()],
        categories: vec!["all".into()],
        columns,
        generation: Generation::Spec,
        hooks: Hooks {
            default,
            validate,
            validate_status: |_, new, _, faults| replica_set::validate_status(new, faults),
            orphans_dependents: true,
            warnings: |new, old| workload::warnings("spec.template", new, old),
            ..Hooks::default()
        },
        ..new_row(
            schema,
            "",
            "v1",
            "replicationcontrollers",
            "ReplicationController",
            "core/v1.ReplicationController",
        )
    };
    row.with_computed_field("status.replicas", |object| {
        tree::int(object, "status.replicas").unwrap_or(0).to_string()
    })
    .with_scale_absent_as("autoscaling", "replicationcontrollers/scale")
    .with_status();
    row
}

fn default(_: &ResourceSpec, object: &mut Value) {
    if tree::get(object, "spec.template").is_object() {
        let labels = tree::get(object, "spec.template.metadata.labels").clone();
        if labels.as_object().is_some_and(|labels| !labels.is_empty()) {
            for path in ["spec.selector", "metadata.labels"] {
                if tree::entries(object, path).next().is_none() {
                    tree::set(object, path, labels.clone());
                }
            }
        }
        pod::default_template(tree::slot(object, "spec.template"));
    }
}

fn validate(_: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(object, "spec"));
    rules::not_negative(&path.child("minReadySeconds"), tree::int(spec, "minReadySeconds"), faults);
    let selector = tree::get(spec, "selector");
    let empty = tree::entries(spec, "selector").next().is_none();
    if empty {
        faults.required(&path.child("selector"), "");
    }
    rules::not_negative(&path.child("replicas"), tree::int(spec, "replicas"), faults);
    let (at, template) = (path.child("template"), tree::get(spec, "template"));
    if template.is_null() {
        faults.required(&at, "");
        return;
    }
    if !empty {
        workload::selects_template(&at, selector, template, faults);
    }
    workload::template(&at, template, &WORDS, faults);
}

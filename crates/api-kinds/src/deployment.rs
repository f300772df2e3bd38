//! Deployment: a number of pods of one template, replaced step by step.

use std::sync::Arc;

use api_schema::{Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::{
    pod,
    row::{Build, row as new_row},
    rules,
    workload::{self, Words},
};

/// A deployment's template is that of its ReplicaSets.
pub(crate) const WORDS: Words = Words { selector: "deployment", template: "ReplicaSet" };

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut columns = vec![
        Column::name(),
        Column::text("Ready", "Number of the pod with ready state", |object, _| {
            let ready = tree::int(object, "status.readyReplicas").unwrap_or(0);
            format!("{ready}/{}", tree::int(object, "spec.replicas").unwrap_or(0)).into()
        }),
        Column::text(
            "Up-to-date",
            "Total number of non-terminated pods targeted by this deployment that have the desired template spec.",
            |object, _| tree::int(object, "status.updatedReplicas").unwrap_or(0).into(),
        ),
        Column::text(
            "Available",
            "Total number of available pods (ready for at least minReadySeconds) targeted by this deployment.",
            |object, _| tree::int(object, "status.availableReplicas").unwrap_or(0).into(),
        ),
        Column::age(),
    ];
    columns.extend(workload::template_columns());
    let mut row = ResourceSpec {
        short_names: vec!["deploy".into()],
        categories: vec!["all".into()],
        columns,
        generation: Generation::SpecAndAnnotations,
        hooks: Hooks {
            default,
            prepare_status: |_, new, old| tree::copy(old, new, "metadata.labels"),
            reset: &[("status", "metadata.labels")],
            validate,
            validate_update: workload::selector_is_immutable,
            validate_status,
            warnings: |new, old| workload::warnings("spec.template", new, old),
            ..Hooks::default()
        },
        ..new_row(schema, "apps", "v1", "deployments", "Deployment", "apps/v1.Deployment")
    };
    row.with_scale_absent_as("apps", "deployments/scale").with_status();
    row
}

fn default(_: &ResourceSpec, object: &mut Value) {
    let spec = tree::slot(object, "spec");
    tree::set_if_unset(spec, "replicas", 1);
    tree::set_if_unset(spec, "strategy.type", "RollingUpdate");
    if tree::text(spec, "strategy.type") == "RollingUpdate" {
        tree::set_if_unset(spec, "strategy.rollingUpdate.maxUnavailable", "25%");
        tree::set_if_unset(spec, "strategy.rollingUpdate.maxSurge", "25%");
    }
    tree::set_if_unset(spec, "revisionHistoryLimit", 10);
    tree::set_if_unset(spec, "progressDeadlineSeconds", 600);
    pod::default_template(tree::slot(spec, "template"));
}

fn validate(_: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(object, "spec"));
    rules::not_negative(&path.child("replicas"), tree::int(spec, "replicas"), faults);
    workload::selector(&path, spec, &WORDS, faults);
    workload::template(&path.child("template"), tree::get(spec, "template"), &WORDS, faults);
    strategy(&path.child("strategy"), tree::get(spec, "strategy"), faults);
    for field in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        rules::not_negative(&path.child(field), tree::int(spec, field), faults);
    }
    let deadline = tree::int(spec, "progressDeadlineSeconds");
    let ready = tree::int(spec, "minReadySeconds").unwrap_or(0);
    if let Some(deadline) = deadline.filter(|&deadline| deadline <= ready) {
        faults.invalid(
            &path.child("progressDeadlineSeconds"),
            deadline,
            "must be greater than minReadySeconds",
        );
    }
}

fn validate_status(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    const DETAIL: &str = "cannot be greater than status.replicas";
    let status = tree::get(new, "status");
    let numbers = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
    ];
    workload::counts(status, &numbers, faults);
    let parts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    workload::parts(status, &parts, ("replicas", DETAIL), faults);
    let ready = ("readyReplicas", "cannot be greater than readyReplicas");
    workload::parts(status, &["availableReplicas"], ready, faults);
    workload::collisions(new, old, faults);
}

fn strategy(path: &Path<'_>, strategy: &Value, faults: &mut Faults) {
    let rolling = tree::get(strategy, "rollingUpdate");
    match tree::text(strategy, "type") {
        "RollingUpdate" => {}
        "Recreate" if !rolling.is_null() => {
            faults.forbidden(
                &path.child("rollingUpdate"),
                "may not be specified when strategy `type` is 'Recreate'",
            );
            return;
        }
        _ => return,
    }
    let path = path.child("rollingUpdate");
    let mut zero = 0;
    for field in ["maxUnavailable", "maxSurge"] {
        let (at, value) = (path.child(field), tree::get(rolling, field));
        let number = rules::number_or_percent(&at, value, faults);
        if field == "maxUnavailable" {
            rules::hundred_percent_at_most(&at, value, faults);
        }
        zero += usize::from(number == Some(0));
    }
    if zero == 2 {
        let value = tree::get(rolling, "maxUnavailable").clone();
        faults.invalid(&path.child("maxUnavailable"), value, "may not be 0 when `maxSurge` is 0");
    }
}

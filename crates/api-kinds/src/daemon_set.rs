//! DaemonSet: a pod of one template on each node that fits.

use std::sync::Arc;

use api_schema::{Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::{
    cells, pod,
    row::{Build, row as new_row},
    rules,
    workload::{self, Words},
};

const WORDS: Words = Words { selector: "daemonset", template: "DaemonSet" };

/// How often the template changed, from before all kinds had a generation.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut columns = vec![
        Column::name(),
        Column::integer(
            "Desired",
            "The total number of nodes that should be running the daemon pod (including nodes correctly running the daemon pod).",
            "status.desiredNumberScheduled",
        ),
        Column::integer(
            "Current",
            "The number of nodes that are running at least 1 daemon pod and are supposed to run the daemon pod.",
            "status.currentNumberScheduled",
        ),
        Column::integer(
            "Ready",
            "numberReady is the number of nodes that should be running the daemon pod and have one or more of the daemon pod running with a Ready Condition.",
            "status.numberReady",
        ),
        Column::integer(
            "Up-to-date",
            "The total number of nodes that are running updated daemon pod",
            "status.updatedNumberScheduled",
        ),
        Column::integer(
            "Available",
            "The number of nodes that should be running the daemon pod and have one or more of the daemon pod running and available (ready for at least spec.minReadySeconds)",
            "status.numberAvailable",
        ),
        Column::text(
            "Node Selector",
            "NodeSelector is a selector which must be true for the pod to fit on a node.",
            |object, _| cells::labels(tree::get(object, "spec.template.spec.nodeSelector")).into(),
        ),
        Column::age(),
    ];
    columns.extend(workload::template_columns());
    let mut row = ResourceSpec {
        short_names: vec!["ds".into()],
        categories: vec!["all".into()],
        columns,
        generation: Generation::Spec,
        hooks: Hooks {
            default,
            prepare_create: |_, object| {
                let given = template_generation(object).filter(|&given| given >= 1);
                set_template_generation(object, given.unwrap_or(1));
            },
            prepare_update,
            validate,
            validate_update: workload::selector_is_immutable,
            validate_status,
            warnings: |new, old| workload::template_warnings("spec.template", new, old),
            ..Hooks::default()
        },
        ..new_row(schema, "apps", "v1", "daemonsets", "DaemonSet", "apps/v1.DaemonSet")
    };
    row.with_status();
    row
}

fn default(_: &ResourceSpec, object: &mut Value) {
    let spec = tree::slot(object, "spec");
    tree::set_if_unset(spec, "updateStrategy.type", "RollingUpdate");
    if tree::text(spec, "updateStrategy.type") == "RollingUpdate" {
        tree::set_if_unset(spec, "updateStrategy.rollingUpdate.maxUnavailable", 1);
        tree::set_if_unset(spec, "updateStrategy.rollingUpdate.maxSurge", 0);
    }
    tree::set_if_unset(spec, "revisionHistoryLimit", 10);
    pod::default_template(tree::slot(spec, "template"));
}

fn template_generation(object: &Value) -> Option<i64> {
    let given = tree::get(object, "metadata.annotations").get(TEMPLATE_GENERATION)?;
    given.as_str()?.parse().ok()
}

fn set_template_generation(object: &mut Value, generation: i64) {
    let annotations = tree::as_map(tree::slot(object, "metadata.annotations"));
    annotations.insert(TEMPLATE_GENERATION.into(), generation.to_string().into());
}

fn prepare_update(_: &ResourceSpec, new: &mut Value, old: &Value) {
    let path = "spec.template";
    let changed = tree::get(new, path) != tree::get(old, path);
    let before = template_generation(old).unwrap_or(1);
    set_template_generation(new, before + i64::from(changed));
}

fn validate(_: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(object, "spec"));
    workload::selector(&path, spec, &WORDS, faults);
    workload::template(&path.child("template"), tree::get(spec, "template"), &WORDS, faults);
    rules::not_negative(&path.child("minReadySeconds"), tree::int(spec, "minReadySeconds"), faults);
    strategy(&path.child("updateStrategy"), tree::get(spec, "updateStrategy"), faults);
    let limit = "revisionHistoryLimit";
    rules::not_negative(&path.child(limit), tree::int(spec, limit), faults);
}

fn strategy(path: &Path<'_>, strategy: &Value, faults: &mut Faults) {
    if tree::text(strategy, "type") != "RollingUpdate" {
        return;
    }
    let rolling = tree::get(strategy, "rollingUpdate");
    let path = path.child("rollingUpdate");
    let mut set = Vec::new();
    for field in ["maxUnavailable", "maxSurge"] {
        let (at, value) = (path.child(field), tree::get(rolling, field));
        let number = rules::number_or_percent(&at, value, faults);
        rules::hundred_percent_at_most(&at, value, faults);
        set.push(number.unwrap_or(0) != 0);
    }
    match set[..] {
        [true, true] => faults.invalid(
            &path.child("maxSurge"),
            tree::get(rolling, "maxSurge").clone(),
            "may not be set when maxUnavailable is non-zero",
        ),
        [false, false] => {
            faults.required(&path.child("maxUnavailable"), "cannot be 0 when maxSurge is 0");
        }
        _ => {}
    }
}

fn validate_status(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    let numbers = [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
    ];
    workload::counts(tree::get(new, "status"), &numbers, faults);
    workload::collisions(new, old, faults);
}

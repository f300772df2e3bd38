//! What may change in a Job that exists, and in its status.

use api_object::time;
use api_schema::{Faults, Path, tree};
use serde_json::Value;

use super::{indexes, is_true};
use crate::{rules, workload};

const STATUS: Path<'static> = Path::new("status");

/// Parts of a template that a queue may set while a Job waits to start.
const PLACEMENT: [&str; 5] = [
    "metadata.labels",
    "metadata.annotations",
    "spec.nodeSelector",
    "spec.tolerations",
    "spec.schedulingGates",
];

/// Faults of an update of a Job.
pub(super) fn validate(new: &Value, old: &Value, faults: &mut Faults) {
    let path = Path::new("spec");
    let (after, before) = (tree::get(new, "spec"), tree::get(old, "spec"));
    let (completions, was) = (tree::get(after, "completions"), tree::get(before, "completions"));
    if tree::text(after, "completionMode") != "Indexed" {
        rules::immutable(&path.child("completions"), completions, was, faults);
    } else if completions != was
        && !completions.is_null()
        && completions != tree::get(after, "parallelism")
    {
        let detail = "can only be modified in tandem with spec.parallelism";
        faults.invalid(&path.child("completions"), completions.clone(), detail);
    }
    let mut immutable = |field: &str, before: &Value| {
        rules::immutable(&path.child(field), tree::get(after, field), before, faults);
    };
    immutable("selector", tree::get(before, "selector"));
    immutable("template", &template(old, after, before));
    for field in
        ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        immutable(field, tree::get(before, field));
    }
}

/// The old template, with what may differ taken from the new.
fn template(old: &Value, after: &Value, before: &Value) -> Value {
    let mut template = tree::get(before, "template").clone();
    let waits = tree::flag(before, "suspend") && tree::get(old, "status.startTime").is_null();
    if waits {
        let after = tree::get(after, "template");
        for field in PLACEMENT {
            tree::copy(after, &mut template, field);
        }
        tree::copy(after, &mut template, "spec.affinity.nodeAffinity");
        let left = tree::entries(&template, "spec.affinity").next().is_some();
        if !left && tree::get(after, "spec.affinity").is_null() {
            tree::remove(&mut template, "spec.affinity");
        }
        resources(&mut template, after);
    }
    template
}

/// How much each container asks for may differ too.
fn resources(template: &mut Value, after: &Value) {
    for list in ["spec.containers", "spec.initContainers"] {
        let after = tree::list(after, list);
        for container in tree::list_mut(template, list) {
            let name = tree::text(container, "name").to_owned();
            if let Some(after) = after.iter().find(|after| tree::text(after, "name") == name) {
                tree::copy(after, container, "resources");
            }
        }
    }
}

/// Faults of an update of a Job's status.
pub(super) fn validate_status(new: &Value, old: &Value, faults: &mut Faults) {
    let status = tree::get(new, "status");
    workload::counts(status, &["active", "succeeded", "failed", "ready", "terminating"], faults);
    uncounted(status, faults);
    conditions(new, old, faults);
    times(new, old, faults);
    finished_indexes(new, faults);
    let count = |object: &Value, field: &str| tree::int(tree::get(object, "status"), field);
    if count(new, "ready") > count(new, "active").or(Some(0)) {
        let ready = tree::get(status, "ready").clone();
        faults.invalid(&STATUS.child("ready"), ready, "cannot set more ready pods than active");
    }
    // An Indexed Job that is made smaller loses the indexes beyond its end.
    let completions = tree::get(new, "spec.completions");
    let shrinks = tree::text(new, "spec.completionMode") == "Indexed"
        && completions == tree::get(new, "spec.parallelism");
    for field in if shrinks { &["failed"][..] } else { &["failed", "succeeded"] } {
        let (after, before) = (count(new, field).unwrap_or(0), count(old, field).unwrap_or(0));
        if after < before {
            let detail = format!("cannot decrease the {field} counter");
            faults.invalid(&STATUS.child(field), after, detail);
        }
    }
}

fn uncounted(status: &Value, faults: &mut Faults) {
    let path = STATUS.child("uncountedTerminatedPods");
    let mut seen = Vec::new();
    for field in ["succeeded", "failed"] {
        let list = path.child(field);
        for (index, uid) in
            tree::list(tree::get(status, "uncountedTerminatedPods"), field).iter().enumerate()
        {
            let path = list.index(index);
            match uid.as_str().unwrap_or_default() {
                "" => faults.invalid(&path, "", "must not be empty"),
                uid if seen.contains(&uid) => faults.duplicate(&path, uid),
                uid => seen.push(uid),
            }
        }
    }
}

/// (one condition, another, words): both cannot be true.
const EXCLUSIVE: [(&str, &str, &str); 4] = [
    ("Complete", "Failed", "cannot set Complete=True and Failed=true conditions"),
    ("Complete", "FailureTarget", "cannot set Complete=True and FailureTarget=true conditions"),
    (
        "SuccessCriteriaMet",
        "Failed",
        "cannot set SuccessCriteriaMet=True and Failed=true conditions",
    ),
    (
        "SuccessCriteriaMet",
        "FailureTarget",
        "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
    ),
];

/// (condition, what comes before it, words).
const AFTER: [(&str, &str, &str); 2] = [
    (
        "Failed",
        "FailureTarget",
        "cannot set Failed=True condition without the FailureTarget=true condition",
    ),
    (
        "Complete",
        "SuccessCriteriaMet",
        "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
    ),
];

fn conditions(new: &Value, old: &Value, faults: &mut Faults) {
    let path = STATUS.child("conditions");
    let (is, was) = (|kind| is_true(new, kind), |kind| is_true(old, kind));
    for (one, other, detail) in EXCLUSIVE {
        if is(one) && is(other) {
            faults.invalid_whole(&path, detail);
        }
    }
    // What ended before such conditions existed stays as it is.
    for (one, first, detail) in AFTER {
        if is(one) && !was(one) && !is(first) {
            faults.invalid_whole(&path, detail);
        }
    }
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if was(kind) && !is(kind) {
            let detail = format!("cannot disable the terminal {kind}=True condition");
            faults.invalid_whole(&path, &detail);
        }
    }
    if was("SuccessCriteriaMet") && !is("SuccessCriteriaMet") {
        faults.invalid_whole(&path, "cannot disable the SuccessCriteriaMet=True condition");
    }
}

fn times(new: &Value, old: &Value, faults: &mut Faults) {
    let status = tree::get(new, "status");
    let complete = is_true(new, "Complete");
    let finished = complete || is_true(new, "Failed");
    let (start, end) = (tree::get(status, "startTime"), tree::get(status, "completionTime"));
    let path = STATUS.child("completionTime");
    if !end.is_null() && !complete {
        let detail = "cannot set completionTime when there is no Complete=True condition";
        faults.invalid(&path, end.clone(), detail);
    }
    if end.is_null() && complete {
        faults.required(&path, "completionTime is required for Complete jobs");
    }
    let at = |value: &Value| value.as_str().and_then(time::parse);
    if let (Some(start), Some(ended)) = (at(start), at(end))
        && ended < start
    {
        faults.invalid(&path, end.clone(), "completionTime cannot be set before startTime");
    }
    let ended_before = tree::get(old, "status.completionTime");
    if !end.is_null() && !ended_before.is_null() && end != ended_before {
        faults.invalid(&path, end.clone(), "completionTime cannot be mutated");
    }
    let path = STATUS.child("startTime");
    let before = tree::get(old, "status.startTime");
    if !before.is_null() && start != before && !tree::flag(new, "spec.suspend") {
        faults.required(&path, "startTime cannot be removed for unsuspended job");
    }
    if !finished {
        return;
    }
    if start.is_null() {
        faults.required(&path, "startTime is required for finished job");
    }
    for field in ["active", "terminating"] {
        if let Some(count) = tree::int(status, field).filter(|&count| count > 0) {
            let detail = format!("{field}>0 is invalid for finished job");
            faults.invalid(&STATUS.child(field), count, detail);
        }
    }
    let uncounted = tree::get(status, "uncountedTerminatedPods");
    if ["succeeded", "failed"].iter().any(|field| !tree::list(uncounted, field).is_empty()) {
        let detail = "uncountedTerminatedPods needs to be empty for finished job";
        faults.invalid(&STATUS.child("uncountedTerminatedPods"), uncounted.clone(), detail);
    }
}

fn finished_indexes(new: &Value, faults: &mut Faults) {
    let status = tree::get(new, "status");
    let completions = tree::int(new, "spec.completions");
    let mut sets = Vec::new();
    for field in ["completedIndexes", "failedIndexes"] {
        let Some(text) = tree::get(status, field).as_str() else { continue };
        let path = STATUS.child(field);
        match completions.map(|completions| indexes::intervals(text, completions)) {
            Some(Ok(set)) => sets.push(set),
            Some(Err(why)) => {
                faults.invalid(&path, text, format!("error parsing {field}: {why}"));
            }
            None => {}
        }
        let per_index = !tree::get(new, "spec.backoffLimitPerIndex").is_null();
        if field == "failedIndexes" && !per_index {
            let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            faults.invalid(&path, text, detail);
        }
        let indexed = tree::text(new, "spec.completionMode") == "Indexed";
        if field == "completedIndexes" && !indexed && !text.is_empty() {
            let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
            faults.invalid(&path, text, detail);
        }
    }
    if let [completed, failed] = &sets[..]
        && let Some(index) = indexes::overlap(completed, failed)
    {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
        let text = tree::get(status, "failedIndexes").clone();
        faults.invalid(&STATUS.child("failedIndexes"), text, detail);
    }
}

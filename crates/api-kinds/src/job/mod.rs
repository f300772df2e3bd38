//! Job: pods that run until enough of them have succeeded.
//!
//! Read `validate` for what is refused, `indexes` for how finished indexes are
//! written, `update` for what may change later.

mod indexes;
mod policies;
mod update;
mod validate;

use std::sync::Arc;

use api_object::time;
use api_schema::{Column, Generation, Hooks, ResourceSpec, Schema, human_duration, tree};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    conditions, pod,
    row::{Build, row as new_row},
    workload,
};

pub(crate) use validate::template as validate_template;

/// The label of a Job's pods that its selector asks for.
const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
const NAME_LABEL: &str = "batch.kubernetes.io/job-name";
/// The same labels from before they had a prefix.
const OLD_UID_LABEL: &str = "controller-uid";
const OLD_NAME_LABEL: &str = "job-name";

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut columns = vec![
        Column::name(),
        Column::text("Status", "Status of the job.", |job, _| status(job).into()),
        Column::text(
            "Completions",
            "The number of pods which reached phase Succeeded. The value increases monotonically for a given spec.",
            |job, _| completions(job).into(),
        ),
        Column::text("Duration", "Time required to complete the job.", |job, now| {
            duration(job, now).into()
        }),
        Column::age(),
    ];
    columns.extend(workload::template_columns());
    let mut row = ResourceSpec {
        categories: vec!["all".into()],
        columns,
        generation: Generation::Spec,
        hooks: Hooks {
            default: |_, job| default(tree::slot(job, "spec")),
            prepare_create: |_, job| {
                generate_selector(job);
                adopt_labels(job);
            },
            prepare_update: |_, new, _| adopt_labels(new),
            validate: |_, job, faults| validate::job(job, faults),
            validate_update: |_, new, old, faults| update::validate(new, old, faults),
            validate_status: |_, new, old, faults| update::validate_status(new, old, faults),
            orphans_dependents: true,
            warnings: |new, old| workload::warnings("spec.template", new, old),
            ..Hooks::default()
        },
        ..new_row(schema, "batch", "v1", "jobs", "Job", "batch/v1.Job")
    };
    row.with_computed_field("status.successful", |job| {
        tree::int(job, "status.succeeded").unwrap_or(0).to_string()
    })
    .with_status();
    row
}

/// Defaults of the spec of a Job, for those that a CronJob makes too.
pub(crate) fn default(spec: &mut Value) {
    if tree::get(spec, "completions").is_null() && tree::get(spec, "parallelism").is_null() {
        tree::set(spec, "completions", 1);
    }
    tree::set_if_unset(spec, "parallelism", 1);
    let limit = match tree::get(spec, "backoffLimitPerIndex") {
        Value::Null => 6,
        _ => i32::MAX,
    };
    tree::set_if_unset(spec, "backoffLimit", limit);
    tree::set_if_unset(spec, "completionMode", "NonIndexed");
    tree::set_if_unset(spec, "suspend", false);
    tree::set_if_unset(spec, "manualSelector", false);
    let policy = match tree::get(spec, "podFailurePolicy") {
        Value::Null => "TerminatingOrFailed",
        _ => "Failed",
    };
    tree::set_if_unset(spec, "podReplacementPolicy", policy);
    for rule in tree::list_mut(spec, "podFailurePolicy.rules") {
        for pattern in tree::list_mut(rule, "onPodConditions") {
            tree::set_if_unset(pattern, "status", "True");
        }
    }
    pod::default_template(tree::slot(spec, "template"));
}

/// What a selector that nobody wrote asks for: the Job's uid, which no other
/// Job's pods have.
fn generate_selector(job: &mut Value) {
    if tree::flag(job, "spec.manualSelector") {
        return;
    }
    let name = tree::get(job, "metadata.name").clone();
    let uid = tree::get(job, "metadata.uid").clone();
    let labels = tree::as_map(tree::slot(job, "spec.template.metadata.labels"));
    for (label, value) in
        [(OLD_NAME_LABEL, &name), (NAME_LABEL, &name), (OLD_UID_LABEL, &uid), (UID_LABEL, &uid)]
    {
        // One that says something else is refused later.
        labels.entry(label).or_insert_with(|| value.clone());
    }
    let selected = tree::as_map(tree::slot(job, "spec.selector.matchLabels"));
    selected.entry(UID_LABEL).or_insert(uid);
}

/// A Job without labels has those of its pods.
fn adopt_labels(job: &mut Value) {
    if tree::entries(job, "metadata.labels").next().is_none() {
        let labels = tree::get(job, "spec.template.metadata.labels").clone();
        if labels.is_object() {
            tree::set(job, "metadata.labels", labels);
        }
    }
}

/// Whether a condition of the Job holds.
fn is_true(job: &Value, kind: &str) -> bool {
    conditions::is_true(tree::list(job, "status.conditions"), kind)
}

fn status(job: &Value) -> &'static str {
    let is_true = |kind| is_true(job, kind);
    match () {
        () if is_true("Complete") => "Complete",
        () if is_true("Failed") => "Failed",
        () if !tree::get(job, "metadata.deletionTimestamp").is_null() => "Terminating",
        () if is_true("Suspended") => "Suspended",
        () if is_true("FailureTarget") => "FailureTarget",
        () if is_true("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

/// `1/3`, or `1/1 of 3` where any one of three is enough.
fn completions(job: &Value) -> String {
    let succeeded = tree::int(job, "status.succeeded").unwrap_or(0);
    match (tree::int(job, "spec.completions"), tree::int(job, "spec.parallelism").unwrap_or(0)) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(job: &Value, now: Timestamp) -> String {
    let at = |path| time::parse(tree::text(job, path));
    let failed = || {
        let conditions = tree::list(job, "status.conditions").iter();
        let mut failed = conditions.filter(|condition| {
            tree::text(condition, "type") == "Failed" && tree::text(condition, "status") == "True"
        });
        time::parse(tree::text(failed.next()?, "lastTransitionTime"))
    };
    let Some(start) = at("status.startTime") else { return String::new() };
    let end = at("status.completionTime").or_else(failed).unwrap_or(now);
    human_duration(end.duration_since(start))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn line(job: Value, expect: &str) {
        let now = "2024-01-01T00:01:00Z".parse().expect("a time");
        assert_eq!(
            format!("{} {} {}", status(&job), completions(&job), duration(&job, now)),
            expect
        );
    }

    #[test]
    fn jobs_in_a_line() {
        let started = "2024-01-01T00:00:00Z";
        line(json!({}), "Running 0/1 ");
        line(
            json!({ "spec": { "completions": 3 }, "status": { "startTime": started, "succeeded": 1 } }),
            "Running 1/3 60s",
        );
        line(json!({ "spec": { "parallelism": 2 } }), "Running 0/1 of 2 ");
        line(
            json!({ "status": {
                "startTime": started,
                "completionTime": "2024-01-01T00:00:05Z",
                "conditions": [{ "type": "Complete", "status": "True" }],
            } }),
            "Complete 0/1 5s",
        );
        line(
            json!({ "status": {
                "startTime": started,
                "conditions": [{
                    "type": "Failed", "status": "True", "lastTransitionTime": "2024-01-01T00:00:09Z",
                }],
            } }),
            "Failed 0/1 9s",
        );
    }
}

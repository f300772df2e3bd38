//! Deployment: a number of pods of one template, replaced step by step.

use std::sync::Arc;

use api_schema::{Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::{
    pod,
    row::{Build, row as new_row},
    rules,
};

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
    columns.extend(pod::template_columns());
    let mut row = ResourceSpec {
        short_names: vec!["deploy".into()],
        categories: vec!["all".into()],
        columns,
        generation: Generation::SpecAndAnnotations,
        hooks: Hooks {
            default,
            prepare_status: |_, new, old| tree::copy(old, new, "metadata.labels"),
            validate,
            validate_update: selector_is_immutable,
            warnings: |new, old| pod::warnings_of("spec.template.spec", new, old),
            ..Hooks::default()
        },
        ..new_row(schema, "apps", "v1", "deployments", "Deployment", "apps/v1.Deployment")
    };
    row.with_scale().with_status();
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
    selector_and_template(&path, spec, faults);
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

/// The selector is there, selects something, and matches the template; the
/// template is a pod that is always restarted.
pub(crate) fn selector_and_template(path: &Path<'_>, spec: &Value, faults: &mut Faults) {
    let selector = tree::get(spec, "selector");
    let at = path.child("selector");
    if selector.is_null() {
        faults.required(&at, "");
    } else {
        rules::label_selector(&at, selector, faults);
        if tree::get(selector, "matchLabels").is_null()
            && tree::list(selector, "matchExpressions").is_empty()
        {
            faults.invalid(&at, selector.clone(), "empty selector is invalid for deployment");
        } else if let Ok(parsed) = api_object::LabelSelector::from_object(selector) {
            let labels = tree::entries(spec, "template.metadata.labels")
                .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect();
            if !parsed.matches(&labels) {
                faults.invalid(
                    &path.child("template.metadata.labels"),
                    tree::get(spec, "template.metadata.labels").clone(),
                    "`selector` does not match template `labels`",
                );
            }
        }
    }
    let template = path.child("template");
    pod::validate_template(&template, tree::get(spec, "template"), faults);
    let policy = tree::text(spec, "template.spec.restartPolicy");
    if !matches!(policy, "Always" | "") {
        faults.unsupported(&template.child("spec.restartPolicy"), policy, ["Always"]);
    }
    if tree::int(spec, "template.spec.activeDeadlineSeconds").is_some() {
        faults.forbidden(
            &template.child("spec.activeDeadlineSeconds"),
            "activeDeadlineSeconds in ReplicaSet is not Supported",
        );
    }
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
        let value = tree::get(rolling, field);
        let at = path.child(field);
        let percent =
            value.as_str().map(|text| text.strip_suffix('%').and_then(|n| n.parse().ok()));
        let number: i64 = match percent {
            Some(Some(percent)) => percent,
            Some(None) => {
                faults.invalid(&at, value.clone(), "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')");
                continue;
            }
            None => value.as_i64().unwrap_or(0),
        };
        rules::not_negative(&at, Some(number), faults);
        if field == "maxUnavailable" && percent.is_some() && number > 100 {
            faults.invalid(&at, value.clone(), "must not be greater than 100%");
        }
        zero += usize::from(number == 0);
    }
    if zero == 2 {
        let value = tree::get(rolling, "maxUnavailable").clone();
        faults.invalid(&path.child("maxUnavailable"), value, "may not be 0 when `maxSurge` is 0");
    }
}

/// `apps/v1` never lets a selector change.
pub(crate) fn selector_is_immutable(
    _: &ResourceSpec,
    new: &Value,
    old: &Value,
    faults: &mut Faults,
) {
    let path = "spec.selector";
    rules::immutable(&Path::new(path), tree::get(new, path), tree::get(old, path), faults);
}

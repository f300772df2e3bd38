//! What is refused in a Job, and in the Jobs that a CronJob would make.

use api_object::name;
use api_schema::{Faults, Path, tree};
use serde_json::Value;

use super::{NAME_LABEL, OLD_NAME_LABEL, OLD_UID_LABEL, UID_LABEL, policies};
use crate::{pod, rules, workload};

const PARALLELISM_MAX: i64 = 100_000;
const FAILED_INDEXES_MAX: i64 = 100_000;
/// Above so many completions, a limit for each index makes a status too long
/// unless the rest stays small.
const COMPLETIONS_SOFT_LIMIT: i64 = 100_000;
const LIMIT_FOR_HIGH_COMPLETIONS: i64 = 10_000;
const MANAGED_BY_BYTES_MAX: usize = 63;

/// Faults of a Job on its own.
pub(super) fn job(job: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(job, "spec"));
    generated_selector(job, faults);
    self::spec(&path, spec, faults);
    let selector = tree::get(spec, "selector");
    if selector.is_null() {
        faults.required(&path.child("selector"), "");
    } else {
        rules::label_selector(&path.child("selector"), selector, faults);
        let template = tree::get(spec, "template");
        workload::selects_template(&path.child("template"), selector, template, faults);
    }
    let completions = tree::int(spec, "completions").unwrap_or(0);
    if tree::text(spec, "completionMode") == "Indexed" && completions > 0 {
        let own = tree::text(job, "metadata.name");
        let longest = format!("{own}-{}", completions - 1);
        if !name::dns1123_label(&longest).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {longest}");
            faults.invalid(&Path::new("metadata.name"), own, detail);
        }
    }
}

/// Faults of the Jobs that a CronJob would make.
pub(crate) fn template(path: &Path<'_>, template: &Value, faults: &mut Faults) {
    let (path, spec) = (path.child("spec"), tree::get(template, "spec"));
    self::spec(&path, spec, faults);
    let selector = tree::get(spec, "selector");
    if !selector.is_null() {
        let detail = "`selector` will be auto-generated";
        faults.invalid(&path.child("selector"), selector.clone(), detail);
    }
    if tree::flag(spec, "manualSelector") {
        faults.unsupported(&path.child("manualSelector"), true, ["nil", "false"]);
    }
}

/// A selector that nobody wrote finds the Job's own pods and no others.
fn generated_selector(job: &Value, faults: &mut Faults) {
    let selector = tree::get(job, "spec.selector");
    if tree::flag(job, "spec.manualSelector") || selector.is_null() {
        return;
    }
    let uid = tree::text(job, "metadata.uid");
    let own = tree::text(job, "metadata.name");
    let path = Path::new("spec.template.metadata.labels");
    let labels = tree::get(job, "spec.template.metadata.labels");
    let expected =
        [(UID_LABEL, uid), (NAME_LABEL, own), (OLD_UID_LABEL, uid), (OLD_NAME_LABEL, own)];
    for (label, value) in expected {
        match labels.get(label).and_then(Value::as_str) {
            Some(there) if there == value => {}
            Some(_) => faults.invalid(&path, labels.clone(), format!("must be '{value}'")),
            None => faults.required(&path.key(label), &format!("must be '{value}'")),
        }
    }
    let expected =
        expected.map(|(label, value)| (label.to_owned(), value.to_owned())).into_iter().collect();
    let parsed = api_object::LabelSelector::from_object(selector);
    if parsed.is_ok_and(|selector| !selector.matches(&expected)) {
        let detail = "`selector` not auto-generated";
        faults.invalid(&Path::new("spec.selector"), selector.clone(), detail);
    }
}

fn spec(path: &Path<'_>, spec: &Value, faults: &mut Faults) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        rules::not_negative(&path.child(field), tree::int(spec, field), faults);
    }
    let has = |field: &str| !tree::get(spec, field).is_null();
    if has("maxFailedIndexes") && !has("backoffLimitPerIndex") {
        faults.required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if let Some(manager) = tree::get(spec, "managedBy").as_str() {
        let path = path.child("managedBy");
        rules::domain_prefixed_path(&path, manager, faults);
        if manager.len() > MANAGED_BY_BYTES_MAX {
            faults.too_long(&path, MANAGED_BY_BYTES_MAX);
        }
    }
    if tree::text(spec, "completionMode") == "Indexed" {
        indexed(path, spec, faults);
    } else {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(number) = tree::int(spec, field) {
                faults.invalid(&path.child(field), number, "requires indexed completion mode");
            }
        }
    }
    if has("podFailurePolicy") {
        policies::failure(&path.child("podFailurePolicy"), spec, faults);
    }
    if has("successPolicy") {
        policies::success(&path.child("successPolicy"), spec, faults);
    }
    let replacement = tree::text(spec, "podReplacementPolicy");
    if has("podFailurePolicy") && replacement == "TerminatingOrFailed" {
        faults.unsupported(&path.child("podReplacementPolicy"), replacement, ["Failed"]);
    }
    pod::validate_template(&path.child("template"), tree::get(spec, "template"), faults);
    restart_policy(path, spec, faults);
}

/// A container that is always restarted never ends.
fn restart_policy(path: &Path<'_>, spec: &Value, faults: &mut Faults) {
    let path = path.child("template.spec.restartPolicy");
    match tree::text(spec, "template.spec.restartPolicy") {
        "Always" | "" => faults.required(&path, "valid values: \"OnFailure\", \"Never\""),
        policy @ "OnFailure" if !tree::get(spec, "podFailurePolicy").is_null() => faults.invalid(
            &path,
            policy,
            "only \"Never\" is supported when podFailurePolicy is specified",
        ),
        _ => {}
    }
}

fn indexed(path: &Path<'_>, spec: &Value, faults: &mut Faults) {
    let number = |field: &str| tree::int(spec, field);
    let completions = number("completions");
    if completions.is_none() {
        faults.required(&path.child("completions"), "when completion mode is Indexed");
    }
    let mut at_most = |field: &str, most: i64, why: &str| {
        if let Some(number) = number(field).filter(|&number| number > most) {
            let detail = format!("must be less than or equal to {most}{why}");
            faults.invalid(&path.child(field), number, detail);
        }
    };
    at_most("parallelism", PARALLELISM_MAX, " when completion mode is Indexed");
    at_most("maxFailedIndexes", FAILED_INDEXES_MAX, "");
    let failed = number("maxFailedIndexes");
    if let (Some(failed), Some(completions)) = (failed, completions)
        && failed > completions
    {
        let detail = "must be less than or equal to completions";
        faults.invalid(&path.child("maxFailedIndexes"), failed, detail);
    }
    let high = completions.is_some_and(|number| number > COMPLETIONS_SOFT_LIMIT);
    if !high || number("backoffLimitPerIndex").is_none() {
        return;
    }
    if failed.is_none() {
        let detail =
            format!("must be specified when completions is above {COMPLETIONS_SOFT_LIMIT}");
        faults.required(&path.child("maxFailedIndexes"), &detail);
    }
    for field in ["parallelism", "maxFailedIndexes"] {
        if let Some(number) = number(field).filter(|&number| number > LIMIT_FOR_HIGH_COMPLETIONS) {
            faults.invalid(&path.child(field), number, format!("must be less than or equal to {LIMIT_FOR_HIGH_COMPLETIONS} when completions are above {COMPLETIONS_SOFT_LIMIT} and used with backoff limit per index"));
        }
    }
}

//! What is refused in the policies that end a Job early.

use std::collections::BTreeSet;

use api_object::name;
use api_schema::{Faults, Path, tree};
use serde_json::Value;

use super::indexes;
use crate::rules;

const RULES_MAX: usize = 20;
const PATTERNS_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
/// Bytes of a text of indexes.
const INDEXES_BYTES_MAX: usize = 64 * 1024;
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

/// Faults of `podFailurePolicy`.
pub(super) fn failure(path: &Path<'_>, spec: &Value, faults: &mut Faults) {
    let list = path.child("rules");
    let rules = tree::list(spec, "podFailurePolicy.rules");
    if rules.len() > RULES_MAX {
        faults.too_many(&list, rules.len(), RULES_MAX);
    }
    let containers: Vec<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|field| tree::list(tree::get(spec, "template.spec"), field))
        .map(|container| tree::text(container, "name"))
        .collect();
    for (index, rule) in rules.iter().enumerate() {
        let path = list.index(index);
        match tree::text(rule, "action") {
            "" => faults.required(
                &path.child("action"),
                "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]",
            ),
            action @ "FailIndex" if tree::get(spec, "backoffLimitPerIndex").is_null() => {
                let detail = "requires the backoffLimitPerIndex to be set";
                faults.invalid(&path.child("action"), action, detail);
            }
            _ => {}
        }
        let codes = tree::get(rule, "onExitCodes");
        if !codes.is_null() {
            exit_codes(&path.child("onExitCodes"), codes, &containers, faults);
        }
        let patterns = tree::list(rule, "onPodConditions");
        conditions(&path.child("onPodConditions"), patterns, faults);
        match (codes.is_null(), patterns.is_empty()) {
            (false, false) => faults.invalid_whole(
                &path,
                "specifying both OnExitCodes and OnPodConditions is not supported",
            ),
            (true, true) => faults.invalid_whole(
                &path,
                "specifying one of OnExitCodes and OnPodConditions is required",
            ),
            _ => {}
        }
    }
}

fn exit_codes(path: &Path<'_>, codes: &Value, containers: &[&str], faults: &mut Faults) {
    let operator = tree::text(codes, "operator");
    if operator.is_empty() {
        faults.required(&path.child("operator"), "valid values: [\"In\" \"NotIn\"]");
    }
    let container = tree::get(codes, "containerName");
    if container.as_str().is_some_and(|name| !containers.contains(&name)) {
        faults.invalid(
            &path.child("containerName"),
            container.clone(),
            "must be one of the container or initContainer names in the pod template",
        );
    }
    let list = path.child("values");
    let values: Vec<i64> = tree::list(codes, "values").iter().filter_map(Value::as_i64).collect();
    match values.len() {
        0 => faults.invalid(&list, Value::Array(Vec::new()), "at least one value is required"),
        count if count > EXIT_CODES_MAX => faults.too_many(&list, count, EXIT_CODES_MAX),
        _ => {}
    }
    let mut seen = BTreeSet::new();
    for (index, &value) in values.iter().enumerate() {
        if operator == "In" && value == 0 {
            faults.invalid(&list.index(index), value, "must not be 0 for the In operator");
        }
        if !seen.insert(value) {
            faults.duplicate(&list.index(index), value);
        }
    }
    if !values.is_sorted() {
        faults.invalid(&list, values, "must be ordered");
    }
}

fn conditions(path: &Path<'_>, patterns: &[Value], faults: &mut Faults) {
    if patterns.len() > PATTERNS_MAX {
        faults.too_many(path, patterns.len(), PATTERNS_MAX);
    }
    for (index, pattern) in patterns.iter().enumerate() {
        let path = path.index(index);
        let kind = tree::text(pattern, "type");
        faults.invalid_all(&path.child("type"), kind, name::qualified_name(kind));
        let status = tree::text(pattern, "status");
        if !STATUSES.contains(&status) {
            faults.unsupported(&path.child("status"), status, STATUSES);
        }
    }
}

/// Faults of `successPolicy`.
pub(super) fn success(path: &Path<'_>, spec: &Value, faults: &mut Faults) {
    let policy = tree::get(spec, "successPolicy");
    if tree::text(spec, "completionMode") != "Indexed" {
        faults.invalid(path, policy.clone(), "requires indexed completion mode");
        return;
    }
    let list = path.child("rules");
    let rules = tree::list(policy, "rules");
    match rules.len() {
        0 => faults.required(
            &list,
            "at least one rules must be specified when the successPolicy is specified",
        ),
        count if count > RULES_MAX => faults.too_many(&list, count, RULES_MAX),
        _ => {}
    }
    let completions = tree::int(spec, "completions").unwrap_or(0);
    for (index, rule) in rules.iter().enumerate() {
        success_rule(&list.index(index), rule, completions, faults);
    }
}

fn success_rule(path: &Path<'_>, rule: &Value, completions: i64, faults: &mut Faults) {
    let indexes = tree::get(rule, "succeededIndexes").as_str();
    let count = tree::int(rule, "succeededCount");
    if indexes.is_none() && count.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        faults.required(path, detail);
    }
    let mut listed = None;
    if let Some(text) = indexes {
        let path = path.child("succeededIndexes");
        if text.len() > INDEXES_BYTES_MAX {
            faults.too_long(&path, INDEXES_BYTES_MAX);
        }
        match indexes::count(text, completions) {
            Ok(count) => listed = Some(count),
            Err(why) => {
                listed = Some(0);
                faults.invalid(&path, text, format!("error parsing succeededIndexes: {why}"));
            }
        }
    }
    let Some(count) = count else { return };
    let path = path.child("succeededCount");
    rules::not_negative(&path, Some(count), faults);
    let mut at_most = |most: i64, of: &str| {
        if count > most {
            faults.invalid(&path, count, format!("must be less than or equal to {most} ({of})"));
        }
    };
    at_most(completions, "the number of specified completions");
    if let Some(listed) = listed {
        at_most(listed, "the number of indexes in the specified succeededIndexes field");
    }
}

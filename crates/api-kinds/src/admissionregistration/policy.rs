//! What validating and mutating policies share.

use api_object::name;
use api_schema::{Column, Faults, Path, tree};
use serde_json::Value;

use super::matching;
use crate::expression::{self, Of};

pub(super) fn param_kind_column() -> Column {
    Column::text(
        "ParamKind",
        "ParamKind specifies the kind of resources used to parameterize this policy",
        |policy, _| match tree::get(policy, "spec.paramKind") {
            Value::Null => "<unset>".into(),
            kind => {
                format!("{}/{}", tree::text(kind, "apiVersion"), tree::text(kind, "kind")).into()
            }
        },
    )
}

pub(super) fn default(policy: &mut Value) {
    tree::set_if_unset(policy, "spec.failurePolicy", "Fail");
    matching::default_resources(policy, "spec.matchConstraints");
}

/// Faults of the fields that both have.
pub(super) fn validate(policy: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(policy, "spec"));
    let kind = tree::get(spec, "paramKind");
    if !kind.is_null() {
        param_kind(&path.child("paramKind"), kind, faults);
    }
    let at = path.child("matchConstraints");
    match tree::get(spec, "matchConstraints") {
        Value::Null => faults.required(&at, ""),
        constraints => {
            matching::resources(&at, constraints, faults);
            if tree::list(constraints, "resourceRules").is_empty() {
                faults.required(&at.child("resourceRules"), "");
            }
        }
    }
    let conditions = tree::list(spec, "matchConditions");
    matching::conditions(&path.child("matchConditions"), conditions, Of::Policy, faults);
    let at = path.child("variables");
    for (index, variable) in tree::list(spec, "variables").iter().enumerate() {
        check_variable(&at.index(index), variable, faults);
    }
}

fn check_variable(path: &Path<'_>, variable: &Value, faults: &mut Faults) {
    let at = path.child("name");
    match tree::text(variable, "name") {
        text if text.trim().is_empty() => faults.required(&at, "name is not specified"),
        text if !expression::is_identifier(text) => {
            faults.invalid(&at, text, "name is not a valid CEL identifier");
        }
        _ => {}
    }
    required_expression(&path.child("expression"), tree::text(variable, "expression"), faults);
}

/// An expression that has to be there.
pub(super) fn required_expression(path: &Path<'_>, text: &str, faults: &mut Faults) {
    match text.trim() {
        "" => faults.required(path, "expression is not specified"),
        _ => expression::check(path, text, Of::Policy, faults),
    }
}

fn param_kind(path: &Path<'_>, kind: &Value, faults: &mut Faults) {
    let at = path.child("apiVersion");
    let api_version = tree::text(kind, "apiVersion");
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if api_version.is_empty() {
        faults.required(&at, "");
    } else if version.contains('/') {
        let detail = format!("unexpected GroupVersion string: {api_version}");
        faults.invalid(&at, api_version, detail);
    } else {
        let wrong = name::dns1123_subdomain(group);
        if !group.is_empty() && !wrong.is_empty() {
            faults.invalid(&at, group, wrong.join(","));
        }
        let wrong = name::dns1035_label(version);
        if version.is_empty() {
            faults.invalid(&at, api_version, "version must be specified");
        } else if !wrong.is_empty() {
            faults.invalid(&at, version, wrong.join(","));
        }
    }
    let at = path.child("kind");
    let text = tree::text(kind, "kind");
    let wrong = name::dns1035_label(&text.to_lowercase());
    if text.is_empty() {
        faults.required(&at, "");
    } else if !wrong.is_empty() {
        let detail =
            format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
        faults.invalid(&at, text, detail);
    }
}

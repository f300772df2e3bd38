//! What validating and mutating policies share.

use api_object::name;
use api_schema::{Column, Faults, Path, tree};
use serde_json::Value;

use super::matching;
use crate::expression::{self, Admission, Gives, Has};

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

/// Faults of the fields that both have. Gives what compiles the other expressions,
/// and what those may use.
pub(super) fn validate(policy: &Value, faults: &mut Faults) -> (Admission, Has) {
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
    matching::conditions(&path.child("matchConditions"), conditions, true, faults);
    let has = Has { params: !kind.is_null(), authorizer: true, ..Has::default() };
    let at = path.child("variables");
    let variables = tree::list(spec, "variables");
    let mut admission = match variables {
        [] => Admission::default(),
        _ => Admission::with_variables(),
    };
    for (index, variable) in variables.iter().enumerate() {
        check_variable(&at.index(index), variable, has, &mut admission, faults);
    }
    (admission, has)
}

fn check_variable(
    path: &Path<'_>,
    variable: &Value,
    has: Has,
    admission: &mut Admission,
    faults: &mut Faults,
) {
    let at = path.child("name");
    match tree::text(variable, "name") {
        text if text.trim().is_empty() => faults.required(&at, "name is not specified"),
        text if !expression::is_identifier(text) => {
            faults.invalid(&at, text, "name is not a valid CEL identifier");
        }
        _ => {}
    }
    let at = path.child("expression");
    match tree::text(variable, "expression") {
        text if text.trim().is_empty() => faults.required(&at, "expression is not specified"),
        text => {
            let ty = admission.check(&at, text, has, Gives::Anything, faults);
            admission.define(tree::text(variable, "name"), ty);
        }
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

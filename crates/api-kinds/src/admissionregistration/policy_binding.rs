//! ValidatingAdmissionPolicyBinding and MutatingAdmissionPolicyBinding: where a
//! policy holds, and with which parameters.

use std::sync::Arc;

use api_object::name;
use api_schema::{Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use super::{any_row, matching};
use crate::rules;

pub(crate) fn validating(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row =
        row(schema, "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding");
    row.hooks.validate = |_, binding, faults| {
        validate(binding, faults);
        let actions = tree::list(binding, "spec.validationActions");
        validation_actions(&Path::new("spec.validationActions"), actions, faults);
    };
    row
}

pub(crate) fn mutating(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = row(schema, "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding");
    row.hooks.validate = |_, binding, faults| {
        validate(binding, faults);
        let rules = tree::list(binding, "spec.matchResources.resourceRules");
        let path = Path::new("spec.matchResources.resourceRules.operations");
        matching::not_deleted(&path, rules, faults);
    };
    row
}

fn row(schema: &Arc<Schema>, plural: &'static str, kind: &'static str) -> ResourceSpec {
    ResourceSpec {
        columns: vec![
            Column::name(),
            Column::text(
                "PolicyName",
                "PolicyName indicates the policy definition which the policy binding binded to",
                |binding, _| tree::text(binding, "spec.policyName").into(),
            ),
            Column::text(
                "ParamRef",
                "ParamRef indicates the param resource which sets the configration param",
                |binding, _| param(tree::get(binding, "spec.paramRef")).into(),
            ),
            Column::age(),
        ],
        generation: Generation::Spec,
        hooks: Hooks {
            default: |_, binding| matching::default_resources(binding, "spec.matchResources"),
            ..Hooks::default()
        },
        ..any_row(schema, plural, kind)
    }
}

fn param(reference: &Value) -> String {
    let (own_name, namespace) = (tree::text(reference, "name"), tree::text(reference, "namespace"));
    match (own_name, namespace) {
        ("", _) => match reference.get("selector") {
            Some(selector) => selector.to_string(),
            None => "<unset>".into(),
        },
        // Nobody can tell from here whether the parameter lives in a namespace.
        (own_name, "") => format!("*/{own_name}"),
        (own_name, namespace) => format!("{namespace}/{own_name}"),
    }
}

fn validate(binding: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(binding, "spec"));
    let at = path.child("policyName");
    match tree::text(spec, "policyName") {
        "" => faults.required(&at, ""),
        policy => faults.invalid_all(&at, policy, name::dns1123_subdomain(policy)),
    }
    let reference = tree::get(spec, "paramRef");
    if !reference.is_null() {
        param_ref(&path.child("paramRef"), reference, faults);
    }
    let resources = tree::get(spec, "matchResources");
    if !resources.is_null() {
        matching::resources(&path.child("matchResources"), resources, faults);
    }
}

fn param_ref(path: &Path<'_>, reference: &Value, faults: &mut Faults) {
    let own_name = tree::text(reference, "name");
    faults.invalid_all(&path.child("name"), own_name, name::path_segment(own_name));
    let selector = tree::get(reference, "selector");
    rules::label_selector(&path.child("selector"), selector, faults);
    match (own_name.is_empty(), selector.is_null()) {
        (true, true) => faults.required(path, "one of name or selector must be specified"),
        (false, false) => {
            for field in ["name", "selector"] {
                let detail = "name and selector are mutually exclusive";
                faults.forbidden(&path.child(field), detail);
            }
        }
        _ => {}
    }
    let at = path.child("parameterNotFoundAction");
    match tree::text(reference, "parameterNotFoundAction") {
        "" => faults.required(&at, ""),
        "Allow" | "Deny" => {}
        other => faults.unsupported(&at, other, ["Allow", "Deny"]),
    }
}

fn validation_actions(path: &Path<'_>, actions: &[Value], faults: &mut Faults) {
    for (index, action) in actions.iter().enumerate() {
        if actions[..index].contains(action) {
            faults.duplicate(&path.index(index), action.clone());
        }
    }
    let has = |wanted: &str| actions.iter().any(|action| action == wanted);
    if has("Deny") && has("Warn") {
        faults.invalid(
            path,
            Value::from(actions),
            "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)",
        );
    }
    if actions.is_empty() {
        faults.required(path, "at least one validation action is required");
    }
}

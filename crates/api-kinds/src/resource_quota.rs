//! ResourceQuota: how much all objects of a namespace may add up to.

use std::sync::Arc;

use api_object::Quantity;
use api_schema::{Column, Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::{
    resource_names,
    row::{Build, row as new_row},
    rules,
};

/// Scopes that no pod is in together.
const OPPOSITES: [[&str; 2]; 2] =
    [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        short_names: vec!["quota".into()],
        columns: vec![
            Column::name(),
            Column::text(
                "Request",
                "Request represents a minimum amount of cpu/memory that a container may consume.",
                |quota, _| used(quota, false).into(),
            ),
            Column::text(
                "Limit",
                "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.",
                |quota, _| used(quota, true).into(),
            ),
            Column::age(),
        ],
        hooks: Hooks {
            default: |_, quota| {
                for path in ["spec.hard", "status.hard", "status.used"] {
                    if let Some(amounts) = tree::at_mut(quota, path) {
                        rules::round_amounts(amounts);
                    }
                }
            },
            validate,
            validate_update,
            validate_status,
            ..Hooks::default()
        },
        ..new_row(schema, "", "v1", "resourcequotas", "ResourceQuota", "core/v1.ResourceQuota")
    };
    row.with_status();
    row
}

/// `pods: 1/10, requests.cpu: 500m/2`: limits, or all else.
fn used(quota: &Value, limits: bool) -> String {
    let of = |map: &str, resource: &str| {
        tree::get(quota, map).get(resource).and_then(Value::as_str).unwrap_or("0").to_owned()
    };
    let resources = tree::entries(quota, "status.hard").map(|(resource, _)| resource);
    resources
        .filter(|resource| resource.starts_with("limits.") == limits)
        .map(|resource| {
            let (used, hard) = (of("status.used", resource), of("status.hard", resource));
            format!("{resource}: {used}/{hard}")
        })
        .collect::<Vec<_>>()
        .join(", ")
}

fn validate(_: &ResourceSpec, quota: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(quota, "spec"));
    amounts(&path.child("hard"), tree::get(spec, "hard"), faults);
    let hard: Vec<&str> = tree::entries(spec, "hard").map(|(key, _)| key.as_str()).collect();
    let scopes = tree::get(spec, "scopes");
    let names: Vec<&str> = tree::list(spec, "scopes").iter().filter_map(Value::as_str).collect();
    let at = path.child("scopes");
    scopes_fit(&at, &names, &hard, scopes, faults);
    let selector = tree::get(spec, "scopeSelector");
    let at = path.child("scopeSelector.matchExpressions");
    let terms = tree::list(selector, "matchExpressions");
    for term in terms {
        selector_term(&at, term, faults);
    }
    let names: Vec<&str> = terms.iter().map(|term| tree::text(term, "scopeName")).collect();
    scopes_fit(&at, &names, &hard, selector, faults);
}

fn amounts(path: &Path<'_>, amounts: &Value, faults: &mut Faults) {
    for (resource, amount) in amounts.as_object().into_iter().flatten() {
        let path = path.key(resource);
        let text = amount.as_str().unwrap_or_default();
        resource_names::of_quota(&path, resource, faults);
        rules::amount(&path, text, faults);
        let whole = Quantity::parse(text).is_ok_and(|amount| amount.millis() % 1000 == 0);
        if resource_names::is_whole(resource) && !whole {
            faults.invalid(&path, text, "must be an integer");
        }
    }
}

fn scopes_fit(path: &Path<'_>, scopes: &[&str], hard: &[&str], value: &Value, faults: &mut Faults) {
    for scope in scopes {
        for resource in hard {
            if resource_names::is_of_quota(resource) && !scope_covers(scope, resource) {
                faults.invalid(path, value.clone(), "unsupported scope applied to resource");
            }
        }
    }
    for pair in OPPOSITES {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            faults.invalid(path, value.clone(), "conflicting scopes");
        }
    }
}

/// Whether objects in a scope have the resource at all.
fn scope_covers(scope: &str, resource: &str) -> bool {
    let computes =
        ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => {
            ["persistentvolumeclaims", "requests.storage"].contains(&resource)
        }
        _ => resource == "pods" || computes.contains(&resource),
    }
}

fn selector_term(path: &Path<'_>, term: &Value, faults: &mut Faults) {
    let operator = tree::text(term, "operator");
    let exists_only = [
        "BestEffort",
        "NotBestEffort",
        "Terminating",
        "NotTerminating",
        "CrossNamespacePodAffinity",
    ];
    if exists_only.contains(&tree::text(term, "scopeName")) && operator != "Exists" {
        faults.invalid(&path.child("operator"), operator, "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity");
    }
    let values = tree::list(term, "values");
    match operator {
        "In" | "NotIn" if values.is_empty() => faults.required(
            &path.child("values"),
            "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
        ),
        "Exists" | "DoesNotExist" if !values.is_empty() => faults.invalid(
            &path.child("values"),
            values.to_vec(),
            "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
        ),
        "" => faults.unsupported(
            &path.child("operator"),
            "",
            ["In", "NotIn", "Exists", "DoesNotExist"],
        ),
        _ => {}
    }
}

fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    let field = "spec.scopes";
    let sorted = |quota: &Value| {
        let mut scopes: Vec<String> = tree::list(quota, field)
            .iter()
            .filter_map(|scope| scope.as_str().map(str::to_owned))
            .collect();
        scopes.sort();
        scopes
    };
    if sorted(new) != sorted(old) {
        faults.invalid(&Path::new(field), tree::get(new, field).clone(), "field is immutable");
    }
}

fn validate_status(_: &ResourceSpec, new: &Value, _: &Value, faults: &mut Faults) {
    for path in ["status.hard", "status.used"] {
        amounts(&Path::new(path), tree::get(new, path), faults);
    }
}

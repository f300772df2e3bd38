//! LimitRange: how much a container, pod or claim of a namespace may ask for.

use std::{collections::BTreeSet, sync::Arc};

use api_object::{Quantity, name};
use api_schema::{Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::{Value, json};

use crate::{resource_names, row::row as new_row, rules};

const AMOUNTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    ResourceSpec {
        short_names: vec!["limits".into()],
        hooks: Hooks { default, validate, ..Hooks::default() },
        ..new_row(schema, "", "v1", "limitranges", "LimitRange", "core/v1.LimitRange")
    }
}

/// A container's default is its maximum, what it asks for is its default.
fn default(_: &ResourceSpec, object: &mut Value) {
    for item in tree::list_mut(object, "spec.limits") {
        if tree::text(item, "type") == "Container" {
            for (field, from) in
                [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")]
            {
                let source = tree::get(item, from).clone();
                let map = tree::as_map(tree::slot(item, field));
                for (resource, amount) in source.as_object().into_iter().flatten() {
                    map.entry(resource).or_insert_with(|| amount.clone());
                }
            }
        }
        for field in AMOUNTS {
            if let Some(amounts) = item.get_mut(field) {
                rules::round_amounts(amounts);
                // An empty map is not written.
                if amounts == &json!({}) {
                    tree::remove(item, field);
                }
            }
        }
    }
}

fn validate(_: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let list = Path::new("spec.limits");
    let mut seen = BTreeSet::new();
    for (index, item) in tree::list(object, "spec.limits").iter().enumerate() {
        let path = list.index(index);
        let kind = tree::text(item, "type");
        limit_type(&path.child("type"), kind, faults);
        if !seen.insert(kind) {
            faults.duplicate(&path.child("type"), kind);
        }
        if kind == "Pod" {
            for field in ["default", "defaultRequest"] {
                if tree::entries(item, field).next().is_some() {
                    let detail = "may not be specified when `type` is 'Pod'";
                    faults.forbidden(&path.child(field), detail);
                }
            }
        }
        let mut resources = BTreeSet::new();
        for field in AMOUNTS {
            for (resource, _) in tree::entries(item, field) {
                let at = path.child(field);
                match kind {
                    "Pod" | "Container" => {
                        resource_names::of_container(&at.key(resource), resource, faults);
                    }
                    _ => resource_names::any(&at.key(resource), resource, faults),
                }
                resources.insert(resource);
            }
        }
        let storage = |field| tree::get(item, field).get("storage").is_some();
        if kind == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
            let detail =
                "either minimum or maximum storage value is required, but neither was provided";
            faults.required(&path.child("limits"), detail);
        }
        for resource in resources {
            amounts(&path, item, resource, faults);
        }
    }
}

fn limit_type(path: &Path<'_>, kind: &str, faults: &mut Faults) {
    let wrong = name::qualified_name(kind);
    let standard = ["Pod", "Container", "PersistentVolumeClaim"].contains(&kind);
    if wrong.is_empty() && !kind.contains('/') && !standard {
        faults.invalid(path, kind, "must be a standard limit type or fully qualified");
    }
    faults.invalid_all(path, kind, wrong);
}

/// (smaller, larger, whose value and place the fault names, words).
const ORDER: [(&str, &str, &str, &str); 6] = [
    ("min", "max", "min", "min value {} is greater than max value {}"),
    (
        "min",
        "defaultRequest",
        "defaultRequest",
        "min value {} is greater than default request value {}",
    ),
    (
        "defaultRequest",
        "max",
        "defaultRequest",
        "default request value {} is greater than max value {}",
    ),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        "default request value {} is greater than default limit value {}",
    ),
    ("min", "default", "default", "min value {} is greater than default value {}"),
    ("default", "max", "default", "default value {} is greater than max value {}"),
];

/// Faults between the amounts of one resource.
fn amounts(path: &Path<'_>, item: &Value, resource: &str, faults: &mut Faults) {
    let amount = |field: &str| {
        let text = tree::get(item, field).get(resource).and_then(Value::as_str)?;
        Quantity::parse(text).ok()
    };
    let mut invalid = |field: &str, detail: String| {
        let value = tree::get(item, field).get(resource).cloned().unwrap_or_default();
        faults.invalid(&path.child(field).key(resource), value, detail);
    };
    for (smaller, larger, at, words) in ORDER {
        if let (Some(low), Some(high)) = (amount(smaller), amount(larger))
            && low > high
        {
            let shown = words.replacen("{}", &low.to_string(), 1);
            invalid(at, shown.replacen("{}", &high.to_string(), 1));
        }
    }
    if let Some(ratio) = amount("maxLimitRequestRatio") {
        if ratio < Quantity::from_units(1) {
            invalid("maxLimitRequestRatio", format!("ratio {ratio} is less than 1"));
        }
        if let (Some(min), Some(max)) = (amount("min"), amount("max"))
            && !min.is_zero()
        {
            let most = max.millis() as f64 / min.millis() as f64;
            if ratio.millis() as f64 / 1000.0 > most {
                let detail = format!("ratio {ratio} is greater than max/min = {most:.6}");
                invalid("maxLimitRequestRatio", detail);
            }
        }
    }
    if let (Some(limit), Some(request)) = (amount("default"), amount("defaultRequest"))
        && !resource_names::may_be_overcommitted(resource)
        && limit != request
    {
        invalid(
            "defaultRequest",
            format!(
                "default value {limit} must equal to defaultRequest value {request} in {resource}"
            ),
        );
    }
}

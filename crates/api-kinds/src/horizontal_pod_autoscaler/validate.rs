//! What is refused in an autoscaler.

use api_object::{GroupVersion, Quantity, name};
use api_schema::{Faults, Path, tree};
use serde_json::Value;

use crate::rules;

const WINDOW_SECONDS_MAX: i64 = 3600;
const PERIOD_SECONDS_MAX: i64 = 1800;
/// (type, field).
const SOURCES: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];

/// Faults of an autoscaler in its stored form.
pub(super) fn scaler(scaler: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(scaler, "spec"));
    let least = tree::int(spec, "minReplicas");
    let most = tree::int(spec, "maxReplicas").unwrap_or(0);
    if let Some(least) = least.filter(|&least| least < 0) {
        faults.invalid(&path.child("minReplicas"), least, "must be greater than or equal to 0");
    }
    if most < 1 {
        faults.invalid(&path.child("maxReplicas"), most, "must be greater than 0");
    }
    if least.is_some_and(|least| least > most) {
        let detail = "must be greater than or equal to `minReplicas`";
        faults.invalid(&path.child("maxReplicas"), most, detail);
    }
    reference(&path.child("scaleTargetRef"), tree::get(spec, "scaleTargetRef"), faults);
    let list = path.child("metrics");
    let from_outside = |metric: &Value| matches!(tree::text(metric, "type"), "Object" | "External");
    if least == Some(0) && !tree::list(spec, "metrics").iter().any(from_outside) {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        faults.forbidden(&list, detail);
    }
    for (index, metric) in tree::list(spec, "metrics").iter().enumerate() {
        self::metric(&list.index(index), metric, faults);
    }
    let behavior = tree::get(spec, "behavior");
    for direction in ["scaleUp", "scaleDown"] {
        let rules = tree::get(behavior, direction);
        if !rules.is_null() {
            self::rules(&path.child("behavior").child(direction), rules, faults);
        }
    }
}

/// Faults of the status in its stored form.
pub(super) fn status(scaler: &Value, faults: &mut Faults) {
    let path = Path::new("status");
    for field in ["currentReplicas", "desiredReplicas"] {
        let number = tree::int(tree::get(scaler, "status"), field);
        rules::not_negative(&path.child(field), number, faults);
    }
}

fn reference(path: &Path<'_>, reference: &Value, faults: &mut Faults) {
    for field in ["kind", "name"] {
        let text = tree::text(reference, field);
        rules::required_name(&path.child(field), text, name::path_segment, faults);
    }
    let version = tree::text(reference, "apiVersion");
    if !version.is_empty() && GroupVersion::parse(version).is_none() {
        let detail = format!("unexpected GroupVersion string: {version}");
        faults.invalid(&path.child("apiVersion"), version, detail);
    }
}

fn metric(path: &Path<'_>, metric: &Value, faults: &mut Faults) {
    let kind = tree::text(metric, "type");
    let Some((_, field)) = SOURCES.iter().find(|(known, _)| *known == kind) else {
        if kind.is_empty() {
            faults.required(&path.child("type"), "must specify a metric source type");
        }
        faults.unsupported(&path.child("type"), kind, SOURCES.map(|(known, _)| known));
        return;
    };
    let source = tree::get(metric, field);
    if source.is_null() {
        let detail = "must populate information for the given metric source";
        faults.required(&path.child(field), detail);
    } else {
        self::source(&path.child(field), field, source, faults);
    }
    for (_, other) in SOURCES.iter().filter(|(_, other)| other != field) {
        if !tree::get(metric, other).is_null() {
            faults.forbidden(&path.child(other), "must populate the given metric source only");
        }
    }
}

fn source(path: &Path<'_>, kind: &str, source: &Value, faults: &mut Faults) {
    let target = tree::get(source, "target");
    let at = path.child("target");
    self::target(&at, target, faults);
    let has = |field: &str| !tree::get(target, field).is_null();
    match kind {
        "resource" | "containerResource" => {
            if tree::text(source, "name").is_empty() {
                faults.required(&path.child("name"), "must specify a resource name");
            }
            if kind == "containerResource" && tree::text(source, "container").is_empty() {
                faults.required(&path.child("container"), "must specify a container");
            }
            match (has("averageUtilization"), has("averageValue")) {
                (false, false) => faults.required(
                    &at.child("averageUtilization"),
                    "must set either a target raw value or a target utilization",
                ),
                (true, true) => faults.forbidden(
                    &at.child("averageValue"),
                    "may not set both a target raw value and a target utilization",
                ),
                _ => {}
            }
        }
        "pods" => {
            identifier(&path.child("metric"), tree::get(source, "metric"), faults);
            if !has("averageValue") {
                let detail = "must specify a positive target averageValue";
                faults.required(&at.child("averageValue"), detail);
            }
        }
        _ => {
            if kind == "object" {
                let described = tree::get(source, "describedObject");
                reference(&path.child("describedObject"), described, faults);
            }
            identifier(&path.child("metric"), tree::get(source, "metric"), faults);
            match (has("value"), has("averageValue")) {
                (false, false) => faults.required(
                    &at.child("averageValue"),
                    "must set either a target value for metric or a per-pod target",
                ),
                (true, true) => faults.forbidden(
                    &at.child("value"),
                    "may not set both a target value for metric and a per-pod target",
                ),
                _ => {}
            }
        }
    }
}

fn identifier(path: &Path<'_>, metric: &Value, faults: &mut Faults) {
    let text = tree::text(metric, "name");
    rules::required_name(&path.child("name"), text, name::path_segment, faults);
    rules::label_selector(&path.child("selector"), tree::get(metric, "selector"), faults);
}

fn target(path: &Path<'_>, target: &Value, faults: &mut Faults) {
    match tree::text(target, "type") {
        "" => faults.required(&path.child("type"), "must specify a metric target type"),
        "Utilization" | "Value" | "AverageValue" => {}
        other => faults.invalid(
            &path.child("type"),
            other,
            "must be either Utilization, Value, or AverageValue",
        ),
    }
    for field in ["value", "averageValue"] {
        let text = tree::text(target, field);
        if Quantity::parse(text).is_ok_and(|amount| amount.is_zero() || amount.is_negative()) {
            faults.invalid(&path.child(field), text, "must be positive");
        }
    }
    let field = "averageUtilization";
    if let Some(percent) = tree::int(target, field).filter(|&percent| percent < 1) {
        faults.invalid(&path.child(field), percent, "must be greater than 0");
    }
}

fn rules(path: &Path<'_>, rules: &Value, faults: &mut Faults) {
    let field = "stabilizationWindowSeconds";
    if let Some(seconds) = tree::int(rules, field) {
        bounded(&path.child(field), seconds, (0, "or equal to zero"), WINDOW_SECONDS_MAX, faults);
    }
    let select = tree::text(rules, "selectPolicy");
    if !["", "Max", "Min", "Disabled"].contains(&select) {
        faults.unsupported(&path.child("selectPolicy"), select, ["Max", "Min", "Disabled"]);
    }
    let list = path.child("policies");
    let policies = tree::list(rules, "policies");
    if policies.is_empty() {
        faults.required(&list, "must specify at least one Policy");
    }
    for (index, policy) in policies.iter().enumerate() {
        let path = list.index(index);
        let kind = tree::text(policy, "type");
        if !["Pods", "Percent"].contains(&kind) {
            faults.unsupported(&path.child("type"), kind, ["Pods", "Percent"]);
        }
        let number = |field| tree::int(policy, field).unwrap_or(0);
        if number("value") < 1 {
            faults.invalid(&path.child("value"), number("value"), "must be greater than zero");
        }
        let period = number("periodSeconds");
        bounded(&path.child("periodSeconds"), period, (1, "zero"), PERIOD_SECONDS_MAX, faults);
    }
    rules::amount(&path.child("tolerance"), tolerance(rules), faults);
}

/// None at all is as good as any.
fn tolerance(rules: &Value) -> &str {
    match tree::text(rules, "tolerance") {
        "" => "0",
        text => text,
    }
}

fn bounded(
    path: &Path<'_>,
    number: i64,
    (least, than): (i64, &str),
    most: i64,
    faults: &mut Faults,
) {
    if number < least {
        faults.invalid(path, number, format!("must be greater than {than}"));
    }
    if number > most {
        faults.invalid(path, number, format!("must be less than or equal to {most}"));
    }
}

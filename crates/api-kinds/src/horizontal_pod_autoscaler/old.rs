//! `autoscaling/v1`: a target for CPU is a field there, all else stands in
//! annotations, as upstream writes them.

use api_schema::tree;
use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";

/// Annotations that are part of the desired state.
pub(super) const OF_SPEC: [&str; 2] = [METRICS, BEHAVIOR];
/// Annotations that are part of the status.
pub(super) const OF_STATUS: [&str; 2] = [CONDITIONS, CURRENT_METRICS];

const TARGET: &str = "targetCPUUtilizationPercentage";
const CURRENT: &str = "currentCPUUtilizationPercentage";

/// One kind of metric: its field, and (field in v1, path in v2) for each part.
type Parts = (&'static str, &'static [(&'static str, &'static str)]);

const WANTED: [Parts; 5] = [
    (
        "resource",
        &[
            ("name", "name"),
            ("targetAverageUtilization", "target.averageUtilization"),
            ("targetAverageValue", "target.averageValue"),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", "name"),
            ("container", "container"),
            ("targetAverageUtilization", "target.averageUtilization"),
            ("targetAverageValue", "target.averageValue"),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", "metric.name"),
            ("selector", "metric.selector"),
            ("targetAverageValue", "target.averageValue"),
        ],
    ),
    (
        "object",
        &[
            ("target", "describedObject"),
            ("metricName", "metric.name"),
            ("selector", "metric.selector"),
            ("targetValue", "target.value"),
            ("averageValue", "target.averageValue"),
        ],
    ),
    (
        "external",
        &[
            ("metricName", "metric.name"),
            ("metricSelector", "metric.selector"),
            ("targetValue", "target.value"),
            ("targetAverageValue", "target.averageValue"),
        ],
    ),
];

const MEASURED: [Parts; 5] = [
    (
        "resource",
        &[
            ("name", "name"),
            ("currentAverageUtilization", "current.averageUtilization"),
            ("currentAverageValue", "current.averageValue"),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", "name"),
            ("container", "container"),
            ("currentAverageUtilization", "current.averageUtilization"),
            ("currentAverageValue", "current.averageValue"),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", "metric.name"),
            ("selector", "metric.selector"),
            ("currentAverageValue", "current.averageValue"),
        ],
    ),
    (
        "object",
        &[
            ("target", "describedObject"),
            ("metricName", "metric.name"),
            ("selector", "metric.selector"),
            ("currentValue", "current.value"),
            ("averageValue", "current.averageValue"),
        ],
    ),
    (
        "external",
        &[
            ("metricName", "metric.name"),
            ("metricSelector", "metric.selector"),
            ("currentValue", "current.value"),
            ("currentAverageValue", "current.averageValue"),
        ],
    ),
];

/// The metric that v1 has a field for.
pub(super) fn cpu_utilization(percent: i64) -> Value {
    json!({
        "type": "Resource",
        "resource": {
            "name": "cpu",
            "target": { "type": "Utilization", "averageUtilization": percent },
        },
    })
}

/// Without any metric, CPU is looked at.
pub(super) fn default_target(scaler: &mut Value) {
    let annotated = tree::get(scaler, "metadata.annotations").get(METRICS).is_some();
    if !annotated {
        tree::set_if_unset(scaler, &format!("spec.{TARGET}"), 80);
    }
}

/// Takes annotations from another object, absent ones included: a write of one
/// half of the object leaves the annotations of the other half alone.
pub(super) fn keep_annotations(new: &mut Value, old: &Value, names: &[&str]) {
    for name in names {
        let kept = tree::get(old, "metadata.annotations").get(name).cloned();
        match kept {
            Some(kept) => {
                tree::as_map(tree::slot(new, "metadata.annotations")).insert((*name).into(), kept);
            }
            None => drop(take_annotation(new, name)),
        }
    }
}

/// From v1 to v2. Annotations that cannot be read are dropped, as upstream does.
pub(super) fn to_stored(mut scaler: Value) -> Value {
    tree::set(&mut scaler, "apiVersion", "autoscaling/v2");
    let mut read = |name| -> Option<Value> {
        serde_json::from_str(take_annotation(&mut scaler, name)?.as_str()?).ok()
    };
    let metrics = read(METRICS);
    let behavior = read(BEHAVIOR);
    let conditions = read(CONDITIONS);
    let measured = read(CURRENT_METRICS);
    let mut metrics = newer(metrics.unwrap_or_default(), &WANTED);
    let target = tree::remove(&mut scaler, &format!("spec.{TARGET}"));
    metrics.extend(target.and_then(|percent| percent.as_i64()).map(cpu_utilization));
    if !metrics.is_empty() {
        tree::set(&mut scaler, "spec.metrics", metrics);
    }
    if let Some(behavior) = behavior.filter(Value::is_object) {
        tree::set(
            &mut scaler,
            "spec.behavior",
            with_first_letters(behavior, char::to_ascii_lowercase),
        );
    }
    let current = tree::remove(&mut scaler, &format!("status.{CURRENT}"));
    let mut measured = newer(measured.unwrap_or_default(), &MEASURED);
    if measured.is_empty() {
        measured.extend(current.map(|percent| {
            json!({
                "type": "Resource",
                "resource": { "name": "cpu", "current": { "averageUtilization": percent } },
            })
        }));
    }
    if tree::get(&scaler, "status").is_object() {
        let measured = if measured.is_empty() { Value::Null } else { measured.into() };
        tree::set(&mut scaler, "status.currentMetrics", measured);
        if let Some(conditions) = conditions.filter(Value::is_array) {
            tree::set(&mut scaler, "status.conditions", conditions);
        }
    }
    scaler
}

/// From v2 to v1.
pub(super) fn from_stored(mut scaler: Value) -> Value {
    tree::set(&mut scaler, "apiVersion", "autoscaling/v1");
    let mut annotations: Vec<(&str, Value)> = Vec::new();
    let mut metrics = take_list(&mut scaler, "spec.metrics");
    let cpu = metrics.iter().position(|metric| cpu_percent(metric, "target").is_some());
    if let Some(percent) = cpu.and_then(|at| cpu_percent(&metrics.remove(at), "target")) {
        tree::set(&mut scaler, &format!("spec.{TARGET}"), percent);
    }
    if !metrics.is_empty() {
        annotations.push((METRICS, older(metrics, &WANTED).into()));
    }
    if let Some(behavior) = tree::remove(&mut scaler, "spec.behavior").filter(Value::is_object) {
        let all = complete_behavior(behavior);
        annotations.push((BEHAVIOR, with_first_letters(all, char::to_ascii_uppercase)));
    }
    let measured = take_list(&mut scaler, "status.currentMetrics");
    let current = measured.iter().find_map(|metric| cpu_percent(metric, "current"));
    if let Some(percent) = current {
        tree::set(&mut scaler, &format!("status.{CURRENT}"), percent);
    }
    if !measured.is_empty() {
        annotations.push((CURRENT_METRICS, older(measured, &MEASURED).into()));
    }
    let conditions = take_list(&mut scaler, "status.conditions");
    if !conditions.is_empty() {
        annotations.push((CONDITIONS, conditions.into()));
    }
    if let Some(status) = tree::at_mut(&mut scaler, "status").filter(|status| status.is_object()) {
        tree::set_if_unset(status, "currentReplicas", 0);
    }
    for (name, value) in annotations {
        tree::as_map(tree::slot(&mut scaler, "metadata.annotations"))
            .insert(name.into(), value.to_string().into());
    }
    scaler
}

fn take_annotation(scaler: &mut Value, name: &str) -> Option<Value> {
    let annotations = tree::at_mut(scaler, "metadata.annotations")?.as_object_mut()?;
    let taken = annotations.remove(name);
    if annotations.is_empty() {
        tree::remove(scaler, "metadata.annotations");
    }
    taken
}

fn take_list(scaler: &mut Value, path: &str) -> Vec<Value> {
    match tree::remove(scaler, path) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

fn cpu_percent(metric: &Value, part: &str) -> Option<i64> {
    let resource = tree::get(metric, "resource");
    let percent = tree::int(tree::get(resource, part), "averageUtilization")?;
    (tree::text(metric, "type") == "Resource" && tree::text(resource, "name") == "cpu")
        .then_some(percent)
}

/// Metrics of v1 as v2 has them.
fn newer(metrics: Value, table: &[Parts; 5]) -> Vec<Value> {
    let Value::Array(metrics) = metrics else { return Vec::new() };
    let convert = |metric: Value| {
        let mut out = json!({ "type": tree::get(&metric, "type") });
        for (kind, parts) in table {
            let Some(source) = metric.get(kind).filter(|source| source.is_object()) else {
                continue;
            };
            let mut made = json!({});
            for (old, new) in *parts {
                if let Some(value) = source.get(old).filter(|value| !value.is_null()) {
                    tree::set(&mut made, new, value.clone());
                }
            }
            target_type(kind, &mut made);
            tree::set(&mut out, kind, made);
        }
        out
    };
    metrics.into_iter().map(convert).collect()
}

/// v2 says which of its fields is the target; v1 always wrote a value beside an
/// object's average, which then means nothing.
fn target_type(kind: &str, metric: &mut Value) {
    let Some(target) = metric.get_mut("target").filter(|target| target.is_object()) else { return };
    if kind == "object" && target.get("averageValue").is_some() {
        tree::remove(target, "value");
    }
    let which = match () {
        () if target.get("averageUtilization").is_some() => "Utilization",
        () if target.get("value").is_some() => "Value",
        () => "AverageValue",
    };
    tree::set(target, "type", which);
}

/// Metrics of v2 as v1 has them.
fn older(metrics: Vec<Value>, table: &[Parts; 5]) -> Vec<Value> {
    let convert = |metric: Value| {
        let mut out = json!({ "type": tree::get(&metric, "type") });
        for (kind, parts) in table {
            let Some(source) = metric.get(kind).filter(|source| source.is_object()) else {
                continue;
            };
            let mut made = json!({});
            for (old, new) in *parts {
                match tree::get(source, new) {
                    Value::Null
                        if *kind == "object"
                            && old.ends_with("Value")
                            && *old != "averageValue" =>
                    {
                        tree::set(&mut made, old, "0");
                    }
                    Value::Null => {}
                    value => tree::set(&mut made, old, value.clone()),
                }
            }
            tree::set(&mut out, kind, made);
        }
        out
    };
    metrics.into_iter().map(convert).collect()
}

/// Every field of a behavior, null where it is not set: the annotation holds
/// upstream's internal form, which has them all.
fn complete_behavior(mut behavior: Value) -> Value {
    for direction in ["scaleUp", "scaleDown"] {
        let rules = tree::slot(&mut behavior, direction);
        if rules.is_object() {
            for field in ["stabilizationWindowSeconds", "selectPolicy", "policies", "tolerance"] {
                tree::slot(rules, field);
            }
        }
    }
    behavior
}

/// The internal form has the same fields with other first letters. Null is
/// nothing, on the way back.
fn with_first_letters(value: Value, letter: fn(&char) -> char) -> Value {
    match value {
        Value::Object(map) => {
            let entries = map.into_iter().filter(|(key, value)| {
                !(value.is_null() && key.starts_with(|c: char| c.is_ascii_uppercase()))
            });
            let renamed = entries.map(|(key, value)| {
                let mut chars = key.chars();
                let first = chars.next().map(|first| letter(&first));
                let key: String = first.into_iter().chain(chars).collect();
                (key, with_first_letters(value, letter))
            });
            Value::Object(renamed.collect::<Map<_, _>>())
        }
        Value::Array(list) => {
            list.into_iter().map(|value| with_first_letters(value, letter)).collect()
        }
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2() -> Value {
        json!({
            "apiVersion": "autoscaling/v2",
            "metadata": { "name": "a", "annotations": { "mine": "kept" } },
            "spec": {
                "maxReplicas": 3,
                "metrics": [
                    { "type": "Resource", "resource": { "name": "memory", "target": {
                        "type": "AverageValue", "averageValue": "1Gi",
                    } } },
                    { "type": "ContainerResource", "containerResource": {
                        "name": "cpu", "container": "c",
                        "target": { "type": "Utilization", "averageUtilization": 40 },
                    } },
                    { "type": "Pods", "pods": {
                        "metric": { "name": "m", "selector": { "matchLabels": { "a": "b" } } },
                        "target": { "type": "AverageValue", "averageValue": "5" },
                    } },
                    { "type": "Object", "object": {
                        "describedObject": { "kind": "Service", "name": "s" },
                        "metric": { "name": "hits" },
                        "target": { "type": "Value", "value": "10" },
                    } },
                    { "type": "Object", "object": {
                        "describedObject": { "kind": "Service", "name": "s" },
                        "metric": { "name": "hits" },
                        "target": { "type": "AverageValue", "averageValue": "10" },
                    } },
                    { "type": "External", "external": {
                        "metric": { "name": "queue" }, "target": { "type": "Value", "value": "7" },
                    } },
                    cpu_utilization(50),
                ],
                "behavior": { "scaleUp": {
                    "stabilizationWindowSeconds": 0, "selectPolicy": "Max",
                    "policies": [{ "type": "Pods", "value": 4, "periodSeconds": 15 }],
                } },
            },
            "status": {
                "currentReplicas": 1,
                "desiredReplicas": 2,
                "conditions": [{ "type": "AbleToScale", "status": "True" }],
                "currentMetrics": [
                    { "type": "Resource", "resource": { "name": "cpu", "current": {
                        "averageUtilization": 30, "averageValue": "3m",
                    } } },
                    { "type": "External", "external": {
                        "metric": { "name": "queue" }, "current": { "value": "3" },
                    } },
                ],
            },
        })
    }

    #[test]
    fn nothing_is_lost_on_the_way_through_v1() {
        let old = from_stored(v2());
        assert_eq!(old["spec"], json!({ "maxReplicas": 3, "targetCPUUtilizationPercentage": 50 }));
        assert_eq!(
            old["status"],
            json!({ "currentReplicas": 1, "desiredReplicas": 2, "currentCPUUtilizationPercentage": 30 })
        );
        let annotations = &old["metadata"]["annotations"];
        assert_eq!(annotations["mine"], "kept");
        let behavior: Value =
            serde_json::from_str(annotations[BEHAVIOR].as_str().expect("text")).expect("JSON");
        assert_eq!(
            behavior,
            json!({
                "ScaleUp": {
                    "StabilizationWindowSeconds": 0, "SelectPolicy": "Max", "Tolerance": null,
                    "Policies": [{ "Type": "Pods", "Value": 4, "PeriodSeconds": 15 }],
                },
                "ScaleDown": null,
            })
        );
        let metrics: Value =
            serde_json::from_str(annotations[METRICS].as_str().expect("text")).expect("JSON");
        assert_eq!(
            metrics[0],
            json!({ "type": "Resource", "resource": { "name": "memory", "targetAverageValue": "1Gi" } })
        );
        assert_eq!(
            metrics[4]["object"],
            json!({
                "target": { "kind": "Service", "name": "s" },
                "metricName": "hits", "targetValue": "0", "averageValue": "10",
            })
        );
        assert_eq!(to_stored(old), v2());
    }

    #[test]
    fn annotations_that_are_no_json_are_dropped() {
        let broken = json!({
            "apiVersion": "autoscaling/v1",
            "metadata": { "annotations": { METRICS: "{", BEHAVIOR: "[]" } },
            "spec": { "targetCPUUtilizationPercentage": 60 },
        });
        assert_eq!(
            to_stored(broken),
            json!({
                "apiVersion": "autoscaling/v2",
                "metadata": {},
                "spec": { "metrics": [cpu_utilization(60)] },
            })
        );
    }
}

//! One pod of a StatefulSet: its ordinal, its identity, how it is.

use std::ops::Range;

use client::Cached;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{claims, view::View};
use crate::{
    cached::{Pod, StatefulSetSpec},
    owner,
    revisions::POD_LABEL,
};

const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The ordinal in a pod's name; none where it is no name of this set's pods.
pub(super) fn ordinal(set: &str, pod: &str) -> Option<i64> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    let ordinal: i32 = digits.parse().ok()?;
    // `web-007` and `web-+7` are other names.
    (ordinal.to_string() == digits).then_some(i64::from(ordinal))
}

/// The ordinals that are wanted.
pub(super) fn range(spec: &StatefulSetSpec) -> Range<i64> {
    let start = i64::from(spec.ordinals.start.max(0));
    start..start + i64::from(spec.replicas.unwrap_or(1).max(0))
}

pub(super) fn name(set: &str, ordinal: i64) -> String {
    format!("{set}-{ordinal}")
}

/// Which revision it is of.
pub(super) fn revision(pod: &Cached<Pod>) -> &str {
    pod.meta.labels.get(POD_LABEL).map_or("", String::as_str)
}

pub(super) fn is_ready(pod: &Cached<Pod>) -> bool {
    pod.view.status.phase == "Running" && pod.view.ready().is_some()
}

pub(super) fn is_available(pod: &Cached<Pod>, min_ready_seconds: i32, now: Timestamp) -> bool {
    is_ready(pod) && pod.view.is_available(min_ready_seconds, now)
}

fn identity(set: &str, ordinal: i64) -> [(&'static str, String); 2] {
    [(NAME_LABEL, name(set, ordinal)), (INDEX_LABEL, ordinal.to_string())]
}

/// The labels that a pod of this ordinal lacks: one that was adopted.
pub(super) fn missing_labels(set: &str, ordinal: i64, pod: &Cached<Pod>) -> Option<Value> {
    let missing = identity(set, ordinal)
        .into_iter()
        .filter(|(key, value)| pod.meta.labels.get(*key) != Some(value))
        .map(|(key, value)| (key.to_owned(), json!(value)));
    let missing: serde_json::Map<String, Value> = missing.collect();
    (!missing.is_empty()).then_some(Value::Object(missing))
}

/// The pod of an ordinal, from a revision's template.
pub(super) fn body(view: &View, ordinal: i64, template: &Value, revision: &str) -> Value {
    let set = &view.set;
    let mut pod = owner::pod_from_template("apps/v1", "StatefulSet", &set.meta, template);
    let name = name(&set.meta.name, ordinal);
    pod["metadata"]["name"] = json!(name);
    for (key, value) in identity(&set.meta.name, ordinal) {
        pod["metadata"]["labels"][key] = json!(value);
    }
    pod["metadata"]["labels"][POD_LABEL] = json!(revision);
    pod["spec"]["hostname"] = json!(name);
    if !set.view.spec.service_name.is_empty() {
        pod["spec"]["subdomain"] = json!(set.view.spec.service_name);
    }
    if !view.claim_templates.is_empty() {
        let mut volumes: Vec<Value> = view
            .claim_templates
            .iter()
            .map(|claim| {
                let claim_name = claims::name(&set.meta, claim, ordinal);
                json!({
                    "name": claim["metadata"]["name"],
                    "persistentVolumeClaim": {"claimName": claim_name},
                })
            })
            .collect();
        let of_template = pod["spec"]["volumes"].as_array().into_iter().flatten();
        let is_claimed = |volume: &Value| volumes.iter().any(|v| v["name"] == volume["name"]);
        let others: Vec<Value> = of_template.filter(|v| !is_claimed(v)).cloned().collect();
        volumes.extend(others);
        pod["spec"]["volumes"] = Value::Array(volumes);
    }
    pod
}

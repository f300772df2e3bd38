//! A node's own Node: no taints, owners or labels that steer workloads.

use api_registry::Attributes;
use api_schema::tree;
use serde_json::Value;

use super::{Refusal, named};
use crate::Access;

pub(super) fn whole(_: &Access, node: &str, attributes: &Attributes) -> Result<(), Refusal> {
    let name = named(attributes);
    if name != node {
        return Err(format!("node {node:?} is not allowed to modify node {name:?}").into());
    }
    let Some(new) = &attributes.object else { return Ok(()) };
    let config = tree::get(new, "spec.configSource");
    let Some(old) = &attributes.old_object else {
        // What it names, the node could read.
        if !config.is_null() {
            let why = "is not allowed to create pods with a non-nil configSource";
            return Err(format!("node {node:?} {why}").into());
        }
        let refused = forbidden_labels(new, None);
        return match refused.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "node {node:?} is not allowed to set the following labels: {}",
                refused.join(", ")
            )
            .into()),
        };
    };
    if !config.is_null() && config != tree::get(old, "spec.configSource") {
        let why = "is not allowed to update configSource to a new non-nil configSource";
        return Err(format!("node {node:?} {why}").into());
    }
    if tree::list(new, "spec.taints") != tree::list(old, "spec.taints") {
        return Err(format!("node {node:?} is not allowed to modify taints").into());
    }
    if tree::list(new, "metadata.ownerReferences") != tree::list(old, "metadata.ownerReferences") {
        return Err(format!("node {node:?} is not allowed to modify ownerReferences").into());
    }
    let refused = forbidden_labels(new, Some(old));
    match refused.is_empty() {
        true => Ok(()),
        false => Err(format!("is not allowed to modify labels: {}", refused.join(", ")).into()),
    }
}

/// Labels of Kubernetes' own domains that a node may give itself.
const OWN_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];

/// Whether workloads may be steered by a label, so that a node must not set it.
fn restricted(label: &str) -> bool {
    let Some((domain, _)) = label.split_once('/') else { return false };
    let under = |suffix: &str| {
        domain == suffix || domain.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'))
    };
    if under("node-restriction.kubernetes.io") {
        return true;
    }
    (under("kubernetes.io") || under("k8s.io"))
        && !OWN_LABELS.contains(&label)
        && !under("kubelet.kubernetes.io")
        && !under("node.kubernetes.io")
}

/// The restricted labels that differ, sorted.
fn forbidden_labels(new: &Value, old: Option<&Value>) -> Vec<String> {
    let value_in = |object: Option<&Value>, label: &str| {
        object.and_then(|object| tree::get(object, "metadata.labels").get(label).cloned())
    };
    let mut labels: Vec<String> = tree::entries(new, "metadata.labels")
        .map(|(label, _)| label)
        .chain(
            old.into_iter()
                .flat_map(|old| tree::entries(old, "metadata.labels").map(|(label, _)| label)),
        )
        .filter(|label| restricted(label) && value_in(Some(new), label) != value_in(old, label))
        .cloned()
        .collect();
    labels.sort();
    labels.dedup();
    labels
}

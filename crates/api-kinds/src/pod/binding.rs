//! `pods/binding`: the scheduler's word on where a pod runs.

use api_object::{GroupVersionResource, Status, time};
use api_schema::{Faults, Path, tree};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Puts the target of a Binding into a pod.
///
/// # Errors
/// 422 for a binding without a node, 409 for a pod that has one or is going.
pub(super) fn bind(pod: &mut Value, binding: &Value, now: Timestamp) -> Result<(), Status> {
    let name = tree::text(pod, "metadata.name").to_owned();
    let mut faults = Faults::default();
    let (kind, node) = (tree::text(binding, "target.kind"), tree::text(binding, "target.name"));
    if !matches!(kind, "" | "Node") {
        faults.unsupported(&Path::new("target.kind"), kind, ["Node", "<empty>"]);
    }
    if node.is_empty() {
        faults.required(&Path::new("target.name"), "");
    }
    if !faults.is_empty() {
        return Err(Status::invalid("", "Binding", &name, faults.into_causes()));
    }
    let resource = GroupVersionResource::new("", "v1", "pods/binding");
    let conflict = |why: &str| Err(Status::conflict(&resource, &name, why));
    let wanted = tree::text(binding, "metadata.uid");
    let uid = tree::text(pod, "metadata.uid");
    if !wanted.is_empty() && wanted != uid {
        return conflict(&format!(
            "Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"
        ));
    }
    if !tree::get(pod, "metadata.deletionTimestamp").is_null() {
        return conflict(&format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let current = tree::text(pod, "spec.nodeName");
    if !current.is_empty() {
        return conflict(&format!("pod {name} is already assigned to node {current:?}"));
    }
    if !tree::list(pod, "spec.schedulingGates").is_empty() {
        return conflict(&format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    tree::set(pod, "spec.nodeName", node);
    for (key, value) in tree::entries(binding, "metadata.annotations") {
        tree::as_map(tree::slot(pod, "metadata.annotations")).insert(key.clone(), value.clone());
    }
    // What it waited for has come (KEP-5278).
    tree::as_map(tree::slot(pod, "status")).remove("nominatedNodeName");
    let condition = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastTransitionTime": time::format_seconds(now),
    });
    let slot = tree::slot(pod, "status.conditions");
    let mut conditions = slot.as_array().cloned().unwrap_or_default();
    conditions.retain(|condition| tree::text(condition, "type") != "PodScheduled");
    conditions.push(condition);
    *slot = conditions.into();
    Ok(())
}

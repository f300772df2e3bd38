//! Owner references: who controls what, and how it is claimed and let go.

use std::collections::BTreeMap;

use api_object::{LabelSelector, Meta, OwnerReference};
use client::{Error, WorkQueue};
use serde_json::{Value, json};

/// The reference of a controller to be put on what it makes.
pub(crate) fn reference(api_version: &str, kind: &str, owner: &Meta) -> OwnerReference {
    OwnerReference {
        api_version: api_version.into(),
        kind: kind.into(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The merge patch by which `owner` takes an object without a controller. It
/// names the version it saw, since it replaces the list of references.
pub(crate) fn adopt(api_version: &str, kind: &str, owner: &Meta, object: &Meta) -> Value {
    let mut references = object.owner_references.clone();
    references.retain(|reference| reference.uid != owner.uid);
    references.push(reference(api_version, kind, owner));
    json!({"metadata": {
        "uid": object.uid,
        "resourceVersion": object.resource_version,
        "ownerReferences": references,
    }})
}

/// The merge patch by which an owner lets an object go.
pub(crate) fn release(owner_uid: &str, object: &Meta) -> Value {
    let mut references = object.owner_references.clone();
    references.retain(|reference| reference.uid != owner_uid);
    json!({"metadata": {
        "uid": object.uid,
        "resourceVersion": object.resource_version,
        "ownerReferences": match references.is_empty() {
            true => Value::Null,
            false => json!(references),
        },
    }})
}

/// Queues an object's controller, if that is of the kind.
pub(crate) fn queue_controller(queue: &WorkQueue<String>, kind: &str, object: &Meta) {
    if let Some(owner) = object.controller().filter(|owner| owner.kind == kind) {
        queue.add(format!("{}/{}", object.namespace, owner.name));
    }
}

/// Whether `{matchLabels, matchExpressions}` selects the labels. An empty or
/// unreadable selector selects nothing here: controllers never claim by one.
pub(crate) fn selects(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    LabelSelector::from_object(selector)
        .is_ok_and(|selector| !selector.is_empty() && selector.matches(labels))
}

/// A pod to be created from a template, named after its owner.
pub(crate) fn pod_from_template(
    api_version: &str,
    kind: &str,
    owner: &Meta,
    template: &Value,
) -> Value {
    let mut metadata = json!({
        "generateName": format!("{}-", owner.name),
        "namespace": owner.namespace,
        "ownerReferences": [reference(api_version, kind, owner)],
    });
    for field in ["labels", "annotations", "finalizers"] {
        if !template["metadata"][field].is_null() {
            metadata[field] = template["metadata"][field].clone();
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
}

/// Whether a create failed because its namespace is being deleted: there is
/// nothing to be retried and nobody to be told.
pub(crate) fn namespace_terminates(error: &Error) -> bool {
    match error {
        Error::Status(status) => status.details.as_ref().is_some_and(|details| {
            details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
        }),
        _ => false,
    }
}

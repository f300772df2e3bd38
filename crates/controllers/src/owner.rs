//! Owner references: who controls what, and how it is claimed and let go.

use std::{collections::BTreeMap, sync::Arc};

use api_object::{LabelSelector, Meta, OwnerReference};
use client::{Cached, Error, Informer, View, WorkQueue};
use serde_json::{Value, json};

use crate::cached::BY_CONTROLLER;

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

/// Whose is whose, for an owner with a selector.
#[derive(Debug)]
pub(crate) struct Claim<V> {
    /// What it controls, and what it is going to adopt.
    pub(crate) own: Vec<Arc<Cached<V>>>,
    /// What matches and has no controller.
    pub(crate) adopt: Vec<Arc<Cached<V>>>,
    /// What it controls though it no longer matches.
    pub(crate) release: Vec<Arc<Cached<V>>>,
}

impl<V> Default for Claim<V> {
    fn default() -> Self {
        Self { own: Vec::new(), adopt: Vec::new(), release: Vec::new() }
    }
}

/// Sorts out `all`: what an owner controls, and what has no controller.
/// `may_adopt` narrows what is taken beyond matching.
pub(crate) fn claim<V>(
    owner: &Meta,
    selector: &LabelSelector,
    all: &[Arc<Cached<V>>],
    may_adopt: impl Fn(&Cached<V>) -> bool,
) -> Claim<V> {
    let mut claim = Claim::default();
    for object in all {
        let controller = object.meta.controller();
        let is_own = controller.is_some_and(|controller| controller.uid == owner.uid);
        match (is_own, selector.matches(&object.meta.labels)) {
            (true, true) => claim.own.push(object.clone()),
            (true, false) if object.meta.deletion_timestamp.is_none() => {
                claim.release.push(object.clone());
            }
            (false, true)
                if controller.is_none()
                    && owner.deletion_timestamp.is_none()
                    && object.meta.deletion_timestamp.is_none()
                    && may_adopt(object) =>
            {
                claim.adopt.push(object.clone());
                claim.own.push(object.clone());
            }
            _ => {}
        }
    }
    claim
}

/// What is of an owner, and what in its namespace has no controller: all that
/// [`claim`] looks at. The informer has the index [`BY_CONTROLLER`].
pub(crate) fn claimable<V: View>(owner: &Meta, informer: &Informer<V>) -> Vec<Arc<Cached<V>>> {
    let mut all = informer.by_index(BY_CONTROLLER, &owner.uid);
    let orphans = informer.by_index(BY_CONTROLLER, "");
    all.extend(orphans.into_iter().filter(|object| object.meta.namespace == owner.namespace));
    all
}

/// Queues an object's controller, if that is of the kind.
pub(crate) fn queue_controller(queue: &WorkQueue<String>, kind: &str, object: &Meta) {
    if let Some(owner) = object.controller().filter(|owner| owner.kind == kind) {
        queue.add(format!("{}/{}", object.namespace, owner.name));
    }
}

/// Queues whom each change concerns: those of the kind that controlled the object before
/// or do now, and, where nobody does, all that select it and may adopt it.
pub(crate) fn follow<V: View, O: View>(
    objects: &Informer<V>,
    queue: &Arc<WorkQueue<String>>,
    kind: &'static str,
    owners: &Informer<O>,
    selector: fn(&O) -> &Value,
) {
    let (keys, owners) = (queue.clone(), owners.clone());
    objects.on_change(move |change| {
        for object in change.sides() {
            queue_controller(&keys, kind, &object.meta);
        }
        let orphan = change.new.as_ref().filter(|object| object.meta.controller().is_none());
        let Some(orphan) = orphan else { return };
        for owner in owners.list_namespace(&orphan.meta.namespace) {
            if selects(selector(&owner.view), &orphan.meta.labels) {
                keys.add(owner.key());
            }
        }
    });
}

/// Whether `{matchLabels, matchExpressions}` selects the labels. An empty or
/// unreadable selector selects nothing here: controllers never claim by one.
pub(crate) fn selects(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    LabelSelector::from_object(selector)
        .is_ok_and(|selector| !selector.is_empty() && selector.matches(labels))
}

/// The labels of a template.
pub(crate) fn labels(template: &Value) -> BTreeMap<String, String> {
    let labels = template["metadata"]["labels"].as_object().into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
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

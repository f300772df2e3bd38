//! The storage of a StatefulSet's pods: which claims there are to be, and whom
//! they go with (`persistentVolumeClaimRetentionPolicy`, KEP-1847).

use api_object::{Meta, OwnerReference};
use client::{Cached, MetaOnly};
use serde_json::{Map, Value, json};

use super::view::View;
use crate::{cached::Pod, owner};

/// `data-web-0`
pub(super) fn name(set: &Meta, template: &Value, ordinal: i64) -> String {
    let template = template["metadata"]["name"].as_str().unwrap_or_default();
    format!("{template}-{}-{ordinal}", set.name)
}

/// The claims that a pod of this ordinal lacks.
pub(super) fn missing(view: &View, ordinal: i64) -> Vec<Value> {
    let set = &view.set.meta;
    let templates = view.claim_templates.iter();
    let missing = templates.filter(|t| !view.claims.contains_key(&name(set, t, ordinal)));
    missing.map(|template| body(view, template, ordinal)).collect()
}

fn body(view: &View, template: &Value, ordinal: i64) -> Value {
    let set = &view.set;
    let mut labels = template["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    if let Some(selected) = set.view.spec.selector["matchLabels"].as_object() {
        labels.extend(selected.clone());
    }
    let mut metadata = Map::new();
    metadata.insert("name".into(), json!(name(&set.meta, template, ordinal)));
    metadata.insert("namespace".into(), json!(set.meta.namespace));
    metadata.insert("labels".into(), Value::Object(labels));
    if template["metadata"]["annotations"].is_object() {
        metadata.insert("annotations".into(), template["metadata"]["annotations"].clone());
    }
    let owners = owners(view, None);
    if !owners.is_empty() {
        metadata.insert("ownerReferences".into(), json!(owners));
    }
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": template["spec"],
    })
}

/// Whether a claim of this ordinal is about to go with a former pod: a new pod
/// has to wait until it is gone.
pub(super) fn is_stale(view: &View, ordinal: i64) -> bool {
    let set = &view.set.meta;
    let pod = super::pod::name(&set.name, ordinal);
    view.claim_templates.iter().any(|template| {
        view.claims.get(&name(set, template, ordinal)).is_some_and(|claim| {
            claim.meta.deletion_timestamp.is_some()
                || claim.meta.owner_references.iter().any(|owner| is_pod(owner, &pod))
        })
    })
}

fn is_pod(owner: &OwnerReference, pod: &str) -> bool {
    owner.kind == "Pod" && owner.api_version == "v1" && owner.name == pod
}

/// Whom the policy makes a claim's owner: the set, or a pod that is to go.
fn owners(view: &View, condemned: Option<&Meta>) -> Vec<OwnerReference> {
    let policy = &view.set.view.spec.persistent_volume_claim_retention_policy;
    let (scaled, deleted) = (policy.when_scaled == "Delete", policy.when_deleted == "Delete");
    match condemned {
        Some(pod) if scaled => vec![owner::reference("v1", "Pod", pod)],
        _ if deleted => vec![owner::reference("apps/v1", "StatefulSet", &view.set.meta)],
        _ => Vec::new(),
    }
}

/// New owner references of a claim.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Owned {
    pub(super) claim: String,
    pub(super) uid: String,
    pub(super) owners: Vec<OwnerReference>,
}

/// The claims of a pod whose owners are not those that the policy wants. A
/// claim that somebody else controls is left alone.
pub(super) fn wrongly_owned(
    view: &View,
    ordinal: i64,
    pod: &Cached<Pod>,
    is_condemned: bool,
) -> Vec<Owned> {
    let set = &view.set.meta;
    let is_ours = |owner: &OwnerReference| owner.uid == set.uid || is_pod(owner, &pod.meta.name);
    let change = |claim: &Cached<MetaOnly>| {
        if claim.meta.deletion_timestamp.is_some()
            || claim.meta.controller().is_some_and(|controller| !is_ours(controller))
        {
            return None;
        }
        let wanted = owners(view, is_condemned.then_some(&pod.meta));
        let present = &claim.meta.owner_references;
        let is_right = wanted.iter().all(|wanted| present.iter().any(|o| o.uid == wanted.uid))
            && present.iter().filter(|o| is_ours(o)).all(|o| wanted.iter().any(|w| w.uid == o.uid));
        if is_right {
            return None;
        }
        let mut owners: Vec<_> = present.iter().filter(|owner| !is_ours(owner)).cloned().collect();
        owners.extend(wanted);
        let (claim, uid) = (claim.meta.name.clone(), claim.meta.uid.clone());
        Some(Owned { claim, uid, owners })
    };
    let templates = view.claim_templates.iter();
    let claims = templates.filter_map(|t| view.claims.get(&name(set, t, ordinal)));
    claims.filter_map(|claim| change(claim)).collect()
}

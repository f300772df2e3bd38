//! A node's pods: mirror pods that refer to nothing, and the status, end and
//! certificates of those that run on it.

use api_object::Status;
use api_registry::{Attributes, Operation};
use api_schema::tree;
use serde_json::Value;

use super::Refusal;
use crate::{
    Access,
    state::{MIRROR, NODES, PODS, Pod, State},
};

/// The pod itself: nodes create and delete it, and change it by its status.
pub(super) fn whole(access: &Access, node: &str, attributes: &Attributes) -> Result<(), Refusal> {
    match attributes.operation {
        Operation::Create => mirror(access, node, attributes),
        Operation::Delete => {
            match attributes.old_object.as_ref().map(|pod| tree::text(pod, "spec.nodeName")) {
                Some(of) if of == node => Ok(()),
                _ => Err(format!(
                    "node {node:?} can only delete pods with spec.nodeName set to itself"
                )
                .into()),
            }
        }
        operation => Err(format!(
            "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
            operation.as_str()
        )
        .into()),
    }
}

fn mirror(access: &Access, node: &str, attributes: &Attributes) -> Result<(), Refusal> {
    let Some(pod) = &attributes.object else { return Ok(()) };
    if tree::get(pod, "metadata.annotations").get(MIRROR).is_none() {
        return Err(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        )
        .into());
    }
    if tree::text(pod, "spec.nodeName") != node {
        let why = "can only create pods with spec.nodeName set to itself";
        return Err(format!("node {node:?} {why}").into());
    }
    owner(access, node, pod)?;
    match references(pod) {
        None => Ok(()),
        Some(what) => {
            Err(format!("node {node:?} can not create pods that reference {what}").into())
        }
    }
}

/// A mirror pod goes with the Node that made it.
fn owner(access: &Access, node: &str, pod: &Value) -> Result<(), Refusal> {
    let [owner] = tree::list(pod, "metadata.ownerReferences") else {
        let how = match tree::list(pod, "metadata.ownerReferences").is_empty() {
            true => "an owner reference",
            false => "a single owner reference",
        };
        return Err(format!("node {node:?} can only create pods with {how} set to itself").into());
    };
    let text = |path| tree::text(owner, path);
    if (text("apiVersion"), text("kind"), text("name")) != ("v1", "Node", node) {
        let why = "can only create pods with an owner reference set to itself";
        return Err(format!("node {node:?} {why}").into());
    }
    if tree::get(owner, "controller").as_bool() != Some(true) {
        let why = "can only create pods with a controller owner reference set to itself";
        return Err(format!("node {node:?} {why}").into());
    }
    if tree::get(owner, "blockOwnerDeletion").as_bool() == Some(true) {
        let why = "must not set blockOwnerDeletion on an owner reference";
        return Err(format!("node {node:?} {why}").into());
    }
    let state = access.state();
    let Some(known) = state.nodes.get(node) else {
        return Err(Refusal::Missing(Status::not_found(&NODES.gvr(), node)));
    };
    match text("uid") == known.uid {
        true => Ok(()),
        false => {
            Err(format!("node {node} UID mismatch: expected {} got {}", text("uid"), known.uid)
                .into())
        }
    }
}

/// What a pod refers to that its node could then read.
fn references(pod: &Value) -> Option<&'static str> {
    // As the authorizer would see it, were it no mirror pod.
    let mut plain = pod.clone();
    tree::remove(&mut plain, "metadata.annotations");
    let meta = api_object::Meta::default();
    let seen = Pod::of(&meta, &plain);
    let trusts = tree::list(pod, "spec.volumes").iter().any(|volume| {
        let sources = tree::list(volume, "projected.sources").iter();
        let mut kinds = sources.map(|source| tree::get(source, "clusterTrustBundle"));
        kinds.any(|bundle| !bundle.is_null())
    });
    [
        (!seen.account.is_empty(), "a service account"),
        (!seen.secrets.is_empty(), "secrets"),
        (!seen.config_maps.is_empty(), "configmaps"),
        (trusts, "clustertrustbundles"),
        (!seen.claims.is_empty(), "persistentvolumeclaims"),
        (!tree::list(pod, "spec.resourceClaims").is_empty(), "resourceclaims"),
    ]
    .into_iter()
    .find_map(|(refers, what)| refers.then_some(what))
}

pub(super) fn status(_: &Access, node: &str, attributes: &Attributes) -> Result<(), Refusal> {
    let (Some(new), Some(old)) = (&attributes.object, &attributes.old_object) else {
        return Ok(());
    };
    if tree::text(old, "spec.nodeName") != node {
        return Err(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        )
        .into());
    }
    if tree::get(new, "metadata.labels") != tree::get(old, "metadata.labels") {
        return Err(format!("node {node:?} cannot update labels through pod status").into());
    }
    let claims = |pod: &Value| -> Vec<(String, Option<String>)> {
        let statuses = tree::list(pod, "status.resourceClaimStatuses").iter();
        let claim = |status: &Value| {
            let claim = status.get("resourceClaimName").and_then(Value::as_str);
            (tree::text(status, "name").to_owned(), claim.map(str::to_owned))
        };
        statuses.map(claim).collect()
    };
    let extended = "status.extendedResourceClaimStatus";
    if claims(new) != claims(old) || tree::get(new, extended) != tree::get(old, extended) {
        return Err(format!("node {node:?} cannot update resource claim statuses").into());
    }
    Ok(())
}

pub(super) fn eviction(
    access: &Access,
    node: &str,
    attributes: &Attributes,
) -> Result<(), Refusal> {
    let state = access.state();
    let pod = known(&state, &attributes.namespace, super::named(attributes))?;
    match pod.node == node {
        true => Ok(()),
        false => {
            let why = "can only evict pods with spec.nodeName set to itself";
            Err(format!("node {node} {why}").into())
        }
    }
}

/// A pod as the watches told of it.
pub(super) fn known<'a>(state: &'a State, namespace: &str, name: &str) -> Result<&'a Pod, Refusal> {
    let missing = || Refusal::Missing(Status::not_found(&PODS.gvr(), name));
    state.pods.get(namespace, name).ok_or_else(missing)
}

/// A certificate for a pod that runs on the node, and for what that pod is.
pub(super) fn certificate_request(
    access: &Access,
    node: &str,
    attributes: &Attributes,
) -> Result<(), Refusal> {
    if attributes.operation != Operation::Create {
        return Err(format!("unexpected operation {}", attributes.operation.as_str()).into());
    }
    let Some(request) = &attributes.object else { return Ok(()) };
    let state = access.state();
    let text = |path: &str| tree::text(request, path);
    let pod = known(&state, &attributes.namespace, text("spec.podName"))?;
    let account = state.account(&attributes.namespace, &pod.account);
    let uid_of_node = state.nodes.get(node).map(|node| node.uid.as_str());
    let faults = [
        (text("spec.nodeName") == node, "spec.nodeName is not the requesting node"),
        (Some(text("spec.nodeUID")) == uid_of_node, "spec.nodeUID is not the requesting node's"),
        (pod.node == node, "the pod is not scheduled on the requesting node"),
        (!pod.mirror, "the pod is a mirror pod"),
        (text("spec.podUID") == pod.seen.uid, "spec.podUID is not the pod's"),
        (
            text("spec.serviceAccountName") == pod.account,
            "spec.serviceAccountName is not the pod's",
        ),
        (
            account.is_some_and(|account| account.seen.uid == text("spec.serviceAccountUID")),
            "spec.serviceAccountUID is not the pod's service account's",
        ),
    ];
    match faults.into_iter().find(|(holds, _)| !holds) {
        None => Ok(()),
        Some((_, why)) => Err(why.to_owned().into()),
    }
}

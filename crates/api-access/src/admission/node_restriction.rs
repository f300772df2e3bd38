//! What a node writes is about itself: its Node, its Lease, its pods and the
//! tokens of its pods (KEP-279).

use api_object::Status;
use api_registry::{Attributes, Operation};
use api_schema::tree;
use serde_json::Value;

use super::denied;
use crate::{Access, authorization::node};

pub(super) const LOOKS_AT: &[&str] = &[
    "pods",
    "pods/status",
    "pods/eviction",
    "nodes",
    "nodes/status",
    "serviceaccounts/token",
    "leases.coordination.k8s.io",
];

pub(super) async fn check(access: &Access, attributes: &mut Attributes) -> Result<(), Status> {
    let user = attributes.user.clone();
    let Some(name) = node::name(&user) else { return Ok(()) };
    let verdict = match (attributes.resource.resource.as_str(), attributes.subresource.as_str()) {
        ("pods", "") => pod(name, attributes),
        ("pods", "status") => pod_status(name, attributes),
        ("pods", _) => eviction(access, name, attributes),
        ("nodes", _) => own_node(name, attributes),
        ("serviceaccounts", _) => token(access, name, attributes),
        _ => lease(name, attributes),
    };
    verdict.map_err(|why| denied(attributes, &why))
}

fn pod(node: &str, attributes: &Attributes) -> Result<(), String> {
    match attributes.operation {
        Operation::Create => {
            let Some(pod) = &attributes.object else { return Ok(()) };
            const MIRROR: &str = "kubernetes.io/config.mirror";
            if tree::get(pod, "metadata.annotations").get(MIRROR).is_none() {
                return Err(format!(
                    "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
                ));
            }
            if tree::text(pod, "spec.nodeName") != node {
                return Err(format!(
                    "node {node:?} can only create pods with spec.nodeName set to itself"
                ));
            }
            if !tree::text(pod, "spec.serviceAccountName").is_empty() {
                return Err(format!(
                    "node {node:?} can not create pods that reference a service account"
                ));
            }
            let refers = tree::list(pod, "spec.volumes").iter().any(|volume| {
                ["secret", "configMap", "projected", "persistentVolumeClaim"]
                    .iter()
                    .any(|kind| !tree::get(volume, kind).is_null())
            });
            match refers {
                true => Err(format!(
                    "node {node:?} can not create pods that reference secrets, configmaps or volume claims"
                )),
                false => Ok(()),
            }
        }
        Operation::Delete => {
            match attributes.old_object.as_ref().map(|pod| tree::text(pod, "spec.nodeName")) {
                Some(of) if of == node => Ok(()),
                _ => Err(format!(
                    "node {node:?} can only delete pods with spec.nodeName set to itself"
                )),
            }
        }
        _ => Err(format!(
            "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
            attributes.operation.as_str()
        )),
    }
}

fn pod_status(node: &str, attributes: &Attributes) -> Result<(), String> {
    let (Some(new), Some(old)) = (&attributes.object, &attributes.old_object) else {
        return Ok(());
    };
    if tree::text(old, "spec.nodeName") != node {
        return Err(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    if tree::get(new, "metadata.labels") != tree::get(old, "metadata.labels") {
        return Err(format!("node {node:?} cannot update labels through pod status"));
    }
    Ok(())
}

fn eviction(access: &Access, node: &str, attributes: &Attributes) -> Result<(), String> {
    let state = access.state();
    match state.pods.get(&attributes.namespace, &attributes.name) {
        Some(pod) if pod.node == node => Ok(()),
        _ => Err(format!("node {node:?} can only evict pods with spec.nodeName set to itself")),
    }
}

fn own_node(node: &str, attributes: &Attributes) -> Result<(), String> {
    let named = attributes.object.as_ref().map_or("", |object| tree::text(object, "metadata.name"));
    let name = if attributes.name.is_empty() { named } else { &attributes.name };
    if name != node {
        return Err(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let Some(new) = &attributes.object else { return Ok(()) };
    let Some(old) = &attributes.old_object else {
        let refused = forbidden_labels(new, None);
        return match refused.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "node {node:?} is not allowed to set the following labels: {}",
                refused.join(", ")
            )),
        };
    };
    if tree::list(new, "spec.taints") != tree::list(old, "spec.taints") {
        return Err(format!("node {node:?} is not allowed to modify taints"));
    }
    if tree::list(new, "metadata.ownerReferences") != tree::list(old, "metadata.ownerReferences") {
        return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
    }
    let refused = forbidden_labels(new, Some(old));
    match refused.is_empty() {
        true => Ok(()),
        false => {
            Err(format!("node {node:?} is not allowed to modify labels: {}", refused.join(", ")))
        }
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

fn lease(node: &str, attributes: &Attributes) -> Result<(), String> {
    if attributes.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".into());
    }
    let named = attributes.object.as_ref().map_or("", |object| tree::text(object, "metadata.name"));
    let name = if attributes.name.is_empty() { named } else { &attributes.name };
    match name == node {
        true => Ok(()),
        false => Err("can only access node lease with the same name as the requesting node".into()),
    }
}

fn token(access: &Access, node: &str, attributes: &Attributes) -> Result<(), String> {
    let Some(request) = &attributes.object else { return Ok(()) };
    let bound = tree::get(request, "spec.boundObjectRef");
    if tree::text(bound, "apiVersion") != "v1"
        || tree::text(bound, "kind") != "Pod"
        || tree::text(bound, "name").is_empty()
    {
        return Err("node requested token not bound to a pod".into());
    }
    let uid = tree::text(bound, "uid");
    if uid.is_empty() {
        return Err("node requested token with a pod binding without a uid".into());
    }
    let state = access.state();
    let Some(pod) = state.pods.get(&attributes.namespace, tree::text(bound, "name")) else {
        return Err(format!("pod {:?} not found", tree::text(bound, "name")));
    };
    if pod.seen.uid != uid {
        return Err(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        ));
    }
    if pod.node != node {
        return Err("node requested token bound to a pod scheduled on a different node".into());
    }
    Ok(())
}

//! What a node may do: its own Node object and Lease, the pods bound to it,
//! and what those refer to. NodeRestriction (admission) narrows the writes.

use api_object::{FieldSelector, LabelSelector};
use api_registry::{RequestAttributes, UserInfo};

use super::rbac::Rule;
use crate::{
    bootstrap,
    state::{LOCAL_PATH_NODE, Pod, State},
};

/// The name of the node that a user is, if it is one.
pub(crate) fn name(user: &UserInfo) -> Option<&str> {
    user.name
        .strip_prefix("system:node:")
        .filter(|name| !name.is_empty() && user.in_group("system:nodes"))
}

/// `Err` with why not; RBAC may still allow it.
pub(crate) fn judge(state: &State, node: &str, asked: &RequestAttributes) -> Result<(), String> {
    if !asked.resource_request {
        return Err(String::new());
    }
    let (namespace, name) = (asked.namespace.as_str(), asked.name.as_str());
    let own_pods = || state.pods.on_node(node, namespace);
    match (asked.group.as_str(), asked.resource.as_str()) {
        ("", "nodes") => own_node(node, asked),
        ("", "pods") => pods(state, node, asked),
        ("", "secrets") => read(asked).and_then(|()| {
            let by_pod = own_pods().any(|pod| pod.secrets.contains(name));
            let by_volume = || {
                let claims = state.volumes.claims_using(namespace, name);
                claims.into_iter().any(|(namespace, claim)| mounts(state, node, namespace, claim))
            };
            related(node, asked, by_pod || by_volume())
        }),
        ("", "configmaps") => read(asked).and_then(|()| {
            related(node, asked, own_pods().any(|pod| pod.config_maps.contains(name)))
        }),
        ("", "persistentvolumeclaims") => {
            match asked.subresource.as_str() {
                "status" => {
                    only(asked, &["update", "patch"], "can only get/update/patch this type")?
                }
                // It is watched as well, unlike upstream's, whose kubelet asks again and again
                // whether it has grown.
                _ => read(asked)?,
            }
            related(node, asked, mounts(state, node, namespace, name))
        }
        ("", "persistentvolumes") => volumes(state, node, asked),
        ("", "serviceaccounts") => {
            match (asked.subresource.as_str(), asked.verb.as_str()) {
                ("token", "create") if !name.is_empty() => {}
                ("", "get") => {}
                ("" | "token", _) => {
                    return Err("can only create tokens for individual service accounts".into());
                }
                _ => return Err("can only create token subresource of serviceaccount".into()),
            }
            related(node, asked, own_pods().any(|pod| !pod.mirror && pod.account == name))
        }
        ("resource.k8s.io", "resourceclaims") => get(asked)
            .and_then(|()| related(node, asked, own_pods().any(|pod| pod.devices.contains(name)))),
        ("resource.k8s.io", "resourceslices") => slices(state, node, asked),
        ("storage.k8s.io", "volumeattachments") => get(asked)
            .and_then(|()| related(node, asked, state.attachments.node("", name) == Some(node))),
        ("storage.k8s.io", "csinodes") => csi_node(node, asked),
        ("certificates.k8s.io", "podcertificaterequests") => certificates(state, node, asked),
        ("coordination.k8s.io", "leases") => own_lease(node, asked),
        _ if node_rules().iter().any(|rule| rule.allows(asked)) => Ok(()),
        _ => Err(String::new()),
    }
}

fn own_node(node: &str, asked: &RequestAttributes) -> Result<(), String> {
    match (asked.subresource.as_str(), asked.verb.as_str()) {
        // Which one is NodeRestriction's question: a create may have no name yet.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") => match asked.name.as_str() {
            name if name == node => Ok(()),
            "" if requires(asked, "metadata.name", node) => Ok(()),
            "" => Err(format!("node '{node}' cannot read all nodes, only its own Node object")),
            name => Err(format!("node '{node}' cannot read '{name}', only its own Node object")),
        },
        _ => Err(String::new()),
    }
}

fn pods(state: &State, node: &str, asked: &RequestAttributes) -> Result<(), String> {
    let own = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.node == node);
    let one = || related(node, asked, own(state.pods.get(&asked.namespace, &asked.name)));
    match (asked.subresource.as_str(), asked.verb.as_str()) {
        ("", "get") => one(),
        ("", "list" | "watch") if requires(asked, "spec.nodeName", node) => Ok(()),
        ("", "list" | "watch") if !asked.name.is_empty() => one(),
        ("", "list" | "watch") => {
            Err("can only list/watch pods with spec.nodeName field selector".into())
        }
        // Whose pod it is is NodeRestriction's question.
        ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
            Ok(())
        }
        _ => Err(String::new()),
    }
}

/// Volumes that pods of the node mount may be read. Those that are a directory
/// of the node may be followed, and let go once it has removed the directory
/// (NodeRestriction narrows the patch to that).
fn volumes(state: &State, node: &str, asked: &RequestAttributes) -> Result<(), String> {
    let own = || state.volumes.local_node(&asked.name) == Some(node);
    match (asked.subresource.as_str(), asked.verb.as_str()) {
        ("", "list" | "watch")
            if LabelSelector::parse(&asked.label_selector)
                == LabelSelector::parse(&format!("{LOCAL_PATH_NODE}={node}")) =>
        {
            Ok(())
        }
        ("", "patch") => related(node, asked, own()),
        _ => get(asked).and_then(|()| {
            let claim = state.volumes.claim_of(&asked.name);
            let mounted =
                claim.is_some_and(|(namespace, claim)| mounts(state, node, namespace, claim));
            related(node, asked, mounted || own())
        }),
    }
}

fn own_lease(node: &str, asked: &RequestAttributes) -> Result<(), String> {
    const VERBS: &[&str] = &["get", "create", "update", "patch", "delete"];
    only(asked, VERBS, "can only get, create, update, patch, or delete a node lease")?;
    if asked.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".into());
    }
    match asked.verb == "create" || asked.name == node {
        true => Ok(()),
        false => Err("can only access node lease with the same name as the requesting node".into()),
    }
}

fn csi_node(node: &str, asked: &RequestAttributes) -> Result<(), String> {
    const VERBS: &[&str] = &["get", "create", "update", "patch", "delete"];
    only(asked, VERBS, "can only get, create, update, patch, or delete a CSINode")?;
    if !asked.subresource.is_empty() {
        return Err("cannot authorize CSINode subresources".into());
    }
    match asked.verb == "create" || asked.name == node {
        true => Ok(()),
        false => Err("can only access CSINode with the same name as the requesting node".into()),
    }
}

fn slices(state: &State, node: &str, asked: &RequestAttributes) -> Result<(), String> {
    if !asked.subresource.is_empty() {
        return Err("cannot authorize ResourceSlice subresources".into());
    }
    match asked.verb.as_str() {
        // Whose it becomes is NodeRestriction's question.
        "create" => Ok(()),
        "get" | "update" | "patch" | "delete" => {
            related(node, asked, state.slices.node("", &asked.name) == Some(node))
        }
        "watch" | "list" | "deletecollection" if requires(asked, "spec.nodeName", node) => Ok(()),
        "watch" | "list" | "deletecollection" => Err(
            "can only list/watch/deletecollection resourceslices with spec.nodeName field selector"
                .into(),
        ),
        _ => Err("only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection".into()),
    }
}

fn certificates(state: &State, node: &str, asked: &RequestAttributes) -> Result<(), String> {
    if !asked.subresource.is_empty() {
        return Err("nodes may not access subresources of PodCertificateRequests".into());
    }
    match asked.verb.as_str() {
        // For which pod is NodeRestriction's question.
        "create" => Ok(()),
        "get" => {
            let of = state.certificate_requests.node(&asked.namespace, &asked.name);
            related(node, asked, of == Some(node))
        }
        "list" | "watch" if requires(asked, "spec.nodeName", node) => Ok(()),
        "list" | "watch" => {
            Err("can only list/watch podcertificaterequests with spec.nodeName field selector"
                .into())
        }
        verb => Err(format!("nodes may not {verb} PodCertificateRequests")),
    }
}

/// Whether a pod of the node mounts a claim.
fn mounts(state: &State, node: &str, namespace: &str, claim: &str) -> bool {
    state.pods.on_node(node, namespace).any(|pod| pod.claims.contains(claim))
}

/// get, list and watch of one object.
fn read(asked: &RequestAttributes) -> Result<(), String> {
    only(asked, &["get", "list", "watch"], "can only read resources of this type")?;
    if !asked.subresource.is_empty() {
        return Err("cannot read subresource".into());
    }
    if asked.namespace.is_empty() {
        return Err("can only read namespaced object of this type".into());
    }
    Ok(())
}

fn get(asked: &RequestAttributes) -> Result<(), String> {
    only(asked, &["get"], "can only get individual resources of this type")?;
    match asked.subresource.is_empty() {
        true => Ok(()),
        false => Err("cannot get subresource".into()),
    }
}

fn only(asked: &RequestAttributes, verbs: &[&str], why: &str) -> Result<(), String> {
    if verbs.contains(&asked.verb.as_str()) { Ok(()) } else { Err(why.into()) }
}

fn related(node: &str, asked: &RequestAttributes, is: bool) -> Result<(), String> {
    if asked.name.is_empty() {
        return Err("No Object name found".into());
    }
    match is {
        true => Ok(()),
        false => Err(format!("no relationship found between node '{node}' and this object")),
    }
}

fn requires(asked: &RequestAttributes, field: &str, value: &str) -> bool {
    FieldSelector::parse(&asked.field_selector)
        .is_ok_and(|selector| selector.required(field) == Some(value))
}

/// The rules of the ClusterRole `system:node`, which binds nobody: they hold
/// for what is not narrowed above.
fn node_rules() -> &'static [Rule] {
    static RULES: std::sync::OnceLock<Vec<Rule>> = std::sync::OnceLock::new();
    RULES.get_or_init(|| {
        bootstrap::policy()
            .roles
            .iter()
            .find(|role| role.name == "system:node")
            .map_or(Vec::new(), |role| role.rules.clone())
    })
}

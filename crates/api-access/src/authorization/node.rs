//! What a node may do: its own Node object and Lease, the pods bound to it,
//! and what those refer to. NodeRestriction (admission) narrows the writes.

use api_object::FieldSelector;
use api_registry::{RequestAttributes, UserInfo};

use super::rbac::Rule;
use crate::{bootstrap, state::State};

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
    match (asked.group.as_str(), asked.resource.as_str()) {
        ("", "nodes") => own_node(node, asked),
        ("", "pods") => own_pods(state, node, asked),
        ("", "secrets") => referred(state, node, asked, |pod, name| pod.secrets.contains(name)),
        ("", "configmaps") => {
            referred(state, node, asked, |pod, name| pod.config_maps.contains(name))
        }
        ("", "persistentvolumeclaims") => match (asked.subresource.as_str(), asked.verb.as_str()) {
            ("", "get") | ("status", "update" | "patch") => {
                related(state, node, asked, |pod, name| pod.claims.contains(name))
            }
            _ => {
                Err("can only get individual resources of this type, or update their status".into())
            }
        },
        ("", "serviceaccounts") => match (asked.subresource.as_str(), asked.verb.as_str()) {
            ("token", "create") | ("", "get") => {
                related(state, node, asked, |pod, name| pod.account == name)
            }
            _ => Err("can only create tokens for individual service accounts".into()),
        },
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

fn own_pods(state: &State, node: &str, asked: &RequestAttributes) -> Result<(), String> {
    match (asked.subresource.as_str(), asked.verb.as_str()) {
        ("", "get") => related_pod(state, node, asked),
        ("", "list" | "watch") if requires(asked, "spec.nodeName", node) => Ok(()),
        ("", "list" | "watch") if !asked.name.is_empty() => related_pod(state, node, asked),
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

fn related_pod(state: &State, node: &str, asked: &RequestAttributes) -> Result<(), String> {
    match state.pods.get(&asked.namespace, &asked.name) {
        Some(pod) if pod.node == node => Ok(()),
        _ => Err(unrelated(node)),
    }
}

fn own_lease(node: &str, asked: &RequestAttributes) -> Result<(), String> {
    match asked.verb.as_str() {
        _ if asked.namespace != "kube-node-lease" => {
            Err("can only access leases in the \"kube-node-lease\" system namespace".into())
        }
        "get" | "create" | "update" | "patch" | "delete" => match asked.name.as_str() {
            "" if asked.verb == "create" => Ok(()),
            name if name == node => Ok(()),
            _ => Err("can only access node lease with the same name as the requesting node".into()),
        },
        _ => Err("can only get, create, update, patch, or delete a node lease".into()),
    }
}

/// get, list and watch of one secret or config map that a pod refers to.
fn referred(
    state: &State,
    node: &str,
    asked: &RequestAttributes,
    refers: impl Fn(&crate::state::Pod, &str) -> bool,
) -> Result<(), String> {
    if !matches!(asked.verb.as_str(), "get" | "list" | "watch") || !asked.subresource.is_empty() {
        return Err("can only read resources of this type".into());
    }
    related(state, node, asked, refers)
}

fn related(
    state: &State,
    node: &str,
    asked: &RequestAttributes,
    refers: impl Fn(&crate::state::Pod, &str) -> bool,
) -> Result<(), String> {
    if asked.name.is_empty() {
        return Err("No Object name found".into());
    }
    if asked.namespace.is_empty() {
        return Err("can only read namespaced object of this type".into());
    }
    match state.pods.on_node(node, &asked.namespace).any(|pod| refers(pod, &asked.name)) {
        true => Ok(()),
        false => Err(unrelated(node)),
    }
}

fn unrelated(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
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

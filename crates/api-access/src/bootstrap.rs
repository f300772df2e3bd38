//! The policy that every cluster starts with, and how it is kept: what is
//! missing is added at each start, unless an object says otherwise with
//! `rbac.authorization.kubernetes.io/autoupdate: "false"`.

mod parse;

use std::sync::OnceLock;

use api_registry::UserInfo;
use client::{Api, Error, PatchKind, Resource};
use futures_util::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

use crate::{
    Access,
    authorization::{
        escalation::uncovered,
        rbac::{Binding, Policy as Known, Rule, SubjectName},
    },
    state::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES},
};
use parse::{BindRow, parse};
pub(crate) use parse::{Policy, RoleRow};

/// Writes in flight at once: they share the log's fsyncs.
const AT_ONCE: usize = 32;

/// The identity of a controller in the server's process: the ServiceAccount of
/// its name in kube-system, which `system:controller:<name>` is bound to.
/// `name` is as upstream's: `deployment-controller`, `generic-garbage-collector`.
pub fn controller_identity(name: &str) -> UserInfo {
    UserInfo {
        name: format!("system:serviceaccount:kube-system:{name}"),
        groups: [
            "system:serviceaccounts",
            "system:serviceaccounts:kube-system",
            "system:authenticated",
        ]
        .map(str::to_owned)
        .into(),
        ..UserInfo::default()
    }
}

/// The policy as data.
pub(crate) fn policy() -> &'static Policy {
    static POLICY: OnceLock<Policy> = OnceLock::new();
    POLICY.get_or_init(|| parse(include_str!("bootstrap/policy.txt")).expect("a test reads it"))
}

/// A write that brings the cluster closer to the policy.
#[derive(Debug)]
pub(crate) enum Write {
    Create { resource: Resource, namespace: &'static str, object: Value },
    Patch { resource: Resource, namespace: &'static str, name: &'static str, patch: Value },
}

/// Compares the policy with what is known; a pure function. What somebody
/// added stays; a role that lacks a rule gets it; a binding that lacks a
/// subject gets it.
pub(crate) fn plan(policy: &'static Policy, known: &Known) -> Vec<Write> {
    let mut writes = Vec::new();
    for row in &policy.roles {
        let cluster = row.namespace.is_empty();
        let resource = if cluster { CLUSTER_ROLES } else { ROLES };
        let (namespace, name) = (row.namespace, row.name);
        let Some(rules) = known.role(namespace, cluster, name) else {
            writes.push(Write::Create { resource, namespace, object: role_object(row) });
            continue;
        };
        let labels_missing = cluster
            && known.cluster_roles.get(name).is_some_and(|role| {
                row.labels()
                    .iter()
                    .any(|(key, value)| role.labels.get(*key).map(String::as_str) != Some(*value))
            });
        let missing = match row.aggregates {
            // The aggregation owns its rules.
            Some(_) => Vec::new(),
            None => uncovered(rules, &row.rules),
        };
        if !missing.is_empty() || labels_missing {
            let mut patch = json!({ "metadata": role_object(row)["metadata"] });
            if !missing.is_empty() {
                let rules: Vec<&Rule> = rules.iter().chain(&missing).collect();
                patch["rules"] = json!(rules);
            }
            writes.push(Write::Patch { resource, namespace, name, patch });
        }
    }
    for row in &policy.bindings {
        let resource = if row.namespace.is_empty() { CLUSTER_ROLE_BINDINGS } else { ROLE_BINDINGS };
        let (namespace, name) = (row.namespace, row.name);
        let Some(binding) = known.binding(namespace, name) else {
            writes.push(Write::Create { resource, namespace, object: binding_object(row) });
            continue;
        };
        if row.subjects.iter().any(|subject| !binding.subjects.contains(subject)) {
            let subjects: Vec<Value> = union(binding, row).map(subject_object).collect();
            writes.push(Write::Patch {
                resource,
                namespace,
                name,
                patch: json!({ "subjects": subjects }),
            });
        }
    }
    writes
}

/// Whether an object of the policy does not exist.
pub(crate) fn is_missing(known: &Known) -> bool {
    plan(policy(), known).iter().any(|write| matches!(write, Write::Create { .. }))
}

fn union<'a>(binding: &'a Binding, row: &'a BindRow) -> impl Iterator<Item = &'a SubjectName> {
    let added = row.subjects.iter().filter(|subject| !binding.subjects.contains(subject));
    binding.subjects.iter().chain(added)
}

/// Ensures the policy.
///
/// # Errors
/// The first write that failed; calling again continues.
pub(crate) async fn ensure(access: &Access, api: &Api) -> Result<(), Error> {
    let writes = plan(policy(), &access.state().policy);
    futures_util::stream::iter(writes)
        .map(|write| act(api, write))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn act(api: &Api, write: Write) -> Result<(), Error> {
    let result = match write {
        Write::Create { resource, namespace, object } => {
            api.create(resource, namespace, &object).await
        }
        Write::Patch { resource, namespace, name, patch } => {
            let current = api.get(resource, namespace, name).await?;
            if current.meta.annotations.get(AUTO_UPDATE).map(String::as_str) == Some("false") {
                return Ok(());
            }
            api.patch(resource, namespace, name, "", PatchKind::Merge, &patch).await
        }
    };
    match result {
        // Another server was first, or the memory lags behind.
        Err(error) if error.is_conflict() => Ok(()),
        other => other.map(drop),
    }
}

const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const API_VERSION: &str = "rbac.authorization.k8s.io/v1";

fn metadata(namespace: &str, name: &str) -> Value {
    let mut metadata = json!({
        "name": name,
        "annotations": { AUTO_UPDATE: "true" },
        "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
    });
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    metadata
}

fn role_object(row: &RoleRow) -> Value {
    let kind = if row.namespace.is_empty() { "ClusterRole" } else { "Role" };
    let mut object = json!({
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": metadata(row.namespace, row.name),
        "rules": row.rules,
    });
    for (key, value) in row.labels() {
        object["metadata"]["labels"][key] = value.into();
    }
    if let Some(to) = row.aggregates {
        let selector = json!({ "matchLabels": { parse::aggregation_label(to): "true" } });
        object["aggregationRule"] = json!({ "clusterRoleSelectors": [selector] });
    }
    object
}

fn binding_object(row: &BindRow) -> Value {
    let cluster = row.namespace.is_empty();
    json!({
        "apiVersion": API_VERSION,
        "kind": if cluster { "ClusterRoleBinding" } else { "RoleBinding" },
        "metadata": metadata(row.namespace, row.name),
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": if cluster { "ClusterRole" } else { "Role" },
            "name": row.role,
        },
        "subjects": row.subjects.iter().map(subject_object).collect::<Vec<_>>(),
    })
}

fn subject_object(subject: &SubjectName) -> Value {
    const GROUP: &str = "rbac.authorization.k8s.io";
    match subject {
        SubjectName::Group(name) => json!({ "apiGroup": GROUP, "kind": "Group", "name": name }),
        SubjectName::User(name) => {
            let account =
                name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
            match account {
                Some((namespace, name)) => {
                    json!({ "kind": "ServiceAccount", "name": name, "namespace": namespace })
                }
                None => json!({ "apiGroup": GROUP, "kind": "User", "name": name }),
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! Roles and who has them (RBAC).

use std::sync::Arc;

use api_object::name;
use api_schema::{Cell, Column, Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::row::{Build, row};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(crate) fn role(schema: &Arc<Schema>) -> ResourceSpec {
    any_role(schema, "roles", "Role")
}

pub(crate) fn cluster_role(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = any_role(schema, "clusterroles", "ClusterRole");
    row.cluster_scoped();
    row
}

pub(crate) fn role_binding(schema: &Arc<Schema>) -> ResourceSpec {
    any_binding(schema, "rolebindings", "RoleBinding")
}

pub(crate) fn cluster_role_binding(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = any_binding(schema, "clusterrolebindings", "ClusterRoleBinding");
    row.cluster_scoped();
    row
}

fn any_role(schema: &Arc<Schema>, plural: &'static str, kind: &'static str) -> ResourceSpec {
    ResourceSpec {
        columns: vec![
            Column::name(),
            Column::new(
                "Created At",
                "date",
                "CreationTimestamp is a timestamp representing the server time when this object was created.",
                Cell::Path("metadata.creationTimestamp".into()),
            ),
        ],
        allow_create_on_update: true,
        hooks: Hooks { name: name::path_segment, validate: validate_role, ..Hooks::default() },
        ..row(schema, GROUP, "v1", plural, kind, &format!("rbac/v1.{kind}"))
    }
}

fn any_binding(schema: &Arc<Schema>, plural: &'static str, kind: &'static str) -> ResourceSpec {
    ResourceSpec {
        columns: vec![
            Column::name(),
            Column::text(
                "Role",
                "RoleRef can reference a Role in the current namespace or a ClusterRole in the global namespace.",
                |binding, _| {
                    let role = tree::get(binding, "roleRef");
                    format!("{}/{}", tree::text(role, "kind"), tree::text(role, "name")).into()
                },
            ),
            Column::age(),
            Column::text("Users", "Users in the roleBinding", |b, _| subjects(b, "User").into())
                .wide(),
            Column::text("Groups", "Groups in the roleBinding", |b, _| subjects(b, "Group").into())
                .wide(),
            Column::text("ServiceAccounts", "ServiceAccounts in the roleBinding", |b, _| {
                subjects(b, "ServiceAccount").into()
            })
            .wide(),
        ],
        allow_create_on_update: true,
        hooks: Hooks {
            name: name::path_segment,
            default,
            validate: validate_binding,
            validate_update: validate_binding_update,
            ..Hooks::default()
        },
        ..row(schema, GROUP, "v1", plural, kind, &format!("rbac/v1.{kind}"))
    }
}

fn subjects(binding: &Value, kind: &str) -> String {
    let names: Vec<String> = tree::list(binding, "subjects")
        .iter()
        .filter(|subject| tree::text(subject, "kind") == kind)
        .map(|subject| match (kind, tree::text(subject, "namespace")) {
            ("ServiceAccount", namespace) => format!("{namespace}/{}", tree::text(subject, "name")),
            _ => tree::text(subject, "name").to_owned(),
        })
        .collect();
    names.join(", ")
}

fn validate_role(row: &ResourceSpec, role: &Value, faults: &mut Faults) {
    let rules = Path::new("rules");
    for (index, rule) in tree::list(role, "rules").iter().enumerate() {
        let path = rules.index(index);
        let has = |field: &str| !tree::list(rule, field).is_empty();
        if !has("verbs") {
            faults.required(&path.child("verbs"), "verbs must contain at least one value");
        }
        if has("nonResourceURLs") {
            let urls = path.child("nonResourceURLs");
            if row.namespaced {
                faults.invalid(
                    &urls,
                    tree::get(rule, "nonResourceURLs").clone(),
                    "namespaced rules cannot apply to non-resource URLs",
                );
            }
            if has("apiGroups") || has("resources") || has("resourceNames") {
                faults.invalid(
                    &urls,
                    tree::get(rule, "nonResourceURLs").clone(),
                    "rules cannot apply to both regular resources and non-resource URLs",
                );
            }
            continue;
        }
        if !has("apiGroups") {
            faults.required(
                &path.child("apiGroups"),
                "resource rules must supply at least one api group",
            );
        }
        if !has("resources") {
            faults.required(
                &path.child("resources"),
                "resource rules must supply at least one resource",
            );
        }
    }
    let selectors = Path::new("aggregationRule.clusterRoleSelectors");
    if let Some(aggregation) = role.get("aggregationRule") {
        let list = tree::list(aggregation, "clusterRoleSelectors");
        if list.is_empty() {
            faults.required(
                &selectors,
                "at least one clusterRoleSelector required if aggregationRule is non-nil",
            );
        }
        for (index, selector) in list.iter().enumerate() {
            crate::rules::label_selector(&selectors.index(index), selector, faults);
        }
    }
}

fn default(_: &ResourceSpec, binding: &mut Value) {
    tree::set_if_unset(binding, "roleRef.apiGroup", GROUP);
    for subject in tree::list_mut(binding, "subjects") {
        if matches!(tree::text(subject, "kind"), "User" | "Group") {
            tree::set_if_unset(subject, "apiGroup", GROUP);
        }
    }
}

fn validate_binding(row: &ResourceSpec, binding: &Value, faults: &mut Faults) {
    let path = Path::new("roleRef");
    let role = tree::get(binding, "roleRef");
    let group = tree::text(role, "apiGroup");
    if group != GROUP {
        faults.unsupported(&path.child("apiGroup"), group, [GROUP]);
    }
    let kinds: &[&str] = if row.namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    let kind = tree::text(role, "kind");
    if !kinds.contains(&kind) {
        faults.unsupported(&path.child("kind"), kind, kinds.iter().copied());
    }
    match tree::text(role, "name") {
        "" => faults.required(&path.child("name"), ""),
        text => faults.invalid_all(&path.child("name"), text, name::path_segment(text)),
    }
    let subjects = Path::new("subjects");
    for (index, subject) in tree::list(binding, "subjects").iter().enumerate() {
        let path = subjects.index(index);
        let (name, group) = (tree::text(subject, "name"), tree::text(subject, "apiGroup"));
        if name.is_empty() {
            faults.required(&path.child("name"), "");
        }
        match tree::text(subject, "kind") {
            "ServiceAccount" => {
                if !name.is_empty() {
                    let wrong = name::dns1123_subdomain(name);
                    faults.invalid_all(&path.child("name"), name, wrong);
                }
                if !group.is_empty() {
                    faults.unsupported(&path.child("apiGroup"), group, [""]);
                }
                if tree::text(subject, "namespace").is_empty() && !row.namespaced {
                    faults.required(&path.child("namespace"), "");
                }
            }
            "User" | "Group" if group != GROUP => {
                faults.unsupported(&path.child("apiGroup"), group, [GROUP]);
            }
            "User" | "Group" => {}
            other => {
                faults.unsupported(&path.child("kind"), other, ["ServiceAccount", "User", "Group"])
            }
        }
    }
}

fn validate_binding_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    if tree::get(new, "roleRef") != tree::get(old, "roleRef") {
        faults.invalid(
            &Path::new("roleRef"),
            tree::get(new, "roleRef").clone(),
            "cannot change roleRef",
        );
    }
}

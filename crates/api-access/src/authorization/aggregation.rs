//! ClusterRoles that collect the rules of others (`admin`, `edit`, `view`):
//! computes what their rules must be and writes what differs.

use std::{sync::Arc, time::Duration};

use client::{Api, PatchKind};
use serde_json::json;

use super::rbac::{Policy, Rule};
use crate::{Access, state::CLUSTER_ROLES};

/// The roles whose rules are not what they collect, and what those are.
pub(crate) fn plan(policy: &Policy) -> Vec<(String, Vec<Rule>)> {
    let mut changes = Vec::new();
    for (name, role) in &policy.cluster_roles {
        let Some(selectors) = &role.aggregates else { continue };
        let mut rules: Vec<Rule> = Vec::new();
        for (other, collected) in &policy.cluster_roles {
            if other != name && selectors.iter().any(|selector| selector.matches(&collected.labels))
            {
                for rule in &collected.rules[..] {
                    if !rules.contains(rule) {
                        rules.push(rule.clone());
                    }
                }
            }
        }
        if rules != role.rules[..] {
            changes.push((name.clone(), rules));
        }
    }
    changes
}

/// How long to wait after a write that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until it is dropped.
pub(crate) async fn run(access: Arc<Access>, api: Api) {
    let mut changed = access.policy_changed.subscribe();
    loop {
        changed.mark_unchanged();
        let changes = plan(&access.state().policy);
        let mut failed = false;
        for (name, rules) in changes {
            let patch = json!({ "rules": rules });
            let written = api.patch(CLUSTER_ROLES, "", &name, "", PatchKind::Merge, &patch).await;
            match written {
                Err(error) if !error.is_not_found() => {
                    failed = true;
                    tracing::warn!(name, %error, "rules of an aggregated ClusterRole not written");
                }
                _ => {}
            }
        }
        if failed {
            tokio::time::sleep(RETRY).await;
            continue;
        }
        // The write itself wakes this up again, and then finds nothing to do.
        if changed.changed().await.is_err() {
            return;
        }
    }
}

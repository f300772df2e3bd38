//! A rollout never asks for more pods than the Deployment's size and surge.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Change, Cluster, Invariant, World, history::controller};

/// By the uid of a Deployment: the most pods it ever allowed. A controller may
/// act on a specification that a user has changed since.
#[derive(Default)]
pub(crate) struct Surge {
    allowed: BTreeMap<String, u64>,
}

impl Invariant for Surge {
    fn observe(&mut self, _: &World, cluster: &Cluster, change: &Change<'_>) -> Result<(), String> {
        let Some(new) = change.new else { return Ok(()) };
        if change.resource == "apps/deployments" {
            let uid = new["metadata"]["uid"].as_str().unwrap_or_default();
            let allowed = self.allowed.entry(uid.to_owned()).or_default();
            *allowed = (*allowed).max(most(&new["spec"]));
        }
        if change.resource != "apps/replicasets" {
            return Ok(());
        }
        let size = |set: &Value| set["spec"]["replicas"].as_u64().unwrap_or(0);
        let grows = change.old.is_none_or(|old| size(new) > size(old));
        let Some(owner) = controller(new).filter(|_| grows) else { return Ok(()) };
        let Some(allowed) = self.allowed.get(owner) else { return Ok(()) };
        let sets = cluster.controlled("apps/replicasets", owner);
        let asked: u64 = sets.into_iter().map(size).sum();
        match asked <= *allowed {
            true => Ok(()),
            false => {
                Err(format!("{} grew: {asked} pods are asked for, {allowed} allowed", change.key))
            }
        }
    }
}

/// Replicas and surge; percentages round up.
fn most(spec: &Value) -> u64 {
    let replicas = spec["replicas"].as_u64().unwrap_or(1);
    let surge = match &spec["strategy"]["rollingUpdate"]["maxSurge"] {
        Value::String(percent) => {
            let percent: u64 = percent.trim_end_matches('%').parse().unwrap_or(0);
            (replicas * percent).div_ceil(100)
        }
        number => number.as_u64().unwrap_or(0),
    };
    replicas + surge
}

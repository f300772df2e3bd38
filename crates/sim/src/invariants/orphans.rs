//! At rest, whoever has owners has one that is there.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{Change, Cluster, Invariant, World};

pub(crate) struct Orphans;

impl Invariant for Orphans {
    fn observe(&mut self, _: &World, _: &Cluster, _: &Change<'_>) -> Result<(), String> {
        Ok(())
    }

    fn settled(&self, _: &World, cluster: &Cluster) -> Result<(), String> {
        let uid = |object: &Value| object["metadata"]["uid"].as_str().map(str::to_owned);
        let there: BTreeSet<String> =
            cluster.everything().filter_map(|(_, object)| uid(object)).collect();
        for (resource, object) in cluster.everything() {
            let Some(owners) = object["metadata"]["ownerReferences"].as_array() else { continue };
            let owned = owners
                .iter()
                .any(|owner| owner["uid"].as_str().is_some_and(|uid| there.contains(uid)));
            if !owned && !owners.is_empty() {
                let name = &object["metadata"]["name"];
                return Err(format!("{resource} {name} has outlived its owners: {owners:?}"));
            }
        }
        Ok(())
    }
}

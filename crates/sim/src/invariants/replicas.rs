//! A ReplicaSet never has more pods than it was ever asked to have, however
//! far its controller's caches lag behind.

use std::collections::BTreeMap;

use crate::{
    Change, Cluster, Invariant, World,
    history::{controller, is_active},
};

/// By the uid of a ReplicaSet: the most that was asked for.
#[derive(Default)]
pub(crate) struct Replicas {
    asked: BTreeMap<String, u64>,
}

impl Invariant for Replicas {
    fn observe(
        &mut self,
        world: &World,
        cluster: &Cluster,
        change: &Change<'_>,
    ) -> Result<(), String> {
        let Some(new) = change.new else { return Ok(()) };
        if change.resource == "apps/replicasets" {
            let uid = new["metadata"]["uid"].as_str().unwrap_or_default();
            let asked = self.asked.entry(uid.to_owned()).or_default();
            *asked = (*asked).max(new["spec"]["replicas"].as_u64().unwrap_or(1));
        }
        if change.resource != "/pods" || change.old.is_some() {
            return Ok(());
        }
        let Some(owner) = controller(new) else { return Ok(()) };
        let Some(asked) = self.asked.get(owner) else { return Ok(()) };
        let pods = cluster.controlled("/pods", owner);
        let active = pods.into_iter().filter(|pod| is_active(pod)).count() as u64;
        // Who does not hear that a pod with a generated name was made cannot
        // know of it, and makes another.
        let unknown = world.faults().lost_creations();
        match active <= asked + unknown {
            true => Ok(()),
            false => {
                Err(format!("{} is one of {active}, where {asked} were asked for", change.key))
            }
        }
    }
}

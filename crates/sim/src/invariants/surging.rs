//! With `maxSurge` a DaemonSet puts a second pod beside one that works on so many nodes
//! at most, and takes no pod away that works before another does on its node. Holds where nobody but the
//! controller takes pods away, and every node is one of the DaemonSet's.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use super::daemons::target;
use crate::{
    Change, Cluster, Invariant, World,
    history::{controller, has_condition, is_active, uid},
};

/// A controller may not have heard yet of what became ready later.
const HEARD: Duration = Duration::from_secs(10);

/// By the uid of a DaemonSet.
#[derive(Default)]
pub(crate) struct Surging(BTreeMap<String, Set>);

#[derive(Default)]
struct Set {
    /// On how many nodes it ever allowed two pods.
    surge: u64,
    /// Since when pods work, by uid.
    works: BTreeMap<String, Instant>,
    /// Nodes that got a second pod though the first worked, until that works too. One
    /// whose first does not work gets another at once, as upstream has it.
    nodes: BTreeSet<String>,
}

fn works(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null() && has_condition(pod, "Ready")
}

impl Invariant for Surging {
    fn observe(
        &mut self,
        world: &World,
        cluster: &Cluster,
        change: &Change<'_>,
    ) -> Result<(), String> {
        let unknown = world.faults().lost_creations();
        if let ("apps/daemonsets", Some(set)) = (change.resource, change.new) {
            let surge = &set["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"];
            let known = self.0.entry(uid(set).to_owned()).or_default();
            known.surge = known.surge.max(surge.as_u64().unwrap_or(0));
        }
        if change.resource != "/pods" {
            return Ok(());
        }
        let Some(pod) = change.new.or(change.old) else { return Ok(()) };
        let (Some(owner), Some(node)) = (controller(pod), target(pod)) else { return Ok(()) };
        let Some(set) = self.0.get_mut(owner) else { return Ok(()) };
        let pods = cluster.controlled("/pods", owner);
        if works(pod) {
            set.works.entry(uid(pod).to_owned()).or_insert_with(Instant::now);
        }
        if change.old.is_none() {
            let active = |node: &str| {
                let on_it = pods.iter().filter(|pod| is_active(pod) && target(pod) == Some(node));
                on_it.copied().collect::<Vec<_>>()
            };
            let here = active(node);
            if here.len() as u64 > 2 + unknown {
                return Err(format!("{} is one of {} on {node}", change.key, here.len()));
            }
            set.nodes.retain(|node| {
                let there = active(node);
                there.len() > 1 && !there.iter().all(|pod| works(pod))
            });
            let since = here.iter().filter_map(|pod| set.works.get(uid(pod)));
            if since.into_iter().any(|since| since.elapsed() > HEARD) {
                set.nodes.insert(node.to_owned());
            }
            if set.nodes.len() as u64 > set.surge + unknown {
                let (nodes, surge) = (&set.nodes, set.surge);
                return Err(format!("{} is one too many: {nodes:?}, {surge} may", change.key));
            }
        }
        let worked = set.works.get(uid(pod)).is_some_and(|since| since.elapsed() > HEARD);
        let stopped = worked && change.old.is_some_and(works) && !change.new.is_some_and(works);
        let others = pods.iter().filter(|pod| works(pod) && target(pod) == Some(node)).count();
        match stopped && others == 0 {
            true => Err(format!("{} goes and no other works on {node}", change.key)),
            false => Ok(()),
        }
    }
}

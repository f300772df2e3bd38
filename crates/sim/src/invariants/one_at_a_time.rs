//! A rollout takes no pod away while as many as may be are not available: of
//! a StatefulSet, and of a DaemonSet on its nodes. Holds only where nobody but
//! the controller takes pods away.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    Change, Cluster, Invariant, World,
    history::{controller, has_condition, uid},
};

/// By the uid of the owner: the places, which are names or nodes, that had a
/// ready pod once.
#[derive(Default)]
pub(crate) struct OneAtATime(BTreeMap<String, BTreeSet<String>>);

impl Invariant for OneAtATime {
    fn observe(
        &mut self,
        world: &World,
        cluster: &Cluster,
        change: &Change<'_>,
    ) -> Result<(), String> {
        if change.resource != "/pods" {
            return Ok(());
        }
        let Some(pod) = change.new.or(change.old) else { return Ok(()) };
        let Some(owner) = controller(pod) else { return Ok(()) };
        if change.new.is_some_and(is_ready) {
            self.0.entry(owner.to_owned()).or_default().insert(place(pod));
        }
        let was_ready = change.old.is_some_and(is_ready);
        if !was_ready || change.new.is_some_and(is_ready) {
            return Ok(());
        }
        let mut sets =
            ["apps/statefulsets", "apps/daemonsets"].into_iter().flat_map(|kind| cluster.all(kind));
        let Some((key, set)) = sets.find(|(_, set)| uid(set) == owner) else { return Ok(()) };
        // Beyond the number they go in their own order.
        let wanted = |place: &String| {
            let ordinal = place.rsplit('-').next().and_then(|n| n.parse::<u64>().ok());
            set["kind"] != "StatefulSet" || ordinal < set["spec"]["replicas"].as_u64()
        };
        let pods = cluster.controlled("/pods", owner);
        let ready: BTreeSet<String> =
            pods.into_iter().filter(|pod| is_ready(pod)).map(place).collect();
        let places = self.0.get(owner).into_iter().flatten();
        let down = places.filter(|place| wanted(place) && !ready.contains(*place));
        let down: Vec<&String> = down.collect();
        // Who does not know of a pod takes its twin for the only one.
        let may = 1 + world.faults().lost_creations() as usize;
        match down.len() <= may {
            true => Ok(()),
            false => Err(format!("{key} has no pod that is ready at {down:?}")),
        }
    }
}

fn is_ready(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null() && has_condition(pod, "Ready")
}

/// What it is one of: a name of a StatefulSet, a node of a DaemonSet.
fn place(pod: &Value) -> String {
    let owners = &pod["metadata"]["ownerReferences"];
    let place = match owners[0]["kind"] == "DaemonSet" {
        true => &pod["spec"]["nodeName"],
        false => &pod["metadata"]["name"],
    };
    place.as_str().unwrap_or_default().to_owned()
}

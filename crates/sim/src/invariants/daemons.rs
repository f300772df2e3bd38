//! A node has one pod of a DaemonSet: never a second beside one that runs, and
//! at rest exactly one where it is to have any.

use serde_json::Value;

use crate::{
    Change, Cluster, Invariant, World,
    history::{controller, is_active, uid},
};

pub(crate) struct Daemons;

/// The node that a pod is made for.
pub(super) fn target(pod: &Value) -> Option<&str> {
    pod.pointer(
        "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution\
         /nodeSelectorTerms/0/matchFields/0/values/0",
    )?
    .as_str()
}

fn on<'a>(cluster: &'a Cluster, set: &'a str, node: &str) -> usize {
    let pods = cluster.controlled("/pods", set);
    pods.into_iter().filter(|pod| is_active(pod) && target(pod) == Some(node)).count()
}

impl Invariant for Daemons {
    fn observe(
        &mut self,
        world: &World,
        cluster: &Cluster,
        change: &Change<'_>,
    ) -> Result<(), String> {
        let Some(pod) = change.new.filter(|_| change.resource == "/pods" && change.old.is_none())
        else {
            return Ok(());
        };
        let (Some(owner), Some(node)) = (controller(pod), target(pod)) else { return Ok(()) };
        let there = on(cluster, owner, node) as u64;
        match there <= 1 + world.faults().lost_creations() {
            true => Ok(()),
            false => Err(format!("{} is one of {there} on {node}", change.key)),
        }
    }

    fn settled(&self, _: &World, cluster: &Cluster) -> Result<(), String> {
        for (key, set) in cluster.all("apps/daemonsets") {
            let wanted = set["spec"]["template"]["spec"]["nodeSelector"].as_object();
            for (node, object) in cluster.all("/nodes") {
                let labels = &object["metadata"]["labels"];
                let fits = wanted.into_iter().flatten().all(|(key, value)| labels[key] == *value);
                let there = on(cluster, uid(set), node);
                if there != usize::from(fits) {
                    return Err(format!("{there} pods of {key} are on {node} (fits: {fits})"));
                }
            }
        }
        Ok(())
    }
}

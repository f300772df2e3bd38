//! With `podReplacementPolicy: Failed` a Job replaces a pod only when that has ended:
//! those that are on their way out count with those that run, and keep their index.

use std::collections::BTreeMap;

use serde_json::Value;

use super::jobs::INDEX;
use crate::{
    Change, Cluster, Invariant, World,
    history::{controller, uid},
};

/// By the uid of a Job of this policy: the most that was asked for at a time.
#[derive(Default)]
pub(crate) struct Replacement(BTreeMap<String, u64>);

impl Invariant for Replacement {
    fn observe(
        &mut self,
        world: &World,
        cluster: &Cluster,
        change: &Change<'_>,
    ) -> Result<(), String> {
        let Some(new) = change.new else { return Ok(()) };
        if change.resource == "batch/jobs" && new["spec"]["podReplacementPolicy"] == "Failed" {
            let most = self.0.entry(uid(new).to_owned()).or_default();
            *most = (*most).max(new["spec"]["parallelism"].as_u64().unwrap_or(1));
        }
        if change.resource != "/pods" || change.old.is_some() {
            return Ok(());
        }
        let Some((owner, most)) = controller(new).and_then(|o| Some((o, self.0.get(o)?))) else {
            return Ok(());
        };
        let unknown = world.faults().lost_creations();
        let has_ended =
            |pod: &Value| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let pods = cluster.controlled("/pods", owner);
        let there: Vec<&Value> = pods.into_iter().filter(|pod| !has_ended(pod)).collect();
        if there.len() as u64 > most + unknown {
            return Err(format!("{} is one of {}, {most} may be", change.key, there.len()));
        }
        let index = &new["metadata"]["annotations"][INDEX];
        let twins = there.iter().filter(|pod| pod["metadata"]["annotations"][INDEX] == *index);
        match index.is_string() && twins.count() as u64 > 1 + unknown {
            true => Err(format!("{} comes before another of {index} has ended", change.key)),
            false => Ok(()),
        }
    }
}

//! An autoscaler keeps its target within its limits, and takes nothing back of what
//! it has added for the five minutes that a lower load has to last. Holds where
//! nobody else resizes the target.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::{Change, Cluster, Invariant, World};

/// Upstream's default, less what a request may take that was decided before, and less what
/// lies between a recommendation, from which the five minutes count, and the size that
/// follows: it may double once a period of 15 s, and a period may fail.
const WINDOW: Duration = Duration::from_secs(300 - 10 - 3 * 15);

/// When a Deployment was given how many more, by its name.
#[derive(Default)]
pub(crate) struct Autoscaling(BTreeMap<String, Vec<(Duration, u64)>>);

impl Invariant for Autoscaling {
    fn observe(
        &mut self,
        world: &World,
        cluster: &Cluster,
        change: &Change<'_>,
    ) -> Result<(), String> {
        let (Some(old), Some(new)) = (change.old, change.new) else { return Ok(()) };
        let size = |object: &Value| object["spec"]["replicas"].as_u64().unwrap_or(1);
        let (from, to) = (size(old), size(new));
        if change.resource != "apps/deployments" || from == to {
            return Ok(());
        }
        let Some(scaler) = cluster.get("autoscaling/horizontalpodautoscalers", change.key) else {
            return Ok(());
        };
        let limits = [&scaler["spec"]["minReplicas"], &scaler["spec"]["maxReplicas"]];
        let [least, most] = limits.map(|limit| limit.as_u64().unwrap_or(1));
        if !(least..=most).contains(&to) {
            return Err(format!("{} has {to} replicas, not {least} to {most}", change.key));
        }
        let now = world.clock().since();
        let added = self.0.entry(change.key.to_owned()).or_default();
        added.retain(|(at, _)| now - *at < WINDOW);
        if to > from {
            added.push((now, to));
        }
        match added.iter().find(|(_, had)| to < *had) {
            Some((at, had)) => Err(format!(
                "{} has {to} replicas {} s after it was given {had}",
                change.key,
                (now - *at).as_secs(),
            )),
            None => Ok(()),
        }
    }
}

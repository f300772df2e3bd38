//! An eviction never leaves fewer healthy pods than a PodDisruptionBudget
//! wants. Holds where nothing but evictions takes pods away.

use serde_json::Value;

use crate::{Change, Cluster, Invariant, World, history::has_condition};

pub(crate) struct Budget;

fn is_healthy(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null() && has_condition(pod, "Ready")
}

impl Invariant for Budget {
    fn observe(&mut self, _: &World, cluster: &Cluster, change: &Change<'_>) -> Result<(), String> {
        let Some(old) = change.old.filter(|_| change.resource == "/pods") else { return Ok(()) };
        if !is_healthy(old) || change.new.is_some_and(is_healthy) {
            return Ok(());
        }
        for (key, budget) in cluster.all("policy/poddisruptionbudgets") {
            let Some(wanted) = budget["spec"]["minAvailable"].as_u64() else { continue };
            let selects = |pod: &Value| {
                let labels = budget["spec"]["selector"]["matchLabels"].as_object();
                let mut labels = labels.into_iter().flatten();
                labels.all(|(key, value)| pod["metadata"]["labels"][key] == *value)
            };
            let pods = cluster.all("/pods").map(|(_, pod)| pod);
            let healthy = pods.filter(|pod| is_healthy(pod) && selects(pod)).count() as u64;
            if selects(old) && healthy < wanted {
                let pod = change.key;
                return Err(format!("{pod} went and {key} is left {healthy} of {wanted}"));
            }
        }
        Ok(())
    }
}

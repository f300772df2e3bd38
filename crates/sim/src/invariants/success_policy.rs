//! A Job succeeds by its success policy when one of its rules holds of the indexes
//! that have succeeded, unless its indexes have all ended and one has failed, and makes
//! no pod any more.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::jobs::{INDEX, indexes};
use crate::{
    Change, Cluster, Invariant, World,
    history::{controller, has_condition, uid},
};

/// By the uid of a Job with such a policy.
#[derive(Default)]
pub(crate) struct SuccessPolicy(BTreeMap<String, Job>);

#[derive(Default)]
struct Job {
    rules: Vec<Value>,
    /// The indexes of which a pod has succeeded.
    succeeded: BTreeSet<u64>,
    is_met: bool,
}

fn holds(rules: &[Value], succeeded: &BTreeSet<u64>) -> bool {
    rules.iter().any(|rule| {
        let of = &rule["succeededIndexes"];
        let wanted = of.is_string().then(|| indexes(of));
        let these = succeeded.iter().filter(|i| wanted.as_ref().is_none_or(|w| w.contains(*i)));
        let count = these.count();
        let all = wanted.is_some_and(|wanted| count == wanted.len());
        rule["succeededCount"].as_u64().map_or(all, |enough| count as u64 >= enough)
    })
}

impl Invariant for SuccessPolicy {
    fn observe(&mut self, world: &World, _: &Cluster, change: &Change<'_>) -> Result<(), String> {
        let Some(new) = change.new else { return Ok(()) };
        match change.resource {
            "batch/jobs" => {
                let Some(rules) = new["spec"]["successPolicy"]["rules"].as_array() else {
                    return Ok(());
                };
                let job = self.0.entry(uid(new).to_owned()).or_default();
                job.rules.clone_from(rules);
                let was_met = std::mem::replace(
                    &mut job.is_met,
                    has_condition(new, "SuccessCriteriaMet") || has_condition(new, "Complete"),
                );
                if job.is_met && !was_met && !holds(rules, &job.succeeded) {
                    return Err(format!("{} succeeds by {:?}", change.key, job.succeeded));
                }
            }
            "/pods" => {
                let owner = controller(new).and_then(|owner| self.0.get_mut(owner));
                let index = new["metadata"]["annotations"][INDEX].as_str();
                let index = index.and_then(|index| index.parse().ok());
                let (Some(job), Some(index)) = (owner, index) else { return Ok(()) };
                if new["status"]["phase"] == "Succeeded" {
                    job.succeeded.insert(index);
                }
                let unknown = world.faults().lost_creations();
                if change.old.is_none() && job.is_met && unknown == 0 {
                    return Err(format!("{} comes after the Job has succeeded", change.key));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn settled(&self, _: &World, cluster: &Cluster) -> Result<(), String> {
        for (key, job) in cluster.all("batch/jobs") {
            let Some(known) = self.0.get(uid(job)) else { continue };
            let done = indexes(&job["status"]["completedIndexes"]);
            // Once every index has ended and one of them has failed for good, the Job
            // fails, and upstream asks that before the policy.
            let failed = indexes(&job["status"]["failedIndexes"]);
            let completions = job["spec"]["completions"].as_u64().unwrap_or(1);
            let all_ended = (done.len() + failed.len()) as u64 >= completions;
            let may_fail = !failed.is_empty() && all_ended && has_condition(job, "Failed");
            if holds(&known.rules, &done) && !has_condition(job, "Complete") && !may_fail {
                return Err(format!("{key} has not succeeded by {done:?}"));
            }
        }
        Ok(())
    }
}

//! With `backoffLimitPerIndex` an index is tried again so often and not oftener, is
//! given up then or where a policy says so, and for no other reason.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::jobs::{INDEX, indexes};
use crate::{
    Change, Cluster, Invariant, World,
    history::{controller, has_condition, uid},
    kubelet::SPECIAL,
};

/// By the uid of a Job with such a limit.
#[derive(Default)]
pub(crate) struct IndexLimit(BTreeMap<String, Job>);

#[derive(Default)]
struct Job {
    limit: u64,
    /// Whether the exit code [`SPECIAL`] fails an index.
    fails_index: bool,
    /// Pods that failed by themselves, by index.
    failed: BTreeMap<u64, BTreeSet<String>>,
    /// Pods that were told to go, which count as failures where they had not succeeded.
    told_to_go: BTreeMap<u64, BTreeSet<String>>,
    /// Indexes with a failure that fails them.
    doomed: BTreeSet<u64>,
}

fn index(pod: &Value) -> Option<u64> {
    pod["metadata"]["annotations"][INDEX].as_str()?.parse().ok()
}

impl Job {
    fn failures(&self, index: u64) -> u64 {
        self.failed.get(&index).map_or(0, BTreeSet::len) as u64
    }

    fn fail(&mut self, index: u64, pod: &Value) {
        self.failed.entry(index).or_default().insert(uid(pod).to_owned());
        let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
        if self.fails_index && ended["exitCode"] == SPECIAL {
            self.doomed.insert(index);
        }
    }
}

impl Invariant for IndexLimit {
    fn observe(&mut self, world: &World, _: &Cluster, change: &Change<'_>) -> Result<(), String> {
        let Some(new) = change.new else { return Ok(()) };
        if change.resource == "batch/jobs" {
            if let Some(limit) = new["spec"]["backoffLimitPerIndex"].as_u64() {
                let known = self.0.entry(uid(new).to_owned()).or_default();
                let rule = &new["spec"]["podFailurePolicy"]["rules"][0]["action"];
                (known.limit, known.fails_index) = (limit, rule == "FailIndex");
            }
            return Ok(());
        }
        let Some(job) = controller(new).and_then(|owner| self.0.get_mut(owner)) else {
            return Ok(());
        };
        let Some(index) = index(new).filter(|_| change.resource == "/pods") else { return Ok(()) };
        // One that was told to go has failed by nobody's fault.
        let goes = !new["metadata"]["deletionTimestamp"].is_null();
        if goes {
            job.told_to_go.entry(index).or_default().insert(uid(new).to_owned());
        } else if new["status"]["phase"] == "Failed" {
            job.fail(index, new);
        }
        if change.old.is_some() {
            return Ok(());
        }
        let (failures, unknown) = (job.failures(index), world.faults().lost_creations());
        if failures > job.limit + unknown {
            return Err(format!("{} is tried after {failures} failures", change.key));
        }
        match job.doomed.contains(&index) && unknown == 0 {
            true => Err(format!("{} is of an index that has failed", change.key)),
            false => Ok(()),
        }
    }

    fn settled(&self, world: &World, cluster: &Cluster) -> Result<(), String> {
        for (key, job) in cluster.all("batch/jobs") {
            let Some(known) = self.0.get(uid(job)) else { continue };
            let given_up = indexes(&job["status"]["failedIndexes"]);
            for index in &given_up {
                let lists = [known.failed.get(index), known.told_to_go.get(index)];
                let all: BTreeSet<&String> = lists.into_iter().flatten().flatten().collect();
                let is_right = all.len() as u64 > known.limit || known.doomed.contains(index);
                if !is_right {
                    let failures = known.failures(*index);
                    return Err(format!("{key} gave {index} up after {failures} failures"));
                }
            }
            let most = job["spec"]["maxFailedIndexes"].as_u64();
            let is_over = most.is_some_and(|most| given_up.len() as u64 > most);
            if is_over && !has_condition(job, "Failed") {
                return Err(format!("{key} goes on with {given_up:?} given up"));
            }
            let all = job["spec"]["completions"].as_u64().unwrap_or(0);
            let done = indexes(&job["status"]["completedIndexes"]);
            let is_early = is_over || !job["spec"]["successPolicy"].is_null();
            let left = (0..all).find(|index| !done.contains(index) && !given_up.contains(index));
            if let Some(left) = left.filter(|_| !is_early && world.faults().lost_creations() == 0) {
                return Err(format!("{key} has ended without {left}: {}", job["status"]));
            }
        }
        Ok(())
    }
}

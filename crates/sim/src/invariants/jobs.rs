//! A Job never has more pods than it may have at a time, counts each pod that
//! ended once and no other, and after its end does nothing any more.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    Change, Cluster, Invariant, World,
    history::{controller, has_condition, is_active, uid},
    kubelet::SPECIAL,
};

const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// What is known of each Job, by uid.
#[derive(Default)]
pub(crate) struct Jobs(BTreeMap<String, Job>);

#[derive(Default)]
struct Job {
    /// The most that was asked for at a time.
    parallelism: u64,
    /// Whether fewer were asked for meanwhile: pods that go for that count
    /// only if their end was seen.
    shrank: bool,
    /// Pods that succeeded, and those that failed or were stopped, while the
    /// Job was to count them.
    succeeded: BTreeSet<String>,
    failed: BTreeSet<String>,
    /// Of the succeeded those that were told to stop before: counted as either, since the
    /// Job may have counted them before it heard how they ended.
    late: BTreeSet<String>,
    /// Of the failed those that a policy may leave out.
    special: BTreeSet<String>,
    /// The indexes that succeeded.
    indexes: BTreeSet<String>,
    /// As counted in the end.
    end: Option<[u64; 2]>,
}

impl Invariant for Jobs {
    fn observe(
        &mut self,
        world: &World,
        cluster: &Cluster,
        change: &Change<'_>,
    ) -> Result<(), String> {
        let unknown = world.faults().lost_creations();
        let checked = match (change.resource, change.new) {
            ("batch/jobs", Some(job)) => self.job(cluster, change.old, job, unknown),
            ("/pods", Some(pod)) => self.pod(cluster, change.old, pod, unknown),
            _ => Ok(()),
        };
        checked.map_err(|error| format!("{}: {error}", change.key))
    }

    fn settled(&self, _: &World, cluster: &Cluster) -> Result<(), String> {
        for (key, pod) in cluster.all("/pods") {
            if is_tracked(pod) {
                return Err(format!("{key} is still to be counted"));
            }
        }
        for (key, job) in cluster.all("batch/jobs") {
            let Some(known) = self.0.get(uid(job)) else { continue };
            if known.shrank || job["spec"]["completionMode"] == "Indexed" {
                continue;
            }
            let [succeeded, failed] = counted(job);
            let pods = known.succeeded.len() as u64;
            if succeeded > pods || succeeded < pods - known.late.len() as u64 {
                return Err(format!("{key} counts {succeeded} successes of {pods} pods"));
            }
            let sure = known.failed.difference(&known.special).count() as u64;
            let ends = job["status"]["conditions"].to_string();
            if failed < sure {
                return Err(format!("{key} counts {failed} failures of {sure} pods: {ends}"));
            }
        }
        Ok(())
    }
}

impl Jobs {
    fn job(
        &mut self,
        cluster: &Cluster,
        old: Option<&Value>,
        job: &Value,
        unknown: u64,
    ) -> Result<(), String> {
        let known = self.0.entry(uid(job).to_owned()).or_default();
        let asked = match job["spec"]["suspend"] == true {
            true => 0,
            false => job["spec"]["parallelism"].as_u64().unwrap_or(1),
        };
        known.shrank |= asked < known.parallelism;
        known.parallelism = known.parallelism.max(asked);
        let [succeeded, failed] = counted(job);
        let before = old.map_or([0; 2], counted);
        if succeeded < before[0] || failed < before[1] {
            return Err(format!("it counted {before:?} before and {succeeded}, {failed} now"));
        }
        let indexed = job["spec"]["completionMode"] == "Indexed";
        let ended = if indexed { &known.indexes } else { &known.succeeded };
        if succeeded > ended.len() as u64 {
            return Err(format!("it counts {succeeded} successes; there were {}", ended.len()));
        }
        if failed > known.failed.len() as u64 {
            return Err(format!("it counts {failed} failures; there were {}", known.failed.len()));
        }
        match known.end {
            None if ends(job) => {
                known.end = Some([succeeded, failed]);
                let pods = cluster.controlled("/pods", uid(job));
                let left = pods.iter().filter(|pod| is_active(pod) || is_tracked(pod)).count();
                if left as u64 > unknown {
                    return Err(format!("it ended with {left} pods that run or do not count yet"));
                }
            }
            Some(end) if end != [succeeded, failed] || !ends(job) => {
                return Err(format!("it went on after its end: {}", job["status"]));
            }
            _ => {}
        }
        Ok(())
    }

    fn pod(
        &mut self,
        cluster: &Cluster,
        old: Option<&Value>,
        pod: &Value,
        unknown: u64,
    ) -> Result<(), String> {
        let Some(owner) = controller(pod) else { return Ok(()) };
        let Some(known) = self.0.get_mut(owner) else { return Ok(()) };
        if is_tracked(pod) {
            let name = uid(pod).to_owned();
            let stopped = !pod["metadata"]["deletionTimestamp"].is_null();
            match pod["status"]["phase"].as_str() {
                Some("Succeeded") => {
                    if let Some(index) = pod["metadata"]["annotations"][INDEX].as_str() {
                        known.indexes.insert(index.to_owned());
                    }
                    if known.succeeded.insert(name.clone()) && stopped {
                        known.late.insert(name);
                    }
                }
                Some("Failed") => {
                    let exit = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
                    // One that was stopped failed by nobody's fault, too.
                    if exit["exitCode"] == SPECIAL || stopped {
                        known.special.insert(name.clone());
                    }
                    known.failed.insert(name);
                }
                _ if stopped => {
                    known.special.insert(name.clone());
                    known.failed.insert(name);
                }
                _ => {}
            }
        }
        if old.is_some() {
            return Ok(());
        }
        if known.end.is_some() && unknown == 0 {
            return Err("a pod of a Job that has ended".into());
        }
        let active: Vec<&Value> =
            cluster.controlled("/pods", owner).into_iter().filter(|pod| is_active(pod)).collect();
        if active.len() as u64 > known.parallelism + unknown {
            let most = known.parallelism;
            return Err(format!("it is one of {} pods where {most} may be", active.len()));
        }
        let index = &pod["metadata"]["annotations"][INDEX];
        let twins = active.iter().filter(|pod| pod["metadata"]["annotations"][INDEX] == *index);
        let twins = twins.count() as u64;
        if index.is_string() && twins > 1 + unknown {
            return Err(format!("it is one of {twins} pods with the index {index}"));
        }
        Ok(())
    }
}

/// The numbers of a status: `1,3-5,7`.
pub(super) fn indexes(text: &Value) -> BTreeSet<u64> {
    let parts = text.as_str().unwrap_or_default().split(',');
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    parts.filter_map(range).flatten().collect()
}

fn is_tracked(pod: &Value) -> bool {
    let finalizers = pod["metadata"]["finalizers"].as_array();
    finalizers.is_some_and(|all| all.iter().any(|finalizer| finalizer == FINALIZER))
}

/// Successes and failures with those that are about to be counted. Those of
/// an Indexed Job count by their index, at once.
fn counted(job: &Value) -> [u64; 2] {
    ["succeeded", "failed"].map(|what| {
        let counted = job["status"][what].as_u64().unwrap_or(0);
        let waiting = job["status"]["uncountedTerminatedPods"][what].as_array();
        counted + waiting.map_or(0, Vec::len) as u64
    })
}

fn ends(job: &Value) -> bool {
    has_condition(job, "Complete") || has_condition(job, "Failed")
}

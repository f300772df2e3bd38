//! A Job that has ended stays for its `ttlSecondsAfterFinished` by the wall clock,
//! and not much longer. Holds where nobody else deletes Jobs.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::{Change, Cluster, Invariant, World};

pub(crate) struct TimeToLive;

const JOBS: &str = "batch/jobs";
/// At rest.
const SLACK: SignedDuration = SignedDuration::from_secs(60);

/// Whether it has a time to live.
fn expires(job: &Value) -> bool {
    job["spec"]["ttlSecondsAfterFinished"].is_i64()
}

/// When its time is up; `None` while it runs.
fn end(job: &Value) -> Option<Timestamp> {
    let seconds = job["spec"]["ttlSecondsAfterFinished"].as_i64()?;
    let conditions = job["status"]["conditions"].as_array()?;
    let is_last = |c: &&Value| matches!(c["type"].as_str(), Some("Complete" | "Failed"));
    let ended = conditions.iter().filter(|c| c["status"] == "True").find(is_last)?;
    let ended: Timestamp = ended["lastTransitionTime"].as_str()?.parse().ok()?;
    Some(ended + SignedDuration::from_secs(seconds))
}

fn goes(job: &Value) -> bool {
    !job["metadata"]["deletionTimestamp"].is_null()
}

impl Invariant for TimeToLive {
    fn observe(&mut self, world: &World, _: &Cluster, change: &Change<'_>) -> Result<(), String> {
        let Some(old) = change.old.filter(|old| change.resource == JOBS && expires(old)) else {
            return Ok(());
        };
        if goes(old) || change.new.is_some_and(|new| !goes(new)) {
            return Ok(());
        }
        match end(old) {
            None => Err(format!("{} is deleted while it runs", change.key)),
            Some(end) if end > *world.clock().lately().end() => {
                Err(format!("{} is deleted before {end}", change.key))
            }
            Some(_) => Ok(()),
        }
    }

    fn settled(&self, world: &World, cluster: &Cluster) -> Result<(), String> {
        let over = world.clock().now() - SLACK;
        match cluster.all(JOBS).find(|(_, job)| end(job).is_some_and(|end| end < over)) {
            Some((key, job)) => Err(format!("{key} is still there: {}", job["status"])),
            None => Ok(()),
        }
    }
}

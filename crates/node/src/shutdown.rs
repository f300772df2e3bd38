//! The machine shuts down: the node says that it is not ready, takes no more pods,
//! and ends those it has in the order of their priorities, each with its grace.
//! (KEP-2000, KEP-2712;
//! <https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/>)

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::{
    eviction::{Order, SYSTEM_CRITICAL, duration},
    machine::object::reference,
    node::Deps,
    pod::view::Terminal,
};

/// What upstream says of each pod that it ends.
const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";
/// The shortest grace of a pod.
const GRACE_MIN: Duration = Duration::from_secs(1);
/// A server that does not answer holds up no shutdown for longer.
const TELL_MAX: Duration = Duration::from_secs(5);

/// How far a shutdown has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Progress {
    #[default]
    None,
    /// It has been noticed.
    Begun,
    /// The Node object says so.
    Told,
}

/// How long pods from a priority on, up to that of the next, may take to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShutdownGrace {
    /// The least of the pods it is for.
    pub priority: i32,
    /// Zero ends them at once.
    pub grace: Duration,
}

impl ShutdownGrace {
    /// Reads `--shutdown-grace-period`, `--shutdown-grace-period-critical-pods` and
    /// `--shutdown-grace-period-by-pod-priority`, whose values `of` gives by name. None
    /// where pods run on till the machine is off, the lowest priority first else.
    ///
    /// # Errors
    /// What is wrong, with the flag's name.
    pub fn read(mut of: impl FnMut(&str) -> Vec<String>) -> Result<Vec<Self>, String> {
        const TOTAL: &str = "shutdown-grace-period";
        const CRITICAL: &str = "shutdown-grace-period-critical-pods";
        const BY_PRIORITY: &str = "shutdown-grace-period-by-pod-priority";
        let mut one = |flag: &str| -> Result<Duration, String> {
            let first = of(flag).into_iter().next().filter(|text| !text.is_empty());
            let Some(text) = first else { return Ok(Duration::ZERO) };
            let time = duration(&text).map_err(|error| format!("--{flag}: {error}"))?;
            match time.is_zero() || time >= Duration::from_secs(1) {
                true => Ok(time),
                false => Err(format!("--{flag}: {text} is neither 0s nor a second or more")),
            }
        };
        let (total, critical) = (one(TOTAL)?, one(CRITICAL)?);
        if critical > total {
            return Err(format!("--{CRITICAL}: is part of --{TOTAL} and cannot be longer"));
        }
        let mut groups = Vec::new();
        for pair in of(BY_PRIORITY) {
            let read = || {
                let (priority, time) = pair.split_once('=')?;
                Some(Self { priority: priority.parse().ok()?, grace: duration(time).ok()? })
            };
            let group = read().ok_or_else(|| {
                format!("--{BY_PRIORITY}: {pair:?} is not PRIORITY=TIME such as 100000=30s")
            })?;
            if groups.iter().any(|known: &Self| known.priority == group.priority) {
                return Err(format!("--{BY_PRIORITY}: priority {} twice", group.priority));
            }
            groups.push(group);
        }
        match (groups.is_empty(), total.is_zero()) {
            (false, false) => return Err(format!("--{BY_PRIORITY}: not together with --{TOTAL}")),
            (true, false) => groups.extend([
                Self { priority: 0, grace: total - critical },
                Self { priority: SYSTEM_CRITICAL, grace: critical },
            ]),
            _ => {}
        }
        groups.sort_by_key(|group| group.priority);
        Ok(groups)
    }
}

/// Whose group a pod is in, of some in order; below the first it is the first's.
fn group_of(groups: &[ShutdownGrace], priority: i32) -> usize {
    groups.iter().rposition(|group| group.priority <= priority).unwrap_or(0)
}

/// Until the pods have ended and the API knows it, or their time is over.
pub(crate) async fn run(deps: &Arc<Deps>) {
    let groups = &deps.config.shutdown;
    if groups.is_empty() {
        return;
    }
    deps.shutdown.set(Progress::Begun);
    let about = reference(&deps.config.name);
    deps.recorder.normal(&about, "NodeShutdown", "Shutdown manager detected shutdown event");
    let mut progress = deps.shutdown.follow();
    let told = progress.wait_for(|progress| *progress == Progress::Told);
    if timeout(TELL_MAX, told).await.is_err() {
        tracing::warn!("no server has heard that the node shuts down");
    }
    for (index, group) in groups.iter().enumerate() {
        let mut left = deps.evictable.left();
        left.retain(|left| group_of(groups, left.priority) == index);
        for pod in &left {
            let grace = pod.grace.min(group.grace).max(GRACE_MIN);
            let order = Order { reason: Terminal::TERMINATED, message: MESSAGE.into(), grace };
            pod.end(order);
        }
        let uids: Vec<String> = left.into_iter().map(|left| left.uid).collect();
        if uids.is_empty() {
            continue;
        }
        tracing::info!(pods = uids.len(), priority = group.priority, "pods are ended");
        if timeout(group.grace.max(GRACE_MIN), deps.evictable.until_ended(&uids)).await.is_err() {
            tracing::warn!(priority = group.priority, "some pods have not ended in their time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flags: &[(&str, &str)]) -> Result<Vec<(i32, u64)>, String> {
        let read = ShutdownGrace::read(|flag| {
            let given = flags.iter().find(|(name, _)| *name == flag);
            given.map(|(_, v)| v.split(',').map(str::to_owned).collect()).unwrap_or_default()
        });
        Ok(read?.iter().map(|group| (group.priority, group.grace.as_secs())).collect())
    }

    #[test]
    fn flags_are_read_or_refused() {
        const TOTAL: &str = "shutdown-grace-period";
        const CRITICAL: &str = "shutdown-grace-period-critical-pods";
        const BY_PRIORITY: &str = "shutdown-grace-period-by-pod-priority";
        for (flags, groups) in [
            (&[][..], vec![]),
            (&[(TOTAL, "0s"), (CRITICAL, "0s")], vec![]),
            (&[(TOTAL, "30s"), (CRITICAL, "10s")], vec![(0, 20), (2_000_000_000, 10)]),
            (&[(TOTAL, "30s")], vec![(0, 30), (2_000_000_000, 0)]),
            (&[(BY_PRIORITY, "100=10s,-5=1m0s,0=0s")], vec![(-5, 60), (0, 0), (100, 10)]),
        ] {
            assert_eq!(read(flags), Ok(groups), "{flags:?}");
        }
        for (flags, why) in [
            (&[(TOTAL, "soon")][..], "no time such as"),
            (&[(TOTAL, "10ms")], "neither 0s nor a second"),
            (&[(TOTAL, "10s"), (CRITICAL, "11s")], "cannot be longer"),
            (&[(CRITICAL, "11s")], "cannot be longer"),
            (&[(BY_PRIORITY, "10s")], "is not PRIORITY=TIME"),
            (&[(BY_PRIORITY, "1=10s,1=20s")], "priority 1 twice"),
            (&[(BY_PRIORITY, "1=10s"), (TOTAL, "10s")], "not together with"),
        ] {
            let told = read(flags).expect_err(why);
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn every_priority_has_its_group() {
        let group = |priority| ShutdownGrace { priority, grace: Duration::ZERO };
        let groups = [group(0), group(100), group(2_000_000_000)];
        for (priority, index) in
            [(-7, 0), (0, 0), (99, 0), (100, 1), (1_999_999_999, 1), (2_000_001_000, 2)]
        {
            assert_eq!(group_of(&groups, priority), index, "{priority}");
        }
    }
}

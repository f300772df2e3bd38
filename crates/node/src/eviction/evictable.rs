//! The pods that run here, as far as who ends or forgets them needs to know.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api_types::core::Pod;
use tokio::sync::{mpsc::UnboundedSender, watch};

use super::dead::Ended;
use crate::pod::{
    view::{PodState, RunState, Step, Terminal, grace},
    worker::Message,
};

/// A container that takes longer to be removed is not waited for.
const FORGET_MAX: Duration = Duration::from_secs(10);
/// From here on a priority is that of the system's own (`system-cluster-critical`).
pub(crate) const SYSTEM_CRITICAL: i32 = 2_000_000_000;

/// Tells a pod's worker to end it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    /// `Evicted`, or why else the node ends it.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) grace: Duration,
}

/// The pods that run here and who ends them.
#[derive(Debug, Default)]
pub(crate) struct Evictable {
    pods: Mutex<BTreeMap<String, Entry>>,
    /// Somebody has ended.
    ended: watch::Sender<()>,
}

/// A pod that may have to make room.
#[derive(Debug)]
pub(crate) struct Preemptable {
    pub(crate) pod: Arc<Pod>,
    worker: UnboundedSender<Message>,
}

impl Preemptable {
    /// Asks for its end.
    pub(crate) fn end(&self) {
        let seconds = self.pod.spec.termination_grace_period_seconds.unwrap_or(30);
        let order = Order {
            reason: Terminal::PREEMPTED,
            message: "Preempted in order to admit critical pod".into(),
            grace: grace(seconds),
        };
        // A worker that has just ended needs no order.
        let _ = self.worker.send(Message::Evict(order));
    }
}

/// A pod that has not ended yet.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) uid: String,
    pub(crate) priority: i32,
    /// Its own.
    pub(crate) grace: Duration,
    worker: UnboundedSender<Message>,
}

impl Left {
    /// Asks for its end; one that ends already does so as it was told before.
    pub(crate) fn end(&self, order: Order) {
        // A worker that has just ended needs no order.
        let _ = self.worker.send(Message::Evict(order));
    }
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) pod: Arc<Pod>,
    pub(super) worker: UnboundedSender<Message>,
    /// It runs and is to go on.
    active: bool,
    /// Nothing of it runs any more.
    stopped: bool,
    /// And the API has heard of it.
    told: bool,
    /// Containers that have ended and are known still, and when the last one did,
    /// seconds since 1970.
    dead: (usize, i64),
    /// The system needs it: nobody evicts it.
    pub(super) critical: bool,
}

impl Entry {
    fn has_ended(&self) -> bool {
        self.stopped && self.told
    }
}

impl Evictable {
    /// Takes in how a pod is. `told` is whether the API knows. Answers whether it has
    /// just stopped.
    pub(crate) fn put(
        &self,
        state: &PodState,
        is_static: bool,
        told: bool,
        worker: &UnboundedSender<Message>,
    ) -> bool {
        let entry = Entry {
            pod: state.pod.clone(),
            worker: worker.clone(),
            active: !state.is_ending() && !state.sandboxes.is_empty(),
            stopped: state.is_ending() && state.stop_sandbox == Step::Done,
            told,
            dead: dead(state),
            critical: is_critical(&state.pod, is_static),
        };
        let stopped = entry.stopped;
        let before = self.lock().insert(state.pod.metadata.uid.clone(), entry);
        if stopped {
            self.ended.send_replace(());
        }
        stopped && before.is_some_and(|before| !before.stopped)
    }

    pub(crate) fn remove(&self, uid: &str) {
        self.lock().remove(uid);
        self.ended.send_replace(());
    }

    /// What is left of pods that have ended.
    pub(super) fn ended(&self) -> Vec<Ended> {
        let pods = self.lock();
        let ended = pods.iter().filter(|(_, entry)| entry.has_ended() && entry.dead.0 > 0);
        ended
            .map(|(uid, entry)| Ended { uid: uid.clone(), dead: entry.dead.0, at: entry.dead.1 })
            .collect()
    }

    /// Has these forgotten, and waits a moment for it.
    pub(super) async fn forget(&self, uids: &[String]) {
        let mut changed = self.ended.subscribe();
        for entry in uids.iter().filter_map(|uid| self.lock().get(uid).cloned()) {
            // A worker that has just ended has forgotten already.
            let _ = entry.worker.send(Message::Forget);
        }
        let are_forgotten = || {
            let pods = self.lock();
            uids.iter().all(|uid| pods.get(uid).is_none_or(|entry| entry.dead.0 == 0))
        };
        let wait = changed.wait_for(|()| are_forgotten());
        if tokio::time::timeout(FORGET_MAX, wait).await.is_err() {
            tracing::warn!(pods = uids.len(), "ended containers are not removed yet");
        }
    }

    /// Every pod that has not ended, or whose end the API does not know of.
    pub(crate) fn left(&self) -> Vec<Left> {
        let pods = self.lock();
        let left = pods.iter().filter(|(_, entry)| !entry.has_ended());
        left.map(|(uid, entry)| {
            let spec = &entry.pod.spec;
            // Those that the node itself was given are the system's, as upstream takes them.
            let priority =
                spec.priority.unwrap_or(if entry.critical { SYSTEM_CRITICAL } else { 0 });
            Left {
                uid: uid.clone(),
                priority,
                grace: grace(spec.termination_grace_period_seconds.unwrap_or(30)),
                worker: entry.worker.clone(),
            }
        })
        .collect()
    }

    /// Until all of these have ended and the API knows it.
    pub(crate) async fn until_ended(&self, uids: &[String]) {
        let mut ended = self.ended.subscribe();
        let have_ended = || {
            let pods = self.lock();
            uids.iter().all(|uid| pods.get(uid).is_none_or(Entry::has_ended))
        };
        // The sender is this one's own.
        let _ = ended.wait_for(|()| have_ended()).await;
    }

    /// Until nothing of these runs any more.
    pub(crate) async fn until_stopped(&self, uids: &[String]) {
        let mut ended = self.ended.subscribe();
        let have_stopped = || uids.iter().all(|uid| self.has_stopped(uid));
        // The sender is this one's own.
        let _ = ended.wait_for(|()| have_stopped()).await;
    }

    /// The pods that go on, of which a critical one may take the place.
    pub(crate) fn preemptable(&self, by: &Pod, is_static: bool) -> Vec<Preemptable> {
        let critical = is_critical(by, is_static);
        let priority = by.spec.priority;
        let goes = |entry: &Entry| match (priority, entry.pod.spec.priority) {
            _ if critical && !entry.critical => true,
            (Some(by), Some(other)) => by > other,
            _ => false,
        };
        let preemptable = |entry: Entry| Preemptable { pod: entry.pod, worker: entry.worker };
        self.active().into_iter().filter(goes).map(preemptable).collect()
    }

    pub(super) fn active(&self) -> Vec<Entry> {
        self.lock().values().filter(|entry| entry.active).cloned().collect()
    }

    pub(super) fn has_stopped(&self, uid: &str) -> bool {
        self.lock().get(uid).is_none_or(|entry| entry.stopped)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn dead(state: &PodState) -> (usize, i64) {
    let exits = state.runs.iter().filter_map(|run| match &run.state {
        RunState::Exited(exit) if run.id.is_some() => Some(exit.finished_at.as_second()),
        _ => None,
    });
    (exits.clone().count(), exits.max().unwrap_or(0))
}

/// Whether the system needs a pod.
pub(crate) fn is_critical(pod: &Pod, is_static: bool) -> bool {
    is_static || pod.spec.priority.is_some_and(|priority| priority >= SYSTEM_CRITICAL)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_systems_own_pods_are_not_evicted() {
        let pod = |priority: i64| -> Pod {
            serde_json::from_value(json!({"spec": {"priority": priority}})).expect("a pod")
        };
        assert!(!is_critical(&pod(1_000_000), false));
        assert!(is_critical(&pod(2_000_000_000), false) && is_critical(&pod(0), true));
    }
}

//! What is counted in this pass, and which pods may then go.

use std::collections::BTreeSet;

use super::{
    indexes::Indexes,
    pods::{PodRef, index, is_tracked},
    policy::Failure,
    state::{State, length, small},
    verdict::Verdict,
};
use crate::cached::{JobStatus, UncountedPods};

/// Most pods in a status that wait to be counted; upstream's number. It keeps
/// statuses small.
const UNCOUNTED_MAX: usize = 500;

/// Brings the counters of a status up to date. Returns the pods whose
/// finalizer is to be removed once the status is written.
pub(super) fn count(
    state: &State<'_>,
    verdict: Option<&Verdict>,
    status: &mut JobStatus,
) -> Vec<PodRef> {
    let mut uncounted = settle(state, status);
    let mut succeeded = Indexes::default();
    let mut let_go = Vec::new();
    for pod in state.own.iter().filter(|pod| is_tracked(pod)) {
        if uncounted.succeeded.len() + uncounted.failed.len() + succeeded.len() >= UNCOUNTED_MAX {
            break;
        }
        if !may_go(state, verdict, pod) {
            continue;
        }
        let_go.push(pod.clone());
        let uid = &pod.meta.uid;
        let known = uncounted.failed.contains(uid) || uncounted.succeeded.contains(uid);
        if known || !state.has_place(pod) {
            continue;
        }
        let ends_with_failure = verdict.is_some_and(|verdict| verdict.fails);
        if pod.view.status.phase == "Succeeded" {
            match index(pod).filter(|_| state.is_indexed()) {
                // Its index is all there is to know.
                Some(index) => succeeded.add(index),
                None => uncounted.succeeded.push(uid.clone()),
            }
        } else if (state.has_failed(pod) || ends_with_failure)
            && state.failure(pod) != Failure::Ignored
        {
            uncounted.failed.push(uid.clone());
        }
    }
    if state.is_indexed() {
        let mut completed = state.told_completed.clone();
        completed.add_all(&succeeded);
        status.succeeded = small(length(completed.len()));
        status.completed_indexes = completed.to_string();
        status.failed_indexes = state.failed_indexes.as_ref().map(Indexes::to_string);
    }
    status.uncounted_terminated_pods = Some(uncounted);
    let_go
}

/// Counts those that are gone, or whose finalizer is; returns the others.
fn settle(state: &State<'_>, status: &mut JobStatus) -> UncountedPods {
    let tracked: BTreeSet<&String> =
        state.own.iter().filter(|pod| is_tracked(pod)).map(|pod| &pod.meta.uid).collect();
    let settle = |uids: &[String], counter: &mut i32| {
        let (wait, gone): (Vec<_>, Vec<_>) =
            uids.iter().cloned().partition(|uid| tracked.contains(uid));
        *counter = small(i64::from(*counter) + length(gone.len()));
        wait
    };
    UncountedPods {
        succeeded: settle(&state.uncounted.succeeded, &mut status.succeeded),
        failed: settle(&state.uncounted.failed, &mut status.failed),
    }
}

/// Whether nothing more is to be learned from a pod.
fn may_go(state: &State<'_>, verdict: Option<&Verdict>, pod: &PodRef) -> bool {
    if state.is_being_deleted() || pod.view.status.phase == "Succeeded" {
        return true;
    }
    if let Some(verdict) = verdict {
        // One that is ended with a Job that fails counts, and may have ended by itself
        // before, which is sure once its deletion is seen.
        let is_known = pod.view.is_terminal() || pod.meta.deletion_timestamp.is_some();
        return is_known || !verdict.fails;
    }
    let is_kept = |index| state.kept.get(&index).is_some_and(|kept| kept.meta.uid == pod.meta.uid);
    state.has_failed(pod) && !index(pod).is_some_and(is_kept)
}

//! The pods of a Job, sorted out.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    backoff::Failures,
    indexes::Indexes,
    pods::{self, PodRef, finished_at, index, index_failures, is_tracked},
    policy::{self, Failure},
    view::View,
};
use crate::cached::{JobSpec, UncountedPods};

/// What is seen, in the terms of the rules.
pub(super) struct State<'a> {
    pub(super) view: &'a View,
    pub(super) spec: &'a JobSpec,
    /// All that are the Job's, by completion index.
    pub(super) own: Vec<PodRef>,
    /// Neither ended nor on their way out.
    pub(super) active: Vec<PodRef>,
    /// On their way out, but not yet ended.
    pub(super) terminating: Vec<PodRef>,
    pub(super) uncounted: UncountedPods,
    /// Ended, and not counted in any way yet.
    pub(super) new_failed: Vec<PodRef>,
    /// Of an Indexed Job: what succeeded, as told and with what is new.
    pub(super) told_completed: Indexes,
    pub(super) completed: Indexes,
    /// Where each index has a limit: those that are given up.
    pub(super) failed_indexes: Option<Indexes>,
    /// Where each index has a limit: the last failed pod of each index that
    /// has no other. It stays uncounted, since the next one of its index needs
    /// to know what it knows.
    pub(super) kept: BTreeMap<usize, PodRef>,
    /// With what is new.
    pub(super) succeeded: i64,
    pub(super) failed: i64,
    pub(super) failures: Failures,
}

impl<'a> State<'a> {
    pub(super) fn new(view: &'a View, mut own: Vec<PodRef>) -> Self {
        let job = &view.job.view;
        own.sort_by_key(|pod| (index(pod), pod.meta.name.clone()));
        let uncounted = job.status.uncounted_terminated_pods.clone().unwrap_or_default();
        let mut state = Self {
            view,
            spec: &job.spec,
            active: Vec::new(),
            terminating: Vec::new(),
            uncounted,
            new_failed: Vec::new(),
            told_completed: Indexes::default(),
            completed: Indexes::default(),
            failed_indexes: None,
            kept: BTreeMap::new(),
            succeeded: 0,
            failed: 0,
            failures: Failures::default(),
            own,
        };
        let living = state.own.iter().filter(|pod| !pod.view.is_terminal()).cloned();
        (state.terminating, state.active) = living.partition(|pod| state.is_deleting(pod));
        state.count_ended();
        state
    }

    fn count_ended(&mut self) {
        let status = &self.view.job.view.status;
        let (mut succeeded, mut failed) = (Vec::new(), Vec::new());
        let known: BTreeSet<&String> =
            self.uncounted.succeeded.iter().chain(&self.uncounted.failed).collect();
        for pod in self.own.iter().filter(|pod| is_tracked(pod) && self.has_place(pod)) {
            if known.contains(&pod.meta.uid) {
                continue;
            }
            if pod.view.status.phase == "Succeeded" {
                succeeded.push(pod.clone());
            } else if self.has_failed(pod) {
                failed.push(pod.clone());
            }
        }
        let already =
            |pod: &&PodRef, phase: &str| !is_tracked(pod) && pod.view.status.phase == phase;
        // After a restart, what has been counted and is still there tells.
        let before = self.view.failures.unwrap_or_else(|| {
            let ended = |phase| times(self.own.iter().filter(|pod| already(pod, phase)));
            Failures::default().with(&ended("Succeeded"), &ended("Failed"))
        });
        self.failures = before.with(&times(succeeded.iter()), &times(failed.iter()));
        let counted = failed.iter().filter(|pod| self.failure(pod) != Failure::Ignored).count();
        self.failed =
            i64::from(status.failed) + length(self.uncounted.failed.len()) + length(counted);
        self.succeeded = i64::from(status.succeeded)
            + length(self.uncounted.succeeded.len())
            + length(succeeded.len());
        self.new_failed = failed;
        if self.is_indexed() {
            self.count_indexes(&succeeded);
        }
    }

    fn count_indexes(&mut self, succeeded: &[PodRef]) {
        let status = &self.view.job.view.status;
        self.told_completed = Indexes::parse(&status.completed_indexes, self.completions());
        self.completed = self.told_completed.clone();
        self.completed.add_all(&succeeded.iter().filter_map(|pod| index(pod)).collect());
        self.succeeded = length(self.completed.len());
        let Some(limit) = self.spec.backoff_limit_per_index else { return };
        let told = status.failed_indexes.as_deref().unwrap_or_default();
        let mut given_up = Indexes::parse(told, self.completions());
        for pod in &self.new_failed {
            let exhausted = match self.failure(pod) {
                Failure::FailsIndex => true,
                Failure::Ignored => false,
                Failure::Counts | Failure::FailsJob(_) => {
                    pods::number(pod, pods::INDEX_FAILURES) >= limit
                }
            };
            if let Some(index) = index(pod).filter(|_| exhausted) {
                given_up.add(index);
            }
        }
        let active = self.active_indexes();
        let mut kept: BTreeMap<usize, PodRef> = BTreeMap::new();
        for pod in &self.new_failed {
            let Some(index) = index(pod) else { continue };
            if self.completed.has(index) || given_up.has(index) || active.has(index) {
                continue;
            }
            let rank = |pod: &PodRef| (index_failures(pod), finished_at(pod));
            match kept.get(&index) {
                Some(other) if rank(other) > rank(pod) => {}
                _ => drop(kept.insert(index, pod.clone())),
            }
        }
        self.kept = kept;
        self.failed_indexes = Some(given_up);
    }

    pub(super) fn is_indexed(&self) -> bool {
        self.spec.completion_mode == "Indexed"
    }

    /// Of an Indexed Job, which always has a number.
    pub(super) fn completions(&self) -> usize {
        self.spec.completions.and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
    }

    /// Whether a pod on its way out is to be waited for before it is replaced.
    pub(super) fn replaces_failed_only(&self) -> bool {
        self.spec.pod_replacement_policy == "Failed"
    }

    pub(super) fn is_deleting(&self, pod: &PodRef) -> bool {
        pod.meta.deletion_timestamp.is_some() || self.view.deleted.contains(&pod.meta.uid)
    }

    /// Whether it is to be counted as failed.
    pub(super) fn has_failed(&self, pod: &PodRef) -> bool {
        match pod.view.status.phase.as_str() {
            "Failed" => true,
            "Succeeded" => false,
            // On a node that is gone it would never say more. One that was deleted here is
            // no failure of its own; while the cache does not show the deletion, it may not
            // show an end before it either.
            _ => {
                pod.meta.deletion_timestamp.is_some()
                    && !self.view.deleted.contains(&pod.meta.uid)
                    && !self.replaces_failed_only()
            }
        }
    }

    /// Whether it has an index that the Job has too; others are not counted.
    pub(super) fn has_place(&self, pod: &PodRef) -> bool {
        !self.is_indexed() || index(pod).is_some_and(|index| index < self.completions())
    }

    pub(super) fn failure(&self, pod: &PodRef) -> Failure {
        policy::failure(self.spec.pod_failure_policy.as_ref(), pod)
    }

    pub(super) fn active_indexes(&self) -> Indexes {
        self.active.iter().filter_map(|pod| index(pod)).collect()
    }

    pub(super) fn is_being_deleted(&self) -> bool {
        self.view.job.meta.deletion_timestamp.is_some()
    }
}

fn times<'a>(pods: impl Iterator<Item = &'a PodRef>) -> Vec<Timestamp> {
    pods.map(|pod| finished_at(pod)).collect()
}

pub(super) fn length(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A count as statuses have it.
pub(super) fn small(n: i64) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

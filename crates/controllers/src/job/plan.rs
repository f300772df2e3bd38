//! What a Job does next, as a whole. `state.rs` sorts the pods out,
//! `verdict.rs` says whether it is over, `count.rs` what is counted.

use std::time::Duration;

use api_object::time;
use client::Severity;
use jiff::Timestamp;

use super::{
    backoff::Failures,
    count,
    pods::{INDEX_FAILURES, INDEX_IGNORED, PodRef, finished_at, index, index_failures, number},
    policy::Failure,
    state::{State, length, small},
    verdict::{self, Verdict, condition},
    view::View,
};
use crate::{
    cached::{JobStatus, Pod},
    owner::{self, Claim},
    replicaset::first_to_go,
    status::{self, set_condition},
};

/// Most pods created or deleted in one go; upstream's number.
const BURST_MAX: usize = 500;

/// What is to be done, in this order. The status is written before pods are
/// let go: whoever loses its finalizer is known there.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Whose pods are whose.
    pub(super) pods: Claim<Pod>,
    /// Pods to be deleted that never count: too many, or not wanted now.
    pub(super) discard: Vec<PodRef>,
    /// Pods to be deleted since the Job is over. What the deletions make of them counts:
    /// the rest of the plan is made anew with it ([`View::once_ended`]).
    pub(super) end: Vec<PodRef>,
    pub(super) create: Vec<NewPod>,
    /// How the Job ends.
    pub(super) verdict: Option<Verdict>,
    /// The status, with all that is created and deleted here.
    pub(super) status: JobStatus,
    pub(super) events: Vec<Told>,
    /// Pods that lose their finalizer.
    pub(super) let_go: Vec<PodRef>,
    /// To be remembered once the status is written.
    pub(super) failures: Failures,
    /// When something is due by mere passing of time.
    pub(super) look_again: Option<Duration>,
}

/// A pod to be created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NewPod {
    pub(super) index: Option<usize>,
    /// With a limit for each index: its failures so far, and those ignored.
    pub(super) failures: Option<(i32, i32)>,
}

/// An event about the Job.
pub(super) type Told = (Severity, String, String);

/// Decides from what is seen; the Job has not finished.
pub(super) fn plan(view: &View) -> Plan {
    let pods = owner::claim(&view.job.meta, &view.selector, &view.pods, |_| true);
    let mut own = pods.own.clone();
    own.extend(strayed_and_going(view));
    let mut plan = Plan { pods, ..Plan::default() };
    let state = State::new(view, own);
    let mut verdict = verdict::verdict(&state);
    let mut status = view.job.view.status.clone();
    if status.start_time.is_none() && !state.spec.suspend {
        status.start_time = Some(time::format_seconds(view.now));
    }
    if verdict.is_some() {
        plan.end.clone_from(&state.active);
    } else if !state.is_being_deleted() {
        manage(&state, &mut plan);
    }
    let left = state.active.iter().filter(|pod| {
        let mut leaving = plan.discard.iter().chain(&plan.end);
        !leaving.any(|other| other.meta.uid == pod.meta.uid)
    });
    let left: Vec<&PodRef> = left.collect();
    let leaving = state.active.len() - left.len();
    let ready = left.iter().filter(|pod| pod.view.ready().is_some()).count();
    let active = left.len() + plan.create.len();
    if verdict.is_none() {
        if is_complete(&state, active) {
            let message = "Reached expected number of succeeded pods";
            verdict = Some(Verdict::success("CompletionsReached", message));
        } else if !state.is_being_deleted() {
            suspend_or_resume(&state, &mut status, &mut plan.events);
        }
    }
    status.active = small(length(active));
    status.ready = Some(small(length(ready)));
    status.terminating = Some(small(length(state.terminating.len() + leaving)));
    plan.let_go = count::count(&state, verdict.as_ref(), &mut status);
    if let Some(verdict) = &verdict {
        finish(&state, verdict, &plan.let_go, &mut status, &mut plan.events);
    } else if let Some(at) = verdict::deadline(&state) {
        sooner(&mut plan.look_again, until(view.now, at));
    }
    plan.failures = state.failures;
    plan.verdict = verdict;
    plan.status = status;
    plan
}

/// Own pods that no longer match and are on their way out: still to be counted.
fn strayed_and_going(view: &View) -> impl Iterator<Item = PodRef> {
    let is_own = |pod: &PodRef| {
        pod.meta.controller().is_some_and(|owner| owner.uid == view.job.meta.uid)
            && pod.meta.deletion_timestamp.is_some()
            && !view.selector.matches(&pod.meta.labels)
    };
    view.pods.iter().filter(move |pod| is_own(pod)).cloned()
}

/// Brings the number of active pods to what is wanted.
fn manage(state: &State<'_>, plan: &mut Plan) {
    let active = length(state.active.len());
    let wanted = match state.spec.suspend {
        true => 0,
        false => wanted_active(state),
    };
    plan.discard = surplus(state, usize::try_from(active - wanted).unwrap_or(0));
    if !plan.discard.is_empty() || state.spec.suspend {
        return;
    }
    // Where a pod is replaced only when it has ended, it keeps its place till then.
    let terminating = match state.replaces_failed_only() {
        true => length(state.terminating.len()),
        false => 0,
    };
    let missing = usize::try_from(wanted - terminating - active).unwrap_or(0).min(BURST_MAX);
    if missing == 0 {
        return;
    }
    if state.spec.backoff_limit_per_index.is_none() {
        let wait = state.failures.wait(state.view.now);
        if !wait.is_zero() {
            sooner(&mut plan.look_again, wait);
            return;
        }
    }
    plan.create = match state.is_indexed() {
        true => indexed(state, missing, &mut plan.look_again),
        false => vec![NewPod::default(); missing],
    };
}

fn wanted_active(state: &State<'_>) -> i64 {
    let parallelism = i64::from(state.spec.parallelism.unwrap_or(1));
    match state.spec.completions {
        Some(completions) => (i64::from(completions) - state.succeeded).clamp(0, parallelism),
        // A work queue: once a pod found it empty, none is added.
        None if state.succeeded > 0 => length(state.active.len()),
        None => parallelism,
    }
}

/// The pods to be discarded: of an Indexed Job first those that have no index
/// or one that another pod has.
fn surplus(state: &State<'_>, at_least: usize) -> Vec<PodRef> {
    let mut useless: Vec<PodRef> = Vec::new();
    let mut useful = state.active.clone();
    let ranked = |pods: &[PodRef], n| first_to_go(pods, n, &Default::default(), state.view.now);
    if state.is_indexed() {
        (useful, useless) = useful.into_iter().partition(|pod| state.has_place(pod));
        let twins = useful.chunk_by(|a, b| index(a) == index(b));
        let twins = twins.flat_map(|group| ranked(group, group.len() - 1));
        let twins: Vec<PodRef> = twins.collect();
        useful.retain(|pod| !twins.iter().any(|twin| twin.meta.uid == pod.meta.uid));
        useless.extend(twins);
    }
    useless.extend(ranked(&useful, at_least.saturating_sub(useless.len())));
    useless.truncate(BURST_MAX);
    useless
}

fn indexed(state: &State<'_>, missing: usize, look_again: &mut Option<Duration>) -> Vec<NewPod> {
    let mut taken = state.completed.clone();
    taken.add_all(&state.active_indexes());
    if state.replaces_failed_only() {
        taken.add_all(&state.terminating.iter().filter_map(|pod| index(pod)).collect());
    }
    let Some(given_up) = &state.failed_indexes else {
        let indexes = taken.first_missing(missing, state.completions());
        return indexes.into_iter().map(|i| NewPod { index: Some(i), failures: None }).collect();
    };
    taken.add_all(given_up);
    // Each index waits for itself.
    let mut create = Vec::new();
    while create.len() < missing {
        let indexes = taken.first_missing(missing - create.len(), state.completions());
        if indexes.is_empty() {
            break;
        }
        for index in indexes {
            taken.add(index);
            let wait = state.kept.get(&index).map(|pod| index_wait(pod, state.view.now));
            match wait.filter(|wait| !wait.is_zero()) {
                Some(wait) => sooner(look_again, wait),
                None => create.push(NewPod {
                    index: Some(index),
                    failures: Some(index_counts(state, index)),
                }),
            }
        }
    }
    create
}

fn index_wait(failed: &PodRef, now: Timestamp) -> Duration {
    let count = u32::try_from(index_failures(failed)).unwrap_or(0).saturating_add(1);
    Failures { count, last: Some(finished_at(failed)) }.wait(now)
}

/// The failures of an index that its next pod knows of.
fn index_counts(state: &State<'_>, index: usize) -> (i32, i32) {
    let Some(failed) = state.kept.get(&index) else { return (0, 0) };
    let (counted, ignored) = (number(failed, INDEX_FAILURES), number(failed, INDEX_IGNORED));
    match state.failure(failed) {
        Failure::Ignored => (counted, ignored.saturating_add(1)),
        _ => (counted.saturating_add(1), ignored),
    }
}

fn is_complete(state: &State<'_>, active: usize) -> bool {
    let enough = match state.spec.completions {
        Some(completions) => state.succeeded >= i64::from(completions),
        None => state.succeeded > 0,
    };
    enough && active == 0
}

fn suspend_or_resume(state: &State<'_>, status: &mut JobStatus, events: &mut Vec<Told>) {
    let now = state.view.now;
    let known = status::condition(&status.conditions, "Suspended").map(|c| c.status.clone());
    match (state.spec.suspend, known.as_deref()) {
        (true, Some("True")) | (false, None | Some("False")) => {}
        (true, _) => {
            let suspended = condition("Suspended", "True", "JobSuspended", "Job suspended", now);
            set_condition(&mut status.conditions, suspended);
            events.push((Severity::Normal, "Suspended".into(), "Job suspended".into()));
        }
        (false, _) => {
            let resumed = condition("Suspended", "False", "JobResumed", "Job resumed", now);
            set_condition(&mut status.conditions, resumed);
            events.push((Severity::Normal, "Resumed".into(), "Job resumed".into()));
            // The deadline counts from here where the start was taken back; while pods
            // of before still end it was not, and the API lets nobody change it.
        }
    }
    // What has no start may be placed anew (KEP-2926).
    if state.spec.suspend && state.active.is_empty() && state.terminating.is_empty() {
        status.start_time = None;
    }
}

/// Tells that it ends; and once nothing is left, that it has ended.
fn finish(
    state: &State<'_>,
    verdict: &Verdict,
    let_go: &[PodRef],
    status: &mut JobStatus,
    events: &mut Vec<Told>,
) {
    let first = verdict.first();
    if status::condition(&status.conditions, first).is_none_or(|c| c.status != "True") {
        set_condition(&mut status.conditions, verdict.condition(first, state.view.now));
    }
    let uncounted = status.uncounted_terminated_pods.as_ref();
    let settled = uncounted.is_none_or(|pods| pods.succeeded.is_empty() && pods.failed.is_empty());
    if !settled || !let_go.is_empty() || status.terminating != Some(0) || status.active != 0 {
        return;
    }
    // A clock that was set back must not end it before it began.
    let start = status.start_time.as_deref().and_then(time::parse);
    let now = start.map_or(state.view.now, |start| start.max(state.view.now));
    status.start_time.get_or_insert_with(|| time::format_seconds(now));
    set_condition(&mut status.conditions, verdict.condition(verdict.last(), now));
    if verdict.fails {
        events.push((Severity::Warning, verdict.reason.clone(), verdict.message.clone()));
        return;
    }
    status.completion_time = Some(time::format_seconds(now));
    if state.spec.completions.is_some_and(|completions| status.succeeded > completions) {
        let message = "Too many succeeded pods running after completion count reached";
        events.push((Severity::Warning, "TooManySucceededPods".into(), message.into()));
    }
    events.push((Severity::Normal, "Completed".into(), "Job completed".into()));
}

fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}

fn sooner(look_again: &mut Option<Duration>, wait: Duration) {
    *look_again = Some(look_again.map_or(wait, |known| known.min(wait)));
}

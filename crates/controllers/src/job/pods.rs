//! What a Job reads from its pods.

use std::sync::Arc;

use api_object::time;
use client::Cached;
use jiff::{SignedDuration, Timestamp};

use crate::{cached::Pod, pods::has_finalizer};

/// Keeps a pod until its Job has counted it.
pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Annotation and label of a pod of an Indexed Job.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often the index failed before this pod, with a limit for each index.
pub(super) const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// The same of failures that the policy ignores.
pub(super) const INDEX_IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

pub(super) type PodRef = Arc<Cached<Pod>>;

pub(super) fn is_tracked(pod: &Cached<Pod>) -> bool {
    has_finalizer(&pod.meta, FINALIZER)
}

/// The completion index, where it has one.
pub(super) fn index(pod: &Cached<Pod>) -> Option<usize> {
    pod.meta.annotations.get(INDEX)?.parse().ok()
}

pub(super) fn number(pod: &Cached<Pod>, annotation: &str) -> i32 {
    pod.meta.annotations.get(annotation).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// All failures of its index before this pod.
pub(super) fn index_failures(pod: &Cached<Pod>) -> i32 {
    number(pod, INDEX_FAILURES).saturating_add(number(pod, INDEX_IGNORED))
}

/// When it ended: when its last container did; else when it ceased to be
/// ready, when it was deleted, or when it was made.
pub(super) fn finished_at(pod: &Cached<Pod>) -> Timestamp {
    let at = |text: Option<&str>| text.and_then(time::parse);
    let statuses = &pod.view.status.container_statuses;
    let ends = statuses.iter().map(|status| {
        at(status.state.terminated.as_ref().and_then(|ended| ended.finished_at.as_deref()))
    });
    let last = ends.collect::<Option<Vec<Timestamp>>>().and_then(|ends| ends.into_iter().max());
    let unready = || {
        let mut conditions = pod.view.status.conditions.iter();
        let unready = conditions.find(|c| c.r#type == "Ready" && c.status == "False")?;
        at(unready.last_transition_time.as_deref())
    };
    let deleted = || {
        let grace = SignedDuration::from_secs(pod.meta.deletion_grace_period_seconds.unwrap_or(0));
        at(pod.meta.deletion_timestamp.as_deref())?.checked_sub(grace).ok()
    };
    let created = || at(pod.meta.creation_timestamp.as_deref());
    last.or_else(unready).or_else(deleted).or_else(created).unwrap_or(Timestamp::UNIX_EPOCH)
}

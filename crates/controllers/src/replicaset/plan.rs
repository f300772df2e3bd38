//! Which pods a ReplicaSet creates, deletes, adopts and releases, and what
//! its status says.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc, time::Duration};

use api_object::time;
use client::Cached;
use jiff::{SignedDuration, Timestamp};

use super::view::View;
use crate::{
    cached::{Pod, ReplicaSetStatus, is_active, next_available},
    owner::{self, Claim},
};

/// Most pods created or deleted in one go; upstream's number.
const BURST_MAX: usize = 500;
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What is to be done, in this order. `status` comes after the rest, since a
/// failure to create belongs into it.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Whose pods are whose.
    pub(super) pods: Claim<Pod>,
    /// How many to create.
    pub(super) create: usize,
    /// Whom to delete, first to go first.
    pub(super) delete: Vec<Arc<Cached<Pod>>>,
    /// The counts as they are now; conditions are as they were.
    pub(super) status: ReplicaSetStatus,
    /// When a pod becomes available by mere passing of time.
    pub(super) look_again: Option<Duration>,
}

/// Decides from what is seen.
pub(super) fn plan(view: &View) -> Plan {
    let set = &view.set;
    let pods = owner::claim(&set.meta, &view.selector, &view.pods, is_active);
    let mut plan = Plan { pods, ..Plan::default() };
    let living = plan.pods.own.iter().filter(|pod| !pod.view.is_terminal()).cloned();
    let (active, terminating): (Vec<_>, Vec<_>) =
        living.partition(|pod| is_active(pod) && !view.deleted.contains(&pod.meta.uid));
    let wanted = usize::try_from(set.view.spec.replicas.unwrap_or(1)).unwrap_or(0);
    if set.meta.deletion_timestamp.is_none() {
        plan.create = wanted.saturating_sub(active.len()).min(BURST_MAX);
        let surplus = active.len().saturating_sub(wanted).min(BURST_MAX);
        plan.delete = first_to_go(&active, surplus, &view.related_on_node, view.now);
    }
    plan.status = status(view, &active, terminating.len());
    let min_ready = set.view.spec.min_ready_seconds;
    plan.look_again = next_available(active.iter(), min_ready, view.now);
    plan
}

fn status(view: &View, active: &[Arc<Cached<Pod>>], terminating: usize) -> ReplicaSetStatus {
    let set = &view.set.view;
    let count = |f: &dyn Fn(&Cached<Pod>) -> bool| {
        i32::try_from(active.iter().filter(|pod| f(pod)).count()).unwrap_or(i32::MAX)
    };
    let template_labels = view.template["metadata"]["labels"].as_object();
    let labeled = |pod: &Cached<Pod>| {
        template_labels
            .into_iter()
            .flatten()
            .all(|(key, value)| pod.meta.labels.get(key).map(String::as_str) == value.as_str())
    };
    let min_ready = set.spec.min_ready_seconds;
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: count(&labeled),
        ready_replicas: count(&|pod| pod.view.ready().is_some()),
        available_replicas: count(&|pod| pod.view.is_available(min_ready, view.now)),
        terminating_replicas: view
            .row
            .counts_terminating
            .then(|| i32::try_from(terminating).unwrap_or(i32::MAX)),
        observed_generation: view.set.meta.generation,
        conditions: set.status.conditions.clone(),
    }
}

/// The pods that cost least to lose, in upstream's order of criteria.
pub(crate) fn first_to_go(
    active: &[Arc<Cached<Pod>>],
    n: usize,
    related_on_node: &BTreeMap<String, usize>,
    now: Timestamp,
) -> Vec<Arc<Cached<Pod>>> {
    if n == 0 {
        return Vec::new();
    }
    let mut ranked: Vec<Arc<Cached<Pod>>> = active.to_vec();
    let crowd =
        |pod: &Cached<Pod>| related_on_node.get(&pod.view.spec.node_name).copied().unwrap_or(0);
    ranked.sort_by(|a, b| {
        let bound = |pod: &Cached<Pod>| !pod.view.spec.node_name.is_empty();
        bound(a)
            .cmp(&bound(b))
            .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
            .then_with(|| a.view.ready().is_some().cmp(&b.view.ready().is_some()))
            .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
            .then_with(|| crowd(b).cmp(&crowd(a)))
            .then_with(|| younger_first(ready_since(a), ready_since(b), now))
            .then_with(|| restarts(b).cmp(&restarts(a)))
            .then_with(|| younger_first(created(a), created(b), now))
            .then_with(|| a.meta.uid.cmp(&b.meta.uid))
    });
    ranked.truncate(n);
    ranked
}

fn phase_rank(pod: &Cached<Pod>) -> u8 {
    match pod.view.status.phase.as_str() {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    }
}

fn deletion_cost(pod: &Cached<Pod>) -> i32 {
    pod.meta.annotations.get(DELETION_COST).and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

fn ready_since(pod: &Cached<Pod>) -> Option<Timestamp> {
    pod.view.ready()?.last_transition_time.as_deref().and_then(time::parse)
}

fn created(pod: &Cached<Pod>) -> Option<Timestamp> {
    pod.meta.creation_timestamp.as_deref().and_then(time::parse)
}

fn restarts(pod: &Cached<Pod>) -> i32 {
    pod.view.status.container_statuses.iter().map(|s| s.restart_count).max().unwrap_or(0)
}

/// Ages compare by their order of magnitude (KEP-2185), so that those of
/// similar age are taken at random (by uid) and not always the youngest.
fn younger_first(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp) -> Ordering {
    let magnitude = |at: Timestamp| {
        let age = now.duration_since(at).max(SignedDuration::ZERO).as_secs();
        u64::try_from(age).unwrap_or(0).checked_ilog2().map_or(0, |log| log + 1)
    };
    match (a, b) {
        (Some(a), Some(b)) => magnitude(a).cmp(&magnitude(b)),
        // Unknown counts as just now.
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

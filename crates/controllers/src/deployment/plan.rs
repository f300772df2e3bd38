//! What a Deployment does next, as a whole; the steps are in `revision.rs`
//! (which ReplicaSet is the new one), `rollout.rs` (their sizes) and
//! `progress.rs` (status).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api_types::{IntOrString, core::Condition};
use client::Cached;

use super::{
    progress, revision, rollout,
    view::{Seen, View},
};
use crate::{
    cached::{Deployment, DeploymentStatus, ReplicaSet},
    owner::{self, Claim},
};

/// What is to be done, in this order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Whose ReplicaSets are whose.
    pub(super) sets: Claim<ReplicaSet>,
    /// The ReplicaSet of a template that has none yet.
    pub(super) create: Option<NewSet>,
    /// New sizes and annotations.
    pub(super) update: Vec<SetChange>,
    /// Those beyond the history limit.
    pub(super) delete: Vec<Arc<Cached<ReplicaSet>>>,
    /// The Deployment's revision annotation, where it changes.
    pub(super) revision: Option<String>,
    /// The status after all this.
    pub(super) status: DeploymentStatus,
    /// When the progress deadline is to be looked at.
    pub(super) look_again: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct NewSet {
    pub(super) name: String,
    pub(super) hash: String,
    pub(super) replicas: i64,
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub(super) struct SetChange {
    pub(super) set: Arc<Cached<ReplicaSet>>,
    /// Where its size changes.
    pub(super) replicas: Option<i64>,
    /// Where that changes.
    pub(super) min_ready_seconds: Option<i32>,
    /// Those that change.
    pub(super) annotations: BTreeMap<String, String>,
}

/// Decides from what is seen.
pub(super) fn plan(view: &View) -> Plan {
    let all: Vec<_> = view.sets.iter().map(|seen| seen.set.clone()).collect();
    let sets = owner::claim(&view.deployment.meta, &view.selector, &all, |_| true);
    let mut plan = Plan { sets, ..Plan::default() };
    let is_own = |seen: &&Seen| plan.sets.own.iter().any(|set| Arc::ptr_eq(set, &seen.set));
    let own = view.sets.iter().filter(is_own).cloned().collect();
    let mut state = State::new(view, own);
    if view.deployment.meta.deletion_timestamp.is_some() {
        plan.status = progress::status(&state);
        return plan;
    }
    progress::note_pause(&mut state);
    let spec = &view.deployment.view.spec;
    if spec.paused || rollout::is_scaling(&state) {
        revision::sync(&mut state, false);
        rollout::scale(&mut state);
        if spec.paused {
            plan.delete = revision::beyond_history(&state);
        }
        plan.status = progress::status(&state);
    } else {
        match spec.strategy.r#type.as_str() {
            "Recreate" => rollout::recreate(&mut state),
            _ => rollout::rolling(&mut state),
        }
        plan.status = progress::rollout_status(&mut state);
        if progress::is_complete(&state, &plan.status) {
            plan.delete = revision::beyond_history(&state);
        }
        plan.look_again = progress::look_again(&state, &plan.status);
    }
    plan.create = state.create.take();
    plan.revision = state.revision.take();
    plan.update = state.sets.iter().filter_map(Set::change).collect();
    plan
}

/// The Deployment and its ReplicaSets with the sizes decided so far.
pub(super) struct State<'a> {
    pub(super) view: &'a View,
    /// `spec.replicas`.
    pub(super) wanted: i64,
    /// How many pods there may be beyond `wanted`.
    pub(super) surge: i64,
    /// How many of `wanted` may be unavailable.
    pub(super) unavailable: i64,
    /// Oldest first.
    pub(super) sets: Vec<Set>,
    /// The one of the present template.
    pub(super) new: Option<usize>,
    pub(super) create: Option<NewSet>,
    pub(super) revision: Option<String>,
    pub(super) conditions: Vec<Condition>,
}

/// A ReplicaSet on the way to what it shall be.
#[derive(Clone, Debug)]
pub(super) struct Set {
    pub(super) seen: Seen,
    pub(super) replicas: i64,
    pub(super) min_ready_seconds: i32,
    pub(super) annotations: BTreeMap<String, String>,
}

impl<'a> State<'a> {
    fn new(view: &'a View, own: Vec<Seen>) -> Self {
        let Deployment { spec, status } = &view.deployment.view;
        let wanted = i64::from(spec.replicas.unwrap_or(1));
        let (surge, unavailable) = fenceposts(
            spec.strategy.r#type == "Recreate",
            spec.strategy.rolling_update.max_surge.as_ref(),
            spec.strategy.rolling_update.max_unavailable.as_ref(),
            wanted,
        );
        let mut sets: Vec<Set> = own
            .into_iter()
            .map(|seen| Set {
                replicas: i64::from(seen.set.view.spec.replicas.unwrap_or(1)),
                min_ready_seconds: seen.set.view.spec.min_ready_seconds,
                annotations: seen.set.meta.annotations.clone(),
                seen,
            })
            .collect();
        // RFC 3339 in UTC sorts as text.
        let age = |set: &Set| {
            let meta = &set.seen.set.meta;
            (meta.creation_timestamp.clone(), meta.name.clone())
        };
        sets.sort_by_key(age);
        // Of several with the same template the oldest is the one; more than
        // one comes only from hash collisions of the past.
        let new = sets.iter().position(|set| set.seen.is_of_template);
        Self {
            view,
            wanted,
            surge,
            unavailable,
            sets,
            new,
            create: None,
            revision: None,
            conditions: status.conditions.clone(),
        }
    }

    /// The size of the new ReplicaSet, if there is one or will be.
    pub(super) fn new_replicas(&self) -> i64 {
        let existing = self.new.map(|new| self.sets[new].replicas);
        existing.or(self.create.as_ref().map(|set| set.replicas)).unwrap_or(0)
    }

    /// The positions of all but the new one, oldest first.
    pub(super) fn old(&self) -> impl Iterator<Item = usize> + use<> {
        let new = self.new;
        (0..self.sets.len()).filter(move |i| Some(*i) != new)
    }

    /// The sum of all sizes.
    pub(super) fn total(&self) -> i64 {
        let created = self.create.as_ref().map_or(0, |set| set.replicas);
        self.sets.iter().map(|set| set.replicas).sum::<i64>() + created
    }
}

impl Set {
    /// Pods available for sure: a status that has not followed a smaller size
    /// yet counts pods that are on their way out.
    pub(super) fn available(&self) -> i64 {
        let set = &self.seen.set.view;
        i64::from(set.status.available_replicas.min(set.spec.replicas.unwrap_or(1)))
    }

    fn change(&self) -> Option<SetChange> {
        let set = &self.seen.set;
        let spec = &set.view.spec;
        let known = &set.meta.annotations;
        let change = SetChange {
            set: set.clone(),
            replicas: (self.replicas != i64::from(spec.replicas.unwrap_or(1)))
                .then_some(self.replicas),
            min_ready_seconds: (self.min_ready_seconds != spec.min_ready_seconds)
                .then_some(self.min_ready_seconds),
            annotations: self
                .annotations
                .iter()
                .filter(|(key, value)| known.get(*key) != Some(*value))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        };
        let changes = change.replicas.is_some()
            || change.min_ready_seconds.is_some()
            || !change.annotations.is_empty();
        changes.then_some(change)
    }
}

/// `(maxSurge, maxUnavailable)` as numbers of pods. Both may not be zero, or
/// nothing could ever move: percentages that round to zero leave one pod.
fn fenceposts(
    recreate: bool,
    surge: Option<&IntOrString>,
    unavailable: Option<&IntOrString>,
    wanted: i64,
) -> (i64, i64) {
    if recreate {
        return (0, 0);
    }
    let percent = |value: Option<&IntOrString>| match value {
        Some(IntOrString::Int(n)) => Err(i64::from(*n).max(0)),
        Some(IntOrString::String(text)) => {
            Ok(text.trim_end_matches('%').parse::<i64>().unwrap_or(0).max(0))
        }
        None => Ok(25),
    };
    let surge = percent(surge).map_or_else(|n| n, |p| (wanted * p + 99) / 100);
    let unavailable = percent(unavailable).map_or_else(|n| n, |p| wanted * p / 100);
    match (surge, unavailable) {
        (0, 0) => (0, 1),
        (surge, unavailable) => (surge, unavailable.min(wanted)),
    }
}

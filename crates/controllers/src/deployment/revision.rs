//! Which ReplicaSet is the new one, its number in the history, and which are
//! too old to be kept.

use std::{collections::BTreeMap, sync::Arc};

use api_object::Meta;
use api_types::core::Condition;
use client::Cached;

use super::{
    plan::{NewSet, State},
    progress, rollout,
};
use crate::{
    cached::ReplicaSet,
    hash::template_hash,
    status::{condition, set_condition},
};

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// Longest list of former revisions, in bytes; upstream's number.
const HISTORY_LEN_MAX: usize = 2000;

/// Not copied from a Deployment to its ReplicaSets.
const NOT_COPIED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
];

/// Gives the new ReplicaSet the highest revision and the Deployment's
/// annotations; plans its creation where it is missing and `create` says so.
pub(super) fn sync(state: &mut State<'_>, create: bool) {
    let highest = state.old().map(|i| revision(&state.sets[i].seen.set.meta)).max().unwrap_or(0);
    let next = highest + 1;
    match state.new {
        Some(new) => keep(state, new, next),
        None if create => add(state, next),
        None => {}
    }
}

fn keep(state: &mut State<'_>, new: usize, next: i64) {
    let deployment = &state.view.deployment;
    let set = &mut state.sets[new];
    set.min_ready_seconds = deployment.view.spec.min_ready_seconds;
    set.annotations.extend(copied(&deployment.meta));
    let present = revision(&set.seen.set.meta);
    if present < next {
        set.annotations.insert(REVISION.into(), next.to_string());
        if present > 0 {
            let history = set.annotations.entry(REVISION_HISTORY.into()).or_default();
            if !history.is_empty() {
                history.push(',');
            }
            history.push_str(&present.to_string());
            while history.len() > HISTORY_LEN_MAX {
                let cut = history.find(',').map_or(history.len(), |at| at + 1);
                history.drain(..cut);
            }
        }
    }
    let revision = set.annotations.get(REVISION).cloned().unwrap_or_default();
    let name = set.seen.set.meta.name.clone();
    note_revision(state, revision);
    if progress::has_deadline(state) && condition(&state.conditions, "Progressing").is_none() {
        let message = format!("Found new replica set \"{name}\"");
        let condition =
            progress::condition_of(state, "Progressing", "True", "FoundNewReplicaSet", message);
        set_condition(&mut state.conditions, condition);
    }
}

fn add(state: &mut State<'_>, next: i64) {
    let deployment = &state.view.deployment;
    let collisions = deployment.view.status.collision_count.unwrap_or(0);
    let hash = template_hash(&state.view.template, collisions);
    let name = format!("{}-{hash}", deployment.meta.name);
    let mut annotations = copied(&deployment.meta);
    annotations.insert(REVISION.into(), next.to_string());
    let replicas = rollout::new_size(state);
    rollout::note_size(&mut annotations, state.wanted, state.surge);
    let message = format!("Created new replica set \"{name}\"");
    state.create = Some(NewSet { name, hash, replicas, annotations });
    note_revision(state, next.to_string());
    if progress::has_deadline(state) {
        let condition: Condition =
            progress::condition_of(state, "Progressing", "True", "NewReplicaSetCreated", message);
        set_condition(&mut state.conditions, condition);
    }
}

fn note_revision(state: &mut State<'_>, revision: String) {
    if state.view.deployment.meta.annotations.get(REVISION) != Some(&revision) {
        state.revision = Some(revision);
    }
}

fn copied(deployment: &Meta) -> BTreeMap<String, String> {
    let annotations = deployment.annotations.iter();
    annotations
        .filter(|(key, _)| !NOT_COPIED.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// A ReplicaSet's number in the history; 0 where it has none.
pub(super) fn revision(set: &Meta) -> i64 {
    set.annotations.get(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Old ReplicaSets beyond `revisionHistoryLimit`, the lowest revisions first.
/// One that still has pods, or whose own controller has not caught up, stays
/// for now.
pub(super) fn beyond_history(state: &State<'_>) -> Vec<Arc<Cached<ReplicaSet>>> {
    let Some(limit) = state.view.deployment.view.spec.revision_history_limit else {
        return Vec::new();
    };
    let old = state.old().map(|i| &state.sets[i].seen.set);
    let mut old: Vec<_> = old.filter(|set| set.meta.deletion_timestamp.is_none()).collect();
    let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    old.sort_by_key(|set| revision(&set.meta));
    old.into_iter()
        .take(surplus)
        .filter(|set| {
            set.view.status.replicas == 0
                && set.view.spec.replicas == Some(0)
                && set.meta.generation <= set.view.status.observed_generation
        })
        .cloned()
        .collect()
}

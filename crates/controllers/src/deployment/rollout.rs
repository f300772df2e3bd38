//! The sizes of a Deployment's ReplicaSets.
//!
//! A rolling update keeps two promises at every moment: never more pods than
//! `replicas + maxSurge`, never fewer available than
//! `replicas - maxUnavailable`, whatever the readiness of pods does.

use std::collections::BTreeMap;

use super::{
    plan::State,
    revision::{self, DESIRED, MAX},
};

/// Notes in a ReplicaSet which size of the Deployment its own belongs to.
pub(super) fn note_size(annotations: &mut BTreeMap<String, String>, wanted: i64, surge: i64) {
    annotations.insert(DESIRED.into(), wanted.to_string());
    annotations.insert(MAX.into(), (wanted + surge).to_string());
}

fn resize(state: &mut State<'_>, i: usize, replicas: i64) {
    let (wanted, surge) = (state.wanted, state.surge);
    let set = &mut state.sets[i];
    set.replicas = replicas;
    note_size(&mut set.annotations, wanted, surge);
}

/// How large the new ReplicaSet may be now, given all the others.
pub(super) fn new_size(state: &State<'_>) -> i64 {
    let present = state.new_replicas();
    if state.view.deployment.view.spec.strategy.r#type == "Recreate" {
        return state.wanted;
    }
    let room = state.wanted + state.surge - state.total();
    present + room.min(state.wanted - present).max(0)
}

/// Whether the Deployment was resized since its ReplicaSets were.
pub(super) fn is_scaling(state: &State<'_>) -> bool {
    state.sets.iter().filter(|set| set.replicas > 0).any(|set| {
        let desired = set.annotations.get(DESIRED).and_then(|text| text.parse::<i64>().ok());
        desired.is_some_and(|desired| desired != state.wanted)
    })
}

/// One step of a rolling update: first the new one grows, and only when it
/// cannot, the old ones shrink.
pub(super) fn rolling(state: &mut State<'_>) {
    revision::sync(state, true);
    let Some(new) = state.new else { return };
    let present = state.sets[new].replicas;
    let size = match present > state.wanted {
        true => state.wanted,
        false => new_size(state),
    };
    if size != present {
        return resize(state, new, size);
    }
    shrink_old(state, new);
}

fn shrink_old(state: &mut State<'_>, new: usize) {
    let old: Vec<usize> = state.old().filter(|i| state.sets[*i].replicas > 0).collect();
    let available_min = state.wanted - state.unavailable;
    let new_unavailable = state.sets[new].replicas - state.sets[new].available();
    // Were all old pods unavailable but needed as soon as they come back,
    // this many could still go.
    let may_go = state.total() - available_min - new_unavailable;
    if may_go <= 0 {
        return;
    }
    // Pods that do not work go first: losing them costs nothing.
    let mut gone = 0;
    for &i in &old {
        let broken = (state.sets[i].replicas - state.sets[i].available()).max(0);
        let n = broken.min(may_go - gone);
        if n > 0 {
            gone += n;
            resize(state, i, state.sets[i].replicas - n);
        }
    }
    let available: i64 = state.sets.iter().map(|set| set.available()).sum();
    let mut spare = available - available_min;
    for &i in &old {
        let n = state.sets[i].replicas.min(spare);
        if n > 0 {
            spare -= n;
            resize(state, i, state.sets[i].replicas - n);
        }
    }
}

/// One step of a recreate: all old pods end before the first new one starts.
pub(super) fn recreate(state: &mut State<'_>) {
    revision::sync(state, false);
    let old: Vec<usize> = state.old().filter(|i| state.sets[*i].replicas > 0).collect();
    if !old.is_empty() {
        return old.into_iter().for_each(|i| resize(state, i, 0));
    }
    let busy = |i: usize| {
        let seen = &state.sets[i].seen;
        seen.live_pods > 0 || seen.set.view.status.replicas > 0
    };
    if state.old().any(busy) {
        return;
    }
    revision::sync(state, true);
    if let Some(new) = state.new.filter(|new| state.sets[*new].replicas != state.wanted) {
        resize(state, new, state.wanted);
    }
}

/// Brings the sizes to those of the Deployment without rolling further:
/// when it was resized or is paused.
pub(super) fn scale(state: &mut State<'_>) {
    let active: Vec<usize> =
        (0..state.sets.len()).filter(|i| state.sets[*i].replicas > 0).collect();
    let only = match active.as_slice() {
        [] => state.new.or_else(|| state.sets.len().checked_sub(1)),
        [only] => Some(*only),
        _ => None,
    };
    if let Some(only) = only {
        return resize(state, only, state.wanted);
    }
    if active.is_empty() {
        return;
    }
    if let Some(new) = state.new.filter(|new| is_saturated(state, *new)) {
        active.into_iter().filter(|i| *i != new).for_each(|i| resize(state, i, 0));
        return;
    }
    if state.view.deployment.view.spec.strategy.r#type != "Recreate" {
        scale_proportionally(state, active);
    }
}

fn is_saturated(state: &State<'_>, new: usize) -> bool {
    let set = &state.sets[new];
    set.replicas == state.wanted
        && set.annotations.get(DESIRED) == Some(&state.wanted.to_string())
        && set.available() == state.wanted
}

/// In the middle of a rollout every ReplicaSet gets its share of the change,
/// so that a bad new template gets no more than it had.
fn scale_proportionally(state: &mut State<'_>, mut active: Vec<usize>) {
    let allowed = if state.wanted > 0 { state.wanted + state.surge } else { 0 };
    let total: i64 = active.iter().map(|i| state.sets[*i].replicas).sum();
    let to_add = allowed - total;
    // The largest first; of the same size the newest grows first and the
    // oldest shrinks first.
    active.sort_by_key(|i| {
        let age = *i as i64;
        (-state.sets[*i].replicas, if to_add > 0 { -age } else { age })
    });
    let mut added = 0;
    let mut sizes = Vec::new();
    for &i in &active {
        let share = share(state, i, to_add, added);
        added += share;
        sizes.push((i, state.sets[i].replicas + share));
    }
    if let Some((_, size)) = sizes.first_mut() {
        *size = (*size + to_add - added).max(0);
    }
    sizes.into_iter().for_each(|(i, size)| resize(state, i, size.max(0)));
}

fn share(state: &State<'_>, i: usize, to_add: i64, added: i64) -> i64 {
    let set = &state.sets[i];
    if set.replicas == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = if state.wanted == 0 {
        -set.replicas
    } else {
        let before = set.annotations.get(MAX).and_then(|text| text.parse::<i64>().ok());
        let before = before.filter(|before| *before != 0);
        let before = before.unwrap_or(state.view.deployment.view.status.replicas.into());
        if before <= 0 {
            return 0;
        }
        let scaled = set.replicas * (state.wanted + state.surge);
        // Rounded to the nearest.
        (2 * scaled + before) / (2 * before) - set.replicas
    };
    match to_add > 0 {
        true => fraction.min(to_add - added),
        false => fraction.max(to_add - added),
    }
}

//! What a Deployment's status says.

use std::time::Duration;

use api_object::time;
use api_types::core::Condition;
use jiff::{SignedDuration, Timestamp};

use super::plan::State;
use crate::{
    cached::DeploymentStatus,
    status::{condition, set_condition},
};

/// A condition that changes now.
pub(super) fn condition_of(
    state: &State<'_>,
    r#type: &str,
    status: &str,
    reason: &str,
    message: String,
) -> Condition {
    let now = time::format_seconds(state.view.now);
    Condition {
        r#type: r#type.into(),
        status: status.into(),
        reason: reason.into(),
        message,
        last_update_time: Some(now.clone()),
        last_transition_time: Some(now),
        ..Condition::default()
    }
}

/// Whether progress is to be watched at all.
pub(super) fn has_deadline(state: &State<'_>) -> bool {
    deadline(state).is_some()
}

fn deadline(state: &State<'_>) -> Option<SignedDuration> {
    let seconds = state.view.deployment.view.spec.progress_deadline_seconds;
    seconds.filter(|n| *n != i32::MAX).map(|n| SignedDuration::from_secs(n.into()))
}

/// Pausing stops the progress deadline's clock; resuming starts it anew.
pub(super) fn note_pause(state: &mut State<'_>) {
    if !has_deadline(state) {
        return;
    }
    let reason = condition(&state.conditions, "Progressing").map(|known| known.reason.as_str());
    let noted = reason == Some("DeploymentPaused");
    let (reason, message) = match (state.view.deployment.view.spec.paused, noted, reason) {
        (_, _, Some("ProgressDeadlineExceeded")) => return,
        (true, false, _) => ("DeploymentPaused", "Deployment is paused"),
        (false, true, _) => ("DeploymentResumed", "Deployment is resumed"),
        _ => return,
    };
    let condition = condition_of(state, "Progressing", "Unknown", reason, message.into());
    set_condition(&mut state.conditions, condition);
}

/// The counts and the `Available` condition.
pub(super) fn status(state: &State<'_>) -> DeploymentStatus {
    let deployment = &state.view.deployment;
    let sum = |f: &dyn Fn(&crate::cached::ReplicaSetStatus) -> i32| {
        state.sets.iter().map(|set| f(&set.seen.set.view.status)).sum::<i32>()
    };
    let available = sum(&|status| status.available_replicas);
    let terminating =
        state.sets.iter().map(|set| set.seen.set.view.status.terminating_replicas).sum();
    let new = state.new.map(|new| &state.sets[new].seen.set.view.status);
    let mut conditions = state.conditions.clone();
    let enough = i64::from(available) >= state.wanted - state.unavailable;
    let (now, reason, message) = match enough {
        true => ("True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
        false => (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        ),
    };
    let available_condition = condition_of(state, "Available", now, reason, message.into());
    set_condition(&mut conditions, available_condition);
    let unavailable = (state.total() - i64::from(available)).max(0);
    DeploymentStatus {
        observed_generation: deployment.meta.generation,
        replicas: sum(&|status| status.replicas),
        updated_replicas: new.map_or(0, |status| status.replicas),
        ready_replicas: sum(&|status| status.ready_replicas),
        available_replicas: available,
        unavailable_replicas: i32::try_from(unavailable).unwrap_or(i32::MAX),
        terminating_replicas: terminating,
        conditions,
        collision_count: deployment.view.status.collision_count,
    }
}

/// Whether the rollout has come to its end.
pub(super) fn is_complete(state: &State<'_>, status: &DeploymentStatus) -> bool {
    let all = |n: i32| i64::from(n) == state.wanted;
    all(status.updated_replicas)
        && all(status.replicas)
        && all(status.available_replicas)
        && status.observed_generation >= state.view.deployment.meta.generation
}

fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    new.updated_replicas > old.updated_replicas
        || new.replicas - new.updated_replicas < old.replicas - old.updated_replicas
        || new.ready_replicas > old.ready_replicas
        || new.available_replicas > old.available_replicas
}

/// The counts, and how the rollout is getting on.
pub(super) fn rollout_status(state: &mut State<'_>) -> DeploymentStatus {
    let mut status = status(state);
    if has_deadline(state) {
        note_progress(state, &mut status);
    } else {
        status.conditions.retain(|condition| condition.r#type != "Progressing");
    }
    // A failure of the new ReplicaSet is told first.
    let sets = state.new.into_iter().chain(state.old());
    let failure = sets
        .filter_map(|i| condition(&state.sets[i].seen.set.view.status.conditions, "ReplicaFailure"))
        .next();
    match failure {
        Some(failure) => {
            let failure = condition_of(
                state,
                "ReplicaFailure",
                &failure.status,
                &failure.reason,
                failure.message.clone(),
            );
            set_condition(&mut status.conditions, failure);
        }
        None => status.conditions.retain(|condition| condition.r#type != "ReplicaFailure"),
    }
    status
}

fn note_progress(state: &State<'_>, status: &mut DeploymentStatus) {
    let deployment = &state.view.deployment;
    let known = condition(&status.conditions, "Progressing").cloned();
    let was_complete = known.as_ref().is_some_and(|known| known.reason == "NewReplicaSetAvailable");
    if was_complete && status.replicas == status.updated_replicas {
        return;
    }
    let name = state.new.map(|new| state.sets[new].seen.set.meta.name.clone());
    let name = name.or_else(|| state.create.as_ref().map(|set| set.name.clone()));
    let subject = match name {
        Some(name) => format!("ReplicaSet \"{name}\""),
        None => format!("Deployment \"{}\"", deployment.meta.name),
    };
    if is_complete(state, status) {
        let message = format!("{subject} has successfully progressed.");
        let condition =
            condition_of(state, "Progressing", "True", "NewReplicaSetAvailable", message);
        set_condition(&mut status.conditions, condition);
    } else if has_progressed(&deployment.view.status, status) {
        let message = format!("{subject} is progressing.");
        let mut condition =
            condition_of(state, "Progressing", "True", "ReplicaSetUpdated", message);
        // Each step renews the update time, from which the deadline counts.
        if let Some(known) = known.filter(|known| known.status == "True") {
            condition.last_transition_time = known.last_transition_time;
        }
        status.conditions.retain(|known| known.r#type != "Progressing");
        status.conditions.push(condition);
    } else if is_timed_out(state, status) {
        let message = format!("{subject} has timed out progressing.");
        let condition =
            condition_of(state, "Progressing", "False", "ProgressDeadlineExceeded", message);
        set_condition(&mut status.conditions, condition);
    }
}

/// When the deadline passes, if a rollout is under way and it has not.
fn due(state: &State<'_>, status: &DeploymentStatus) -> Option<Timestamp> {
    let known = condition(&status.conditions, "Progressing")?;
    if matches!(known.reason.as_str(), "NewReplicaSetAvailable" | "ProgressDeadlineExceeded") {
        return None;
    }
    let since = known.last_update_time.as_deref().and_then(time::parse)?;
    since.checked_add(deadline(state)?).ok()
}

fn is_timed_out(state: &State<'_>, status: &DeploymentStatus) -> bool {
    due(state, status).is_some_and(|due| due < state.view.now)
}

/// When to look whether the deadline has passed: nothing else would tell.
pub(super) fn look_again(state: &State<'_>, status: &DeploymentStatus) -> Option<Duration> {
    let due = due(state, status)?;
    let left = due.duration_since(state.view.now).max(SignedDuration::ZERO);
    // A second more, since times in conditions have whole seconds.
    Some(Duration::try_from(left).ok()? + Duration::from_secs(1))
}

//! Whether a Job has come to its end, and why.

use api_object::time;
use api_types::core::Condition;
use jiff::{SignedDuration, Timestamp};

use super::{
    policy::{self, Failure},
    state::{State, length},
};
use crate::status;

/// How a Job ends. The pods are ended first; the last condition is written
/// when nothing is left to be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) fails: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Verdict {
    fn failure(reason: &str, message: &str) -> Self {
        Self { fails: true, reason: reason.into(), message: message.into() }
    }

    pub(super) fn success(reason: &str, message: &str) -> Self {
        Self { fails: false, reason: reason.into(), message: message.into() }
    }

    /// The condition while its pods are being ended.
    pub(super) fn first(&self) -> &'static str {
        if self.fails { "FailureTarget" } else { "SuccessCriteriaMet" }
    }

    /// The condition when all is over.
    pub(super) fn last(&self) -> &'static str {
        if self.fails { "Failed" } else { "Complete" }
    }

    pub(super) fn condition(&self, kind: &str, now: Timestamp) -> Condition {
        condition(kind, "True", &self.reason, &self.message, now)
    }
}

pub(super) fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Condition {
    let now = Some(time::format_seconds(now));
    Condition {
        r#type: kind.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        last_probe_time: now.clone(),
        last_transition_time: now,
        ..Condition::default()
    }
}

/// The first reason to end it before all completions are there.
pub(super) fn verdict(state: &State<'_>) -> Option<Verdict> {
    let known = told(state).or_else(|| state.view.decided.clone());
    known.or_else(|| failed(state)).or_else(|| {
        let policy = state.spec.success_policy.as_ref();
        let message = policy::success(policy, &state.completed, state.completions())?;
        Some(Verdict::success("SuccessPolicy", &message))
    })
}

/// What was decided before stays decided.
fn told(state: &State<'_>) -> Option<Verdict> {
    let conditions = &state.view.job.view.status.conditions;
    let known = |kind| status::condition(conditions, kind).filter(|c| c.status == "True");
    let of = |fails, c: &Condition| Verdict {
        fails,
        reason: c.reason.clone(),
        message: c.message.clone(),
    };
    known("SuccessCriteriaMet")
        .map(|c| of(false, c))
        .or_else(|| known("FailureTarget").map(|c| of(true, c)))
}

fn failed(state: &State<'_>) -> Option<Verdict> {
    let spec = state.spec;
    if spec.pod_failure_policy.is_some() {
        let mut pods = state.own.iter().filter(|pod| state.has_failed(pod));
        let message = pods.find_map(|pod| match state.failure(pod) {
            Failure::FailsJob(message) => Some(message),
            _ => None,
        });
        if let Some(message) = message {
            return Some(Verdict::failure("PodFailurePolicy", &message));
        }
    }
    let limit = i64::from(spec.backoff_limit.unwrap_or(6));
    if state.failed > limit || restarted_too_often(state, limit) {
        let message = "Job has reached the specified backoff limit";
        return Some(Verdict::failure("BackoffLimitExceeded", message));
    }
    if deadline(state).is_some_and(|at| at <= state.view.now) {
        let message = "Job was active longer than specified deadline";
        return Some(Verdict::failure("DeadlineExceeded", message));
    }
    let given_up = state.failed_indexes.as_ref()?;
    let most = spec.max_failed_indexes.and_then(|most| usize::try_from(most).ok());
    if most.is_some_and(|most| given_up.len() > most) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return Some(Verdict::failure("MaxFailedIndexesExceeded", message));
    }
    if !given_up.is_empty() && given_up.len() + state.completed.len() >= state.completions() {
        return Some(Verdict::failure("FailedIndexes", "Job has failed indexes"));
    }
    None
}

/// When its time is over; none while it is suspended.
pub(super) fn deadline(state: &State<'_>) -> Option<Timestamp> {
    let seconds = state.spec.active_deadline_seconds.filter(|_| !state.spec.suspend)?;
    let start = state.view.job.view.status.start_time.as_deref().and_then(time::parse);
    start.unwrap_or(state.view.now).checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// Containers that are restarted in place fail without any pod failing.
fn restarted_too_often(state: &State<'_>, limit: i64) -> bool {
    if state.view.template["spec"]["restartPolicy"] != "OnFailure" {
        return false;
    }
    let living = state
        .own
        .iter()
        .filter(|pod| matches!(pod.view.status.phase.as_str(), "Running" | "Pending"));
    let restarts = living
        .flat_map(|pod| {
            let status = &pod.view.status;
            status.init_container_statuses.iter().chain(&status.container_statuses)
        })
        .fold(length(0), |sum, status| sum.saturating_add(i64::from(status.restart_count)));
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

//! The status of a budget.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api_object::time;
use api_types::{IntOrString, core::Condition};
use client::Cached;
use jiff::{SignedDuration, Timestamp};

use crate::cached::{DisruptionBudget, DisruptionBudgetStatus, Pod};

/// How long a pod whose eviction was allowed may take until it is marked as
/// leaving; upstream's number.
pub(super) const DELETION_MAX: SignedDuration = SignedDuration::from_mins(2);

/// A budget and the pods it selects, at one moment.
#[derive(Debug)]
pub(super) struct View {
    pub(super) budget: Arc<Cached<DisruptionBudget>>,
    pub(super) pods: Vec<Arc<Cached<Pod>>>,
    /// The sizes of the pods' controllers, added up; where the budget needs them.
    pub(super) scale: Result<Scale, String>,
    pub(super) now: Timestamp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Scale {
    pub(super) sum: i64,
    /// Whether some pods have no controller.
    pub(super) some_unmanaged: bool,
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) status: DisruptionBudgetStatus,
    /// Pods that should have left and did not.
    pub(super) not_deleted: Vec<Arc<Cached<Pod>>>,
    /// Where the number of pods that should be there is not to be had.
    pub(super) failure: Option<String>,
    /// Where more pods are asked for than will ever be there, and it was not said yet.
    pub(super) impossible: Option<String>,
    pub(super) look_again: Option<Duration>,
}

/// Whether the number of pods that should be there is one of controllers, or they
/// must be asked whether there will be as many; `pods` is how many there are.
pub(super) fn needs_scale(budget: &DisruptionBudget, pods: usize) -> bool {
    budget.spec.max_unavailable.is_some()
        || match budget.spec.min_available {
            Some(IntOrString::String(_)) => true,
            Some(IntOrString::Int(n)) => pods > 0 && i64::from(n) > pods as i64,
            None => false,
        }
}

/// Decides from what is seen.
pub(super) fn plan(view: &View) -> Plan {
    let DisruptionBudget { spec, status: known } = &view.budget.view;
    let (disrupted, not_deleted, due) = disrupted(view);
    let (expected, desired) = match (&spec.max_unavailable, &spec.min_available) {
        (None, None) => (0, 0),
        (None, Some(IntOrString::Int(n))) => (view.pods.len() as i64, i64::from(*n)),
        (max, min) => match &view.scale {
            Ok(scale) => {
                let of = |value: &IntOrString| scaled(value, scale.sum);
                let desired = match (max, min) {
                    (Some(most), _) => (scale.sum - of(most)).max(0),
                    (None, min) => min.as_ref().map_or(0, of),
                };
                (scale.sum, desired)
            }
            Err(error) => return failed(view, error),
        },
    };
    let is_healthy = |pod: &&Arc<Cached<Pod>>| {
        pod.meta.deletion_timestamp.is_none()
            && !disrupted.contains_key(&pod.meta.name)
            && pod.view.ready().is_some()
    };
    let healthy = view.pods.iter().filter(is_healthy).count() as i64;
    let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let mut status = DisruptionBudgetStatus {
        observed_generation: view.budget.meta.generation,
        disrupted_pods: disrupted,
        disruptions_allowed: allowed,
        current_healthy: healthy,
        desired_healthy: desired,
        expected_pods: expected,
        conditions: known.conditions.clone(),
    };
    let (truth, reason) = match allowed {
        0 => ("False", "InsufficientPods"),
        _ => ("True", "SufficientPods"),
    };
    let impossible = impossible(view, desired);
    let message = impossible.as_deref().unwrap_or_default();
    let is_said = known.conditions.iter().any(|known| known.message == message);
    note(&mut status, truth, reason, message, view.now);
    let impossible = impossible.filter(|_| !is_said);
    Plan { status, not_deleted, failure: None, impossible, look_again: due }
}

/// Why no pod may ever be evicted, whatever becomes healthy. Upstream leaves that to
/// be found out when a drain hangs.
fn impossible(view: &View, desired: i64) -> Option<String> {
    let scale = view.scale.as_ref().ok().filter(|scale| !scale.some_unmanaged)?;
    let is_asked = needs_scale(&view.budget.view, view.pods.len());
    (is_asked && scale.sum > 0 && desired > scale.sum).then(|| {
        format!(
            "minAvailable asks for {desired} healthy pods, but the pods' controllers make {} in \
             all: no pod can ever be evicted. Lower minAvailable or use maxUnavailable.",
            scale.sum
        )
    })
}

/// A budget that cannot be reckoned allows nothing.
fn failed(view: &View, error: &str) -> Plan {
    let mut status = view.budget.view.status.clone();
    status.disruptions_allowed = 0;
    note(&mut status, "False", "SyncFailed", error, view.now);
    let failure = Some(error.to_owned());
    Plan { status, not_deleted: Vec::new(), failure, impossible: None, look_again: None }
}

fn note(
    status: &mut DisruptionBudgetStatus,
    truth: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let mut condition = Condition {
        r#type: "DisruptionAllowed".into(),
        status: truth.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: status.observed_generation,
        last_transition_time: Some(time::format_seconds(now)),
        ..Condition::default()
    };
    match status.conditions.iter_mut().find(|known| known.r#type == condition.r#type) {
        Some(known) => {
            if known.status == condition.status {
                condition.last_transition_time = known.last_transition_time.take();
            }
            *known = condition;
        }
        None => status.conditions.push(condition),
    }
}

type Disrupted = (BTreeMap<String, String>, Vec<Arc<Cached<Pod>>>, Option<Duration>);

/// Pods that are about to leave, those that should have, and when the next
/// should have.
fn disrupted(view: &View) -> Disrupted {
    let (mut leaving, mut stayed, mut due) = (BTreeMap::new(), Vec::new(), None);
    for pod in &view.pods {
        let known = view.budget.view.status.disrupted_pods.get(&pod.meta.name);
        let Some(since) = known.filter(|_| pod.meta.deletion_timestamp.is_none()) else { continue };
        let until = time::parse(since).and_then(|since| since.checked_add(DELETION_MAX).ok());
        let Some(until) = until.filter(|until| *until > view.now) else {
            stayed.push(pod.clone());
            continue;
        };
        due = Some(due.map_or(until, |known: Timestamp| known.min(until)));
        leaving.insert(pod.meta.name.clone(), since.clone());
    }
    let wait = due.and_then(|due| Duration::try_from(due.duration_since(view.now)).ok());
    (leaving, stayed, wait)
}

/// Percentages round up.
fn scaled(value: &IntOrString, of: i64) -> i64 {
    match value {
        IntOrString::Int(n) => i64::from(*n),
        IntOrString::String(text) => {
            let percent = text.trim_end_matches('%').parse::<i64>().unwrap_or(0);
            (of.saturating_mul(percent) + 99).div_euclid(100)
        }
    }
}

//! How fast the number of replicas may change.

use std::time::Duration;

use tokio::time::Instant;

use super::view::{Behavior, Policy, Rules};

/// How long a lower recommendation must last; upstream's default.
const DOWNSCALE_WINDOW_SECONDS: i32 = 300;
/// Longest window and period of a rule.
const KEPT: Duration = Duration::from_hours(1);

/// What was recommended and done of late, on the clock that nobody sets. It is lost
/// with the process, which at worst delays a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    recommended: Vec<(Instant, i32)>,
    /// Replicas added (removed, where below zero).
    changes: Vec<(Instant, i32)>,
}

impl History {
    /// The first time an autoscaler is seen, what there is counts as
    /// recommended: a fresh start is no reason to shrink.
    pub(super) fn begin(&mut self, current: i32, now: Instant) {
        if self.recommended.is_empty() {
            self.recommended.push((now, current));
        }
    }

    fn recommend(&mut self, replicas: i32, now: Instant) {
        self.recommended.retain(|(at, _)| now.duration_since(*at) <= KEPT);
        self.recommended.push((now, replicas));
    }

    /// The target was given another size.
    pub(super) fn change(&mut self, from: i32, to: i32, now: Instant) {
        self.changes.retain(|(at, _)| now.duration_since(*at) <= KEPT);
        self.changes.push((now, to - from));
    }

    fn recommended_within(&self, seconds: i32, now: Instant) -> impl Iterator<Item = i32> {
        self.recommended.iter().filter(move |(at, _)| is_within(*at, seconds, now)).map(|(_, n)| *n)
    }

    /// The size when the period began.
    fn at_start_of(&self, current: i32, seconds: i32, now: Instant) -> i32 {
        let changes = self.changes.iter().filter(|(at, _)| is_within(*at, seconds, now));
        changes.fold(current, |size, (_, change)| size - change)
    }
}

fn is_within(at: Instant, seconds: i32, now: Instant) -> bool {
    now.duration_since(at) < Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// A number within its limits, and what was said on the way: reason and
/// message for `AbleToScale` and for `ScalingLimited`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Limited {
    pub(super) replicas: i32,
    pub(super) able: (&'static str, &'static str),
    pub(super) limited: Option<(&'static str, &'static str)>,
}

const READY: (&str, &str) = ("ReadyForNewScale", "recommended size matches current size");
const UP_STABILIZED: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const UP_LIMIT: (&str, &str) =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: (&str, &str) = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);
const TOO_MANY: (&str, &str) =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: (&str, &str) =
    ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
/// Where nothing limits it.
pub(super) const WITHIN: (&str, &str) =
    ("DesiredWithinRange", "the desired count is within the acceptable range");

/// Brings a recommendation within what may be.
pub(super) fn limit(
    history: &mut History,
    behavior: Option<&Behavior>,
    current: i32,
    desired: i32,
    range: (i32, i32),
    now: Instant,
) -> Limited {
    let stable = match behavior {
        Some(behavior) => stabilized(history, behavior, current, desired, now),
        None => {
            let recent = history.recommended_within(DOWNSCALE_WINDOW_SECONDS, now);
            recent.fold(desired, i32::max)
        }
    };
    history.recommend(desired, now);
    let able = match (stable == desired, desired >= current && behavior.is_some()) {
        (true, _) => READY,
        (false, true) => UP_STABILIZED,
        (false, false) => DOWN_STABILIZED,
    };
    let (low, high) = match behavior {
        Some(behavior) => rates(history, behavior, current, stable, range, now),
        None => {
            let most = current.saturating_mul(2).max(4);
            let high = if range.1 > most { (most, UP_LIMIT) } else { (range.1, TOO_MANY) };
            ((range.0, TOO_FEW), high)
        }
    };
    let (replicas, limited) = match stable {
        stable if stable < low.0 => (low.0, Some(low.1)),
        stable if stable > high.0 => (high.0, Some(high.1)),
        stable => (stable, None),
    };
    Limited { replicas, able, limited }
}

/// The present size, unless all recent recommendations agree that it is too
/// low, or too high.
fn stabilized(
    history: &History,
    behavior: &Behavior,
    current: i32,
    desired: i32,
    now: Instant,
) -> i32 {
    let window = |rules: &Option<Rules>, default| {
        rules.as_ref().and_then(|rules| rules.stabilization_window_seconds).unwrap_or(default)
    };
    let (up, down) =
        (window(&behavior.scale_up, 0), window(&behavior.scale_down, DOWNSCALE_WINDOW_SECONDS));
    let lowest = history.recommended_within(up, now).fold(desired, i32::min);
    let highest = history.recommended_within(down, now).fold(desired, i32::max);
    current.max(lowest).min(highest)
}

type Bound = (i32, (&'static str, &'static str));

/// The least and the greatest size that the rules allow now.
fn rates(
    history: &History,
    behavior: &Behavior,
    current: i32,
    stable: i32,
    range: (i32, i32),
    now: Instant,
) -> (Bound, Bound) {
    let up = most(history, behavior.scale_up.as_ref(), current, now).max(current);
    let down = least(history, behavior.scale_down.as_ref(), current, now).min(current);
    let low = match stable < current && range.0 < down {
        true => (down, DOWN_LIMIT),
        false => (range.0, TOO_FEW),
    };
    let high = match stable > current && range.1 > up {
        true => (up, UP_LIMIT),
        false => (range.1, TOO_MANY),
    };
    (low, high)
}

fn most(history: &History, rules: Option<&Rules>, current: i32, now: Instant) -> i32 {
    let of = |policy: &Policy| {
        let start = history.at_start_of(current, policy.period_seconds, now);
        match policy.r#type.as_str() {
            "Pods" => start.saturating_add(policy.value),
            // Rounded up, or a small number would never grow.
            _ => (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32,
        }
    };
    let Some(rules) = rules else { return i32::MAX };
    let limits = rules.policies.iter().map(of);
    match rules.select_policy.as_deref() {
        Some("Disabled") => current,
        Some("Min") => limits.min().unwrap_or(i32::MAX),
        _ => limits.max().unwrap_or(i32::MAX),
    }
}

fn least(history: &History, rules: Option<&Rules>, current: i32, now: Instant) -> i32 {
    let of = |policy: &Policy| {
        let start = history.at_start_of(current, policy.period_seconds, now);
        match policy.r#type.as_str() {
            "Pods" => start.saturating_sub(policy.value),
            _ => (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32,
        }
    };
    let Some(rules) = rules else { return 0 };
    let limits = rules.policies.iter().map(of);
    match rules.select_policy.as_deref() {
        Some("Disabled") => current,
        Some("Min") => limits.max().unwrap_or(0),
        _ => limits.min().unwrap_or(0),
    }
}

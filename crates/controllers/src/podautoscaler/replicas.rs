//! How many replicas one metric proposes.

use std::collections::{BTreeMap, BTreeSet};

use api_object::time;
use jiff::{SignedDuration, Timestamp};

use super::view::{Sample, ScaledPod};

/// While a pod starts, its CPU says little; upstream's defaults.
const CPU_INITIALIZATION: SignedDuration = SignedDuration::from_mins(5);
const INITIAL_READINESS_DELAY: SignedDuration = SignedDuration::from_secs(30);

/// How far from its target a metric may be without anything being done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tolerance {
    pub(super) up: f64,
    pub(super) down: f64,
}

impl Tolerance {
    fn bears(self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

/// What a metric proposes, and what it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    /// In thousandths: the average over pods, or the value itself.
    pub(super) value: i64,
    /// Percent of what is requested.
    pub(super) utilization: Option<i32>,
}

/// What the samples of pods are compared with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal<'a> {
    /// Percent of the pods' requests, by pod, in thousandths.
    Utilization(i32, &'a BTreeMap<String, i64>),
    /// The average, in thousandths.
    Average(i64),
}

/// The pods of a target by what their samples are worth.
struct Groups {
    ready: usize,
    /// Their samples do not count, or as nothing where more are wanted.
    unready: BTreeSet<String>,
    /// They have no sample.
    missing: BTreeSet<String>,
    /// They are not asked at all.
    ignored: BTreeSet<String>,
}

fn groups(
    pods: &[ScaledPod],
    samples: &BTreeMap<String, Sample>,
    is_cpu: bool,
    now: Timestamp,
) -> Groups {
    let (mut unready, mut missing, mut ignored) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut ready = 0;
    for pod in pods {
        let name = pod.metadata.name.clone();
        let sample = samples.get(&name);
        if pod.metadata.deletion_timestamp.is_some() || pod.status.phase == "Failed" {
            ignored.insert(name);
        } else if pod.status.phase == "Pending" {
            unready.insert(name);
        } else if let Some(sample) = sample {
            match is_cpu && is_starting(pod, sample, now) {
                true => drop(unready.insert(name)),
                false => ready += 1,
            }
        } else {
            missing.insert(name);
        }
    }
    Groups { ready, unready, missing, ignored }
}

fn is_starting(pod: &ScaledPod, sample: &Sample, now: Timestamp) -> bool {
    let start = pod.status.start_time.as_deref().and_then(time::parse);
    let (Some((is_ready, since)), Some(start)) = (pod.ready(), start) else { return true };
    if start + CPU_INITIALIZATION > now {
        // One window must have passed since it became ready.
        return !is_ready || sample.at < since + SignedDuration::from_secs(sample.window);
    }
    // It has never been ready.
    !is_ready && start + INITIAL_READINESS_DELAY > since
}

/// What is requested of a resource by each pod, in thousandths.
///
/// # Errors
/// Where a container requests nothing: its use is a percentage of what?
pub(super) fn requests(
    pods: &[ScaledPod],
    resource: &str,
    container: &str,
) -> Result<BTreeMap<String, i64>, String> {
    let of_pod = |pod: &ScaledPod| -> Result<i64, String> {
        let whole = pod.spec.resources.as_ref().filter(|_| container.is_empty());
        if let Some(request) = whole.and_then(|whole| whole.requests.get(resource)) {
            return Ok(request.millis());
        }
        let sidecars = pod.spec.init_containers.iter().filter(|c| c.restart_policy == "Always");
        let mut sum = 0i64;
        for one in pod.spec.containers.iter().chain(sidecars) {
            if !container.is_empty() && one.name != container {
                continue;
            }
            let request = one.resources.requests.get(resource).ok_or_else(|| {
                let (name, pod) = (&one.name, &pod.metadata.name);
                format!("missing request for {resource} in container {name} of Pod {pod}")
            })?;
            sum = sum.saturating_add(request.millis());
        }
        Ok(sum)
    };
    pods.iter().map(|pod| Ok((pod.metadata.name.clone(), of_pod(pod)?))).collect()
}

/// From samples of pods.
///
/// # Errors
/// Why nothing can be said.
pub(super) fn from_pods(
    current: i32,
    pods: &[ScaledPod],
    samples: &BTreeMap<String, Sample>,
    goal: Goal<'_>,
    is_cpu: bool,
    tolerance: Tolerance,
    now: Timestamp,
) -> Result<Proposal, String> {
    if pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".into());
    }
    let groups = groups(pods, samples, is_cpu, now);
    let mut values: BTreeMap<&str, i64> = samples
        .iter()
        .filter(|(name, _)| !groups.ignored.contains(*name) && !groups.unready.contains(*name))
        .map(|(name, sample)| (name.as_str(), sample.value))
        .collect();
    if values.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".into());
    }
    let (ratio, utilization, value) = compare(&values, goal)?;
    let propose = |replicas| Ok(Proposal { replicas, value, utilization });
    let counts_unready = !groups.unready.is_empty() && ratio > 1.0;
    if !counts_unready && groups.missing.is_empty() {
        return propose(match tolerance.bears(ratio) {
            true => current,
            false => ceil(ratio * groups.ready as f64),
        });
    }
    // Whoever is not heard is taken to need the least change; where the others need none,
    // that is none.
    for name in groups.missing.iter().filter(|_| ratio != 1.0) {
        let assumed = match goal {
            _ if ratio > 1.0 => 0,
            Goal::Utilization(target, requests) => {
                let request = requests.get(name).copied().unwrap_or(0);
                request.saturating_mul(i64::from(target.max(100))) / 100
            }
            Goal::Average(target) => target,
        };
        values.insert(name, assumed);
    }
    if counts_unready {
        values.extend(groups.unready.iter().map(|name| (name.as_str(), 0)));
    }
    let (corrected, ..) = compare(&values, goal)?;
    let turns = (ratio < 1.0 && corrected > 1.0) || (ratio > 1.0 && corrected < 1.0);
    if tolerance.bears(corrected) || turns {
        return propose(current);
    }
    let replicas = ceil(corrected * values.len() as f64);
    let turns = (corrected < 1.0 && replicas > current) || (corrected > 1.0 && replicas < current);
    propose(if turns { current } else { replicas })
}

/// How the values are to the goal, in percent of requests where it is one, and
/// on average.
fn compare(
    values: &BTreeMap<&str, i64>,
    goal: Goal<'_>,
) -> Result<(f64, Option<i32>, i64), String> {
    let average = |sum: i64, n: usize| sum / i64::try_from(n.max(1)).unwrap_or(i64::MAX);
    match goal {
        Goal::Average(target) => {
            let sum = values.values().fold(0i64, |sum, value| sum.saturating_add(*value));
            let average = average(sum, values.len());
            Ok((average as f64 / target.max(1) as f64, None, average))
        }
        Goal::Utilization(target, requests) => {
            let known =
                values.iter().filter_map(|(name, value)| Some((value, requests.get(*name)?)));
            let (used, requested, n) = known.fold((0i64, 0i64, 0), |(used, requested, n), one| {
                (used.saturating_add(*one.0), requested.saturating_add(*one.1), n + 1)
            });
            if requested == 0 {
                return Err("no metrics returned matched known pods".into());
            }
            let percent = i128::from(used) * 100 / i128::from(requested);
            let percent = i32::try_from(percent).unwrap_or(i32::MAX);
            let ratio = f64::from(percent) / f64::from(target.max(1));
            Ok((ratio, Some(percent), average(used, n)))
        }
    }
}

/// From one value that all replicas share.
///
/// # Errors
/// Why nothing can be said.
pub(super) fn from_value(
    current: i32,
    pods: &[ScaledPod],
    value: i64,
    target: i64,
    tolerance: Tolerance,
) -> Result<Proposal, String> {
    let ratio = value as f64 / target.max(1) as f64;
    let replicas = match current {
        // From nothing, as many as the value asks for.
        0 => ceil(ratio),
        current if tolerance.bears(ratio) => current,
        _ if pods.is_empty() => {
            let why = "no pods returned by selector while calculating replica count";
            return Err(format!("unable to calculate ready pods: {why}"));
        }
        _ => {
            let is_ready = |pod: &&ScaledPod| {
                let mut conditions = pod.status.conditions.iter();
                pod.status.phase == "Running"
                    && conditions.any(|c| c.r#type == "Ready" && c.status == "True")
            };
            ceil(ratio * pods.iter().filter(is_ready).count() as f64)
        }
    };
    Ok(Proposal { replicas, value, utilization: None })
}

/// From one value of which every replica takes a part.
pub(super) fn from_share(replicas: i32, value: i64, target: i64, tolerance: Tolerance) -> Proposal {
    let target = target.max(1) as f64;
    let ratio = value as f64 / (target * f64::from(replicas));
    let proposed = match tolerance.bears(ratio) {
        true => replicas,
        false => ceil(value as f64 / target),
    };
    let share = (value as f64 / f64::from(replicas.max(1))).ceil() as i64;
    Proposal { replicas: proposed, value: share, utilization: None }
}

fn ceil(replicas: f64) -> i32 {
    // A cast saturates.
    replicas.ceil() as i32
}

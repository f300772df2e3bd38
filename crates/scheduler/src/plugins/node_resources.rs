//! A pod fits where what it asks for is left; better where more is left (or
//! less, for packing), and where resources are used evenly.

use client::Cached;

use super::{Reasons, Rejection, SCORE_MAX, Start, Task};
use crate::{Cluster, Happening, Node, Pod, profile::Strategy};

pub(super) fn begin<'a>(task: &Task<'a>) -> Start<'a> {
    let (pod, args) = (task.pod, &task.profile.args);
    Start::each(move |node: &Node| fits(&pod.view, node, |name| args.ignores(name)))
}

fn fits(pod: &Pod, node: &Node, ignored: impl Fn(&str) -> bool) -> Option<Rejection> {
    let offer = node.offer();
    let mut rejection = Rejection { reasons: Reasons::default(), preemption_helps: true };
    if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= offer.pods_max {
        rejection.reasons.push("Too many pods".into());
        rejection.preemption_helps &= offer.pods_max > 0;
    }
    for (name, amount) in pod.requests.iter().filter(|(_, amount)| *amount > 0) {
        let offered = offer.allocatable.get(name);
        if amount > offered - node.used.get(name) && !ignored(name) {
            rejection.reasons.push(format!("Insufficient {name}").into());
            rejection.preemption_helps &= amount <= offered;
        }
    }
    (!rejection.reasons.is_empty()).then_some(rejection)
}

/// A node that has room now, or gets some by preemption.
pub(super) fn helps(cluster: &Cluster, pod: &Cached<Pod>, what: &Happening) -> bool {
    let node = match what {
        Happening::PodGone(_, node) => cluster.node(node),
        what => what.slot().and_then(|slot| cluster.at(slot)),
    };
    node.is_some_and(|node| {
        fits(&pod.view, node, |_| false).is_none()
            || node.pods.iter().any(|other| other.view.priority < pod.view.priority)
    })
}

/// How a resource of a node stands with the pod on it: in use, and offered.
/// `None` where it does not count.
fn standing(pod: &Pod, node: &Node, name: &str, scored: bool) -> Option<(i64, i64)> {
    let offered = node.offer().allocatable.get(name);
    let (used, own) = match name {
        "cpu" if scored => (node.scored[0], pod.scored[0]),
        "memory" if scored => (node.scored[1], pod.scored[1]),
        name => (node.used.get(name), pod.requests.get(name)),
    };
    // Nobody is sent to or away from a node for a device that it does not ask.
    let asked = own > 0 || matches!(name, "cpu" | "memory" | "ephemeral-storage");
    (offered > 0 && asked).then(|| (used.saturating_add(own), offered))
}

pub(super) fn score(task: &Task<'_>, nodes: &[&Node]) -> Vec<i64> {
    let strategy = &task.profile.args.strategy;
    let score = |node: &&Node| {
        let (mut sum, mut weights) = (0, 0);
        for (name, weight) in strategy.resources() {
            if let Some((used, offered)) = standing(&task.pod.view, node, name, true) {
                sum += weight * strategy.score(used, offered);
                weights += weight;
            }
        }
        match (weights, strategy) {
            (0, _) => 0,
            // The one strategy that rounds.
            (weights, Strategy::RequestedToCapacityRatio { .. }) => {
                (sum as f64 / weights as f64).round() as i64
            }
            (weights, _) => sum / weights,
        }
    };
    nodes.iter().map(score).collect()
}

/// How much more even a node would be used with the pod on it: 75 for no
/// change, from 50 to 100.
pub(super) fn balanced(task: &Task<'_>, nodes: &[&Node]) -> Vec<i64> {
    let pod = &task.pod.view;
    // A pod that asks for nothing changes nothing.
    if pod.requests.is_empty() {
        return Vec::new();
    }
    let evenness = |fractions: &[f64]| {
        let deviation = match fractions {
            [] | [_] => 0.0,
            [a, b] => (a - b).abs() / 2.0,
            many => {
                let n = many.len() as f64;
                let mean = many.iter().sum::<f64>() / n;
                (many.iter().map(|f| (f - mean) * (f - mean)).sum::<f64>() / n).sqrt()
            }
        };
        (1.0 - deviation) * SCORE_MAX as f64
    };
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let score = |node: &&Node| {
        // Emptied for each node, since there are many.
        with.clear();
        without.clear();
        for (name, _) in &task.profile.args.balanced {
            if let Some((used, offered)) = standing(pod, node, name, false) {
                let share = |used: i64| (used as f64 / offered as f64).min(1.0);
                with.push(share(used));
                without.push(share(used - pod.requests.get(name)));
            }
        }
        (75.0 + (evenness(&with) - evenness(&without)) / 2.0) as i64
    };
    nodes.iter().map(score).collect()
}

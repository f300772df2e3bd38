//! A pod fits where what it asks for is left; better where more is left, and
//! where CPU and memory are used evenly.

use super::{Rejection, SCORE_MAX};
use crate::{Node, Pod};

/// What a pod that asks for nothing is taken to use, when nodes are compared;
/// upstream's figures.
const CPU_MILLI_UNASKED: i64 = 100;
const MEMORY_UNASKED: i64 = 200 * 1024 * 1024;

pub(super) fn filter(pod: &Pod, node: &Node) -> Option<Rejection> {
    let mut rejection = Rejection { reasons: Vec::new(), preemption_helps: true };
    if node.pods + 1 > node.offer.pods_max {
        rejection.reasons.push("Too many pods".into());
        rejection.preemption_helps &= node.offer.pods_max > 0;
    }
    for (name, amount) in pod.requests.iter().filter(|(_, amount)| *amount > 0) {
        let offered = node.offer.allocatable.get(name);
        if amount > offered - node.used.get(name) {
            rejection.reasons.push(format!("Insufficient {name}"));
            rejection.preemption_helps &= amount <= offered;
        }
    }
    (!rejection.reasons.is_empty()).then_some(rejection)
}

/// Shares of CPU and memory that would be used with the pod there, in
/// thousandths.
fn shares(pod: &Pod, node: &Node) -> [Option<i64>; 2] {
    let or = |amount: i64, unasked: i64| if amount == 0 { unasked } else { amount };
    let share = |used: i64, offered: i64| {
        let thousandths = i128::from(used) * 1000 / i128::from(offered.max(1));
        (offered > 0).then(|| i64::try_from(thousandths).unwrap_or(1000).clamp(0, 1000))
    };
    let (offered, used) = (&node.offer.allocatable, &node.used);
    [
        share(used.cpu_milli + or(pod.requests.cpu_milli, CPU_MILLI_UNASKED), offered.cpu_milli),
        share(used.memory + or(pod.requests.memory, MEMORY_UNASKED), offered.memory),
    ]
}

pub(super) fn least_allocated(pod: &Pod, nodes: &[&Node]) -> Vec<i64> {
    let score = |node: &&Node| {
        let shares: Vec<i64> = shares(pod, node).into_iter().flatten().collect();
        let left: i64 = shares.iter().map(|share| 1000 - share).sum();
        left * SCORE_MAX / 1000 / i64::try_from(shares.len().max(1)).unwrap_or(1)
    };
    nodes.iter().map(score).collect()
}

pub(super) fn balanced(pod: &Pod, nodes: &[&Node]) -> Vec<i64> {
    let score = |node: &&Node| match shares(pod, node) {
        // Half the difference is the standard deviation of two shares.
        [Some(cpu), Some(memory)] => SCORE_MAX - (cpu - memory).abs() / 2 * SCORE_MAX / 1000,
        _ => SCORE_MAX,
    };
    nodes.iter().map(score).collect()
}

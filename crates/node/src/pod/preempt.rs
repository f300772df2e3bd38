//! Which pods make room for one that the system needs. Pure.

use super::granted::Amount;
use crate::container::qos::Qos;

/// So much of a resource is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) resource: String,
    pub(crate) quantity: i64,
}

/// A pod that may have to go.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) uid: String,
    pub(crate) qos: Qos,
    pub(crate) has: Amount,
}

/// As few pods as it takes, and of those the smaller ones; guaranteed ones only where all
/// others together are too little, and burstable ones likewise. As the kubelet chooses.
///
/// # Errors
/// What is still missing when all of them are gone.
pub(crate) fn victims(
    candidates: &[Candidate],
    missing: &[Missing],
) -> Result<Vec<String>, Vec<Missing>> {
    let of = |qos: Qos| candidates.iter().filter(move |c| c.qos == qos).collect::<Vec<_>>();
    let [best_effort, burstable, guaranteed] =
        [Qos::BestEffort, Qos::Burstable, Qos::Guaranteed].map(of);
    let left = without(missing, candidates);
    if !left.is_empty() {
        return Err(left);
    }
    let both = best_effort.iter().chain(&burstable).copied();
    let guaranteed = nearest(guaranteed, without(missing, both));
    let others = best_effort.iter().chain(&guaranteed).copied();
    let burstable = nearest(burstable, without(missing, others));
    let others = burstable.iter().chain(&guaranteed).copied();
    let best_effort = nearest(best_effort, without(missing, others));
    let chosen = best_effort.into_iter().chain(burstable).chain(guaranteed);
    Ok(chosen.map(|candidate| candidate.uid.clone()).collect())
}

/// What is missing once these are gone.
fn without<'a>(missing: &[Missing], gone: impl IntoIterator<Item = &'a Candidate>) -> Vec<Missing> {
    let mut left = missing.to_vec();
    for candidate in gone {
        for missing in &mut left {
            missing.quantity =
                missing.quantity.saturating_sub(candidate.has.of_resource(&missing.resource));
        }
    }
    left.retain(|missing| missing.quantity > 0);
    left
}

/// One after the other, each time the one that comes nearest to what is still missing.
fn nearest(mut from: Vec<&Candidate>, mut missing: Vec<Missing>) -> Vec<&Candidate> {
    let mut chosen = Vec::new();
    while !missing.is_empty() {
        let rank = |candidate: &Candidate| {
            (distance(candidate, &missing), candidate.has.memory, candidate.has.cpu_millis)
        };
        let best = (0..from.len()).min_by(|a, b| {
            let ((a, a_memory, a_cpu), (b, b_memory, b_cpu)) = (rank(from[*a]), rank(from[*b]));
            a.total_cmp(&b).then((a_memory, a_cpu).cmp(&(b_memory, b_cpu)))
        });
        let Some(best) = best else { break };
        let candidate = from.swap_remove(best);
        missing = without(&missing, [candidate]);
        chosen.push(candidate);
    }
    chosen
}

/// How far a pod's end is from enough: each resource counts as the part of it that is
/// missing.
fn distance(candidate: &Candidate, missing: &[Missing]) -> f64 {
    let part = |missing: &Missing| {
        let left = missing.quantity.saturating_sub(candidate.has.of_resource(&missing.resource));
        (left.max(0) as f64 / missing.quantity as f64).powi(2)
    };
    missing.iter().map(part).sum()
}

/// `[(res: memory, q: 100), ]`, as the kubelet writes it.
pub(crate) fn told(missing: &[Missing]) -> String {
    let one = |m: &Missing| format!("(res: {}, q: {}), ", m.resource, m.quantity);
    format!("[{}]", missing.iter().map(one).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_makes_room() {
        let candidate = |uid: &str, qos, cpu_millis, memory| Candidate {
            uid: uid.into(),
            qos,
            has: Amount { cpu_millis, memory, ..Amount::default() },
        };
        let pods = [
            candidate("best", Qos::BestEffort, 0, 0),
            candidate("small", Qos::Burstable, 100, 10),
            candidate("middle", Qos::Burstable, 300, 30),
            candidate("large", Qos::Burstable, 500, 50),
            candidate("kept", Qos::Guaranteed, 1000, 100),
        ];
        for (cpu, memory, count, expected) in [
            // One that is enough, and the smallest of those.
            (90, 0, 0, "small"),
            (200, 0, 0, "middle"),
            (0, 40, 0, "large"),
            // The largest first, then what fits the rest.
            (550, 0, 0, "large small"),
            (0, 0, 1, "best"),
            // The guaranteed one only where all others are too little.
            (900, 0, 0, "large middle small"),
            (901, 0, 0, "kept"),
            (1001, 0, 0, "small kept"),
            (3000, 0, 0, "missing [(res: cpu, q: 1100), ]"),
            (3000, 900, 0, "missing [(res: cpu, q: 1100), (res: memory, q: 710), ]"),
        ] {
            let rows = [("pods", count), ("cpu", cpu), ("memory", memory)];
            let missing: Vec<Missing> = rows
                .into_iter()
                .filter(|(_, quantity)| *quantity > 0)
                .map(|(resource, quantity)| Missing { resource: resource.into(), quantity })
                .collect();
            let chosen = match victims(&pods, &missing) {
                Ok(chosen) => chosen.join(" "),
                Err(left) => format!("missing {}", told(&left)),
            };
            assert_eq!(chosen, expected, "{missing:?}");
        }
    }
}

//! Default preemption: which pods of lower priority go, so that a pod that
//! fits nowhere fits somewhere.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use api_object::LabelSelector;
use client::Cached;
use serde::Deserialize;
use serde_json::Value;

use crate::{Node, Pod, Rejection, Task, decide::Look, fit_error};

/// Said of nodes that fewer pods would not help.
pub(crate) const NO_HELP: &str = "Preemption is not helpful for scheduling";
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";

/// Whose place a pod shall have.
#[derive(Clone, Debug)]
pub struct Preemption {
    /// Where.
    pub node: String,
    /// Who goes, the most important first.
    pub victims: Vec<Arc<Cached<Pod>>>,
    /// For whom room was being made there, and is not any more.
    pub displaced: Vec<Arc<Cached<Pod>>>,
}

/// A PodDisruptionBudget, as narrow as preemption needs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Wire")]
pub(crate) struct Budget {
    selector: Option<LabelSelector>,
    allowed: i64,
    /// Pods whose disruption is counted already, by name.
    disrupted: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    spec: WireSpec,
    #[serde(default)]
    status: WireStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireSpec {
    selector: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WireStatus {
    disruptions_allowed: i64,
    disrupted_pods: BTreeMap<String, Value>,
}

impl From<Wire> for Budget {
    fn from(wire: Wire) -> Self {
        let selector = wire.spec.selector;
        Self {
            // The API has validated it; what does not parse protects nothing.
            selector: selector.and_then(|selector| LabelSelector::from_object(&selector).ok()),
            allowed: wire.status.disruptions_allowed,
            disrupted: wire.status.disrupted_pods,
        }
    }
}

/// What going from a node would cost.
struct Candidate<'a> {
    node: &'a Node,
    victims: Vec<Arc<Cached<Pod>>>,
    violations: usize,
}

type Rejected<'a> = (&'a Node, &'static str, Rejection);

/// Whether a pod may displace others now.
///
/// # Errors
/// Says why not.
pub(crate) fn is_eligible(task: &Task<'_>, rejected: &[Rejected<'_>]) -> Result<(), String> {
    if !task.waiting().may_preempt {
        return Err("not eligible due to preemptionPolicy=Never.".into());
    }
    let Some(name) = task.cluster.nomination(task.pod) else { return Ok(()) };
    let Some(node) = task.cluster.node(name) else { return Ok(()) };
    // Where its place will not do for another reason, it may look elsewhere.
    let hopeless = rejected
        .iter()
        .any(|(at, _, rejection)| at.slot == node.slot && !rejection.preemption_helps);
    let leaving = node.pods.iter().any(|pod| {
        pod.view.priority < task.pod.view.priority
            && pod.view.is_preempted
            && pod.meta.deletion_timestamp.is_some()
    });
    match leaving && !hopeless {
        true => Err("not eligible due to a terminating pod on the nominated node.".into()),
        false => Ok(()),
    }
}

/// Why nobody is displaced, in upstream's form, and whether the room that is
/// being made for the pod will not do.
pub(crate) struct Refused {
    pub(crate) message: String,
    pub(crate) clears_nomination: bool,
}

/// Chooses the node where the least is lost.
///
/// # Errors
/// Says why there is none.
pub(crate) fn preempt<'a>(
    task: &Task<'a>,
    look: &mut Look<'a>,
    rejected: &[Rejected<'a>],
    random: u64,
) -> Result<Preemption, Refused> {
    is_eligible(task, rejected).map_err(|message| Refused { message, clears_nomination: false })?;
    let args = &task.profile.args;
    let nodes = task.cluster.len();
    let potential: Vec<&Rejected<'a>> =
        rejected.iter().filter(|(_, _, rejection)| rejection.preemption_helps).collect();
    let enough =
        (nodes * args.min_candidate_nodes_percentage / 100).max(args.min_candidate_nodes_absolute);
    let mut candidates = Vec::new();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut tried = 0;
    let start = match potential.len() {
        0 => 0,
        n => usize::try_from(random % n as u64).unwrap_or(0),
    };
    for (node, _, _) in potential[start..].iter().chain(&potential[..start]) {
        tried += 1;
        match victims(task, look, node) {
            Ok(candidate) => candidates.push(candidate),
            Err(why) => why.into_iter().for_each(|why| *reasons.entry(why).or_default() += 1),
        }
        // Enough, once one of them breaks no promise.
        if candidates.len() >= enough && candidates.iter().any(|c| c.violations == 0) {
            break;
        }
    }
    let Some(chosen) = candidates.into_iter().min_by_key(cost) else {
        let mut reasons: Vec<(String, usize)> = reasons.into_iter().collect();
        if nodes > tried {
            reasons.push((NO_HELP.into(), nodes - tried));
        }
        let reasons = reasons.iter().map(|(reason, n)| (reason.as_str(), *n));
        let message = fit_error::counted(nodes, reasons);
        return Err(Refused { message, clears_nomination: true });
    };
    let displaced = task
        .cluster
        .nominated_to(chosen.node.name())
        .filter(|other| other.view.priority < task.pod.view.priority)
        .cloned()
        .collect();
    let node = chosen.node.name().to_owned();
    Ok(Preemption { node, victims: chosen.victims, displaced })
}

/// Upstream's order: fewest broken promises, least important victim, least
/// importance in sum, fewest victims, the most important of them started last.
fn cost(candidate: &Candidate<'_>) -> impl Ord + use<> {
    let priorities = candidate.victims.iter().map(|victim| i64::from(victim.view.priority));
    let highest = priorities.clone().max();
    // Shifted, so that many victims never weigh less than few.
    let sum: i64 = priorities.clone().map(|p| p + i64::from(i32::MAX) + 1).sum();
    let top = candidate.victims.iter().filter(|v| Some(i64::from(v.view.priority)) == highest);
    let earliest = top.map(|victim| started(victim)).min();
    (candidate.violations, highest, sum, candidate.victims.len(), Reverse(earliest))
}

/// Who did not start yet started last of all.
fn started(pod: &Cached<Pod>) -> (bool, Option<String>) {
    (pod.view.started.is_none(), pod.view.started.clone())
}

/// Higher priority first, then the one that runs longer.
fn importance(pod: &Cached<Pod>) -> impl Ord + use<> {
    (Reverse(pod.view.priority), started(pod), pod.key())
}

/// The fewest pods without which the pod fits on a node.
///
/// # Errors
/// Why it would not fit even without all that may go.
fn victims<'a>(
    task: &Task<'a>,
    look: &mut Look<'a>,
    node: &'a Node,
) -> Result<Candidate<'a>, Vec<String>> {
    let lower = |pod: &&Arc<Cached<Pod>>| pod.view.priority < task.pod.view.priority;
    let mut potential: Vec<Arc<Cached<Pod>>> = node.pods.iter().filter(lower).cloned().collect();
    if potential.is_empty() {
        return Err(vec![NO_VICTIMS.into()]);
    }
    potential.sort_by_cached_key(|pod| importance(pod));
    let mut tried = node.clone();
    for pod in &potential {
        look.remove(&mut tried, pod);
    }
    let rejected = look.check(&tried);
    if let Some((_, rejection)) = rejected {
        for pod in &potential {
            look.add(&mut tried, pod);
        }
        return Err(rejection.reasons.iter().map(str::to_owned).collect());
    }
    let protected = protected(task, &potential);
    let (first, then): (Vec<_>, Vec<_>) =
        potential.into_iter().zip(protected).partition(|(_, protected)| *protected);
    let mut victims = Vec::new();
    let mut violations = 0;
    for (pod, protected) in first.into_iter().chain(then) {
        look.add(&mut tried, &pod);
        if look.check(&tried).is_some() {
            look.remove(&mut tried, &pod);
            violations += usize::from(protected);
            victims.push(pod);
        }
    }
    // The filters must not remember what was only tried.
    victims.iter().for_each(|pod| look.add(&mut tried, pod));
    victims.sort_by_cached_key(|pod| importance(pod));
    Ok(Candidate { node, victims, violations })
}

/// Whose going would break a PodDisruptionBudget, if all went in this order.
fn protected(task: &Task<'_>, pods: &[Arc<Cached<Pod>>]) -> Vec<bool> {
    let mut left: BTreeMap<&String, i64> =
        task.cluster.budgets.iter().map(|(key, budget)| (key, budget.view.allowed)).collect();
    let breaks = |pod: &Arc<Cached<Pod>>| {
        let mut breaks = false;
        for (key, budget) in &task.cluster.budgets {
            let selector = budget.view.selector.as_ref().filter(|selector| !selector.is_empty());
            if budget.meta.namespace != pod.meta.namespace
                || pod.meta.labels.is_empty()
                || !selector.is_some_and(|selector| selector.matches(&pod.meta.labels))
                || budget.view.disrupted.contains_key(&pod.meta.name)
            {
                continue;
            }
            let left = left.entry(key).or_default();
            *left -= 1;
            breaks |= *left < 0;
        }
        breaks
    };
    pods.iter().map(breaks).collect()
}

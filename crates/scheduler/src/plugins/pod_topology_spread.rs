//! Spreads pods of a kind evenly over zones, nodes or any other domain.

use std::borrow::Cow;

use client::Cached;

use super::{Filter, Rejection, SCORE_MAX, Start, Task};
use crate::{
    Cluster, Happening, Map, Node, Pod, PodSelector, Spread,
    neighbours::{Counted, Counts, Eligible},
    profile::Spreading,
    terms::Namespaces,
};

const HOSTNAME: &str = "kubernetes.io/hostname";

/// The constraints that hold for a pod, and whether nodes that lack one of
/// the labels are left out.
struct Constraints<'a> {
    list: Vec<Cow<'a, Spread>>,
    needs_all_labels: bool,
}

fn constraints<'a>(task: &Task<'a>, hard: bool) -> Constraints<'a> {
    let own = &task.waiting().spread;
    if !own.is_empty() {
        let list = own.iter().filter(|spread| spread.is_hard == hard).map(Cow::Borrowed).collect();
        return Constraints { list, needs_all_labels: true };
    }
    let spreading = &task.profile.args.spreading;
    let mut list = Vec::new();
    if spreading.constraints().iter().any(|spread| spread.is_hard == hard)
        && let Some(labels) = task.cluster.owners.selector(&task.pod.meta)
    {
        let wanted = spreading.constraints().iter().filter(|spread| spread.is_hard == hard);
        list.extend(
            wanted.map(|spread| {
                Cow::Owned(Spread { labels: Some(labels.clone()), ..spread.clone() })
            }),
        );
    }
    Constraints { list, needs_all_labels: !matches!(spreading, Spreading::System) }
}

/// The counter of one constraint.
fn counting(task: &Task<'_>, spread: &Spread, keys: &[String]) -> Counts {
    let waiting = task.waiting();
    let affinity = (spread.honors_affinity
        && !(waiting.node_selector.is_empty() && waiting.required.is_none()))
    .then(|| (waiting.node_selector.clone(), waiting.required.clone()));
    let tolerations = spread.honors_taints.then(|| waiting.tolerations.clone());
    let eligible = Eligible { keys: keys.to_vec(), affinity, tolerations };
    // A selector that selects everything counts nothing here.
    let labels = spread.labels.clone().filter(|labels| !labels.is_empty());
    let pods = PodSelector {
        namespaces: vec![task.pod.meta.namespace.clone()],
        namespace_selector: None,
        labels,
    };
    task.cluster.counter(Counted {
        pods: vec![pods],
        topology_key: spread.topology_key.clone(),
        nodes: (eligible != Eligible::default()).then_some(eligible),
        with_leaving: false,
    })
}

struct Rule<'a> {
    spread: Cow<'a, Spread>,
    counts: Counts,
    /// Whether the pod itself counts.
    own: i64,
    /// Pods in the emptiest domain, and how many domains there are.
    min: i64,
    domains: i64,
    /// What is tried on top of it, by domain.
    tried: Map<usize, i64>,
}

impl Rule<'_> {
    fn min_tried(&self) -> i64 {
        if self.tried.values().all(|tried| *tried == 0) {
            return self.min;
        }
        let counts = self.counts.domains();
        let counts = counts.map(|(at, n)| n + self.tried.get(&at).copied().unwrap_or(0));
        counts.min().unwrap_or(0)
    }
}

struct Rules<'a> {
    rules: Vec<Rule<'a>>,
    namespaces: &'a Namespaces,
}

pub(super) fn begin<'a>(task: &Task<'a>) -> Start<'a> {
    let Constraints { list, .. } = constraints(task, true);
    if list.is_empty() {
        return Start::Skip;
    }
    let keys: Vec<String> = list.iter().map(|spread| spread.topology_key.clone()).collect();
    let rules = list.into_iter().map(|spread| {
        let counts = counting(task, &spread, &keys);
        let own = spread.labels.as_ref().is_some_and(|l| l.matches(&task.pod.meta.labels));
        let (min, domains) = counts
            .domains()
            .fold((None, 0), |(min, n), (_, count)| (Some(min.unwrap_or(count).min(count)), n + 1));
        Rule {
            spread,
            counts,
            own: i64::from(own),
            min: min.unwrap_or(0),
            domains,
            tried: Map::default(),
        }
    });
    let rules = rules.collect();
    Start::each(Rules { rules, namespaces: &task.cluster.namespaces })
}

impl Filter for Rules<'_> {
    fn check(&self, node: &Node) -> Option<Rejection> {
        for rule in &self.rules {
            let Counts { counter, topology, .. } = &rule.counts;
            let Some(domain) = topology.domain(node.slot) else {
                return Some(Rejection::never(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            };
            let min = match rule.domains < rule.spread.domains_min {
                true => 0,
                false => rule.min_tried(),
            };
            let there = counter.count(domain) + rule.tried.get(&domain).copied().unwrap_or(0);
            if there + rule.own - min > rule.spread.max_skew {
                return Some(Rejection::crowded(
                    "node(s) didn't match pod topology spread constraints",
                ));
            }
        }
        None
    }

    fn moved(&mut self, pod: &Cached<Pod>, node: &Node, sign: i64) {
        for rule in &mut self.rules {
            if let Some(domain) = rule.counts.topology.domain(node.slot)
                && rule.counts.counter.counts_pod(&pod.meta, node, self.namespaces)
            {
                *rule.tried.entry(domain).or_default() += sign;
            }
        }
    }
}

pub(super) fn helps(_: &Cluster, pod: &Cached<Pod>, what: &Happening) -> bool {
    let (Happening::PodPlaced(other) | Happening::PodGone(other, _) | Happening::PodLeaving(other)) =
        what
    else {
        return true;
    };
    let spread = pod.view.waiting.iter().flat_map(|waiting| &waiting.spread);
    let mut selectors = spread.filter_map(|spread| spread.labels.as_ref());
    other.meta.namespace == pod.meta.namespace
        && selectors.any(|selector| selector.matches(&other.meta.labels))
}

/// Fewer pods of the kind are better; domains of which there are many count
/// for more, since each holds fewer.
pub(super) fn score(task: &Task<'_>, nodes: &[&Node]) -> Vec<i64> {
    let Constraints { list, needs_all_labels } = constraints(task, false);
    if list.is_empty() {
        return Vec::new();
    }
    let keys: Vec<String> = match needs_all_labels {
        true => list.iter().map(|spread| spread.topology_key.clone()).collect(),
        false => Vec::new(),
    };
    let is_left_out = |node: &Node| keys.iter().any(|key| !node.labels().contains_key(key));
    let left_out: Vec<bool> = nodes.iter().map(|node| is_left_out(node)).collect();
    let mut raw = vec![0f64; nodes.len()];
    for spread in &list {
        let Counts { counter, topology, .. } = counting(task, spread, &keys);
        let domain = |node: &Node| topology.domain(node.slot);
        let kept = || nodes.iter().zip(&left_out).filter(|(_, out)| !**out).map(|(node, _)| *node);
        let size = match spread.topology_key.as_str() {
            HOSTNAME => kept().count(),
            _ => {
                let mut seen: Vec<usize> = kept().filter_map(domain).collect();
                seen.sort_unstable();
                seen.dedup();
                seen.len()
            }
        };
        let weight = ((size + 2) as f64).ln();
        for (raw, node) in raw.iter_mut().zip(nodes) {
            if let Some(domain) = domain(node) {
                *raw += counter.count(domain) as f64 * weight + (spread.max_skew - 1) as f64;
            }
        }
    }
    let raw: Vec<i64> = raw.into_iter().map(|score| score.round() as i64).collect();
    let counting = || raw.iter().zip(&left_out).filter(|(_, out)| !**out).map(|(raw, _)| *raw);
    let (min, max) = (counting().min().unwrap_or(0), counting().max().unwrap_or(0));
    let scaled = |(raw, out): (&i64, &bool)| match (out, max) {
        (true, _) => 0,
        (false, 0) => SCORE_MAX,
        (false, max) => SCORE_MAX * (max + min - raw) / max,
    };
    raw.iter().zip(&left_out).map(scaled).collect()
}

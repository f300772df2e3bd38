//! Pods that want to be near each other, or apart; what pods that are there
//! say counts for the new one too.

use std::sync::Arc;

use client::Cached;

use super::{Filter, Rejection, SCORE_MAX, Start, Task};
use crate::{
    Affinity, Cluster, Happening, Map, Node, Pod, PodSelector, Term,
    neighbours::{Counted, Counter, Counts, Tally, Topology, Wants},
    terms::Namespaces,
};

/// A topology, and how many pods matter in its domains.
struct Counting {
    counter: Arc<Counter>,
    topology: Arc<Topology>,
    /// What is tried on top of it, by domain.
    tried: Map<usize, i64>,
    tried_total: i64,
}

impl Counting {
    fn new(task: &Task<'_>, pods: Vec<PodSelector>, topology_key: &str) -> Self {
        let topology_key = topology_key.to_owned();
        let counted = Counted { pods, topology_key, nodes: None, with_leaving: true };
        let Counts { counter, topology, .. } = task.cluster.counter(counted);
        Self { counter, topology, tried: Map::default(), tried_total: 0 }
    }

    /// `None` where the node is in no domain.
    fn count(&self, node: &Node) -> Option<i64> {
        let domain = self.topology.domain(node.slot)?;
        let tried = match self.tried.is_empty() {
            true => 0,
            false => self.tried.get(&domain).copied().unwrap_or(0),
        };
        Some(self.counter.count(domain) + tried)
    }

    fn moved(&mut self, pod: &Cached<Pod>, node: &Node, sign: i64, namespaces: &Namespaces) {
        let Some(domain) = self.topology.domain(node.slot) else { return };
        if self.counter.counts_pod(&pod.meta, node, namespaces) {
            *self.tried.entry(domain).or_default() += sign;
            self.tried_total += sign;
        }
    }
}

struct Rules<'a> {
    task: Task<'a>,
    /// Domains must have pods that match all required terms.
    required: Vec<Counting>,
    /// The first of a group may go anywhere.
    matches_itself: bool,
    /// Domains must not have these.
    forbidden: Vec<Counting>,
    /// Domains that pods which are there keep to themselves.
    closed: Vec<About>,
}

/// A term of pods that are there.
struct About {
    term: Arc<Term>,
    tally: Arc<Tally>,
    topology: Arc<Topology>,
    tried: Map<usize, i64>,
}

impl About {
    fn is_closed(&self, node: &Node) -> bool {
        self.topology.domain(node.slot).is_some_and(|domain| {
            let tried = self.tried.get(&domain).copied().unwrap_or(0);
            self.tally.wants(domain).forbidden + tried > 0
        })
    }
}

/// The terms of placed pods that are about this one.
fn about<'a>(task: &Task<'a>, wanted: impl Fn(&Tally) -> bool) -> Vec<About> {
    task.cluster.with_neighbours(|neighbours| {
        let terms = neighbours.terms(&task.pod.meta);
        let matching: Vec<(Arc<Term>, Arc<Tally>)> = terms
            .filter(|(term, tally)| {
                wanted(tally) && term.pods.matches(&task.pod.meta, &task.cluster.namespaces)
            })
            .map(|(term, tally)| (term.clone(), tally.clone()))
            .collect();
        let with_topology = |(term, tally): (Arc<Term>, Arc<Tally>)| {
            let topology = neighbours.topology(&term.topology_key, task.cluster.nodes());
            About { term, tally, topology, tried: Map::default() }
        };
        matching.into_iter().map(with_topology).collect()
    })
}

pub(super) fn begin<'a>(task: &Task<'a>) -> Start<'a> {
    let none = Affinity::default();
    let affinity = task.pod.view.affinity.as_deref().unwrap_or(&none);
    let namespaces = &task.cluster.namespaces;
    let closed = about(task, |tally| tally.total.forbidden > 0);
    let is_silent = affinity.required.is_empty() && affinity.forbidden.is_empty();
    // Those for whom room is being made may forbid something too.
    if is_silent && closed.is_empty() && task.cluster.nominations().next().is_none() {
        return Start::Skip;
    }
    let all: Vec<PodSelector> = affinity.required.iter().map(|term| term.pods.clone()).collect();
    let mut keys: Vec<&String> = affinity.required.iter().map(|term| &term.topology_key).collect();
    keys.sort();
    keys.dedup();
    let required = keys.into_iter().map(|key| Counting::new(task, all.clone(), key)).collect();
    let forbidden = affinity.forbidden.iter();
    let forbidden =
        forbidden.map(|term| Counting::new(task, vec![term.pods.clone()], &term.topology_key));
    let matches_itself =
        affinity.required.iter().all(|term| term.pods.matches(&task.pod.meta, namespaces));
    Start::each(Rules {
        task: *task,
        required,
        matches_itself,
        forbidden: forbidden.collect(),
        closed,
    })
}

impl Filter for Rules<'_> {
    fn check(&self, node: &Node) -> Option<Rejection> {
        // Where there is none of them anywhere, the first of a group may go anywhere.
        let anywhere = || {
            let total: i64 = self.required.iter().map(|c| c.counter.total + c.tried_total).sum();
            total == 0 && self.matches_itself
        };
        let counts = || self.required.iter().map(|counting| counting.count(node));
        if counts().any(|count| count.is_none())
            || counts().any(|count| count == Some(0)) && !anywhere()
        {
            return Some(Rejection::never("node(s) didn't match pod affinity rules"));
        }
        if self.forbidden.iter().any(|c| c.count(node).is_some_and(|count| count > 0)) {
            return Some(Rejection::crowded("node(s) didn't match pod anti-affinity rules"));
        }
        self.closed
            .iter()
            .any(|closed| closed.is_closed(node))
            .then(|| Rejection::crowded("node(s) didn't satisfy existing pods anti-affinity rules"))
    }

    fn moved(&mut self, pod: &Cached<Pod>, node: &Node, sign: i64) {
        let Task { cluster, pod: own, .. } = self.task;
        let namespaces = &cluster.namespaces;
        for counting in self.required.iter_mut().chain(&mut self.forbidden) {
            counting.moved(pod, node, sign, namespaces);
        }
        let terms = pod.view.affinity.iter().flat_map(|affinity| &affinity.forbidden);
        for term in terms.filter(|term| term.pods.matches(&own.meta, namespaces)) {
            let known = self.closed.iter().position(|closed| *closed.term == *term);
            let at = known.unwrap_or_else(|| {
                let topology = cluster.with_neighbours(|neighbours| {
                    neighbours.topology(&term.topology_key, cluster.nodes())
                });
                let (tally, tried) = (Arc::default(), Map::default());
                let term = Arc::new(term.clone());
                self.closed.push(About { term, tally, topology, tried });
                self.closed.len() - 1
            });
            let closed = &mut self.closed[at];
            if let Some(domain) = closed.topology.domain(node.slot) {
                *closed.tried.entry(domain).or_default() += sign;
            }
        }
    }
}

pub(super) fn helps(cluster: &Cluster, pod: &Cached<Pod>, what: &Happening) -> bool {
    let namespaces = &cluster.namespaces;
    let none = Affinity::default();
    let of = |pod: &Cached<Pod>| pod.view.affinity.as_deref().cloned().unwrap_or_default();
    let own = pod.view.affinity.as_deref().unwrap_or(&none);
    match what {
        Happening::PodPlaced(other) => {
            own.required.iter().any(|term| term.pods.matches(&other.meta, namespaces))
        }
        Happening::PodGone(other, _) => {
            // The last of a group that leaves makes this the first of it.
            own.required
                .iter()
                .chain(&own.forbidden)
                .any(|t| t.pods.matches(&other.meta, namespaces))
                || of(other).forbidden.iter().any(|t| t.pods.matches(&pod.meta, namespaces))
        }
        _ => true,
    }
}

/// The weights of wishes that are fulfilled on each side.
pub(super) fn score(task: &Task<'_>, nodes: &[&Node]) -> Vec<i64> {
    let args = &task.profile.args;
    let none = Affinity::default();
    let affinity = task.pod.view.affinity.as_deref().unwrap_or(&none);
    let mut scores = vec![0i64; nodes.len()];
    let mut any = false;
    for (weight, term) in &affinity.preferred {
        let counting = Counting::new(task, vec![term.pods.clone()], &term.topology_key);
        any |= counting.counter.total > 0;
        for (score, node) in scores.iter_mut().zip(nodes) {
            *score += weight * counting.count(node).unwrap_or(0);
        }
    }
    let ignores_wishes =
        args.ignore_preferred_terms_of_existing_pods && affinity.preferred.is_empty();
    let wanted = |wants: Wants| {
        let preferred = if ignores_wishes { 0 } else { wants.preferred };
        wants.required * args.hard_pod_affinity_weight + preferred
    };
    for About { tally, topology, .. } in about(task, |tally| wanted(tally.total) != 0) {
        any = true;
        for (score, node) in scores.iter_mut().zip(nodes) {
            let domain = topology.domain(node.slot);
            *score += domain.map_or(0, |domain| wanted(tally.wants(domain)));
        }
    }
    if !any {
        return Vec::new();
    }
    let (min, max) = (scores.iter().min().copied(), scores.iter().max().copied());
    let (min, span) = (min.unwrap_or(0), max.unwrap_or(0) - min.unwrap_or(0));
    let scaled = |score: &i64| match span {
        0 => 0,
        span => ((score - min) as f64 / span as f64 * SCORE_MAX as f64) as i64,
    };
    scores.iter().map(scaled).collect()
}

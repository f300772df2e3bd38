//! How many pods of which kind are where, kept up change by change, so that
//! affinity and spread cost a decision nothing that grows with the pods.
//!
//! A topology numbers the values of one node label: its domains. A counter
//! counts the pods of a selector in each domain; it is made when a pod first
//! asks for it and followed from then on, and those that nobody asked for
//! the longest are forgotten. Terms of placed pods are tallied the same way.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
};

use api_object::Meta;
use api_types::core::{NodeSelector, Toleration};
use client::Cached;

use crate::{
    Labels, Map, Node, Pod, PodSelector, Term, node::Offer, plugins::node_affinity,
    plugins::taint_toleration, terms::Namespaces,
};

/// How many counters are followed; each costs a comparison a change of a pod.
const COUNTERS_MAX: usize = 512;

/// The domains of one node label.
#[derive(Clone, Debug, Default)]
pub(crate) struct Topology {
    /// By the nodes' slots.
    of: Vec<Option<u32>>,
    ids: Map<String, u32>,
    /// The value of each domain, and how many nodes have it.
    domains: Vec<(String, usize)>,
    free: Vec<u32>,
}

impl Topology {
    /// The domain of a node.
    pub(crate) fn domain(&self, slot: usize) -> Option<usize> {
        self.of.get(slot).copied().flatten().map(|id| id as usize)
    }

    fn place(&mut self, slot: usize, value: Option<&String>) {
        if let Some(left) = self.of.get_mut(slot).and_then(Option::take) {
            let (value, nodes) = &mut self.domains[left as usize];
            *nodes -= 1;
            if *nodes == 0 {
                self.ids.remove(value);
                self.free.push(left);
            }
        }
        let Some(value) = value else { return };
        let id = match self.ids.get(value) {
            Some(id) => *id,
            None => {
                let id = self.free.pop().unwrap_or_else(|| {
                    self.domains.push(Default::default());
                    u32::try_from(self.domains.len() - 1).expect("fewer nodes than that")
                });
                self.domains[id as usize].0.clone_from(value);
                self.ids.insert(value.clone(), id);
                id
            }
        };
        self.domains[id as usize].1 += 1;
        if self.of.len() <= slot {
            self.of.resize(slot + 1, None);
        }
        self.of[slot] = Some(id);
    }
}

/// Which nodes count.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Eligible {
    /// Labels that a node must have.
    pub(crate) keys: Vec<String>,
    /// What its labels must match.
    pub(crate) affinity: Option<(Labels, Option<NodeSelector>)>,
    /// Whoever does not tolerate its taints does not count it.
    pub(crate) tolerations: Option<Vec<Toleration>>,
}

impl Eligible {
    fn admits(&self, node: &Cached<Offer>) -> bool {
        self.keys.iter().all(|key| node.meta.labels.contains_key(key))
            && self.affinity.as_ref().is_none_or(|(selector, required)| {
                node_affinity::allows(selector, required.as_ref(), &node.meta)
            })
            && self.tolerations.as_ref().is_none_or(|tolerations| {
                taint_toleration::untolerated(&node.view.taints, tolerations).is_none()
            })
    }
}

/// What a counter counts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Counted {
    /// Pods that all of these select.
    pub(crate) pods: Vec<PodSelector>,
    /// By the values of this node label.
    pub(crate) topology_key: String,
    /// On these nodes; `None` for all that have the label.
    pub(crate) nodes: Option<Eligible>,
    /// Whether pods count that are being deleted.
    pub(crate) with_leaving: bool,
}

impl Counted {
    fn matches(&self, pod: &Meta, namespaces: &Namespaces) -> bool {
        (self.with_leaving || pod.deletion_timestamp.is_none())
            && self.pods.iter().all(|pods| pods.matches(pod, namespaces))
    }

    fn hash(&self) -> u64 {
        let build = BuildHasherDefault::<DefaultHasher>::default();
        build.hash_one((&self.pods, &self.topology_key, self.nodes.is_some()))
    }
}

/// Pods by domain.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    counted: Counted,
    counts: Vec<i64>,
    /// How many nodes of each domain count.
    nodes: Vec<u32>,
    /// Pods in all domains.
    pub(crate) total: i64,
}

impl Counter {
    /// Pods in a domain.
    pub(crate) fn count(&self, domain: usize) -> i64 {
        self.counts.get(domain).copied().unwrap_or(0)
    }

    /// The domains that have a node that counts, with their pods.
    pub(crate) fn domains(&self) -> impl Iterator<Item = (usize, i64)> {
        let nodes = self.nodes.iter().enumerate().filter(|(_, nodes)| **nodes > 0);
        nodes.map(|(domain, _)| (domain, self.count(domain)))
    }

    /// Whether a pod on a node counts.
    pub(crate) fn counts_pod(&self, pod: &Meta, node: &Node, namespaces: &Namespaces) -> bool {
        self.counts_node(&node.object) && self.counted.matches(pod, namespaces)
    }

    fn counts_node(&self, node: &Cached<Offer>) -> bool {
        self.counted.nodes.as_ref().is_none_or(|nodes| nodes.admits(node))
    }

    fn change(&mut self, domain: Option<usize>, pods: i64, nodes: i32) {
        let Some(domain) = domain else { return };
        if self.counts.len() <= domain {
            self.counts.resize(domain + 1, 0);
            self.nodes.resize(domain + 1, 0);
        }
        self.counts[domain] += pods;
        self.total += pods;
        self.nodes[domain] = self.nodes[domain].saturating_add_signed(nodes);
    }
}

/// What placed pods of one term want, by domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wants {
    /// Pods that forbid such neighbours.
    pub(crate) forbidden: i64,
    /// Pods that require such neighbours.
    pub(crate) required: i64,
    /// The weights of those that prefer them.
    pub(crate) preferred: i64,
}

/// The wants of one term.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    wants: Vec<Wants>,
    /// The sums over all domains.
    pub(crate) total: Wants,
    pods: usize,
}

impl Tally {
    /// What is wanted in a domain.
    pub(crate) fn wants(&self, domain: usize) -> Wants {
        self.wants.get(domain).copied().unwrap_or_default()
    }
}

struct Kept {
    hash: u64,
    used: u64,
    counter: Arc<Counter>,
}

/// Topologies, counters and tallies.
#[derive(Default)]
pub(crate) struct Neighbours {
    topologies: Map<String, Arc<Topology>>,
    counters: Vec<Kept>,
    asked: u64,
    pub(crate) terms: Map<Term, Arc<Tally>>,
}

impl Neighbours {
    /// The domains of a label.
    pub(crate) fn topology<'a>(
        &mut self,
        key: &str,
        nodes: impl Iterator<Item = &'a Node>,
    ) -> Arc<Topology> {
        if let Some(known) = self.topologies.get(key) {
            return known.clone();
        }
        let mut topology = Topology::default();
        nodes.for_each(|node| topology.place(node.slot, node.labels().get(key)));
        let topology = Arc::new(topology);
        self.topologies.insert(key.to_owned(), topology.clone());
        topology
    }

    /// The counter of certain pods, made where there is none, and its
    /// topology.
    pub(crate) fn counter<'a>(
        &mut self,
        counted: Counted,
        nodes: impl Iterator<Item = &'a Node> + Clone,
        namespaces: &Namespaces,
    ) -> (Arc<Counter>, Arc<Topology>) {
        self.asked += 1;
        let (hash, used) = (counted.hash(), self.asked);
        let topology = self.topology(&counted.topology_key, nodes.clone());
        let mut known = self.counters.iter_mut();
        if let Some(kept) = known.find(|kept| kept.hash == hash && kept.counter.counted == counted)
        {
            kept.used = used;
            return (kept.counter.clone(), topology);
        }
        let mut counter = Counter { counted, counts: Vec::new(), nodes: Vec::new(), total: 0 };
        for node in nodes {
            if counter.counts_node(&node.object) {
                let pods = node.pods.iter();
                let pods = pods.filter(|pod| counter.counted.matches(&pod.meta, namespaces));
                let pods = i64::try_from(pods.count()).unwrap_or(i64::MAX);
                counter.change(topology.domain(node.slot), pods, 1);
            }
        }
        let counter = Arc::new(counter);
        if self.counters.len() >= COUNTERS_MAX {
            let oldest = self.counters.iter().enumerate().min_by_key(|(_, kept)| kept.used);
            if let Some((at, _)) = oldest {
                self.counters.swap_remove(at);
            }
        }
        self.counters.push(Kept { hash, used, counter: counter.clone() });
        (counter, topology)
    }

    /// A pod came to a node (`sign` 1) or left it (−1).
    pub(crate) fn pod_moved<'a>(
        &mut self,
        pod: &Cached<Pod>,
        node: &Node,
        sign: i64,
        namespaces: &Namespaces,
        nodes: impl Iterator<Item = &'a Node> + Clone,
    ) {
        for Kept { counter, .. } in &mut self.counters {
            if counter.counts_pod(&pod.meta, node, namespaces) {
                let topology = &self.topologies[&counter.counted.topology_key];
                Arc::make_mut(counter).change(topology.domain(node.slot), sign, 0);
            }
        }
        let Some(affinity) = &pod.view.affinity else { return };
        let none = Wants::default();
        let required = affinity.required.iter().map(|term| (term, Wants { required: 1, ..none }));
        let forbidden = affinity.forbidden.iter();
        let forbidden = forbidden.map(|term| (term, Wants { forbidden: 1, ..none }));
        let preferred = affinity.preferred.iter();
        let preferred =
            preferred.map(|(weight, term)| (term, Wants { preferred: *weight, ..none }));
        for (term, wants) in required.chain(forbidden).chain(preferred) {
            let domain = self.topology(&term.topology_key, nodes.clone()).domain(node.slot);
            let tally = Arc::make_mut(self.terms.entry(term.clone()).or_default());
            tally.pods = tally.pods.saturating_add_signed(if sign > 0 { 1 } else { -1 });
            if let Some(domain) = domain {
                if tally.wants.len() <= domain {
                    tally.wants.resize(domain + 1, none);
                }
                for sum in [&mut tally.wants[domain], &mut tally.total] {
                    sum.required += sign * wants.required;
                    sum.forbidden += sign * wants.forbidden;
                    sum.preferred += sign * wants.preferred;
                }
            }
            if tally.pods == 0 {
                self.terms.remove(term);
            }
        }
    }

    /// A node is there, or is not (`sign` −1): without its pods.
    pub(crate) fn node_moved(&mut self, node: &Node, sign: i32) {
        let place = |topologies: &mut Map<String, Arc<Topology>>, labels: Option<&Labels>| {
            for (key, topology) in topologies {
                let value = labels.and_then(|labels| labels.get(key));
                Arc::make_mut(topology).place(node.slot, value);
            }
        };
        if sign > 0 {
            place(&mut self.topologies, Some(node.labels()));
        }
        for Kept { counter, .. } in &mut self.counters {
            if counter.counts_node(&node.object) {
                let topology = &self.topologies[&counter.counted.topology_key];
                Arc::make_mut(counter).change(topology.domain(node.slot), 0, sign);
            }
        }
        if sign < 0 {
            place(&mut self.topologies, None);
        }
    }

    /// A namespace has other labels: what was selected by them is counted
    /// anew when it is asked for.
    pub(crate) fn namespace_changed(&mut self) {
        self.counters.retain(|kept| {
            kept.counter.counted.pods.iter().all(|pods| pods.namespace_selector.is_none())
        });
    }
}

impl std::fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Neighbours({} counters, {} terms)", self.counters.len(), self.terms.len())
    }
}

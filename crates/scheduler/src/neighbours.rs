//! How many pods of which kind are where, kept up change by change, so that
//! affinity and spread cost a decision nothing that grows with the pods.
//!
//! A topology numbers the values of one node label: its domains. A counter
//! counts the pods of a selector in each domain; it is made when a pod first
//! asks for it and followed from then on, and those that nobody asked for
//! the longest are forgotten. Terms of placed pods are tallied the same way.
//!
//! Nearly every selector asks for one label of one value ([`LabelSelector`]'s
//! handle, `handle.rs`): counters, terms and the nodes of pods are found by it,
//! so that a pod costs nothing for the kinds of pods that it has nothing to do
//! with.
//!
//! [`LabelSelector`]: api_object::LabelSelector

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
};

use api_object::Meta;
use api_types::core::{NodeSelector, Toleration};
use client::Cached;

use crate::{
    Labels, Map, Node, Pod, PodSelector, Term,
    handle::{Handle, handle, handles},
    node::Offer,
    plugins::node_affinity,
    plugins::taint_toleration,
    terms::Namespaces,
};

/// How many counters are followed; each costs four bytes a domain.
const COUNTERS_MAX: usize = 2048;
/// How many kinds of eligible nodes are remembered; most pods have the same.
const ELIGIBLE_MAX: usize = 64;

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

    /// By what the pods are found that may count.
    fn handle(&self) -> Handle {
        let mut handles = self.pods.iter().map(|pods| handle(pods.labels.as_ref()));
        handles.find(|handle| *handle != Handle::Any).unwrap_or(Handle::Any)
    }
}

/// Pods by domain.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    counted: Counted,
    counts: Vec<i32>,
    /// Pods in all domains.
    pub(crate) total: i64,
}

impl Counter {
    /// Pods in a domain.
    pub(crate) fn count(&self, domain: usize) -> i64 {
        self.counts.get(domain).copied().map_or(0, i64::from)
    }

    /// Whether a pod on a node counts.
    pub(crate) fn counts_pod(&self, pod: &Meta, node: &Node, namespaces: &Namespaces) -> bool {
        self.counts_node(&node.object) && self.counted.matches(pod, namespaces)
    }

    fn counts_node(&self, node: &Cached<Offer>) -> bool {
        self.counted.nodes.as_ref().is_none_or(|nodes| nodes.admits(node))
    }

    fn pods_changed(&mut self, domain: Option<usize>, pods: i32) {
        let Some(domain) = domain else { return };
        if self.counts.len() <= domain {
            self.counts.resize(domain + 1, 0);
        }
        self.counts[domain] += pods;
        self.total += i64::from(pods);
    }
}

/// A counter, the domains that it counts in, and how many nodes of each count: shared by
/// all counters that go by the same nodes, so that a node costs nothing for each of them.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    pub(crate) counter: Arc<Counter>,
    pub(crate) topology: Arc<Topology>,
    /// `None` where all nodes count.
    nodes: Option<Arc<Vec<u32>>>,
}

impl Counts {
    /// The domains that have a node that counts, with their pods.
    pub(crate) fn domains(&self) -> impl Iterator<Item = (usize, i64)> + '_ {
        let count = |domain: usize| match &self.nodes {
            Some(nodes) => nodes.get(domain).is_some_and(|nodes| *nodes > 0),
            None => self.topology.domains[domain].1 > 0,
        };
        let domains = (0..self.topology.domains.len()).filter(move |domain| count(*domain));
        domains.map(|domain| (domain, self.counter.count(domain)))
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
    /// By domain; few have any.
    wants: BTreeMap<usize, Wants>,
    /// The sums over all domains.
    pub(crate) total: Wants,
    pods: usize,
}

impl Tally {
    /// What is wanted in a domain.
    pub(crate) fn wants(&self, domain: usize) -> Wants {
        self.wants.get(&domain).copied().unwrap_or_default()
    }
}

struct Kept {
    used: u64,
    counter: Arc<Counter>,
}

/// The nodes that count, by domain of a label.
struct Eligibles {
    nodes: Eligible,
    topology_key: String,
    by_domain: Arc<Vec<u32>>,
    used: u64,
}

/// Topologies, counters and tallies.
#[derive(Default)]
pub(crate) struct Neighbours {
    topologies: Map<String, Arc<Topology>>,
    /// By [`Counted::hash`].
    counters: Map<u64, Vec<Kept>>,
    counters_len: usize,
    counters_by: Map<Handle, Vec<u64>>,
    eligible: Vec<Eligibles>,
    asked: u64,
    terms: Map<Arc<Term>, Arc<Tally>>,
    terms_by: Map<Handle, Vec<Arc<Term>>>,
    /// The slots of the nodes that have pods with a label, and how many.
    pods_by: Map<Handle, BTreeMap<usize, u32>>,
}

impl Neighbours {
    /// The terms of placed pods that may be about a pod.
    pub(crate) fn terms<'a>(
        &'a self,
        pod: &'a Meta,
    ) -> impl Iterator<Item = (&'a Arc<Term>, &'a Arc<Tally>)> {
        let terms = handles(&pod.labels).filter_map(|handle| self.terms_by.get(&handle)).flatten();
        terms.filter_map(|term| self.terms.get_key_value(term))
    }

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

    /// The counter of certain pods, made where there is none. `slots` are the nodes.
    pub(crate) fn counter(
        &mut self,
        counted: Counted,
        slots: &[Option<Node>],
        namespaces: &Namespaces,
    ) -> Counts {
        self.asked += 1;
        let (hash, used) = (counted.hash(), self.asked);
        let topology = self.topology(&counted.topology_key, slots.iter().flatten());
        let nodes = counted
            .nodes
            .as_ref()
            .map(|eligible| self.eligible(eligible, &counted.topology_key, &topology, slots));
        let mut known = self.counters.get_mut(&hash).into_iter().flatten();
        if let Some(kept) = known.find(|kept| kept.counter.counted == counted) {
            kept.used = used;
            return Counts { counter: kept.counter.clone(), topology, nodes };
        }
        let handle = counted.handle();
        let mut counter = Counter { counted, counts: Vec::new(), total: 0 };
        for slot in self.pods_by.get(&handle).into_iter().flat_map(BTreeMap::keys) {
            let Some(node) = slots.get(*slot).and_then(Option::as_ref) else { continue };
            if counter.counts_node(&node.object) {
                let pods = node.pods.iter();
                let pods = pods.filter(|pod| counter.counted.matches(&pod.meta, namespaces));
                let pods = i32::try_from(pods.count()).unwrap_or(i32::MAX);
                counter.pods_changed(topology.domain(*slot), pods);
            }
        }
        let counter = Arc::new(counter);
        if self.counters_len >= COUNTERS_MAX {
            self.forget_half();
        }
        self.counters.entry(hash).or_default().push(Kept { used, counter: counter.clone() });
        self.counters_len += 1;
        let hashes = self.counters_by.entry(handle).or_default();
        if !hashes.contains(&hash) {
            hashes.push(hash);
        }
        Counts { counter, topology, nodes }
    }

    /// Forgets the half that nobody asked for the longest: at once, since it
    /// takes a look at all.
    fn forget_half(&mut self) {
        let mut used: Vec<u64> = self.counters.values().flatten().map(|kept| kept.used).collect();
        used.sort_unstable();
        let Some(since) = used.get(used.len() / 2).copied() else { return };
        self.keep_counters(|kept| kept.used >= since);
    }

    fn keep_counters(&mut self, wanted: impl Fn(&Kept) -> bool) {
        self.counters.retain(|_, kept| {
            kept.retain(&wanted);
            !kept.is_empty()
        });
        self.counters_len = self.counters.values().map(Vec::len).sum();
        let counters = &self.counters;
        self.counters_by.retain(|_, hashes| {
            hashes.retain(|hash| counters.contains_key(hash));
            !hashes.is_empty()
        });
    }

    /// How many nodes of each domain count.
    fn eligible(
        &mut self,
        nodes: &Eligible,
        topology_key: &str,
        topology: &Topology,
        slots: &[Option<Node>],
    ) -> Arc<Vec<u32>> {
        let known = self
            .eligible
            .iter()
            .position(|known| known.nodes == *nodes && known.topology_key == topology_key);
        let at = known.unwrap_or_else(|| {
            let mut by_domain = vec![0u32; topology.domains.len()];
            for node in slots.iter().flatten().filter(|node| nodes.admits(&node.object)) {
                if let Some(domain) = topology.domain(node.slot) {
                    by_domain[domain] += 1;
                }
            }
            let oldest = self.eligible.iter().enumerate().min_by_key(|(_, known)| known.used);
            if let Some((oldest, _)) = oldest.filter(|_| self.eligible.len() >= ELIGIBLE_MAX) {
                self.eligible.swap_remove(oldest);
            }
            let (nodes, topology_key) = (nodes.clone(), topology_key.to_owned());
            let by_domain = Arc::new(by_domain);
            self.eligible.push(Eligibles { nodes, topology_key, by_domain, used: 0 });
            self.eligible.len() - 1
        });
        self.eligible[at].used = self.asked;
        self.eligible[at].by_domain.clone()
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
        let of_sign = if sign > 0 { 1 } else { -1 };
        for handle in handles(&pod.meta.labels) {
            for hash in self.counters_by.get(&handle).into_iter().flatten() {
                for Kept { counter, .. } in self.counters.get_mut(hash).into_iter().flatten() {
                    if counter.counts_pod(&pod.meta, node, namespaces) {
                        let topology = &self.topologies[&counter.counted.topology_key];
                        Arc::make_mut(counter).pods_changed(topology.domain(node.slot), of_sign);
                    }
                }
            }
            let there = self.pods_by.entry(handle).or_default();
            let pods = there.entry(node.slot).or_default();
            *pods = pods.saturating_add_signed(of_sign);
            if *pods == 0 {
                there.remove(&node.slot);
                if there.is_empty() {
                    self.pods_by.remove(&handle);
                }
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
            let known = match self.terms.get_mut(term) {
                Some(known) => known,
                None => {
                    let shared = Arc::new(term.clone());
                    let handle = handle(term.pods.labels.as_ref());
                    self.terms_by.entry(handle).or_default().push(shared.clone());
                    self.terms.entry(shared).or_default()
                }
            };
            let tally = Arc::make_mut(known);
            tally.pods = tally.pods.saturating_add_signed(if sign > 0 { 1 } else { -1 });
            if let Some(domain) = domain {
                let there = tally.wants.entry(domain).or_default();
                for sum in [&mut *there, &mut tally.total] {
                    sum.required += sign * wants.required;
                    sum.forbidden += sign * wants.forbidden;
                    sum.preferred += sign * wants.preferred;
                }
                if *there == none {
                    tally.wants.remove(&domain);
                }
            }
            if tally.pods == 0 {
                self.terms.remove(term);
                let handle = handle(term.pods.labels.as_ref());
                if let Some(terms) = self.terms_by.get_mut(&handle) {
                    terms.retain(|other| **other != *term);
                    if terms.is_empty() {
                        self.terms_by.remove(&handle);
                    }
                }
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
        for eligible in &mut self.eligible {
            let domain = self.topologies[&eligible.topology_key].domain(node.slot);
            if let Some(domain) = domain.filter(|_| eligible.nodes.admits(&node.object)) {
                let nodes = Arc::make_mut(&mut eligible.by_domain);
                if nodes.len() <= domain {
                    nodes.resize(domain + 1, 0);
                }
                nodes[domain] = nodes[domain].saturating_add_signed(sign);
            }
        }
        if sign < 0 {
            place(&mut self.topologies, None);
        }
    }

    /// A namespace has other labels: what was selected by them is counted
    /// anew when it is asked for.
    pub(crate) fn namespace_changed(&mut self) {
        self.keep_counters(|kept| {
            kept.counter.counted.pods.iter().all(|pods| pods.namespace_selector.is_none())
        });
    }
}

impl std::fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Neighbours({} counters, {} terms)", self.counters_len, self.terms.len())
    }
}

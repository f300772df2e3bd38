//! The nodes and what is on them, kept up to date change by change.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use client::{Cached, Change};

use crate::{Hint, Node, Pod, Requests, node::Offer, pod::HostPort};

/// What the scheduler knows of the cluster. Pods that were decided upon count
/// as placed at once; the cache confirms them later.
#[derive(Debug, Default)]
pub(crate) struct State {
    nodes: BTreeMap<String, Node>,
    /// By pod key.
    placed: BTreeMap<String, Placed>,
}

#[derive(Clone, Debug, PartialEq)]
struct Placed {
    uid: String,
    node: String,
    requests: Requests,
    host_ports: Vec<HostPort>,
    /// Not yet seen in the cache.
    assumed: bool,
}

impl State {
    /// The nodes, each with what its pods take up.
    pub(crate) fn nodes(&self) -> &BTreeMap<String, Node> {
        &self.nodes
    }

    /// A node changed; returns what that may help.
    pub(crate) fn node_changed(&mut self, change: &Change<Offer>) -> BTreeSet<Hint> {
        let mut hints = BTreeSet::new();
        let Some(new) = &change.new else {
            self.nodes.remove(&change.object().meta.name);
            return hints;
        };
        let mut node = Node::new(new);
        if let Some(known) = self.nodes.get_mut(&node.name) {
            if known.labels != node.labels {
                hints.insert(Hint::NodeLabels);
            }
            if known.offer.taints != node.offer.taints
                || known.offer.unschedulable != node.offer.unschedulable
            {
                hints.insert(Hint::NodeTaints);
            }
            if known.offer.allocatable != node.offer.allocatable
                || known.offer.pods_max != node.offer.pods_max
            {
                hints.insert(Hint::NodeAllocatable);
            }
            node.used = mem::take(&mut known.used);
            node.pods = known.pods;
            node.host_ports = mem::take(&mut known.host_ports);
        } else {
            hints.extend([Hint::NodeLabels, Hint::NodeTaints, Hint::NodeAllocatable]);
            for placed in self.placed.values().filter(|placed| placed.node == new.meta.name) {
                occupy(&mut node, placed);
            }
        }
        self.nodes.insert(node.name.clone(), node);
        hints
    }

    /// A pod changed; returns what that may help.
    pub(crate) fn pod_changed(&mut self, change: &Change<Pod>) -> BTreeSet<Hint> {
        let object = change.object();
        let key = object.key();
        let held = change.new.as_ref().and_then(|pod| placed(pod));
        let known = self.placed.get(&key);
        match (known, held) {
            (Some(known), Some(held)) if *known == held => BTreeSet::new(),
            // The cache does not show our binding yet.
            (Some(known), None)
                if known.assumed && change.new.is_some() && known.uid == object.meta.uid =>
            {
                BTreeSet::new()
            }
            (_, held) => {
                let left = self.remove(&key);
                if let Some(held) = held {
                    self.insert(key, held);
                }
                if left { BTreeSet::from([Hint::PodGone]) } else { BTreeSet::new() }
            }
        }
    }

    /// A pod was decided upon.
    pub(crate) fn assume(&mut self, pod: &Cached<Pod>, node: &str) {
        let key = pod.key();
        self.remove(&key);
        let placed = Placed {
            uid: pod.meta.uid.clone(),
            node: node.to_owned(),
            requests: pod.view.requests.clone(),
            host_ports: pod.view.host_ports.clone(),
            assumed: true,
        };
        self.insert(key, placed);
    }

    /// The binding failed.
    pub(crate) fn forget(&mut self, pod: &Cached<Pod>) {
        let known = self.placed.get(&pod.key());
        if known.is_some_and(|known| known.assumed && known.uid == pod.meta.uid) {
            self.remove(&pod.key());
        }
    }

    /// Whether a pod has a node already, be it only decided.
    pub(crate) fn is_placed(&self, pod: &Cached<Pod>) -> bool {
        self.placed.get(&pod.key()).is_some_and(|placed| placed.uid == pod.meta.uid)
    }

    fn insert(&mut self, key: String, placed: Placed) {
        if let Some(node) = self.nodes.get_mut(&placed.node) {
            occupy(node, &placed);
        }
        self.placed.insert(key, placed);
    }

    fn remove(&mut self, key: &str) -> bool {
        let Some(placed) = self.placed.remove(key) else { return false };
        if let Some(node) = self.nodes.get_mut(&placed.node) {
            node.pods -= 1;
            node.used.subtract(&placed.requests);
            for port in &placed.host_ports {
                if let Some(at) = node.host_ports.iter().position(|other| other == port) {
                    node.host_ports.remove(at);
                }
            }
        }
        true
    }
}

fn occupy(node: &mut Node, placed: &Placed) {
    node.pods += 1;
    node.used.add(&placed.requests);
    node.host_ports.extend(placed.host_ports.iter().cloned());
}

/// What a pod takes up, if it has a node and has not ended.
fn placed(pod: &Cached<Pod>) -> Option<Placed> {
    let holds = !pod.view.node_name.is_empty() && !pod.view.is_terminal;
    holds.then(|| Placed {
        uid: pod.meta.uid.clone(),
        node: pod.view.node_name.clone(),
        requests: pod.view.requests.clone(),
        host_ports: pod.view.host_ports.clone(),
        assumed: false,
    })
}

//! The cluster as the caches tell it, kept up to date change by change: the
//! snapshot that decisions are made on, without a copy.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    sync::Arc,
};

use client::{Cached, Change, MetaOnly};

use crate::{
    Happening, Map, Node, Pod, Requests,
    neighbours::{Counted, Counts, Neighbours},
    node::Offer,
    order::Order,
    owners::Owners,
    preempt::Budget,
    terms::Namespaces,
    volumes::Volumes,
};

/// What the scheduler knows. Pods that were decided upon count as placed at
/// once; the cache confirms them later.
#[derive(Debug, Default)]
pub struct Cluster {
    slots: Vec<Option<Node>>,
    by_name: Map<String, usize>,
    free: Vec<usize>,
    order: RefCell<Order>,
    /// Where the next look begins, so that all nodes are looked at.
    pub(crate) start: Cell<usize>,
    /// By pod key.
    placed: Map<String, Placed>,
    /// Pods on nodes that are not there, by node.
    homeless: Map<String, Vec<Arc<Cached<Pod>>>>,
    /// Where room is being made, by pod key: node and pod.
    nominated: BTreeMap<String, (String, Arc<Cached<Pod>>)>,
    /// On how many nodes each image is.
    images: Map<String, usize>,
    pub(crate) namespaces: Namespaces,
    neighbours: RefCell<Neighbours>,
    pub(crate) owners: Owners,
    pub(crate) volumes: Volumes,
    /// PodDisruptionBudgets by key.
    pub(crate) budgets: BTreeMap<String, Arc<Cached<Budget>>>,
}

#[derive(Clone, Debug)]
struct Placed {
    pod: Arc<Cached<Pod>>,
    node: String,
    /// Not yet seen in the cache.
    assumed: bool,
}

impl Cluster {
    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.by_name.get(name).and_then(|slot| self.slots[*slot].as_ref())
    }

    pub(crate) fn at(&self, slot: usize) -> Option<&Node> {
        self.slots.get(slot).and_then(Option::as_ref)
    }

    /// Every node, in no order that means anything.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> + Clone {
        self.slots.iter().flatten()
    }

    /// The slots of all nodes in the order in which they are looked at.
    pub(crate) fn order(&self) -> Arc<Vec<usize>> {
        self.order.borrow_mut().slots(self.nodes())
    }

    /// On how many nodes an image is.
    pub(crate) fn nodes_with_image(&self, image: &str) -> usize {
        self.images.get(image).copied().unwrap_or(0)
    }

    /// How many of certain pods are in each domain of a topology.
    pub(crate) fn counter(&self, counted: Counted) -> Counts {
        self.neighbours.borrow_mut().counter(counted, &self.slots, &self.namespaces)
    }

    /// Terms of placed pods; see [`Neighbours::terms`].
    pub(crate) fn with_neighbours<T>(&self, look: impl FnOnce(&mut Neighbours) -> T) -> T {
        look(&mut self.neighbours.borrow_mut())
    }

    /// Pods for which room is being made on a node.
    pub(crate) fn nominated_to(&self, node: &str) -> impl Iterator<Item = &Arc<Cached<Pod>>> {
        self.nominated.values().filter(move |(to, _)| to == node).map(|(_, pod)| pod)
    }

    /// For whom room is being made, and where.
    pub(crate) fn nominations(&self) -> impl Iterator<Item = &(String, Arc<Cached<Pod>>)> {
        self.nominated.values()
    }

    /// Where room is being made for a pod.
    pub(crate) fn nomination(&self, pod: &Cached<Pod>) -> Option<&str> {
        let (node, known) = self.nominated.get(&pod.key())?;
        (known.meta.uid == pod.meta.uid).then_some(node.as_str())
    }

    /// From now on room is being made for a pod, or for an empty name no more.
    pub(crate) fn nominate(&mut self, pod: &Arc<Cached<Pod>>, node: &str) {
        match node {
            "" => drop(self.nominated.remove(&pod.key())),
            node => drop(self.nominated.insert(pod.key(), (node.to_owned(), pod.clone()))),
        }
    }

    /// A node changed; returns what happened.
    pub fn node_changed(&mut self, change: &Change<Offer>) -> Vec<Happening> {
        let name = &change.object().meta.name;
        let known = self.by_name.get(name).copied();
        match (known, &change.new) {
            (None, None) => Vec::new(),
            (Some(slot), None) => {
                let node = self.slots[slot].take().expect("named slots are taken");
                self.leave(&node, true);
                self.by_name.remove(name);
                self.free.push(slot);
                self.homeless.insert(name.clone(), node.pods);
                vec![Happening::NodeGone]
            }
            (Some(slot), Some(new)) => {
                let mut node = self.slots[slot].take().expect("named slots are taken");
                let (old, next) = (&node.object, new);
                let relabelled = old.meta.labels != next.meta.labels;
                let tainted = old.view.taints != next.view.taints
                    || old.view.unschedulable != next.view.unschedulable;
                let resized = old.view.allocatable != next.view.allocatable
                    || old.view.pods_max != next.view.pods_max;
                if relabelled || tainted || old.view.images != next.view.images {
                    self.leave(&node, relabelled);
                    node.object = new.clone();
                    self.enter(node, relabelled);
                } else {
                    node.object = new.clone();
                    self.slots[slot] = Some(node);
                }
                let happened = [
                    (relabelled, Happening::NodeLabels(slot)),
                    (tainted, Happening::NodeTaints(slot)),
                    (resized, Happening::NodeAllocatable(slot)),
                ];
                happened.into_iter().filter(|(so, _)| *so).map(|(_, what)| what).collect()
            }
            (None, Some(new)) => {
                let slot = self.free.pop().unwrap_or_else(|| {
                    self.slots.push(None);
                    self.slots.len() - 1
                });
                self.by_name.insert(name.clone(), slot);
                let mut node = Node::new(slot, new.clone());
                self.homeless.remove(name).iter().flatten().for_each(|pod| node.add(pod));
                self.enter(node, true);
                vec![Happening::NodeNew(slot)]
            }
        }
    }

    /// A node with its pods comes into the counts, and into the order too where it is
    /// `new` or in another zone.
    fn enter(&mut self, mut node: Node, new: bool) {
        if new {
            self.order.get_mut().came(node.slot);
        }
        for image in node.offer().images.keys() {
            *self.images.entry(image.clone()).or_default() += 1;
        }
        let (slot, pods) = (node.slot, std::mem::take(&mut node.pods));
        self.slots[slot] = Some(node);
        let node = self.slots[slot].as_ref().expect("just put there");
        let nodes = self.slots.iter().flatten();
        let neighbours = self.neighbours.get_mut();
        neighbours.node_moved(node, 1);
        for pod in &pods {
            neighbours.pod_moved(pod, node, 1, &self.namespaces, nodes.clone());
        }
        self.slots[slot].as_mut().expect("just put there").pods = pods;
    }

    /// A node with its pods leaves the counts.
    fn leave(&mut self, node: &Node, for_good: bool) {
        if for_good {
            self.order.get_mut().went(node.slot);
        }
        for image in node.offer().images.keys() {
            if let Some(nodes) = self.images.get_mut(image) {
                *nodes -= 1;
                if *nodes == 0 {
                    self.images.remove(image);
                }
            }
        }
        let nodes = self.slots.iter().flatten();
        let neighbours = self.neighbours.get_mut();
        for pod in &node.pods {
            neighbours.pod_moved(pod, node, -1, &self.namespaces, nodes.clone());
        }
        neighbours.node_moved(node, -1);
    }

    /// A pod changed; returns what happened.
    pub fn pod_changed(&mut self, change: &Change<Pod>) -> Vec<Happening> {
        let key = change.object().key();
        let waits = change.new.as_ref().filter(|pod| pod.view.waiting.is_some());
        let mut happened = Vec::new();
        if let Some(left) = self.renominate(&key, waits) {
            happened.push(left);
        }
        let new = change.new.as_ref();
        let held = new.filter(|pod| !pod.view.node_name.is_empty() && !pod.view.is_terminal);
        let known = self.placed.get(&key);
        match (known, held) {
            (None, None) => {}
            // The cache does not show our binding yet.
            (Some(known), None)
                if known.assumed && new.is_some_and(|new| new.meta.uid == known.pod.meta.uid) => {}
            (Some(known), Some(pod))
                if known.node == pod.view.node_name
                    && known.pod.meta.uid == pod.meta.uid
                    && is_same(&known.pod, pod) =>
            {
                let known = self.placed.get_mut(&key).expect("just found");
                known.assumed = false;
                // Its newer form, for those who look at how it is now.
                let (old, node) = (std::mem::replace(&mut known.pod, pod.clone()), &known.node);
                if let Some(slot) = self.by_name.get(node) {
                    let pods = &mut self.slots[*slot].as_mut().expect("named slots are taken").pods;
                    if let Some(at) = pods.iter_mut().find(|at| at.meta.uid == old.meta.uid) {
                        at.clone_from(pod);
                    }
                }
            }
            (known, held) => {
                let was_assumed = known.is_some_and(|known| known.assumed);
                let left = self.take(&key);
                if let Some(pod) = held {
                    let node = pod.view.node_name.clone();
                    self.place(key, Placed { pod: pod.clone(), node, assumed: false });
                }
                let leaves = |left: &Placed, pod: &Cached<Pod>| {
                    left.pod.meta.deletion_timestamp.is_none()
                        && pod.meta.deletion_timestamp.is_some()
                        && left.pod.meta.labels == pod.meta.labels
                        && takes(&left.pod.view) == takes(&pod.view)
                };
                match (left, held) {
                    (Some(left), Some(pod)) if leaves(&left, pod) => {
                        happened.push(Happening::PodLeaving(pod.clone()));
                    }
                    (left, held) => {
                        let placed = held.filter(|_| !was_assumed);
                        happened.extend(placed.map(|pod| Happening::PodPlaced(pod.clone())));
                        happened.extend(left.map(|l| Happening::PodGone(l.pod, l.node)));
                    }
                }
            }
        }
        happened
    }

    /// What the pod says of its nomination; the place that it leaves.
    fn renominate(&mut self, key: &str, waits: Option<&Arc<Cached<Pod>>>) -> Option<Happening> {
        let Some(pod) = waits else {
            let (node, pod) = self.nominated.remove(key)?;
            return Some(Happening::PodGone(pod, node));
        };
        let says = pod.view.waiting.as_ref().map_or("", |waiting| &waiting.nominated_node);
        match self.nominated.get_mut(key) {
            Some((_, known)) if known.meta.uid == pod.meta.uid => {
                known.clone_from(pod);
            }
            Some(_) => drop(self.nominated.remove(key)),
            None if !says.is_empty() => self.nominate(pod, says),
            None => {}
        }
        None
    }

    /// A pod was decided upon.
    pub fn assume(&mut self, pod: &Arc<Cached<Pod>>, node: &str) -> Happening {
        let key = pod.key();
        self.take(&key);
        self.nominated.remove(&key);
        self.place(key, Placed { pod: pod.clone(), node: node.to_owned(), assumed: true });
        Happening::PodPlaced(pod.clone())
    }

    /// The binding failed.
    pub fn forget(&mut self, pod: &Cached<Pod>) -> Option<Happening> {
        let known = self.placed.get(&pod.key())?;
        if !known.assumed || known.pod.meta.uid != pod.meta.uid {
            return None;
        }
        self.take(&pod.key()).map(|left| Happening::PodGone(left.pod, left.node))
    }

    /// Whether a pod has a node already, be it only decided.
    pub(crate) fn is_placed(&self, pod: &Cached<Pod>) -> bool {
        self.placed.get(&pod.key()).is_some_and(|placed| placed.pod.meta.uid == pod.meta.uid)
    }

    fn place(&mut self, key: String, placed: Placed) {
        self.volumes.used_by(&placed.pod, 1);
        match self.by_name.get(&placed.node) {
            None => {
                let there = self.homeless.entry(placed.node.clone()).or_default();
                there.push(placed.pod.clone());
            }
            Some(slot) => {
                self.slots[*slot].as_mut().expect("named slots are taken").add(&placed.pod);
                self.counted(*slot, &placed.pod, 1);
            }
        }
        self.placed.insert(key, placed);
    }

    fn take(&mut self, key: &str) -> Option<Placed> {
        let placed = self.placed.remove(key)?;
        self.volumes.used_by(&placed.pod, -1);
        match self.by_name.get(&placed.node) {
            None => {
                if let Some(pods) = self.homeless.get_mut(&placed.node) {
                    pods.retain(|pod| pod.meta.uid != placed.pod.meta.uid);
                    if pods.is_empty() {
                        self.homeless.remove(&placed.node);
                    }
                }
            }
            Some(slot) => {
                self.slots[*slot].as_mut().expect("named slots are taken").remove(&placed.pod);
                self.counted(*slot, &placed.pod, -1);
            }
        }
        Some(placed)
    }

    fn counted(&mut self, slot: usize, pod: &Cached<Pod>, sign: i64) {
        let node = self.slots[slot].as_ref().expect("named slots are taken");
        let nodes = self.slots.iter().flatten();
        self.neighbours.get_mut().pod_moved(pod, node, sign, &self.namespaces, nodes);
    }

    /// A namespace changed; returns what happened.
    pub(crate) fn namespace_changed(&mut self, change: &Change<MetaOnly>) -> Vec<Happening> {
        let name = &change.object().meta.name;
        let labels = change.new.as_ref().map(|new| new.meta.labels.clone());
        if labels.as_ref() == self.namespaces.get(name) {
            return Vec::new();
        }
        match labels {
            Some(labels) => self.namespaces.insert(name.clone(), labels),
            None => self.namespaces.remove(name),
        };
        self.neighbours.get_mut().namespace_changed();
        vec![Happening::NamespaceLabels]
    }

    /// A PodDisruptionBudget changed.
    pub(crate) fn budget_changed(&mut self, change: &Change<Budget>) {
        let key = change.object().key();
        match &change.new {
            Some(new) => drop(self.budgets.insert(key, new.clone())),
            None => drop(self.budgets.remove(&key)),
        }
    }
}

/// Whether all that is counted of a pod is the same.
fn is_same(old: &Cached<Pod>, new: &Cached<Pod>) -> bool {
    old.meta.labels == new.meta.labels
        && old.meta.deletion_timestamp.is_some() == new.meta.deletion_timestamp.is_some()
        && takes(&old.view) == takes(&new.view)
}

fn takes(pod: &Pod) -> (&Requests, [i64; 2]) {
    (&pod.requests, pod.scored)
}

//! In which order nodes are looked at: zones in turn, so that a look at some of them sees
//! all zones.

use std::{collections::BTreeMap, sync::Arc};

use crate::Node;

/// Of so many nodes one may have come or gone before all are put in order anew: a change
/// then costs the same however many nodes there are.
const CHANGED_SHARE: usize = 8;

/// The nodes' slots. What came since they were put in order comes last.
#[derive(Debug, Default)]
pub(crate) struct Order {
    slots: Arc<Vec<usize>>,
    /// Nodes that came or went since.
    changes: usize,
}

impl Order {
    pub(crate) fn came(&mut self, slot: usize) {
        self.changes += 1;
        if !self.is_stale() {
            Arc::make_mut(&mut self.slots).push(slot);
        }
    }

    pub(crate) fn went(&mut self, slot: usize) {
        self.changes += 1;
        if !self.is_stale() {
            Arc::make_mut(&mut self.slots).retain(|known| *known != slot);
        }
    }

    fn is_stale(&self) -> bool {
        self.changes * CHANGED_SHARE > self.slots.len()
    }

    /// The order; `nodes` are all there are.
    pub(crate) fn slots<'a>(&mut self, nodes: impl Iterator<Item = &'a Node>) -> Arc<Vec<usize>> {
        if self.is_stale() {
            *self = Self { slots: Arc::new(interleaved(nodes)), changes: 0 };
        }
        self.slots.clone()
    }
}

fn interleaved<'a>(nodes: impl Iterator<Item = &'a Node>) -> Vec<usize> {
    let mut zones: BTreeMap<[&str; 2], BTreeMap<&str, usize>> = BTreeMap::new();
    for node in nodes {
        let label = |key: &str| node.labels().get(key).map_or("", String::as_str);
        let zone = [label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone")];
        zones.entry(zone).or_default().insert(node.name(), node.slot);
    }
    let mut zones: Vec<_> = zones.into_values().map(BTreeMap::into_values).collect();
    let mut order = Vec::new();
    loop {
        let before = order.len();
        order.extend(zones.iter_mut().filter_map(Iterator::next));
        if order.len() == before {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use client::{Cached, Change};
    use testkit::node;

    use crate::Cluster;

    fn change(cluster: &mut Cluster, name: &str, zone: &str, there: bool) {
        let object = node(name).label("topology.kubernetes.io/zone", zone).object();
        let cached = std::sync::Arc::new(Cached::read(object, false).expect("a node"));
        let change = match there {
            true => Change { old: None, new: Some(cached) },
            false => Change { old: Some(cached), new: None },
        };
        cluster.node_changed(&change);
    }

    fn names(cluster: &Cluster) -> Vec<&str> {
        let order = cluster.order();
        order.iter().map(|slot| cluster.at(*slot).expect("it is there").name()).collect()
    }

    #[test]
    fn zones_in_turn_and_who_came_since_last() {
        let mut cluster = Cluster::default();
        for (name, zone) in [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("c1", "c")] {
            change(&mut cluster, name, zone, true);
        }
        assert_eq!(names(&cluster), ["a1", "b1", "c1", "a2", "a3"]);
        // Few of many.
        for n in 4..20 {
            change(&mut cluster, &format!("a{n:02}"), "a", true);
        }
        assert_eq!(names(&cluster)[..4], ["a04", "b1", "c1", "a05"]);
        change(&mut cluster, "d1", "d", true);
        change(&mut cluster, "b1", "b", false);
        let all = names(&cluster);
        assert_eq!((all[1], all.last()), ("c1", Some(&"d1")));
        assert_eq!(all.len(), cluster.len());
        // Many more: all anew.
        for n in 1..4 {
            change(&mut cluster, &format!("e{n}"), "e", true);
        }
        assert_eq!(names(&cluster)[..4], ["a04", "c1", "d1", "e1"]);
    }
}

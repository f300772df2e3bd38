//! How fast pods leave nodes that are down. Where many nodes of a zone are down
//! at once, it is more likely the network, or we, than the nodes: pods leave
//! slowly or not at all (upstream's `--node-eviction-rate` and
//! `--unhealthy-zone-threshold`).

use std::{collections::BTreeMap, time::Duration};

use api_object::Meta;

const REGION_LABEL: &str = "topology.kubernetes.io/region";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// One node in ten seconds.
const PAUSE: Duration = Duration::from_secs(10);
/// One node in a hundred seconds, in a large zone of which most is down.
const LONG_PAUSE: Duration = Duration::from_secs(100);
/// A zone with more nodes is large.
const LARGE: usize = 50;
/// A zone in which so many of a hundred are down, and more than two, is unhealthy.
const UNHEALTHY_PERCENT: usize = 55;

/// The nodes of a zone, and how many of them are down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Zone {
    nodes: usize,
    down: usize,
}

/// All zones.
#[derive(Debug, Default)]
pub(super) struct Zones(BTreeMap<String, Zone>);

/// Whether pods are to leave nodes of a zone that are down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// They stay, and those that were about to leave as well: every node is down.
    Halt,
    /// Those of no further node.
    Wait,
    /// Those of one node after so long after those of another.
    Every(Duration),
}

/// The zone of a node; nodes without labels are one zone.
pub(super) fn zone(node: &Meta) -> String {
    let label = |key| node.labels.get(key).map_or("", String::as_str);
    format!("{}:{}", label(REGION_LABEL), label(ZONE_LABEL))
}

impl Zones {
    /// A node, in its zone and down or not, was `old` and is `new`. The zones
    /// whose pace is another than before.
    pub(super) fn moved(
        &mut self,
        old: Option<(String, bool)>,
        new: Option<(String, bool)>,
    ) -> Vec<String> {
        let were_all_down = self.are_all_down();
        let mut touched: BTreeMap<String, Pace> = BTreeMap::new();
        for (zone, _) in old.iter().chain(&new) {
            touched.insert(zone.clone(), self.pace(zone));
        }
        if let Some((zone, is_down)) = old {
            self.remove(&zone, is_down);
        }
        if let Some((zone, is_down)) = new {
            self.add(&zone, is_down);
        }
        if were_all_down != self.are_all_down() {
            return self.0.keys().cloned().collect();
        }
        touched.retain(|zone, pace| self.pace(zone) != *pace);
        touched.into_keys().collect()
    }

    /// A node is in a zone from now on.
    fn add(&mut self, zone: &str, is_down: bool) {
        let zone = self.0.entry(zone.to_owned()).or_default();
        zone.nodes += 1;
        zone.down += usize::from(is_down);
    }

    /// A node that was added leaves its zone.
    fn remove(&mut self, name: &str, is_down: bool) {
        if let Some(zone) = self.0.get_mut(name) {
            zone.nodes -= 1;
            zone.down -= usize::from(is_down);
            if zone.nodes == 0 {
                self.0.remove(name);
            }
        }
    }

    /// Whether no node is up.
    fn are_all_down(&self) -> bool {
        self.0.values().all(|zone| zone.down == zone.nodes)
    }

    pub(super) fn pace(&self, zone: &str) -> Pace {
        if self.are_all_down() {
            return Pace::Halt;
        }
        let Zone { nodes, down } = self.0.get(zone).copied().unwrap_or_default();
        let is_unhealthy = down > 2 && down < nodes && down * 100 >= nodes * UNHEALTHY_PERCENT;
        match (is_unhealthy, nodes > LARGE) {
            (false, _) => Pace::Every(PAUSE),
            (true, true) => Pace::Every(LONG_PAUSE),
            (true, false) => Pace::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_is_down_the_slower_pods_leave() {
        // Zone a: nodes and those down; zone b; how fast pods leave a.
        let table = [
            ((1, 1), (0, 0), Pace::Halt),
            ((3, 3), (2, 2), Pace::Halt),
            ((3, 3), (2, 1), Pace::Every(PAUSE)),
            ((2, 1), (0, 0), Pace::Every(PAUSE)),
            ((4, 2), (0, 0), Pace::Every(PAUSE)),
            ((5, 3), (0, 0), Pace::Wait),
            ((100, 54), (0, 0), Pace::Every(PAUSE)),
            ((100, 55), (0, 0), Pace::Every(LONG_PAUSE)),
        ];
        for ((nodes, down), (others, others_down), wanted) in table {
            let mut zones = Zones::default();
            (0..nodes).for_each(|i| zones.add("a", i < down));
            (0..others).for_each(|i| zones.add("b", i < others_down));
            assert_eq!(zones.pace("a"), wanted, "{nodes} {down} {others} {others_down}");
            (0..nodes).for_each(|i| zones.remove("a", i < down));
            (0..others).for_each(|i| zones.remove("b", i < others_down));
            assert!(zones.0.is_empty());
        }
    }
    #[test]
    fn only_a_zone_whose_pace_changed_is_looked_at_again() {
        let node = |zone: &str, is_down: bool| Some((zone.to_owned(), is_down));
        let mut zones = Zones::default();
        // What a node was and is; the zones that are told.
        let table: [(_, _, &[&str]); 10] = [
            (None, node("a", true), &[]),
            (None, node("a", true), &[]),
            // The first that is up ends the standstill of all.
            (None, node("b", false), &["a", "b"]),
            (None, node("a", true), &[]),
            (None, node("a", true), &[]),
            // Three of four are down: slowly now.
            (node("a", true), node("a", false), &["a"]),
            (node("a", false), node("a", true), &["a"]),
            (None, node("b", true), &[]),
            (node("b", true), node("c", true), &[]),
            (node("b", false), None, &["a", "c"]),
        ];
        for (old, new, told) in table {
            let text = format!("{old:?} {new:?}");
            assert_eq!(zones.moved(old, new), told, "{text}");
        }
    }
}

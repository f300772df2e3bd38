//! The pods that wait for a node. Pure: time comes in.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use client::Backoff;
use tokio::time::Instant;

use crate::{Hint, PLUGINS};

/// Upstream's `podInitialBackoffSeconds` and `podMaxBackoffSeconds`.
const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(10) };

/// Pods by where they stand: ready to be decided upon, backing off, or
/// impossible until something changes.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pods: BTreeMap<String, Entry>,
    /// Highest priority first, then first come.
    ready: BTreeSet<(Reverse<i32>, u64, String)>,
    backing_off: BTreeSet<(Instant, String)>,
    added: u64,
}

#[derive(Debug)]
struct Entry {
    priority: i32,
    number: u64,
    failures: u32,
    /// Not before this.
    not_before: Option<Instant>,
    place: Place,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Ready,
    BackingOff,
    /// Rejected by these plugins.
    Impossible(BTreeSet<&'static str>),
    /// Taken; its decision is under way.
    Taken,
}

impl Queue {
    /// A pod is new or was changed by somebody: it is worth a look.
    pub(crate) fn add(&mut self, key: &str, priority: i32, now: Instant) {
        if let Some(entry) = self.pods.get(key) {
            if entry.priority == priority && !matches!(entry.place, Place::Impossible(_)) {
                return;
            }
            let failures = entry.failures;
            let not_before = entry.not_before;
            self.remove(key);
            self.insert(key, priority, failures, not_before, now);
        } else {
            self.insert(key, priority, 0, None, now);
        }
    }

    /// A pod is gone, or has a node.
    pub(crate) fn remove(&mut self, key: &str) {
        if let Some(entry) = self.pods.remove(key) {
            self.ready.remove(&(Reverse(entry.priority), entry.number, key.to_owned()));
            if let Some(at) = entry.not_before {
                self.backing_off.remove(&(at, key.to_owned()));
            }
        }
    }

    /// The next pod to be decided upon. Tell what came of it by
    /// [`Self::failed`] or [`Self::remove`].
    pub(crate) fn pop(&mut self, now: Instant) -> Option<String> {
        while let Some((at, key)) = self.backing_off.first().cloned() {
            if at > now {
                break;
            }
            self.backing_off.remove(&(at, key.clone()));
            self.make_ready(&key);
        }
        let (_, _, key) = self.ready.pop_first()?;
        if let Some(entry) = self.pods.get_mut(&key) {
            entry.place = Place::Taken;
        }
        Some(key)
    }

    /// When the next pod's back-off ends.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.backing_off.first().map(|(at, _)| *at)
    }

    /// No node was possible, because of these plugins. With none named it was
    /// a fault, and is tried again after the back-off.
    pub(crate) fn failed(&mut self, key: &str, plugins: BTreeSet<&'static str>, now: Instant) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        entry.failures += 1;
        self.ready.remove(&(Reverse(entry.priority), entry.number, key.to_owned()));
        let until = now + BACKOFF.delay(entry.failures);
        entry.not_before = Some(until);
        if plugins.is_empty() {
            entry.place = Place::BackingOff;
            self.backing_off.insert((until, key.to_owned()));
        } else {
            entry.place = Place::Impossible(plugins);
        }
    }

    /// Something happened that may help those rejected by certain plugins.
    pub(crate) fn hint(&mut self, hints: &BTreeSet<Hint>, now: Instant) {
        let helps = |name: &&str| {
            let plugin = PLUGINS.iter().find(|plugin| plugin.name == *name);
            plugin.is_some_and(|plugin| plugin.helped_by.iter().any(|hint| hints.contains(hint)))
        };
        let helped: Vec<String> = self
            .pods
            .iter()
            .filter(|(_, entry)| match &entry.place {
                Place::Impossible(plugins) => plugins.iter().any(helps),
                _ => false,
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in helped {
            self.retry(&key, now);
        }
    }

    fn insert(
        &mut self,
        key: &str,
        priority: i32,
        failures: u32,
        not_before: Option<Instant>,
        now: Instant,
    ) {
        self.added += 1;
        let number = self.added;
        let place = Place::BackingOff;
        let entry = Entry { priority, number, failures, not_before, place };
        self.pods.insert(key.to_owned(), entry);
        self.retry(key, now);
    }

    /// Ready, or backing off for what is left of that.
    fn retry(&mut self, key: &str, now: Instant) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        match entry.not_before.filter(|at| *at > now) {
            Some(at) => {
                entry.place = Place::BackingOff;
                self.backing_off.insert((at, key.to_owned()));
            }
            None => self.make_ready(key),
        }
    }

    fn make_ready(&mut self, key: &str) {
        if let Some(entry) = self.pods.get_mut(key) {
            entry.place = Place::Ready;
            self.ready.insert((Reverse(entry.priority), entry.number, key.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_important_go_first_and_the_impossible_wait_for_a_hint() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.add("a", 0, start);
        queue.add("b", 10, start);
        queue.add("c", 0, start);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(start)).collect();
        assert_eq!(order, ["b", "a", "c"]);
        queue.failed("a", BTreeSet::from(["NodeResourcesFit"]), start);
        queue.failed("b", BTreeSet::from(["NodeAffinity"]), start);
        queue.failed("c", BTreeSet::new(), start);
        let second = start + Duration::from_secs(1);
        assert_eq!(queue.next_due(), Some(second));
        assert_eq!(queue.pop(second).as_deref(), Some("c"), "a fault is tried again by itself");
        queue.hint(&BTreeSet::from([Hint::PodGone]), second);
        assert_eq!(queue.pop(second).as_deref(), Some("a"));
        assert_eq!(queue.pop(second), None);
        // A second failure backs off longer, hint or not.
        queue.failed("a", BTreeSet::from(["NodeResourcesFit"]), second);
        queue.hint(&BTreeSet::from([Hint::PodGone]), second);
        assert_eq!(queue.pop(second), None);
        assert_eq!(queue.next_due(), Some(second + Duration::from_secs(2)));
        queue.remove("a");
        assert_eq!(queue.next_due(), None);
        // A changed pod is looked at again.
        queue.add("b", 10, second);
        assert_eq!(queue.pop(second).as_deref(), Some("b"));
    }
}

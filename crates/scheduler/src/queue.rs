//! The pods that wait for a node. Pure: time comes in.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use client::{Backoff, Cached};
use tokio::time::Instant;

use crate::{Cluster, Happening, Hint, Pod, plugin};

/// Pods by where they stand: ready to be decided upon, backing off, or
/// impossible until something changes.
#[derive(Debug)]
pub(crate) struct Queue {
    backoff: Backoff,
    pods: BTreeMap<String, Entry>,
    /// Highest priority first, then first come.
    ready: BTreeSet<(Reverse<i32>, u64, String)>,
    /// Something helps them, but they failed a moment ago: decided upon when
    /// nobody else is ready.
    backing_off: BTreeSet<(Instant, String)>,
    /// Something was at fault, and nothing will tell that it is mended.
    after_fault: BTreeSet<(Instant, String)>,
    /// The impossible, by what may help them.
    helped_by: BTreeMap<Hint, BTreeSet<String>>,
    added: u64,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<Cached<Pod>>,
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
    /// An empty queue; `backoff` says how long pods that failed step back.
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            pods: BTreeMap::new(),
            ready: BTreeSet::new(),
            backing_off: BTreeSet::new(),
            after_fault: BTreeSet::new(),
            helped_by: BTreeMap::new(),
            added: 0,
        }
    }

    /// A pod is new or was changed by somebody: it is worth a look.
    pub(crate) fn add(&mut self, pod: &Arc<Cached<Pod>>, now: Instant) {
        let key = pod.key();
        let known = self.pods.get(&key);
        let (failures, not_before) = known.map_or((0, None), |e| (e.failures, e.not_before));
        if let Some(known) = known {
            let waits = !matches!(known.place, Place::Impossible(_));
            if known.pod.view.priority == pod.view.priority && waits {
                return self.update(pod);
            }
        }
        self.remove(&key);
        self.added += 1;
        let (pod, number, place) = (pod.clone(), self.added, Place::BackingOff);
        self.pods.insert(key.clone(), Entry { pod, number, failures, not_before, place });
        self.retry(&key, now);
    }

    /// A pod changed in a way that changes nothing here.
    pub(crate) fn update(&mut self, pod: &Arc<Cached<Pod>>) {
        if let Some(entry) = self.pods.get_mut(&pod.key()) {
            entry.pod = pod.clone();
        }
    }

    /// A pod is gone, or has a node.
    pub(crate) fn remove(&mut self, key: &str) {
        self.unlist(key);
        self.pods.remove(key);
    }

    /// The next pod to be decided upon. Tell what came of it by
    /// [`Self::failed`] or [`Self::remove`].
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Arc<Cached<Pod>>> {
        for list in [&mut self.backing_off, &mut self.after_fault] {
            while list.first().is_some_and(|(at, _)| *at <= now) {
                let (_, key) = list.pop_first().expect("just seen");
                if let Some(entry) = self.pods.get_mut(&key) {
                    entry.place = Place::Ready;
                    let priority = Reverse(entry.pod.view.priority);
                    self.ready.insert((priority, entry.number, key));
                }
            }
        }
        let key = match self.ready.pop_first() {
            Some((_, _, key)) => key,
            None => self.backing_off.pop_first()?.1,
        };
        let entry = self.pods.get_mut(&key)?;
        entry.place = Place::Taken;
        Some(entry.pod.clone())
    }

    /// When the next pod's step back after a fault ends.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.after_fault.first().map(|(at, _)| *at)
    }

    /// No node was possible, because of these plugins. With none named it was
    /// a fault, and is tried again after the back-off.
    pub(crate) fn failed(&mut self, key: &str, plugins: BTreeSet<&'static str>, now: Instant) {
        self.unlist(key);
        let Some(entry) = self.pods.get_mut(key) else { return };
        entry.failures += 1;
        let until = now + self.backoff.delay(entry.failures);
        entry.not_before = Some(until);
        if plugins.is_empty() {
            entry.place = Place::BackingOff;
            self.after_fault.insert((until, key.to_owned()));
        } else {
            for hint in hints(&plugins) {
                self.helped_by.entry(hint).or_default().insert(key.to_owned());
            }
            entry.place = Place::Impossible(plugins);
        }
    }

    /// Something happened that may help those whom certain plugins rejected.
    pub(crate) fn happened(&mut self, what: &[Happening], cluster: &Cluster, now: Instant) {
        for what in what {
            let hint = what.hint();
            let Some(keys) = self.helped_by.get(&hint) else { continue };
            let is_helped = |key: &&String| {
                let Some(entry) = self.pods.get(*key) else { return false };
                let Place::Impossible(plugins) = &entry.place else { return false };
                let mut plugins = plugins.iter().filter_map(|name| plugin(name));
                plugins.any(|plugin| {
                    plugin.helped_by.contains(&hint) && (plugin.helps)(cluster, &entry.pod, what)
                })
            };
            let helped: Vec<String> = keys.iter().filter(is_helped).cloned().collect();
            helped.iter().for_each(|key| self.retry(key, now));
        }
    }

    /// Ready, or backing off for what is left of that.
    fn retry(&mut self, key: &str, now: Instant) {
        self.unlist(key);
        let Some(entry) = self.pods.get_mut(key) else { return };
        match entry.not_before.filter(|at| *at > now) {
            Some(at) => {
                entry.place = Place::BackingOff;
                self.backing_off.insert((at, key.to_owned()));
            }
            None => {
                entry.place = Place::Ready;
                let priority = Reverse(entry.pod.view.priority);
                self.ready.insert((priority, entry.number, key.to_owned()));
            }
        }
    }

    /// Takes a pod out of every list that names it.
    fn unlist(&mut self, key: &str) {
        let Some(entry) = self.pods.get(key) else { return };
        match &entry.place {
            Place::Taken => {}
            Place::Ready => {
                let priority = Reverse(entry.pod.view.priority);
                self.ready.remove(&(priority, entry.number, key.to_owned()));
            }
            Place::BackingOff => {
                if let Some(at) = entry.not_before {
                    self.backing_off.remove(&(at, key.to_owned()));
                    self.after_fault.remove(&(at, key.to_owned()));
                }
            }
            Place::Impossible(plugins) => {
                for hint in hints(plugins) {
                    if let Some(keys) = self.helped_by.get_mut(&hint) {
                        keys.remove(key);
                        if keys.is_empty() {
                            self.helped_by.remove(&hint);
                        }
                    }
                }
            }
        }
    }
}

/// What may help those whom these plugins rejected.
fn hints(plugins: &BTreeSet<&'static str>) -> BTreeSet<Hint> {
    let plugins = plugins.iter().filter_map(|name| plugin(name));
    plugins.flat_map(|plugin| plugin.helped_by.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use testkit::pod;

    use super::*;

    fn waiting(name: &str, priority: i32) -> Arc<Cached<Pod>> {
        let pod = pod(&format!("ns/{name}")).set("/spec/priority", json!(priority));
        Arc::new(Cached::read(pod.object(), false).expect("a pod"))
    }

    #[tokio::test(start_paused = true)]
    async fn the_important_go_first_and_the_impossible_wait_for_what_helps() {
        let backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(10) };
        let (mut queue, start) = (Queue::new(backoff), Instant::now());
        let cluster = Cluster::default();
        for (name, priority) in [("a", 0), ("b", 10), ("c", 0)] {
            queue.add(&waiting(name, priority), start);
        }
        let order: Vec<_> =
            std::iter::from_fn(|| Some(queue.pop(start)?.meta.name.clone())).collect();
        assert_eq!(order, ["b", "a", "c"]);
        queue.failed("ns/a", BTreeSet::from(["NodeName"]), start);
        queue.failed("ns/b", BTreeSet::from(["VolumeBinding"]), start);
        queue.failed("ns/c", BTreeSet::new(), start);
        let name = |pod: Option<Arc<Cached<Pod>>>| pod.map(|pod| pod.meta.name.clone());
        assert_eq!(name(queue.pop(start)), None, "a fault steps back");
        let second = start + Duration::from_secs(1);
        assert_eq!(queue.next_due(), Some(second));
        assert_eq!(name(queue.pop(second)).as_deref(), Some("c"), "and is tried again by itself");
        queue.happened(&[Happening::Storage], &cluster, second);
        assert_eq!(name(queue.pop(second)).as_deref(), Some("b"));
        assert_eq!(name(queue.pop(second)), None);
        // One that failed a moment ago comes after everybody who is ready.
        queue.failed("ns/b", BTreeSet::from(["VolumeBinding"]), second);
        queue.happened(&[Happening::Storage], &cluster, second);
        queue.add(&waiting("d", 0), second);
        assert_eq!(name(queue.pop(second)).as_deref(), Some("d"));
        assert_eq!(name(queue.pop(second)).as_deref(), Some("b"));
        assert_eq!(queue.next_due(), None, "nothing to wake up for");
        // A changed pod is looked at again.
        queue.add(&waiting("a", 0), second);
        assert_eq!(name(queue.pop(second)).as_deref(), Some("a"));
        queue.failed("ns/a", BTreeSet::from(["NodeName"]), second);
        queue.remove("ns/a");
        assert!(queue.helped_by.is_empty() && queue.backing_off.is_empty());
    }
}

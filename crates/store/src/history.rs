//! The history window: the last events, by age and by key.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use crate::{Event, Item, Key, Revision};

/// One remembered event.
pub(crate) struct Past {
    pub(crate) event: Arc<Event>,
    /// When it was applied, by the owner's clock.
    at: Duration,
    /// It never was in the log, so it is in no snapshot.
    pub(crate) volatile: bool,
    /// What the log says was there before, where `event.prev` is volatile.
    pub(crate) durable_prev: Option<Box<Item>>,
}

/// The events after `floor`, oldest first.
#[derive(Default)]
pub(crate) struct History {
    events: VecDeque<Past>,
    by_key: BTreeMap<Key, VecDeque<Arc<Event>>>,
    bytes: usize,
    floor: Revision,
}

impl History {
    pub(crate) fn starting_at(floor: Revision) -> Self {
        Self { floor, ..Self::default() }
    }

    /// The oldest revision that can be read or watched from.
    pub(crate) fn floor(&self) -> Revision {
        self.floor
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(
        &mut self,
        event: Arc<Event>,
        at: Duration,
        volatile: bool,
        durable_prev: Option<Box<Item>>,
    ) {
        self.bytes += cost_bytes(&event);
        self.by_key.entry(event.key.clone()).or_default().push_back(event.clone());
        self.events.push_back(Past { event, at, volatile, durable_prev });
    }

    /// Forgets what is over `bytes_max`, and what was applied before `before`.
    pub(crate) fn trim(&mut self, bytes_max: usize, before: Duration) {
        while let Some(past) = self.events.front() {
            if self.bytes <= bytes_max && past.at >= before {
                break;
            }
            let Some(past) = self.events.pop_front() else { break };
            self.bytes -= cost_bytes(&past.event);
            self.floor = past.event.revision;
            if let Some(of_key) = self.by_key.get_mut(&past.event.key) {
                of_key.pop_front();
                if of_key.is_empty() {
                    self.by_key.remove(&past.event.key);
                }
            }
        }
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Past> {
        self.events.iter()
    }

    /// The events after a revision, oldest first.
    pub(crate) fn after(&self, revision: Revision) -> impl Iterator<Item = &Arc<Event>> {
        let start = self.events.partition_point(|past| past.event.revision <= revision);
        self.events.range(start..).map(|past| &past.event)
    }

    /// Whether nothing has happened after a revision.
    pub(crate) fn is_newest(&self, revision: Revision) -> bool {
        self.events.back().is_none_or(|past| past.event.revision <= revision)
    }

    /// The first event of a key after a revision: its `prev` is what the key
    /// held at that revision.
    pub(crate) fn first_after(&self, key: &Key, revision: Revision) -> Option<&Arc<Event>> {
        first_after(self.by_key.get(key)?, revision)
    }

    /// The keys that changed after a revision, in order, with that first event.
    pub(crate) fn changed_after<'a>(
        &'a self,
        start: Bound<&'a str>,
        revision: Revision,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Event>)> {
        self.by_key
            .range::<str, _>((start, Bound::Unbounded))
            .filter_map(move |(key, events)| Some((key, first_after(events, revision)?)))
    }
}

fn first_after(events: &VecDeque<Arc<Event>>, revision: Revision) -> Option<&Arc<Event>> {
    events.get(events.partition_point(|event| event.revision <= revision))
}

/// The memory that remembering an event takes. Its new value is not counted:
/// the state holds it too, until a later event has it as `prev`.
fn cost_bytes(event: &Event) -> usize {
    const OVERHEAD_BYTES: usize = 320;
    event.prev.as_ref().map_or(0, |item| item.value.data.len()) + OVERHEAD_BYTES
}

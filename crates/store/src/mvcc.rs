//! The state machine: current values, revisions and the history window.
//!
//! Everything here is a function of the applied entries, so all servers that
//! applied the same log hold the same state, bar the volatile renewals (which
//! live in the leader's memory beside what the log says) and how much history
//! each still remembers.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write as _,
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use crate::{
    Committed, Condition, Conflict, Event, EventKind, Item, Key, Op, Page, Put, Range, ReadError,
    Renewal, Renewed, Revision, Txn, Value, Watcher, history::History, hub::Hub,
};

/// How much history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory for past values, in bytes.
    pub history_bytes: usize,
    /// How long an event is remembered at most.
    pub history_age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { history_bytes: 16 << 20, history_age: Duration::from_secs(300) }
    }
}

/// What a key holds now.
struct Slot {
    value: Value,
    revision: Revision,
    created: Revision,
    /// What the log says, where `value` and `revision` are of a renewal.
    durable: Option<Box<(Value, Revision)>>,
}

impl Slot {
    fn item(&self, key: &Key) -> Item {
        Item {
            key: key.clone(),
            value: self.value.clone(),
            revision: self.revision,
            created: self.created,
        }
    }

    fn durable_item(&self, key: &Key) -> Item {
        let mut item = self.item(key);
        if let Some(durable) = &self.durable {
            (item.value, item.revision) = (**durable).clone();
        }
        item
    }

    fn durable_revision(&self) -> Revision {
        self.durable.as_ref().map_or(self.revision, |durable| durable.1)
    }
}

/// What a snapshot holds: the state and the history window at one revision,
/// without renewals. Values are shared with the live state, not copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The newest revision.
    pub revision: Revision,
    /// The newest revision before the history window.
    pub floor: Revision,
    /// In key order.
    pub items: Vec<Item>,
    /// In revision order.
    pub history: Vec<Arc<Event>>,
}

/// The state machine. Its owner serialises access: it applies under a write
/// lock and reads under a read lock.
pub struct Mvcc {
    current: BTreeMap<Key, Slot>,
    history: History,
    hub: Arc<Hub>,
    revision: Revision,
    base: u64,
    limits: Limits,
    now: Duration,
    bytes: u64,
}

impl Mvcc {
    /// An empty state. `base` is added to every log index; see [`Revision`].
    pub fn new(base: u64, limits: Limits) -> Self {
        Self {
            current: BTreeMap::new(),
            history: History::default(),
            hub: Arc::default(),
            revision: Revision::ZERO,
            base,
            limits,
            now: Duration::ZERO,
            bytes: 0,
        }
    }

    /// Applies the log entry `index`, whose transactions are taken in order,
    /// and answers each. Entries without transactions are applied too: they
    /// raise the revision. Indexes must rise.
    pub fn apply(
        &mut self,
        index: u64,
        txns: impl IntoIterator<Item = Txn>,
    ) -> Vec<Result<Committed, Conflict>> {
        let start = Revision::of_index(self.base, index);
        debug_assert!(start >= self.revision, "entry {index} is applied twice or out of order");
        self.revision = start.max(self.revision);
        let mut events = Vec::new();
        let answers = txns.into_iter().map(|txn| self.apply_txn(txn, &mut events)).collect();
        self.trim();
        self.hub.publish(&events, self.revision);
        answers
    }

    fn apply_txn(&mut self, txn: Txn, events: &mut Vec<Arc<Event>>) -> Result<Committed, Conflict> {
        if let Some(failed) = self.failed_condition(&txn, Slot::durable_revision) {
            return Err(self.conflict(&txn, failed));
        }
        for op in txn.ops {
            let event = match op {
                Op::Put(put) => Some(self.put(put, false)),
                Op::Delete { key } => self.delete(&key),
            };
            events.extend(event);
        }
        Ok(Committed { revision: self.revision })
    }

    /// Makes a transaction ready for the log: conditions that name a volatile
    /// revision are put in terms of what the log says, since that is what all
    /// servers compare with. The keys of the transaction must not be renewed
    /// between this call and its application.
    ///
    /// # Errors
    /// Where a condition fails because of a renewal that the log does not know.
    pub fn prepare(&self, txn: &mut Txn) -> Result<(), Conflict> {
        let volatile = |key: &Key| self.current.get(key).is_some_and(|slot| slot.durable.is_some());
        if !txn.conditions.iter().any(|(key, _)| volatile(key)) {
            return Ok(());
        }
        if let Some(failed) = self.failed_condition(txn, |slot| slot.revision) {
            return Err(self.conflict(txn, failed));
        }
        for (key, condition) in &mut txn.conditions {
            if let (Condition::AtRevision(at), Some(slot)) = (condition, self.current.get(key)) {
                *at = slot.durable_revision();
            }
        }
        Ok(())
    }

    /// Applies a renewal beside the log. `None` where the log must be used,
    /// because this entry's operation numbers are used up.
    pub fn renew(&mut self, renewal: Renewal) -> Option<Result<Committed, Conflict>> {
        let next = self.revision.next();
        if next.0 & ((1 << Revision::OP_BITS) - 1) == 0 {
            return None;
        }
        let txn = Txn {
            conditions: vec![(renewal.put.key.clone(), Condition::AtRevision(renewal.at))],
            ops: Vec::new(),
        };
        if let Some(failed) = self.failed_condition(&txn, |slot| slot.revision) {
            return Some(Err(self.conflict(&txn, failed)));
        }
        let event = self.put(renewal.put, true);
        self.trim();
        self.hub.publish(&[event], self.revision);
        Some(Ok(Committed { revision: self.revision }))
    }

    /// A renewal of this key, as other servers are to know it; `None` where the
    /// key's value is the log's.
    pub fn renewed(&self, key: &Key) -> Option<Renewed> {
        let (key, slot) = self.current.get_key_value(key)?;
        let over = slot.durable.as_ref()?.1;
        Some(Renewed { key: key.clone(), value: slot.value.clone(), revision: slot.revision, over })
    }

    /// All renewals that the log does not know.
    pub fn all_renewed(&self) -> Vec<Renewed> {
        self.current.keys().filter_map(|key| self.renewed(key)).collect()
    }

    /// Takes in a renewal from the server that made it. The log up to the
    /// renewal's entry must have been applied. Where later entries were applied
    /// too, watchers are not told: they have seen later revisions already, and
    /// the next renewal tells them. Nothing happens where the key has moved on.
    pub fn take_renewed(&mut self, renewed: Renewed) {
        let Renewed { key, value, revision, over } = renewed;
        let Some(slot) = self.current.get_mut(&key) else { return };
        if slot.durable_revision() != over || slot.revision >= revision {
            return;
        }
        if revision > self.revision {
            self.revision = Revision(revision.0 - 1);
            let put = Put { key, value, revision_at: None };
            let event = self.put(put, true);
            self.trim();
            self.hub.publish(&[event], self.revision);
            return;
        }
        self.bytes += slot_bytes(&key, &value);
        self.bytes -= slot_bytes(&key, &slot.value);
        let before = (std::mem::replace(&mut slot.value, value), slot.revision);
        slot.durable.get_or_insert_with(|| Box::new(before));
        slot.revision = revision;
    }

    /// Takes renewals back, but for those of the keys in `keep`: the server that
    /// makes them now does not know them, so they will not hold.
    pub fn forget_renewed(&mut self, keep: &BTreeSet<Key>) {
        for (key, slot) in &mut self.current {
            let Some(durable) = slot.durable.take_if(|_| !keep.contains(key)) else { continue };
            self.bytes -= slot_bytes(key, &slot.value);
            (slot.value, slot.revision) = *durable;
            self.bytes += slot_bytes(key, &slot.value);
        }
    }

    /// Says that nothing more will come up to `revision`, which the server that
    /// makes renewals has come to.
    pub fn raise(&mut self, revision: Revision) {
        if revision > self.revision {
            self.revision = revision;
            self.hub.publish(&[], revision);
        }
    }

    fn failed_condition(&self, txn: &Txn, revision: impl Fn(&Slot) -> Revision) -> Option<usize> {
        txn.conditions.iter().position(|(key, condition)| {
            let slot = self.current.get(key);
            let holds = match condition {
                Condition::Absent => slot.is_none(),
                Condition::Present => slot.is_some(),
                Condition::AtRevision(at) => slot.is_some_and(|slot| revision(slot) == *at),
            };
            !holds
        })
    }

    fn conflict(&self, txn: &Txn, condition: usize) -> Conflict {
        let current = self
            .current
            .get_key_value(&txn.conditions[condition].0)
            .map(|(key, slot)| slot.item(key));
        Conflict { condition, current, revision: self.revision }
    }

    fn put(&mut self, put: Put, volatile: bool) -> Arc<Event> {
        self.revision = self.revision.next();
        let revision = self.revision;
        let value = Value { epoch: put.value.epoch, data: with_revision(&put, revision) };
        let old = self.current.remove_entry(&put.key);
        // The key's text is shared by the state, events and items.
        let (key, old) = match old {
            Some((key, slot)) => (key, Some(slot)),
            None => (put.key, None),
        };
        let prev = old.as_ref().map(|slot| slot.item(&key));
        let durable_prev = match &old {
            Some(slot) if slot.durable.is_some() && !volatile => {
                Some(Box::new(slot.durable_item(&key)))
            }
            _ => None,
        };
        let created = old.as_ref().map_or(revision, |slot| slot.created);
        self.bytes += slot_bytes(&key, &value);
        self.bytes -= old.as_ref().map_or(0, |slot| slot_bytes(&key, &slot.value));
        let durable = match old {
            Some(slot) if volatile => {
                Some(slot.durable.unwrap_or_else(|| Box::new((slot.value, slot.revision))))
            }
            _ => None,
        };
        let slot = Slot { value: value.clone(), revision, created, durable };
        self.current.insert(key.clone(), slot);
        let kind = EventKind::Put { value, created };
        self.remember(Event { revision, key, kind, prev }, volatile, durable_prev)
    }

    fn delete(&mut self, key: &Key) -> Option<Arc<Event>> {
        let (key, slot) = self.current.remove_entry(key)?;
        self.revision = self.revision.next();
        self.bytes -= slot_bytes(&key, &slot.value);
        let durable_prev = slot.durable.is_some().then(|| Box::new(slot.durable_item(&key)));
        let prev = Some(slot.item(&key));
        let event = Event { revision: self.revision, key, kind: EventKind::Delete, prev };
        Some(self.remember(event, false, durable_prev))
    }

    fn remember(
        &mut self,
        event: Event,
        volatile: bool,
        durable_prev: Option<Box<Item>>,
    ) -> Arc<Event> {
        let event = Arc::new(event);
        self.history.push(event.clone(), self.now, volatile, durable_prev);
        event
    }

    /// Says what time it is, on any clock that never goes back. History is
    /// trimmed by it; nothing else depends on time.
    pub fn tick(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    fn trim(&mut self) {
        let before = self.now.saturating_sub(self.limits.history_age);
        self.history.trim(self.limits.history_bytes, before);
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// What is added to log indexes; see [`Revision`].
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The memory that keys and values take, in bytes.
    pub fn state_bytes(&self) -> u64 {
        self.bytes
    }

    /// The memory that past values take, in bytes.
    pub fn history_bytes(&self) -> u64 {
        self.history.bytes() as u64
    }

    /// How many keys there are.
    pub fn key_count(&self) -> usize {
        self.current.len()
    }

    /// How many watches run.
    pub fn watcher_count(&self) -> usize {
        self.hub.watcher_count()
    }

    /// See [`crate::Store::get`].
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Item>, ReadError> {
        if let Some(at) = at {
            self.check_readable(at)?;
            if let Some(event) = self.history.first_after(key, at) {
                return Ok(event.prev.clone());
            }
        }
        Ok(self.current.get_key_value(key).map(|(key, slot)| slot.item(key)))
    }

    /// See [`crate::Store::range`].
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn range(&self, range: &Range) -> Result<Page, ReadError> {
        let revision = range.at.unwrap_or(self.revision);
        self.check_readable(revision)?;
        let prefix = range.prefix.as_str();
        let start = match &range.start_after {
            Some(key) if key.as_str() >= prefix => Bound::Excluded(key.as_str()),
            _ => Bound::Included(prefix),
        };
        let current = self
            .current
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.as_str().starts_with(prefix));
        let mut page = Page { revision, ..Page::default() };
        let limit = if range.limit == 0 { usize::MAX } else { range.limit };
        if self.history.is_newest(revision) {
            let mut current = current;
            let items = current.by_ref().take(limit).map(|(key, slot)| slot.item(key));
            page.items = items.collect();
            page.remaining = if page.items.len() == limit { current.count() } else { 0 };
            return Ok(page);
        }
        let mut take = |item: Item| match page.items.len() < limit {
            true => page.items.push(item),
            false => page.remaining += 1,
        };
        let mut changed = self
            .history
            .changed_after(start, revision)
            .take_while(|(key, _)| key.as_str().starts_with(prefix))
            .peekable();
        for (key, slot) in current {
            // Keys that are gone by now but were there then.
            while let Some((_, event)) = changed.next_if(|(other, _)| *other < key) {
                event.prev.clone().into_iter().for_each(&mut take);
            }
            match changed.next_if(|(other, _)| *other == key) {
                Some((_, event)) => event.prev.clone().into_iter().for_each(&mut take),
                None => take(slot.item(key)),
            }
        }
        changed.filter_map(|(_, event)| event.prev.clone()).for_each(&mut take);
        Ok(page)
    }

    /// See [`crate::Store::watch`].
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn watch(&self, prefix: &str, from: Revision) -> Result<Watcher, ReadError> {
        self.check_readable(from)?;
        let missed = self.history.after(from);
        let backlog: VecDeque<_> =
            missed.filter(|event| event.key.as_str().starts_with(prefix)).cloned().collect();
        Ok(self.hub.add(prefix, from, backlog))
    }

    fn check_readable(&self, at: Revision) -> Result<(), ReadError> {
        if at > self.revision {
            Err(ReadError::Future { current: self.revision })
        } else if at < self.history.floor() {
            Err(ReadError::Compacted { oldest: self.history.floor() })
        } else {
            Ok(())
        }
    }

    /// A future that ends when `revision` has been applied. It does not borrow
    /// the state, so it can be awaited without the lock.
    pub fn applied(&self, revision: Revision) -> impl Future<Output = ()> + Send + use<> {
        self.hub.reached(revision)
    }

    /// Ends all watches, for a shutdown.
    pub fn close_watches(&self) {
        self.hub.close();
    }

    /// The state as a snapshot keeps it.
    pub fn image(&self) -> Image {
        let durable = |past: &crate::history::Past| match &past.durable_prev {
            None => past.event.clone(),
            Some(prev) => Arc::new(Event { prev: Some((**prev).clone()), ..(*past.event).clone() }),
        };
        Image {
            revision: self.revision,
            floor: self.history.floor(),
            items: self.current.iter().map(|(key, slot)| slot.durable_item(key)).collect(),
            history: self.history.iter().filter(|past| !past.volatile).map(durable).collect(),
        }
    }

    /// Replaces everything by a snapshot, whose revisions count from `base`.
    /// Running watches end: they resume from the snapshot's history.
    pub fn restore(&mut self, base: u64, image: Image) {
        self.hub.close();
        self.base = base;
        self.revision = image.revision;
        self.bytes = image.items.iter().map(|item| slot_bytes(&item.key, &item.value)).sum();
        self.current = image
            .items
            .into_iter()
            .map(|item| {
                let Item { key, value, revision, created } = item;
                (key, Slot { value, revision, created, durable: None })
            })
            .collect();
        self.history = History::starting_at(image.floor);
        for event in image.history {
            self.history.push(event, self.now, false, None);
        }
        self.trim();
        self.hub.publish(&[], self.revision);
    }
}

/// The final bytes of a put. Always a copy of exactly the right size, so that a
/// stored value does not keep alive the larger buffer that it came in.
fn with_revision(put: &Put, revision: Revision) -> Bytes {
    let data = &put.value.data;
    let Some(at) = put.revision_at else { return Bytes::copy_from_slice(data) };
    let (head, tail) = data.split_at((at as usize).min(data.len()));
    let mut digits = String::with_capacity(20);
    write!(digits, "{revision}").expect("a String takes all");
    let mut whole = Vec::with_capacity(data.len() + digits.len());
    whole.extend_from_slice(head);
    whole.extend_from_slice(digits.as_bytes());
    whole.extend_from_slice(tail);
    whole.into()
}

fn slot_bytes(key: &Key, value: &Value) -> u64 {
    const OVERHEAD_BYTES: usize = 128;
    (key.as_str().len() + value.data.len() + OVERHEAD_BYTES) as u64
}

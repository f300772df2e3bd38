//! The watch hub: hands events to the watchers of their keys.
//!
//! Whoever applies an entry publishes its events here while it still holds the
//! state's lock, so a watcher that starts under that lock misses nothing and
//! sees nothing twice. One event is shared by all its watchers.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use crate::{Item, Key, Revision, Value};

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The operation's revision; no two events share one.
    pub revision: Revision,
    /// The key.
    pub key: Key,
    /// What happened.
    pub kind: EventKind,
    /// What the key held before; `None` for a creation.
    pub prev: Option<Item>,
}

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was set to this value; `created` is the write that created the key.
    Put {
        /// The new value.
        value: Value,
        /// Equals the event's revision for a creation.
        created: Revision,
    },
    /// It was deleted.
    Delete,
}

impl Event {
    /// The new state of the key; `None` after a deletion.
    pub fn item(&self) -> Option<Item> {
        match &self.kind {
            EventKind::Put { value, created } => Some(Item {
                key: self.key.clone(),
                value: value.clone(),
                revision: self.revision,
                created: *created,
            }),
            EventKind::Delete => None,
        }
    }

    /// What keeping the event costs, in bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        let new = match &self.kind {
            EventKind::Put { value, .. } => value.data.len(),
            EventKind::Delete => 0,
        };
        let old = self.prev.as_ref().map_or(0, |item| item.value.data.len());
        new + old + self.key.as_str().len() + 256
    }
}

/// What a watcher is given at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// In revision order; never empty.
    pub events: Vec<Arc<Event>>,
    /// Everything up to here has been delivered: a point to resume from.
    pub progress: Revision,
}

/// Why a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The watcher fell too far behind; it may resume from its last progress.
    #[error("the watcher was too slow")]
    Slow,
    /// The store was shut down, or its state was replaced by a snapshot.
    #[error("the store ended the watch")]
    Closed,
}

/// Events that may come and wait for a watcher before it is cut off. They are mostly
/// shared with the history window, so what is counted is entries, not bytes.
const BACKLOG_EVENTS_MAX: usize = 8192;
/// What those events may hold; a watcher pins events that left the window.
const BACKLOG_BYTES_MAX: usize = 32 << 20;

#[derive(Default)]
struct Queue {
    events: VecDeque<Arc<Event>>,
    /// How many of them the watcher asked for by where it began. They count for nothing:
    /// it would be cut off before it could take any, and come back for the same.
    from_past: usize,
    /// What the others hold.
    bytes: usize,
    ended: Option<WatchError>,
    waker: Option<Waker>,
}

struct Shared {
    prefix: Arc<str>,
    queue: Mutex<Queue>,
}

/// A subscription; dropping it ends it.
pub struct Watcher {
    shared: Arc<Shared>,
    hub: Arc<Hub>,
    id: u64,
    seen: Revision,
}

impl Watcher {
    /// Waits for the next events and takes all that are there.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// Once the watch has ended and everything delivered before was taken.
    pub async fn next(&mut self) -> Result<Batch, WatchError> {
        poll_fn(|cx| {
            // Read before the queue: what was published up to here is queued.
            let published = self.hub.published();
            let mut queue = lock(&self.shared.queue);
            if !queue.events.is_empty() {
                let events: Vec<_> = std::mem::take(&mut queue.events).into();
                (queue.from_past, queue.bytes) = (0, 0);
                let last = events.last().map_or(published, |event| event.revision);
                self.seen = self.seen.max(published).max(last);
                return Poll::Ready(Ok(Batch { events, progress: self.seen }));
            }
            if let Some(error) = queue.ended {
                return Poll::Ready(Err(error));
            }
            self.seen = self.seen.max(published);
            match &mut queue.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                slot => *slot = Some(cx.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }

    /// Everything up to here has been delivered through [`Self::next`]. Rises
    /// while the watcher is idle too, for bookmarks.
    pub fn progress(&mut self) -> Revision {
        let published = self.hub.published();
        let queue = lock(&self.shared.queue);
        if queue.events.is_empty() && queue.ended.is_none() {
            self.seen = self.seen.max(published);
        }
        self.seen
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.hub.remove(&self.shared.prefix, self.id);
    }
}

/// All watchers, found by the prefix they watch.
#[derive(Default)]
pub(crate) struct Hub {
    watchers: Mutex<Watchers>,
    published: AtomicU64,
    waiting: Mutex<Waiting>,
}

/// Who waits for a revision, the lowest first.
#[derive(Default)]
struct Waiting {
    wakers: BTreeMap<(Revision, u64), Waker>,
    next_id: u64,
}

#[derive(Default)]
struct Watchers {
    by_prefix: HashMap<Arc<str>, BTreeMap<u64, Arc<Shared>>>,
    /// How many prefixes there are of each length: a key is looked up once a
    /// length in use, not once a watcher.
    lengths: BTreeMap<usize, usize>,
    next_id: u64,
}

impl Hub {
    /// Starts a watcher that is first given `backlog`. The caller holds the
    /// state's lock, so that nothing is published in between.
    pub(crate) fn add(
        self: &Arc<Self>,
        prefix: &str,
        from: Revision,
        backlog: VecDeque<Arc<Event>>,
    ) -> Watcher {
        let mut watchers = lock(&self.watchers);
        let id = watchers.next_id;
        watchers.next_id += 1;
        let prefix = match watchers.by_prefix.get_key_value(prefix) {
            Some((shared, _)) => shared.clone(),
            None => {
                *watchers.lengths.entry(prefix.len()).or_insert(0) += 1;
                Arc::from(prefix)
            }
        };
        let queue = Queue { from_past: backlog.len(), events: backlog, ..Queue::default() };
        let shared = Arc::new(Shared { prefix: prefix.clone(), queue: Mutex::new(queue) });
        watchers.by_prefix.entry(prefix).or_default().insert(id, shared.clone());
        Watcher { shared, hub: self.clone(), id, seen: from }
    }

    fn remove(&self, prefix: &Arc<str>, id: u64) {
        let mut watchers = lock(&self.watchers);
        let Some(group) = watchers.by_prefix.get_mut(prefix) else { return };
        group.remove(&id);
        if group.is_empty() {
            watchers.by_prefix.remove(prefix);
            if let Some(count) = watchers.lengths.get_mut(&prefix.len()) {
                *count -= 1;
                if *count == 0 {
                    watchers.lengths.remove(&prefix.len());
                }
            }
        }
    }

    /// Hands out the events of one applied entry, then says that the state has
    /// come to `revision`. A watcher is woken once, however many are for it.
    pub(crate) fn publish(&self, events: &[Arc<Event>], revision: Revision) {
        let mut wakers = Vec::new();
        if !events.is_empty() {
            let watchers = lock(&self.watchers);
            for event in events {
                let key = event.key.as_str();
                let lengths = watchers.lengths.keys().take_while(|length| **length <= key.len());
                for prefix in lengths.filter_map(|length| key.get(..*length)) {
                    let group = watchers.by_prefix.get(prefix).into_iter();
                    wakers.extend(group.flatten().filter_map(|(_, shared)| push(shared, event)));
                }
            }
        }
        self.published.fetch_max(revision.0, Ordering::Release);
        // Whoever sleeps gave its waker away with the first event that it was
        // handed, and now has all of them.
        wakers.into_iter().for_each(Waker::wake);
        let mut waiting = lock(&self.waiting);
        if waiting.wakers.is_empty() {
            return;
        }
        let later = waiting.wakers.split_off(&(revision.next(), 0));
        let due = std::mem::replace(&mut waiting.wakers, later);
        drop(waiting);
        due.into_values().for_each(Waker::wake);
    }

    /// A future that ends once a revision has been published. Dropped before,
    /// it leaves nothing behind.
    pub(crate) fn reached(self: &Arc<Self>, revision: Revision) -> Reached {
        Reached { hub: self.clone(), revision, id: None }
    }

    /// Ends every watch; new ones may start.
    pub(crate) fn close(&self) {
        let watchers = lock(&self.watchers);
        for shared in watchers.by_prefix.values().flat_map(BTreeMap::values) {
            let mut queue = lock(&shared.queue);
            queue.ended.get_or_insert(WatchError::Closed);
            if let Some(waker) = queue.waker.take() {
                waker.wake();
            }
        }
    }

    pub(crate) fn watcher_count(&self) -> usize {
        lock(&self.watchers).by_prefix.values().map(BTreeMap::len).sum()
    }

    fn published(&self) -> Revision {
        Revision(self.published.load(Ordering::Acquire))
    }
}

/// See [`Hub::reached`].
pub(crate) struct Reached {
    hub: Arc<Hub>,
    revision: Revision,
    /// Its place among those that wait, from the first poll on.
    id: Option<u64>,
}

impl Future for Reached {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.hub.published() >= self.revision {
            return Poll::Ready(());
        }
        let id = {
            let mut waiting = lock(&self.hub.waiting);
            let id = self.id.unwrap_or_else(|| {
                waiting.next_id += 1;
                waiting.next_id
            });
            waiting.wakers.insert((self.revision, id), cx.waker().clone());
            id
        };
        self.id = Some(id);
        // Published in between: `publish` may have looked before we were there.
        match self.hub.published() >= self.revision {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Drop for Reached {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            lock(&self.hub.waiting).wakers.remove(&(self.revision, id));
        }
    }
}

/// Queues an event. Returns the waker of a watcher that sleeps.
fn push(shared: &Shared, event: &Arc<Event>) -> Option<Waker> {
    let mut queue = lock(&shared.queue);
    if queue.ended.is_some() {
        return None;
    }
    queue.bytes += event.size_bytes();
    let count = queue.events.len() - queue.from_past;
    if count >= BACKLOG_EVENTS_MAX || queue.bytes > BACKLOG_BYTES_MAX {
        // What is queued is dropped too: it is memory that a dead client pins,
        // and a client that comes back resumes before it.
        queue.events = VecDeque::new();
        queue.ended = Some(WatchError::Slow);
    } else {
        queue.events.push_back(event.clone());
    }
    queue.waker.take()
}

/// A panic of another thread while it held one of these locks leaves no state
/// half-changed that would matter here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

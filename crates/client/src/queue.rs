//! Keys that wait to be reconciled.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::Backoff;

/// A queue in which a key waits at most once and is worked on by one worker
/// at a time: a key added while it is worked on waits again afterwards. Keys
/// can be added for later; timers run only while such keys exist.
pub struct WorkQueue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
    backoff: Backoff,
}

struct State<K> {
    ready: VecDeque<K>,
    /// Waiting, or to wait again when their worker is done.
    dirty: BTreeSet<K>,
    processing: BTreeSet<K>,
    /// By due time; the number keeps keys of one instant apart and in order.
    delayed: BTreeMap<(Instant, u64), K>,
    due: BTreeMap<K, (Instant, u64)>,
    added: u64,
    failures: BTreeMap<K, u32>,
    closed: bool,
}

impl<K> fmt::Debug for WorkQueue<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkQueue")
    }
}

impl<K: Ord + Clone> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new(Backoff::RECONCILE)
    }
}

impl<K: Ord + Clone> WorkQueue<K> {
    /// An empty queue with its delays after failures.
    pub fn new(backoff: Backoff) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: BTreeSet::new(),
            processing: BTreeSet::new(),
            delayed: BTreeMap::new(),
            due: BTreeMap::new(),
            added: 0,
            failures: BTreeMap::new(),
            closed: false,
        };
        Self { state: Mutex::new(state), wake: Notify::new(), backoff }
    }

    /// Queues a key, unless it waits already.
    pub fn add(&self, key: K) {
        if self.lock().add(key) {
            self.wake.notify_one();
        }
    }

    /// Queues a key later; the earliest of several times counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let mut state = self.lock();
        if state.closed {
            return;
        }
        let at = Instant::now() + delay;
        if let Some(known) = state.due.get(&key).copied() {
            if known.0 <= at {
                return;
            }
            state.delayed.remove(&known);
        }
        state.added += 1;
        let at = (at, state.added);
        state.due.insert(key.clone(), at);
        state.delayed.insert(at, key);
        drop(state);
        // A waiting worker has to set its timer anew.
        self.wake.notify_one();
    }

    /// Queues a key after the back-off of its failures, this one included;
    /// returns the delay.
    pub fn add_failed(&self, key: K) -> Duration {
        let failures = {
            let mut state = self.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            *failures = failures.saturating_add(1);
            *failures
        };
        let delay = self.backoff.delay(failures);
        self.add_after(key, delay);
        delay
    }

    /// Queues now what was to be queued later: the times were reckoned by a wall
    /// clock that was set since.
    pub fn hasten(&self) {
        let mut state = self.lock();
        state.due.clear();
        for key in std::mem::take(&mut state.delayed).into_values() {
            state.add(key);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Forgets a key's failures: it succeeded.
    pub fn forget(&self, key: &K) {
        self.lock().failures.remove(key);
    }

    /// The next key; it is the caller's until [`Self::done`]. `None` once the
    /// queue is closed. May be dropped at any time.
    pub async fn next(&self) -> Option<K> {
        loop {
            let due = {
                let mut state = self.lock();
                if state.closed {
                    drop(state);
                    self.wake.notify_one();
                    return None;
                }
                state.admit_due(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.processing.insert(key.clone());
                    let more = !state.ready.is_empty();
                    drop(state);
                    if more {
                        self.wake.notify_one();
                    }
                    return Some(key);
                }
                state.delayed.first_key_value().map(|((at, _), _)| *at)
            };
            match due {
                Some(at) => tokio::select! {
                    biased;
                    () = self.wake.notified() => {}
                    () = sleep_until(at) => {}
                },
                None => self.wake.notified().await,
            }
        }
    }

    /// The caller is done with a key that [`Self::next`] gave.
    pub fn done(&self, key: &K) {
        let mut state = self.lock();
        if state.processing.remove(key) && state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Ends every `next`, now and later, and drops what waits.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.ready.clear();
        state.dirty.clear();
        state.delayed.clear();
        state.due.clear();
        drop(state);
        self.wake.notify_one();
    }

    /// How many keys wait to be taken now.
    pub fn len(&self) -> usize {
        self.lock().ready.len()
    }

    /// Whether no key waits to be taken now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord + Clone> State<K> {
    /// Whether a worker can take it now.
    fn add(&mut self, key: K) -> bool {
        if self.closed || !self.dirty.insert(key.clone()) || self.processing.contains(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    fn admit_due(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let key = entry.remove();
            self.due.remove(&key);
            self.add(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_again_after_its_worker() {
        let queue = WorkQueue::default();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        assert_eq!(queue.len(), 1, "a is being worked on");
        assert_eq!(queue.next().await, Some("b"));
        queue.done(&"a");
        assert_eq!(queue.next().await, Some("a"));
        queue.done(&"a");
        queue.done(&"b");
        assert!(queue.is_empty());
        queue.close();
        assert_eq!(queue.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn delayed_keys_come_in_time_and_the_earliest_counts() {
        let queue = WorkQueue::default();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("a", Duration::from_secs(2));
        queue.add_after("a", Duration::from_secs(9));
        queue.add_after("b", Duration::from_secs(3));
        for (key, seconds) in [("a", 2), ("b", 3)] {
            assert_eq!(queue.next().await, Some(key));
            assert_eq!(start.elapsed(), Duration::from_secs(seconds));
            queue.done(&key);
        }
        let rest = tokio::time::timeout(Duration::from_secs(60), queue.next()).await;
        assert!(rest.is_err(), "each key was due once");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_hastened_comes_at_once_and_once() {
        let queue = WorkQueue::default();
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("b", Duration::from_secs(9));
        let start = Instant::now();
        queue.hasten();
        for key in ["a", "b"] {
            assert_eq!(queue.next().await, Some(key));
            queue.done(&key);
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        let rest = tokio::time::timeout(Duration::from_secs(60), queue.next()).await;
        assert!(rest.is_err(), "each key was due once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sooner_key_wakes_a_worker_that_waits_for_a_later_one() {
        let queue = std::sync::Arc::new(WorkQueue::default());
        queue.add_after("late", Duration::from_secs(100));
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { (queue.next().await, Instant::now()) }
        });
        tokio::task::yield_now().await;
        let start = Instant::now();
        queue.add_after("soon", Duration::from_secs(1));
        let (key, at) = waiting.await.expect("no panic");
        assert_eq!((key, at - start), (Some("soon"), Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_until_forgotten() {
        let queue = WorkQueue::default();
        let delays: Vec<u128> = (0..3).map(|_| queue.add_failed("a").as_millis()).collect();
        assert_eq!(delays, [5, 10, 20]);
        queue.forget(&"a");
        assert_eq!(queue.add_failed("a").as_millis(), 5);
    }

    #[tokio::test]
    async fn every_worker_ends_when_the_queue_is_closed() {
        let queue = std::sync::Arc::new(WorkQueue::<u8>::default());
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.next().await })
            })
            .collect();
        tokio::task::yield_now().await;
        queue.close();
        for worker in workers {
            assert_eq!(worker.await.expect("no panic"), None);
        }
    }
}

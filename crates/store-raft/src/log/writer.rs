//! The one thread that writes the log: everything that has come in while the
//! last group was synced becomes the next group. Where a server is alone, who
//! appends does the thread's work if it has none (see [`Writer::write_here`]).
//! A log whose disk takes no time (in tests) is always written at once, so that
//! what happens is the same in every run.
//!
//! On a full disk the thread waits with what it was given until there is room.

use std::{
    cell::Cell,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{Index, Log, Record};
use crate::proto::raft_v1::{LogId, LogState, Vote};

/// Called once the work is on disk, or failed: from the thread that did it.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

enum Work {
    Append(Vec<Record>, Done),
    Vote(Vote, Done),
    Purge(LogId, Done),
    /// Make what a later append would have to wait for.
    Prepare,
    Close,
}

/// Counters of the disk's work; read them at any time.
#[derive(Debug, Default)]
pub struct LogStats {
    /// Groups written, each with one `fdatasync`.
    pub groups: AtomicU64,
    /// Bytes written in groups, padding included.
    pub bytes: AtomicU64,
    /// Bytes of the records in them.
    pub payload_bytes: AtomicU64,
    /// Time spent in write and `fdatasync`, in nanoseconds.
    pub write_nanos: AtomicU64,
    /// The longest of them.
    pub write_nanos_max: AtomicU64,
    /// Space taken by segments, spares included, in bytes.
    pub disk_bytes: AtomicU64,
}

/// The handle to who writes. Work is done in the order in which it was given.
pub(crate) struct Writer {
    desk: Arc<Desk>,
    /// Nothing where all work is done at once.
    thread: Option<LogThread>,
    /// Whoever appends may do it, if nobody else is at work.
    here: AtomicBool,
    committed: Arc<Mutex<Option<LogId>>>,
    pub(crate) index: Index,
    pub(crate) stats: Arc<LogStats>,
}

/// The thread that works beside those who append.
struct LogThread {
    work: Sender<Work>,
    joining: Mutex<Option<JoinHandle<()>>>,
}

/// Where the log lies: one works at a time.
struct Desk {
    /// Nothing once the log is closed.
    clerk: Mutex<Option<Clerk>>,
    /// Work that the thread was given and has not finished.
    waiting: AtomicUsize,
    /// Whether work waits for room on the disk.
    full: watch::Sender<bool>,
    /// Nobody waits for room any more.
    closing: AtomicBool,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Option<Clerk>> {
        self.clerk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A group is closed once it holds so many bytes, so that the first of those
/// who wait is not kept waiting by the last.
const GROUP_BYTES_MAX: usize = 1 << 20;
/// How long a full disk is left alone: the kernel tells nobody that there is room.
const ROOM_AGAIN: Duration = Duration::from_secs(1);
/// The same for what can be done without.
const SPARE_AGAIN: Duration = Duration::from_secs(30);

impl Writer {
    /// Starts the thread, which works until [`Self::close`].
    pub(crate) fn start(log: Log) -> io::Result<Self> {
        let index = log.index();
        let committed = Arc::new(Mutex::new(index.state().committed));
        let stats = Arc::new(LogStats::default());
        stats.disk_bytes.store(log.disk_bytes(), Ordering::Relaxed);
        let takes_time = log.takes_time();
        let (shared, counted) = (committed.clone(), stats.clone());
        let clerk = Clerk { log, committed: shared, stats: counted, no_spare_since: None };
        let desk = Arc::new(Desk {
            clerk: Mutex::new(Some(clerk)),
            waiting: AtomicUsize::default(),
            full: watch::Sender::default(),
            closing: AtomicBool::default(),
        });
        let thread = match takes_time {
            false => None,
            true => {
                let (work, inbox) = channel();
                let desk = desk.clone();
                let thread = std::thread::Builder::new()
                    .name("raft-log".into())
                    .stack_size(256 << 10)
                    .spawn(move || desk.run(&inbox))?;
                Some(LogThread { work, joining: Mutex::new(Some(thread)) })
            }
        };
        Ok(Self { desk, thread, here: AtomicBool::default(), committed, index, stats })
    }

    /// Whether an append is done by whoever asks for it: right where nobody else
    /// needs the thread meanwhile, since it spares two changes of threads.
    pub(crate) fn write_here(&self, here: bool) {
        self.here.store(here, Ordering::Relaxed);
    }

    /// Appends records.
    pub(crate) fn append(&self, records: Vec<Record>, done: Done) {
        self.send(Work::Append(records, done));
    }

    /// Replaces the vote.
    pub(crate) fn vote(&self, vote: Vote, done: Done) {
        self.send(Work::Vote(vote, done));
    }

    /// See [`Log::purge`].
    pub(crate) fn purge(&self, id: LogId, done: Done) {
        self.send(Work::Purge(id, done));
    }

    /// Remembers how far the log is committed. It is written along with the
    /// next group, since it is no more than a shortcut for the next start.
    pub(crate) fn committed(&self, id: Option<LogId>) {
        *self.committed.lock().unwrap_or_else(PoisonError::into_inner) = id;
    }

    /// Whether the log waits for room on its disk, and a way to wait for either.
    pub(crate) fn full(&self) -> watch::Receiver<bool> {
        self.desk.full.subscribe()
    }

    /// From now on nothing waits for room on the disk; what does fails.
    pub(crate) fn wait_no_more(&self) {
        self.desk.closing.store(true, Ordering::SeqCst);
        if let Some(thread) = &self.thread
            && let Some(joining) = &*thread.joining.lock().unwrap_or_else(PoisonError::into_inner)
        {
            joining.thread().unpark();
        }
    }

    /// Writes all that was given, but for what waits for room, then a closing record,
    /// and takes no more.
    pub(crate) fn close(&self) {
        self.wait_no_more();
        let Some(thread) = &self.thread else { return self.send(Work::Close) };
        let thread = thread.joining.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            self.send(Work::Close);
            if thread.join().is_err() {
                tracing::error!("the log's thread panicked");
            }
        }
    }

    fn send(&self, work: Work) {
        let left = match &self.thread {
            None => self.desk.at_once(work),
            Some(thread) => {
                let Some(work) = self.do_here(work) else { return };
                self.desk.waiting.fetch_add(1, Ordering::SeqCst);
                thread.work.send(work).err().map(|refused| refused.0)
            }
        };
        if let Some(refused) = left {
            refused.finish(&Err(io::Error::other("the log is closed")));
        }
    }

    /// Does work at once where that is right; gives it back otherwise.
    fn do_here(&self, work: Work) -> Option<Work> {
        if !self.here.load(Ordering::Relaxed) || !matches!(work, Work::Append(..)) {
            return Some(work);
        }
        let Ok(mut slot) = self.desk.clerk.try_lock() else { return Some(work) };
        // What the thread has not finished comes first.
        let busy = self.desk.waiting.load(Ordering::SeqCst) > 0;
        let Some(clerk) = slot.as_mut().filter(|_| !busy) else { return Some(work) };
        let (mut group, left) = clerk.collect(work, || None);
        let written = clerk.write(&mut group.records);
        let wants_spare = clerk.wants_spare();
        drop(slot);
        // Who appends must not be held up: reads go on beside what waits for room.
        if written.as_ref().is_err_and(is_full) {
            return group.into_append();
        }
        group.finish(&written);
        if wants_spare {
            self.send(Work::Prepare);
        }
        left
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Work {
    fn finish(self, result: &io::Result<()>) {
        let result = match result {
            Ok(()) => Ok(()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        match self {
            Self::Append(_, done) | Self::Vote(_, done) | Self::Purge(_, done) => done(result),
            Self::Prepare | Self::Close => {}
        }
    }
}

/// What is written and synced at once, and who is told.
#[derive(Default)]
struct Group {
    records: Vec<Record>,
    waiting: Vec<Work>,
}

impl Group {
    /// A group of one append, as it was given.
    fn into_append(mut self) -> Option<Work> {
        match self.waiting.pop() {
            Some(Work::Append(_, done)) => Some(Work::Append(self.records, done)),
            other => other,
        }
    }

    fn finish(self, result: &io::Result<()>) {
        if let Err(error) = result {
            tracing::error!("writing the log failed, no write is possible from now on: {error}");
        }
        for work in self.waiting {
            work.finish(result);
        }
    }
}

/// Whether nothing was done for want of room, so that it can be done later.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Who works: the log and what is counted of it.
struct Clerk {
    log: Log,
    committed: Arc<Mutex<Option<LogId>>>,
    stats: Arc<LogStats>,
    /// When there was no room for a spare segment.
    no_spare_since: Option<Instant>,
}

impl Desk {
    /// The thread.
    fn run(&self, inbox: &Receiver<Work>) {
        let mut next = None;
        while let Some(first) = next.take().or_else(|| inbox.recv().ok()) {
            let taken = Cell::new(1);
            {
                let mut slot = self.lock();
                let Some(clerk) = slot.as_mut() else { return };
                let more = || {
                    let more = inbox.try_recv().ok()?;
                    taken.set(taken.get() + 1);
                    Some(more)
                };
                match first {
                    Work::Purge(id, done) => clerk.purge(id, done),
                    Work::Prepare => {}
                    Work::Close => return close(&mut slot),
                    first => {
                        let (group, left) = clerk.collect(first, more);
                        self.write(clerk, group);
                        next = left;
                    }
                }
                if next.is_none() {
                    clerk.prepare();
                }
            }
            // What is left for the next turn is not finished.
            let finished = taken.get() - usize::from(next.is_some());
            self.waiting.fetch_sub(finished, Ordering::SeqCst);
        }
    }

    /// Writes a group, as soon as there is room for it.
    fn write(&self, clerk: &mut Clerk, mut group: Group) {
        let written = loop {
            let written = clerk.write(&mut group.records);
            let Err(error) = written.as_ref() else { break written };
            if !is_full(error) || self.closing.load(Ordering::SeqCst) {
                break written;
            }
            if !self.full.send_replace(true) {
                tracing::error!(
                    "the disk is full: writes wait until there is room, reads go on, and nothing \
                     is lost ({error})"
                );
            }
            std::thread::park_timeout(ROOM_AGAIN);
        };
        if written.is_ok() && self.full.send_if_modified(std::mem::take) {
            tracing::info!("there is room on the disk again: what waited is written");
        }
        group.finish(&written);
    }

    fn at_once(&self, work: Work) -> Option<Work> {
        let mut slot = self.lock();
        let Some(clerk) = slot.as_mut() else { return Some(work) };
        match work {
            Work::Purge(id, done) => clerk.purge(id, done),
            Work::Prepare => {}
            Work::Close => {
                close(&mut slot);
                return None;
            }
            first => {
                let (mut group, _) = clerk.collect(first, || None);
                let written = clerk.write(&mut group.records);
                group.finish(&written);
            }
        }
        clerk.prepare();
        None
    }
}

/// Closes the log.
fn close(slot: &mut Option<Clerk>) {
    let Some(mut clerk) = slot.take() else { return };
    // Best effort: a log without it is as good.
    if let Err(error) = clerk.write(&mut vec![Record::Closed]) {
        tracing::warn!("the log was not closed in order: {error}");
    }
}

impl Clerk {
    fn purge(&mut self, id: LogId, done: Done) {
        let result = self.log.purge(id);
        self.stats.disk_bytes.store(self.log.disk_bytes(), Ordering::Relaxed);
        done(result);
    }

    /// A group of all that waits, and what came that cannot be part of it.
    fn collect(
        &self,
        first: Work,
        waiting_next: impl Fn() -> Option<Work>,
    ) -> (Group, Option<Work>) {
        let mut group = Group::default();
        let mut bytes = 0;
        let mut candidate = Some(first);
        loop {
            match candidate {
                Some(Work::Append(mut new, done)) => {
                    bytes += new.iter().map(record_size).sum::<usize>();
                    group.records.append(&mut new);
                    group.waiting.push(Work::Append(Vec::new(), done));
                }
                Some(Work::Vote(vote, done)) => {
                    let state = LogState { vote: Some(vote), ..self.state(&group.records) };
                    group.records.push(Record::State(state));
                    group.waiting.push(Work::Vote(vote, done));
                }
                other => return (group, other),
            }
            candidate = match bytes < GROUP_BYTES_MAX {
                true => waiting_next(),
                false => None,
            };
        }
    }

    /// The hard state as it will be after `records`.
    fn state(&self, records: &[Record]) -> LogState {
        let newest = records.iter().rev().find_map(|record| match record {
            Record::State(state) => Some(*state),
            _ => None,
        });
        let committed = *self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        LogState { committed, ..newest.unwrap_or_else(|| self.log.index.state()) }
    }

    /// Writes and syncs records as a group. Where it [`is_full`], they are as they were.
    fn write(&mut self, records: &mut Vec<Record>) -> io::Result<()> {
        let given = records.len();
        let state = self.state(records);
        if state != self.log.index.state() {
            records.push(Record::State(state));
        }
        let start = Instant::now();
        let written = self.log.append(records);
        if written.is_err() {
            records.truncate(given);
        }
        let bytes = written?;
        let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let stats = &self.stats;
        stats.groups.fetch_add(1, Ordering::Relaxed);
        stats.bytes.fetch_add(bytes, Ordering::Relaxed);
        let payload: usize = records.iter().map(record_size).sum();
        stats.payload_bytes.fetch_add(payload as u64, Ordering::Relaxed);
        stats.write_nanos.fetch_add(nanos, Ordering::Relaxed);
        stats.write_nanos_max.fetch_max(nanos, Ordering::Relaxed);
        Ok(())
    }

    fn wants_spare(&self) -> bool {
        let tried = self.no_spare_since.is_some_and(|since| since.elapsed() < SPARE_AGAIN);
        self.log.wants_spare() && !tried
    }

    /// Uses a quiet moment for what a later append would have to wait for.
    fn prepare(&mut self) {
        if !self.wants_spare() {
            return;
        }
        let made = self.log.make_spare();
        self.no_spare_since = made.is_err().then(Instant::now);
        match made {
            Ok(()) => self.stats.disk_bytes.store(self.log.disk_bytes(), Ordering::Relaxed),
            Err(error) => tracing::warn!("no spare log segment could be made: {error}"),
        }
    }
}

fn record_size(record: &Record) -> usize {
    match record {
        Record::Entry(_, bytes) => bytes.len(),
        Record::Truncate(_) | Record::State(_) | Record::Closed => 8,
    }
}

//! The one thread that writes the log: everything that has come in while the
//! last group was synced becomes the next group. Where a server is alone, who
//! appends does the thread's work if it has none (see [`Writer::write_here`]).
//! A log whose disk takes no time (in tests) is always written at once, so that
//! what happens is the same in every run.

use std::{
    cell::Cell,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::Instant,
};

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
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Option<Clerk>> {
        self.clerk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A group is closed once it holds so many bytes, so that the first of those
/// who wait is not kept waiting by the last.
const GROUP_BYTES_MAX: usize = 1 << 20;

impl Writer {
    /// Starts the thread, which works until [`Self::close`].
    pub(crate) fn start(log: Log) -> io::Result<Self> {
        let index = log.index();
        let committed = Arc::new(Mutex::new(index.state().committed));
        let stats = Arc::new(LogStats::default());
        stats.disk_bytes.store(log.disk_bytes(), Ordering::Relaxed);
        let takes_time = log.takes_time();
        let clerk = Clerk { log, committed: committed.clone(), stats: stats.clone() };
        let desk =
            Arc::new(Desk { clerk: Mutex::new(Some(clerk)), waiting: AtomicUsize::default() });
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

    /// Writes all that was given, then a closing record, and takes no more.
    pub(crate) fn close(&self) {
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
        let left = clerk.write_group(work, || None);
        let wants_spare = clerk.log.wants_spare();
        drop(slot);
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

/// Who works: the log and what is counted of it.
struct Clerk {
    log: Log,
    committed: Arc<Mutex<Option<LogId>>>,
    stats: Arc<LogStats>,
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
                    first => next = clerk.write_group(first, more),
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
            first => drop(clerk.write_group(first, || None)),
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

    /// Writes one group of all that waits. Returns what came that cannot be
    /// part of it.
    fn write_group(
        &mut self,
        first: Work,
        waiting_next: impl Fn() -> Option<Work>,
    ) -> Option<Work> {
        let mut records = Vec::new();
        let mut waiting = Vec::new();
        let mut bytes = 0;
        let mut candidate = Some(first);
        let left = loop {
            match candidate {
                Some(Work::Append(mut new, done)) => {
                    bytes += new.iter().map(record_size).sum::<usize>();
                    records.append(&mut new);
                    waiting.push(Work::Append(Vec::new(), done));
                }
                Some(Work::Vote(vote, done)) => {
                    let state = LogState { vote: Some(vote), ..self.state(&records) };
                    records.push(Record::State(state));
                    waiting.push(Work::Vote(vote, done));
                }
                other => break other,
            }
            candidate = match bytes < GROUP_BYTES_MAX {
                true => waiting_next(),
                false => None,
            };
        };
        let result = self.write(&mut records);
        if let Err(error) = &result {
            tracing::error!("writing the log failed, no write is possible from now on: {error}");
        }
        for work in waiting {
            work.finish(&result);
        }
        left
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

    fn write(&mut self, records: &mut Vec<Record>) -> io::Result<()> {
        let state = self.state(records);
        if state != self.log.index.state() {
            records.push(Record::State(state));
        }
        let start = Instant::now();
        let bytes = self.log.append(records)?;
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

    /// Uses a quiet moment for what a later append would have to wait for.
    fn prepare(&mut self) {
        if self.log.wants_spare() {
            match self.log.make_spare() {
                Ok(()) => {
                    self.stats.disk_bytes.store(self.log.disk_bytes(), Ordering::Relaxed);
                }
                Err(error) => tracing::warn!("no spare log segment could be made: {error}"),
            }
        }
    }
}

fn record_size(record: &Record) -> usize {
    match record {
        Record::Entry(_, bytes) => bytes.len(),
        Record::Truncate(_) | Record::State(_) | Record::Closed => 8,
    }
}

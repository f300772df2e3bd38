//! The one thread that writes the log: everything that has come in while the
//! last group was synced becomes the next group. A log whose disk takes no time
//! (in tests) is written at once instead, so that what happens is the same in
//! every run.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::Instant,
};

use super::{Index, Log, Record};
use crate::proto::raft_v1::{LogId, LogState, Vote};

/// Called from the writer's thread once the work is on disk, or failed.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

enum Work {
    Append(Vec<Record>, Done),
    Vote(Vote, Done),
    Purge(LogId, Done),
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
    worker: Worker,
    committed: Arc<Mutex<Option<LogId>>>,
    pub(crate) index: Index,
    pub(crate) stats: Arc<LogStats>,
}

/// A group is closed once it holds so many bytes, so that the first of those
/// who wait is not kept waiting by the last.
const GROUP_BYTES_MAX: usize = 1 << 20;

impl Writer {
    /// Starts the thread, which owns the log until [`Self::close`].
    pub(crate) fn start(log: Log) -> io::Result<Self> {
        let (work, inbox) = channel();
        let index = log.index();
        let committed = Arc::new(Mutex::new(index.state().committed));
        let stats = Arc::new(LogStats::default());
        let takes_time = log.takes_time();
        let thread = Thread { log, committed: committed.clone(), stats: stats.clone() };
        let worker = match takes_time {
            false => Worker::Here(Mutex::new(Some(Box::new(thread)))),
            true => {
                let thread = std::thread::Builder::new()
                    .name("raft-log".into())
                    .stack_size(256 << 10)
                    .spawn(move || thread.run(&inbox))?;
                Worker::Thread(work, Mutex::new(Some(thread)))
            }
        };
        Ok(Self { worker, committed, index, stats })
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
        match &self.worker {
            Worker::Here(_) => self.send(Work::Close),
            Worker::Thread(_, thread) => {
                let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(thread) = thread {
                    self.send(Work::Close);
                    if thread.join().is_err() {
                        tracing::error!("the log's thread panicked");
                    }
                }
            }
        }
    }

    fn send(&self, work: Work) {
        let refused = match &self.worker {
            Worker::Thread(sender, _) => sender.send(work).err().map(|refused| refused.0),
            Worker::Here(thread) => {
                let mut thread = thread.lock().unwrap_or_else(PoisonError::into_inner);
                match (&mut *thread, work) {
                    (None, work) => Some(work),
                    (slot @ Some(_), Work::Close) => {
                        if let Some(mut thread) = slot.take() {
                            thread.close();
                        }
                        None
                    }
                    (Some(thread), work) => {
                        thread.at_once(work);
                        None
                    }
                }
            }
        };
        if let Some(refused) = refused {
            refused.finish(&Err(io::Error::other("the log is closed")));
        }
    }
}

/// Who does the work.
enum Worker {
    Thread(Sender<Work>, Mutex<Option<JoinHandle<()>>>),
    Here(Mutex<Option<Box<Thread>>>),
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
            Self::Close => {}
        }
    }
}

struct Thread {
    log: Log,
    committed: Arc<Mutex<Option<LogId>>>,
    stats: Arc<LogStats>,
}

impl Thread {
    fn run(mut self, inbox: &Receiver<Work>) {
        self.stats.disk_bytes.store(self.log.disk_bytes(), Ordering::Relaxed);
        let mut next = None;
        while let Some(first) = next.take().or_else(|| inbox.recv().ok()) {
            match first {
                Work::Purge(id, done) => self.purge(id, done),
                Work::Close => return self.close(),
                first => next = self.write_group(first, || inbox.try_recv().ok()),
            }
            if next.is_none() {
                self.prepare();
            }
        }
    }

    fn at_once(&mut self, work: Work) {
        match work {
            Work::Purge(id, done) => self.purge(id, done),
            Work::Close => self.close(),
            first => drop(self.write_group(first, || None)),
        }
        self.prepare();
    }

    fn purge(&mut self, id: LogId, done: Done) {
        let result = self.log.purge(id);
        self.stats.disk_bytes.store(self.log.disk_bytes(), Ordering::Relaxed);
        done(result);
    }

    fn close(&mut self) {
        // Best effort: a log without it is as good.
        if let Err(error) = self.write(&mut vec![Record::Closed]) {
            tracing::warn!("the log was not closed in order: {error}");
        }
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

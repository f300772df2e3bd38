//! openraft's view of the durable log.
//!
//! Entries are readable as soon as they were given to the writer: those not
//! yet applied wait in memory, older ones are read back from the disk.

use std::{
    collections::VecDeque,
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use openraft::{
    EntryPayload, LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};
use prost::Message;
use tokio::sync::oneshot;

use super::types::{
    Entry, LogId, Types, Vote, from_entry, from_log_id, from_vote, to_entry, to_log_id, to_vote,
};
use crate::log::{
    Record,
    writer::{Done, Writer},
};

/// A message to a follower is closed once it holds so many bytes of entries.
const MESSAGE_BYTES: usize = 1 << 20;
/// Entries that are read for a message before their size is known.
const ENTRIES_AT_ONCE: u64 = 8;

/// The log; clones share it.
#[derive(Clone)]
pub(crate) struct LogStore {
    writer: Arc<Writer>,
    recent: Arc<Mutex<Recent>>,
}

/// What is ahead of the disk.
struct Recent {
    /// Not yet known to be applied, without gaps.
    entries: VecDeque<Entry>,
    last: Option<LogId>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    applied: Option<u64>,
}

impl LogStore {
    pub(crate) fn new(writer: Arc<Writer>) -> Self {
        let state = writer.index.state();
        let purged = state.purged.as_ref().map(from_log_id);
        let recent = Recent {
            entries: VecDeque::new(),
            last: writer.index.last().as_ref().map(from_log_id).or(purged),
            purged,
            vote: state.vote.as_ref().map(from_vote),
            applied: None,
        };
        Self { writer, recent: Arc::new(Mutex::new(recent)) }
    }

    /// Entries up to this index will hardly be read again.
    pub(crate) fn applied(&self, index: u64) {
        let mut recent = self.lock();
        recent.applied = Some(index);
        // Only what is on disk too can be read back.
        let on_disk = self.writer.index.range().end;
        while recent
            .entries
            .front()
            .is_some_and(|entry| entry.log_id.index <= index && entry.log_id.index < on_disk)
        {
            recent.entries.pop_front();
        }
        // A burst leaves a large ring behind otherwise.
        if recent.entries.is_empty() && recent.entries.capacity() > 64 {
            recent.entries = VecDeque::new();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for work that is given to the writer.
    async fn done(&self, start: impl FnOnce(&Writer, Done)) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        start(
            &self.writer,
            Box::new(move |result| {
                // Nobody waits any more: then nobody needs to know.
                let _ = sender.send(result);
            }),
        );
        receiver.await.map_err(|_| io::Error::other("the log is closed"))?
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let (first_recent, recent): (u64, Vec<Entry>) = {
            let recent = self.lock();
            let first = recent.entries.front().map_or(u64::MAX, |entry| entry.log_id.index);
            let in_range = |entry: &&Entry| (start..end).contains(&entry.log_id.index);
            (first, recent.entries.iter().filter(in_range).cloned().collect())
        };
        if start >= first_recent.min(end) {
            return Ok(recent);
        }
        let index = self.writer.index.clone();
        let older = start..end.min(first_recent);
        // The file is in the page cache or nearly so; a read of a few groups is
        // not worth a thread of its own.
        let mut entries: Vec<Entry> =
            index.read(older)?.into_iter().map(from_entry).collect::<io::Result<_>>()?;
        entries.extend(recent);
        Ok(entries)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        let (mut next, mut bytes) = (start, 0);
        while next < end && bytes < MESSAGE_BYTES {
            let some = self.try_get_log_entries(next..end.min(next + ENTRIES_AT_ONCE)).await?;
            let Some(last) = some.last() else { break };
            next = last.log_id.index + 1;
            for entry in some {
                if bytes >= MESSAGE_BYTES {
                    break;
                }
                bytes += match &entry.payload {
                    EntryPayload::Normal(data) => data.0.len(),
                    EntryPayload::Blank | EntryPayload::Membership(_) => 256,
                };
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.lock().vote)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let recent = self.lock();
        Ok(LogState { last_purged_log_id: recent.purged, last_log_id: recent.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.done(|writer, done| writer.vote(to_vote(vote), done)).await?;
        self.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.writer.committed(committed.as_ref().map(to_log_id));
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.writer.index.state().committed.as_ref().map(from_log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        {
            let mut recent = self.lock();
            for entry in entries {
                let bytes: Bytes = to_entry(&entry).encode_to_vec().into();
                records.push(Record::Entry(to_log_id(&entry.log_id), bytes));
                recent.last = Some(entry.log_id);
                recent.entries.push_back(entry);
            }
        }
        self.writer.append(records, Box::new(move |result| callback.io_completed(result)));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |last| last.index + 1);
        {
            let mut recent = self.lock();
            while recent.entries.back().is_some_and(|entry| entry.log_id.index >= from) {
                recent.entries.pop_back();
            }
            recent.last = last.or(recent.purged);
        }
        self.done(|writer, done| writer.append(vec![Record::Truncate(from)], done)).await
    }

    async fn purge(&mut self, id: LogId) -> io::Result<()> {
        {
            let mut recent = self.lock();
            recent.purged = recent.purged.max(Some(id));
            while recent.entries.front().is_some_and(|entry| entry.log_id.index <= id.index) {
                recent.entries.pop_front();
            }
            if recent.last.is_none_or(|last| last.index <= id.index) {
                recent.last = Some(id);
            }
        }
        self.done(|writer, done| writer.purge(to_log_id(&id), done)).await
    }
}

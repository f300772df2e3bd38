//! The durable log: segments of groups of records, and what they add up to.
//!
//! [`Log`] is synchronous and has one owner, who appends; [`Index`] is its
//! shared reading side. Nothing here knows what an entry does.
//!
//! At most one group is not yet synced at any time. So a group that is not
//! whole is one that a crash interrupted if, and only if, nothing valid follows
//! it: then it is cut off. Anything else that does not read back is damage, and
//! the log refuses to open rather than lose what was acknowledged.

#[cfg(test)]
mod crash_test;
mod format;
mod recover;
mod segment;
pub(crate) mod writer;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use prost::Message;

use crate::{
    disk::Disk,
    proto::raft_v1::{Entry, LogId, LogState},
    seal::NodeKey,
};
pub(crate) use recover::identity;
use segment::{Segment, segment_name, spare_name};

/// What tells this log from others, and how large its files are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogOptions {
    pub(crate) cluster: [u8; 16],
    pub(crate) node: u64,
    /// The size of a segment, header included; a multiple of 4 KiB.
    pub(crate) segment_bytes: u64,
    /// The size of the very first segment, so that a first start is quick.
    pub(crate) first_segment_bytes: u64,
}

/// A record, as its writer sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    /// The next entry; its bytes are a [`Entry`].
    Entry(LogId, Bytes),
    /// Entries from this index on are void.
    Truncate(u64),
    /// Replaces all hard state but what is in entries.
    State(LogState),
    /// The log was closed in order.
    Closed,
}

/// The types of records on disk.
mod kind {
    pub(super) const ENTRY: u32 = 1;
    pub(super) const TRUNCATE: u32 = 2;
    pub(super) const STATE: u32 = 3;
    pub(super) const CLOSED: u32 = 4;
}

impl Record {
    fn kind(&self) -> u32 {
        match self {
            Self::Entry(..) => kind::ENTRY,
            Self::Truncate(_) => kind::TRUNCATE,
            Self::State(_) => kind::STATE,
            Self::Closed => kind::CLOSED,
        }
    }

    fn payload(&self) -> Bytes {
        match self {
            Self::Entry(_, bytes) => bytes.clone(),
            Self::Truncate(from) => Bytes::copy_from_slice(&from.to_le_bytes()),
            Self::State(state) => state.encode_to_vec().into(),
            Self::Closed => Bytes::new(),
        }
    }

    /// `None` for an unknown type; an error where a known one does not parse.
    fn decode(kind: u32, payload: Bytes) -> Option<Result<Self, prost::DecodeError>> {
        Some(match kind {
            kind::ENTRY => Entry::decode(payload.clone()).and_then(|entry| match entry.id {
                Some(id) => Ok(Self::Entry(id, payload)),
                None => Err(malformed("an entry without an ID")),
            }),
            kind::TRUNCATE => match <[u8; 8]>::try_from(&payload[..]) {
                Ok(from) => Ok(Self::Truncate(u64::from_le_bytes(from))),
                Err(_) => Err(malformed("a truncation that is not 8 bytes")),
            },
            kind::STATE => LogState::decode(payload).map(Self::State),
            kind::CLOSED => Ok(Self::Closed),
            _ => return None,
        })
    }
}

fn malformed(what: &'static str) -> prost::DecodeError {
    #[expect(deprecated, reason = "the only constructor that prost offers")]
    prost::DecodeError::new(what)
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    segment: u64,
    group: u64,
}

/// The reading side of a log, shared with its owner.
#[derive(Clone, Default)]
pub(crate) struct Index {
    inner: Arc<Mutex<IndexInner>>,
}

#[derive(Default)]
struct IndexInner {
    /// The index of the first entry in `entries`.
    first: u64,
    entries: VecDeque<(LogId, Place)>,
    state: LogState,
    segments: BTreeMap<u64, Arc<Segment>>,
}

impl IndexInner {
    /// The index after the last entry.
    fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Takes in a record that is on disk at `place`. The error says what does
    /// not fit.
    fn take(&mut self, record: &Record, place: Place) -> Result<(), String> {
        match record {
            Record::Entry(id, _) => {
                if self.entries.is_empty() {
                    self.first = id.index;
                } else if id.index != self.next() {
                    return Err(format!("entry {} follows entry {}", id.index, self.next() - 1));
                }
                self.entries.push_back((*id, place));
            }
            Record::Truncate(from) => {
                let keep = from.saturating_sub(self.first);
                self.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
            }
            Record::State(state) => {
                self.state = *state;
                // A snapshot from elsewhere went past the end of this log.
                if state.purged.is_some_and(|purged| purged.index + 1 >= self.next()) {
                    self.entries.clear();
                }
            }
            Record::Closed => {}
        }
        Ok(())
    }

    /// Forgets the entries that the state says are gone.
    fn drop_purged(&mut self) {
        let Some(purged) = self.state.purged else { return };
        while self.entries.front().is_some_and(|(id, _)| id.index <= purged.index) {
            self.entries.pop_front();
            self.first += 1;
        }
    }
}

impl Index {
    fn lock(&self) -> MutexGuard<'_, IndexInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hard state on disk.
    pub(crate) fn state(&self) -> LogState {
        self.lock().state
    }

    /// The last entry on disk.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.lock().entries.back().map(|(id, _)| *id)
    }

    /// The indexes of the entries on disk.
    pub(crate) fn range(&self) -> Range<u64> {
        let inner = self.lock();
        inner.first..inner.next()
    }

    /// Reads entries from disk, as many of the range as there are.
    ///
    /// # Errors
    /// Where the disk fails or what it gives is not what was written.
    pub(crate) fn read(&self, range: Range<u64>) -> io::Result<Vec<Entry>> {
        let wanted: Vec<(LogId, Place, Arc<Segment>)> = {
            let inner = self.lock();
            let start = range.start.max(inner.first);
            let end = range.end.min(inner.next());
            (start..end)
                .filter_map(|index| {
                    let at = usize::try_from(index - inner.first).ok()?;
                    let (id, place) = *inner.entries.get(at)?;
                    Some((id, place, inner.segments.get(&place.segment)?.clone()))
                })
                .collect()
        };
        let mut entries = Vec::with_capacity(wanted.len());
        let mut open: Option<(Place, Vec<Record>)> = None;
        for (id, place, segment) in wanted {
            if open.as_ref().is_none_or(|(at, _)| *at != place) {
                open = Some((place, segment.read_group(place.group)?));
            }
            let records = open.as_ref().map_or(&[][..], |(_, records)| records);
            let found = records.iter().find_map(|record| match record {
                Record::Entry(other, bytes) if *other == id => Some(bytes.clone()),
                _ => None,
            });
            let bytes = found.ok_or_else(|| io::Error::other("an entry is not where it was"))?;
            entries.push(Entry::decode(bytes).map_err(io::Error::other)?);
        }
        Ok(entries)
    }
}

/// The writing side; see the module's words above.
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    key: NodeKey,
    options: LogOptions,
    index: Index,
    /// The segment that is written, and where its next group goes.
    tail: Arc<Segment>,
    tail_end: u64,
    next_sequence: u64,
    /// Segments that are no longer needed and can be written again.
    spares: Vec<String>,
    /// A write or sync failed: what is on disk is no longer known, and a later
    /// sync that succeeds would prove nothing.
    broken: bool,
}

/// Spare segments kept for recycling; more are removed.
const SPARES_MAX: usize = 2;

impl Log {
    /// The reading side.
    pub(crate) fn index(&self) -> Index {
        self.index.clone()
    }

    /// Writes the records as one group and syncs it. When this returns they
    /// are on disk.
    ///
    /// # Errors
    /// Where there is no room (`StorageFull`, `QuotaExceeded`) nothing was written that
    /// counts, and the same can be tried again. After any other error the log takes no
    /// more writes: it must be opened again.
    pub(crate) fn append(&mut self, records: &[Record]) -> io::Result<u64> {
        if self.broken {
            return Err(io::Error::other("an earlier write to the log failed"));
        }
        let written = self.try_append(records);
        self.broken = written.as_ref().is_err_and(|error| !writer::is_full(error));
        written
    }

    fn try_append(&mut self, records: &[Record]) -> io::Result<u64> {
        let payloads: Vec<Bytes> = records.iter().map(Record::payload).collect();
        let plain: usize = payloads.iter().map(|bytes| format::record_bytes(bytes.len())).sum();
        if self.tail_end + format::sealed_group_bytes(plain) > self.tail.len {
            self.roll(plain)?;
        }
        let mut body = Vec::with_capacity(plain + 256);
        if self.tail_end == format::BLOCK_BYTES {
            // A segment can go as soon as later ones have all that is needed.
            let state = Record::State(self.index.state());
            format::push_record(&mut body, state.kind(), &state.payload());
        }
        for (record, payload) in records.iter().zip(&payloads) {
            format::push_record(&mut body, record.kind(), payload);
        }
        let bytes = self.tail.encode_group(body, self.next_sequence)?;
        self.tail.file.write_at(&bytes, self.tail_end)?;
        // After one that failed, for whatever reason, nobody knows what is on the disk.
        self.tail.file.sync().map_err(|error| io::Error::other(error.to_string()))?;
        let place = Place { segment: self.tail.id, group: self.tail_end };
        self.next_sequence += 1;
        self.tail_end += bytes.len() as u64;
        let mut index = self.index.lock();
        for record in records {
            index.take(record, place).map_err(io::Error::other)?;
        }
        Ok(bytes.len() as u64)
    }

    /// Goes on in another segment, with room for so many bytes of records.
    fn roll(&mut self, plain_bytes: usize) -> io::Result<()> {
        // The state record that goes in front is far smaller than a block.
        let need = 2 * format::BLOCK_BYTES + format::sealed_group_bytes(plain_bytes);
        let id = self.tail.id + 1;
        let file = self.take_spare(id, need)?;
        self.tail = Arc::new(self.start_segment(id, file)?);
        self.tail_end = format::BLOCK_BYTES;
        self.index.lock().segments.insert(id, self.tail.clone());
        Ok(())
    }

    /// A file for segment `id` of at least `need` bytes, under a spare's name.
    fn take_spare(&mut self, id: u64, need: u64) -> io::Result<String> {
        let mut chosen = None;
        for (at, name) in self.spares.iter().enumerate() {
            if self.disk.open(name)?.len()? >= need {
                chosen = Some(at);
                break;
            }
        }
        if let Some(at) = chosen {
            return Ok(self.spares.swap_remove(at));
        }
        let name = self.free_name(id);
        let least = need.next_multiple_of(format::BLOCK_BYTES);
        // On a disk that is nearly full a small one is better than none: deletes pass.
        for len in [least.max(self.options.segment_bytes), least] {
            match self.disk.create_zeroed(&name, len) {
                Err(error) if writer::is_full(&error) && len > least => {}
                made => return made.map(|_| name),
            }
        }
        unreachable!("the least is tried last")
    }

    /// A name for a spare that none has: one that was made for a segment may outlive it,
    /// where that took another.
    fn free_name(&self, id: u64) -> String {
        let mut names = (id..).map(spare_name);
        names.find(|name| !self.spares.contains(name)).expect("there are few spares")
    }

    fn start_segment(&self, id: u64, spare: String) -> io::Result<Segment> {
        let file = self.disk.open(&spare)?;
        let segment = Segment::start(file, &self.key, &self.options, id, self.next_sequence)?;
        // The header is on disk before the name says that it is a segment, and
        // the name before the first group.
        self.disk.rename(&spare, &segment_name(id))?;
        self.disk.sync_dir()?;
        Ok(segment)
    }

    /// Whether writes take time; see [`Disk::takes_time`].
    pub(crate) fn takes_time(&self) -> bool {
        self.disk.takes_time()
    }

    /// Whether making a spare segment now would spare a later append the time.
    pub(crate) fn wants_spare(&self) -> bool {
        !self.broken && self.spares.is_empty() && self.tail_end > self.tail.len / 2
    }

    /// Makes a spare segment ahead of its use.
    pub(crate) fn make_spare(&mut self) -> io::Result<()> {
        let name = self.free_name(self.tail.id + 1);
        self.disk.create_zeroed(&name, self.options.segment_bytes)?;
        self.disk.sync_dir()?;
        self.spares.push(name);
        Ok(())
    }

    /// Forgets the entries up to `id`, which a snapshot holds, and recycles the
    /// segments that no other entry needs. Nothing is written where no segment
    /// comes free: the entries are forgotten again at the next purge.
    ///
    /// # Errors
    /// As [`Self::append`], but on a full disk segments come free with a later purge.
    pub(crate) fn purge(&mut self, id: LogId) -> io::Result<()> {
        let state = LogState { purged: Some(id), ..self.index.state() };
        let free: Vec<u64> = {
            let mut index = self.index.lock();
            index.state = state;
            if id.index + 1 >= index.next() {
                index.entries.clear();
            }
            index.drop_purged();
            let needed = index.entries.front().map_or(self.tail.id, |(_, place)| place.segment);
            index.segments.range(..needed.min(self.tail.id)).map(|(id, _)| *id).collect()
        };
        if free.is_empty() {
            return Ok(());
        }
        match self.append(&[Record::State(state)]) {
            Err(error) if writer::is_full(&error) => return Ok(()),
            written => written?,
        };
        for id in free {
            self.index.lock().segments.remove(&id);
            self.recycle(id)?;
        }
        self.disk.sync_dir()
    }

    fn recycle(&mut self, id: u64) -> io::Result<()> {
        let name = segment_name(id);
        let usable = self.disk.open(&name)?.len()? == self.options.segment_bytes;
        if usable && self.spares.len() < SPARES_MAX {
            let spare = self.free_name(id);
            self.disk.rename(&name, &spare)?;
            self.spares.push(spare);
            Ok(())
        } else {
            self.disk.remove(&name)
        }
    }

    /// The space that segments and spares take on the disk, in bytes.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let segments: u64 = self.index.lock().segments.values().map(|segment| segment.len).sum();
        segments + self.spares.len() as u64 * self.options.segment_bytes
    }
}

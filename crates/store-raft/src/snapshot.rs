//! Snapshots: the whole state in one sealed file.
//!
//! ```text
//! file    = magic 8, format u32, key u32, wrapped key 60, crc32, frame, …
//! frame   = length u32, crc32 of the rest, nonce 12, sealed section
//! section = type u32, length u32, payload
//! ```
//!
//! The sections are, in order: what the snapshot stands for, the state's head,
//! items, events (newest first), the end. Types above [`OPTIONAL`] may be
//! skipped by a reader that does not know them; other unknown ones are refused.
//! A file gets its name only once it is whole and on disk, and the frame's
//! number is sealed with it, so frames cannot be moved or left out.

use std::{collections::HashMap, io, sync::Arc};

use bytes::Bytes;
use prost::Message;
use store::{Event, EventKind, Image, Item, Key, Revision, Value};

use crate::{
    codec::to_item,
    disk::{Disk, DiskFile},
    proto::{raft_v1::SnapshotMeta, store_v1 as pb},
    seal::{NONCE_BYTES, NodeKey, Sealer, WRAPPED_BYTES},
};

const MAGIC: &[u8; 8] = b"SKIFFSNP";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 8 + 4 + 4 + WRAPPED_BYTES + 4;
const FRAME_HEAD_BYTES: usize = 8 + NONCE_BYTES;
/// Sections are closed once they hold so many bytes.
const SECTION_BYTES: usize = 256 << 10;
/// No frame is longer: one object and its history fit many times.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// Section types from here on may be skipped.
const OPTIONAL: u32 = 1 << 31;

pub(crate) mod kind {
    pub(super) const META: u32 = 1;
    pub(super) const HEAD: u32 = 2;
    pub(super) const ITEMS: u32 = 3;
    pub(super) const EVENTS: u32 = 4;
    pub(super) const END: u32 = 5;
    /// Of a backup only, see there.
    pub(crate) const BACKUP: u32 = 6;
    pub(crate) const FILES: u32 = 7;
}

/// A snapshot in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) meta: SnapshotMeta,
    pub(crate) base: u64,
    pub(crate) feature_level: u32,
    pub(crate) image: Image,
}

/// Why a snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the snapshot {file} is damaged: {what}")]
    Damaged { file: String, what: String },
}

/// The name of a snapshot that holds the entries up to `index`.
pub(crate) fn name(index: u64) -> String {
    format!("snapshot-{index:016x}")
}

/// The index that a file name stands for.
pub(crate) fn index_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix("snapshot-")?, 16).ok()
}

/// What has no name of its own yet.
const PARTIAL: &str = "partial-snapshot";

/// Writes a snapshot, gives it its name and removes older ones. Returns its
/// size in bytes.
pub(crate) fn save(disk: &dyn Disk, key: &NodeKey, snapshot: &Snapshot) -> io::Result<u64> {
    let saved = try_save(disk, key, snapshot);
    if saved.is_err() {
        // It may have taken the last room.
        let _ = disk.remove(PARTIAL);
    }
    saved
}

fn try_save(disk: &dyn Disk, key: &NodeKey, snapshot: &Snapshot) -> io::Result<u64> {
    let index = snapshot.meta.last.map_or(0, |last| last.index);
    let (sealer, wrapped) = key.new_file_key()?;
    let mut out = Frames::new(disk.create(PARTIAL)?, sealer);
    out.raw(&header(key, &wrapped))?;
    write_sections(&mut out, snapshot)?;
    out.file.sync()?;
    publish(disk, PARTIAL, index)?;
    Ok(out.offset)
}

fn header(key: &NodeKey, wrapped: &[u8; WRAPPED_BYTES]) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&FORMAT.to_le_bytes());
    header.extend_from_slice(&key.id.to_le_bytes());
    header.extend_from_slice(wrapped);
    header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
    header
}

/// Gives a whole and synced file its name, then removes older snapshots; or, where there is
/// a newer one, the file.
fn publish(disk: &dyn Disk, partial: &str, index: u64) -> io::Result<()> {
    if disk.list()?.iter().any(|name| index_of(name).is_some_and(|other| other > index)) {
        return disk.remove(partial);
    }
    disk.rename(partial, &name(index))?;
    disk.sync_dir()?;
    for other in disk.list()?.iter().filter(|name| index_of(name).is_some_and(|i| i < index)) {
        disk.remove(other)?;
    }
    disk.sync_dir()
}

pub(crate) fn write_sections(out: &mut Frames, snapshot: &Snapshot) -> io::Result<()> {
    let image = &snapshot.image;
    out.section(kind::META, &snapshot.meta)?;
    let head = pb::SnapshotHead {
        revision: image.revision.0,
        floor: image.floor.0,
        base: snapshot.base,
        feature_level: snapshot.feature_level,
    };
    out.section(kind::HEAD, &head)?;
    // A value that is in the file already is not written again: most events of
    // the window tell how the present values came to be.
    let mut known: HashMap<u64, ()> = HashMap::new();
    let mut items = pb::Items::default();
    let mut bytes = 0;
    for item in &image.items {
        known.insert(item.revision.0, ());
        bytes += item.value.data.len() + item.key.as_str().len() + 32;
        items.items.push(to_item(item));
        if bytes >= SECTION_BYTES {
            out.section(kind::ITEMS, &std::mem::take(&mut items))?;
            bytes = 0;
        }
    }
    out.section(kind::ITEMS, &items)?;
    let mut events = pb::Events::default();
    bytes = 0;
    for event in image.history.iter().rev() {
        let prev = event.prev.as_ref().map(to_item);
        let put = event.item().map(|item| pb::event::NewValue {
            created: item.created.0,
            item: (!known.contains_key(&item.revision.0)).then(|| to_item(&item)),
        });
        bytes += prev.as_ref().map_or(0, |item| item.data.len()) + 64;
        bytes += put.as_ref().and_then(|put| put.item.as_ref()).map_or(0, |item| item.data.len());
        known.extend(event.prev.as_ref().map(|item| (item.revision.0, ())));
        let (revision, key) = (event.revision.0, event.key.as_str().into());
        events.events.push(pb::Event { revision, key, prev, put });
        if bytes >= SECTION_BYTES {
            out.section(kind::EVENTS, &std::mem::take(&mut events))?;
            bytes = 0;
        }
    }
    out.section(kind::EVENTS, &events)?;
    let (items, events) = (image.items.len() as u64, image.history.len() as u64);
    out.section(kind::END, &pb::SnapshotEnd { items, events })
}

/// Sections on their way into a file.
pub(crate) struct Frames {
    pub(crate) file: Arc<dyn DiskFile>,
    sealer: Sealer,
    pub(crate) offset: u64,
    count: u64,
}

impl Frames {
    pub(crate) fn new(file: Arc<dyn DiskFile>, sealer: Sealer) -> Self {
        Self { file, sealer, offset: 0, count: 0 }
    }

    /// Writes what is no section: the header.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn section(&mut self, kind: u32, message: &impl Message) -> io::Result<()> {
        let len = u32::try_from(message.encoded_len()).map_err(io::Error::other)?;
        let mut section = Vec::with_capacity(message.encoded_len() + 32);
        section.extend_from_slice(&kind.to_le_bytes());
        section.extend_from_slice(&len.to_le_bytes());
        message.encode(&mut section).map_err(io::Error::other)?;
        self.seal(section)
    }

    fn seal(&mut self, mut section: Vec<u8>) -> io::Result<()> {
        let nonce = self.sealer.seal(&mut section, &self.count.to_le_bytes())?;
        self.count += 1;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&nonce);
        crc.update(&section);
        let len = u32::try_from(section.len()).map_err(io::Error::other)?;
        let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + section.len());
        frame.extend_from_slice(&len.to_le_bytes());
        frame.extend_from_slice(&crc.finalize().to_le_bytes());
        frame.extend_from_slice(&nonce);
        frame.extend_from_slice(&section);
        self.raw(&frame)
    }
}

/// Reads the newest snapshot; `None` where there is none.
///
/// # Errors
/// Where it does not read back. An older one is no substitute: the log no
/// longer holds what lies between them.
pub(crate) fn load_newest(
    disk: &dyn Disk,
    key: &NodeKey,
) -> Result<Option<Snapshot>, SnapshotError> {
    let names = disk.list()?;
    let Some(index) = names.iter().filter_map(|name| index_of(name)).max() else {
        return Ok(None);
    };
    let file = name(index);
    let damaged = |what: String| SnapshotError::Damaged { file: file.clone(), what };
    let snapshot = load(&disk.open(&file)?, key).map_err(|error| match error {
        SectionError::Io(error) => SnapshotError::Io(error),
        SectionError::Damaged(what) => damaged(what),
    })?;
    if snapshot.meta.last.map_or(0, |last| last.index) != index {
        return Err(damaged("its name and content disagree".into()));
    }
    Ok(Some(snapshot))
}

fn load(file: &Arc<dyn DiskFile>, key: &NodeKey) -> Result<Snapshot, SectionError> {
    let mut sections = Sections::of(file.clone(), key)?;
    let mut reader = SectionReader::default();
    while !reader.done {
        let at = sections.count;
        let Some(section) = sections.next() else { break };
        let taken = reader.section(&section?);
        taken.map_err(|what| SectionError::Damaged(format!("frame {at}: {what}")))?;
    }
    reader.finish().map_err(SectionError::Damaged)
}

/// Why a section cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damaged(String),
}

/// The sections of a snapshot file in order, open and checked, one at a time.
pub(crate) struct Sections {
    file: Arc<dyn DiskFile>,
    sealer: Sealer,
    len: u64,
    offset: u64,
    count: u64,
}

impl Sections {
    /// The sections of the snapshot up to `index`.
    ///
    /// # Errors
    /// Where there is none, or its header does not read back.
    pub(crate) fn open(disk: &dyn Disk, key: &NodeKey, index: u64) -> Result<Self, SectionError> {
        Self::of(disk.open(&name(index))?, key)
    }

    fn of(file: Arc<dyn DiskFile>, key: &NodeKey) -> Result<Self, SectionError> {
        let len = file.len()?;
        if len < HEADER_BYTES as u64 {
            return Err(SectionError::Damaged("it is cut short".into()));
        }
        let mut header = [0; HEADER_BYTES];
        file.read_at(&mut header, 0)?;
        let sealer = open_header(&header, key).map_err(SectionError::Damaged)?;
        Ok(Self::behind(file, sealer, len, HEADER_BYTES as u64))
    }

    /// Those behind a header that was read already.
    pub(crate) fn behind(file: Arc<dyn DiskFile>, sealer: Sealer, len: u64, offset: u64) -> Self {
        Self { file, sealer, len, offset, count: 0 }
    }

    fn read(&mut self) -> Result<Bytes, SectionError> {
        let damaged = |what: String| Err(SectionError::Damaged(what));
        let count = self.count;
        let mut head = [0; FRAME_HEAD_BYTES];
        self.file.read_at(&mut head, self.offset)?;
        let frame_len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let crc = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        self.offset += FRAME_HEAD_BYTES as u64;
        if frame_len > FRAME_BYTES_MAX || self.offset + frame_len as u64 > self.len {
            return damaged(format!("frame {count} is cut short"));
        }
        let mut frame = vec![0; frame_len];
        self.file.read_at(&mut frame, self.offset)?;
        self.offset += frame_len as u64;
        self.count += 1;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&head[8..]);
        hasher.update(&frame);
        if hasher.finalize() != crc {
            return damaged(format!("frame {count} has a wrong checksum"));
        }
        let nonce: [u8; NONCE_BYTES] = head[8..].try_into().expect("the head is that long");
        match self.sealer.open(&mut frame, nonce, &count.to_le_bytes()) {
            Some(section) => Ok(Bytes::copy_from_slice(section)),
            None => damaged(format!("frame {count} does not open")),
        }
    }
}

impl Iterator for Sections {
    type Item = Result<Bytes, SectionError>;

    /// Ends at the end of the file or after an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.offset + FRAME_HEAD_BYTES as u64 > self.len {
            return None;
        }
        let section = self.read();
        if section.is_err() {
            self.offset = self.len;
        }
        Some(section)
    }
}

/// A snapshot that comes from another member, sealed again under this node's
/// key. It has no name until it is whole and [`Self::keep`] is called.
pub(crate) struct Received {
    out: Frames,
    reader: SectionReader,
}

/// Where a snapshot is while it comes in, and until it is taken over.
const RECEIVED: &str = "partial-received";

impl Received {
    /// Begins; what was received before and not kept is gone.
    pub(crate) fn begin(disk: &dyn Disk, key: &NodeKey) -> io::Result<Self> {
        let (sealer, wrapped) = key.new_file_key()?;
        let mut out = Frames::new(disk.create(RECEIVED)?, sealer);
        out.raw(&header(key, &wrapped))?;
        Ok(Self { out, reader: SectionReader { only_check: true, ..SectionReader::default() } })
    }

    /// Takes the next section.
    pub(crate) fn section(&mut self, section: Bytes) -> Result<(), SectionError> {
        self.reader.section(&section).map_err(SectionError::Damaged)?;
        Ok(self.out.seal(section.into())?)
    }

    /// Makes the whole file last.
    pub(crate) fn finish(self) -> Result<(), SectionError> {
        self.reader.finish().map_err(SectionError::Damaged)?;
        Ok(self.out.file.sync()?)
    }

    /// Gives what was received its name, as the newest snapshot.
    pub(crate) fn keep(disk: &dyn Disk, index: u64) -> io::Result<()> {
        publish(disk, RECEIVED, index)
    }
}

fn open_header(header: &[u8; HEADER_BYTES], key: &NodeKey) -> Result<Sealer, String> {
    let (head, crc) = header.split_at(HEADER_BYTES - 4);
    if !head.starts_with(MAGIC) || crc != crc32fast::hash(head).to_le_bytes() {
        return Err("its header is damaged".into());
    }
    let format = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    if format != FORMAT {
        return Err(format!("it has format {format}: a newer skiff wrote it"));
    }
    let wrapped = head[16..].try_into().expect("the header is that long");
    key.unwrap_file_key(wrapped).ok_or_else(|| "this node's key does not open it".into())
}

/// What a section is, and what is in it.
pub(crate) fn kind_and_payload(section: &[u8]) -> Result<(u32, &[u8]), String> {
    let Some((head, payload)) = section.split_first_chunk::<8>() else {
        return Err("a section is cut short".into());
    };
    let kind = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
    match payload.len() == len {
        true => Ok((kind, payload)),
        false => Err("a section has a wrong length".into()),
    }
}

/// Takes sections in order, and makes a snapshot of them.
#[derive(Default)]
pub(crate) struct SectionReader {
    snapshot: Snapshot,
    /// Counts items and events instead of keeping them.
    only_check: bool,
    counted: (u64, u64),
    values: HashMap<u64, Value>,
    keys: HashMap<String, Key>,
    done: bool,
}

impl SectionReader {
    pub(crate) fn section(&mut self, section: &[u8]) -> Result<(), String> {
        let (kind, payload) = kind_and_payload(section)?;
        self.take(kind, payload).map_err(|error| error.to_string())?;
        let known = matches!(kind, kind::META..=kind::END) || kind >= OPTIONAL;
        if known {
            Ok(())
        } else {
            Err(format!("section type {kind} is not known: a newer skiff wrote it"))
        }
    }

    fn take(&mut self, kind: u32, payload: &[u8]) -> Result<(), prost::DecodeError> {
        match kind {
            kind::META => self.snapshot.meta = SnapshotMeta::decode(payload)?,
            kind::HEAD => {
                let head = pb::SnapshotHead::decode(payload)?;
                self.snapshot.image.revision = Revision(head.revision);
                self.snapshot.image.floor = Revision(head.floor);
                self.snapshot.base = head.base;
                self.snapshot.feature_level = head.feature_level;
            }
            kind::ITEMS => {
                for item in pb::Items::decode(payload)?.items {
                    self.counted.0 += 1;
                    if !self.only_check {
                        let item = self.item(item);
                        self.snapshot.image.items.push(item);
                    }
                }
            }
            kind::EVENTS => {
                for event in pb::Events::decode(payload)?.events {
                    self.counted.1 += 1;
                    if !self.only_check {
                        let event = self.event(event);
                        self.snapshot.image.history.push(Arc::new(event));
                    }
                }
            }
            kind::END => {
                let end = pb::SnapshotEnd::decode(payload)?;
                self.done = (end.items, end.events) == self.counted;
            }
            _ => {}
        }
        Ok(())
    }

    fn item(&mut self, item: pb::Item) -> Item {
        let value = Value { epoch: item.epoch, data: item.data };
        self.values.insert(item.revision, value.clone());
        Item {
            key: self.key(item.key),
            value,
            revision: Revision(item.revision),
            created: Revision(item.created),
        }
    }

    fn event(&mut self, event: pb::Event) -> Event {
        let kind = match event.put {
            None => EventKind::Delete,
            Some(put) => {
                let value = match put.item {
                    Some(item) => self.item(item).value,
                    None => self.values.get(&event.revision).cloned().unwrap_or_default(),
                };
                EventKind::Put { value, created: Revision(put.created) }
            }
        };
        let prev = event.prev.map(|item| self.item(item));
        Event { revision: Revision(event.revision), key: self.key(event.key), kind, prev }
    }

    /// One allocation a key, however many events name it.
    fn key(&mut self, text: String) -> Key {
        if let Some(key) = self.keys.get(&text) {
            return key.clone();
        }
        let key = Key::from_stored(&text);
        self.keys.insert(text, key.clone());
        key
    }

    /// Whether the end has been read.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    pub(crate) fn finish(mut self) -> Result<Snapshot, String> {
        self.snapshot.image.history.reverse();
        if self.done { Ok(self.snapshot) } else { Err("it is cut short".into()) }
    }
}

#[cfg(test)]
mod tests {
    use store::{Limits, Mvcc, Op, Put, Range, Txn};

    use super::*;
    use crate::{
        disk::sim::SimDisk,
        proto::raft_v1::{LeaderId, LogId},
    };

    fn state() -> Mvcc {
        let mut mvcc = Mvcc::new(0, Limits { history_bytes: 9000, ..Limits::default() });
        for index in 1..=60 {
            let key = Key::new("", "pods", "default", &format!("p{}", index % 7));
            let data = format!("value {index} {}", "x".repeat(index as usize)).into();
            let put =
                Put { key: key.clone(), value: Value { epoch: 2, data }, revision_at: Some(0) };
            let op = if index % 11 == 0 { Op::Delete { key } } else { Op::Put(put) };
            let applied = mvcc.apply(index, [Txn { conditions: Vec::new(), ops: vec![op] }]);
            assert!(applied.iter().all(Result::is_ok));
        }
        mvcc
    }

    fn snapshot(mvcc: &Mvcc) -> Snapshot {
        let leader = Some(LeaderId { term: 4, node_id: 5 });
        let meta =
            SnapshotMeta { last: Some(LogId { leader, index: 60 }), ..SnapshotMeta::default() };
        Snapshot { meta, base: 0, feature_level: 1, image: mvcc.image() }
    }

    #[test]
    fn state_and_history_read_back() {
        let (disk, key) = (SimDisk::new(), NodeKey::new(1, &[2; 32]));
        let mvcc = state();
        let snapshot = snapshot(&mvcc);
        assert!(snapshot.image.floor > Revision::ZERO && snapshot.image.history.len() > 10);
        save(&disk, &key, &snapshot).expect("a healthy disk");
        let read = load_newest(&disk, &key).expect("healthy").expect("there");
        assert_eq!(read, snapshot);
        let mut again = Mvcc::new(0, Limits::default());
        again.restore(read.base, read.image);
        let floor = snapshot.image.floor;
        for at in snapshot.image.history.iter().map(|event| event.revision).chain([floor]) {
            let range = Range { at: Some(at), ..Range::all("") };
            assert_eq!(again.range(&range), mvcc.range(&range));
        }
        assert_eq!((again.state_bytes(), again.revision()), (mvcc.state_bytes(), mvcc.revision()));
    }

    #[test]
    fn a_newer_snapshot_replaces_the_older_once_it_is_whole() {
        let (disk, key) = (SimDisk::new(), NodeKey::new(1, &[2; 32]));
        let first = snapshot(&state());
        save(&disk, &key, &first).expect("a healthy disk");
        let begin = disk.step_count();
        let mut second = first.clone();
        second.meta.last = second.meta.last.map(|id| LogId { index: 99, ..id });
        save(&disk, &key, &second).expect("a healthy disk");
        for cut in begin..=disk.step_count() {
            for keep in [false, true] {
                let after = disk.crash_at(cut, 100, keep);
                let found = load_newest(&after, &key).expect("whole").expect("there");
                assert!(found == first || found == second, "cut at step {cut}");
            }
        }
        assert_eq!(disk.list().expect("in memory"), [name(99)]);
    }

    #[test]
    fn damage_anywhere_is_noticed() {
        let (disk, key) = (SimDisk::new(), NodeKey::new(1, &[2; 32]));
        let bytes = save(&disk, &key, &snapshot(&state())).expect("a healthy disk");
        let file = name(60);
        for at in 0..usize::try_from(bytes).expect("small") {
            let damaged = disk.crash_at(disk.step_count(), 0, true);
            damaged.edit(&file, |bytes| bytes[at] ^= 1).expect("there");
            assert!(load_newest(&damaged, &key).is_err(), "byte {at}");
            let cut = disk.crash_at(disk.step_count(), 0, true);
            cut.edit(&file, |bytes| bytes.truncate(at)).expect("there");
            assert!(load_newest(&cut, &key).is_err(), "cut at {at}");
        }
        assert!(load_newest(&disk, &NodeKey::new(1, &[3; 32])).is_err());
    }
}

//! Backups: the state of a cluster in one file, to be carried away and to begin
//! a cluster with on other machines.
//!
//! ```text
//! file = magic 8, format u32, head length u32, head, wrapped key 60, crc32, frame, …
//! ```
//!
//! The head says in the clear what the file is of. Everything else is in frames
//! like a snapshot's, under a key of the file's own that is wrapped by the key
//! that the caller gives. The sections are the head once more, the files that
//! the caller puts beside the state, and a snapshot's; the history is left out,
//! since nobody may go on from a revision of before. A file gets its name only
//! once it is whole and on disk.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use prost::Message as _;
use ring::digest::{SHA256, digest};
use store::{CommitError, Limits, Mvcc, Revision};

pub use crate::proto::store_v1::BackupHead;
use crate::{
    FEATURE_LEVEL, OpenError, OpenOptions, RaftStore, dir,
    disk::{self, Disk, DiskFile, RealDisk},
    proto::{
        raft_v1::{LeaderId, LogId, SnapshotMeta},
        store_v1::{File, Files, Label},
    },
    reset,
    seal::{KEY_BYTES, NodeKey, WRAPPED_BYTES},
    snapshot::{
        Frames, SectionError, SectionReader, Sections, Snapshot, kind, kind_and_payload,
        write_sections,
    },
};

const MAGIC: &[u8; 8] = b"SKIFFBAK";
const FORMAT: u32 = 1;
/// A head is a few hundred bytes.
const HEAD_BYTES_MAX: usize = 1 << 20;

/// What a file is called that is not whole yet: servers may share a folder.
fn partial(name: &str) -> String {
    format!(".{name}.partial")
}

/// What opens backups.
#[derive(Clone)]
pub struct BackupKey([u8; KEY_BYTES]);

impl BackupKey {
    /// From its bytes, which are secret.
    pub fn new(key: [u8; KEY_BYTES]) -> Self {
        Self(key)
    }

    /// What tells it from others, without telling anything of it.
    pub fn id(&self) -> [u8; 8] {
        let hash = digest(&SHA256, &[b"skiff backup key", &self.0[..]].concat());
        hash.as_ref()[..8].try_into().expect("a hash is longer")
    }

    fn wrapping(&self) -> NodeKey {
        NodeKey::new(0, &self.0)
    }
}

/// What a caller adds to the state.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    /// Seconds since 1970.
    pub time: i64,
    /// In the clear: names and values.
    pub labels: Vec<(String, String)>,
    /// Sealed: names and contents.
    pub files: Vec<(String, Bytes)>,
}

/// A backup that was read to its end.
#[derive(Debug)]
pub struct Backup {
    /// What it is of.
    pub head: BackupHead,
    /// What lies beside the state.
    pub files: Vec<(String, Bytes)>,
    snapshot: Snapshot,
}

/// Why a backup cannot be written or read. No store was changed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file cannot be read or written.
    #[error("{}: {error}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The state cannot be had.
    #[error(transparent)]
    Store(#[from] CommitError),
    /// Something else.
    #[error("{} is no snapshot of skiff; `skiff snapshot list` shows those there are", .0.display())]
    Foreign(PathBuf),
    /// Of a later version.
    #[error("{}: a newer skiff wrote it ({what}): use that version, or a later one", .path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// In what it is newer.
        what: String,
    },
    /// It does not read back.
    #[error("{} is damaged: {what}; take another snapshot", .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        what: String,
    },
    /// It was sealed with another key.
    #[error("{}: the key does not open it: it is of the key {}, the given one is {}; give what `skiff snapshot key` printed on a server of its cluster", .path.display(), hex(.theirs), hex(.ours))]
    OtherKey {
        /// Which file.
        path: PathBuf,
        /// Of the file's key.
        theirs: Vec<u8>,
        /// Of the given one.
        ours: Vec<u8>,
    },
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl RaftStore {
    /// Whether a backup has all that this server has.
    pub fn is_in(&self, head: &BackupHead) -> bool {
        let mvcc = self.read();
        let index = mvcc.revision().index(mvcc.base());
        head.cluster_id == self.cluster_id()[..] && head.last_index == index
    }

    /// Writes all that was acknowledged before the call into `dir`/`name`, which
    /// must not be there yet. The directory must be there.
    ///
    /// # Errors
    /// See [`BackupError`]. The file is then not there.
    pub async fn back_up(
        &self,
        dir: &Path,
        name: &str,
        key: &BackupKey,
        beside: Beside,
    ) -> Result<BackupHead, BackupError> {
        use store::Store as _;
        self.read_barrier().await?;
        let term = self.consensus.lead().term;
        let (base, mut image) = {
            // Values are shared with the live state, so this is quick and small.
            let mvcc = self.read();
            (mvcc.base(), mvcc.image())
        };
        image.history.clear();
        image.floor = image.revision;
        let index = image.revision.index(base);
        let leader = Some(LeaderId { term, node_id: self.links.me });
        let cluster_id = Bytes::copy_from_slice(&self.cluster_id());
        let level = self.shared.progress().feature_level;
        let head = BackupHead {
            cluster_id: cluster_id.clone(),
            revision: image.revision.0,
            last_index: index,
            keys: image.items.len() as u64,
            time: beside.time,
            server: self.node.name.clone(),
            version: self.node.version.clone(),
            feature_level: level,
            key_id: Bytes::copy_from_slice(&key.id()),
            labels: (beside.labels.into_iter())
                .map(|(name, value)| Label { name, value })
                .collect(),
        };
        let meta =
            SnapshotMeta { last: Some(LogId { leader, index }), membership: None, cluster_id };
        let snapshot = Snapshot { meta, base, feature_level: level, image };
        let backup = Backup { head: head.clone(), files: beside.files, snapshot };
        let disk = RealDisk::new(dir);
        let path = dir.join(name);
        if path.exists() {
            let error = io::ErrorKind::AlreadyExists.into();
            return Err(BackupError::Io { path, error });
        }
        let (key, name) = (key.clone(), name.to_owned());
        let writing = tokio::task::spawn_blocking(move || write(&disk, &name, &key, &backup));
        let written = writing.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        written.map_err(|error| BackupError::Io { path, error })?;
        Ok(head)
    }
}

fn write(disk: &dyn Disk, name: &str, key: &BackupKey, backup: &Backup) -> io::Result<()> {
    let (sealer, wrapped) = key.wrapping().new_file_key()?;
    let partial = partial(name);
    let mut out = Frames::new(disk.create(&partial)?, sealer);
    let head = backup.head.encode_to_vec();
    let len = u32::try_from(head.len()).map_err(io::Error::other)?;
    let mut header = Vec::with_capacity(head.len() + 128);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&FORMAT.to_le_bytes());
    header.extend_from_slice(&len.to_le_bytes());
    header.extend_from_slice(&head);
    header.extend_from_slice(&wrapped);
    header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
    let written = (|| {
        out.raw(&header)?;
        out.section(kind::BACKUP, &backup.head)?;
        let files = (backup.files.iter())
            .map(|(name, content)| File { name: name.clone(), content: content.clone() })
            .collect();
        out.section(kind::FILES, &Files { files })?;
        write_sections(&mut out, &backup.snapshot)?;
        out.file.sync()?;
        disk.rename(&partial, name)?;
        disk.sync_dir()
    })();
    if written.is_err() {
        // Perhaps the disk is full: what is half a backup is not to keep it so.
        let _ = disk.remove(&partial);
    }
    written
}

struct Opened {
    head: BackupHead,
    wrapped: [u8; WRAPPED_BYTES],
    file: Arc<dyn DiskFile>,
    len: u64,
    offset: u64,
}

/// What the backup at `path` says that it is; nothing behind its head is read.
///
/// # Errors
/// See [`BackupError`].
pub fn read_head(path: &Path) -> Result<BackupHead, BackupError> {
    Ok(open_head(path)?.head)
}

fn open_head(path: &Path) -> Result<Opened, BackupError> {
    let failed = |error| BackupError::Io { path: path.into(), error };
    let damaged = |what: &str| BackupError::Damaged { path: path.into(), what: what.into() };
    let file = disk::open_to_read(path).map_err(failed)?;
    let len = file.len().map_err(failed)?;
    let mut start = [0; 16];
    if len < 16 {
        return Err(BackupError::Foreign(path.into()));
    }
    file.read_at(&mut start, 0).map_err(failed)?;
    if !start.starts_with(MAGIC) {
        return Err(BackupError::Foreign(path.into()));
    }
    let word =
        |at: usize| u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]);
    let format = word(8);
    if format != FORMAT {
        return Err(BackupError::Newer { path: path.into(), what: format!("format {format}") });
    }
    let head_len = word(12) as usize;
    let header_len = 16 + head_len + WRAPPED_BYTES + 4;
    if head_len > HEAD_BYTES_MAX || len < header_len as u64 {
        return Err(damaged("it is cut short"));
    }
    let mut header = vec![0; header_len];
    file.read_at(&mut header, 0).map_err(failed)?;
    let (checked, crc) = header.split_at(header_len - 4);
    if crc != crc32fast::hash(checked).to_le_bytes() {
        return Err(damaged("its head has a wrong checksum"));
    }
    let head = BackupHead::decode(&checked[16..16 + head_len])
        .map_err(|_| damaged("its head does not read back"))?;
    let wrapped = checked[16 + head_len..].try_into().expect("the header is that long");
    Ok(Opened { head, wrapped, file, len, offset: header_len as u64 })
}

/// Reads a backup to its end, and checks all of it.
///
/// # Errors
/// See [`BackupError`].
pub fn read(path: &Path, key: &BackupKey) -> Result<Backup, BackupError> {
    let Opened { head, wrapped, file, len, offset } = open_head(path)?;
    let damaged = |what: String| BackupError::Damaged { path: path.into(), what };
    if head.key_id != key.id()[..] {
        let (theirs, ours) = (head.key_id.to_vec(), key.id().to_vec());
        return Err(BackupError::OtherKey { path: path.into(), theirs, ours });
    }
    if head.feature_level > FEATURE_LEVEL {
        let what = format!("feature level {}, version {}", head.feature_level, head.version);
        return Err(BackupError::Newer { path: path.into(), what });
    }
    let sealer = key.wrapping().unwrap_file_key(&wrapped);
    let sealer = sealer.ok_or_else(|| damaged("its key does not open".into()))?;
    let mut sections = Sections::behind(file, sealer, len, offset);
    let mut next = || match sections.next() {
        Some(Ok(section)) => Ok(section),
        Some(Err(SectionError::Io(error))) => Err(BackupError::Io { path: path.into(), error }),
        Some(Err(SectionError::Damaged(what))) => Err(damaged(what)),
        None => Err(damaged("it is cut short".into())),
    };
    let sealed = next()?;
    let (is, payload) = kind_and_payload(&sealed).map_err(damaged)?;
    if is != kind::BACKUP || BackupHead::decode(payload).ok().as_ref() != Some(&head) {
        return Err(damaged("its head is not the one that was sealed".into()));
    }
    let files = next()?;
    let (is, payload) = kind_and_payload(&files).map_err(damaged)?;
    let files = match is {
        kind::FILES => Files::decode(payload).map_err(|error| damaged(error.to_string()))?.files,
        _ => return Err(damaged("it has no files".into())),
    };
    let mut reader = SectionReader::default();
    while !reader.is_done() {
        reader.section(&next()?).map_err(damaged)?;
    }
    let snapshot = reader.finish().map_err(damaged)?;
    let files = files.into_iter().map(|file| (file.name, file.content)).collect();
    Ok(Backup { head, files, snapshot })
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// How many keys there are.
    pub keys: usize,
    /// Where the store that was in the place is now.
    pub before: Option<PathBuf>,
}

/// Makes the state of a backup the store in `options.dir`: a cluster of one
/// server, with an ID of its own, and with revisions that no client has seen.
///
/// # Errors
/// See [`OpenError`]. Nothing was changed.
pub fn restore(options: &OpenOptions, backup: Backup) -> Result<Restored, OpenError> {
    let _lock = match options.dir.exists() {
        true => Some(dir::lock(&options.dir)?),
        false => None,
    };
    let Snapshot { meta, base, feature_level, image } = backup.snapshot;
    let last = meta.last.unwrap_or_default();
    let term = last.leader.map_or(0, |leader| leader.term);
    let keys = image.items.len();
    let mut mvcc = Mvcc::new(0, Limits::default());
    debug_assert_eq!(image.floor, Revision(backup.head.revision));
    mvcc.restore(base, image);
    let before = reset::replace(options, "restore", |new_dir| {
        reset::write_new(options, new_dir, &mvcc, last, feature_level, term)
    })?;
    Ok(Restored { keys, before })
}

#[cfg(test)]
mod tests {
    use store::{Key, Put, ReadError, Store as _, Txn, Value};

    use super::*;

    fn key(at: u32) -> Key {
        Key::new("", "configmaps", "default", &format!("k{at}"))
    }

    fn create(at: u32) -> Txn {
        let value = Value { epoch: 1, data: Bytes::from_static(b"{}") };
        Txn::create(Put { key: key(at), value, revision_at: Some(1) })
    }

    fn beside() -> Beside {
        Beside {
            time: 7,
            labels: vec![("a".into(), "b".into())],
            files: vec![("ca.key".into(), Bytes::from_static(b"secret"))],
        }
    }

    async fn backed_up(folder: &Path, opener: &BackupKey) -> (Arc<RaftStore>, Revision) {
        let options = OpenOptions { name: "a".into(), ..OpenOptions::new(folder.join("db")) };
        let store = RaftStore::open(options).await.expect("a new store");
        let mut last = Revision::ZERO;
        for at in 0..20 {
            last = store.commit(create(at)).await.expect("created").revision;
        }
        let head = store.back_up(folder, "one", opener, beside()).await.expect("written");
        assert_eq!((head.keys, head.revision, head.server.as_str()), (20, last.0, "a"));
        (store, last)
    }

    #[tokio::test]
    async fn a_backup_begins_another_cluster() {
        let folder = tempfile::tempdir().expect("a directory for the test");
        let opener = BackupKey::new([5; 32]);
        let (store, last) = backed_up(folder.path(), &opener).await;
        let path = folder.path().join("one");
        store.commit(create(99)).await.expect("created");
        let again = store.back_up(folder.path(), "one", &opener, beside()).await;
        assert!(matches!(again, Err(BackupError::Io { .. })), "it is there already");
        assert_eq!(read_head(&path).expect("readable").labels[0].value, "b");

        let other = OpenOptions { name: "b".into(), ..OpenOptions::new(folder.path().join("db2")) };
        let backup = read(&path, &opener).expect("whole");
        assert_eq!(backup.files[0].1, "secret");
        let done = restore(&other, backup).expect("restored");
        assert_eq!(done, Restored { keys: 20, before: None });
        let new = RaftStore::open(other.clone()).await.expect("the new store");
        assert_ne!(new.cluster_id(), store.cluster_id());
        assert!(new.get(&key(7), None).expect("the present").is_some());
        assert!(new.get(&key(99), None).expect("the present").is_none());
        assert!(matches!(new.watch("", last), Err(ReadError::Compacted { .. })));
        let next = new.commit(create(100)).await.expect("created").revision;
        assert!(next.0 - last.0 >= 1_000_000_000 << Revision::OP_BITS);

        // In the place of a store, which must not be in use, and which is kept.
        let backup = || read(&path, &opener).expect("whole");
        assert!(matches!(restore(&other, backup()), Err(OpenError::InUse { .. })));
        new.shutdown().await;
        let done = restore(&other, backup()).expect("restored");
        assert!(done.before.is_some_and(|before| before.join("store.key").exists()));
        let new = RaftStore::open(other).await.expect("the store");
        assert!(new.get(&key(100), None).expect("the present").is_none());
        new.shutdown().await;
        store.shutdown().await;
    }

    #[tokio::test]
    async fn damage_anywhere_is_noticed() {
        let folder = tempfile::tempdir().expect("a directory for the test");
        let opener = BackupKey::new([5; 32]);
        let (store, _) = backed_up(folder.path(), &opener).await;
        store.shutdown().await;
        let bytes = std::fs::read(folder.path().join("one")).expect("there");
        assert!(!bytes.windows(6).any(|part| part == b"secret"), "it is sealed");
        let path = folder.path().join("two");
        let reads = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            read(&path, &opener)
        };
        assert!(reads(&bytes).is_ok());
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(reads(&damaged).is_err(), "byte {at}");
        }
        for at in (0..bytes.len()).rev().step_by(5) {
            assert!(reads(&bytes[..at]).is_err(), "cut at {at}");
        }
        let mut newer = bytes.clone();
        newer[8] = 2;
        assert!(matches!(reads(&newer), Err(BackupError::Newer { .. })));
        assert!(matches!(reads(b"apiVersion: v1\nkind: List"), Err(BackupError::Foreign(_))));
        let other = read(&folder.path().join("one"), &BackupKey::new([6; 32]));
        assert!(matches!(other, Err(BackupError::OtherKey { .. })));
    }
}

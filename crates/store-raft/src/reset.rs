//! Making a cluster of one out of what one server has: when the others are lost
//! for good, and no majority can be had any more.
//!
//! The state goes on in a new store with a new cluster ID, so that a lost
//! server that comes back finds no way in, and with revisions that no client
//! has seen, so that all of them read anew. The old store stays beside it.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use store::{Limits, Mvcc, Revision};

use crate::{
    FEATURE_LEVEL, OpenError, OpenOptions,
    codec::{self, Decoded},
    consensus::types,
    dir::StoreDir,
    disk::RealDisk,
    log::{Log, LogOptions, Record},
    proto::raft_v1::{
        LogId, LogState, Membership, Node, SnapshotMeta, StoredMembership, Vote, entry::Payload,
        membership::Voters,
    },
    snapshot::{self, Snapshot},
};
use std::sync::Arc;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The last entry of the old log that the new store has.
    pub last_index: u64,
    /// How many keys it has.
    pub keys: usize,
    /// Where the old store is now.
    pub before: PathBuf,
}

/// What revisions rise by, in log entries: more than any lost server can have
/// written beyond what this one has.
const REVISIONS_LATER: u64 = 1_000_000_000;

/// Resets the store in `options.dir`, which no server may use meanwhile.
///
/// # Errors
/// See [`OpenError`]. Nothing was changed.
pub fn reset(options: &OpenOptions) -> Result<Reset, OpenError> {
    let dir = &options.dir;
    if !dir.join("store.key").exists() {
        let what = "there is no store to reset".to_owned();
        return Err(OpenError::Damaged { dir: dir.clone(), what });
    }
    let (mvcc, last, level, term, _lock) = read_all(options)?;
    let keys = mvcc.key_count();
    let before =
        replace(options, "reset", |new_dir| write_new(options, new_dir, &mvcc, last, level, term))?;
    Ok(Reset { last_index: last.index, keys, before: before.unwrap_or_default() })
}

/// Has `write` make a store beside the one in `options.dir`, and puts it in that
/// one's place. Returns where the old one is now, if there was one; its lock must
/// be held. `what` names the folders.
pub(crate) fn replace(
    options: &OpenOptions,
    what: &str,
    write: impl FnOnce(&Path) -> Result<(), OpenError>,
) -> Result<Option<PathBuf>, OpenError> {
    let dir = &options.dir;
    let failed = |what| move |error| OpenError::Dir { dir: dir.clone(), what, error };
    let new_dir = beside(dir, what);
    remove(&new_dir).map_err(failed("an earlier attempt cannot be removed"))?;
    write(&new_dir)?;
    let parent = dir.parent().unwrap_or(Path::new("/"));
    let sync = || std::fs::File::open(parent)?.sync_all();
    if !dir.exists() {
        let moved = std::fs::rename(&new_dir, dir).and_then(|()| sync());
        moved.map_err(failed("the new store cannot take its place"))?;
        return Ok(None);
    }
    // Both names change at once: there is never no store.
    renameat_with(CWD, dir, CWD, &new_dir, RenameFlags::EXCHANGE)
        .map_err(|errno| failed("the new store cannot take its place")(errno.into()))?;
    let before = beside(dir, &format!("before-{what}"));
    let moved =
        remove(&before).and_then(|()| std::fs::rename(&new_dir, &before)).and_then(|()| sync());
    moved.map_err(failed("the old store cannot be put aside"))?;
    Ok(Some(before))
}

fn remove(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn beside(dir: &Path, what: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push("-");
    name.push(what);
    dir.with_file_name(name)
}

type Read = (Mvcc, LogId, u32, u64, StoreDir);

/// All that the server has, committed or not: what a lost majority acknowledged
/// is among it.
fn read_all(options: &OpenOptions) -> Result<Read, OpenError> {
    let disk = Arc::new(RealDisk::new(&options.dir));
    let damaged = |what: String| OpenError::Damaged { dir: options.dir.clone(), what };
    let dir = StoreDir::open(&options.dir, &*disk, None, None)?;
    let newest = snapshot::load_newest(&*disk, &dir.key());
    let snapshot = newest.map_err(|error| damaged(error.to_string()))?;
    let opened = Log::open(disk, dir.key(), log_options(options, &dir));
    let (log, _) = opened.map_err(|error| damaged(error.to_string()))?;
    let mut mvcc = Mvcc::new(0, Limits::default());
    let (mut last, mut level) = (None, FEATURE_LEVEL);
    if let Some(snapshot) = snapshot {
        last = snapshot.meta.last;
        level = snapshot.feature_level;
        mvcc.restore(snapshot.base, snapshot.image);
    }
    let range = log.index().range();
    let start = last.map_or(range.start, |last| range.start.max(last.index + 1));
    for at in start..range.end {
        let read = log.index().read(at..at + 1);
        for entry in read.map_err(|error| damaged(error.to_string()))? {
            let (id, txns, raised) = decode(entry).map_err(damaged)?;
            // What a refused transaction did is nothing, here as on every server.
            mvcc.apply(id.index, txns);
            level = raised.unwrap_or(level);
            last = Some(id);
        }
    }
    let last = last.ok_or_else(|| damaged("the store has no entries".into()))?;
    let voted = log.index().state().vote.and_then(|vote| vote.leader).map_or(0, |id| id.term);
    let term = last.leader.map_or(0, |leader| leader.term).max(voted);
    Ok((mvcc, last, level, term, dir))
}

type Applied = (LogId, Vec<store::Txn>, Option<u32>);

fn decode(entry: crate::proto::raft_v1::Entry) -> Result<Applied, String> {
    let id = entry.id.ok_or("an entry has no ID")?;
    let bytes: Bytes = match entry.payload {
        Some(Payload::Command(bytes)) => bytes,
        Some(Payload::Blank(_) | Payload::Membership(_)) => return Ok((id, Vec::new(), None)),
        None => return Err(format!("entry {} is of a kind that a newer skiff wrote", id.index)),
    };
    match codec::decode(bytes)? {
        Decoded::Txns(txns) => Ok((id, txns, None)),
        Decoded::FeatureLevel(level) => Ok((id, Vec::new(), Some(level))),
    }
}

fn log_options(options: &OpenOptions, dir: &StoreDir) -> LogOptions {
    LogOptions {
        cluster: dir.cluster,
        node: dir.node,
        segment_bytes: options.segment_bytes,
        first_segment_bytes: options.first_segment_bytes,
    }
}

/// A store of one server with that state, in a directory of its own.
pub(crate) fn write_new(
    options: &OpenOptions,
    new_dir: &Path,
    mvcc: &Mvcc,
    last: LogId,
    feature_level: u32,
    term: u64,
) -> Result<(), OpenError> {
    let failed = |error: std::io::Error| OpenError::Dir {
        dir: new_dir.into(),
        what: "the new store cannot be written",
        error,
    };
    let disk = Arc::new(RealDisk::new(new_dir));
    let dir = StoreDir::open(new_dir, &*disk, None, None)?;
    let base = mvcc.base() + REVISIONS_LATER;
    let mut image = mvcc.image();
    // Nobody may go on from a revision of before: lost servers may have given
    // it to something else.
    image.history.clear();
    image.revision = Revision::of_index(base, last.index);
    image.floor = image.revision;
    let node = Node {
        name: options.name.clone(),
        address: options.address.clone(),
        feature_level: FEATURE_LEVEL,
        version: options.version.clone(),
    };
    let membership = Membership {
        configs: vec![Voters { node_ids: vec![dir.node] }],
        nodes: [(dir.node, node)].into(),
    };
    let meta = SnapshotMeta {
        last: Some(last),
        membership: Some(StoredMembership { id: Some(last), membership: Some(membership) }),
        cluster_id: Bytes::copy_from_slice(&dir.cluster),
    };
    let snapshot = Snapshot { meta, base, feature_level, image };
    snapshot::save(&*disk, &dir.key(), &snapshot).map_err(failed)?;
    let opened = Log::open(disk, dir.key(), log_options(options, &dir));
    let (mut log, _) = opened.map_err(|error| failed(std::io::Error::other(error.to_string())))?;
    let vote = Vote { leader: Some(types::leader(term, dir.node)), committed: false };
    let state = LogState { vote: Some(vote), committed: Some(last), purged: Some(last) };
    log.append(&[Record::State(state), Record::Closed]).map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use store::{Key, Put, ReadError, Store, Txn, Value};

    use super::*;
    use crate::RaftStore;

    #[tokio::test]
    async fn what_one_server_has_goes_on_as_another_cluster() {
        let folder = tempfile::tempdir().expect("a directory for the test");
        let dir = folder.path().join("db");
        let options = || OpenOptions { name: "a".into(), ..OpenOptions::new(&dir) };
        assert!(matches!(reset(&options()), Err(OpenError::Damaged { .. })));
        let key = |at: u32| Key::new("", "configmaps", "default", &format!("k{at}"));
        let create = |at| {
            let value = Value { epoch: 1, data: Bytes::from_static(b"{}") };
            Txn::create(Put { key: key(at), value, revision_at: Some(1) })
        };
        let store = RaftStore::open(options()).await.expect("a new store");
        let mut last = Revision::ZERO;
        for at in 0..20 {
            last = store.commit(create(at)).await.expect("created").revision;
        }
        let (cluster, id) = (store.cluster_id(), store.id());
        assert!(matches!(reset(&options()), Err(OpenError::InUse { .. })));
        store.shutdown().await;
        drop(store);

        let done = reset(&options()).expect("reset");
        assert_eq!((done.keys, done.last_index), (20, last.index(0)));
        assert!(done.before.join("store.key").exists());
        for round in 0..2 {
            let store = RaftStore::open(options()).await.expect("the new store");
            assert!(store.cluster_id() != cluster && store.id() != id);
            let item = store.get(&key(7), None).expect("the present").expect("kept");
            assert!(item.revision < last);
            // Whoever watched the old cluster must read anew.
            let watched = store.watch("", last);
            assert!(matches!(watched, Err(ReadError::Compacted { .. })), "round {round}");
            let new = store.commit(create(100 + round)).await.expect("created").revision;
            assert!(new.0 - last.0 >= 1_000_000_000 << Revision::OP_BITS);
            store.shutdown().await;
        }
    }
}

//! openraft's view of the state machine: entries in, answers out, snapshots.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use futures_util::{Stream, TryStreamExt as _};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    storage::{EntryResponder, RaftStateMachine},
};
use store::Mvcc;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    log_store::LogStore,
    types::{
        Answers, Data, LeaderId, LogId, SnapshotMeta, StoredMembership, Types, from_meta, to_meta,
    },
};
use crate::{
    FEATURE_LEVEL,
    codec::{self, Decoded},
    disk::{self, Disk},
    log::writer::is_full,
    proto::raft_v1,
    seal::NodeKey,
    snapshot::{self, Snapshot},
};

/// What the state machine shares with its store and its snapshot builders.
pub(crate) struct Shared {
    pub(crate) mvcc: RwLock<Mvcc>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) key: Arc<NodeKey>,
    pub(crate) cluster: [u8; 16],
    pub(crate) start: Instant,
    /// Told when the log has grown enough for a snapshot.
    pub(crate) snapshot_due: Notify,
    pub(crate) progress: Mutex<Progress>,
    /// The log is worth a snapshot from this size on, or from the state's size.
    pub(crate) snapshot_log_bytes: u64,
    /// When a leader was heard from last.
    pub(crate) heard: Mutex<Option<Instant>>,
    /// One snapshot at a time comes in.
    pub(crate) receiving: tokio::sync::Mutex<()>,
    /// Which of a leader's renewals this member has.
    pub(crate) renewals: watch::Sender<RenewalsSeen>,
}

/// So many renewals of the leader of that term have been taken in, and all that
/// held before; nothing of term 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RenewalsSeen {
    pub(crate) term: u64,
    pub(crate) count: u64,
}

/// Where the state machine stands.
#[derive(Clone, Default)]
pub(crate) struct Progress {
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
    pub(crate) feature_level: u32,
    /// Commands applied since the last snapshot, in bytes.
    pub(crate) bytes_since_snapshot: u64,
    /// A snapshot was asked for and is not finished.
    pub(crate) snapshot_asked: bool,
    pub(crate) snapshot: Option<SnapshotMeta>,
    pub(crate) snapshot_bytes: u64,
}

impl Shared {
    /// A leader was heard from just now.
    pub(crate) fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a leader was heard from within that time.
    pub(crate) fn heard_within(&self, within: std::time::Duration) -> bool {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.is_some_and(|heard| heard.elapsed() < within)
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Mvcc> {
        self.mvcc.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn with_progress<T>(&self, change: impl FnOnce(&mut Progress) -> T) -> T {
        change(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes in a snapshot that was read from this server's disk.
    pub(crate) fn restore(&self, snapshot: Snapshot) -> io::Result<()> {
        let meta = from_meta(&snapshot.meta)?;
        understood(snapshot.feature_level)?;
        let mut mvcc = self.mvcc.write().unwrap_or_else(PoisonError::into_inner);
        mvcc.restore(snapshot.base, snapshot.image);
        // A snapshot has no renewals in it.
        self.renewals.send_replace(RenewalsSeen::default());
        self.with_progress(|progress| {
            progress.applied = meta.last_log_id;
            progress.membership = meta.last_membership.clone();
            progress.feature_level = snapshot.feature_level;
            progress.bytes_since_snapshot = 0;
            progress.snapshot = Some(meta);
        });
        Ok(())
    }
}

/// A snapshot as openraft hands it around: a file in our directory.
#[derive(Clone, Debug)]
pub(crate) enum SnapshotFile {
    /// The newest.
    Newest,
    /// What has come from another member and has no name yet.
    Received,
}

/// A snapshot with what it stands for.
pub(crate) type OpenSnapshot = openraft::Snapshot<LeaderId, u64, raft_v1::Node, SnapshotFile>;

/// A level that this version knows. While a server is a member the cluster's level is
/// none that it does not know, so only an older program on a newer one's data meets it.
fn understood(level: u32) -> io::Result<u32> {
    if level > FEATURE_LEVEL {
        return Err(io::Error::other(format!(
            "a newer skiff has been here: the cluster uses feature level {level}, and this \
             version knows {FEATURE_LEVEL}; install the version of before, or a later one"
        )));
    }
    Ok(level)
}

/// openraft's state machine.
pub(crate) struct Machine {
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: LogStore,
}

impl Machine {
    fn apply_entry(
        &self,
        id: LogId,
        payload: EntryPayload<Data, u64, raft_v1::Node>,
    ) -> io::Result<Answers> {
        let mut size = 64;
        let mut membership = None;
        let mut level = None;
        let mut txns = Vec::new();
        match payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(new) => {
                membership = Some(StoredMembership::new(Some(id), new));
            }
            EntryPayload::Normal(data) => {
                size += data.0.len() as u64;
                let decoded = codec::decode(data.0).map_err(|error| {
                    io::Error::other(format!("log entry {}: {error}", id.index))
                })?;
                match decoded {
                    Decoded::Txns(decoded) => txns = decoded,
                    Decoded::FeatureLevel(new) => level = Some(understood(new)?),
                }
            }
        }
        let (answers, state_bytes) = {
            let mut mvcc = self.shared.mvcc.write().unwrap_or_else(PoisonError::into_inner);
            mvcc.tick(self.shared.start.elapsed());
            let answers = mvcc.apply(id.index, txns);
            (answers, mvcc.state_bytes() + mvcc.history_bytes())
        };
        let due = self.shared.with_progress(|progress| {
            progress.applied = Some(id);
            if let Some(membership) = membership {
                progress.membership = membership;
            }
            progress.feature_level = level.unwrap_or(progress.feature_level);
            progress.bytes_since_snapshot += size;
            let due = self.shared.snapshot_log_bytes.max(state_bytes);
            let asks = progress.bytes_since_snapshot > due && !progress.snapshot_asked;
            progress.snapshot_asked |= asks;
            asks
        });
        if due {
            self.shared.snapshot_due.notify_one();
        }
        Ok(Answers(answers))
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let progress = self.shared.progress();
        Ok((progress.applied, progress.membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let id = entry.log_id;
            let answers = self.apply_entry(id, entry.payload)?;
            self.log.applied(id.index);
            if let Some(responder) = responder {
                responder.send(answers);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        // Values are shared with the live state, so this is quick and small.
        let mvcc = self.shared.mvcc.read().unwrap_or_else(PoisonError::into_inner);
        let progress = self.shared.progress();
        let meta =
            SnapshotMeta { last_log_id: progress.applied, last_membership: progress.membership };
        let snapshot = Snapshot {
            meta: to_meta(&meta, self.shared.cluster),
            base: mvcc.base(),
            feature_level: progress.feature_level,
            image: mvcc.image(),
        };
        let covered_bytes = progress.bytes_since_snapshot;
        Builder { shared: self.shared.clone(), meta, covered_bytes, snapshot: Some(snapshot) }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        file: SnapshotFile,
    ) -> io::Result<()> {
        if let SnapshotFile::Received = file {
            let index = meta.last_log_id.map_or(0, |id| id.index);
            snapshot::Received::keep(&*self.shared.disk, index)?;
        }
        let loaded = snapshot::load_newest(&*self.shared.disk, &self.shared.key);
        let snapshot = loaded.map_err(io::Error::other)?;
        self.shared.restore(snapshot.ok_or_else(|| io::Error::other("there is no snapshot"))?)
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<OpenSnapshot>> {
        let meta = self.shared.progress().snapshot;
        Ok(meta.map(|meta| OpenSnapshot { meta, snapshot: SnapshotFile::Newest }))
    }
}

/// How long a disk without room for a snapshot is left alone, at first and at last.
const SNAPSHOT_AGAIN: Duration = Duration::from_secs(1);
const SNAPSHOT_AGAIN_MAX: Duration = Duration::from_secs(32);

/// Writes one snapshot.
pub(crate) struct Builder {
    shared: Arc<Shared>,
    meta: SnapshotMeta,
    /// What the snapshot makes superfluous of the log.
    covered_bytes: u64,
    snapshot: Option<Snapshot>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<OpenSnapshot> {
        let snapshot =
            self.snapshot.take().ok_or_else(|| io::Error::other("a builder builds once"))?;
        let snapshot = Arc::new(snapshot);
        let mut pause = SNAPSHOT_AGAIN;
        let saved = loop {
            let (shared, snapshot) = (self.shared.clone(), snapshot.clone());
            let saving = disk::work(&*self.shared.disk, move || {
                snapshot::save(&*shared.disk, &shared.key, &snapshot)
            });
            match saving.await? {
                // Raft would take it for the end of the disk; the log is long until then.
                Err(error) if is_full(&error) => {
                    if pause == SNAPSHOT_AGAIN {
                        tracing::error!(
                            "the disk has no room for a snapshot; it is taken once there is \
                             some ({error})"
                        );
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(SNAPSHOT_AGAIN_MAX);
                }
                saved => break saved,
            }
        };
        let meta = self.meta.clone();
        self.shared.with_progress(|progress| {
            progress.snapshot_asked = false;
            // One that came from the leader meanwhile has taken its place.
            let is_newest = progress.snapshot.as_ref().is_none_or(|known| {
                known.last_log_id.map(|id| id.index) <= meta.last_log_id.map(|id| id.index)
            });
            if let Ok(bytes) = &saved
                && is_newest
            {
                let left = progress.bytes_since_snapshot.saturating_sub(self.covered_bytes);
                progress.bytes_since_snapshot = left;
                progress.snapshot = Some(meta.clone());
                progress.snapshot_bytes = *bytes;
            }
        });
        let bytes = saved?;
        let index = meta.last_log_id.map_or(0, |id| id.index);
        tracing::info!("took a snapshot of {bytes} bytes up to log entry {index}");
        Ok(OpenSnapshot { meta, snapshot: SnapshotFile::Newest })
    }
}

#[cfg(test)]
mod tests {
    use store::{Key, Put, Store as _, Txn, Value};

    use super::*;
    use crate::{OpenOptions, RaftStore, disk::sim::SimDisk};

    #[tokio::test]
    async fn a_snapshot_that_another_has_overtaken_takes_no_place() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let options =
            OpenOptions { disk: Some(Arc::new(SimDisk::new())), ..OpenOptions::new(dir.path()) };
        let store = RaftStore::open(options).await.expect("a new store");
        let shared = store.shared.clone();
        let mut machine =
            Machine { shared: shared.clone(), log: LogStore::new(store.writer.clone()) };
        let mut builders = Vec::new();
        for name in ["a", "b"] {
            let key = Key::new("", "configmaps", "default", name);
            let value = Value { epoch: 1, data: "x".into() };
            let put = Put { key, value, revision_at: None };
            store.commit(Txn::create(put)).await.expect("created");
            builders.push(machine.get_snapshot_builder().await);
        }
        let mut metas = Vec::new();
        for builder in builders.iter_mut().rev() {
            metas.push(builder.build_snapshot().await.expect("there is room").meta);
        }
        let newest = metas[0].last_log_id.expect("not empty").index;
        assert!(metas[1].last_log_id.expect("not empty").index < newest);
        assert_eq!(shared.progress().snapshot.as_ref(), Some(&metas[0]));
        let names = shared.disk.list().expect("a list");
        let kept: Vec<u64> = names.iter().filter_map(|name| snapshot::index_of(name)).collect();
        assert_eq!(kept, [newest]);
    }
}

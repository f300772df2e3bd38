//! The durable, replicated [`Store`]: openraft over our own log and snapshots.
//!
//! This crate knows no Kubernetes. Reading starts at [`RaftStore`]; below it,
//! `consensus` is all that knows openraft, `log` is the durable log with its
//! one writing thread, `snapshot` the file that replaces old log, `seal` the
//! encryption of both, and [`disk`] what they stand on (and the place where
//! tests put a disk that fails). The messages on disk and on the wire are in
//! `proto/skiff/{store,raft}/v1`.
//!
//! Everything in the directory of a store is sealed, bar file headers. A server
//! that nobody writes to does not touch its disk and does not wake up.

#![warn(missing_docs)]

mod codec;
mod consensus;
mod dir;
pub mod disk;
#[cfg(test)]
mod kill_test;
mod log;
mod proposer;
pub mod proto;
#[cfg(test)]
mod proto_test;
mod seal;
mod snapshot;
mod stats;
#[cfg(test)]
mod store_test;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
    time::Instant,
};

use store::{
    BoxFuture, CommitError, Committed, Item, Key, Limits, Mvcc, Page, Range, ReadError, Renewal,
    Revision, Store, Txn, Watcher,
};
use tokio::sync::Notify;

use crate::{
    consensus::{
        Consensus,
        log_store::LogStore,
        machine::{Machine, Shared},
    },
    dir::StoreDir,
    disk::{Disk, RealDisk},
    log::{Log, LogOptions, writer::Writer},
    proposer::Proposer,
};
pub use crate::{dir::lock, log::writer::LogStats, stats::Stats};

/// What entries this version may write; see `FeatureLevel` in `store.proto`.
const FEATURE_LEVEL: u32 = 1;

/// How to open a store.
#[derive(Clone)]
pub struct OpenOptions {
    /// Its directory, made if it is missing. It belongs to one server.
    pub dir: PathBuf,
    /// How much history is kept.
    pub limits: Limits,
    /// Over so many bytes of state and history, creations are refused.
    pub quota_bytes: u64,
    /// The size of log files; a multiple of 4096.
    pub segment_bytes: u64,
    /// The size of the very first log file, so that a first start is quick.
    pub first_segment_bytes: u64,
    /// A snapshot is taken when the log since the last one is larger than this
    /// and than the state.
    pub snapshot_log_bytes: u64,
    /// Stands in for the disk behind `dir`, in tests.
    pub disk: Option<Arc<dyn Disk>>,
}

impl OpenOptions {
    /// The defaults that a server uses.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            limits: Limits::default(),
            quota_bytes: 2 << 30,
            segment_bytes: 4 << 20,
            first_segment_bytes: 1 << 20,
            snapshot_log_bytes: 16 << 20,
            disk: None,
        }
    }
}

/// Why a store cannot be opened. Nothing in its directory was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another skiff server{}", .dir.display(), .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    InUse {
        /// The store's directory.
        dir: PathBuf,
        /// The other process, if it left its ID.
        pid: Option<u32>,
    },
    /// The directory cannot be made, read or written.
    #[error("{}: {what}: {error}", .dir.display())]
    Dir {
        /// The store's directory.
        dir: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        error: std::io::Error,
    },
    /// What is on disk does not read back, or was written by a newer version.
    #[error("{}: {what}", .dir.display())]
    Damaged {
        /// The store's directory.
        dir: PathBuf,
        /// What and where.
        what: String,
    },
    /// Raft did not start.
    #[error("the store did not start: {0}")]
    Raft(String),
}

/// A member of the cluster: its log, its state, and the way to propose writes.
pub struct RaftStore {
    shared: Arc<Shared>,
    consensus: Consensus,
    proposer: Proposer,
    writer: Arc<Writer>,
    quota_bytes: u64,
    snapshots: tokio::task::JoinHandle<()>,
    /// Kept for its lock, and dropped with it.
    dir: Mutex<Option<StoreDir>>,
}

impl RaftStore {
    /// Opens the store, or makes an empty one of a new cluster. When this
    /// returns, every acknowledged write is there and new ones are taken.
    /// Must be called in a tokio runtime, which then runs the store's tasks.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(options: OpenOptions) -> Result<Arc<Self>, OpenError> {
        let quota_bytes = options.quota_bytes;
        let opening = tokio::task::spawn_blocking(move || open_disk(&options));
        let opened = opening.await.map_err(|error| OpenError::Raft(error.to_string()))??;
        let Opened { dir, shared, writer } = opened;
        let log = LogStore::new(writer.clone());
        let machine = Machine { shared: shared.clone(), log: log.clone() };
        let consensus = Consensus::start(dir.node, log, machine).await.map_err(OpenError::Raft)?;
        consensus.read_barrier().await.map_err(OpenError::Raft)?;
        if shared.progress().feature_level < FEATURE_LEVEL {
            let command = codec::encode_feature_level(FEATURE_LEVEL);
            let proposed = consensus.propose(command).await;
            proposed.map_err(|error| OpenError::Raft(error.to_string()))?;
        }
        let snapshots = tokio::spawn(take_snapshots(shared.clone(), consensus.clone()));
        let proposer = Proposer::start(consensus.clone());
        let dir = Mutex::new(Some(dir));
        Ok(Arc::new(Self { shared, consensus, proposer, writer, quota_bytes, snapshots, dir }))
    }

    /// Ends watches, lets accepted writes finish, closes the log and gives the
    /// directory free. Later calls fail with [`CommitError::Unavailable`].
    pub async fn shutdown(&self) {
        self.proposer.stop().await;
        self.snapshots.abort();
        self.consensus.shutdown().await;
        self.read().close_watches();
        let writer = self.writer.clone();
        if tokio::task::spawn_blocking(move || writer.close()).await.is_err() {
            tracing::error!("closing the log panicked");
        }
        self.dir.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Whether the store can still take writes. Once it cannot (its disk failed,
    /// or it was shut down) only opening it again helps.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn health(&self) -> Result<(), CommitError> {
        self.consensus.check().map_err(CommitError::Unavailable)
    }

    /// Numbers about the store; cheap to read.
    pub fn stats(&self) -> Stats {
        stats::collect(&self.shared, &self.read(), &self.writer.stats)
    }

    /// The cluster's ID: random, made with the cluster.
    pub fn cluster_id(&self) -> [u8; 16] {
        self.shared.cluster
    }

    /// Takes a snapshot soon, whatever the size of the log.
    ///
    /// # Errors
    /// Where the store is shut down.
    pub async fn snapshot(&self) -> Result<(), CommitError> {
        self.consensus.snapshot().await.map_err(CommitError::Unavailable)
    }

    fn read(&self) -> RwLockReadGuard<'_, Mvcc> {
        self.shared.mvcc.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_quota(&self, txn: &Txn) -> Result<(), CommitError> {
        let mvcc = self.read();
        let used_bytes = mvcc.state_bytes() + mvcc.history_bytes();
        let quota_bytes = self.quota_bytes;
        let creates = || {
            txn.ops.iter().any(|op| match op {
                store::Op::Put(put) => matches!(mvcc.get(&put.key, None), Ok(None)),
                store::Op::Delete { .. } => false,
            })
        };
        if used_bytes > quota_bytes && creates() {
            return Err(CommitError::Full { used_bytes, quota_bytes });
        }
        Ok(())
    }

    async fn commit_txn(&self, mut txn: Txn) -> Result<Committed, CommitError> {
        txn.validate()?;
        self.health()?;
        self.check_quota(&txn)?;
        let frozen = self.proposer.freeze(&txn);
        self.read().prepare(&mut txn)?;
        self.proposer.commit(txn, frozen).await
    }
}

impl Drop for RaftStore {
    fn drop(&mut self) {
        // Without `shutdown` the log ends as after a crash, but it does end.
        self.snapshots.abort();
    }
}

struct Opened {
    dir: StoreDir,
    shared: Arc<Shared>,
    writer: Arc<Writer>,
}

fn open_disk(options: &OpenOptions) -> Result<Opened, OpenError> {
    let disk = options.disk.clone();
    let disk = disk.unwrap_or_else(|| Arc::new(RealDisk::new(&options.dir)));
    let damaged = |what: String| OpenError::Damaged { dir: options.dir.clone(), what };
    let dir = StoreDir::open(&options.dir, &*disk)?;
    let log_options = LogOptions {
        cluster: dir.cluster,
        node: dir.node,
        segment_bytes: options.segment_bytes,
        first_segment_bytes: options.first_segment_bytes,
    };
    let newest = snapshot::load_newest(&*disk, &dir.key());
    let snapshot = newest.map_err(|error| damaged(error.to_string()))?;
    let opened = Log::open(disk.clone(), dir.key(), log_options);
    let (log, torn) = opened.map_err(|error| damaged(error.to_string()))?;
    if torn {
        tracing::info!("the last group of the log was cut short by a crash and is left out");
    }
    let purged = log.index().state().purged.map(|id| id.index);
    let covered = snapshot.as_ref().and_then(|snapshot| snapshot.meta.last).map(|id| id.index);
    if purged > covered {
        let what = format!("the snapshot up to log entry {} is missing", purged.unwrap_or(0));
        return Err(damaged(what));
    }
    let base = snapshot.as_ref().map_or(0, |snapshot| snapshot.base);
    let shared = Arc::new(Shared {
        mvcc: RwLock::new(Mvcc::new(base, options.limits)),
        disk,
        key: dir.key(),
        cluster: dir.cluster,
        start: Instant::now(),
        snapshot_due: Notify::new(),
        progress: Mutex::default(),
        snapshot_log_bytes: options.snapshot_log_bytes,
    });
    if let Some(snapshot) = snapshot {
        shared.restore(snapshot).map_err(|error| damaged(error.to_string()))?;
    }
    let writer = Writer::start(log).map_err(|error| OpenError::Raft(error.to_string()))?;
    Ok(Opened { dir, shared, writer: Arc::new(writer) })
}

async fn take_snapshots(shared: Arc<Shared>, consensus: Consensus) {
    loop {
        shared.snapshot_due.notified().await;
        if let Err(error) = consensus.snapshot().await {
            tracing::warn!("no snapshot can be taken: {error}");
            return;
        }
    }
}

impl Store for RaftStore {
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(self.commit_txn(txn))
    }

    fn renew(&self, renewal: Renewal) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(async move {
            let txn = Txn::update(renewal.put.clone(), renewal.at);
            txn.validate()?;
            if self.consensus.is_leader() {
                let start = self.shared.start;
                let renewed = self.proposer.unless_frozen(&renewal.put.key, || {
                    let mut mvcc = self.shared.mvcc.write().unwrap_or_else(PoisonError::into_inner);
                    mvcc.tick(start.elapsed());
                    mvcc.renew(renewal.clone())
                });
                if let Some(answer) = renewed.flatten() {
                    return Ok(answer?);
                }
            }
            self.commit_txn(txn).await
        })
    }

    fn read_barrier(&self) -> BoxFuture<'_, Result<Revision, CommitError>> {
        Box::pin(async move {
            self.consensus.read_barrier().await.map_err(CommitError::Unavailable)?;
            Ok(self.revision())
        })
    }

    fn applied(&self, revision: Revision) -> BoxFuture<'_, ()> {
        Box::pin(self.read().applied(revision))
    }

    fn revision(&self) -> Revision {
        self.read().revision()
    }

    fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Item>, ReadError> {
        self.read().get(key, at)
    }

    fn range(&self, range: &Range) -> Result<Page, ReadError> {
        self.read().range(range)
    }

    fn watch(&self, prefix: &str, from: Revision) -> Result<Watcher, ReadError> {
        self.read().watch(prefix, from)
    }
}

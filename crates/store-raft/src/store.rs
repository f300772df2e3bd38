//! The store: opening it, and what the API layer asks of it.

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use store::{
    BoxFuture, CommitError, Committed, Item, Key, Mvcc, Page, Range, ReadError, Renewal, Revision,
    Store, Txn, Watcher,
};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    OpenError, OpenOptions, Stats,
    anywhere::Barrier,
    consensus::{
        Consensus,
        log_store::LogStore,
        machine::{Machine, Shared},
        network::Network,
    },
    dir::StoreDir,
    disk::{self, Disk, RealDisk},
    home::Home,
    lead,
    log::{Log, LogOptions, writer::Writer},
    peers::Links,
    proposer::{Failure, Proposer},
    proto::raft_v1::Node,
    renewals::Made,
    snapshot, stats,
};

/// A member of the cluster: its log, its state, and the way to propose writes.
pub struct RaftStore {
    pub(crate) shared: Arc<Shared>,
    pub(crate) consensus: Consensus,
    pub(crate) links: Links,
    /// What the others are to know of this member.
    pub(crate) node: Node,
    pub(crate) made: Arc<Made>,
    pub(crate) barrier: Barrier,
    /// Whether this member leads, for those who work only there.
    pub(crate) leads: watch::Sender<bool>,
    /// The addresses of members that the leader hears from.
    pub(crate) reachable: watch::Sender<Vec<String>>,
    proposer: Proposer,
    pub(crate) writer: Arc<Writer>,
    quota_bytes: u64,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Kept for its lock, and dropped with it.
    dir: Mutex<Option<StoreDir>>,
    /// Dropped last: all of the above ends there.
    _home: Home,
}

impl RaftStore {
    /// Opens the store, or makes an empty one. A store that is alone has every
    /// acknowledged write and takes new ones when this returns; a member of
    /// several does once they have a leader, which is not waited for. Must be
    /// called in a tokio runtime, which then runs the store's tasks.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(options: OpenOptions) -> Result<Arc<Self>, OpenError> {
        let quota_bytes = options.quota_bytes;
        let peers = options.peers.clone();
        let node = Node {
            address: options.address.clone(),
            name: options.name.clone(),
            feature_level: crate::FEATURE_LEVEL,
            version: options.version.clone(),
        };
        let joins = options.join.is_some();
        let disk = options.disk.clone();
        let disk = disk.unwrap_or_else(|| Arc::new(RealDisk::new(&options.dir)));
        let opened = disk.clone();
        let opening = disk::work(&*disk, move || open_disk(&options, opened));
        let opened = opening.await.map_err(|error| OpenError::Raft(error.to_string()))??;
        let Opened { dir, shared, writer } = opened;
        let log = LogStore::new(writer.clone());
        let machine = Machine { shared: shared.clone(), log: log.clone() };
        let links = Links::new(dir.cluster, dir.node, peers);
        let network =
            Network { links: links.clone(), disk: shared.disk.clone(), key: shared.key.clone() };
        let raft = |error: std::io::Error| OpenError::Raft(error.to_string());
        let home = Home::start(disk.takes_time()).map_err(raft)?;
        let starting = Consensus::start(dir.node, network, log, machine);
        let consensus = home.run(starting).await.map_err(raft)?.map_err(OpenError::Raft)?;
        let initialized = consensus.is_initialized().await.map_err(OpenError::Raft)?;
        if !initialized && !joins {
            consensus.initialize(node.clone()).await.map_err(OpenError::Raft)?;
        }
        if consensus.voters().await.map_err(OpenError::Raft)? == [dir.node] {
            consensus.lead_alone().await.map_err(OpenError::Raft)?;
            let read = consensus.read_index().await;
            read.map_err(|error| OpenError::Raft(error.to_string()))?;
        }
        let proposer = Proposer::start(home.handle(), consensus.clone());
        let (barrier, asked) = Barrier::new();
        let store = Arc::new(Self {
            shared,
            consensus,
            links,
            node,
            made: Arc::default(),
            barrier,
            leads: watch::Sender::new(false),
            reachable: watch::Sender::default(),
            proposer,
            writer,
            quota_bytes,
            tasks: Mutex::default(),
            dir: Mutex::new(Some(dir)),
            _home: home,
        });
        lead::settle(&store).await?;
        let tasks = [
            tokio::spawn(take_snapshots(store.shared.clone(), store.consensus.clone())),
            tokio::spawn(Barrier::run(Arc::downgrade(&store), asked)),
            tokio::spawn(lead::follow(Arc::downgrade(&store), store.consensus.clone())),
        ];
        store.lock_tasks().extend(tasks);
        Ok(store)
    }

    fn lock_tasks(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the lead to another server, ends watches, lets accepted writes
    /// finish, closes the log and gives the directory free. Later calls fail
    /// with [`CommitError::Unavailable`].
    pub async fn shutdown(&self) {
        self.consensus.hand_over().await;
        self.writer.wait_no_more();
        self.proposer.stop().await;
        self.lock_tasks().drain(..).for_each(|task| task.abort());
        self.consensus.shutdown().await;
        self.read().close_watches();
        let writer = self.writer.clone();
        if disk::work(&*self.shared.disk, move || writer.close()).await.is_err() {
            tracing::error!("closing the log panicked");
        }
        self.dir.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Whether the store can still take writes. Once it cannot (its disk failed,
    /// it was shut down or removed from the cluster) only opening it again helps.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn health(&self) -> Result<(), CommitError> {
        self.consensus.check().map_err(CommitError::Unavailable)?;
        match self.links.removed.get() {
            Some(why) => Err(CommitError::Unavailable(why.clone())),
            None => Ok(()),
        }
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

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Mvcc> {
        self.shared.read()
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

    /// A transaction on this server, which must lead.
    pub(crate) async fn commit_here(&self, mut txn: Txn) -> Result<Committed, Failure> {
        txn.validate()?;
        self.health()?;
        if !self.consensus.is_leader() {
            return Err(Failure::NotLeader);
        }
        if self.is_alone() && self.is_full() {
            return Err(CommitError::NoLeader(self.no_room_text()).into());
        }
        self.check_quota(&txn)?;
        let frozen = self.proposer.freeze(&txn);
        self.read().prepare(&mut txn)?;
        tokio::select! {
            biased;
            answer = self.proposer.commit(txn, frozen) => answer,
            () = self.no_room() => Err(CommitError::Unknown(self.no_room_text()).into()),
        }
    }

    /// Whether this server's log waits for room on its disk.
    pub(crate) fn is_full(&self) -> bool {
        *self.writer.full().borrow()
    }

    /// What is said of a full disk.
    pub(crate) fn no_room_text(&self) -> String {
        let whose = match self.node.name.as_str() {
            "" => String::new(),
            name => format!(" of {name}"),
        };
        format!("the disk{whose} is full: writes go on once there is room, and nothing is lost")
    }

    /// Completes where the log has waited for room for as long as a write does. Where
    /// others have room, they take the write before that.
    async fn no_room(&self) {
        let mut full = self.writer.full();
        // Its sender lives as long as the store.
        let _ = full.wait_for(|full| *full).await;
        tokio::time::sleep(NO_ROOM_MAX).await;
    }

    /// A renewal on this server, which must lead and have just been told so by
    /// a quorum; `None` where it must be a write to the log.
    pub(crate) fn renew_here(&self, renewal: &Renewal) -> Option<Result<Committed, Failure>> {
        if !self.consensus.is_leader() {
            return Some(Err(Failure::NotLeader));
        }
        let key = &renewal.put.key;
        let renewed = self.proposer.unless_frozen(key, || {
            let mut mvcc = self.shared.mvcc.write().unwrap_or_else(PoisonError::into_inner);
            mvcc.tick(self.shared.start.elapsed());
            let answer = mvcc.renew(renewal.clone());
            if let Some(Ok(_)) = answer
                && let Some(renewed) = mvcc.renewed(key)
            {
                self.made.add(renewed);
            }
            answer
        });
        Some(renewed.flatten()?.map_err(Failure::from))
    }
}

impl Drop for RaftStore {
    fn drop(&mut self) {
        // Without `shutdown` the log ends as after a crash, but it does end.
        self.lock_tasks().drain(..).for_each(|task| task.abort());
    }
}

struct Opened {
    dir: StoreDir,
    shared: Arc<Shared>,
    writer: Arc<Writer>,
}

fn open_disk(options: &OpenOptions, disk: Arc<dyn Disk>) -> Result<Opened, OpenError> {
    let damaged = |what: String| OpenError::Damaged { dir: options.dir.clone(), what };
    let dir = StoreDir::open(&options.dir, &*disk, options.join, options.id)?;
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
        key: Arc::new(dir.key()),
        cluster: dir.cluster,
        start: Instant::now(),
        snapshot_due: Notify::new(),
        progress: Mutex::default(),
        snapshot_log_bytes: options.snapshot_log_bytes,
        heard: Mutex::default(),
        receiving: tokio::sync::Mutex::default(),
        renewals: watch::Sender::default(),
    });
    if let Some(snapshot) = snapshot {
        shared.restore(snapshot).map_err(|error| damaged(error.to_string()))?;
    }
    let writer = Writer::start(log).map_err(|error| OpenError::Raft(error.to_string()))?;
    Ok(Opened { dir, shared, writer: Arc::new(writer) })
}

/// How long a write waits for room: less than whoever passed it on waits for the answer.
/// Tests have a disk that tells nobody either, and are less patient.
const NO_ROOM_MAX: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 8000 });

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
        Box::pin(self.commit_anywhere(txn))
    }

    fn renew(&self, renewal: Renewal) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(self.renew_anywhere(renewal))
    }

    fn read_barrier(&self) -> BoxFuture<'_, Result<Revision, CommitError>> {
        Box::pin(async move {
            self.read_barrier_anywhere().await?;
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

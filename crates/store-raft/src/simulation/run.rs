//! One seed.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use store::{
    CommitError, EventKind, Key, Op as StoreOp, Put, Revision, Store, Txn, Value,
    linear::{Entry, Op},
};
use tokio::time::{sleep, timeout};

use super::{
    clock::{self, Pace},
    judge::{Told, Written},
    lease,
    random::Random,
};
use crate::{
    OpenError, OpenOptions, RaftStore,
    cluster_test::net::{Net, Weather},
    disk::sim::SimDisk,
};

pub(super) const SERVERS: usize = 3;
const CLIENTS: usize = 4;
pub(super) const KEYS: u64 = 3;
/// Simulated time with faults.
const STORM: Duration = Duration::from_secs(12);

/// What was seen, for the comparison of two runs: every event of the first
/// server's watch.
pub(super) type Trace = Vec<(u64, String)>;

pub(super) struct Seat {
    dir: tempfile::TempDir,
    disk: RefCell<SimDisk>,
    store: RefCell<Option<Arc<RaftStore>>>,
    /// How fast its clock runs, over all its lives.
    pub(super) pace: Pace,
    /// What its watches told, over all its lives.
    pub(super) told: RefCell<Vec<Told>>,
    pub(super) resume: Cell<Revision>,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) net: Arc<Net>,
    pub(super) seats: Vec<Seat>,
    /// Ticks with every call and return.
    clock: Cell<u64>,
    next_value: Cell<u64>,
    pub(super) histories: RefCell<BTreeMap<u64, Vec<Entry>>>,
    /// What clients wrote, or may have written.
    pub(super) written: RefCell<Vec<Written>>,
    /// The highest revision that was acknowledged, by the time it was.
    pub(super) acknowledged: RefCell<Revision>,
    pub(super) leases: lease::Leases,
    pub(super) over: Cell<bool>,
}

pub(super) fn address(at: usize) -> String {
    format!("s{at}:1")
}

pub(super) fn key(number: u64) -> Key {
    Key::new("", "configmaps", "default", &format!("k{number}"))
}

pub(super) fn put(key: Key, value: u64) -> Put {
    // Large enough for snapshots and for more than one block.
    let data = format!("{value:020}{}", "x".repeat(700)).into();
    Put { key, value: Value { epoch: 1, data }, revision_at: None }
}

pub(super) fn value_of(data: &[u8]) -> u64 {
    std::str::from_utf8(&data[..20]).ok().and_then(|text| text.parse().ok()).expect("our own")
}

/// Runs a seed; panics where a promise is broken.
pub(super) fn run(seed: u64) -> Trace {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    // Which of several tasks wakes first is random otherwise.
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(simulate(seed)))
}

async fn simulate(seed: u64) -> Trace {
    let random = Random::new(seed);
    let world = Rc::new(World {
        net: Net::new(),
        seats: (0..SERVERS).map(|_| Seat::new(Pace::any(&random))).collect(),
        random,
        clock: Cell::new(1),
        next_value: Cell::new(1),
        histories: RefCell::default(),
        written: RefCell::default(),
        acknowledged: RefCell::new(Revision::ZERO),
        leases: lease::Leases::default(),
        over: Cell::new(false),
    });
    for at in 0..SERVERS {
        world.join(at).await;
    }
    let storms = tokio::task::spawn_local(storm(world.clone()));
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| tokio::task::spawn_local(client(world.clone()))).collect();
    let leases = lease::start(&world);
    let watchers: Vec<_> =
        (0..SERVERS).map(|at| tokio::task::spawn_local(watch(world.clone(), at))).collect();
    storms.await.expect("the storm ends");
    world.over.set(true);
    for client in clients {
        client.await.expect("a client ends");
    }
    for lease in leases {
        lease.await.expect("a holder ends");
    }
    world.ends_well().await;
    watchers.iter().for_each(tokio::task::JoinHandle::abort);
    world.judge(seed)
}

impl Seat {
    fn new(pace: Pace) -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory for the test"),
            disk: RefCell::new(SimDisk::new()),
            store: RefCell::new(None),
            pace,
            told: RefCell::default(),
            resume: Cell::new(Revision::ZERO),
        }
    }

    pub(super) fn store(&self) -> Option<Arc<RaftStore>> {
        self.store.borrow().clone()
    }
}

impl World {
    pub(super) fn now(&self) -> u64 {
        let now = self.clock.get();
        self.clock.set(now + 1);
        now
    }

    pub(super) fn new_value(&self) -> u64 {
        let value = self.next_value.get();
        self.next_value.set(value + 1);
        value
    }

    fn options(&self, at: usize) -> OpenOptions {
        OpenOptions {
            disk: Some(Arc::new(self.seats[at].disk.borrow().clone())),
            id: Some(at as u64 + 1),
            name: format!("s{at}"),
            address: address(at),
            peers: self.net.from(&address(at)),
            segment_bytes: 64 << 10,
            first_segment_bytes: 32 << 10,
            // Often enough for followers to be sent one.
            snapshot_log_bytes: 48 << 10,
            ..OpenOptions::new(self.seats[at].dir.path())
        }
    }

    async fn join(&self, at: usize) {
        let join = self.seats[0].store().filter(|_| at > 0).map(|store| store.cluster_id());
        let options = OpenOptions { join, ..self.options(at) };
        let store = self.open(at, options).await.expect("a new store");
        if at > 0 {
            store.join(&[address(0)]).await.expect("taken in");
        }
        self.seats[at].resume.set(store.revision());
        *self.seats[at].store.borrow_mut() = Some(store);
    }

    /// A server by its own clock, which others reach.
    async fn open(&self, at: usize, options: OpenOptions) -> Result<Arc<RaftStore>, OpenError> {
        let pace = self.seats[at].pace;
        let store = pace.scope(RaftStore::open(options)).await?;
        self.net.listen(&address(at), clock::paced(pace, store.service()));
        Ok(store)
    }

    /// The power goes. What was not synced is lost or kept, as a whole.
    pub(super) async fn kill(&self, at: usize) {
        let Some(store) = self.seats[at].store.borrow_mut().take() else { return };
        self.net.leave(&address(at));
        let keep_unsynced = self.random.chance(500);
        let lost = {
            let disk = self.seats[at].disk.borrow();
            disk.crash_at(disk.step_count(), 0, keep_unsynced)
        };
        *self.seats[at].disk.borrow_mut() = lost;
        store.consensus.shutdown().await;
    }

    pub(super) async fn start(&self, at: usize) {
        if self.seats[at].store().is_some() {
            return;
        }
        let store = loop {
            match self.open(at, self.options(at)).await {
                Ok(store) => break store,
                // Its former life's last tasks hold the lock for a moment.
                Err(OpenError::InUse { .. }) => sleep(Duration::from_millis(10)).await,
                Err(error) => panic!("server {at} does not start: {error}"),
            }
        };
        *self.seats[at].store.borrow_mut() = Some(store);
    }

    pub(super) fn record(&self, key: u64, op: Op, called: u64, known: bool) {
        let returned = known.then(|| self.now());
        let entry = Entry { op, called, returned };
        self.histories.borrow_mut().entry(key).or_default().push(entry);
    }

    /// A client's write was acknowledged, or may have been done.
    fn wrote(&self, key: u64, value: u64, revision: Option<Revision>) {
        let key = format!("k{key}");
        self.written.borrow_mut().push(Written { key, value, revision });
    }

    pub(super) fn acknowledge(&self, before: Revision, revision: Revision) {
        assert!(revision > before, "revision {revision} after {before} was acknowledged");
        let mut highest = self.acknowledged.borrow_mut();
        *highest = highest.max(revision);
    }
}

/// Faults until the storm is over, then none.
async fn storm(world: Rc<World>) {
    let random = world.random.clone();
    let start = tokio::time::Instant::now();
    world.net.weather(Some(Weather {
        random: random.clone(),
        lost_per_mille: [0, 5, 30, 100][random.index(4)],
        twice_per_mille: [0, 20, 100][random.index(3)],
        delay_max: Duration::from_millis([2, 20, 100][random.index(3)]),
    }));
    while start.elapsed() < STORM {
        sleep(Duration::from_millis(200 + random.below(2500))).await;
        let at = random.index(SERVERS);
        match random.below(6) {
            0 => {
                world.net.cut(&address(at), true);
                sleep(Duration::from_millis(random.below(4000))).await;
                world.net.cut(&address(at), false);
            }
            1 | 2 => {
                world.kill(at).await;
                sleep(Duration::from_millis(random.below(3000))).await;
                world.start(at).await;
            }
            3 => {
                // In the middle of what it writes next.
                world.seats[at].disk.borrow().fail_after(random.index(6));
                sleep(Duration::from_millis(random.below(500))).await;
                world.kill(at).await;
                world.start(at).await;
            }
            4 => {
                // A majority at once.
                let other = (at + 1) % SERVERS;
                world.kill(at).await;
                world.kill(other).await;
                sleep(Duration::from_millis(random.below(3000))).await;
                world.start(other).await;
                world.start(at).await;
            }
            _ => {
                // As a server does that stops in order: a leader whose word to the next one
                // is lost takes no more writes, and starts anew.
                if let Some(store) = world.seats[at].store() {
                    world.seats[at].pace.scope(store.consensus.hand_over()).await;
                    drop(store);
                    world.kill(at).await;
                    sleep(Duration::from_millis(random.below(1000))).await;
                    world.start(at).await;
                }
            }
        }
    }
    world.net.weather(None);
}

/// A user of any server.
async fn client(world: Rc<World>) {
    let random = world.random.clone();
    while !world.over.get() {
        sleep(Duration::from_millis(random.below(300))).await;
        let seat = &world.seats[random.index(SERVERS)];
        let Some(store) = seat.store() else { continue };
        let number = random.below(KEYS);
        let called = world.now();
        let before = *world.acknowledged.borrow();
        match random.below(4) {
            0 => {
                if seat.pace.scope(store.read_barrier()).await.is_ok() {
                    let found = store.get(&key(number), None).expect("the present");
                    let found = found.map_or(0, |item| value_of(&item.value.data));
                    world.record(number, Op::Read(found), called, true);
                }
            }
            1 => {
                let value = world.new_value();
                let ops = vec![StoreOp::Put(put(key(number), value))];
                let txn = Txn { conditions: Vec::new(), ops };
                match seat.pace.scope(store.commit(txn)).await {
                    Ok(committed) => {
                        world.record(number, Op::Write(value), called, true);
                        world.wrote(number, value, Some(committed.revision));
                        world.acknowledge(before, committed.revision);
                    }
                    Err(CommitError::Unknown(_)) => {
                        world.record(number, Op::Write(value), called, false);
                        world.wrote(number, value, None);
                    }
                    Err(_) => {}
                }
            }
            _ => {
                // What this server has may be old: then the swap must not hold.
                let found = store.get(&key(number), None).expect("the present");
                let (old, value) = match &found {
                    None => (0, world.new_value()),
                    Some(item) => (value_of(&item.value.data), world.new_value()),
                };
                let new = put(key(number), value);
                let txn = match &found {
                    None => Txn::create(new),
                    Some(item) => Txn::update(new, item.revision),
                };
                match seat.pace.scope(store.commit(txn)).await {
                    Ok(committed) => {
                        world.record(number, Op::Swap(old, value, true), called, true);
                        world.wrote(number, value, Some(committed.revision));
                        world.acknowledge(before, committed.revision);
                    }
                    Err(CommitError::Conflict(_)) => {
                        world.record(number, Op::Swap(old, value, false), called, true);
                    }
                    // It held or was never tried: nobody knows.
                    Err(CommitError::Unknown(_)) => {
                        world.record(number, Op::Swap(old, value, true), called, false);
                        world.wrote(number, value, None);
                    }
                    Err(_) => {}
                }
            }
        }
    }
}

/// What a watch on a server tells, begun again from where it ended.
async fn watch(world: Rc<World>, at: usize) {
    let seat = &world.seats[at];
    loop {
        let Some(store) = seat.store() else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        // The last server that was told of later revisions may be ahead.
        let mut watcher = match store.watch("/configmaps/", seat.resume.get()) {
            Ok(watcher) => watcher,
            Err(store::ReadError::Future { .. }) => {
                drop(store);
                sleep(Duration::from_millis(20)).await;
                continue;
            }
            Err(error) => panic!("the history is long enough: {error}"),
        };
        let life = Arc::downgrade(&store);
        drop(store);
        // A store that was killed tells nothing more.
        let is_over = || {
            let store = seat.store();
            store.is_none_or(|store| !std::ptr::eq(Arc::as_ptr(&store), life.as_ptr()))
        };
        loop {
            let next = timeout(Duration::from_millis(500), watcher.next()).await;
            match next {
                Ok(Ok(batch)) => {
                    for event in &batch.events {
                        assert!(event.revision > seat.resume.get(), "server {at} told twice");
                        seat.resume.set(event.revision);
                        let value = match &event.kind {
                            EventKind::Put { value, .. } => value_of(&value.data),
                            EventKind::Delete => 0,
                        };
                        let key = event.key.name().to_owned();
                        let told = Told { revision: event.revision, key, value };
                        seat.told.borrow_mut().push(told);
                    }
                }
                Ok(Err(_)) => break,
                Err(_) if is_over() => break,
                Err(_) => {}
            }
        }
        sleep(Duration::from_millis(10)).await;
    }
}

//! One seed.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use store::{
    CommitError, EventKind, Key, Op as StoreOp, Put, Range, Renewal, Revision, Store, Txn, Value,
};
use tokio::time::{sleep, timeout};

use store::linear::{Entry, Op, is_linearizable};

use super::random::Random;
use crate::{
    OpenError, OpenOptions, RaftStore,
    cluster_test::net::{Net, Weather},
    disk::sim::SimDisk,
};

const SERVERS: usize = 3;
const CLIENTS: usize = 4;
const KEYS: u64 = 3;
/// Simulated time with faults.
const STORM: Duration = Duration::from_secs(12);

/// What was seen, for the comparison of two runs: every event of the first
/// server's watch.
pub(super) type Trace = Vec<(u64, String)>;

struct Seat {
    dir: tempfile::TempDir,
    disk: RefCell<SimDisk>,
    store: RefCell<Option<Arc<RaftStore>>>,
    /// What its watches told, over all its lives.
    told: RefCell<Vec<(Revision, String, u64)>>,
    resume: Cell<Revision>,
}

struct World {
    random: Random,
    net: Arc<Net>,
    seats: Vec<Seat>,
    /// Ticks with every call and return.
    clock: Cell<u64>,
    next_value: Cell<u64>,
    histories: RefCell<BTreeMap<u64, Vec<Entry>>>,
    /// The highest revision that was acknowledged, by the time it was.
    acknowledged: RefCell<Revision>,
    over: Cell<bool>,
}

fn address(at: usize) -> String {
    format!("s{at}:1")
}

fn key(number: u64) -> Key {
    Key::new("", "configmaps", "default", &format!("k{number}"))
}

fn put(key: Key, value: u64) -> Put {
    // Large enough for snapshots and for more than one block.
    let data = format!("{value:020}{}", "x".repeat(700)).into();
    Put { key, value: Value { epoch: 1, data }, revision_at: None }
}

fn value_of(data: &[u8]) -> u64 {
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
    let world = Rc::new(World {
        random: Random::new(seed),
        net: Net::new(),
        seats: (0..SERVERS).map(|_| Seat::new()).collect(),
        clock: Cell::new(1),
        next_value: Cell::new(1),
        histories: RefCell::default(),
        acknowledged: RefCell::new(Revision::ZERO),
        over: Cell::new(false),
    });
    for at in 0..SERVERS {
        world.join(at).await;
    }
    let storms = tokio::task::spawn_local(storm(world.clone()));
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| tokio::task::spawn_local(client(world.clone()))).collect();
    let leases = tokio::task::spawn_local(lease(world.clone()));
    let watchers: Vec<_> =
        (0..SERVERS).map(|at| tokio::task::spawn_local(watch(world.clone(), at))).collect();
    storms.await.expect("the storm ends");
    world.over.set(true);
    for client in clients {
        client.await.expect("a client ends");
    }
    leases.await.expect("the lease's holder ends");
    world.ends_well().await;
    watchers.iter().for_each(tokio::task::JoinHandle::abort);
    world.judge(seed)
}

impl Seat {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory for the test"),
            disk: RefCell::new(SimDisk::new()),
            store: RefCell::new(None),
            told: RefCell::default(),
            resume: Cell::new(Revision::ZERO),
        }
    }

    fn store(&self) -> Option<Arc<RaftStore>> {
        self.store.borrow().clone()
    }
}

impl World {
    fn now(&self) -> u64 {
        let now = self.clock.get();
        self.clock.set(now + 1);
        now
    }

    fn new_value(&self) -> u64 {
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
        let store = RaftStore::open(options).await.expect("a new store");
        self.net.listen(&address(at), store.service());
        if at > 0 {
            store.join(&[address(0)]).await.expect("taken in");
        }
        self.seats[at].resume.set(store.revision());
        *self.seats[at].store.borrow_mut() = Some(store);
    }

    /// The power goes. What was not synced is lost or kept, as a whole.
    async fn kill(&self, at: usize) {
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

    async fn start(&self, at: usize) {
        if self.seats[at].store().is_some() {
            return;
        }
        let store = loop {
            match RaftStore::open(self.options(at)).await {
                Ok(store) => break store,
                // Its former life's last tasks hold the lock for a moment.
                Err(OpenError::InUse { .. }) => sleep(Duration::from_millis(10)).await,
                Err(error) => panic!("server {at} does not start: {error}"),
            }
        };
        self.net.listen(&address(at), store.service());
        *self.seats[at].store.borrow_mut() = Some(store);
    }

    fn record(&self, key: u64, op: Op, called: u64, known: bool) {
        let returned = known.then(|| self.now());
        let entry = Entry { op, called, returned };
        self.histories.borrow_mut().entry(key).or_default().push(entry);
    }

    fn acknowledge(&self, before: Revision, revision: Revision) {
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
                if let Some(store) = world.seats[at].store() {
                    store.consensus.hand_over().await;
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
        let Some(store) = world.seats[random.index(SERVERS)].store() else { continue };
        let number = random.below(KEYS);
        let called = world.now();
        let before = *world.acknowledged.borrow();
        match random.below(4) {
            0 => {
                if store.read_barrier().await.is_ok() {
                    let found = store.get(&key(number), None).expect("the present");
                    let found = found.map_or(0, |item| value_of(&item.value.data));
                    world.record(number, Op::Read(found), called, true);
                }
            }
            1 => {
                let value = world.new_value();
                let ops = vec![StoreOp::Put(put(key(number), value))];
                match store.commit(Txn { conditions: Vec::new(), ops }).await {
                    Ok(committed) => {
                        world.record(number, Op::Write(value), called, true);
                        world.acknowledge(before, committed.revision);
                    }
                    Err(CommitError::Unknown(_)) => {
                        world.record(number, Op::Write(value), called, false);
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
                match store.commit(txn).await {
                    Ok(committed) => {
                        world.record(number, Op::Swap(old, value, true), called, true);
                        world.acknowledge(before, committed.revision);
                    }
                    Err(CommitError::Conflict(_)) => {
                        world.record(number, Op::Swap(old, value, false), called, true);
                    }
                    // It held or was never tried: nobody knows.
                    Err(CommitError::Unknown(_)) => {
                        world.record(number, Op::Swap(old, value, true), called, false);
                    }
                    Err(_) => {}
                }
            }
        }
    }
}

/// The holder of a lease: renewals are given rising revisions like all else.
async fn lease(world: Rc<World>) {
    let random = world.random.clone();
    let key = Key::new("", "leases", "default", "holder");
    while !world.over.get() {
        sleep(Duration::from_millis(100 + random.below(400))).await;
        let Some(store) = world.seats[random.index(SERVERS)].store() else { continue };
        let before = *world.acknowledged.borrow();
        let new = put(key.clone(), world.new_value());
        let held = store.get(&key, None).expect("the present");
        let answer = match held {
            None => store.commit(Txn::create(new)).await,
            Some(item) => store.renew(Renewal { put: new, at: item.revision }).await,
        };
        if let Ok(committed) = answer {
            world.acknowledge(before, committed.revision);
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
                        let told = (event.revision, event.key.name().to_owned(), value);
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

impl World {
    /// After the storm everything works again, and everybody knows the same.
    async fn ends_well(&self) {
        for at in 0..SERVERS {
            self.net.cut(&address(at), false);
            // A disk that failed is replaced by one that holds what it held.
            if self.seats[at].store().is_some_and(|store| store.health().is_err()) {
                self.kill(at).await;
            }
            self.start(at).await;
        }
        let settled = async {
            for at in 0..SERVERS {
                let store = self.seats[at].store().expect("it runs");
                while store.commit(Txn::default()).await.is_err() {
                    sleep(Duration::from_millis(100)).await;
                }
                while store.read_barrier().await.is_err() {
                    sleep(Duration::from_millis(100)).await;
                }
            }
        };
        timeout(Duration::from_secs(120), settled).await.expect("it recovers by itself");
        let last = self.seats[0].store().expect("it runs");
        let page = last.range(&Range::all("/configmaps/")).expect("readable");
        let newest = page.items.iter().map(|item| item.revision).max().unwrap_or_default();
        for seat in &self.seats {
            let store = seat.store().expect("it runs");
            store.read_barrier().await.expect("a quorum");
            assert_eq!(
                store.range(&Range::all("/configmaps/")).expect("readable").items,
                page.items
            );
            let told = async {
                while seat.resume.get() < newest {
                    sleep(Duration::from_millis(10)).await;
                }
            };
            timeout(Duration::from_secs(20), told).await.expect("the watch tells the last change");
        }
        for number in 0..KEYS {
            let item = last.get(&key(number), None).expect("the present");
            let found = item.map_or(0, |item| value_of(&item.value.data));
            let called = self.now();
            self.record(number, Op::Read(found), called, true);
        }
    }

    fn judge(&self, seed: u64) -> Trace {
        for (number, history) in self.histories.borrow().iter() {
            assert!(
                is_linearizable(history),
                "seed {seed}: the history of key {number} is not linearizable: {history:#?}"
            );
        }
        let first = self.seats[0].told.borrow();
        for (at, seat) in self.seats.iter().enumerate().skip(1) {
            // They began to watch one after the other.
            let told = seat.told.borrow();
            let (a, b) = (&first[..], &told[..]);
            let both = a.len().min(b.len());
            assert_eq!(a[a.len() - both..], b[b.len() - both..], "seed {seed}: servers 0 and {at}");
        }
        first.iter().map(|(revision, key, value)| (revision.0, format!("{key}={value}"))).collect()
    }
}

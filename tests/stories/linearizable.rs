//! What clients of three servers see while those are frozen, cut off and killed is what
//! one server would have shown them: the history of every key is linearizable, no
//! acknowledged write is lost, no watch skips, repeats or reorders, resourceVersions rise,
//! and of those who contend for a Lease one at most holds it.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use futures_util::TryStreamExt as _;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::ConfigMap};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use store::linear::{Entry, Op, is_linearizable};
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{Segment, Spoilt, World, until};

const SERVERS: [&str; 3] = ["server-1", "server-2", "server-3"];
const KEYS: u64 = 3;
/// Of each server.
const CLIENTS: u64 = 2;
/// After so long nobody knows what came of a request.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who sees a Lease unchanged for so long may take it,
const LEASE: Duration = Duration::from_secs(2);
/// and who holds it lets go so long after it last asked to keep it.
const DEADLINE: Duration = Duration::from_millis(1500);

/// Between the faults and the clients.
#[derive(Default)]
struct Shared {
    over: AtomicBool,
    /// Writes of values, of which there have to be enough in the end.
    acknowledged: AtomicU64,
}

/// What all clients saw.
struct Book<'a> {
    shared: &'a Shared,
    ticks: Cell<u64>,
    next: Cell<u64>,
    histories: RefCell<BTreeMap<u64, Vec<Entry>>>,
    /// The highest resourceVersion that anybody was told.
    highest: Cell<u64>,
    /// Acknowledged writes, by resourceVersion.
    written: RefCell<BTreeMap<u64, (u64, u64)>>,
    /// What the watch on each server told.
    told: RefCell<BTreeMap<usize, Vec<Told>>>,
    holds: RefCell<Vec<Hold>>,
}

/// An event: resourceVersion, key, value.
type Told = (u64, u64, u64);

/// A time in which somebody took itself for the holder.
struct Hold {
    who: usize,
    from: Instant,
    until: Instant,
}

fn name(key: u64) -> String {
    format!("k{key}")
}

fn object(key: u64, value: u64, version: Option<&str>) -> ConfigMap {
    let map = json!({
        "metadata": {"name": name(key), "resourceVersion": version},
        "data": {"value": value.to_string()},
    });
    serde_json::from_value(map).expect("a ConfigMap")
}

fn value_of(map: &ConfigMap) -> u64 {
    let value = map.data.as_ref().and_then(|data| data.get("value"));
    value.and_then(|value| value.parse().ok()).expect("our own")
}

fn version_of(version: Option<&String>) -> u64 {
    version.and_then(|version| version.parse().ok()).expect("a resourceVersion")
}

/// How a write ended.
enum Ended<T> {
    Done(T),
    Conflict,
    Missing,
    /// Or nothing was done: what is asked is whether it may have been.
    Unknown,
}

async fn ended<T>(call: impl Future<Output = kube::Result<T>>) -> Ended<T> {
    match timeout(PATIENCE, call).await {
        Ok(Ok(done)) => Ended::Done(done),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ended::Missing,
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ended::Conflict,
        _ => Ended::Unknown,
    }
}

impl Book<'_> {
    fn now(&self) -> u64 {
        self.ticks.set(self.ticks.get() + 1);
        self.ticks.get()
    }

    fn new_value(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }

    fn is_over(&self) -> bool {
        self.shared.over.load(Ordering::Relaxed)
    }

    fn record(&self, key: u64, op: Op, called: u64, is_known: bool) {
        let returned = is_known.then(|| self.now());
        self.histories.borrow_mut().entry(key).or_default().push(Entry { op, called, returned });
    }

    /// Takes in the resourceVersion of an answer to what was asked when the highest was
    /// `before`.
    fn rises(&self, before: u64, version: u64) {
        assert!(version > before, "resourceVersion {version} was given after {before}");
        self.highest.set(self.highest.get().max(version));
    }

    fn acknowledge(&self, before: u64, version: u64, key: u64, value: u64) {
        self.rises(before, version);
        self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
        let twin = self.written.borrow_mut().insert(version, (key, value));
        assert_eq!(twin, None, "two writes have the resourceVersion {version}");
    }

    /// Somebody who does this and that through one server.
    async fn client(&self, maps: Api<ConfigMap>, seed: u64) {
        let mut dice = seed;
        let mut roll = |sides: u64| {
            // Steps of a congruential generator (Knuth's constants); the high bits are good.
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed | 1);
            (dice >> 33) % sides
        };
        while !self.is_over() {
            sleep(Duration::from_millis(10 + roll(40))).await;
            let key = roll(KEYS);
            match roll(8) {
                0 | 1 => self.read(&maps, key).await,
                2 => self.list(&maps).await,
                3 => self.write(&maps, key).await,
                4 => self.delete(&maps, key).await,
                _ => self.swap(&maps, key).await,
            }
        }
    }

    async fn read(&self, maps: &Api<ConfigMap>, key: u64) {
        let called = self.now();
        if let Ok(Ok(found)) = timeout(PATIENCE, maps.get_opt(&name(key))).await {
            let value = found.as_ref().map_or(0, value_of);
            self.record(key, Op::Read(value), called, true);
        }
    }

    async fn list(&self, maps: &Api<ConfigMap>) {
        let (called, before) = (self.now(), self.highest.get());
        let only = ListParams::default();
        let Ok(Ok(list)) = timeout(PATIENCE, maps.list(&only)).await else { return };
        let version = version_of(list.metadata.resource_version.as_ref());
        assert!(version >= before, "a list of {version} was given after {before}");
        for key in 0..KEYS {
            let found = list.items.iter().find(|map| map.name_any() == name(key));
            self.record(key, Op::Read(found.map_or(0, value_of)), called, true);
        }
    }

    /// Whatever it was; there must be one.
    async fn write(&self, maps: &Api<ConfigMap>, key: u64) {
        let (called, before, value) = (self.now(), self.highest.get(), self.new_value());
        let new = object(key, value, None);
        match ended(maps.replace(&name(key), &PostParams::default(), &new)).await {
            Ended::Done(done) => {
                self.record(key, Op::Write(value), called, true);
                let version = version_of(done.metadata.resource_version.as_ref());
                self.acknowledge(before, version, key, value);
            }
            Ended::Missing => self.record(key, Op::Read(0), called, true),
            // Others came before it as often as it tried.
            Ended::Conflict => {}
            Ended::Unknown => self.record(key, Op::Write(value), called, false),
        }
    }

    async fn delete(&self, maps: &Api<ConfigMap>, key: u64) {
        let called = self.now();
        match ended(maps.delete(&name(key), &DeleteParams::default())).await {
            Ended::Done(_) => {
                self.record(key, Op::Write(0), called, true);
            }
            Ended::Missing => self.record(key, Op::Read(0), called, true),
            Ended::Conflict => {}
            Ended::Unknown => self.record(key, Op::Write(0), called, false),
        }
    }

    /// From what was read before, by this server's word.
    async fn swap(&self, maps: &Api<ConfigMap>, key: u64) {
        let read = self.now();
        let Ok(Ok(found)) = timeout(PATIENCE, maps.get_opt(&name(key))).await else { return };
        let old = found.as_ref().map_or(0, value_of);
        self.record(key, Op::Read(old), read, true);
        let (called, before, value) = (self.now(), self.highest.get(), self.new_value());
        let params = PostParams::default();
        let answer = match &found {
            None => ended(maps.create(&params, &object(key, value, None))).await,
            Some(found) => {
                let new = object(key, value, found.metadata.resource_version.as_deref());
                ended(maps.replace(&name(key), &params, &new)).await
            }
        };
        match answer {
            Ended::Done(done) => {
                self.record(key, Op::Swap(old, value, true), called, true);
                let version = version_of(done.metadata.resource_version.as_ref());
                self.acknowledge(before, version, key, value);
            }
            Ended::Conflict | Ended::Missing => {
                self.record(key, Op::Swap(old, value, false), called, true);
            }
            Ended::Unknown => self.record(key, Op::Swap(old, value, true), called, false),
        }
    }

    /// A watch on one server, begun again from where it ended.
    async fn watch(&self, maps: Api<ConfigMap>, server: usize, start: u64) {
        let mut at = start;
        loop {
            let params = WatchParams::default().disable_bookmarks();
            // One that is behind what was told elsewhere says so, and is asked again.
            if let Ok(events) = maps.watch(&params, &at.to_string()).await {
                let mut events = std::pin::pin!(events);
                while let Ok(Some(event)) = events.try_next().await {
                    let (map, is_there) = match event {
                        WatchEvent::Added(map) | WatchEvent::Modified(map) => (map, true),
                        WatchEvent::Deleted(map) => (map, false),
                        WatchEvent::Error(status) if status.code == 410 => {
                            panic!("the history is long enough: {status:?}")
                        }
                        _ => break,
                    };
                    let Some(key) = map.name_any().strip_prefix('k').and_then(|n| n.parse().ok())
                    else {
                        continue;
                    };
                    let version = version_of(map.metadata.resource_version.as_ref());
                    assert!(version > at, "{}: told {version} after {at}", SERVERS[server]);
                    at = version;
                    let value = if is_there { value_of(&map) } else { 0 };
                    self.told.borrow_mut().entry(server).or_default().push((version, key, value));
                }
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// One of those who contend for a Lease, as leader election of client-go does.
    async fn contend(&self, leases: Api<Lease>, who: usize) {
        let params = PostParams::default();
        let mut seen: Option<(String, Instant)> = None;
        while !self.is_over() {
            sleep(Duration::from_millis(200)).await;
            let found = match timeout(PATIENCE, leases.get_opt("one")).await {
                Ok(Ok(found)) => found,
                _ => continue,
            };
            let mut new: Value = match &found {
                None => json!({"metadata": {"name": "one"}, "spec": {}}),
                Some(lease) => {
                    let version = lease.resource_version().expect("a resourceVersion");
                    if seen.as_ref().is_none_or(|(seen, _)| *seen != version) {
                        seen = Some((version, Instant::now()));
                    }
                    let spec = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
                    let is_mine = spec == Some(&*who.to_string());
                    if !is_mine && seen.as_ref().is_none_or(|(_, at)| at.elapsed() < LEASE) {
                        continue;
                    }
                    serde_json::to_value(lease).expect("JSON")
                }
            };
            new["spec"]["holderIdentity"] = who.to_string().into();
            new["spec"]["renewTime"] = format!("{:.6}", jiff::Timestamp::now()).into();
            let new: Lease = serde_json::from_value(new).expect("a Lease");
            let (called, before) = (Instant::now(), self.highest.get());
            let answer = match &found {
                None => ended(leases.create(&params, &new)).await,
                Some(_) => ended(leases.replace("one", &params, &new)).await,
            };
            if let Ended::Done(done) = answer {
                self.rises(before, version_of(done.metadata.resource_version.as_ref()));
                let hold = Hold { who, from: Instant::now(), until: called + DEADLINE };
                self.holds.borrow_mut().push(hold);
            }
        }
    }

    fn judge(&self, start: u64) {
        let told = self.told.borrow();
        let first = &told[&0];
        for (server, all) in told.iter() {
            assert_eq!(all.len(), first.len(), "{} told more or less", SERVERS[*server]);
            assert_eq!(all, first, "{} told otherwise", SERVERS[*server]);
        }
        let by_version: BTreeMap<u64, (u64, u64)> =
            first.iter().map(|(version, key, value)| (*version, (*key, *value))).collect();
        let written = self.written.borrow();
        for (version, what) in written.range(start..) {
            assert_eq!(by_version.get(version), Some(what), "the write {version} was not told");
        }
        let holds = self.holds.borrow();
        for (at, one) in holds.iter().enumerate() {
            for other in &holds[at + 1..] {
                let both = one.from.max(other.from) < one.until.min(other.until);
                assert!(one.who == other.who || !both, "{} and {} held it", one.who, other.who);
            }
        }
        let holders: std::collections::BTreeSet<usize> =
            holds.iter().map(|hold| hold.who).collect();
        let histories = self.histories.borrow();
        let count: usize = histories.values().map(Vec::len).sum();
        let lost = histories.values().flatten().filter(|entry| entry.returned.is_none()).count();
        eprintln!(
            "{count} operations, of {lost} nobody knows the outcome; {} writes, {} events on \
             each server, {} holds by {} holders",
            written.len(),
            first.len(),
            holds.len(),
            holders.len()
        );
        assert!(written.len() > 200 && holders.len() > 1, "too little happened");
        for (key, history) in histories.iter() {
            assert!(is_linearizable(history), "key {key} is not linearizable: {history:#?}");
        }
    }
}

fn client_of(config: &Config, url: &str) -> Client {
    let mut config = config.clone();
    config.cluster_url = url.parse().expect("a URL");
    config.connect_timeout = Some(Duration::from_secs(2));
    // It would meet its own write where an answer said that nobody knows.
    config.default_retry = false;
    Client::try_from(config).expect("a client")
}

/// All clients, until it is over; then what they saw is judged.
async fn clients(shared: &'static Shared, urls: Vec<String>, kubeconfig: std::path::PathBuf) {
    let file = Kubeconfig::read_from(kubeconfig).expect("the server wrote it");
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(file, &options).await.expect("complete");
    let servers: Vec<Client> = urls.iter().map(|url| client_of(&config, url)).collect();
    let maps = |at: usize| Api::<ConfigMap>::default_namespaced(servers[at].clone());
    let leases = |at: usize| Api::<Lease>::default_namespaced(servers[at].clone());
    let list = maps(0).list(&ListParams::default()).await.expect("it answers");
    let start = version_of(list.metadata.resource_version.as_ref());
    let book = Rc::new(Book {
        shared,
        ticks: Cell::new(1),
        next: Cell::new(0),
        histories: RefCell::default(),
        highest: Cell::new(start),
        written: RefCell::default(),
        told: RefCell::default(),
        holds: RefCell::default(),
    });
    let mut at_work = Vec::new();
    let mut watches = Vec::new();
    for server in 0..SERVERS.len() {
        for client in 0..CLIENTS {
            let (book, maps) = (book.clone(), maps(server));
            let seed = 7 + CLIENTS * server as u64 + client;
            at_work.push(tokio::task::spawn_local(async move { book.client(maps, seed).await }));
        }
        let (contender, leases) = (book.clone(), leases(server));
        let contend = async move { contender.contend(leases, server).await };
        at_work.push(tokio::task::spawn_local(contend));
        let (watcher, maps) = (book.clone(), maps(server));
        let watch = async move { watcher.watch(maps, server, start).await };
        watches.push(tokio::task::spawn_local(watch));
    }
    for one in at_work {
        one.await.expect("a client does not panic");
    }
    // All is well now: each key is read once more, and the watches tell the last event.
    for key in 0..KEYS {
        for server in 0..SERVERS.len() {
            book.read(&maps(server), key).await;
        }
    }
    let last = object(0, book.new_value(), None);
    let (called, before) = (book.now(), book.highest.get());
    let _ = maps(0).delete(&name(0), &DeleteParams::default()).await;
    book.record(0, Op::Write(0), called, true);
    let called = book.now();
    let made = maps(0).create(&PostParams::default(), &last).await.expect("all is well");
    book.record(0, Op::Write(value_of(&last)), called, true);
    let version = version_of(made.metadata.resource_version.as_ref());
    book.acknowledge(before, version, 0, value_of(&last));
    let has_all = || {
        let told = book.told.borrow();
        let last = |server| told.get(&server).and_then(|told| told.last());
        (0..SERVERS.len()).all(|server| last(server).is_some_and(|last| last.0 == version))
    };
    let told = async {
        while !has_all() && !watches.iter().any(tokio::task::JoinHandle::is_finished) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(60), told).await.expect("the watches tell the last write");
    for watch in watches {
        match watch.is_finished() {
            true => watch.await.expect("a watch does not panic"),
            false => watch.abort(),
        }
    }
    book.judge(start);
}

#[test]
fn clients_see_one_server_whatever_happens_to_three() {
    let Some(mut world) = World::new() else { return };
    world.add_all(&SERVERS, Segment::A);
    world.host_mut(SERVERS[0]).start(&["server"]);
    let token = world.host(SERVERS[0]).read("data/server/token").trim().to_owned();
    let url = format!("https://{}:6443", world.host(SERVERS[0]).address());
    for server in &SERVERS[1..] {
        world.host_mut(server).start(&["server", "--server", &url, "--token", &token]);
    }
    let shared: &'static Shared = Box::leak(Box::default());
    let urls = SERVERS.map(|server| format!("https://{}:6443", world.host(server).address()));
    let kubeconfig = world.host(SERVERS[0]).path("admin.yaml");
    let network = world.network();
    std::thread::scope(|scope| {
        let seen = scope.spawn(|| {
            network.within(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let work = clients(shared, urls.to_vec(), kubeconfig);
                let local = tokio::task::LocalSet::new();
                runtime.expect("a runtime").block_on(local.run_until(work));
            });
        });
        // Clients must not go on for ever where a fault panics.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            faults(&mut world, shared, || seen.is_finished());
        }));
        shared.over.store(true, Ordering::Relaxed);
        let seen = seen.join();
        seen.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn faults(world: &mut World, shared: &Shared, is_over: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    let more = |what: &str| {
        eprintln!("{:.1} s: {what}", began.elapsed().as_secs_f32());
        let begin = shared.acknowledged.load(Ordering::Relaxed);
        until(what, || shared.acknowledged.load(Ordering::Relaxed) > begin + 40 || is_over());
        assert!(!is_over(), "a client saw what must not be");
    };
    let all_well = |world: &World| {
        until("all servers are well", || {
            let rows = world.host(SERVERS[0]).servers();
            rows.len() == 3 && rows.iter().all(|row| row["health"] == "ok")
        });
    };
    more("the clients write");
    // Whoever leads stands still, longer than its lease, and goes on as if nothing
    // had happened.
    let leader = world.leader(SERVERS[0]);
    world.host(&leader).freeze(true);
    more("the others go on without a leader that stands still");
    world.host(&leader).freeze(false);
    more("it goes on");
    all_well(world);

    // It hears the others and is not heard, then neither.
    let leader = world.leader(SERVERS[0]);
    let others: Vec<&str> = SERVERS.into_iter().filter(|name| *name != leader).collect();
    for both in [false, true] {
        for other in &others {
            world.cut(&leader, other);
            if both {
                world.cut(other, &leader);
            }
        }
        more("the others go on without a leader that is cut off");
        for other in &others {
            world.heal(&leader, other);
            if both {
                world.heal(other, &leader);
            }
        }
        all_well(world);
    }

    // Two do not hear each other; what the third sends comes late, twice or not.
    let how =
        Spoilt { delay_ms: 5, jitter_ms: 20, lost_percent: 3, doubled_percent: 10, only: None };
    world.cut(others[0], others[1]);
    world.cut(others[1], others[0]);
    world.spoil(&leader, Some(how));
    more("they go on by the third");
    world.spoil(&leader, None);
    world.heal(others[0], others[1]);
    world.heal(others[1], others[0]);
    all_well(world);

    // It dies, and then a majority.
    let leader = world.leader(SERVERS[0]);
    let host = world.host_mut(&leader);
    host.kill();
    more("the others go on without a leader that died");
    let second = SERVERS.into_iter().find(|name| *name != leader).expect("there are three");
    world.host_mut(second).kill();
    for name in [leader.as_str(), second] {
        world.host_mut(name).start_again();
    }
    for name in [leader.as_str(), second] {
        world.host_mut(name).wait_ready();
    }
    more("all go on");
    all_well(world);
}

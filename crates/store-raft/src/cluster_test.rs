//! Several members in one process, on a network that can be cut.

mod election_test;
pub(crate) mod net;

use std::{sync::Arc, time::Duration};

use store::{CommitError, Key, Put, Range, Renewal, Revision, Store, Txn, Value};
use tokio::time::{sleep, timeout};

use self::net::Net;
use crate::{OpenOptions, RaftStore, disk::sim::SimDisk};

/// Members by number, each with a disk and a folder for its lock and key.
struct Cluster {
    net: Arc<Net>,
    seats: Vec<Seat>,
}

struct Seat {
    dir: tempfile::TempDir,
    disk: SimDisk,
    address: String,
    store: Option<Arc<RaftStore>>,
}

fn address(at: usize) -> String {
    format!("s{at}:1")
}

impl Cluster {
    fn new() -> Self {
        Self { net: Net::new(), seats: Vec::new() }
    }

    /// A new cluster of so many members.
    async fn of(count: usize) -> Self {
        let mut cluster = Self::new();
        for _ in 0..count {
            cluster.add().await;
        }
        cluster
    }

    fn options(&self, at: usize) -> OpenOptions {
        let seat = &self.seats[at];
        OpenOptions {
            disk: Some(Arc::new(seat.disk.clone())),
            name: format!("s{at}"),
            address: seat.address.clone(),
            peers: self.net.from(&seat.address),
            segment_bytes: 64 << 10,
            first_segment_bytes: 32 << 10,
            ..OpenOptions::new(seat.dir.path())
        }
    }

    /// One more, which joins the others if there are any.
    async fn add(&mut self) -> usize {
        let (at, others) = self.add_apart().await;
        if !others.is_empty() {
            self.at(at).join(&others).await.expect("taken in");
        }
        at
    }

    /// One more, which has not joined those that run, whose addresses are told.
    async fn add_apart(&mut self) -> (usize, Vec<String>) {
        let at = self.seats.len();
        let dir = tempfile::tempdir().expect("a directory for the test");
        self.seats.push(Seat { dir, disk: SimDisk::new(), address: address(at), store: None });
        let join = self.seats.iter().find_map(|seat| Some(seat.store.as_ref()?.cluster_id()));
        let options = OpenOptions { join, ..self.options(at) };
        let store = RaftStore::open(options).await.expect("a new store");
        self.net.listen(&address(at), store.service());
        let others: Vec<String> =
            (0..at).filter(|other| self.seats[*other].store.is_some()).map(address).collect();
        self.seats[at].store = Some(store);
        (at, others)
    }

    fn at(&self, at: usize) -> &Arc<RaftStore> {
        self.seats[at].store.as_ref().expect("it runs")
    }

    /// As after `kill -9` and the loss of power.
    async fn kill(&mut self, at: usize) {
        self.net.leave(&self.seats[at].address);
        let store = self.seats[at].store.take().expect("it runs");
        let disk = &self.seats[at].disk;
        let lost = disk.crash_at(disk.step_count(), 0, false);
        store.consensus.shutdown().await;
        drop(store);
        self.seats[at].disk = lost;
    }

    async fn start(&mut self, at: usize) {
        // The old one's tasks let go of its lock when they have ended.
        let store = loop {
            match RaftStore::open(self.options(at)).await {
                Ok(store) => break store,
                Err(crate::OpenError::InUse { .. }) => sleep(Duration::from_millis(10)).await,
                Err(error) => panic!("{error}"),
            }
        };
        self.net.listen(&self.seats[at].address, store.service());
        self.seats[at].store = Some(store);
    }

    async fn leader(&self) -> usize {
        let led = async {
            loop {
                let leads = |seat: &Seat| seat.store.as_ref().is_some_and(|s| *s.leads.borrow());
                let leading: Vec<usize> =
                    (0..self.seats.len()).filter(|at| leads(&self.seats[*at])).collect();
                for at in leading {
                    if self.at(at).consensus.read_index().await.is_ok() {
                        return at;
                    }
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(20), led).await.expect("a leader within 20 s")
    }

    /// The leader and the others.
    async fn leader_and_followers(&self) -> (usize, Vec<usize>) {
        let leader = self.leader().await;
        (leader, (0..self.seats.len()).filter(|at| *at != leader).collect())
    }

    async fn follower(&self) -> usize {
        let leader = self.leader().await;
        let runs = |at: &usize| *at != leader && self.seats[*at].store.is_some();
        (0..self.seats.len()).find(runs).expect("there is one")
    }
}

fn put(name: &str, data: &str) -> Put {
    let key = Key::new("", "configmaps", "default", name);
    Put { key, value: Value { epoch: 1, data: data.to_owned().into() }, revision_at: None }
}

async fn create(store: &RaftStore, name: &str) -> Revision {
    store.commit(Txn::create(put(name, "x"))).await.expect("created").revision
}

fn names(store: &RaftStore) -> Vec<String> {
    let page = store.range(&Range::all("")).expect("readable");
    page.items.iter().map(|item| item.key.name().to_owned()).collect()
}

async fn read(store: &RaftStore, name: &str) -> Option<String> {
    store.read_barrier().await.expect("a quorum");
    let item = store.get(&put(name, "").key, None).expect("readable")?;
    Some(String::from_utf8_lossy(&item.value.data).into_owned())
}

#[tokio::test(start_paused = true)]
async fn a_write_on_any_server_is_read_on_every_other() {
    let cluster = Cluster::of(3).await;
    let mut last = Revision::ZERO;
    for at in 0..3 {
        let revision = create(cluster.at(at), &format!("n{at}")).await;
        assert!(revision > last);
        last = revision;
        // Whoever wrote sees it without asking anybody.
        assert!(names(cluster.at(at)).contains(&format!("n{at}")));
        for other in 0..3 {
            assert_eq!(read(cluster.at(other), &format!("n{at}")).await.as_deref(), Some("x"));
        }
    }
    let twice = cluster.at(1).commit(Txn::create(put("n0", "y"))).await;
    let Err(CommitError::Conflict(conflict)) = twice else { panic!("{twice:?}") };
    assert_eq!(&conflict.current.expect("there").value.data[..], b"x");
    let members = cluster.at(2).members().await;
    let told: Vec<_> = members
        .iter()
        .map(|member| (member.name.as_str(), member.voter, member.position.is_ok()))
        .collect();
    assert_eq!(told, [("s0", true, true), ("s1", true, true), ("s2", true, true)]);
    assert_eq!(members.iter().filter(|member| member.leader).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_leader_dies_and_comes_back() {
    let mut cluster = Cluster::of(3).await;
    for round in 0..4 {
        let before = create(cluster.at(cluster.follower().await), &format!("a{round}")).await;
        let leader = cluster.leader().await;
        cluster.kill(leader).await;
        let next = cluster.leader().await;
        assert_ne!(next, leader);
        let after = create(cluster.at(next), &format!("b{round}")).await;
        assert!(after > before);
        cluster.start(leader).await;
        assert_eq!(read(cluster.at(leader), &format!("b{round}")).await.as_deref(), Some("x"));
    }
    assert_eq!(names(cluster.at(0)), names(cluster.at(1)));
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_requests_wait_and_then_say_so() {
    let mut cluster = Cluster::of(3).await;
    create(cluster.at(0), "a").await;
    let leader = cluster.leader().await;
    let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    for at in &others {
        cluster.kill(*at).await;
    }
    sleep(Duration::from_secs(5)).await;
    let refused = cluster.at(leader).commit(Txn::create(put("b", "x"))).await;
    let Err(CommitError::NoLeader(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("fewer than 2 of 3 servers answer"), "{why}");
    let refused = cluster.at(leader).read_barrier().await;
    assert!(matches!(refused, Err(CommitError::NoLeader(_))), "{refused:?}");
    let refused = cluster.at(leader).remove(&format!("s{}", others[0])).await.expect_err("alone");
    assert!(refused.0.contains("fewer than 2 of 3 servers answer"), "{refused}");
    assert!(refused.0.contains("skiff server --cluster-reset"), "{refused}");
    // What is known stays readable without promises.
    assert_eq!(names(cluster.at(leader)), ["a"]);
    cluster.start(others[0]).await;
    create(cluster.at(leader), "c").await;
    assert_eq!(read(cluster.at(others[0]), "c").await.as_deref(), Some("x"));
}

#[tokio::test(start_paused = true)]
async fn an_orderly_stop_hands_the_lead_over() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let store = cluster.seats[leader].store.take().expect("it runs");
    let start = tokio::time::Instant::now();
    store.shutdown().await;
    cluster.net.leave(&address(leader));
    drop(store);
    let next = cluster.leader().await;
    create(cluster.at(next), "a").await;
    // Sooner than anybody would have missed it.
    assert!(start.elapsed() < Duration::from_millis(800), "{:?}", start.elapsed());
    cluster.start(leader).await;
    assert_eq!(read(cluster.at(leader), "a").await.as_deref(), Some("x"));
}

#[tokio::test(start_paused = true)]
async fn renewals_are_on_every_server_and_survive_the_leader() {
    let mut cluster = Cluster::of(3).await;
    let follower = cluster.follower().await;
    let mut at = create(cluster.at(follower), "lease").await;
    let log = |cluster: &Cluster, at: usize| cluster.at(at).stats().log_groups;
    let leader = cluster.leader().await;
    let mut watcher = cluster.at(follower).watch("", at).expect("the present");
    let before = (log(&cluster, leader), log(&cluster, follower));
    for round in 0..20 {
        let renewal = Renewal { put: put("lease", &format!("r{round}")), at };
        let server = cluster.at([follower, leader][round % 2]);
        let renewed = server.renew(renewal).await.expect("renewed").revision;
        assert!(renewed > at);
        at = renewed;
        for server in 0..3 {
            assert_eq!(read(cluster.at(server), "lease").await, Some(format!("r{round}")));
        }
        let told = watcher.next().await.expect("the watch runs");
        assert_eq!(told.events.last().map(|event| event.revision), Some(at));
    }
    assert_eq!(before, (log(&cluster, leader), log(&cluster, follower)), "nothing was written");
    cluster.kill(leader).await;
    let next = cluster.leader().await;
    assert_eq!(read(cluster.at(next), "lease").await.as_deref(), Some("r19"));
    let renewal = Renewal { put: put("lease", "next"), at };
    let renewed = cluster.at(next).renew(renewal).await.expect("the revision holds").revision;
    assert!(renewed > at);
    // One that starts now is told of what it never saw.
    cluster.start(leader).await;
    assert_eq!(read(cluster.at(leader), "lease").await.as_deref(), Some("next"));
    let stale = Renewal { put: put("lease", "stale"), at };
    let refused = cluster.at(leader).renew(stale).await;
    assert!(matches!(refused, Err(CommitError::Conflict(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_keeps_no_lease_alive() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let at = create(cluster.at(leader), "lease").await;
    cluster.net.cut(&address(leader), true);
    let renewal = Renewal { put: put("lease", "mine"), at };
    let (refused, taken) = tokio::join!(
        cluster.at(leader).renew(renewal.clone()),
        cluster.at((leader + 1) % 3).renew(Renewal { put: put("lease", "theirs"), at }),
    );
    assert!(matches!(refused, Err(CommitError::NoLeader(_))), "{refused:?}");
    assert!(taken.is_ok(), "{taken:?}");
    cluster.net.cut(&address(leader), false);
    assert_eq!(read(cluster.at(leader), "lease").await.as_deref(), Some("theirs"));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_renewed_beside_a_write_whose_outcome_is_open() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let at = create(cluster.at(leader), "lease").await;
    // They say at once whom they follow, and write down what they are sent much later.
    cluster.net.slow(Duration::from_secs(60));
    let written = cluster.at(leader).commit(Txn::update(put("lease", "written"), at)).await;
    assert!(matches!(written, Err(CommitError::Unknown(_))), "{written:?}");
    let renewal = Renewal { put: put("lease", "renewed"), at };
    let renewed = cluster.at(leader).renew(renewal).await;
    assert!(matches!(renewed, Err(CommitError::Unknown(_))), "{renewed:?}");
    cluster.net.slow(Duration::ZERO);
    sleep(Duration::from_secs(20)).await;
    let store = cluster.at(cluster.leader().await);
    assert_eq!(read(store, "lease").await.as_deref(), Some("written"));
    // And what is known is let go of.
    let at = store.get(&put("lease", "").key, None).expect("readable").expect("there").revision;
    let before = store.stats().log_groups;
    let renewed = store.renew(Renewal { put: put("lease", "renewed"), at }).await;
    assert!(renewed.is_ok(), "{renewed:?}");
    assert_eq!(store.stats().log_groups, before, "nothing was written");
}

#[tokio::test(start_paused = true)]
async fn a_server_is_removed_and_replaced() {
    let mut cluster = Cluster::of(3).await;
    create(cluster.at(0), "a").await;
    let gone = cluster.follower().await;
    cluster.kill(gone).await;
    let leader = cluster.leader().await;
    let unknown = cluster.at(leader).remove("s9").await.expect_err("no such server");
    assert_eq!(unknown.0, "there is no server \"s9\"; the servers are s0, s1, s2");
    cluster.at(leader).remove(&format!("s{gone}")).await.expect("removed");
    let new = cluster.add().await;
    assert_eq!(read(cluster.at(new), "a").await.as_deref(), Some("x"));
    assert_eq!(cluster.at(new).members().await.len(), 3);
    // Both of the others may be needed for a quorum now.
    let other = (0..3).find(|at| *at != gone && *at != leader).expect("three");
    cluster.kill(other).await;
    create(cluster.at(new), "b").await;
    // The one that was removed is told when it comes back, and disturbs nobody.
    cluster.start(gone).await;
    sleep(Duration::from_secs(5)).await;
    let told = cluster.at(gone).health().expect_err("removed");
    assert!(told.to_string().contains("was removed from the cluster"), "{told}");
    create(cluster.at(new), "c").await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_comes_back_at_another_address_is_found() {
    let mut cluster = Cluster::of(3).await;
    for round in ["follower", "leader"] {
        let at = match round {
            "leader" => cluster.leader().await,
            _ => cluster.follower().await,
        };
        cluster.kill(at).await;
        cluster.seats[at].address = format!("moved-{round}:1");
        cluster.start(at).await;
        let leader = cluster.leader().await;
        create(cluster.at(leader), round).await;
        let moved = |told: &[(String, String)]| {
            told.iter().any(|(_, address)| *address == format!("moved-{round}:1"))
        };
        let found = async {
            while !names(cluster.at(at)).iter().any(|name| name == round)
                || !(0..3).all(|other| moved(&cluster.at(other).member_addresses()))
            {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(20), found).await.expect("all know where it is");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_far_behind_is_sent_a_snapshot() {
    let mut cluster = Cluster::of(3).await;
    let behind = cluster.follower().await;
    cluster.kill(behind).await;
    let leader = cluster.leader().await;
    for at in 0..100 {
        create(cluster.at(leader), &format!("n{at:03}")).await;
    }
    cluster.at(leader).snapshot().await.expect("asked");
    let taken = async {
        while cluster.at(leader).consensus.log_position().1 == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), taken).await.expect("a snapshot");
    create(cluster.at(leader), "last").await;
    // The log goes once the leader has tried in vain to send it.
    sleep(Duration::from_secs(3)).await;
    cluster.start(behind).await;
    assert_eq!(read(cluster.at(behind), "last").await.as_deref(), Some("x"));
    assert_eq!(names(cluster.at(behind)).len(), 101);
    assert!(cluster.at(behind).consensus.log_position().1 > 0, "by snapshot");
    // It lasts.
    cluster.kill(behind).await;
    cluster.start(behind).await;
    assert_eq!(read(cluster.at(behind), "n050").await.as_deref(), Some("x"));
    // And a new server gets it as well.
    let new = cluster.add().await;
    assert_eq!(read(cluster.at(new), "n099").await.as_deref(), Some("x"));
}

#[tokio::test(start_paused = true)]
async fn two_servers_of_one_name_are_refused() {
    let mut cluster = Cluster::of(1).await;
    let dir = tempfile::tempdir().expect("a directory for the test");
    cluster.seats.push(Seat { dir, disk: SimDisk::new(), address: address(1), store: None });
    let join = Some(cluster.at(0).cluster_id());
    let options = OpenOptions { join, name: "s0".into(), ..cluster.options(1) };
    let twin = RaftStore::open(options).await.expect("a new store");
    cluster.net.listen(&address(1), twin.service());
    let refused = twin.join(&[address(0)]).await.expect_err("refused");
    assert!(refused.0.contains("there is a server \"s0\" in the cluster already"), "{refused}");
    assert_eq!(cluster.at(0).members().await.len(), 1);
    create(cluster.at(0), "a").await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_alone_has_no_ticks() {
    let cluster = Cluster::of(1).await;
    let metrics = tokio::runtime::Handle::current().metrics();
    sleep(Duration::from_secs(1)).await;
    let start = tokio::time::Instant::now();
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(start.elapsed(), Duration::from_secs(3600));
    assert!(metrics.num_alive_tasks() > 0);
    create(cluster.at(0), "a").await;
}

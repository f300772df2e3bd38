//! What a cluster of three servers and two agents does while something goes
//! wrong: a table of faults over one workload, a Deployment behind a Service that
//! a pod asks all the time.
//!
//! [`SCENARIOS`] is the table. The rows run one after the other on the same
//! hosts, each leaves them whole, and after each a write, a read and a new pod
//! must work. Where `./x scenarios` sets `SKIFF_SCENARIOS`, all or those whose
//! names have that text run; otherwise those that are quick.

use std::{
    fs,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    load::{self, failures},
    scenarios_moved,
};
use crate::{
    cluster::Run,
    harness::{Segment, Spoilt, Way, World, until},
};

pub(super) const SERVERS: [&str; 3] = ["server-1", "server-2", "server-3"];
pub(super) const AGENTS: [&str; 2] = ["agent-1", "agent-2"];
/// Where the pod runs that asks: this host loses its power in a cold boot alone.
pub(super) const CLIENT_HOST: &str = "agent-2";

/// So many requests of the pod that asks fifty times a second are answered during each row,
/// and again after it: else nobody asked, and that none failed would say nothing.
const ANSWERS_MIN: usize = 20;
/// What is over sooner is counted with the look at whether all works, which takes seconds.
const SHORT: Duration = Duration::from_secs(5);

/// One row.
struct Scenario {
    name: &'static str,
    /// Whether it is part of every test run.
    quick: bool,
    /// Whether requests of pods may fail meanwhile.
    may_fail: bool,
    fault: fn(&mut Stage),
}

const SCENARIOS: &[Scenario] = &[
    Scenario { name: "the leader dies", quick: true, may_fail: false, fault: leader_dies },
    Scenario { name: "a follower dies", quick: false, may_fail: false, fault: follower_dies },
    Scenario {
        name: "the majority is lost and comes back",
        quick: true,
        may_fail: false,
        fault: majority_lost,
    },
    Scenario { name: "an agent's skiff dies", quick: true, may_fail: false, fault: agent_dies },
    Scenario { name: "an agent is drained", quick: true, may_fail: false, fault: drain },
    Scenario { name: "tokens are rotated", quick: false, may_fail: false, fault: tokens_rotated },
    Scenario {
        name: "packets between servers get lost",
        quick: true,
        may_fail: false,
        fault: packets_lost,
    },
    Scenario {
        name: "the leader hears and is not heard",
        quick: false,
        may_fail: false,
        fault: leader_deaf,
    },
    Scenario {
        name: "a server is replaced",
        quick: false,
        may_fail: false,
        fault: server_replaced,
    },
    Scenario {
        name: "what servers send comes late and out of order",
        quick: false,
        may_fail: false,
        fault: late,
    },
    Scenario {
        name: "what servers and an agent send comes twice, or gets lost",
        quick: false,
        may_fail: false,
        fault: doubled,
    },
    Scenario {
        name: "what the leader sends comes late and gets lost, and then what it hears",
        quick: false,
        may_fail: false,
        fault: one_way,
    },
    Scenario {
        name: "half of what the leader sends comes twice, and then of what it hears",
        quick: false,
        may_fail: false,
        fault: doubled_one_way,
    },
    Scenario { name: "the disks of servers are slow", quick: true, may_fail: false, fault: slow },
    Scenario {
        name: "of five servers two die",
        quick: false,
        may_fail: false,
        fault: two_of_five_die,
    },
    Scenario {
        name: "clocks are twenty years behind at a boot",
        quick: false,
        may_fail: false,
        fault: scenarios_moved::clocks_behind,
    },
    Scenario {
        name: "a server joins whose clock is wrong",
        quick: false,
        may_fail: false,
        fault: scenarios_moved::joins_with_a_wrong_clock,
    },
    Scenario {
        name: "an agent moves to another address",
        quick: false,
        may_fail: false,
        fault: scenarios_moved::agent_moves,
    },
    Scenario {
        name: "a follower moves to another address",
        quick: false,
        may_fail: false,
        fault: scenarios_moved::follower_moves,
    },
    Scenario {
        name: "the leader moves to another address",
        quick: false,
        may_fail: false,
        fault: scenarios_moved::leader_moves,
    },
    Scenario {
        name: "all are stopped and started one after the other",
        quick: false,
        may_fail: false,
        fault: scenarios_moved::stopped_in_turn,
    },
    Scenario {
        name: "an agent is cut off past its tolerations",
        quick: false,
        may_fail: true,
        fault: agent_cut_off,
    },
    Scenario {
        name: "all boot at once, agents first",
        quick: false,
        may_fail: true,
        fault: cold_boot,
    },
    Scenario {
        name: "a snapshot is restored on three fresh servers and two fresh agents",
        quick: false,
        may_fail: true,
        fault: scenarios_moved::restored,
    },
];

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 10
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: web}}}
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms: [{matchExpressions: [{key: node-role.kubernetes.io/control-plane, operator: DoesNotExist}]}]
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
      containers:
      - name: web
        image: skiff.local/toolbox
        args: [http-echo, --port, "8080", --drain, "3"]
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
"#;

pub(super) struct Stage {
    pub(super) world: World,
    pub(super) token: String,
}

impl Stage {
    pub(super) fn set() -> Option<Self> {
        let mut world = World::new()?;
        for host in SERVERS.iter().chain(&AGENTS) {
            world.add(host, Segment::A);
        }
        world.host_mut(SERVERS[0]).start(&["server"]);
        let token = fs::read_to_string(world.host(SERVERS[0]).path("data/server/token"));
        let token = token.expect("it is printed").trim().to_owned();
        let url = format!("https://{}:6443", world.host(SERVERS[0]).address());
        for host in &SERVERS[1..] {
            world.host_mut(host).start(&["server", "--server", &url, "--token", &token]);
        }
        for host in AGENTS {
            world.host_mut(host).start(&["agent", "--server", &url, "--token", &token]);
        }
        let stage = Self { world, token };
        for host in SERVERS.iter().chain(&AGENTS) {
            stage.ready(SERVERS[0], host);
        }
        stage.apply_workload().ok();
        stage.settled(SERVERS[0]);
        Some(stage)
    }

    pub(super) fn apply_workload(&self) -> Run {
        let client = load::asks(CLIENT_HOST, "http://web/");
        let workload = [DEPLOYMENT, &client, &load::service()].concat();
        self.world.host(SERVERS[0]).kubectl(&["apply", "-f", "-"], Some(&workload))
    }

    pub(super) fn kubectl(&self, server: &str, line: &str) -> Run {
        self.world.kubectl(server, line)
    }

    pub(super) fn ready(&self, server: &str, node: &str) {
        self.kubectl(server, &format!("wait --for=create node/{node} --timeout=180s")).ok();
        let line = format!("wait --for=condition=Ready node/{node} --timeout=180s");
        until(&format!("{node} is Ready"), || self.kubectl(server, &line).success);
    }

    /// All replicas are there, and the asking pod.
    pub(super) fn settled(&self, server: &str) {
        self.kubectl(server, "rollout status deployment/web --timeout=180s").ok();
        self.kubectl(server, "wait --for=condition=Ready pod/client --timeout=180s").ok();
    }

    pub(super) fn skiff(&self, host: &str, words: &[&str]) -> Run {
        let data = self.world.host(host).path("data");
        let data = data.to_string_lossy().into_owned();
        self.world.host(host).skiff(&[words, &["--data-dir", &data]].concat())
    }

    /// The servers as one that is there sees them.
    pub(super) fn status(&self, from: &str) -> Vec<Value> {
        self.world.host(from).servers()
    }

    /// Who leads.
    pub(super) fn leader(&self, from: &str) -> &'static str {
        let leader = self.world.leader(from);
        SERVERS.into_iter().find(|server| *server == leader).expect("one of them")
    }

    pub(super) fn other_than(&self, host: &str) -> &'static str {
        SERVERS.into_iter().find(|server| *server != host).expect("there are three")
    }

    /// A write, a read on every server, and a new pod on every agent.
    pub(super) fn works(&self, row: usize) {
        let map = format!("row-{row}");
        for server in SERVERS {
            until(&format!("{server} answers"), || {
                self.kubectl(server, "get --raw /readyz").success
            });
        }
        self.kubectl(SERVERS[0], &format!("create configmap {map} --from-literal=a=1")).ok();
        for server in SERVERS {
            self.kubectl(server, &format!("get configmap {map}")).ok();
        }
        for agent in AGENTS {
            self.ready(SERVERS[0], agent);
            let pod = format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {map}-{agent}}}\nspec: {{nodeName: {agent}, \
                 terminationGracePeriodSeconds: 1, containers: [{{name: c, image: skiff.local/toolbox, args: [sleep, infinity]}}]}}"
            );
            self.world.host(SERVERS[0]).kubectl(&["apply", "-f", "-"], Some(&pod)).ok();
            let wait = format!("wait --for=condition=Ready pod/{map}-{agent} --timeout=180s");
            self.kubectl(SERVERS[0], &wait).ok();
            let get = format!("exec {map}-{agent} -- toolbox get --timeout 5 http://web/");
            until("the tunnel is there", || self.kubectl(SERVERS[0], &get).success);
            self.kubectl(SERVERS[0], &format!("delete pod {map}-{agent} --wait=false")).ok();
        }
        self.settled(SERVERS[0]);
    }
}

#[test]
fn faults_under_load() {
    let wanted = std::env::var("SKIFF_SCENARIOS").ok();
    let runs = |row: &&Scenario| match wanted.as_deref() {
        None => row.quick,
        Some("all") => true,
        Some(text) => row.name.contains(text),
    };
    let Some(mut stage) = Stage::set() else { return };
    let seen = load::unserved(&stage.world, SERVERS[0], CLIENT_HOST, "http://web/");
    let (mut seen, mut ran) = (seen, 0);
    for (at, row) in SCENARIOS.iter().enumerate().filter(|(_, row)| runs(row)) {
        let (began, from) = (Instant::now(), Timestamp::now());
        (row.fault)(&mut stage);
        let (healed, to) = (began.elapsed(), Timestamp::now());
        stage.works(at);
        // Where requests may fail the pod that asks may have been away all the time.
        let to = if row.may_fail || healed < SHORT { Timestamp::now() } else { to };
        let answered = load::answers(&stage.world, CLIENT_HOST, from, to);
        let all = failures(&stage.world, CLIENT_HOST);
        let new = &all[seen.min(all.len())..];
        eprintln!(
            "{}: {:.1} s, and {:.1} s until all worked; {} requests failed, {answered} were answered",
            row.name,
            healed.as_secs_f32(),
            (began.elapsed() - healed).as_secs_f32(),
            new.len()
        );
        assert!(row.may_fail || new.is_empty(), "{}: {new:#?}", row.name);
        assert!(answered >= ANSWERS_MIN, "{}: {answered} requests were answered", row.name);
        let end = Timestamp::now();
        until("the asking pod goes on", || {
            load::answers(&stage.world, CLIENT_HOST, end, Timestamp::MAX) >= ANSWERS_MIN
        });
        seen = all.len();
        ran += 1;
    }
    assert!(ran > 0, "no row is called {wanted:?}");
}

pub(super) fn leader_dies(stage: &mut Stage) {
    let leader = stage.leader(SERVERS[0]);
    let other = stage.other_than(leader);
    stage.world.host_mut(leader).kill();
    // The request waits for the next leader.
    stage.kubectl(other, "label namespace default seen=1 --overwrite").ok();
    let host = stage.world.host_mut(leader);
    host.start_again();
    host.wait_ready();
}

fn follower_dies(stage: &mut Stage) {
    let leader = stage.leader(SERVERS[0]);
    let follower = stage.other_than(leader);
    stage.world.host_mut(follower).kill();
    stage.kubectl(leader, "label namespace default seen=2 --overwrite").ok();
    let host = stage.world.host_mut(follower);
    host.start_again();
    host.wait_ready();
}

/// Pods go on, and requests wait and are then refused, until a second is back.
fn majority_lost(stage: &mut Stage) {
    for server in &SERVERS[1..] {
        stage.world.host_mut(server).kill();
    }
    let refused = stage.kubectl(SERVERS[0], "label namespace default seen=3 --overwrite");
    refused.fails_with("fewer than 2 of 3 servers answer");
    for server in &SERVERS[1..] {
        stage.world.host_mut(server).start_again();
    }
    for server in &SERVERS[1..] {
        stage.world.host_mut(server).wait_ready();
    }
}

fn agent_dies(stage: &mut Stage) {
    let ids = "get pods -l app=web -o jsonpath={.items[*].status.containerStatuses[*].containerID}";
    let before = stage.kubectl(SERVERS[0], ids).ok().stdout;
    let host = stage.world.host_mut(AGENTS[0]);
    host.kill();
    host.start_again();
    host.wait_ready();
    assert_eq!(stage.kubectl(SERVERS[0], ids).ok().stdout, before, "the same containers");
}

fn drain(stage: &mut Stage) {
    let line = "drain agent-1 --ignore-daemonsets --delete-emptydir-data --force --timeout=180s";
    stage.kubectl(SERVERS[1], line).ok();
    stage.kubectl(SERVERS[1], "rollout status deployment/web --timeout=180s").ok();
    stage.kubectl(SERVERS[1], "uncordon agent-1").ok();
}

/// Who has joined needs none of them; who joins next needs the new one.
fn tokens_rotated(stage: &mut Stage) {
    for _ in 0..3 {
        let id = stage.token.split('.').nth(2).expect("an ID").to_owned();
        let host = stage.world.host(SERVERS[0]);
        let kubeconfig = host.path("admin.yaml").to_string_lossy().into_owned();
        let run = host.skiff(&["token", "rotate", &id, "--kubeconfig", &kubeconfig]).ok();
        stage.token = run.stdout.trim().to_owned();
    }
    let agent = stage.world.host_mut(AGENTS[0]);
    agent.kill();
    agent.start_again();
    agent.wait_ready();
}

/// One packet in ten to every server, and to the agent that nobody asks from.
fn packets_lost(stage: &mut Stage) {
    for server in SERVERS {
        stage.world.lose(server, Some(10));
    }
    for round in 0..10 {
        let server = SERVERS[round % 3];
        let line = format!("label namespace default seen={round} --overwrite");
        until("a write passes", || stage.kubectl(server, &line).success);
    }
    for server in SERVERS {
        stage.world.lose(server, None);
    }
}

/// Others follow it no more, and it must see that by itself.
fn leader_deaf(stage: &mut Stage) {
    let leader = stage.leader(SERVERS[0]);
    let others: Vec<&str> = SERVERS.into_iter().filter(|server| *server != leader).collect();
    for other in &others {
        stage.world.cut(leader, other);
    }
    until("another leads", || {
        stage.kubectl(others[0], "label namespace default seen=4 --overwrite").success
    });
    for other in &others {
        stage.world.heal(leader, other);
    }
}

/// As between houses: 80 to 140 ms for a question and its answer.
fn late(stage: &mut Stage) {
    let how = Spoilt { delay_ms: 20, jitter_ms: 15, ..Spoilt::default() };
    spoilt(stage, 1000, &SERVERS, how);
}

fn doubled(stage: &mut Stage) {
    let how = Spoilt { jitter_ms: 3, lost_percent: 2, doubled_percent: 30, ..Spoilt::default() };
    spoilt(stage, 1001, &[SERVERS[0], SERVERS[1], SERVERS[2], AGENTS[0]], how);
}

fn one_way(stage: &mut Stage) {
    let how = Spoilt { delay_ms: 60, jitter_ms: 20, lost_percent: 2, ..Spoilt::default() };
    each_way(stage, 1004, how);
}

/// The copies come late, too, so that they mix with what was sent after them.
fn doubled_one_way(stage: &mut Stage) {
    let how = Spoilt { jitter_ms: 5, doubled_percent: 50, ..Spoilt::default() };
    each_way(stage, 1006, how);
}

/// One direction of the leader's cable alone, and then the other: nobody else leads for that.
fn each_way(stage: &mut Stage, row: usize, how: Spoilt) {
    for (row, way) in [(row, Way::Sent), (row + 1, Way::Heard)] {
        let leader = stage.leader(SERVERS[0]);
        spoilt(stage, row, &[leader], Spoilt { only: Some(way), ..how });
    }
}

/// Writes pass on every server and pods are reached, with no change of the lead but one.
fn spoilt(stage: &mut Stage, row: usize, hosts: &[&str], how: Spoilt) {
    for host in hosts {
        stage.world.spoil(host, Some(how));
    }
    for round in 0..9 {
        let server = SERVERS[round % 3];
        let line = format!("label namespace default seen={round} --overwrite");
        until("a write passes", || stage.kubectl(server, &line).success);
    }
    let term = |stage: &Stage| {
        stage.status(SERVERS[0]).iter().filter_map(|row| row["term"].as_u64()).max()
    };
    let before = term(stage);
    stage.works(row);
    let after = term(stage);
    for host in hosts {
        stage.world.spoil(host, None);
    }
    assert!(after <= before.map(|term| term + 1), "the lead changes: {before:?} to {after:?}");
}

/// First the leader's, then all: writes are slow, and nobody loses the lead for it. Then the
/// leader dies, and votes take longer than an election does where disks are fast.
fn slow(stage: &mut Stage) {
    let leader = stage.leader(SERVERS[0]);
    let term = |stage: &Stage| {
        stage.status(SERVERS[0]).iter().filter_map(|row| row["term"].as_u64()).max()
    };
    let before = term(stage);
    for (name, others_by_ms) in [("one", None), ("all", Some(300))] {
        for server in SERVERS {
            let by_ms = if server == leader { Some(500) } else { others_by_ms };
            stage.world.host_mut(server).slow_disk(by_ms);
        }
        for server in SERVERS {
            let line = format!("label namespace default seen={name}-{server} --overwrite");
            let begun = Instant::now();
            stage.kubectl(server, &line).ok();
            let fastest = Duration::from_millis(others_by_ms.unwrap_or(0).into());
            assert!(begun.elapsed() >= fastest, "a majority has not written yet");
        }
    }
    assert_eq!(term(stage), before, "a slow disk costs no server the lead");
    let others: Vec<&str> = SERVERS.into_iter().filter(|server| *server != leader).collect();
    for server in &others {
        stage.world.host_mut(server).slow_disk(Some(1_000));
    }
    stage.world.host_mut(leader).kill();
    for server in &others {
        let line = format!("label namespace default seen=elected-{server} --overwrite");
        until("a write passes", || stage.kubectl(server, &line).success);
    }
    for server in others {
        stage.world.host_mut(server).slow_disk(None);
    }
    let host = stage.world.host_mut(leader);
    host.start_again();
    host.wait_ready();
}

fn two_of_five_die(stage: &mut Stage) {
    let more = ["server-4", "server-5"];
    let url = format!("https://{}:6443", stage.world.host(SERVERS[0]).address());
    let token = stage.token.clone();
    for server in more {
        stage.world.add(server, Segment::A);
        stage.world.host_mut(server).start(&["server", "--server", &url, "--token", &token]);
    }
    assert_eq!(stage.status(SERVERS[0]).len(), 5);
    let rows = stage.status(SERVERS[0]);
    let leads = rows.iter().find(|row| row["role"] == "leader").expect("one leads");
    let leader = leads["name"].as_str().expect("a name").to_owned();
    let second = SERVERS.into_iter().find(|server| *server != leader).expect("there are five");
    for server in [leader.as_str(), second] {
        stage.world.host_mut(server).kill();
    }
    let left: Vec<&str> = SERVERS
        .into_iter()
        .chain(more)
        .filter(|server| *server != leader && *server != second)
        .collect();
    for server in &left {
        stage.kubectl(server, &format!("label namespace default seen={server} --overwrite")).ok();
    }
    for server in [leader.as_str(), second] {
        let host = stage.world.host_mut(server);
        host.start_again();
        host.wait_ready();
    }
    for server in more {
        stage.world.power_off(server);
        until("it is removed", || stage.skiff(SERVERS[0], &["cluster", "remove", server]).success);
        stage.kubectl(SERVERS[0], &format!("delete node {server}")).ok();
    }
    until("there are three", || stage.status(SERVERS[0]).len() == 3);
}

fn server_replaced(stage: &mut Stage) {
    let leader = stage.leader(SERVERS[0]);
    let gone = SERVERS.into_iter().rev().find(|server| *server != leader).expect("two follow");
    let helper = SERVERS.into_iter().find(|server| *server != gone).expect("two are left");
    stage.world.power_off(gone);
    until("it is removed", || stage.skiff(helper, &["cluster", "remove", gone]).success);
    stage.kubectl(helper, &format!("delete node {gone}")).ok();
    fs::remove_dir_all(stage.world.host(gone).path("data")).expect("a folder of ours");
    let url = format!("https://{}:6443", stage.world.host(helper).address());
    let token = stage.token.clone();
    stage.world.boot(gone);
    stage.world.host_mut(gone).start(&["server", "--server", &url, "--token", &token]);
    assert_eq!(stage.status(helper).len(), 3);
}

fn agent_cut_off(stage: &mut Stage) {
    stage.world.plug(AGENTS[0], false);
    let unknown = "wait --for=condition=Ready=Unknown node/agent-1 --timeout=180s";
    stage.kubectl(SERVERS[0], unknown).ok();
    // The others are made elsewhere: none of those that are ready is there.
    until("its pods are replaced", || {
        let line = "get pods -l app=web -o jsonpath={range.items[*]}{.spec.nodeName}/{.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}";
        let run = stage.kubectl(SERVERS[0], line);
        run.stdout.lines().filter(|line| *line == "agent-2/True").count() == 4
    });
    stage.world.plug(AGENTS[0], true);
    stage.ready(SERVERS[0], AGENTS[0]);
    until("what was evicted is gone", || {
        let run = stage.kubectl(SERVERS[0], "get pods -l app=web -o name");
        run.stdout.lines().count() == 4
    });
}

fn cold_boot(stage: &mut Stage) {
    for host in SERVERS.iter().chain(&AGENTS) {
        stage.world.power_off(host);
    }
    for host in AGENTS.iter().chain(&SERVERS) {
        stage.world.power_on(host);
    }
    for host in SERVERS.iter().chain(&AGENTS) {
        stage.world.host_mut(host).wait_ready();
    }
    stage.settled(SERVERS[0]);
}

//! Rows of the scenarios in which machines are elsewhere, or at another time: other
//! addresses, wrong clocks, one after the other, and other machines altogether.

use std::{fs, path::PathBuf};

use serde_json::Value;

use super::scenarios::{AGENTS, SERVERS, Stage, leader_dies};
use crate::harness::{Segment, until};

const YEARS_S: i64 = 20 * 365 * 24 * 3600;

/// A server that follows and an agent, as boards without a clock of their own: of all
/// servers the one that agents have first in their list.
pub(super) fn clocks_behind(stage: &mut Stage) {
    let follower = SERVERS[0];
    if stage.leader(follower) == follower {
        leader_dies(stage);
    }
    assert_ne!(stage.leader(SERVERS[1]), follower, "it follows");
    for offset_s in [-YEARS_S, 0] {
        for name in [follower, AGENTS[0]] {
            let host = stage.world.host_mut(name);
            host.kill();
            host.set_clock(offset_s);
            host.start_again();
            host.wait_ready();
        }
        stage.works(if offset_s == 0 { 1003 } else { 1002 });
    }
    let told = stage.world.host(AGENTS[0]).log();
    assert!(told.contains("days behind what 2 of 3 servers say"), "it was not wrong: {told}");
}

/// Ahead it is refused, and nothing of it stays; behind it is told and joins, and a restart
/// changes nothing.
pub(super) fn joins_with_a_wrong_clock(stage: &mut Stage) {
    let name = "server-late";
    let url = format!("https://{}:6443", stage.world.host(SERVERS[1]).address());
    let token = stage.token.clone();
    stage.world.add(name, Segment::A);
    let flags = ["server", "--server", &url, "--token", &token];
    let host = stage.world.host_mut(name);
    host.set_clock(YEARS_S);
    host.refused(&flags).fails_with("days ahead of that of the server at");
    assert!(!host.path("data/server/tls").exists(), "nothing was given out");
    host.set_clock(-YEARS_S);
    host.start(&flags);
    let told = host.log();
    assert!(told.contains("days behind that of the server at"), "it was not wrong: {told}");
    for round in ["joined", "again"] {
        if round == "again" {
            let host = stage.world.host_mut(name);
            host.kill();
            host.start_again();
            host.wait_ready();
        }
        until("it is a server like any other", || {
            let rows = stage.status(SERVERS[0]);
            rows.len() == 4 && rows.iter().all(|row| row["health"] == "ok")
        });
        stage.kubectl(name, &format!("label namespace default seen={round} --overwrite")).ok();
        stage.kubectl(SERVERS[0], "get namespace default --show-labels").prints(round);
        until("the others reach its node", || {
            stage.kubectl(SERVERS[0], "get --raw /api/v1/nodes/server-late/proxy/healthz").success
        });
    }
    stage.world.power_off(name);
    until("it is removed", || stage.skiff(SERVERS[0], &["cluster", "remove", name]).success);
    stage.kubectl(SERVERS[0], &format!("delete node {name}")).ok();
    until("there are three", || stage.status(SERVERS[0]).len() == 3);
}

/// There and back, as with another lease of the router's.
pub(super) fn agent_moves(stage: &mut Stage) {
    let agent = AGENTS[0];
    let home = stage.world.host(agent).number;
    let pods = |stage: &Stage| {
        let line = "get pods -l app=web -o jsonpath={range.items[*]}{.metadata.name}{.status.podIPs}{.status.containerStatuses[*].containerID}{end}";
        stage.kubectl(SERVERS[0], line).ok().stdout
    };
    let before = pods(stage);
    assert!(before.contains("://"), "containers have IDs: {before}");
    for number in [home + 100, home] {
        stage.world.change_address(agent, number);
        let address = stage.world.host(agent).address();
        let line = format!("get node {agent} -o jsonpath={{.status.addresses[0].address}}");
        until("its Node tells", || stage.kubectl(SERVERS[0], &line).stdout == address);
        assert_eq!(pods(stage), before, "the same containers at the same addresses");
    }
}

pub(super) fn follower_moves(stage: &mut Stage) {
    let leader = stage.leader(SERVERS[0]);
    let follower = stage.other_than(leader);
    server_moves(stage, follower);
}

pub(super) fn leader_moves(stage: &mut Stage) {
    let leader = stage.leader(SERVERS[0]);
    server_moves(stage, leader);
}

/// It starts anew by itself, and everybody finds it.
fn server_moves(stage: &mut Stage, server: &str) {
    let other = stage.other_than(server);
    let home = stage.world.host(server).number;
    for number in [home + 100, home] {
        stage.world.change_address(server, number);
        stage.world.host_mut(server).wait_ready();
        let address = format!("{}:6443", stage.world.host(server).address());
        until("the others know where it is", || {
            let rows = stage.status(other);
            let found = rows.iter().find(|row| row["name"] == *server);
            found.is_some_and(|row| row["address"] == *address && row["health"] == "ok")
        });
        let seen = format!("label namespace default seen=at-{number} --overwrite");
        until("a write passes there", || stage.kubectl(server, &seen).success);
        for agent in AGENTS {
            until("agents know where it is", || {
                let kept = stage.world.host(agent).read("data/agent/servers.json");
                kept.contains(&address)
            });
        }
    }
    let told = stage.world.host(server).log();
    assert!(told.contains("this server has another address and starts anew with it"), "{told}");
}

/// In order, and with another skiff where that is said: the next version.
pub(super) fn stopped_in_turn(stage: &mut Stage) {
    renewed_in_turn(stage, None);
}

/// Containers run through it, also those of the host that asks: while its skiff is away,
/// what its pods ask the DNS waits.
pub(super) fn renewed_in_turn(stage: &mut Stage, binary: Option<&str>) {
    let ids = "get pods -l app=web -o jsonpath={.items[*].status.containerStatuses[*].containerID}";
    let before = stage.kubectl(SERVERS[0], ids).ok().stdout;
    for name in SERVERS.into_iter().chain(AGENTS) {
        let host = stage.world.host_mut(name);
        assert!(host.stop().success(), "{name} ends in order");
        if let Some(binary) = binary {
            host.install(binary);
        }
        host.start_again();
        host.wait_ready();
        let other = stage.other_than(name);
        until("all servers are there", || {
            let rows = stage.status(other);
            rows.len() == 3 && rows.iter().all(|row| row["health"] == "ok")
        });
        stage.ready(other, name);
    }
    assert_eq!(stage.kubectl(SERVERS[0], ids).ok().stdout, before, "the same containers");
}

/// Nothing is left of the machines of before but a file and its key.
pub(super) fn restored(stage: &mut Stage) {
    stage.kubectl(SERVERS[1], "create configmap before --from-literal=a=1").ok();
    stage.skiff(SERVERS[0], &["snapshot", "save", "--name", "move"]).prints("saved");
    let list = stage.skiff(SERVERS[0], &["snapshot", "list", "-o", "json"]).ok().stdout;
    let rows: Vec<Value> = serde_json::from_str(&list).expect("JSON");
    let named = |row: &&Value| row["name"].as_str().is_some_and(|name| name.starts_with("move-"));
    let row = rows.iter().find(named).expect("it is listed");
    let file = PathBuf::from(row["path"].as_str().expect("a path"));
    let key = stage.skiff(SERVERS[0], &["snapshot", "key"]).ok().stdout.trim().to_owned();
    stage.kubectl(SERVERS[1], "create configmap after --from-literal=a=1").ok();
    let kept = stage.world.host(SERVERS[0]).path("kept");
    fs::copy(&file, &kept).expect("a file of ours");
    for name in SERVERS.iter().chain(&AGENTS) {
        stage.world.power_off(name);
        fs::remove_dir_all(stage.world.host(name).path("data")).expect("a folder of ours");
        stage.world.boot(name);
    }

    let file = kept.to_string_lossy();
    let words = ["snapshot", "restore", &file, "--snapshot-key", &key];
    stage.skiff(SERVERS[0], &words).prints("start it with `skiff server`");
    stage.world.host_mut(SERVERS[0]).start(&["server"]);
    stage.kubectl(SERVERS[0], "get configmap before").ok();
    stage.kubectl(SERVERS[0], "get configmap after").fails_with("NotFound");
    let url = format!("https://{}:6443", stage.world.host(SERVERS[0]).address());
    let token = stage.world.host(SERVERS[0]).read("data/server/token");
    stage.token = token.trim().to_owned();
    let token = stage.token.clone();
    for name in &SERVERS[1..] {
        stage.world.host_mut(name).start(&["server", "--server", &url, "--token", &token]);
    }
    assert_eq!(stage.status(SERVERS[0]).len(), 3);
    for name in AGENTS {
        let flags = ["agent", "--server", &url, "--token", &token];
        // The name is that of a machine with another key.
        let refused = stage.world.host(name).refused(&flags);
        refused.fails_with(&format!("kubectl delete node {name}"));
        stage.kubectl(SERVERS[0], &format!("delete node {name}")).ok();
        stage.world.host_mut(name).start(&flags);
    }
    for name in SERVERS.iter().chain(&AGENTS) {
        stage.ready(SERVERS[1], name);
    }
    // What belonged to a node alone went with it.
    until("the asking pod is there", || {
        let line = "wait --for=condition=Ready pod/client --timeout=10s";
        stage.apply_workload().success && stage.kubectl(SERVERS[0], line).success
    });
    stage.settled(SERVERS[2]);
}

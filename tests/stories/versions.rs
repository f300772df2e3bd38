//! Servers of two versions in one cluster. The next one is this one with a higher
//! feature level, which `./x versions` makes and names in `SKIFF_NEXT`.

use serde_json::Value;

use super::{
    load::{failures, unserved},
    scenarios::{self, Stage},
    scenarios_moved,
};
use crate::harness::{Segment, World, until};

const SERVERS: [&str; 3] = ["server-1", "server-2", "server-3"];
const AGENT: &str = "agent-1";

/// Each server's version, by name, as one of them knows it.
fn versions(world: &World, from: &str) -> Vec<(String, String)> {
    let rows = world.host(from).servers();
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    rows.iter().map(|row| (text(row, "name"), text(row, "version"))).collect()
}

fn restart_with(world: &mut World, name: &str, binary: &str) {
    let host = world.host_mut(name);
    host.stop();
    host.install(binary);
    host.start_again();
    host.wait_ready();
}

fn writes(world: &World, servers: &[&str], what: &str) {
    for server in servers {
        let label = format!("label namespace default {what}={server} --overwrite");
        until(&format!("{server} takes a write"), || world.kubectl(server, &label).success);
        for other in servers {
            let line = format!("get namespace default -o jsonpath={{.metadata.labels.{what}}}");
            until("it is seen", || world.kubectl(other, &line).stdout == *server);
        }
    }
}

fn next() -> Option<String> {
    let next = std::env::var("SKIFF_NEXT").ok();
    if next.is_none() {
        eprintln!("skipped: SKIFF_NEXT names no skiff of the next version; ./x versions makes one");
    }
    next
}

/// Three servers and two agents, one after the other, while a pod asks a Service all the
/// time: no request fails, and containers run through it.
#[test]
fn a_cluster_is_upgraded_under_load() {
    let Some(next) = next() else { return };
    let Some(mut stage) = Stage::set() else { return };
    let seen = unserved(&stage.world, SERVERS[0], scenarios::CLIENT_HOST, "http://web/");
    scenarios_moved::renewed_in_turn(&mut stage, Some(&next));
    stage.works(0);
    let failed = failures(&stage.world, scenarios::CLIENT_HOST);
    assert_eq!(failed.len(), seen, "{:#?}", &failed[seen..]);
    until("all say their version", || {
        let told = versions(&stage.world, SERVERS[0]);
        told.len() == 3 && told.iter().all(|(_, version)| version.ends_with("+skiff99"))
    });
}

/// Upgraded one after the other; what only the next version knows is used once all
/// have it, and from then on this one is let in no more.
#[test]
fn servers_of_two_versions_are_one_cluster() {
    let Some(next) = next() else { return };
    let Some(mut world) = World::new() else { return };
    for host in SERVERS.iter().chain(&[AGENT, "server-4"]) {
        world.add(host, Segment::A);
    }
    let this = env!("CARGO_BIN_EXE_skiff");
    world.host_mut(SERVERS[0]).start(&["server"]);
    let token = std::fs::read_to_string(world.host(SERVERS[0]).path("data/server/token"));
    let token = token.expect("it is printed").trim().to_owned();
    let url = format!("https://{}:6443", world.host(SERVERS[0]).address());
    let joins = ["server", "--server", &url, "--token", &token];
    // A newer server joins, and does not lead the others away.
    world.host_mut(SERVERS[1]).start(&joins);
    world.host_mut(SERVERS[2]).install(&next);
    world.host_mut(SERVERS[2]).start(&joins);
    world.host_mut(AGENT).start(&["agent", "--server", &url, "--token", &token]);
    until("an agent of this version is Ready", || {
        let wait = format!("wait --for=condition=Ready node/{AGENT} --timeout=180s");
        world.kubectl(SERVERS[0], &wait).success
    });
    writes(&world, &SERVERS, "mixed");
    let told = versions(&world, SERVERS[0]);
    assert_eq!(
        told.iter().filter(|(_, version)| version.ends_with("+skiff99")).count(),
        1,
        "{told:?}"
    );
    // It may lead, too: the others follow it.
    for server in &SERVERS[..2] {
        world.host_mut(server).stop();
        world.host_mut(server).start_again();
        world.host_mut(server).wait_ready();
        writes(&world, &SERVERS, "led");
    }
    // One goes forward and back again while others are of this version.
    restart_with(&mut world, SERVERS[1], &next);
    writes(&world, &SERVERS, "forward");
    restart_with(&mut world, SERVERS[1], this);
    writes(&world, &SERVERS, "back");

    for server in &SERVERS[..2] {
        restart_with(&mut world, server, &next);
    }
    writes(&world, &SERVERS, "next");
    until("all say their version", || {
        versions(&world, SERVERS[0]).iter().all(|(_, version)| version.ends_with("+skiff99"))
    });
    // Of this version none is let in any more, nor started on what the next has.
    writes(&world, &SERVERS, "risen");
    let refused = world.host("server-4").refused(&joins);
    refused
        .fails_with("feature level 99, it knows 1")
        .fails_with("install the version of the other servers first");
    world.host_mut(SERVERS[1]).stop();
    world.host_mut(SERVERS[1]).install(this);
    world.host(SERVERS[1]).refused(&["server"]).fails_with("a newer skiff has been here");
    world.host_mut(SERVERS[1]).install(&next);
    world.host_mut(SERVERS[1]).start_again();
    world.host_mut(SERVERS[1]).wait_ready();
    writes(&world, &SERVERS, "end");
    // Its agent is of this version all the time.
    let wait = format!("wait --for=condition=Ready node/{AGENT} --timeout=180s");
    world.kubectl(SERVERS[0], &wait).ok();
}

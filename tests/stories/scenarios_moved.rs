//! Rows of the scenarios in which machines are elsewhere, or at another time: other
//! addresses and wrong clocks.

use super::scenarios::{AGENTS, SERVERS, Stage, leader_dies};
use crate::harness::until;

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

/// There and back, as with another lease of the router's.
pub(super) fn agent_moves(stage: &mut Stage) {
    let agent = AGENTS[0];
    let home = stage.world.host(agent).number;
    for number in [home + 100, home] {
        stage.world.change_address(agent, number);
        let address = stage.world.host(agent).address();
        let line = format!("get node {agent} -o jsonpath={{.status.addresses[0].address}}");
        until("its Node tells", || stage.kubectl(SERVERS[0], &line).stdout == address);
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

//! The CAs are replaced, and in the middle of every phase servers are killed, and the
//! command that moves the phases on: it goes on where it was, and no pod notices.

use super::load::{self, failures};
use crate::{
    cluster::Run,
    harness::{Running, Segment, World, until},
};

const SERVERS: [&str; 3] = ["server-1", "server-2", "server-3"];
/// Takes every phase's keys first, and the command runs there.
const FIRST: &str = SERVERS[0];
const AGENT: &str = "agent-1";
/// Where the pod runs that asks.
const CLIENT_HOST: &str = SERVERS[1];

/// `skiff certificate rotate-ca` with what comes behind.
fn words(world: &World, more: &[&str]) -> Vec<String> {
    let path = |name: &str| world.host(FIRST).path(name).to_string_lossy().into_owned();
    let mut all = [&["certificate", "rotate-ca"], more].concat();
    let (data, kubeconfig) = (path("data"), path("admin.yaml"));
    all.extend(["--data-dir", &data, "--kubeconfig", &kubeconfig]);
    all.into_iter().map(str::to_owned).collect()
}

fn rotate(world: &World, more: &[&str]) -> Run {
    let words = words(world, more);
    world.host(FIRST).skiff(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Waits until the command tells one of these: the server that it asks may be running
/// itself anew, as it does with every phase's keys.
fn tells(world: &World, more: &[&str], texts: &[&str]) {
    until(&format!("rotate-ca {more:?} tells {texts:?}"), || {
        let told = rotate(world, more);
        texts.iter().any(|text| told.stdout.contains(text) || told.stderr.contains(text))
    });
}

fn begin(world: &World, more: &[&str]) -> Running {
    let words = words(world, more);
    world.host(FIRST).begin(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Waits until the command has the servers go into a phase; who asks is not killed.
fn until_phase(world: &World, phase: &str, mut command: Running) -> Running {
    let state =
        "get secret skiff-rotation -n kube-system -o go-template={{.data.state|base64decode}}";
    let begun =
        || SERVERS[1..].iter().any(|server| world.kubectl(server, state).stdout.ends_with(phase));
    let mut ended = false;
    until(&format!("the phase {phase} begins"), || {
        ended = command.has_ended();
        begun() || ended
    });
    match ended && !begun() {
        true => panic!("before the phase {phase}: {:?}", command.end()),
        false => command,
    }
}

/// Those servers die at once, and are started again.
fn killed(world: &mut World, servers: &[&str]) {
    for server in servers {
        world.host_mut(server).kill();
    }
    for server in servers {
        world.host_mut(server).start_again();
    }
    for server in servers {
        world.host_mut(server).wait_ready();
    }
}

fn key(world: &World, host: &str) -> String {
    world.host(host).read("data/server/tls/server-ca.key")
}

#[test]
fn a_rotation_goes_on_where_it_was() {
    let Some(mut world) = World::new() else { return };
    world.add_all(&[&SERVERS[..], &[AGENT]].concat(), Segment::A);
    world.host_mut(FIRST).start(&["server"]);
    let token = world.host(FIRST).read("data/server/token").trim().to_owned();
    let url = format!("https://{}:6443", world.host(FIRST).address());
    for host in &SERVERS[1..] {
        world.host_mut(host).start(&["server", "--server", &url, "--token", &token]);
    }
    world.host_mut(AGENT).start(&["agent", "--server", &url, "--token", &token]);
    for node in SERVERS.iter().chain(&[AGENT]) {
        world.kubectl(FIRST, &format!("wait --for=create node/{node} --timeout=180s")).ok();
    }
    world.kubectl(FIRST, "wait --for=condition=Ready node --all --timeout=180s").ok();
    let asked = format!("http://{}/", load::SERVICE_IP);
    let client = load::asks(CLIENT_HOST, &asked);
    let workload = [load::web(AGENT), client, load::service()].concat();
    world.host(FIRST).kubectl(&["apply", "-f", "-"], Some(&workload)).ok();
    world.kubectl(FIRST, "wait --for=condition=Ready pod --all --timeout=180s").ok();
    let unserved = load::unserved(&world, FIRST, CLIENT_HOST, &asked);
    let before = key(&world, FIRST);

    // The first phase: the server dies that takes its keys first, and the command with it.
    let command = begin(&world, &[]);
    let command = until_phase(&world, "/trust", command);
    command.kill();
    killed(&mut world, &[FIRST]);
    tells(&world, &["status"], &["the new CAs are being made known; the old ones sign"]);
    assert_eq!(key(&world, FIRST), before);

    // The second: the leader dies. The command is another one, which finds what was begun.
    let command = begin(&world, &[]);
    let command = until_phase(&world, "/sign", command);
    let leader = world.leader(SERVERS[2]);
    killed(&mut world, &[&leader]);
    command.end().prints("skiff certificate rotate-ca finish");
    tells(&world, &["status"], &["the new CAs sign; the old ones are trusted"]);
    let signing = key(&world, FIRST);
    assert_ne!(signing, before);

    // The third: the command dies, and one server after the other, as their turns come.
    let command = begin(&world, &["finish", "now"]);
    let command = until_phase(&world, "/drop", command);
    command.kill();
    killed(&mut world, &[FIRST]);
    killed(&mut world, &[SERVERS[2]]);
    let ended = "no rotation of the CAs is under way";
    tells(&world, &["finish"], &["trusted by nobody any more", ended]);
    tells(&world, &["status"], &[ended]);

    for server in SERVERS {
        assert_eq!(key(&world, server), signing, "{server}");
        for pod in ["web", "client"] {
            until(&format!("{server} reaches {pod}"), || {
                let line = format!("exec {pod} -- toolbox hostname");
                world.kubectl(server, &line).stdout.contains(pod)
            });
        }
        world.kubectl(server, &format!("label pod web by={server} --overwrite")).ok();
    }
    world.kubectl(FIRST, "wait --for=condition=Ready node --all --timeout=180s").ok();
    let failed = failures(&world, CLIENT_HOST);
    assert_eq!(failed.len(), unserved, "{:#?}", &failed[unserved..]);
}

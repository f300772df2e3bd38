//! The cluster's CAs and token keys are replaced while three servers and two agents
//! run: no pod notices, who knows the old CA only is served until it is dropped.

use std::fs;

use super::load::{self, failures};
use crate::{
    cluster::Run,
    harness::{Segment, World, until},
};

const SERVERS: [&str; 3] = ["server-1", "server-2", "server-3"];
const FIRST: &str = SERVERS[0];
const AGENT: &str = "agent-1";
/// Where the pod runs that asks.
const CLIENT_HOST: &str = "server-2";

fn rotate(world: &World, server: &str, words: &[&str]) -> Run {
    let host = world.host(server);
    let (data, kubeconfig) = (host.path("data"), host.path("admin.yaml"));
    let flags =
        ["--data-dir", &data.to_string_lossy(), "--kubeconfig", &kubeconfig.to_string_lossy()]
            .map(str::to_owned);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    host.skiff(&[&["certificate", "rotate-ca"], words, &flags].concat())
}

fn containers(world: &World) -> String {
    let line =
        "get pods web client -o jsonpath={.items[*].status.containerStatuses[*].containerID}";
    world.kubectl(FIRST, line).ok().stdout
}

fn data(world: &World, host: &str, file: &str) -> String {
    fs::read_to_string(world.host(host).path("data").join(file)).expect(file)
}

/// How many CAs a pod trusts.
fn told(world: &World) -> usize {
    let bundle = world.kubectl(FIRST, "get configmap kube-root-ca.crt -o jsonpath={.data}");
    bundle.stdout.matches("BEGIN CERTIFICATE").count()
}

/// Every server answers, and reaches the pods of every node.
fn all_works(world: &World) {
    for server in SERVERS {
        for pod in ["web", "client"] {
            let line = format!("exec {pod} -- toolbox hostname");
            until(&format!("{server} reaches {pod}"), || {
                world.kubectl(server, &line).stdout.contains(pod)
            });
        }
        world.kubectl(server, &format!("label pod web by={server} --overwrite")).ok();
    }
    world.kubectl(FIRST, "wait --for=condition=Ready node --all --timeout=180s").ok();
    // A node's own port shows a certificate of the CA that is trusted, and knows who asks.
    for node in SERVERS.iter().chain(&[AGENT]) {
        let url = format!("https://{}:10250", world.host(node).address());
        let line = format!("--server={url} get --raw /healthz");
        until(&format!("the port of {node}"), || world.kubectl(FIRST, &line).stdout == "ok");
    }
}

#[test]
fn the_cas_are_replaced_while_all_runs() {
    let Some(mut world) = World::new() else { return };
    for host in SERVERS.iter().chain(&[AGENT, "agent-2", "agent-3"]) {
        world.add(host, Segment::A);
    }
    world.host_mut(FIRST).start(&["server"]);
    let first = data(&world, FIRST, "server/token").trim().to_owned();
    let url = format!("https://{}:6443", world.host(FIRST).address());
    for host in &SERVERS[1..] {
        world.host_mut(host).start(&["server", "--server", &url, "--token", &first]);
    }
    world.host_mut(AGENT).start(&["agent", "--server", &url, "--token", &first]);
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
    let before = containers(&world);
    let admin = world.host(FIRST).path("admin.yaml");
    let old = world.host(FIRST).path("old.yaml");
    fs::copy(&admin, &old).expect("our own folder");
    let as_before = format!("--kubeconfig {} get nodes", old.display());

    rotate(&world, FIRST, &["status"]).prints("no rotation of the CAs is under way");
    rotate(&world, FIRST, &["finish"]).fails_with("begin one with");
    rotate(&world, FIRST, &["now"]).fails_with("say `rotate-ca`");
    rotate(&world, FIRST, &[])
        .prints("all servers and agents are there")
        .prints("/sign: all servers")
        .prints("skiff certificate rotate-ca finish");
    rotate(&world, SERVERS[2], &["status"])
        .prints("the new CAs sign; the old ones are trusted")
        .prints("all agents are there");
    all_works(&world);
    let signing = data(&world, FIRST, "server/tls/server-ca.key");
    for server in &SERVERS[1..] {
        assert_eq!(data(&world, server, "server/tls/server-ca.key"), signing, "{server}");
    }
    // Who has nothing but what there was before: a kubeconfig, a join token.
    world.kubectl(FIRST, &as_before).prints(AGENT);
    assert_ne!(fs::read(&admin).expect("there"), fs::read(&old).expect("there"));
    until("pods are told of both", || told(&world) == 2);
    world.host_mut("agent-2").start(&["agent", "--server", &url, "--token", &first]);
    world.kubectl(FIRST, "wait --for=create node/agent-2 --timeout=180s").ok();
    rotate(&world, FIRST, &["finish"]).fails_with("are renewed within an hour");

    // From another server than it was begun on.
    rotate(&world, SERVERS[1], &["finish", "now"]).prints("trusted by nobody any more");
    all_works(&world);
    until("pods are told of the new one", || told(&world) == 1);
    world.kubectl(FIRST, &as_before).fails_with("x509");
    assert_eq!(data(&world, FIRST, "server/tls/server-ca.key"), signing);
    assert_eq!(
        data(&world, AGENT, "agent/server-ca.crt"),
        data(&world, FIRST, "server/tls/server-ca.crt")
    );
    // The folder of a new machine shows that the token of before is of no use, and an
    // agent whose service still has it starts all the same.
    world
        .host("agent-3")
        .refused(&["agent", "--server", &url, "--token", &first])
        .fails_with("has another CA than the token says");
    let second = data(&world, FIRST, "server/token").trim().to_owned();
    assert_ne!(first, second);
    world.host_mut("agent-3").start(&["agent", "--server", &url, "--token", &second]);
    world.kubectl(FIRST, "wait --for=create node/agent-3 --timeout=180s").ok();
    let agent = world.host_mut(AGENT);
    agent.kill();
    agent.start_again();
    agent.wait_ready();
    all_works(&world);
    assert_eq!(containers(&world), before, "the same containers");
    let failed = failures(&world, CLIENT_HOST);
    assert_eq!(failed.len(), unserved, "{:#?}", &failed[unserved..]);
    rotate(&world, FIRST, &["status"]).prints("no rotation of the CAs is under way");
}

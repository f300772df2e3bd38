//! Certificates and tokens that change while everything runs: an agent's renew
//! by themselves, a server's are made anew, tokens are rotated, and no request
//! of a pod fails.

use std::fs;

use serde_json::Value;

use super::load::{self, failures};
use crate::{
    cluster::Run,
    harness::{Host, Segment, World, until},
};

const SERVER: &str = "server-1";
const AGENT: &str = "agent-1";

fn certificate(host: &Host, word: &str) -> Run {
    host.skiff(&["certificate", word, "--data-dir", &host.path("data").to_string_lossy()])
}

/// The certificates of a host, by file.
fn checked(host: &Host) -> Vec<Value> {
    let data = host.path("data");
    let args = ["certificate", "check", "-o", "json", "--data-dir", &data.to_string_lossy()];
    serde_json::from_str(&host.skiff(&args).ok().stdout).expect("JSON")
}

fn token(world: &World, words: &[&str]) -> Run {
    let host = world.host(SERVER);
    let kubeconfig = host.path("admin.yaml");
    host.skiff(&[&["token"], words, &["--kubeconfig", &kubeconfig.to_string_lossy()]].concat())
}

#[test]
fn certificates_and_tokens_change_under_load() {
    let Some(mut world) = World::new() else { return };
    for host in [SERVER, AGENT, "agent-2"] {
        world.add(host, Segment::A);
    }
    world.host_mut(SERVER).start(&["server", "--cluster-signing-duration", "60s"]);
    let url = format!("https://{}:6443", world.host(SERVER).address());
    let first = token(&world, &["create"]).ok().stdout.trim().to_owned();
    world.host_mut(AGENT).start(&["agent", "--server", &url, "--token", &first]);
    for node in [SERVER, AGENT] {
        world.kubectl(SERVER, &format!("wait --for=create node/{node} --timeout=90s")).ok();
        let line = format!("wait --for=condition=Ready node/{node} --timeout=90s");
        world.kubectl(SERVER, &line).ok();
    }
    let workload = [load::web(AGENT), load::asks(SERVER, "http://web/"), load::service()].concat();
    world.host(SERVER).kubectl(&["apply", "-f", "-"], Some(&workload)).ok();
    world.kubectl(SERVER, "wait --for=condition=Ready pod --all --timeout=60s").ok();
    let before = failures(&world, SERVER).len();
    an_agents_certificates_renew(&world);
    all_are_rotated(&world);
    let failed = failures(&world, SERVER);
    assert_eq!(failed.len(), before, "{:#?}", &failed[before..]);
    // With the token of now another machine joins, with that of before none does.
    let id = first.split('.').nth(2).expect("an ID").to_owned();
    let second = token(&world, &["rotate", &id]).ok().stdout.trim().to_owned();
    let joins = |token: &str| ["agent", "--server", &url, "--token", token].map(str::to_owned);
    let old = joins(&first);
    let old: Vec<&str> = old.iter().map(String::as_str).collect();
    world.host("agent-2").refused(&old).fails_with("skiff token create");
    let new = joins(&second);
    let new: Vec<&str> = new.iter().map(String::as_str).collect();
    world.host_mut("agent-2").start(&new);
    world.kubectl(SERVER, "wait --for=create node/agent-2 --timeout=90s").ok();
}

/// Past the end of the certificate it joined with, the agent is as ever.
fn an_agents_certificates_renew(world: &World) {
    let agent = world.host(AGENT);
    let joined = checked(agent);
    let node = |rows: &[Value]| {
        let row = rows.iter().find(|row| row["file"] == "agent/client-kubelet.crt");
        row.expect("it is listed")["expires"].as_str().expect("a time").to_owned()
    };
    let first = node(&joined);
    assert!(joined.iter().all(|row| row["file"] != "agent/server-ca.crt" || row["usages"] == "CA"));
    let renewed = "certificate renewed certificate=\"client-kubelet.crt\"";
    // Twice: by then that with which it joined has ended.
    until("two renewals", || agent.log().matches(renewed).count() >= 2);
    assert!(node(&checked(agent)) > first);
    world.kubectl(SERVER, "exec web -- toolbox hostname").prints("web");
    world.kubectl(SERVER, "wait --for=condition=Ready node/agent-1 --timeout=30s").ok();
    assert!(agent.log().matches(renewed).count() < 20, "{}", agent.log());
}

fn all_are_rotated(world: &World) {
    let server = world.host(SERVER);
    let kubeconfig = server.path("admin.yaml");
    let before = fs::read_to_string(&kubeconfig).expect("it is there");
    certificate(server, "check").prints("serving-kube-apiserver");
    certificate(server, "rotate").prints("client-admin");
    assert_ne!(before, fs::read_to_string(&kubeconfig).expect("it is there"));
    world.kubectl(SERVER, "get nodes").prints(AGENT);
    // Who had the old one may go on with it until it ends.
    fs::write(server.path("old.yaml"), before).expect("our own folder");
    let old = server.path("old.yaml");
    world.kubectl(SERVER, &format!("--kubeconfig {} get nodes", old.display())).prints(AGENT);

    let agent = world.host(AGENT);
    let file = agent.path("data/agent/client-kube-proxy.crt");
    let before = fs::read_to_string(&file).expect("it is there");
    certificate(agent, "rotate").prints("client-kube-proxy.crt");
    assert_ne!(before, fs::read_to_string(&file).expect("it is there"));
    world.kubectl(SERVER, "exec web -- toolbox hostname").prints("web");
    let nobody = server.skiff(&["certificate", "check", "--data-dir", "/nonexistent"]);
    nobody.fails_with("neither a server nor an agent has run with it");
}

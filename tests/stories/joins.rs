//! Machines that join: with clocks that are years off, with tokens of each kind, and where
//! no skiff is.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
};

use serde_json::Value;

use super::load;
use crate::{
    cluster::{Run, comes_to_print},
    harness::{Segment, World, until},
};

const SERVER: &str = "server-1";
const SECOND: &str = "server-2";
/// An agent that is refused.
const STRAY: &str = "agent-3";
const YEARS_S: i64 = 20 * 365 * 24 * 3600;

/// Nobody deletes a token, not even one that has expired.
const TOKENS_STAY: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: tokens-stay}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [DELETE], resources: [secrets]}]
  validations: [{expression: "oldObject.type != 'bootstrap.kubernetes.io/token'", message: tokens stay}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: tokens-stay}
spec: {policyName: tokens-stay, validationActions: [Deny]}
"#;

fn token(world: &World, words: &[&str]) -> Run {
    let kubeconfig = world.host(SERVER).path("admin.yaml");
    let kubeconfig = kubeconfig.to_string_lossy();
    world.host(SERVER).skiff(&[&["token"], words, &["--kubeconfig", &kubeconfig]].concat())
}

fn created(world: &World, flags: &[&str]) -> String {
    token(world, &[&["create"], flags].concat()).ok().stdout.trim().to_owned()
}

fn ready(world: &World, node: &str) {
    world.kubectl(SERVER, &format!("wait --for=create node/{node} --timeout=180s")).ok();
    let line = format!("wait --for=condition=Ready node/{node} --timeout=180s");
    world.kubectl(SERVER, &line).ok();
}

#[test]
fn machines_join_whatever_their_clocks_say_and_with_what_lets_them_in() {
    let Some(mut world) = World::new() else { return };
    world.add_all(&[SERVER, "behind", "ahead", STRAY, SECOND], Segment::A);
    world.host_mut(SERVER).start(&["server"]);
    let url = format!("https://{}:6443", world.host(SERVER).address());
    let good = created(&world, &[]);
    no_skiff_is_there(&world, &good);
    an_expired_token_lets_nobody_in(&world, &url);
    for (node, offset_s, says) in [
        ("behind", -YEARS_S, "days behind what 1 of 1 servers say"),
        ("ahead", YEARS_S, "days ahead of what 1 of 1 servers say"),
    ] {
        let host = world.host_mut(node);
        host.set_clock(offset_s);
        host.start(&["agent", "--server", &url, "--token", &good]);
        let told = host.log();
        assert!(told.contains(says), "{told}");
        runs_pods(&world, node);
        // Another life knows what the first one was told.
        let host = world.host_mut(node);
        host.kill();
        host.start(&["agent"]);
        comes_to_print(|| world.kubectl(SERVER, "logs web"), "listening on 8080/tcp");
        world.kubectl(SERVER, "delete pod web --timeout=180s").ok();
    }

    let of_servers = created(&world, &["--usage", "server"]);
    world.host_mut(SECOND).start(&["server", "--server", &url, "--token", &of_servers]);
    ready(&world, SECOND);
    until("it is a server like any other", || {
        let rows = world.host(SERVER).servers();
        rows.len() == 2 && rows.iter().all(|row| row["health"] == "ok")
    });
}

/// A pod there, its logs, and what it is asked over the tunnel.
fn runs_pods(world: &World, node: &str) {
    ready(world, node);
    world.host(SERVER).kubectl(&["apply", "-f", "-"], Some(&load::web(node))).ok();
    world.kubectl(SERVER, "wait --for=condition=Ready pod/web --timeout=180s").ok();
    world.kubectl(SERVER, "get pod web -o jsonpath={.spec.nodeName}").prints(node);
    comes_to_print(|| world.kubectl(SERVER, "logs web"), "listening on 8080/tcp");
    world.kubectl(SERVER, "exec web -- toolbox hostname").prints("web");
}

/// Something else answers: without TLS, and with it.
fn no_skiff_is_there(world: &World, good: &str) {
    let mut stranger = Stranger::start(world);
    for (port, why) in [(8000, "no skiff server ("), (10250, "it answers /cacerts with 4")] {
        let url = format!("https://{}:{port}", world.host(SERVER).address());
        let refused = world.host(STRAY).refused(&["agent", "--server", &url, "--token", good]);
        let says = "give the address and port of its Kubernetes API, such as --server https://";
        refused.fails_with(why).fails_with(says);
    }
    stranger.0.kill().expect("it serves");
    assert!(!world.host(STRAY).path("data/agent/client-kubelet.crt").exists());
}

/// A web server that knows nothing of clusters.
struct Stranger(Child);

impl Stranger {
    fn start(world: &World) -> Self {
        let mut python = world.host(SERVER).command("python3");
        let python = python.args(["-u", "-m", "http.server", "8000"]);
        let spawned = python.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut stranger = spawned.expect("python3");
        let mut line = String::new();
        let out = stranger.stdout.as_mut().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("it serves");
        Self(stranger)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Though it is there: what has expired is deleted a moment later, but for now not here.
fn an_expired_token_lets_nobody_in(world: &World, url: &str) {
    let host = world.host(SERVER);
    let id = |token: &str| token.split('.').nth(2).expect("an ID").to_owned();
    let kept = id(&created(world, &[]));
    host.kubectl(&["apply", "-f", "-"], Some(TOKENS_STAY)).ok();
    until("tokens stay", || token(world, &["delete", &kept]).stderr.contains("tokens stay"));
    let expired = created(world, &["--usage", "server", "--ttl", "1s"]);
    let id = id(&expired);
    until("it has expired", || {
        let listed = token(world, &["list"]).ok().stdout;
        let row = listed.lines().find(|row| row.starts_with(&id)).expect("it is listed");
        row.contains("expired")
    });
    let join =
        |role: &str| world.host(STRAY).refused(&[role, "--server", url, "--token", &expired]);
    join("agent").fails_with("it is wrong, has expired or was revoked").fails_with("token create");
    join("server").fails_with("the token has expired").fails_with("token create --usage server");
    let there = format!("get secret bootstrap-token-{id} -n kube-system -o json");
    let secret = world.kubectl(SERVER, &there).ok().stdout;
    let secret: Value = serde_json::from_str(&secret).expect("JSON");
    assert_eq!(secret["metadata"]["deletionTimestamp"], Value::Null, "nobody deleted it");
    assert!(!world.host(STRAY).path("data/agent/client-kubelet.crt").exists());
    assert!(!world.host(STRAY).path("data/server/tls").exists());
    world.kubectl(SERVER, "delete validatingadmissionpolicybinding tokens-stay").ok();
    let gone = format!("wait --for=delete secret/bootstrap-token-{id} -n kube-system");
    world.kubectl(SERVER, &format!("{gone} --timeout=180s")).ok();
}

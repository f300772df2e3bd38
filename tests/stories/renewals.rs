//! Certificates and tokens that change while everything runs: an agent's renew
//! by themselves, a server's are made anew, tokens are rotated, and no request
//! of a pod fails; and what an agent does whose certificates have run out.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Stdio},
};

use serde_json::Value;

use super::load::{self, failures};
use crate::{
    cluster::{Run, comes_to_print, run},
    harness::{Host, Segment, Session, World, until},
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
        world.kubectl(SERVER, &format!("wait --for=create node/{node} --timeout=180s")).ok();
        let line = format!("wait --for=condition=Ready node/{node} --timeout=180s");
        world.kubectl(SERVER, &line).ok();
    }
    let workload =
        [load::web(AGENT), load::asks(SERVER, "http://web/"), load::service(), PARROT.to_owned()]
            .concat();
    world.host(SERVER).kubectl(&["apply", "-f", "-"], Some(&workload)).ok();
    world.kubectl(SERVER, "wait --for=condition=Ready pod --all --timeout=180s").ok();
    let before = load::unserved(&world, SERVER, SERVER, "http://web/");
    let mut sessions = Sessions::start(&world);
    sessions.go_on("before");
    an_agents_certificates_renew(&world);
    sessions.go_on("renewed");
    all_are_rotated(&world);
    sessions.go_on("rotated");
    sessions.end();
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
    world.kubectl(SERVER, "wait --for=create node/agent-2 --timeout=180s").ok();
}

/// It was off for longer than they last, while its pods went on.
#[test]
fn an_agent_whose_certificates_have_run_out_joins_anew() {
    let Some(mut world) = World::new() else { return };
    for host in [SERVER, AGENT] {
        world.add(host, Segment::A);
    }
    world.host_mut(SERVER).start(&["server", "--cluster-signing-duration", "60s"]);
    let url = format!("https://{}:6443", world.host(SERVER).address());
    let first = token(&world, &["create"]).ok().stdout.trim().to_owned();
    world.host_mut(AGENT).start(&["agent", "--server", &url, "--token", &first]);
    world.kubectl(SERVER, "wait --for=create node/agent-1 --timeout=180s").ok();
    world.host(SERVER).kubectl(&["apply", "-f", "-"], Some(&load::web(AGENT))).ok();
    world.kubectl(SERVER, "wait --for=condition=Ready pod/web --timeout=180s").ok();
    let state = |world: &World| {
        let node = world.kubectl(SERVER, "get node agent-1 -o jsonpath={.metadata.uid}").ok();
        let run = "get pod web -o jsonpath={.status.containerStatuses[0].containerID}";
        (node.stdout, world.kubectl(SERVER, run).ok().stdout)
    };
    let before = state(&world);
    let agent = world.host_mut(AGENT);
    agent.kill();
    until("both have run out", || {
        certificate(agent, "check").stdout.matches("expired:").count() == 2
    });
    let run = agent.refused(&["agent", "--server", &url]);
    run.fails_with("this node's certificates ran out on").fails_with("skiff token create");
    agent.start(&["agent", "--server", &url, "--token", &first]);
    comes_to_print(|| world.kubectl(SERVER, "exec web -- toolbox hostname"), "web");
    world.kubectl(SERVER, "wait --for=condition=Ready node/agent-1 pod/web --timeout=180s").ok();
    assert_eq!(state(&world), before, "it is the same node, and runs the same container");
}

/// Says what it is told.
const PARROT: &str = "
---
apiVersion: v1
kind: Pod
metadata: {name: parrot}
spec:
  nodeName: agent-1
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: skiff.local/toolbox, args: [cat], stdin: true}
";

/// What a user has open on the agent, through the connection of then.
struct Sessions {
    exec: Session,
    attach: Session,
    forward: Child,
    /// To the web server behind it.
    forwarded: BufReader<TcpStream>,
}

impl Sessions {
    fn start(world: &World) -> Self {
        let kubectl = |args: &[&str]| {
            let mut command = world.host(SERVER).kubectl_command();
            command.args(args);
            command
        };
        let exec = kubectl(&["exec", "-i", "parrot", "--", "toolbox", "cat"]);
        let attach = kubectl(&["attach", "-i", "--quiet", "parrot"]);
        let mut forward = kubectl(&["port-forward", "web", ":8080"]);
        let mut forward = forward.stdout(Stdio::piped()).spawn().expect("kubectl runs");
        let mut line = String::new();
        let stdout = forward.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("our own child");
        let at = line.strip_prefix("Forwarding from ").expect("it says where");
        let at = at.split(' ').next().expect("an address").to_owned();
        let network = world.host(SERVER).network();
        let forwarded = network.within(|| TcpStream::connect(at).expect("kubectl listens"));
        Self {
            exec: Session::start(&mut { exec }),
            attach: Session::start(&mut { attach }),
            forward,
            forwarded: BufReader::new(forwarded),
        }
    }

    fn go_on(&mut self, word: &str) {
        self.exec.echoes(word);
        self.attach.echoes(word);
        let request = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n";
        self.forwarded.get_mut().write_all(request).expect("it is open");
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.forwarded.read_line(&mut head).expect("it is open"), 0, "{head}");
        }
        assert!(head.contains("Content-Length: 4\r\n"), "{head}");
        let mut body = [0; 4];
        self.forwarded.read_exact(&mut body).expect("it is open");
        assert_eq!(&body, b"web\n");
    }

    fn end(mut self) {
        self.exec.end();
        // What is attached to goes on without input, and so does the client.
        drop(self.attach);
        self.forward.kill().expect("our own child");
        self.forward.wait().expect("our own child");
    }
}

/// The certificate that a node's port shows, to who takes none that has ended.
fn shown(host: &Host) -> String {
    let mut curl = host.command("curl");
    curl.args(["-sS", "--max-time", "20", "--retry", "30", "--retry-connrefused"]);
    curl.arg("--cacert").arg(host.path("data/agent/server-ca.crt"));
    curl.args(["-o", "/dev/null", "-w", "%{certs}"]);
    let said = run(curl.arg(format!("https://{}:10250/healthz", host.address())), None).ok();
    assert!(said.stdout.contains("BEGIN CERTIFICATE"), "{}", said.stdout);
    said.stdout
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
    let mut shown = BTreeSet::from([shown(agent)]);
    let renewed = "certificate renewed certificate=\"client-kubelet.crt\"";
    // Twice: by then that with which it joined has ended.
    until("two renewals", || agent.log().matches(renewed).count() >= 2);
    // And that of its port, of which others know the CA only.
    until("three certificates of the port", || {
        shown.insert(self::shown(agent));
        shown.len() >= 3
    });
    assert!(node(&checked(agent)) > first);
    world.kubectl(SERVER, "exec web -- toolbox hostname").prints("web");
    world.kubectl(SERVER, "wait --for=condition=Ready node/agent-1 --timeout=180s").ok();
    assert!(agent.log().matches(renewed).count() < 20, "{}", agent.log());
}

fn all_are_rotated(world: &World) {
    let server = world.host(SERVER);
    let kubeconfig = server.path("admin.yaml");
    let before = fs::read_to_string(&kubeconfig).expect("it is there");
    let status = certificate(server, "status").prints("serving-kube-apiserver").stdout;
    assert_eq!(certificate(server, "check").ok().stdout, status, "two names of one command");
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
    let hostname = || world.kubectl(SERVER, "exec web -- toolbox hostname");
    comes_to_print(hostname, "web");
    let nobody = server.skiff(&["certificate", "check", "--data-dir", "/nonexistent"]);
    nobody.fails_with("neither a server nor an agent has run with it");
}

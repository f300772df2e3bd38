//! Pods' packets between nodes are encrypted: by the kernel where it can, by skiff
//! where not, as on most machines that run these tests. Nobody on the way reads
//! them, and nodes may move, leave, come back and change their keys.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::{
    cluster::{Run, run},
    harness::{Families, Segment, World},
};

const SERVER: &str = "server-1";
const NEAR: &str = "agent-1";
const FAR: &str = "agent-2";
const NODES: [&str; 3] = [SERVER, NEAR, FAR];

const KEY: &str = "skiff.sh/wireguard-key";
const DEVICE: &str = "skiff-wg";
/// What somebody on the way would look for.
const SECRET: &str = "nobody-else-may-read-this";

/// A pod on each node that tells the secret, behind one Service.
fn objects(nodes: &[&str]) -> String {
    let pod = |node: &&str| {
        format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: web-{node}, labels: {{app: web}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: skiff.local/toolbox
    args: [http-echo, --port, "8080", --text, "{SECRET} of {node}"]
    readinessProbe: {{httpGet: {{port: 8080}}, periodSeconds: 1}}
---"#
        )
    };
    nodes.iter().map(pod).collect::<String>()
        + r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
"#
}

fn kubectl(world: &World, line: &str) -> Run {
    world.kubectl(SERVER, line)
}

fn get(world: &World, what: &str) -> Value {
    let run = kubectl(world, &format!("get {what} -o json")).ok();
    serde_json::from_str(&run.stdout).expect("kubectl prints JSON")
}

fn ready(world: &World, node: &str) {
    kubectl(world, &format!("wait --for=create node/{node} --timeout=180s")).ok();
    kubectl(world, &format!("wait --for=condition=Ready node/{node} --timeout=180s")).ok();
}

fn ips(world: &World, pod: &str) -> Vec<String> {
    let pod = get(world, &format!("pod {pod}"));
    let ips = pod["status"]["podIPs"].as_array().cloned().unwrap_or_default();
    let in_url = |ip: &str| if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    ips.iter().filter_map(|ip| ip["ip"].as_str()).map(in_url).collect()
}

fn key(world: &World, node: &str) -> String {
    let node = get(world, &format!("node {node}"));
    node["metadata"]["annotations"][KEY].as_str().unwrap_or_default().to_owned()
}

/// Asks again until it is so; the story's time limit is the runner's.
fn eventually(what: &str, mut ask: impl FnMut() -> Run, done: impl Fn(&Run) -> bool) {
    let began = std::time::Instant::now();
    loop {
        let run = ask();
        if done(&run) {
            return;
        }
        assert!(began.elapsed().as_secs() < 90, "{what}: {}{}", run.stdout, run.stderr);
    }
}

fn pod_asks(world: &World, from: &str, url: &str) -> Run {
    kubectl(world, &format!("exec web-{from} -- toolbox get --timeout 5 {url}"))
}

/// Every pod asks every pod at each of its addresses, and the Service.
fn everybody_talks(world: &World, nodes: &[&str]) {
    for from in nodes {
        for to in nodes {
            for ip in ips(world, &format!("web-{to}")) {
                let told = format!("{SECRET} of {to}");
                let url = format!("http://{ip}:8080/");
                // Where a node has moved, or has another key, the others hear of it.
                eventually(&url, || pod_asks(world, from, &url), |run| run.stdout.contains(&told));
            }
        }
        let service = "http://web.default.svc.cluster.local/";
        eventually(service, || pod_asks(world, from, service), |run| run.stdout.contains(SECRET));
    }
}

pub(super) fn has(frames: &[u8], part: &[u8]) -> bool {
    frames.windows(part.len()).any(|window| window == part)
}

/// What passes the cable of a node while its pod asks all others.
fn nobody_reads(world: &World, nodes: &[&str]) {
    let tap = world.host(SERVER).tap();
    everybody_talks(world, nodes);
    let frames = tap.end();
    let port = 51820_u16.to_be_bytes();
    assert!(has(&frames, &[port, port].concat()), "WireGuard passes the cable");
    assert!(!has(&frames, SECRET.as_bytes()), "{SECRET} can be read on the way");
    // The tap would have heard it: what is no pod's goes as it is.
    let tap = world.host(SERVER).tap();
    let url = format!("http://{}:30080/", world.host(nodes[1]).address());
    let mut curl = world.host(SERVER).command("curl");
    run(curl.args(["-gsS", "--max-time", "5", &url]), None).prints(SECRET);
    let frames = tap.end();
    assert!(has(&frames, SECRET.as_bytes()), "a port of a node is not encrypted by this");
}

fn link(world: &World, node: &str) -> Run {
    let mut ip = world.host(node).command("ip");
    run(ip.args(["link", "show", DEVICE]), None)
}

fn way(world: &World, from: &str, to: &str) -> Run {
    let mut ip = world.host(from).command("ip");
    run(ip.args(["route", "get", to]), None)
}

#[test]
fn packets_between_nodes_are_sealed_while_nodes_come_and_go() {
    let Some(mut world) = World::of(Families::Both) else { return };
    for (node, segment) in [(SERVER, Segment::A), (NEAR, Segment::A), (FAR, Segment::B)] {
        world.add(node, segment);
    }
    let cidrs =
        ["--cluster-cidr", "10.42.0.0/16,fd42::/56", "--service-cidr", "10.43.0.0/16,fd43::/112"];
    let server = [&["server", "--pod-network", "wireguard"], &cidrs[..]].concat();
    world.host_mut(SERVER).start(&server);
    let kubeconfig = world.host(SERVER).path("admin.yaml").to_string_lossy().into_owned();
    let token = world.host(SERVER).skiff(&["token", "create", "--kubeconfig", &kubeconfig]).ok();
    let url = format!("https://{}:6443", world.host(SERVER).address());
    let agent = ["agent", "--server", &url, "--token", token.stdout.trim()];
    for node in [NEAR, FAR] {
        world.host_mut(node).start(&agent);
    }
    for node in NODES {
        ready(&world, node);
        assert_eq!(key(&world, node).len(), 44, "{node} tells its key");
        let file = world.host(node).path("data/node/wireguard.key");
        let mode = std::fs::metadata(&file).expect("the key is kept").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{node}");
        let secret = std::fs::read_to_string(&file).expect("root reads it");
        let all = kubectl(&world, "get nodes -o yaml").ok().stdout;
        assert!(!all.contains(secret.trim()), "{node}'s key is its own");
    }
    world.host(SERVER).kubectl(&["apply", "-f", "-"], Some(&objects(&NODES))).ok();
    kubectl(&world, "wait --for=condition=Ready pod -l app=web --timeout=180s").ok();
    nobody_reads(&world, &NODES);
    let status = world.host(SERVER).skiff(&["status", "--kubeconfig", &kubeconfig]);
    status.prints("Network  WireGuard on 3 of 3 nodes");
    let mtu = kubectl(&world, "exec web-agent-1 -- toolbox cat /sys/class/net/eth0/mtu");
    mtu.prints("1440");

    // A node with another address.
    world.change_address(NEAR, 42);
    everybody_talks(&world, &NODES);

    // A node that is killed, and comes back: the same key, and the same pods.
    let before = key(&world, FAR);
    world.host_mut(FAR).kill();
    // Its packets wait for it, and go nowhere else.
    link(&world, FAR).ok();
    world.host_mut(FAR).start(&["agent"]);
    everybody_talks(&world, &NODES);
    assert_eq!(key(&world, FAR), before);

    // One with a new key.
    world.host_mut(FAR).kill();
    let file = world.host(FAR).path("data/node/wireguard.key");
    std::fs::remove_file(file).expect("it was kept");
    world.host_mut(FAR).start(&["agent"]);
    everybody_talks(&world, &NODES);
    assert_ne!(key(&world, FAR), before);

    // One that leaves for good takes its routes with it, and its own are cleared away.
    let gone = ips(&world, "web-agent-2").remove(0);
    way(&world, SERVER, &gone).prints(DEVICE);
    world.host_mut(FAR).stop();
    kubectl(&world, &format!("delete node {FAR}")).ok();
    let left = |run: &Run| !run.stdout.contains(DEVICE);
    eventually("the route stays", || way(&world, SERVER, &gone), left);
    everybody_talks(&world, &[SERVER, NEAR]);
    let data = world.host(FAR).path("data").to_string_lossy().into_owned();
    world.host(FAR).skiff(&["killall", "--data-dir", &data]).ok();
    link(&world, FAR).fails_with("does not exist");
}

/// By IPv6 alone, the tunnels too.
#[test]
fn packets_are_sealed_by_ipv6() {
    let Some(mut world) = World::of(Families::V6) else { return };
    world.add(SERVER, Segment::A);
    world.add(FAR, Segment::B);
    let cidrs = ["--cluster-cidr", "fd42::/56", "--service-cidr", "fd43::/112"];
    let server =
        [&["server", "--pod-network", "wireguard", "--wireguard-port", "4500"], &cidrs[..]];
    world.host_mut(SERVER).start(&server.concat());
    let kubeconfig = world.host(SERVER).path("admin.yaml").to_string_lossy().into_owned();
    let token = world.host(SERVER).skiff(&["token", "create", "--kubeconfig", &kubeconfig]).ok();
    let url = format!("https://[{}]:6443", world.host(SERVER).address_v6());
    let agent = ["agent", "--server", &url, "--token", token.stdout.trim()];
    world.host_mut(FAR).start(&agent);
    let nodes = [SERVER, FAR];
    for node in nodes {
        ready(&world, node);
    }
    world.host(SERVER).kubectl(&["apply", "-f", "-"], Some(&objects(&nodes))).ok();
    kubectl(&world, "wait --for=condition=Ready pod -l app=web --timeout=180s").ok();
    let tap = world.host(SERVER).tap();
    everybody_talks(&world, &nodes);
    let frames = tap.end();
    let port = 4500_u16.to_be_bytes();
    assert!(has(&frames, &[port, port].concat()), "WireGuard passes the cable");
    assert!(!has(&frames, SECRET.as_bytes()), "{SECRET} can be read on the way");
    let mtu = kubectl(&world, "exec web-agent-2 -- toolbox cat /sys/class/net/eth0/mtu");
    mtu.prints("1420");
}

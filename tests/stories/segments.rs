//! Nodes on one segment, of which the switch drops packets with pods' addresses, as a
//! cloud does, and then lets them through: pods talk all the time, in a tunnel or without.
//! And nodes that the operator tells to use a tunnel there.

use std::process::Command;

use crate::{
    cluster::{Run, comes_to_print, run},
    harness::{Families, Segment, World, until},
};

const SERVER: &str = "server-1";
const AGENT: &str = "agent-1";
const NODES: [&str; 2] = [SERVER, AGENT];
const DROPPED: &str = "the network drops packets with pods' addresses";
/// What both say at the port where they ask each other, in the head of a datagram.
const QUESTION: &[u8] = b"skiffsg\x01";

/// The switch, where it drops what a port of its sends with a pod's address.
fn rules(world: &World) -> String {
    let chain = |node: &&str| {
        let number = world.host(node).number;
        format!(
            "chain port{number} {{ type filter hook ingress device port{number} priority 0; \
             ip saddr 10.42.0.0/16 drop; ip6 saddr fd42::/56 drop; }}\n"
        )
    };
    format!("table netdev cloud {{\n{} }}\n", NODES.iter().map(chain).collect::<String>())
}

fn nft(world: &World, rules: &str) {
    world.network().within(|| run(Command::new("nft").args(["-f", "-"]), Some(rules)).ok());
}

fn pod(node: &str) -> String {
    format!(
        r#"
---
apiVersion: v1
kind: Pod
metadata: {{name: web-{node}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: skiff.local/toolbox
    args: [http-echo, --port, "8080", --text, "this is {node}"]
    readinessProbe: {{httpGet: {{port: 8080}}, periodSeconds: 1}}
"#
    )
}

fn ips(world: &World, node: &str) -> Vec<String> {
    let line = format!("get pod web-{node} -o jsonpath={{.status.podIPs[*].ip}}");
    world.kubectl(SERVER, &line).ok().stdout.split_whitespace().map(str::to_owned).collect()
}

/// Pods of both ask each other at their addresses of both families.
fn talk(world: &World) {
    for (from, to) in [(SERVER, AGENT), (AGENT, SERVER)] {
        let all = ips(world, to);
        assert_eq!(all.len(), 2);
        for ip in all {
            let host = if ip.contains(':') { format!("[{ip}]") } else { ip };
            let line = format!("exec web-{from} -- toolbox get --timeout 5 http://{host}:8080/");
            comes_to_print(|| world.kubectl(SERVER, &line), &format!("this is {to}"));
        }
    }
}

fn way(world: &World, from: &str, to: &str) -> Run {
    run(world.host(from).command("ip").args(["route", "get", to]), None)
}

/// Waits until both send to the other's pods in a tunnel, or without.
fn tunnelled(world: &World, is_tunnelled: bool) {
    for (from, to) in [(SERVER, AGENT), (AGENT, SERVER)] {
        for ip in ips(world, to) {
            let other = world.host(to);
            let other = if ip.contains(':') { other.address_v6() } else { other.address() };
            let wanted = match is_tunnelled {
                true => "dev skiff-".to_owned(),
                false => format!("via {other} dev eth0"),
            };
            until(&format!("{from} sends to {ip} {wanted}"), || {
                way(world, from, &ip).ok().stdout.contains(&wanted)
            });
        }
    }
}

fn restart(world: &mut World, node: &str) {
    let host = world.host_mut(node);
    host.kill();
    host.start_again();
    host.wait_ready();
}

/// Both nodes, and a pod on each.
fn start(world: &mut World, flags: &[&str]) {
    let cidrs =
        ["--cluster-cidr", "10.42.0.0/16,fd42::/56", "--service-cidr", "10.43.0.0/16,fd43::/112"];
    world.host_mut(SERVER).start(&[&["server"], &cidrs[..], flags].concat());
    let kubeconfig = world.host(SERVER).path("admin.yaml").to_string_lossy().into_owned();
    let token = world.host(SERVER).skiff(&["token", "create", "--kubeconfig", &kubeconfig]).ok();
    let url = format!("https://{}:6443", world.host(SERVER).address());
    let agent = ["agent", "--server", &url, "--token", token.stdout.trim()];
    world.host_mut(AGENT).start(&agent);
    for node in NODES {
        let wait = |what: &str| format!("wait --for={what} node/{node} --timeout=180s");
        world.kubectl(SERVER, &wait("create")).ok();
        world.kubectl(SERVER, &wait("condition=Ready")).ok();
    }
    let pods = NODES.map(pod).concat();
    world.host(SERVER).kubectl(&["apply", "-f", "-"], Some(&pods)).ok();
    world.kubectl(SERVER, "wait --for=condition=Ready pod --all --timeout=180s").ok();
}

/// How many packets from pod to pod are in frames, in VXLAN and without, by what stands in
/// the Ethernet header and at the beginning of both addresses.
fn packets(frames: &[u8], kind: [u8; 2], pods: [u8; 2]) -> (usize, usize) {
    const ETHERNET: usize = 14;
    const VXLAN: [u8; 4] = [8, 0, 0, 0];
    let v6 = kind == [0x86, 0xdd];
    let (from, to) = if v6 { (8, 24) } else { (12, 16) };
    let (mut inside, mut bare) = (0, 0);
    // Before the frame inside: the port, length and checksum of UDP, then VXLAN's own head.
    let head = 2 + 2 + 2 + 8;
    for at in head..frames.len().saturating_sub(ETHERNET + 40) {
        let packet = &frames[at + ETHERNET..];
        let is_packet = frames[at + 12..at + ETHERNET] == kind
            && packet[0] >> 4 == if v6 { 6 } else { 4 }
            && packet[from..from + 2] == pods
            && packet[to..to + 2] == pods;
        let before = &frames[at - head..at];
        match is_packet {
            true if before[..2] == 8472_u16.to_be_bytes() && before[6..10] == VXLAN => inside += 1,
            true => bare += 1,
            false => {}
        }
    }
    (inside, bare)
}

/// Where nothing asks for it but the operator.
#[test]
fn pods_talk_by_vxlan_where_the_operator_says_so() {
    let Some(mut world) = World::of(Families::Both) else { return };
    world.add_all(&NODES, Segment::A);
    start(&mut world, &["--pod-network", "vxlan"]);
    tunnelled(&world, true);
    let tap = world.host(AGENT).tap();
    talk(&world);
    let frames = tap.end();
    for (kind, pods) in [([0x08, 0x00], [10, 42]), ([0x86, 0xdd], [0xfd, 0x42])] {
        let (inside, bare) = packets(&frames, kind, pods);
        assert!(inside > 0 && bare == 0, "{kind:x?}: {inside} in VXLAN, {bare} without");
    }
    for node in NODES {
        let line = format!("exec web-{node} -- toolbox cat /sys/class/net/eth0/mtu");
        world.kubectl(SERVER, &line).prints("1450");
        let link = run(world.host(node).command("ip").args(["-d", "link", "show"]), None).ok();
        let of_ours = link.stdout.lines().filter(|line| line.contains("skiff-"));
        assert!(of_ours.clone().any(|line| line.contains("mtu 1450")), "{}", link.stdout);
        assert!(link.stdout.contains("dstport 8472"), "{}", link.stdout);
        assert!(!world.host(node).log().contains(DROPPED), "nothing was dropped");
    }
}

#[test]
fn pods_talk_in_a_tunnel_where_the_segment_drops_their_packets() {
    let Some(mut world) = World::of(Families::Both) else { return };
    world.add_all(&NODES, Segment::A);
    nft(&world, &rules(&world));
    start(&mut world, &[]);
    tunnelled(&world, true);
    talk(&world);
    for node in NODES {
        let log = world.host(node).log();
        assert_eq!(log.matches(DROPPED).count(), 1, "{node} says it once: {log}");
    }

    // One of both starts anew meanwhile: no packet is sent to where it would be dropped.
    for node in NODES {
        restart(&mut world, node);
        let other = if node == SERVER { AGENT } else { SERVER };
        way(&world, node, &ips(&world, other)[0]).prints("dev skiff-");
        tunnelled(&world, true);
        talk(&world);
    }

    // It lets them through, and one of both looks again.
    nft(&world, "delete table netdev cloud\n");
    restart(&mut world, AGENT);
    tunnelled(&world, false);
    talk(&world);
    // Nothing changes, so nothing is asked, with pods coming and going.
    let tap = world.host(AGENT).tap();
    talk(&world);
    world.kubectl(SERVER, "delete pod web-server-1 --timeout=60s").ok();
    world.host(SERVER).kubectl(&["apply", "-f", "-"], Some(&pod(SERVER))).ok();
    world.kubectl(SERVER, "wait --for=condition=Ready pod --all --timeout=180s").ok();
    talk(&world);
    let frames = tap.end();
    assert!(!frames.windows(QUESTION.len()).any(|window| window == QUESTION), "it is asked");

    // A cable that is plugged in anew may lead to another network.
    nft(&world, &rules(&world));
    world.plug(AGENT, false);
    world.plug(AGENT, true);
    tunnelled(&world, true);
    talk(&world);

    // Nothing of it stays.
    world.host_mut(AGENT).stop();
    let data = world.host(AGENT).path("data").to_string_lossy().into_owned();
    world.host(AGENT).skiff(&["killall", "--data-dir", &data]).ok();
    for family in ["-4", "-6"] {
        let left = run(world.host(AGENT).command("ip").args([family, "route"]), None).ok();
        assert!(!left.stdout.contains("blackhole"), "{}", left.stdout);
    }
}

//! Two nodes in network namespaces, with a cable between them, and packets
//! between their pods: by the kernel's WireGuard where it has it, by ours, and
//! by one at each end.

use std::{
    net::{IpAddr, UdpSocket},
    process::Command,
    sync::mpsc::Receiver,
    time::Duration,
};

use netlink::{netns::Netns, pod_link};

use super::*;

const PORT: u16 = 51820;

struct Host {
    netns: Netns,
    overlay: Overlay,
    /// Its address on the cable, one of each family, as are its pods'.
    addresses: [IpAddr; 2],
    pods: [IpAddr; 2],
    networks: [Network; 2],
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn sealing(carrier: Carrier) -> Sealing {
    Sealing { keys: Keys::generate().expect("random numbers"), carrier }
}

fn overlay(name: String, sealing: Sealing) -> Overlay {
    let cluster = vec![(ip("10.42.0.0"), 16), (ip("fd42::"), 56)];
    Overlay::new(name, Mode::Wireguard, PORT, cluster, Some(sealing), || {})
}

impl Host {
    fn new(number: u8, sealing: Sealing) -> Self {
        let name = format!("host-{number}");
        Self {
            netns: Netns::new().expect("a namespace"),
            overlay: overlay(name, sealing),
            addresses: [ip(&format!("192.0.2.{number}")), ip(&format!("2001:db8::{number}"))],
            pods: [ip(&format!("10.42.{number}.9")), ip(&format!("fd42:0:0:{number}::9"))],
            networks: [
                (ip(&format!("10.42.{number}.0")), 24),
                (ip(&format!("fd42:0:0:{number}::")), 64),
            ],
        }
    }

    /// What the others know of it; `v6` says which of its addresses comes first.
    fn peer(&self, v6: bool) -> Peer {
        Peer {
            addresses: vec![self.addresses[usize::from(v6)]],
            pods: self.networks.to_vec(),
            key: self.overlay.sealing.as_ref().map(|sealing| sealing.keys.public),
            is_ready: true,
        }
    }

    /// `ip` of iproute2 or busybox, in this host's network.
    fn ip(&self, line: &str) {
        self.run("ip", &line.split(' ').collect::<Vec<_>>());
    }

    fn run(&self, program: &str, words: &[&str]) {
        let run = || Command::new(program).args(words).output().expect(program);
        let done = self.netns.within(run).expect("our namespace");
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn apply(&mut self, nodes: &BTreeMap<String, Peer>) -> Plan {
        let Self { netns, overlay, .. } = self;
        let applied = netns.within(|| overlay.apply(nodes)).expect("our namespace");
        applied.expect("the kernel does it").0
    }

    fn socket(&self, v6: bool) -> UdpSocket {
        let ip = self.pods[usize::from(v6)];
        let bind = || UdpSocket::bind((ip, 7)).expect("the pod's address");
        let socket = self.netns.within(bind).expect("our namespace");
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a socket");
        socket
    }
}

/// A cable from the first to the second, and a pod on each.
fn connect(hosts: &[Host; 2]) {
    let [a, b] = hosts;
    let cable = pod_link::PodLink {
        netns_path: b.netns.path(),
        host_ifname: "cable".into(),
        pod_ifname: "eth0".into(),
        addresses: b.addresses.to_vec(),
        mtu: 1500,
        from_loopback: false,
    };
    for host in hosts {
        host.ip("link set lo up");
    }
    a.netns.within(|| pod_link::ensure(&cable)).expect("our namespace").expect("a cable");
    // The first address is what it sends from by the cable.
    a.ip(&format!("addr add {}/32 dev lo", a.addresses[0]));
    a.ip(&format!("-6 addr add {}/128 dev lo", a.addresses[1]));
    for host in hosts {
        host.ip(&format!("addr add {}/32 dev lo", host.pods[0]));
        host.ip(&format!("-6 addr add {}/128 dev lo", host.pods[1]));
    }
}

fn tell(hosts: &mut [Host; 2], v6: bool) {
    let nodes: BTreeMap<String, Peer> =
        hosts.iter().map(|host| (host.overlay.me.clone(), host.peer(v6))).collect();
    for host in hosts {
        let plan = host.apply(&nodes);
        assert!(plan.unreachable.is_empty(), "{:?}", plan.unreachable);
        assert_eq!(plan.pod_mtu, if v6 { 1420 } else { 1440 });
    }
}

/// A pod of each host sends to the other's, with as much as fits.
fn talk(hosts: &[Host; 2]) {
    let mut number = 0_u32;
    for v6 in [false, true] {
        let [a, b] = [hosts[0].socket(v6), hosts[1].socket(v6)];
        for (from, to) in [(&a, &b), (&b, &a), (&a, &b)] {
            // Headers of IP and UDP take 48 bytes of 1420.
            for length in [5, 1372] {
                number += 1;
                send(from, to, number, length);
            }
        }
    }
}

/// Sends again where nothing comes: the other end of a session may be gone.
fn send(from: &UdpSocket, to: &UdpSocket, number: u32, length: usize) {
    let mut sent = number.to_be_bytes().to_vec();
    sent.resize(length, b'x');
    let (source, target) = [from, to].map(|s| s.local_addr().expect("bound")).into();
    let mut buffer = [0; 2000];
    for _ in 0..60 {
        from.send_to(&sent, target).expect("a route");
        while let Ok((got, by)) = to.recv_from(&mut buffer) {
            if buffer[..got] == sent {
                assert_eq!(by, source, "nobody changes the source");
                return;
            }
        }
    }
    panic!("{length} bytes from {source} do not arrive at {target}");
}

fn story(carriers: [Carrier; 2]) {
    let [first, second] = carriers;
    let mut hosts = [Host::new(1, sealing(first)), Host::new(2, sealing(second))];
    connect(&hosts);
    for v6 in [false, true] {
        tell(&mut hosts, v6);
        talk(&hosts);
        tell(&mut hosts, v6);
        talk(&hosts);
    }
    // Another life of the second's process: the same key, and nothing in memory.
    let again = |host: &mut Host, sealing: Sealing| {
        host.overlay.engine = None;
        let me = host.overlay.me.clone();
        host.overlay = overlay(me, sealing);
    };
    let known = hosts[1].overlay.sealing.clone().expect("it has keys");
    again(&mut hosts[1], known);
    tell(&mut hosts, false);
    talk(&hosts);
    // And one with another key.
    again(&mut hosts[1], sealing(second));
    tell(&mut hosts, false);
    talk(&hosts);
    // A node that is gone is nobody's.
    let [a, _] = &mut hosts;
    let alone = BTreeMap::from([(a.overlay.me.clone(), a.peer(false))]);
    a.apply(&alone);
    let link = a.netns.within(|| netlink::host::link_index(wireguard::DEVICE));
    assert_eq!(link.expect("our namespace").expect("a list of links"), None);
    tell(&mut hosts, false);
    talk(&hosts);
    for host in &mut hosts {
        host.overlay.engine = None;
        host.netns.within(killall).expect("our namespace").expect("the kernel does it");
        let link = host.netns.within(|| netlink::host::link_index(wireguard::DEVICE));
        assert_eq!(link.expect("our namespace").expect("a list of links"), None);
    }
}

/// What stands in the way of a carrier here.
fn obstacle(carrier: Carrier) -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("making network namespaces needs root");
    }
    match (carrier, Carrier::found().expect("the kernel answers")) {
        (Carrier::Kernel, Carrier::Userspace) => Some("this kernel has no WireGuard"),
        _ if !std::path::Path::new("/dev/net/tun").exists() => Some("no /dev/net/tun"),
        _ => None,
    }
}

/// Both ends' addresses are on the cable, so that no router is in between; the segment
/// between them may drop what comes from pods.
fn on_one_segment(hosts: &[Host; 2]) {
    connect(hosts);
    // It has it for itself alone.
    hosts[1].ip(&format!("-6 addr del {}/128 dev eth0", hosts[1].addresses[1]));
    for (host, link) in hosts.iter().zip(["cable", "eth0"]) {
        host.ip(&format!("addr add {}/24 dev {link}", host.addresses[0]));
        host.ip(&format!("-6 addr add {}/64 dev {link} nodad", host.addresses[1]));
    }
}

/// Applies until both have this in mind of each other, as their verdicts tell them to.
fn come_to(hosts: &mut [Host; 2], judged: &Receiver<()>, verdict: Verdict) {
    let nodes: BTreeMap<String, Peer> = (hosts.iter())
        .map(|host| {
            let addresses = host.addresses.to_vec();
            (host.overlay.me.clone(), Peer { addresses, ..host.peer(false) })
        })
        .collect();
    let count = usize::from(verdict == Verdict::Filtered);
    loop {
        let plans = hosts.each_mut().map(|host| host.apply(&nodes));
        let are_told =
            plans.iter().all(|plan| plan.filtered.len() == count && plan.peers.len() == count);
        if are_told && hosts.iter().all(|host| host.overlay.scout.known() == [verdict]) {
            return;
        }
        judged.recv_timeout(Duration::from_secs(20)).expect("a verdict comes");
    }
}

/// What nobody but pods sends is dropped on the way, as in clouds: pods talk in a tunnel
/// then. Where it is let through, they talk without.
#[test]
fn a_segment_that_drops_what_pods_send_is_seen() {
    if let Some(reason) = obstacle(Carrier::Userspace) {
        eprintln!("skipped: {reason}");
        return;
    }
    let (told, judged) = std::sync::mpsc::channel();
    let mut hosts = [1, 2].map(|number| Host::new(number, sealing(Carrier::Userspace)));
    for host in &mut hosts {
        let (told, sealing) = (told.clone(), host.overlay.sealing.take());
        let judged = move || told.send(()).expect("the test listens");
        let me = host.overlay.me.clone();
        host.overlay = Overlay::new(me, Mode::Auto, PORT, Vec::new(), sealing, judged);
    }
    on_one_segment(&hosts);
    come_to(&mut hosts, &judged, Verdict::Segment);
    talk(&hosts);
    // From the second's pods to the first's; the cable is plugged in anew.
    hosts[0].run("nft", &["add table netdev cloud"]);
    let chain = "{ type filter hook ingress device cable priority 0; }";
    hosts[0].run("nft", &[&format!("add chain netdev cloud in {chain}")]);
    for family in ["ip saddr 10.42.0.0/16", "ip6 saddr fd42::/56"] {
        hosts[0].run("nft", &[&format!("add rule netdev cloud in {family} drop")]);
    }
    hosts[1].ip("link set eth0 down");
    hosts[1].ip("link set eth0 up");
    hosts[1].ip(&format!("-6 addr add {}/64 dev eth0 nodad", hosts[1].addresses[1]));
    come_to(&mut hosts, &judged, Verdict::Filtered);
    talk(&hosts);
    // The next process of the first goes on with the tunnel.
    let [first, _] = &mut hosts;
    let me = first.overlay.me.clone();
    first.overlay.engine = None;
    let sealing = first.overlay.sealing.take();
    let again = move || told.send(()).expect("the test listens");
    first.overlay = Overlay::new(me, Mode::Auto, PORT, Vec::new(), sealing, again);
    come_to(&mut hosts, &judged, Verdict::Filtered);
    talk(&hosts);
    for host in &mut hosts {
        host.overlay.engine = None;
        host.netns.within(killall).expect("our namespace").expect("the kernel does it");
    }
}

fn try_story(carriers: [Carrier; 2]) {
    match carriers.into_iter().find_map(obstacle) {
        Some(reason) => eprintln!("skipped: {reason}"),
        None => story(carriers),
    }
}

#[test]
fn pods_of_two_nodes_talk_through_this_process() {
    try_story([Carrier::Userspace; 2]);
}

#[test]
fn pods_of_two_nodes_talk_through_the_kernel() {
    try_story([Carrier::Kernel; 2]);
}

/// Both speak the same: each is the other's proof.
#[test]
fn the_kernel_and_this_process_understand_each_other() {
    try_story([Carrier::Kernel, Carrier::Userspace]);
    try_story([Carrier::Userspace, Carrier::Kernel]);
}

/// The link is taken away by somebody: it is made again, and packets pass.
#[test]
fn a_link_that_was_taken_away_comes_back() {
    if let Some(reason) = obstacle(Carrier::Userspace) {
        eprintln!("skipped: {reason}");
        return;
    }
    let mut hosts = [1, 2].map(|number| Host::new(number, sealing(Carrier::Userspace)));
    connect(&hosts);
    tell(&mut hosts, false);
    talk(&hosts);
    hosts[0].ip(&format!("link del {}", wireguard::DEVICE));
    // Its thread hears of it by itself.
    let engine = |hosts: &[Host; 2]| hosts[0].overlay.engine.as_ref().is_some_and(|e| e.runs());
    let began = std::time::Instant::now();
    while engine(&hosts) {
        assert!(began.elapsed() < Duration::from_secs(20), "the thread does not notice");
        std::thread::yield_now();
    }
    tell(&mut hosts, false);
    talk(&hosts);
}

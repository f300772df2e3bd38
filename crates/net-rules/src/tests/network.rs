//! Stories with real packets, in namespaces that play a node, its pods, a router
//! and a machine outside.

use super::*;
use netlink::netns::{self, Netns};
use netlink::{host, pod_link};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const NODE: &str = "192.0.2.1";
const NODE_V6: &str = "2001:db8::1";
const OUTSIDE: &str = "203.0.113.1";
const OUTSIDE_V6: &str = "2001:db8:f::1";
const PODS: [[&str; 2]; 3] =
    [["10.42.0.5", "fd42::5"], ["10.42.0.6", "fd42::6"], ["10.42.0.7", "fd42::7"]];
const WEB: &str = "10.43.0.5:80";
const WEB_V6: &str = "[fd43::5]:80";

/// Everything goes with this value: namespaces hold links and rules.
struct World {
    node: Netns,
    /// Held for what is in it.
    _router: Netns,
    outside: Netns,
    pods: [Netns; 3],
}

fn link(netns: &Netns, host_ifname: &str, addresses: &[&str]) -> pod_link::PodLink {
    pod_link::PodLink {
        netns_path: netns.path(),
        host_ifname: host_ifname.into(),
        pod_ifname: "eth0".into(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        mtu: 1500,
        from_loopback: true,
    }
}

impl World {
    fn new() -> Option<Self> {
        if std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) != 0 {
            eprintln!("skipped: making network namespaces needs root");
            return None;
        }
        let new = || Netns::new().unwrap();
        let (node, router, outside) = (new(), new(), new());
        let pods = [new(), new(), new()];
        // The router sees the node and the machine outside as its "pods".
        router
            .within(|| {
                host::enable_forwarding(true).unwrap();
                pod_link::ensure(&link(&node, "node", &[NODE, NODE_V6])).unwrap();
                pod_link::ensure(&link(&outside, "outside", &[OUTSIDE, OUTSIDE_V6])).unwrap();
            })
            .unwrap();
        node.within(|| {
            host::ensure_loopback().unwrap();
            host::enable_forwarding(true).unwrap();
            for (n, (pod, addresses)) in pods.iter().zip(PODS).enumerate() {
                let name = pod_link::host_ifname(&n.to_string());
                pod_link::ensure(&link(pod, &name, &addresses)).unwrap();
            }
            let node_ip = host::node_addresses().unwrap();
            assert_eq!(node_ip, [NODE, NODE_V6].map(|ip| ip.parse::<IpAddr>().unwrap()));
            for (network, len) in config().service_networks {
                let source = node_ip.iter().find(|ip| ip.is_ipv4() == network.is_ipv4());
                host::ensure_service_route(network, len, source.copied()).unwrap();
            }
        })
        .unwrap();
        Some(World { node, _router: router, outside, pods })
    }

    fn proxy(&self, services: &[(&str, Service)]) -> Proxy {
        let mut proxy = self.node.within(|| Proxy::open(config()).unwrap()).unwrap();
        proxy.reconcile(table(services)).unwrap();
        proxy
    }

    /// A server in each pod, and one outside.
    fn servers(&self) -> Vec<TcpServer> {
        let pods = self.pods.iter().zip(["a", "b", "c"]);
        let mut servers: Vec<TcpServer> =
            pods.map(|(pod, name)| TcpServer::start(pod, name)).collect();
        servers.push(TcpServer::start(&self.outside, "outside"));
        servers
    }
}

fn name(name: &str) -> ServiceName {
    ServiceName { namespace: "default".into(), name: name.into() }
}

fn table(services: &[(&str, Service)]) -> BTreeMap<ServiceName, Service> {
    services.iter().map(|(n, s)| (name(n), s.clone())).collect()
}

fn set(proxy: &mut Proxy, service: Option<Service>) -> Summary {
    proxy.apply(vec![(name("web"), service)]).unwrap()
}

/// Says its name and the client's address to everybody, until dropped.
struct TcpServer {
    netns: PathBuf,
    ended: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl TcpServer {
    fn start(netns: &Netns, name: &'static str) -> Self {
        let listener = netns.within(|| {
            host::ensure_loopback().unwrap();
            TcpListener::bind("[::]:8080").unwrap()
        });
        let listener = listener.unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let flag = ended.clone();
        let thread = std::thread::spawn(move || {
            while let Ok((mut stream, peer)) = listener.accept() {
                if flag.load(Ordering::SeqCst) {
                    return;
                }
                let _ = write!(stream, "{name} {}", peer.ip().to_canonical());
            }
        });
        TcpServer { netns: netns.path(), ended, thread: Some(thread) }
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = netns::within(&self.netns, || TcpStream::connect("127.0.0.1:8080"));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn ask_here(target: &str) -> io::Result<String> {
    let target: SocketAddr = target.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(3))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn ask(from: &Netns, target: &str) -> io::Result<String> {
    from.within(|| ask_here(target)).unwrap()
}

/// Who answers, over many connections.
fn spread(from: &Netns, target: &str) -> BTreeSet<String> {
    let answers = from.within(|| (0..60).map(|_| ask_here(target).unwrap()).collect::<Vec<_>>());
    answers.unwrap().into_iter().map(|a| a.split(' ').next().unwrap().to_owned()).collect()
}

fn refused(from: &Netns, target: &str) {
    let error = ask(from, target).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{target}: {error}");
}

/// No answer, not even a refusal.
#[track_caller]
fn silent(from: &Netns, target: &str) {
    let connect =
        || TcpStream::connect_timeout(&target.parse().unwrap(), Duration::from_millis(300));
    let error = from.within(connect).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{target}: {error}");
}

#[test]
fn a_cluster_ip_is_reached_from_pods_and_from_the_node() {
    let Some(world) = World::new() else { return };
    let _servers = world.servers();
    let mut both = service(&[PODS[0][0], PODS[1][0], PODS[0][1], PODS[1][1]]);
    both.cluster_ips.push("fd43::5".parse().unwrap());
    let mut proxy = world.proxy(&[("web", both)]);
    let two = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
    for target in [WEB, "[fd43::5]:80"] {
        assert_eq!(spread(&world.pods[2], target), two, "{target}");
        assert_eq!(spread(&world.pods[0], target), two, "{target}: also to itself");
        assert_eq!(spread(&world.node, target), two, "{target}: from the node");
    }
    // The node speaks to a pod with its own address, also where it answers at one
    // of the service network.
    world
        .node
        .within(|| host::ensure_local_addresses(&["fd43::a".parse().unwrap()]))
        .unwrap()
        .unwrap();
    assert_eq!(ask(&world.node, "[fd42::5]:8080").unwrap(), format!("a {NODE_V6}"));
    // A pod sees the other pod's own address; its own it sees as the node's.
    assert_eq!(ask(&world.pods[2], "10.42.0.5:8080").unwrap(), "a 10.42.0.7");
    set(&mut proxy, Some(service(&[PODS[0][0]])));
    assert_eq!(ask(&world.pods[2], WEB).unwrap(), "a 10.42.0.7");
    assert_eq!(ask(&world.pods[0], WEB).unwrap(), format!("a {NODE}"));
    assert_eq!(ask(&world.node, WEB).unwrap(), format!("a {NODE}"));

    for from in [&world.pods[2], &world.node] {
        refused(from, "10.43.0.5:81");
        refused(from, "10.43.99.99:80");
        refused(from, "[fd43::99]:80");
    }
    set(&mut proxy, Some(service(&[])));
    refused(&world.pods[2], WEB);
    refused(&world.node, WEB);
    set(&mut proxy, Some(service(&[PODS[1][0]])));
    assert_eq!(ask(&world.pods[2], WEB).unwrap(), "b 10.42.0.7");
    set(&mut proxy, None);
    refused(&world.pods[2], WEB);
}

#[test]
fn service_networks_come_and_go() {
    let Some(world) = World::new() else { return };
    let _servers = world.servers();
    for (index, first, second, web, nobody) in [
        (0, ("10.43.0.0", 16), ("10.99.0.0", 24), "10.99.0.5", "10.99.0.6:80"),
        (1, ("fd43::", 112), ("fd99::", 112), "fd99::5", "[fd99::6]:80"),
    ] {
        let network = |(ip, bits): (&str, u8)| (ip.parse::<IpAddr>().unwrap(), bits);
        let (first, second) = (network(first), network(second));
        let mut added = service(&[PODS[0][index]]);
        added.cluster_ips = vec![web.parse().unwrap()];
        let web = SocketAddr::new(added.cluster_ips[0], 80).to_string();
        let mut proxy = world.proxy(&[("web", added.clone())]);
        // Without a route the node's own packets go to the router, which has none.
        assert!(ask(&world.node, nobody).is_err());
        let source = [NODE, NODE_V6][index].parse().unwrap();
        world
            .node
            .within(|| host::ensure_service_route(second.0, second.1, Some(source)).unwrap())
            .unwrap();
        proxy.set_networks(vec![first, second]);
        proxy.apply(Vec::new()).unwrap();
        for from in [&world.pods[1], &world.node] {
            assert!(ask(from, &web).unwrap().starts_with("a "));
            refused(from, nobody);
        }
        // Known to the proxy's next life, which changes nothing.
        let mut proxy = world.node.within(|| Proxy::open(config()).unwrap()).unwrap();
        proxy.set_networks(vec![first, second]);
        assert_eq!(proxy.reconcile(table(&[("web", added)])).unwrap(), Summary::default());
        proxy.set_networks(vec![first]);
        let gone = proxy.apply(vec![(name("web"), None)]).unwrap();
        assert_eq!((gone.added, gone.deleted), (0, 3), "an endpoint, its verdict, the range");
        world.node.within(|| host::remove_service_route(second.0, second.1).unwrap()).unwrap();
    }
}

#[test]
fn what_leaves_the_cluster_is_masqueraded_and_what_is_spoofed_is_dropped() {
    let Some(world) = World::new() else { return };
    let _servers = world.servers();
    let _proxy = world.proxy(&[]);
    for (outside, node, [own, other], false_one) in [
        (format!("{OUTSIDE}:8080"), NODE, [PODS[0][0], PODS[1][0]], "10.42.0.99"),
        (format!("[{OUTSIDE_V6}]:8080"), NODE_V6, [PODS[0][1], PODS[1][1]], "fd42::99"),
    ] {
        assert_eq!(ask(&world.pods[0], &outside).unwrap(), format!("outside {node}"));
        let [own, other, false_one]: [IpAddr; 3] =
            [own, other, false_one].map(|ip| ip.parse().unwrap());
        let to = |port| SocketAddr::new(other, port);
        assert_eq!(ask(&world.pods[0], &to(8080).to_string()).unwrap(), format!("b {own}"));

        let receiver = world.pods[1].within(|| UdpSocket::bind(to(9)).unwrap()).unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        world.pods[0]
            .within(|| {
                host::ensure_local_addresses(&[false_one]).unwrap();
                for (source, word) in [(false_one, b"false"), (own, b"truth")] {
                    UdpSocket::bind((source, 0)).unwrap().send_to(word, to(9)).unwrap();
                }
            })
            .unwrap();
        let mut word = [0; 5];
        let (_, from) = receiver.recv_from(&mut word).unwrap();
        assert_eq!((&word, from.ip()), (b"truth", own));
    }
}

#[test]
fn endpoints_change_without_a_failed_connection() {
    let Some(world) = World::new() else { return };
    let _servers = world.servers();
    let mut proxy = world.proxy(&[("web", service(&[PODS[0][0]]))]);
    let count = AtomicUsize::new(0);
    let done = AtomicBool::new(false);
    let steps: [&[usize]; 6] = [&[0, 1], &[1], &[1, 2], &[0, 1, 2], &[2], &[0]];
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            world.pods[2].within(|| {
                while !done.load(Ordering::SeqCst) && count.load(Ordering::SeqCst) < 5000 {
                    ask_here(WEB)?;
                    count.fetch_add(1, Ordering::SeqCst);
                }
                io::Result::Ok(())
            })
        });
        while count.load(Ordering::SeqCst) < 300 && !client.is_finished() {
            for step in steps {
                let ips: Vec<&str> = step.iter().map(|n| PODS[*n][0]).collect();
                set(&mut proxy, Some(service(&ips)));
            }
        }
        done.store(true, Ordering::SeqCst);
        client.join().unwrap().unwrap().unwrap();
    });
}

#[test]
fn clients_stay_with_their_endpoint_while_it_lives() {
    let Some(world) = World::new() else { return };
    let _servers = world.servers();
    for (family, web) in [WEB, WEB_V6].into_iter().enumerate() {
        let web_ip = web.parse::<SocketAddr>().unwrap().ip();
        let with = |endpoints: &[&str]| Service {
            cluster_ips: vec![web_ip],
            affinity: Some(Duration::from_secs(10800)),
            ..service(endpoints)
        };
        let all: Vec<&str> = PODS.iter().map(|p| p[family]).collect();
        let mut proxy = world.proxy(&[("web", with(&all))]);
        let first = spread(&world.node, web);
        assert_eq!(first.len(), 1, "{first:?}");
        // Another one comes and goes: nothing changes for the client. Its own goes:
        // it is sent elsewhere, and stays there.
        let mine = ["a", "b", "c"].iter().position(|n| first.contains(*n)).unwrap();
        let others: Vec<&str> = all.iter().copied().filter(|ip| *ip != all[mine]).collect();
        set(&mut proxy, Some(with(&[all[mine], others[0]])));
        assert_eq!(spread(&world.node, web), first);
        set(&mut proxy, Some(with(&others)));
        let second = spread(&world.node, web);
        assert!(second.len() == 1 && second != first, "{first:?} then {second:?}");
        // The proxy's next life remembers them too.
        drop(proxy);
        let mut proxy = world.proxy(&[("web", with(&all))]);
        assert_eq!(spread(&world.node, web), second);
        set(&mut proxy, None);
        refused(&world.node, web);
    }
}

#[test]
fn udp_clients_follow_their_service() {
    let Some(world) = World::new() else { return };
    for (web, [a, b, c]) in [(WEB, PODS.map(|pod| pod[0])), (WEB_V6, PODS.map(|pod| pod[1]))] {
        follow_over_udp(&world, web.parse().unwrap(), [a, b, c].map(|ip| ip.parse().unwrap()));
    }
}

fn follow_over_udp(world: &World, web: SocketAddr, pods: [IpAddr; 3]) {
    let udp = |endpoints: &[IpAddr]| {
        let texts: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
        let mut service = service(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        service.cluster_ips = vec![web.ip()];
        service.ports[0].protocol = Protocol::Udp;
        service
    };
    let any: IpAddr = if web.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let mut proxy = world.proxy(&[("web", udp(&[]))]);
    // Nobody there: both are told at once.
    for (from, kind) in
        [(&world.pods[2], ErrorKind::ConnectionRefused), (&world.node, ErrorKind::PermissionDenied)]
    {
        let told = from.within(|| {
            let socket = UdpSocket::bind((any, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket.connect(web).unwrap();
            socket.send(b"hello").and_then(|_| socket.recv(&mut [0; 8])).unwrap_err().kind()
        });
        assert_eq!(told.unwrap(), kind, "{web}");
    }
    set(&mut proxy, Some(udp(&[pods[0]])));
    let bind =
        |n: usize| world.pods[n].within(|| UdpSocket::bind((pods[n], 8080)).unwrap()).unwrap();
    let servers = [bind(0), bind(1)];
    let client = world.pods[2].within(|| UdpSocket::bind((pods[2], 5000)).unwrap()).unwrap();
    for socket in servers.iter().chain([&client]) {
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    }
    let arrives_at = |server: &UdpSocket| {
        client.send_to(b"hello", web).unwrap();
        let mut buffer = [0; 8];
        let (n, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"hello");
        server.send_to(b"yes", from).unwrap();
        let (n, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..n], from), (&b"yes"[..], web));
    };
    arrives_at(&servers[0]);
    arrives_at(&servers[0]);
    // The same socket and port: only forgetting the connection moves it.
    assert_eq!(set(&mut proxy, Some(udp(&[pods[1]]))).conntrack_deleted, 1);
    arrives_at(&servers[1]);
    assert_eq!(set(&mut proxy, Some(udp(&[pods[1], pods[0]]))).conntrack_deleted, 0);
    arrives_at(&servers[1]);
    drop(proxy);
    let _proxy = world.proxy(&[("web", udp(&[pods[0]]))]);
    arrives_at(&servers[0]);
}

#[test]
fn node_ports_are_reached_from_outside() {
    let Some(world) = World::new() else { return };
    let _servers = world.servers();
    for (family, node, outside, external) in
        [(0, NODE, OUTSIDE, "198.51.100.7"), (1, NODE_V6, OUTSIDE_V6, "2001:db8:99::7")]
    {
        let at = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port).to_string();
        let port = at(node, 30080);
        let mut service = service(&[PODS[0][family]]);
        service.cluster_ips = vec![["10.43.0.5", "fd43::5"][family].parse().unwrap()];
        service.ports[0].node_port = Some(30080);
        service.external_ips = vec![external.parse().unwrap()];
        let mut proxy = world.proxy(&[("web", service.clone())]);
        assert_eq!(ask(&world.outside, &port).unwrap(), format!("a {node}"));
        assert_eq!(ask(&world.node, &port).unwrap(), format!("a {node}"));
        assert_eq!(ask(&world.pods[1], &port).unwrap(), format!("a {node}"));
        assert_eq!(ask(&world.pods[1], &at(external, 80)).unwrap(), format!("a {node}"));
        // Kept on the node, the client's address stays.
        service.external_policy = TrafficPolicy::Local;
        set(&mut proxy, Some(service.clone()));
        assert_eq!(ask(&world.outside, &port).unwrap(), format!("a {outside}"));
        // The endpoint is elsewhere: silence. Nowhere: a word.
        service.ports[0].endpoints[0].local = false;
        set(&mut proxy, Some(service.clone()));
        silent(&world.outside, &port);
        service.ports[0].endpoints.clear();
        set(&mut proxy, Some(service));
        refused(&world.outside, &port);
    }
}

#[test]
fn a_balancer_lets_in_its_source_ranges() {
    let Some(world) = World::new() else { return };
    let _servers = world.servers();
    let balanced = |ranges: &[(&str, u8)]| Service {
        balancer_ips: vec![NODE.parse().unwrap(), NODE_V6.parse().unwrap()],
        source_ranges: Some(ranges.iter().map(|(ip, bits)| (ip.parse().unwrap(), *bits)).collect()),
        ..service(&[PODS[0][0], PODS[0][1]])
    };
    let (at, at_v6) = (format!("{NODE}:80"), format!("[{NODE_V6}]:80"));
    let mut proxy = world.proxy(&[("web", balanced(&[(OUTSIDE, 32)]))]);
    assert_eq!(ask(&world.outside, &at).unwrap(), format!("a {NODE}"));
    silent(&world.pods[1], &at);
    silent(&world.pods[1], &at_v6);
    silent(&world.node, &at);
    assert_eq!(ask(&world.pods[1], WEB).unwrap(), "a 10.42.0.6", "the cluster's address is free");
    // Wider, narrower and beside it, each in one transaction with what it replaces.
    set(&mut proxy, Some(balanced(&[("10.42.0.0", 16), ("10.42.0.0", 24)])));
    silent(&world.outside, &at);
    assert!(ask(&world.pods[1], &at).is_ok());
    set(&mut proxy, Some(balanced(&[(PODS[1][0], 32), ("fd42::", 64)])));
    assert!(ask(&world.pods[1], &at).is_ok());
    silent(&world.pods[2], &at);
    assert!(ask(&world.pods[2], &at_v6).is_ok());
    set(&mut proxy, Some(balanced(&[("0.0.0.0", 0)])));
    assert!(ask(&world.outside, &at).is_ok());
    // The proxy's next life finds the ranges.
    let mut next = world.node.within(|| Proxy::open(config()).unwrap()).unwrap();
    let services = [("web", balanced(&[("0.0.0.0", 0)]))];
    assert_eq!(next.reconcile(table(&services)).unwrap(), Summary::default());
    set(&mut next, Some(Service { source_ranges: None, ..balanced(&[]) }));
    assert!(ask(&world.pods[2], &at_v6).is_ok());
}

#[test]
fn the_next_life_finds_what_is_there_and_changes_the_rest() {
    let Some(world) = World::new() else { return };
    let _servers = world.servers();
    let services = [("web", service(&[PODS[0][0]]))];
    let open = || world.node.within(|| Proxy::open(config()).unwrap()).unwrap();
    let first = open().reconcile(table(&services)).unwrap();
    // An endpoint, its verdict, its hairpin, and a network of either family.
    assert!(first.replaced && first.added == 5, "{first:?}");
    assert_eq!(open().reconcile(table(&services)).unwrap(), Summary::default());
    let changed = [("web", service(&[PODS[1][0]]))];
    let second = open().reconcile(table(&changed)).unwrap();
    // The endpoint, and one more pair for hairpins, which stay.
    assert_eq!((second.replaced, second.added, second.deleted), (false, 2, 1));
    assert_eq!(ask(&world.pods[2], WEB).unwrap(), "b 10.42.0.7");
    // Another configuration is another layout.
    let other = Config { node_local: Vec::new(), ..config() };
    let mut proxy = world.node.within(|| Proxy::open(other).unwrap()).unwrap();
    assert!(proxy.reconcile(table(&changed)).unwrap().replaced);
    assert_eq!(ask(&world.pods[2], WEB).unwrap(), "b 10.42.0.7");

    world.node.within(|| killall("skiff").unwrap()).unwrap();
    world.node.within(|| killall("skiff").unwrap()).unwrap();
    assert!(ask(&world.pods[2], WEB).is_err());
    // Somebody flushed the rules: a change says so, and a reconcile mends it.
    let error = proxy.apply(vec![(name("web"), Some(service(&[PODS[0][0]])))]).unwrap_err();
    assert!(error.to_string().contains("elements of "), "{error}");
    assert!(proxy.reconcile(table(&services)).unwrap().replaced);
    assert_eq!(ask(&world.pods[2], WEB).unwrap(), "a 10.42.0.7");
}

#[test]
fn an_address_that_the_node_answers_itself_is_left_alone() {
    let Some(world) = World::new() else { return };
    // Cluster DNS has a Service, and no endpoints.
    let mut dns = service(&[]);
    dns.cluster_ips = config().node_local;
    let _proxy = world.proxy(&[("kube-dns", dns)]);
    let socket = world.node.within(|| {
        host::ensure_local_addresses(&config().node_local).unwrap();
        UdpSocket::bind("10.43.0.10:53").unwrap()
    });
    let socket = socket.unwrap();
    for (from, source) in [(&world.pods[0], PODS[0][0]), (&world.node, NODE)] {
        let client = from.within(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.connect("10.43.0.10:53").unwrap();
        client.send(b"who").unwrap();
        let mut buffer = [0; 3];
        let (_, peer) = socket.recv_from(&mut buffer).unwrap();
        // The node may speak from the very address that it speaks to.
        assert!(peer.ip().to_string() == source || source == NODE, "{peer}");
        socket.send_to(b"you", peer).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 3);
    }
}

#[test]
fn who_asks_what_the_node_answers_itself_is_not_told_that_nobody_is_there() {
    let Some(world) = World::new() else { return };
    let node_local: Vec<IpAddr> = ["10.43.0.10", "fd43::a"].map(|ip| ip.parse().unwrap()).into();
    let config = Config { node_local: node_local.clone(), ..config() };
    let mut proxy = world.node.within(|| Proxy::open(config).unwrap()).unwrap();
    proxy.reconcile(table(&[])).unwrap();
    world.node.within(|| host::ensure_local_addresses(&node_local).unwrap()).unwrap();
    for (own, node, any) in [("10.43.0.10", NODE, "0.0.0.0"), ("fd43::a", NODE_V6, "::")] {
        let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 53);
        for from in [&world.pods[0], &world.node] {
            let asks = |ip: &str| {
                let client = from.within(|| UdpSocket::bind((any, 0)).unwrap()).unwrap();
                client.connect(at(ip)).unwrap();
                client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                client.send(b"hello?").unwrap();
                client
            };
            // The word of the kernel is there before the next packet is sent.
            assert_eq!(
                asks(node).send(b"hello?").unwrap_err().kind(),
                ErrorKind::ConnectionRefused
            );
            let client = asks(own);
            let server = world.node.within(|| UdpSocket::bind(at(own)).unwrap()).unwrap();
            client.send(b"again").unwrap();
            let mut buffer = [0; 16];
            let (n, peer) = server.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], b"again");
            server.send_to(b"yes", peer).unwrap();
            let n = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], b"yes");
        }
    }
}

#[test]
fn the_node_itself_can_be_an_endpoint() {
    let Some(world) = World::new() else { return };
    let _server = TcpServer::start(&world.node, "node");
    // As the API server is, behind the Service `kubernetes`.
    let _proxy = world.proxy(&[("kubernetes", service(&[NODE]))]);
    assert_eq!(ask(&world.node, WEB).unwrap(), format!("node {NODE}"));
    assert_eq!(ask(&world.pods[0], WEB).unwrap(), "node 10.42.0.5");
}

#[test]
fn somebody_elses_drop_is_named() {
    let Some(world) = World::new() else { return };
    let proxy = world.proxy(&[]);
    assert_eq!(proxy.foreign_drops().unwrap(), Vec::<String>::new());
    let other = netlink::nft::Table { family: netlink::nft::Family::Inet, name: "firewall".into() };
    let chain = netlink::nft::Chain::Base {
        kind: "filter",
        hook: netlink::nft::Hook::Forward,
        priority: 0,
    };
    let mut batch = netlink::nft::Batch::new();
    batch.add_table(&other);
    batch.add_chain(&other, "accepts", &chain);
    batch.add_dropping_chain(&other, "drops", &chain);
    world
        .node
        .within(|| netlink::nft::Nftables::open().unwrap().commit(&batch, None).unwrap())
        .unwrap();
    assert_eq!(proxy.foreign_drops().unwrap(), ["inet firewall drops"]);
}

/// Step by step and all at once lead to the same rules, whatever the steps.
#[test]
fn many_small_changes_add_up() {
    let Some(world) = World::new() else { return };
    let mut seed = 7_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut services = BTreeMap::new();
    let mut proxy = world.proxy(&[]);
    for _ in 0..120 {
        let changes: Vec<(ServiceName, Option<Service>)> = (0..random(3) + 1)
            .map(|_| {
                let service = name(&format!("s{}", random(5)));
                if random(5) == 0 {
                    return (service, None);
                }
                let ips: Vec<&str> =
                    PODS.iter().flatten().copied().filter(|_| random(2) == 0).collect();
                let mut changed = super::service(&ips);
                // Few addresses, so that Services fight for them.
                changed.cluster_ips = vec![IpAddr::from([10, 43, 0, 20 + random(4) as u8])];
                if random(2) == 0 {
                    changed.cluster_ips.push("fd43::5".parse().unwrap());
                }
                changed.ports[0].node_port = (random(3) == 0).then_some(30080);
                changed.ports[0].endpoints.iter_mut().for_each(|e| e.ready = random(4) > 0);
                if random(3) == 0 {
                    changed.balancer_ips = vec![NODE.parse().unwrap()];
                    let bits = |_| random(25) as u8 + 8;
                    let lens: Vec<u8> = (0..2).map(bits).collect();
                    let ranges = lens.into_iter().map(|bits| (PODS[0][0].parse().unwrap(), bits));
                    changed.source_ranges = (random(4) > 0).then(|| ranges.collect());
                }
                changed.affinity = (random(3) == 0).then_some(Duration::from_secs(10));
                if random(3) == 0 {
                    changed.internal_policy = TrafficPolicy::Local;
                    changed.ports[0].endpoints.iter_mut().for_each(|e| e.local = random(2) == 0);
                }
                (service, Some(changed))
            })
            .collect();
        for (name, change) in &changes {
            match change {
                Some(service) => services.insert(name.clone(), service.clone()),
                None => services.remove(name),
            };
        }
        proxy.apply(changes).unwrap();
        let mut next = world.node.within(|| Proxy::open(config()).unwrap()).unwrap();
        assert_eq!(next.reconcile(services.clone()).unwrap(), Summary::default());
    }
}

#[test]
fn two_services_that_claim_one_address_do_not_harm_each_other() {
    let Some(world) = World::new() else { return };
    let _servers = world.servers();
    let mut proxy = world.proxy(&[("web", service(&[PODS[1][0]]))]);
    proxy.apply(vec![(name("again"), Some(service(&[PODS[0][0]])))]).unwrap();
    assert!(ask(&world.pods[2], WEB).is_ok());
    proxy.apply(vec![(name("again"), None)]).unwrap();
    assert_eq!(ask(&world.pods[2], WEB).unwrap(), "b 10.42.0.7");
}

/// Not a promise but a figure: `cargo test -p net-rules load -- --nocapture`.
#[test]
fn load_of_many_services() {
    let Some(world) = World::new() else { return };
    for count in [1000_u32, 10_000] {
        world.node.within(|| killall("skiff").unwrap()).unwrap();
        let services: BTreeMap<ServiceName, Service> = (0..count)
            .map(|n| {
                let ip = |base: u32| IpAddr::from((base + n).to_be_bytes());
                let mut service = service(&[PODS[0][0], PODS[1][0], PODS[2][0]]);
                service.cluster_ips = vec![ip(0x0a2b_0100)];
                (name(&format!("s{n}")), service)
            })
            .collect();
        let mut proxy = world.node.within(|| Proxy::open(config()).unwrap()).unwrap();
        let start = std::time::Instant::now();
        let summary = proxy.reconcile(services.clone()).unwrap();
        let load = start.elapsed();
        let mut again = world.node.within(|| Proxy::open(config()).unwrap()).unwrap();
        let start = std::time::Instant::now();
        assert_eq!(again.reconcile(services).unwrap(), Summary::default());
        let adopt = start.elapsed();
        let start = std::time::Instant::now();
        let changes: Vec<_> =
            (0..100).map(|n| (name(&format!("s{n}")), Some(service(&[])))).collect();
        for change in changes {
            again.apply(vec![change]).unwrap();
        }
        let one = start.elapsed() / 100;
        println!(
            "{count} services: {} elements in {load:?}, adopted in {adopt:?}, a change {one:?}",
            summary.added
        );
    }
}

/// A port of the node that leads to one pod: on all addresses, with the client's
/// own, and on the loopback address, with the node's.
#[test]
fn a_port_of_the_node_leads_to_its_pod() {
    let Some(world) = World::new() else { return };
    let _servers = world.servers();
    let mut on_all = service(&[PODS[0][0]]);
    on_all.cluster_ips.clear();
    on_all.ports[0].node_port = Some(9000);
    on_all.external_policy = TrafficPolicy::Local;
    let mut on_loopback = service(&[PODS[0][0]]);
    on_loopback.cluster_ips.clear();
    on_loopback.external_ips = vec!["127.0.0.1".parse().unwrap()];
    on_loopback.ports[0].port = 9000;
    let mut one_address = service(&[PODS[1][0]]);
    one_address.cluster_ips.clear();
    one_address.external_ips = vec![NODE.parse().unwrap()];
    one_address.ports[0].port = 9001;
    one_address.external_policy = TrafficPolicy::Local;
    let mut proxy =
        world.proxy(&[("all", on_all), ("loopback", on_loopback), ("one", one_address)]);
    assert_eq!(ask(&world.outside, "192.0.2.1:9000").unwrap(), format!("a {OUTSIDE}"));
    assert_eq!(ask(&world.pods[1], "192.0.2.1:9000").unwrap(), "a 10.42.0.6");
    assert_eq!(ask(&world.pods[0], "192.0.2.1:9000").unwrap(), format!("a {NODE}"), "hairpin");
    assert_eq!(ask(&world.node, "192.0.2.1:9000").unwrap(), format!("a {NODE}"));
    assert_eq!(ask(&world.node, "127.0.0.1:9000").unwrap(), format!("a {NODE}"));
    assert_eq!(ask(&world.outside, "192.0.2.1:9001").unwrap(), format!("b {OUTSIDE}"));
    refused(&world.node, "127.0.0.1:9001");

    // A pod that sends to the node's loopback address is not heard there.
    let socket = world.node.within(|| UdpSocket::bind("127.0.0.1:7000").unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let ip = |line: &str| {
        let done = std::process::Command::new("ip").args(line.split(' ')).output();
        assert!(done.is_ok_and(|done| done.status.success()), "ip {line}");
    };
    let sent = world.pods[0].within(|| {
        // Away with what keeps such packets at home.
        ip("route del local 127.0.0.0/8 dev lo table local");
        ip("route del local 127.0.0.1 dev lo table local");
        ip("route add 127.0.0.0/8 via 169.254.1.1 dev eth0 onlink src 10.42.0.5");
        std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
        let sent = UdpSocket::bind("10.42.0.5:0").unwrap().send_to(b"x", "127.0.0.1:7000");
        ip("route del 127.0.0.0/8 dev eth0");
        ip("route add local 127.0.0.0/8 dev lo table local");
        sent
    });
    assert_eq!(sent.unwrap().unwrap(), 1);
    let heard = socket.recv_from(&mut [0; 8]);
    assert!(heard.is_err(), "{heard:?}: a pod reached the node's loopback address");

    proxy.apply(vec![(name("all"), None), (name("loopback"), None)]).unwrap();
    refused(&world.node, "127.0.0.1:9000");
    refused(&world.outside, "192.0.2.1:9000");
}

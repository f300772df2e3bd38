use super::*;
use crate::host;
use crate::netns::{self, Netns};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

const POD: [&str; 2] = ["10.42.0.5", "fd42::5"];
const OTHER: [&str; 2] = ["10.42.0.6", "fd42::6"];

fn describe(netns: &Path, uid: &str, addresses: &[&str]) -> PodLink {
    PodLink {
        netns_path: netns.to_owned(),
        host_ifname: host_ifname(uid),
        pod_ifname: "eth0".into(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        mtu: 1450,
        from_loopback: false,
    }
}

/// Runs a story in a namespace that plays the host, with two that play pods.
fn with_host_and_pods(story: impl FnOnce(&Path, &Path) + Send) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: making network namespaces needs root");
        return;
    }
    let (host, a, b) = (Netns::new().unwrap(), Netns::new().unwrap(), Netns::new().unwrap());
    host.within(|| {
        host::ensure_loopback().unwrap();
        host::enable_forwarding(true).unwrap();
        story(&a.path(), &b.path());
    })
    .unwrap();
}

fn listen(netns: &Path, address: &str) -> TcpListener {
    netns::within(netns, || TcpListener::bind((address, 80)).unwrap()).unwrap()
}

/// Connects from the thread's namespace and gets one word across.
fn talk(listener: &TcpListener, connect: impl FnOnce() -> TcpStream) -> IpAddr {
    let mut client = connect();
    let (mut server, from) = listener.accept().unwrap();
    client.write_all(b"hello").unwrap();
    let mut word = [0; 5];
    server.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"hello");
    from.ip()
}

#[test]
fn names_are_stable_and_fit() {
    assert_eq!(host_ifname("0d3f"), host_ifname("0d3f"));
    assert_ne!(host_ifname("a"), host_ifname("b"));
    assert_eq!(host_ifname("").len(), 14);
}

#[test]
fn pods_reach_each_other_and_the_host_reaches_them() {
    with_host_and_pods(|a, b| {
        ensure(&describe(a, "a", &POD)).unwrap();
        ensure(&describe(b, "b", &OTHER)).unwrap();
        for (pod, other) in POD.iter().zip(OTHER) {
            let listener = listen(b, other);
            let from = talk(&listener, || {
                netns::within(a, || TcpStream::connect((other, 80)).unwrap()).unwrap()
            });
            assert_eq!(from, pod.parse::<IpAddr>().unwrap());
        }
        // The host needs an address of its own to speak from.
        host::ensure_local_addresses(&["10.43.0.10".parse().unwrap()]).unwrap();
        let node = Socket::route().unwrap();
        let lo = node.link("lo").unwrap().unwrap();
        node.add_address(&lo, "192.0.2.1".parse().unwrap(), 32, Scope::Universe).unwrap();
        let from = talk(&listen(a, POD[0]), || TcpStream::connect((POD[0], 80)).unwrap());
        assert_eq!(from, "192.0.2.1".parse::<IpAddr>().unwrap());
        // A service address on lo is reached from pods, and is never a source.
        let dns = TcpListener::bind(("10.43.0.10", 53)).unwrap();
        talk(&dns, || {
            netns::within(a, || TcpStream::connect(("10.43.0.10", 53)).unwrap()).unwrap()
        });
    });
}

#[test]
fn ensure_mends_what_a_crash_left_and_remove_is_final() {
    with_host_and_pods(|a, b| {
        let link = describe(a, "a", &POD);
        ensure(&link).unwrap();
        let before = list().unwrap();
        ensure(&link).unwrap();
        assert_eq!(list().unwrap(), before);
        assert_eq!(before.len(), 1);
        assert_eq!((before[0].addresses.len(), before[0].mtu), (2, 1450));

        // Half done: the routes and the state of the links are missing.
        let host = Socket::route().unwrap();
        let side = host.link(&link.host_ifname).unwrap().unwrap();
        for &ip in &link.addresses {
            host.delete_route(&pod_route(&side, ip), ip).unwrap();
        }
        assert!(list().unwrap()[0].addresses.is_empty());
        ensure(&link).unwrap();
        assert_eq!(list().unwrap(), before);

        // The pod has a new namespace: the old pair is replaced.
        ensure(&PodLink { netns_path: b.to_owned(), ..link.clone() }).unwrap();
        assert_eq!(list().unwrap(), before);
        assert!(Socket::route_in(a).unwrap().link("eth0").unwrap().is_none());

        remove(&link.host_ifname).unwrap();
        remove(&link.host_ifname).unwrap();
        assert!(list().unwrap().is_empty());
        ensure(&link).unwrap();
        assert_eq!(remove_all().unwrap(), 1);
    });
}

#[test]
fn no_pod_is_its_nodes_router() {
    with_host_and_pods(|a, b| {
        for (netns, uid, addresses) in [(a, "a", &POD[..]), (b, "b", &POD[..1])] {
            let link = describe(netns, uid, addresses);
            ensure(&link).unwrap();
            let path = format!("/proc/sys/net/ipv6/conf/{}/accept_ra", link.host_ifname);
            assert_eq!(std::fs::read_to_string(path).unwrap().trim(), "0", "{addresses:?}");
        }
    });
}

#[test]
fn what_cannot_be_is_refused_with_a_word() {
    with_host_and_pods(|a, _| {
        let bad = PodLink { host_ifname: "much-too-long-name".into(), ..describe(a, "a", &POD) };
        assert!(ensure(&bad).unwrap_err().to_string().contains("1 to 15 bytes"));
        let bad = describe(Path::new("/nonexistent"), "a", &POD);
        assert!(ensure(&bad).unwrap_err().to_string().contains("/nonexistent"));
    });
}

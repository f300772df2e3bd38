use super::*;
use crate::netns::Netns;
use crate::pod_link::{self, PodLink};
use std::time::Duration;

const PORT: u16 = 8475;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The next one, which is under way.
fn next(packets: &Packets) -> (Place, Datagram) {
    for _ in 0..1000 {
        if let Some(heard) = packets.receive().unwrap() {
            return heard;
        }
        let [v4, v6] = packets.fds();
        let flags = rustix::event::PollFlags::IN;
        let mut fds = [v4, v6].map(|fd| rustix::event::PollFd::from_borrowed_fd(fd, flags));
        let second = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&second)).unwrap();
    }
    panic!("nothing comes");
}

#[test]
fn what_is_written_can_be_read() {
    for (from, to) in [("192.0.2.1", "10.42.1.0"), ("2001:db8::1", "fd42:0:0:1::")] {
        let body = b"an odd number".to_vec();
        let datagram = Datagram { from: ip(from), to: ip(to), body };
        let mut packet = match (datagram.from, datagram.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => packet_v4(PORT, from, to, &datagram.body),
            (IpAddr::V6(from), IpAddr::V6(to)) => packet_v6(PORT, from, to, &datagram.body),
            _ => unreachable!(),
        };
        // Short frames are filled up.
        packet.extend([0; 9]);
        assert_eq!(read(&packet), Some(datagram));
        for length in 0..packet.len() - 9 {
            assert_eq!(read(&packet[..length]), None, "{length}");
        }
    }
    // Of RFC 1071, the example of its third section.
    assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03], &[0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
}

/// A cable between two networks, of which one end routes and neither has the addresses
/// that are spoken of.
#[test]
fn addresses_that_nobody_has_are_heard_on_the_segment() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: making network namespaces needs root");
        return;
    }
    let [a, b] = [Netns::new().unwrap(), Netns::new().unwrap()];
    let cable = PodLink {
        netns_path: b.path(),
        host_ifname: "cable".into(),
        pod_ifname: "eth0".into(),
        addresses: vec![ip("192.0.2.2"), ip("2001:db8::2")],
        mtu: 1500,
        from_loopback: false,
    };
    a.within(|| {
        crate::host::ensure_loopback().unwrap();
        crate::host::ensure_local_addresses(&[ip("192.0.2.1"), ip("2001:db8::1")]).unwrap();
        pod_link::ensure(&cable).unwrap();
    })
    .unwrap();
    let near = a.within(|| Packets::open(PORT).unwrap()).unwrap();
    let far = b.within(|| Packets::open(PORT).unwrap()).unwrap();
    let say = |text: &str, from, to| Datagram { from: ip(from), to: ip(to), body: text.into() };
    for (ours, theirs, our_pods, their_pods) in [
        ("192.0.2.1", "192.0.2.2", "10.42.1.0", "10.42.2.0"),
        ("2001:db8::1", "2001:db8::2", "fd42:0:0:1::", "fd42:0:0:2::"),
    ] {
        let greeting = say("who", ours, theirs);
        a.within(|| near.greet(&greeting)).unwrap().unwrap();
        let (place, heard) = next(&far);
        assert_eq!(heard, greeting);
        assert_eq!(place.card, [0xee; 6]);
        far.send(&place, &say("me", theirs, ours)).unwrap();
        let (place, heard) = next(&near);
        assert_eq!(heard, say("me", theirs, ours));
        // With addresses of pods, which no route leads to.
        near.send(&place, &say("and you", our_pods, their_pods)).unwrap();
        let (place, heard) = next(&far);
        assert_eq!(heard, say("and you", our_pods, their_pods));
        far.send(&place, &say("me too", their_pods, our_pods)).unwrap();
        assert_eq!(next(&near).1, say("me too", their_pods, our_pods));
    }
    // What has passed a router, or is for another port, is nothing to us.
    let other = a.within(|| std::net::UdpSocket::bind((ip("192.0.2.1"), 0))).unwrap().unwrap();
    other.send_to(b"from afar", (ip("192.0.2.2"), PORT)).unwrap();
    other.set_ttl(255).unwrap();
    other.send_to(b"another port", (ip("192.0.2.2"), PORT + 1)).unwrap();
    other.send_to(b"near", (ip("192.0.2.2"), PORT)).unwrap();
    assert_eq!(next(&far).1.body, b"near");
    assert_eq!(far.receive().unwrap(), None);
    // And nobody is told that there is nobody: the port is held.
    other.connect((ip("192.0.2.2"), PORT)).unwrap();
    other.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    other.send(b"quiet").unwrap();
    let error = other.recv(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
    // A second one beside it, as where a process runs its program anew.
    a.within(|| Packets::open(PORT).unwrap()).unwrap();
}

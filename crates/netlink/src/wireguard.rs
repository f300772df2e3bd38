//! The kernel's WireGuard (`linux/wireguard.h`): a link that seals what it
//! sends, told its key and whom it reaches by generic netlink.

use crate::Error;
use crate::generic;
use crate::overlay::Network;
use crate::route::{ip_from, octets};
use crate::wire::{Attrs, Message, NLM_F_ACK, NLM_F_DUMP, Socket};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The link's name, whoever carries its packets.
pub const DEVICE: &str = "skiff-wg";

const FAMILY: &str = "wireguard";
const WG_CMD_GET_DEVICE: u8 = 0;
const WG_CMD_SET_DEVICE: u8 = 1;
const WGDEVICE_A_IFNAME: u16 = 2;
const WGDEVICE_A_PRIVATE_KEY: u16 = 3;
const WGDEVICE_A_LISTEN_PORT: u16 = 6;
const WGDEVICE_A_PEERS: u16 = 8;
const WGPEER_A_PUBLIC_KEY: u16 = 1;
const WGPEER_A_FLAGS: u16 = 3;
const WGPEER_A_ENDPOINT: u16 = 4;
const WGPEER_A_ALLOWEDIPS: u16 = 9;
const WGPEER_F_REMOVE_ME: u32 = 1;
const WGPEER_F_REPLACE_ALLOWEDIPS: u32 = 2;
const WGALLOWEDIP_A_FAMILY: u16 = 1;
const WGALLOWEDIP_A_IPADDR: u16 = 2;
const WGALLOWEDIP_A_CIDR_MASK: u16 = 3;
const AF_INET: u16 = libc::AF_INET as u16;
const AF_INET6: u16 = libc::AF_INET6 as u16;

/// An attribute's length has 16 bits: so many peers, with some networks each,
/// fit into one list.
const PEERS_IN_A_MESSAGE: usize = 64;

/// By which a node is known to the others.
pub type PublicKey = [u8; 32];

/// What only the node itself knows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Another end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where it hears us.
    pub endpoint: SocketAddr,
    /// What it may send from, and what is sent to it.
    pub allowed: Vec<Network>,
}

/// All that the device should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Who we are.
    pub secret: Secret,
    /// Where we hear the others.
    pub port: u16,
    /// Whom it reaches.
    pub peers: BTreeMap<PublicKey, Peer>,
}

/// What the kernel has.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    secret: Option<[u8; 32]>,
    port: u16,
    peers: BTreeMap<PublicKey, FoundPeer>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct FoundPeer {
    endpoint: Option<SocketAddr>,
    allowed: Vec<Network>,
}

/// What is said of one peer.
#[derive(Debug, PartialEq, Eq)]
enum Change<'a> {
    Forget(PublicKey),
    Know { key: PublicKey, endpoint: Option<SocketAddr>, allowed: Option<&'a [Network]> },
}

/// Whether the kernel has it; loads its module, where there is one.
///
/// # Errors
/// What the kernel refused.
pub fn is_supported() -> Result<bool, Error> {
    Ok(Socket::generic()?.family(FAMILY)?.is_some())
}

/// Makes the kernel's device, down and empty, unless it is there.
///
/// # Errors
/// What the kernel refused.
pub fn ensure_link() -> Result<(), Error> {
    let socket = Socket::route()?;
    match socket.kind(DEVICE)? {
        Some(kind) if kind == FAMILY => return Ok(()),
        Some(_) => socket.delete_link(DEVICE)?,
        None => {}
    }
    socket.add_link(DEVICE, FAMILY)
}

/// Takes a device of the kernel away, so that [`crate::tun`] can have its name.
///
/// # Errors
/// What the kernel refused.
pub fn make_way_for_tun() -> Result<(), Error> {
    let socket = Socket::route()?;
    match socket.kind(DEVICE)? {
        Some(kind) if kind != "tun" => socket.delete_link(DEVICE),
        _ => Ok(()),
    }
}

/// Tells the kernel's device what differs from what it knows, so that what
/// passes between peers that did not change goes on. `told` are endpoints as
/// told before: one that is told again is not, as the peer may have been heard
/// from elsewhere since.
///
/// # Errors
/// What the kernel refused; the next call goes on from there.
pub fn configure(device: &Device, told: &BTreeMap<PublicKey, SocketAddr>) -> Result<(), Error> {
    let socket = Socket::generic()?;
    let Some(family) = socket.family(FAMILY)? else {
        return Err(Error::Invalid("this kernel has no WireGuard".into()));
    };
    let found = get(&socket, family)?;
    if found.secret != Some(device.secret.0) || found.port != device.port {
        let mut message = set(family);
        message.attr(WGDEVICE_A_PRIVATE_KEY, &device.secret.0);
        message.attr(WGDEVICE_A_LISTEN_PORT, &device.port.to_ne_bytes());
        let port = device.port;
        socket.request(message, || format!("give {DEVICE} its key and the UDP port {port}"))?;
    }
    for some in changes(&found, device, told).chunks(PEERS_IN_A_MESSAGE) {
        let mut message = set(family);
        message.nest(WGDEVICE_A_PEERS, |m| some.iter().for_each(|change| say(m, change)));
        socket.request(message, || format!("tell {DEVICE} its peers"))?;
    }
    Ok(())
}

fn set(family: u16) -> Message {
    let mut message = Message::new(family, NLM_F_ACK, &generic::header(WG_CMD_SET_DEVICE));
    message.text(WGDEVICE_A_IFNAME, DEVICE);
    message
}

fn changes<'a>(
    found: &Found,
    wanted: &'a Device,
    told: &BTreeMap<PublicKey, SocketAddr>,
) -> Vec<Change<'a>> {
    // Those that go come first: a network has one peer.
    let gone = found.peers.keys().filter(|key| !wanted.peers.contains_key(*key));
    let mut all: Vec<_> = gone.map(|key| Change::Forget(*key)).collect();
    for (key, peer) in &wanted.peers {
        let known = found.peers.get(key);
        let has_moved = told.get(key) != Some(&peer.endpoint);
        let is_there = known.and_then(|known| known.endpoint) == Some(peer.endpoint);
        let endpoint = (known.is_none() || has_moved && !is_there).then_some(peer.endpoint);
        let same = |known: &FoundPeer| {
            let (mut a, mut b) = (known.allowed.clone(), peer.allowed.clone());
            a.sort_unstable();
            b.sort_unstable();
            a == b
        };
        let allowed = (!known.is_some_and(same)).then_some(&peer.allowed[..]);
        if endpoint.is_some() || allowed.is_some() {
            all.push(Change::Know { key: *key, endpoint, allowed });
        }
    }
    all
}

/// One element of the list of peers; lists have no kinds.
fn say(message: &mut Message, change: &Change<'_>) {
    message.nest(0, |m| match change {
        Change::Forget(key) => {
            m.attr(WGPEER_A_PUBLIC_KEY, key).u32(WGPEER_A_FLAGS, WGPEER_F_REMOVE_ME);
        }
        Change::Know { key, endpoint, allowed } => {
            m.attr(WGPEER_A_PUBLIC_KEY, key);
            if allowed.is_some() {
                m.u32(WGPEER_A_FLAGS, WGPEER_F_REPLACE_ALLOWEDIPS);
            }
            if let Some(endpoint) = endpoint {
                m.attr(WGPEER_A_ENDPOINT, &sockaddr(*endpoint));
            }
            if let Some(allowed) = allowed {
                m.nest(WGPEER_A_ALLOWEDIPS, |m| {
                    for (ip, prefix) in allowed.iter() {
                        let family = if ip.is_ipv4() { AF_INET } else { AF_INET6 };
                        m.nest(0, |m| {
                            m.attr(WGALLOWEDIP_A_FAMILY, &family.to_ne_bytes());
                            m.attr(WGALLOWEDIP_A_IPADDR, &octets(*ip));
                            m.attr(WGALLOWEDIP_A_CIDR_MASK, &[*prefix]);
                        });
                    }
                });
            }
        }
    });
}

/// `sockaddr_in` and `sockaddr_in6`.
fn sockaddr(endpoint: SocketAddr) -> Vec<u8> {
    let family = if endpoint.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut bytes = family.to_ne_bytes().to_vec();
    bytes.extend(endpoint.port().to_be_bytes());
    match endpoint {
        SocketAddr::V4(v4) => {
            bytes.extend(v4.ip().octets());
            bytes.extend([0; 8]);
        }
        SocketAddr::V6(v6) => {
            bytes.extend(v6.flowinfo().to_be_bytes());
            bytes.extend(v6.ip().octets());
            bytes.extend(v6.scope_id().to_ne_bytes());
        }
    }
    bytes
}

fn parse_sockaddr(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    let ip = match family {
        AF_INET => ip_from(bytes.get(4..8)?)?,
        AF_INET6 => ip_from(bytes.get(8..24)?)?,
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn get(socket: &Socket, family: u16) -> Result<Found, Error> {
    let mut message =
        Message::new(family, NLM_F_DUMP | NLM_F_ACK, &generic::header(WG_CMD_GET_DEVICE));
    message.text(WGDEVICE_A_IFNAME, DEVICE);
    let answers = match socket.query(message, || format!("look at {DEVICE}")) {
        Err(e) if e.errno() == Some(Errno::NODEV) => return Ok(Found::default()),
        answers => answers?,
    };
    let mut found = Found::default();
    for answer in &answers {
        parse(generic::attrs(answer), &mut found);
    }
    Ok(found)
}

/// A piece of the answer: a peer with many networks goes on in the next one.
fn parse(attrs: Attrs<'_>, found: &mut Found) {
    let key = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).ok();
    if let Some(secret) = attrs.find(WGDEVICE_A_PRIVATE_KEY).and_then(key) {
        found.secret = Some(secret);
    }
    if let Some(port) = attrs.find(WGDEVICE_A_LISTEN_PORT).and_then(|b| b.try_into().ok()) {
        found.port = u16::from_ne_bytes(port);
    }
    for (_, peer) in attrs.nested(WGDEVICE_A_PEERS) {
        let peer = Attrs(peer);
        let Some(key) = peer.find(WGPEER_A_PUBLIC_KEY).and_then(key) else { continue };
        let known = found.peers.entry(key).or_default();
        if let Some(endpoint) = peer.find(WGPEER_A_ENDPOINT).and_then(parse_sockaddr) {
            known.endpoint = Some(endpoint);
        }
        known.allowed.extend(peer.nested(WGPEER_A_ALLOWEDIPS).filter_map(|(_, allowed)| {
            let allowed = Attrs(allowed);
            let ip: IpAddr = ip_from(allowed.find(WGALLOWEDIP_A_IPADDR)?)?;
            Some((ip, *allowed.find(WGALLOWEDIP_A_CIDR_MASK)?.first()?))
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn network(text: &str) -> Network {
        let (ip, prefix) = text.split_once('/').unwrap();
        (ip.parse().unwrap(), prefix.parse().unwrap())
    }

    fn device(peers: &[(u8, &str, &[&str])]) -> Device {
        let peer = |(key, endpoint, allowed): &(u8, &str, &[&str])| {
            let allowed = allowed.iter().map(|text| network(text)).collect();
            ([*key; 32], Peer { endpoint: endpoint.parse().unwrap(), allowed })
        };
        let peers = peers.iter().map(peer).collect();
        Device { secret: Secret([9; 32]), port: 51820, peers }
    }

    /// As the kernel would answer after it was told.
    fn told(device: &Device) -> Found {
        let mut found =
            Found { secret: Some(device.secret.0), port: device.port, ..Found::default() };
        for (key, peer) in &device.peers {
            let known = FoundPeer { endpoint: Some(peer.endpoint), allowed: peer.allowed.clone() };
            found.peers.insert(*key, known);
        }
        found
    }

    fn endpoints(device: &Device) -> BTreeMap<PublicKey, SocketAddr> {
        device.peers.iter().map(|(key, peer)| (*key, peer.endpoint)).collect()
    }

    /// What is said is what is heard: the kernel's answers have the form of requests.
    #[test]
    fn peers_are_read_as_they_are_written() {
        let device = device(&[
            (1, "192.0.2.2:51820", &["10.42.1.0/24", "fd42:0:0:1::/64"]),
            (2, "[2001:db8::2]:4000", &["10.42.2.0/24"]),
            (3, "192.0.2.4:1", &[]),
        ]);
        let mut message = set(30);
        message.attr(WGDEVICE_A_PRIVATE_KEY, &device.secret.0);
        message.attr(WGDEVICE_A_LISTEN_PORT, &device.port.to_ne_bytes());
        let nothing = Found::default();
        let all = changes(&nothing, &device, &BTreeMap::new());
        message.nest(WGDEVICE_A_PEERS, |m| all.iter().for_each(|change| say(m, change)));
        let mut found = Found::default();
        parse(Attrs(&message.bytes()[16 + 4..]), &mut found);
        assert_eq!(found, told(&device));
    }

    /// struct wgpeer as `wg` of wireguard-tools sends it, byte by byte.
    #[test]
    fn a_peer_has_the_kernels_form() {
        let mut message = Message::new(0, 0, &[]);
        let allowed = [network("10.42.1.0/24")];
        let endpoint = Some("192.0.2.2:51820".parse().unwrap());
        say(&mut message, &Change::Know { key: [7; 32], endpoint, allowed: Some(&allowed) });
        let word = |n: u16| n.to_ne_bytes();
        let nested = |n: u16| (0x8000 | n).to_ne_bytes();
        let mut expected = Vec::new();
        // Its own length is put in at the end.
        expected.extend([word(0), nested(0), word(36), word(1)].concat());
        expected.extend([7; 32]);
        expected.extend([word(8), word(3)].concat());
        expected.extend(2_u32.to_ne_bytes());
        expected.extend([word(20), word(4), word(AF_INET)].concat());
        expected.extend([0xca, 0x6c, 192, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
        // A network: attributes of 6, 8 and 5 bytes, each padded to words.
        expected.extend([word(32), nested(9), word(28), nested(0)].concat());
        expected.extend([word(6), word(1), word(AF_INET), [0, 0], word(8), word(2)].concat());
        expected.extend([10, 42, 1, 0]);
        expected.extend([word(5), word(3)].concat());
        expected.extend([24, 0, 0, 0]);
        let total = expected.len() as u16;
        expected[..2].copy_from_slice(&word(total));
        assert_eq!(&message.bytes()[16..], &expected[..]);
    }

    #[test]
    fn only_what_differs_is_said() {
        let first = device(&[
            (1, "192.0.2.2:51820", &["10.42.1.0/24"]),
            (2, "192.0.2.3:51820", &["10.42.2.0/24"]),
        ]);
        let known = told(&first);
        assert_eq!(changes(&known, &first, &endpoints(&first)), []);
        // After a restart of ours nothing has been told, but all is as it should be.
        assert_eq!(changes(&known, &first, &BTreeMap::new()), []);

        // A peer that was heard from elsewhere is answered there, until it says
        // itself that it has moved.
        let mut roamed = told(&first);
        roamed.peers.get_mut(&[1; 32]).unwrap().endpoint = "203.0.113.9:7".parse().ok();
        assert_eq!(changes(&roamed, &first, &endpoints(&first)), []);
        let moved = device(&[
            (1, "192.0.2.9:51820", &["10.42.1.0/24"]),
            (2, "192.0.2.3:51820", &["10.42.2.0/24"]),
        ]);
        let endpoint = "192.0.2.9:51820".parse().ok();
        let expected = Change::Know { key: [1; 32], endpoint, allowed: None };
        assert_eq!(changes(&roamed, &moved, &endpoints(&first)), [expected]);

        // A node with a new key: the old one goes first, as both have its network.
        let renewed = device(&[
            (1, "192.0.2.2:51820", &["10.42.1.0/24"]),
            (0, "192.0.2.3:51820", &["10.42.2.0/24"]),
        ]);
        let said = changes(&known, &renewed, &endpoints(&first));
        assert_eq!(said[0], Change::Forget([2; 32]));
        assert!(matches!(said[1], Change::Know { key, .. } if key == [0; 32]));
        assert_eq!(said.len(), 2);
        let more = device(&[
            (1, "192.0.2.2:51820", &["10.42.1.0/24", "fd42::/64"]),
            (2, "192.0.2.3:51820", &["10.42.2.0/24"]),
        ]);
        let said = changes(&known, &more, &endpoints(&first));
        assert!(matches!(said[..], [Change::Know { endpoint: None, allowed: Some([_, _]), .. }]));
    }

    #[test]
    fn the_key_is_not_printed() {
        assert!(!format!("{:?}", device(&[])).contains('9'));
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse(Attrs(&bytes), &mut Found::default());
        }
    }

    /// Skipped where the kernel has none; `tests/vm` has one that does.
    #[test]
    fn the_kernel_keeps_what_it_is_told() {
        if !rustix::process::geteuid().is_root() || !is_supported().unwrap() {
            eprintln!("skipped: no WireGuard in this kernel, or not root");
            return;
        }
        let story = || {
            ensure_link().unwrap();
            let many: Vec<String> = (0..200).map(|n| format!("10.42.{n}.0/24")).collect();
            let mut wanted = device(&[
                (1, "192.0.2.2:51820", &["10.43.1.0/24", "fd42:0:0:1::/64"]),
                (2, "[2001:db8::2]:4000", &["10.43.2.0/24"]),
            ]);
            for (n, text) in many.iter().enumerate() {
                let endpoint = "192.0.2.7:51820".parse().unwrap();
                let peer = Peer { endpoint, allowed: vec![network(text)] };
                let mut key = [0x40; 32];
                key[0] = n as u8;
                wanted.peers.insert(key, peer);
            }
            configure(&wanted, &BTreeMap::new()).unwrap();
            let look = || {
                let socket = Socket::generic().unwrap();
                let family = socket.family(FAMILY).unwrap().unwrap();
                get(&socket, family).unwrap()
            };
            let found = look();
            assert_eq!(found.port, wanted.port);
            assert!(changes(&found, &wanted, &BTreeMap::new()).is_empty(), "{found:?}");
            wanted.peers.retain(|key, _| *key == [2; 32]);
            configure(&wanted, &endpoints(&wanted)).unwrap();
            assert_eq!(look().peers.len(), 1);
            ensure_link().unwrap();
            assert_eq!(look().peers.len(), 1, "it is left alone");
            Socket::route().unwrap().delete_link(DEVICE).unwrap();
        };
        crate::netns::Netns::new().unwrap().within(story).unwrap();
    }
}

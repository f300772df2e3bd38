//! The way to pods on other nodes: routes through the other node's address
//! where both share a segment, and elsewhere a VXLAN device, told by hand whom
//! it sends to, or one of WireGuard, which is made and told elsewhere.

use crate::route::{Link, Refusal, Route, Scope, host_prefix};
use crate::wire::Socket;
use crate::{Error, wireguard};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The VXLAN device's name.
pub const DEVICE: &str = "skiff-vxlan";
/// The network inside the UDP packets.
const VXLAN_ID: u32 = 1;
/// Linux' own port, as flannel uses it. The kernel lets one namespace have one
/// device of an id and port.
const VXLAN_PORT: u16 = 8472;
/// Marks our routes, so that nobody else's are touched.
const PROTOCOL: u8 = 0x5f;

/// A network.
pub type Network = (IpAddr, u8);

/// How an address outside this machine is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// The link's index.
    pub link: u32,
    /// Bytes.
    pub mtu: u32,
    /// Whether no router is in between.
    pub direct: bool,
    /// How often the link was plugged in or pulled: another number may be another network.
    pub carrier_changes: u32,
}

/// This node's end of the VXLAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// By which other nodes' devices know it.
    pub mac: [u8; 6],
    /// Its addresses, from which this node itself talks to pods elsewhere.
    pub addresses: Vec<IpAddr>,
    /// Bytes.
    pub mtu: u32,
    /// Whether the other nodes' own addresses are IPv6.
    pub v6: bool,
}

/// Another node that is reached by the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// Its device's.
    pub mac: [u8; 6],
    /// Its own address.
    pub to: IpAddr,
    /// Its device's addresses, one of each family; networks of that family are
    /// routed to them.
    pub addresses: Vec<IpAddr>,
}

/// The addresses of the WireGuard device, and what fits through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// From which this node itself talks to pods elsewhere.
    pub addresses: Vec<IpAddr>,
    /// Bytes.
    pub mtu: u32,
}

/// Where a network of pods is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Behind a node on this link.
    Direct {
        /// The node's address.
        gateway: IpAddr,
        /// The link's index.
        link: u32,
    },
    /// Behind the device of this address.
    Tunnel(IpAddr),
    /// Behind a peer of the WireGuard device, which knows whose it is.
    Sealed,
}

/// All there should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Where somebody is reached by it.
    pub device: Option<Device>,
    /// Whom it reaches.
    pub tunnels: Vec<Tunnel>,
    /// Where somebody is reached by WireGuard: whose device is there already.
    pub sealed: Option<Sealed>,
    /// Every network elsewhere.
    pub routes: BTreeMap<Network, Via>,
    /// What no route leads to of these goes nowhere, instead of to a router that
    /// could read it.
    pub refused: Vec<Network>,
    /// What is sent to these goes nowhere, and nobody is told: addresses of this node
    /// that no link has.
    pub silent: Vec<IpAddr>,
}

/// What an [`apply`] has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changed {
    /// Routes that are new or lead elsewhere.
    pub routed: usize,
    /// Routes that are gone.
    pub unrouted: usize,
}

/// How each address is reached now; those that nothing leads to are not in it.
///
/// # Errors
/// What the kernel refused.
pub fn reach(addresses: &BTreeSet<IpAddr>) -> Result<BTreeMap<IpAddr, Reach>, Error> {
    let socket = Socket::route()?;
    let (links, routes) = (socket.links()?, socket.routes()?);
    let find = |ip: &IpAddr| {
        let route = best(&routes, *ip)?;
        let link = links.iter().find(|link| link.index == route.index && link.up)?;
        // A way through a device of ours would go in circles.
        let usable = !is_ours(&link.name) && link.name != "lo";
        let direct = route.gateway.is_none();
        let reach = Reach {
            link: link.index,
            mtu: link.mtu,
            direct,
            carrier_changes: link.carrier_changes,
        };
        usable.then_some((*ip, reach))
    };
    Ok(addresses.iter().filter_map(find).collect())
}

/// The networks of pods elsewhere that packets reach inside others now, by whichever
/// device of ours.
///
/// # Errors
/// What the kernel refused.
pub fn tunnelled() -> Result<BTreeSet<Network>, Error> {
    let socket = Socket::route()?;
    let links = socket.links()?;
    let ours = |index| links.iter().any(|link| link.index == index && is_ours(&link.name));
    let routes = socket.routes_of(PROTOCOL)?;
    Ok(routes.iter().filter(|route| ours(route.index)).filter_map(|r| r.destination).collect())
}

/// Whether a link is a way to other nodes that we have made.
pub(crate) fn is_ours(link: &str) -> bool {
    [DEVICE, wireguard::DEVICE].contains(&link)
}

/// The route that the kernel would take: the longest prefix, then the lowest
/// metric.
fn best(routes: &[Route], ip: IpAddr) -> Option<&Route> {
    let length = |route: &&Route| match route.destination {
        Some((network, prefix)) => covers(network, prefix, ip).then_some(prefix),
        None => {
            let like = route.gateway.or(route.source);
            like.is_none_or(|like| like.is_ipv4() == ip.is_ipv4()).then_some(0)
        }
    };
    let candidates = routes.iter().filter_map(|route| Some((length(&route)?, route)));
    candidates
        .max_by_key(|(length, route)| (*length, std::cmp::Reverse(route.metric)))
        .map(|(_, route)| route)
}

fn covers(network: IpAddr, prefix: u8, ip: IpAddr) -> bool {
    let shifted = |bits: u128, width: u32| {
        bits.checked_shr(width.saturating_sub(u32::from(prefix))).unwrap_or(0)
    };
    match (network, ip) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            shifted(a.to_bits().into(), 32) == shifted(b.to_bits().into(), 32)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => shifted(a.to_bits(), 128) == shifted(b.to_bits(), 128),
        _ => false,
    }
}

/// Makes it so: what is there and right is left alone, so that traffic of
/// nodes that did not change goes on.
///
/// # Errors
/// The step that the kernel refused; the next call goes on from there.
pub fn apply(wanted: &Wanted) -> Result<Changed, Error> {
    let socket = Socket::route()?;
    let device = match &wanted.device {
        Some(device) => Some(ensure_device(&socket, device)?),
        None => {
            socket.delete_link(DEVICE)?;
            None
        }
    };
    if let (Some(link), Some(device)) = (&device, &wanted.device) {
        tell_device(&socket, link, device, &wanted.tunnels)?;
    }
    let sealed = match &wanted.sealed {
        Some(sealed) => {
            let link = made(&socket, wireguard::DEVICE)?;
            ready(&socket, &link, &sealed.addresses, sealed.mtu)?;
            Some(link)
        }
        None => None,
    };
    let indexes = [&device, &sealed].map(|link| link.as_ref().map(|link| link.index));
    let silent: Vec<Network> = wanted.silent.iter().map(|ip| (*ip, host_prefix(*ip))).collect();
    let refusals = [(Refusal::Told, &wanted.refused), (Refusal::Silent, &silent)];
    for (how, networks) in refusals {
        let known = socket.refused_of(PROTOCOL, how)?;
        for network in networks.iter().filter(|network| !known.contains(network)) {
            socket.set_refused(PROTOCOL, how, *network, true)?;
        }
    }
    let mut changed = Changed::default();
    let known = socket.routes_of(PROTOCOL)?;
    for (network, via) in &wanted.routes {
        let Some(route) = route(*network, via, indexes) else { continue };
        let same = |known: &Route| {
            (known.destination, known.index, known.gateway)
                == (route.destination, route.index, route.gateway)
        };
        if !known.iter().any(same) {
            // Of IPv6 no gateway may be where another route leads, so that one goes first.
            let other = known.iter().find(|known| known.destination == Some(*network));
            if let (Via::Tunnel(IpAddr::V6(_)), Some(old)) = (via, other) {
                socket.delete_route_of(PROTOCOL, old, network.0)?;
            }
            socket.replace_route_of(PROTOCOL, &route, network.0)?;
            changed.routed += 1;
        }
    }
    for old in known {
        let Some(network) = old.destination else { continue };
        if !wanted.routes.contains_key(&network) {
            socket.delete_route_of(PROTOCOL, &old, network.0)?;
            changed.unrouted += 1;
        }
    }
    for (how, networks) in refusals {
        let known = socket.refused_of(PROTOCOL, how)?;
        for network in known.iter().filter(|network| !networks.contains(network)) {
            socket.set_refused(PROTOCOL, how, *network, false)?;
        }
    }
    if sealed.is_none() {
        // Its routes lead elsewhere by now, and its keys go with it.
        socket.delete_link(wireguard::DEVICE)?;
    }
    Ok(changed)
}

/// `indexes` are those of the VXLAN and of the WireGuard device.
fn route(network: Network, via: &Via, indexes: [Option<u32>; 2]) -> Option<Route> {
    let [tunnel, sealed] = indexes;
    let (gateway, index, scope) = match *via {
        Via::Direct { gateway, link } => (Some(gateway), link, Scope::Universe),
        Via::Tunnel(gateway) => (Some(gateway), tunnel?, Scope::Universe),
        Via::Sealed => (None, sealed?, Scope::Link),
    };
    Some(Route { destination: Some(network), index, gateway, source: None, metric: 0, scope })
}

fn made(socket: &Socket, name: &str) -> Result<Link, Error> {
    let missing = || Error::Answer(format!("{name} went away while it was made"));
    socket.link(name)?.ok_or_else(missing)
}

fn ensure_device(socket: &Socket, device: &Device) -> Result<Link, Error> {
    let found = socket.link(DEVICE)?;
    let kind = socket.vxlan(DEVICE)?;
    let right = found.as_ref().is_some_and(|link| link.mac == device.mac)
        && kind == Some((VXLAN_ID, VXLAN_PORT, device.v6));
    if found.is_some() && !right {
        socket.delete_link(DEVICE)?;
    }
    if !right {
        socket.add_vxlan(DEVICE, device.mac, VXLAN_ID, VXLAN_PORT, device.v6)?;
    }
    let link = made(socket, DEVICE)?;
    ready(socket, &link, &device.addresses, device.mtu)?;
    Ok(link)
}

/// Gives a device these addresses and no others, and brings it up.
fn ready(socket: &Socket, link: &Link, addresses: &[IpAddr], mtu: u32) -> Result<(), Error> {
    socket.set_mtu(link, mtu)?;
    let known: Vec<_> =
        socket.addresses()?.into_iter().filter(|address| address.index == link.index).collect();
    for ip in addresses {
        if !known.iter().any(|address| address.ip == *ip) {
            socket.add_address(link, *ip, host_prefix(*ip), Scope::Universe)?;
        }
    }
    // The kernel gives each link an address of its own that nobody needs to lose.
    let ours = |ip: &IpAddr| addresses.contains(ip) || link_local(*ip);
    for old in known.iter().filter(|address| !ours(&address.ip)) {
        socket.delete_address(link, old.ip, old.prefix_len)?;
    }
    socket.set_up(link)
}

fn link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.segments()[0] & 0xffc0 == 0xfe80)
}

fn tell_device(
    socket: &Socket,
    link: &Link,
    device: &Device,
    tunnels: &[Tunnel],
) -> Result<(), Error> {
    let wanted: BTreeSet<(Vec<u8>, IpAddr)> =
        tunnels.iter().map(|tunnel| (tunnel.mac.to_vec(), tunnel.to)).collect();
    let known: BTreeSet<_> = socket.permanent(link, None)?.into_iter().collect();
    // The old way goes first: a MAC may lead to several, and replacing adds.
    for (mac, ip) in known.difference(&wanted) {
        socket.delete_permanent(link, mac, *ip, true)?;
    }
    for (mac, ip) in wanted.difference(&known) {
        socket.replace_forwarding(link, mac, *ip)?;
    }
    for like in &device.addresses {
        let of_family = |ip: &&IpAddr| ip.is_ipv4() == like.is_ipv4();
        let wanted: BTreeSet<(Vec<u8>, IpAddr)> = tunnels
            .iter()
            .flat_map(|tunnel| {
                tunnel.addresses.iter().filter(of_family).map(|ip| (tunnel.mac.to_vec(), *ip))
            })
            .collect();
        let known: BTreeSet<_> = socket.permanent(link, Some(*like))?.into_iter().collect();
        for (mac, ip) in known.difference(&wanted) {
            if !wanted.iter().any(|(_, kept)| kept == ip) {
                socket.delete_permanent(link, mac, *ip, false)?;
            }
        }
        for (mac, ip) in wanted.difference(&known) {
            socket.replace_neighbour(link, *ip, mac)?;
        }
    }
    Ok(())
}

/// Takes everything away again.
///
/// # Errors
/// What the kernel refused.
pub fn killall() -> Result<(), Error> {
    apply(&Wanted::default()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_longest_prefix_leads() {
        let route = |network: Option<(&str, u8)>, gateway: Option<&str>, metric| Route {
            destination: network.map(|(network, prefix)| (ip(network), prefix)),
            index: metric,
            gateway: gateway.map(ip),
            source: None,
            metric,
            scope: Scope::Universe,
        };
        let routes = [
            route(None, Some("10.0.0.1"), 1),
            route(Some(("10.0.0.0", 8)), None, 2),
            route(Some(("10.0.0.0", 24)), None, 4),
            route(Some(("10.0.0.0", 24)), None, 3),
            route(Some(("fd00::", 64)), None, 5),
        ];
        let index = |text| best(&routes, ip(text)).map(|route| route.index);
        assert_eq!(index("10.0.0.9"), Some(3));
        assert_eq!(index("10.9.0.9"), Some(2));
        assert_eq!(index("192.0.2.1"), Some(1));
        assert_eq!(index("fd00::1"), Some(5));
        assert_eq!(index("fd01::1"), None);
    }

    /// For both families of the nodes' own addresses: what is right stays as it is.
    #[test]
    fn a_device_that_is_right_is_left_alone() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: making network namespaces needs root");
            return;
        }
        let story = || {
            crate::host::ensure_loopback().unwrap();
            let card = || {
                let socket = Socket::route().unwrap();
                if socket.link("card").unwrap().is_none() {
                    socket.add_link("card", "bridge").unwrap();
                }
                let card = socket.link("card").unwrap().unwrap();
                socket.set_up(&card).unwrap();
                card.index
            };
            let mut before = None;
            for (v6, to) in [(false, "192.0.2.2"), (true, "2001:db8::2")] {
                let mac = |last| [0x02, 0, 0, 0, 0, last];
                let device = Device {
                    mac: mac(1),
                    addresses: vec![ip("10.42.0.0"), ip("fd42::")],
                    mtu: 1400,
                    v6,
                };
                let pods = [(ip("10.42.1.0"), 24), (ip("fd42:0:0:1::"), 64)];
                let addresses = pods.iter().map(|(ip, _)| *ip).collect();
                let wanted = Wanted {
                    device: Some(device),
                    tunnels: vec![Tunnel { mac: mac(2), to: ip(to), addresses }],
                    routes: pods.iter().map(|pods| (*pods, Via::Tunnel(pods.0))).collect(),
                    ..Wanted::default()
                };
                let index = || crate::host::link_index(DEVICE).unwrap();
                assert_eq!(apply(&wanted).unwrap().routed, 2);
                let made = index();
                assert_ne!(made, before, "of another family");
                assert_eq!(apply(&wanted).unwrap(), Changed::default(), "{to}");
                assert_eq!(index(), made, "{to}");
                before = made;
                // Without a router in between, and then in the tunnel again.
                let link = card();
                let gateways = [ip("192.0.2.2"), ip("2001:db8::2")];
                let routes = pods.iter().zip(gateways);
                let routes = routes.map(|(pods, gateway)| (*pods, Via::Direct { gateway, link }));
                let direct = Wanted { routes: routes.collect(), ..wanted.clone() };
                for wanted in [&direct, &wanted] {
                    assert_eq!(apply(wanted).unwrap().routed, 2);
                    assert_eq!(apply(wanted).unwrap(), Changed::default());
                }
                assert_eq!(tunnelled().unwrap(), pods.into());
            }
            killall().unwrap();
            assert_eq!(tunnelled().unwrap(), BTreeSet::new());
            assert_eq!(crate::host::link_index(DEVICE).unwrap(), None);

            // What is refused is refused by both families, and no longer than that.
            let refused = vec![(ip("10.42.0.0"), 16), (ip("fd42::"), 56)];
            let silent = vec![ip("10.43.0.0"), ip("fd43::")];
            let wanted = Wanted { refused: refused.clone(), silent, ..Wanted::default() };
            let socket = Socket::route().unwrap();
            for _ in 0..2 {
                assert_eq!(apply(&wanted).unwrap(), Changed::default());
                let mut found = socket.refused_of(PROTOCOL, Refusal::Told).unwrap();
                found.sort_unstable();
                assert_eq!(found, refused);
                let mut found = socket.refused_of(PROTOCOL, Refusal::Silent).unwrap();
                found.sort_unstable();
                assert_eq!(found, [(ip("10.43.0.0"), 32), (ip("fd43::"), 128)]);
            }
            let udp = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            let error = udp.send_to(b"x", "10.42.7.7:7").unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::HostUnreachable);
            killall().unwrap();
            for how in [Refusal::Told, Refusal::Silent] {
                assert_eq!(socket.refused_of(PROTOCOL, how).unwrap(), []);
            }
        };
        crate::netns::Netns::new().unwrap().within(story).unwrap();
    }
}

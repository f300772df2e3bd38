//! rtnetlink(7) requests: links, addresses, routes, neighbours. Each one says
//! what should be; "replace" makes it idempotent.

use crate::Error;
use crate::wire::{
    Attrs, Message, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, Received,
    Socket,
};
use rustix::io::Errno;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_CARRIER_CHANGES: u16 = 35;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_LOCAL6: u16 = 17;
const IFLA_VXLAN_UDP_ZERO_CSUM6_RX: u16 = 20;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFF_UP: u32 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
/// The address is usable at once: nobody else can have it.
const IFA_F_NODAD: u32 = 2;
/// Of IPv6: made at random and for a day, to be hard to follow (RFC 8981).
const IFA_F_TEMPORARY: u32 = 1;
/// Somebody else has it.
const IFA_F_DADFAILED: u32 = 8;
/// Not for new connections.
const IFA_F_DEPRECATED: u32 = 0x20;
/// Still asking whether somebody else has it.
const IFA_F_TENTATIVE: u32 = 0x40;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;
const RT_TABLE_MAIN: u8 = 254;
/// "Set up by an administrator"; no daemon takes it for its own.
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;
const RTNH_F_ONLINK: u32 = 4;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;
const AF_BRIDGE: u8 = libc::AF_BRIDGE as u8;
/// The entry is the device's own, not a bridge's.
const NTF_SELF: u8 = 2;

/// How a packet is refused that a route leads nowhere (`RTN_`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Without a word.
    Silent = 6,
    /// Its sender is told.
    Told = 7,
}

/// How far an address or a route reaches, `rt_scope_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Universe = 0,
    Link = 253,
    Host = 254,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) up: bool,
    pub(crate) mtu: u32,
    pub(crate) mac: Vec<u8>,
    /// The index of the other end, in its own namespace.
    pub(crate) peer: u32,
    /// How often its cable, or what stands for it, was plugged in or pulled.
    pub(crate) carrier_changes: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) index: u32,
    pub(crate) ip: IpAddr,
    pub(crate) prefix_len: u8,
    pub(crate) scope: u8,
    pub(crate) flags: u32,
}

impl Address {
    /// How little it suits to be known by, from 0 up; `None` where it cannot be
    /// used. IPv4's first bit has another meaning: an address beside the first.
    pub(crate) fn rank(&self) -> Option<u8> {
        if self.ip.is_ipv4() {
            return Some(0);
        }
        let has = |flag| self.flags & flag != 0;
        match () {
            () if has(IFA_F_DADFAILED) => None,
            () if has(IFA_F_DEPRECATED) => Some(3),
            () if has(IFA_F_TEMPORARY) => Some(2),
            () if has(IFA_F_TENTATIVE) => Some(1),
            () => Some(0),
        }
    }
}

/// A unicast route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// `None` is the default route.
    pub(crate) destination: Option<(IpAddr, u8)>,
    pub(crate) index: u32,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) source: Option<IpAddr>,
    pub(crate) metric: u32,
    pub(crate) scope: Scope,
}

pub(crate) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

pub(crate) fn ip_from(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
        _ => None,
    }
}

pub(crate) fn host_prefix(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn family(ip: IpAddr) -> u8 {
    (if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

fn ifinfomsg(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

impl Socket {
    /// All links of the namespace.
    pub(crate) fn links(&self) -> Result<Vec<Link>, Error> {
        let message = Message::new(RTM_GETLINK, NLM_F_DUMP, &ifinfomsg(0, 0, 0));
        let answers = self.query(message, || "list links".into())?;
        Ok(answers.iter().filter_map(parse_link).collect())
    }

    pub(crate) fn link(&self, name: &str) -> Result<Option<Link>, Error> {
        Ok(self.answers_of(name)?.iter().find_map(parse_link))
    }

    /// Makes a veth pair whose other end is born inside another namespace. Both
    /// ends get their names at once, so that no half-named link is ever left.
    pub(crate) fn add_veth(
        &self,
        name: &str,
        mac: [u8; 6],
        peer: &str,
        peer_netns: impl AsFd,
        mtu: u32,
    ) -> Result<(), Error> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let mut message = Message::new(RTM_NEWLINK, flags, &ifinfomsg(0, 0, 0));
        message.text(IFLA_IFNAME, name).u32(IFLA_MTU, mtu).attr(IFLA_ADDRESS, &mac);
        message.nest(IFLA_LINKINFO, |m| {
            m.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |m| {
                m.nest(VETH_INFO_PEER, |m| {
                    m.raw(&ifinfomsg(0, 0, 0)).text(IFLA_IFNAME, peer).u32(IFLA_MTU, mtu);
                    m.u32(IFLA_NET_NS_FD, peer_netns.as_fd().as_raw_fd() as u32);
                });
            });
        });
        self.request(message, || format!("make veth {name} with {peer}"))
    }

    /// Makes a link that needs nothing but its kind.
    pub(crate) fn add_link(&self, name: &str, kind: &str) -> Result<(), Error> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let mut message = Message::new(RTM_NEWLINK, flags, &ifinfomsg(0, 0, 0));
        message.text(IFLA_IFNAME, name);
        message.nest(IFLA_LINKINFO, |m| {
            m.text(IFLA_INFO_KIND, kind);
        });
        self.request(message, || format!("make the {kind} link {name}"))
    }

    /// Of which kind a link is; `None` where there is none of that name.
    pub(crate) fn kind(&self, name: &str) -> Result<Option<String>, Error> {
        let info = |answer: &Received| {
            Attrs(answer.payload.get(16..)?).nested(IFLA_LINKINFO).find_text(IFLA_INFO_KIND)
        };
        let answers = self.answers_of(name)?;
        // A card has no kind.
        Ok(answers.first().map(|answer| info(answer).unwrap_or_default()))
    }

    /// What the kernel tells of a link; nothing where there is none of that name.
    fn answers_of(&self, name: &str) -> Result<Vec<Received>, Error> {
        let mut message = Message::new(RTM_GETLINK, NLM_F_ACK, &ifinfomsg(0, 0, 0));
        message.text(IFLA_IFNAME, name);
        match self.query(message, || format!("look for link {name}")) {
            Err(e) if e.errno() == Some(Errno::NODEV) => Ok(Vec::new()),
            answers => answers,
        }
    }

    /// Makes a VXLAN device that learns nothing. `v6` says of which family the
    /// addresses of the other ends are.
    pub(crate) fn add_vxlan(
        &self,
        name: &str,
        mac: [u8; 6],
        id: u32,
        port: u16,
        v6: bool,
    ) -> Result<(), Error> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let mut message = Message::new(RTM_NEWLINK, flags, &ifinfomsg(0, 0, 0));
        message.text(IFLA_IFNAME, name).attr(IFLA_ADDRESS, &mac);
        message.nest(IFLA_LINKINFO, |m| {
            m.text(IFLA_INFO_KIND, "vxlan").nest(IFLA_INFO_DATA, |m| {
                m.u32(IFLA_VXLAN_ID, id).attr(IFLA_VXLAN_LEARNING, &[0]);
                m.attr(IFLA_VXLAN_PORT, &port.to_be_bytes());
                if v6 {
                    m.attr(IFLA_VXLAN_LOCAL6, &[0; 16]);
                    // The kernel tells no address that is unspecified, so this is how
                    // [`Self::vxlan`] knows such a device (RFC 6936 allows it).
                    m.attr(IFLA_VXLAN_UDP_ZERO_CSUM6_RX, &[1]);
                }
            });
        });
        self.request(message, || format!("make the VXLAN device {name}"))
    }

    /// The id, the port and the family of the other ends of a VXLAN device.
    pub(crate) fn vxlan(&self, name: &str) -> Result<Option<(u32, u16, bool)>, Error> {
        Ok(self.answers_of(name)?.iter().find_map(|answer| {
            let info = Attrs(answer.payload.get(16..)?).nested(IFLA_LINKINFO);
            (info.find_text(IFLA_INFO_KIND)? == "vxlan").then_some(())?;
            let data = info.nested(IFLA_INFO_DATA);
            let port = u16::from_be_bytes(data.find(IFLA_VXLAN_PORT)?.try_into().ok()?);
            let v6 = data.find(IFLA_VXLAN_UDP_ZERO_CSUM6_RX).is_some_and(|on| on == [1]);
            Some((data.find_u32(IFLA_VXLAN_ID)?, port, v6))
        }))
    }

    pub(crate) fn set_up(&self, link: &Link) -> Result<(), Error> {
        if link.up {
            return Ok(());
        }
        let message = Message::new(RTM_NEWLINK, NLM_F_ACK, &ifinfomsg(link.index, IFF_UP, IFF_UP));
        self.request(message, || format!("bring {} up", link.name))
    }

    pub(crate) fn set_mtu(&self, link: &Link, mtu: u32) -> Result<(), Error> {
        if link.mtu == mtu {
            return Ok(());
        }
        let mut message = Message::new(RTM_NEWLINK, NLM_F_ACK, &ifinfomsg(link.index, 0, 0));
        message.u32(IFLA_MTU, mtu);
        self.request(message, || format!("set the MTU of {} to {mtu}", link.name))
    }

    /// Not an error if there is none.
    pub(crate) fn delete_link(&self, name: &str) -> Result<(), Error> {
        let mut message = Message::new(RTM_DELLINK, NLM_F_ACK, &ifinfomsg(0, 0, 0));
        message.text(IFLA_IFNAME, name);
        match self.request(message, || format!("remove link {name}")) {
            Err(e) if e.errno() == Some(Errno::NODEV) => Ok(()),
            result => result,
        }
    }

    pub(crate) fn addresses(&self) -> Result<Vec<Address>, Error> {
        let message = Message::new(RTM_GETADDR, NLM_F_DUMP, &[0; 8]);
        let answers = self.query(message, || "list addresses".into())?;
        Ok(answers.iter().filter_map(parse_address).collect())
    }

    pub(crate) fn add_address(
        &self,
        link: &Link,
        ip: IpAddr,
        prefix_len: u8,
        scope: Scope,
    ) -> Result<(), Error> {
        let message =
            address_message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, link, ip, prefix_len, scope);
        self.request(message, || format!("add {ip}/{prefix_len} to {}", link.name))
    }

    /// Not an error if the link does not have it.
    pub(crate) fn delete_address(
        &self,
        link: &Link,
        ip: IpAddr,
        prefix_len: u8,
    ) -> Result<(), Error> {
        let message = address_message(RTM_DELADDR, 0, link, ip, prefix_len, Scope::Universe);
        match self.request(message, || format!("take {ip}/{prefix_len} from {}", link.name)) {
            Err(e) if e.errno() == Some(Errno::ADDRNOTAVAIL) => Ok(()),
            result => result,
        }
    }

    /// The unicast routes of the main tables.
    pub(crate) fn routes(&self) -> Result<Vec<Route>, Error> {
        let mut message = Message::new(RTM_GETROUTE, NLM_F_DUMP, &[0; 12]);
        message.u32(RTA_TABLE, u32::from(RT_TABLE_MAIN));
        let answers = self.query(message, || "list routes".into())?;
        Ok(answers.iter().filter_map(parse_route).collect())
    }

    /// Those of them that one protocol (`RTPROT_`) has made.
    pub(crate) fn routes_of(&self, protocol: u8) -> Result<Vec<Route>, Error> {
        let mut message = Message::new(RTM_GETROUTE, NLM_F_DUMP, &[0; 12]);
        message.u32(RTA_TABLE, u32::from(RT_TABLE_MAIN));
        let answers = self.query(message, || "list routes".into())?;
        let own = answers.iter().filter(|answer| answer.payload.get(5) == Some(&protocol));
        Ok(own.filter_map(parse_route).collect())
    }

    /// Adds a route, in place of one to the same destination.
    pub(crate) fn replace_route(&self, route: &Route, like: IpAddr) -> Result<(), Error> {
        self.replace_route_of(RTPROT_STATIC, route, like)
    }

    /// The same under a protocol of its own.
    pub(crate) fn replace_route_of(
        &self,
        protocol: u8,
        route: &Route,
        like: IpAddr,
    ) -> Result<(), Error> {
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        let message = route_message(RTM_NEWROUTE, flags, protocol, route, like);
        self.request(message, || describe("add a route", route))
    }

    /// Not an error if there is none.
    pub(crate) fn delete_route(&self, route: &Route, like: IpAddr) -> Result<(), Error> {
        self.delete_route_of(RTPROT_STATIC, route, like)
    }

    /// The same under a protocol of its own.
    pub(crate) fn delete_route_of(
        &self,
        protocol: u8,
        route: &Route,
        like: IpAddr,
    ) -> Result<(), Error> {
        match self.request(route_message(RTM_DELROUTE, 0, protocol, route, like), || {
            describe("remove the route", route)
        }) {
            Err(e) if e.errno() == Some(Errno::SRCH) => Ok(()),
            result => result,
        }
    }

    /// The networks that a protocol has the kernel refuse.
    pub(crate) fn refused_of(
        &self,
        protocol: u8,
        how: Refusal,
    ) -> Result<Vec<(IpAddr, u8)>, Error> {
        let mut message = Message::new(RTM_GETROUTE, NLM_F_DUMP, &[0; 12]);
        message.u32(RTA_TABLE, u32::from(RT_TABLE_MAIN));
        let answers = self.query(message, || "list routes".into())?;
        let network = |answer: &Received| {
            let header = answer.payload.get(..12)?;
            let ours =
                header[4] == RT_TABLE_MAIN && header[5] == protocol && header[7] == how as u8;
            let ip = Attrs(&answer.payload[12..]).find(RTA_DST).and_then(ip_from)?;
            ours.then_some((ip, header[1]))
        };
        Ok(answers.iter().filter_map(network).collect())
    }

    /// Has the kernel refuse a network, or no more. Not an error where it is so already.
    pub(crate) fn set_refused(
        &self,
        protocol: u8,
        how: Refusal,
        network: (IpAddr, u8),
        is_refused: bool,
    ) -> Result<(), Error> {
        let (ip, prefix_len) = network;
        let mut header = [0; 12];
        header[0] = family(ip);
        header[1] = prefix_len;
        header[4] = RT_TABLE_MAIN;
        header[5] = protocol;
        header[7] = how as u8;
        let (kind, flags) = match is_refused {
            true => (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE),
            false => (RTM_DELROUTE, 0),
        };
        let mut message = Message::new(kind, NLM_F_ACK | flags, &header);
        message.attr(RTA_DST, &octets(ip));
        match self.request(message, || format!("refuse what is sent to {ip}/{prefix_len}")) {
            Err(e) if !is_refused && e.errno() == Some(Errno::SRCH) => Ok(()),
            result => result,
        }
    }

    /// A neighbour entry that never expires and is never asked for.
    pub(crate) fn replace_neighbour(
        &self,
        link: &Link,
        ip: IpAddr,
        mac: &[u8],
    ) -> Result<(), Error> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let mut message = Message::new(RTM_NEWNEIGH, flags, &ndmsg(family(ip), link.index, 0));
        message.attr(NDA_DST, &octets(ip)).attr(NDA_LLADDR, mac);
        self.request(message, || format!("set the neighbour {ip} on {}", link.name))
    }

    /// Which address the VXLAN device sends to for a MAC.
    pub(crate) fn replace_forwarding(
        &self,
        link: &Link,
        mac: &[u8],
        ip: IpAddr,
    ) -> Result<(), Error> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let mut message =
            Message::new(RTM_NEWNEIGH, flags, &ndmsg(AF_BRIDGE, link.index, NTF_SELF));
        message.attr(NDA_LLADDR, mac).attr(NDA_DST, &octets(ip));
        self.request(message, || format!("send to {ip} by {}", link.name))
    }

    /// The permanent entries of a link: neighbours of a family, or with
    /// `None` a VXLAN device's own table.
    pub(crate) fn permanent(
        &self,
        link: &Link,
        like: Option<IpAddr>,
    ) -> Result<Vec<(Vec<u8>, IpAddr)>, Error> {
        let of = like.map_or(AF_BRIDGE, family);
        let message = Message::new(RTM_GETNEIGH, NLM_F_DUMP, &ndmsg(of, 0, 0));
        let answers = self.query(message, || "list neighbours".into())?;
        let entry = |answer: &Received| {
            let header = answer.payload.get(..12)?;
            let state = u16::from_ne_bytes([header[8], header[9]]);
            let ours =
                header[0] == of && word(header, 4)? == link.index && state & NUD_PERMANENT != 0;
            let attrs = Attrs(&answer.payload[12..]);
            let mac = attrs.find(NDA_LLADDR)?.to_vec();
            ours.then(|| Some((mac, ip_from(attrs.find(NDA_DST)?)?)))?
        };
        Ok(answers.iter().filter_map(entry).collect())
    }

    /// Takes an entry of [`Self::permanent`] away; not an error if it is gone.
    pub(crate) fn delete_permanent(
        &self,
        link: &Link,
        mac: &[u8],
        ip: IpAddr,
        forwarding: bool,
    ) -> Result<(), Error> {
        let (of, flags) = if forwarding { (AF_BRIDGE, NTF_SELF) } else { (family(ip), 0) };
        let mut message = Message::new(RTM_DELNEIGH, NLM_F_ACK, &ndmsg(of, link.index, flags));
        message.attr(NDA_LLADDR, mac).attr(NDA_DST, &octets(ip));
        match self.request(message, || format!("forget {ip} on {}", link.name)) {
            Err(e) if e.errno() == Some(Errno::NOENT) => Ok(()),
            result => result,
        }
    }
}

fn ndmsg(family: u8, index: u32, flags: u8) -> [u8; 12] {
    let mut header = [0; 12];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
    header[10] = flags;
    header
}

fn describe(verb: &str, route: &Route) -> String {
    match route.destination {
        Some((ip, prefix_len)) => format!("{verb} to {ip}/{prefix_len}"),
        None => format!("{verb} by default"),
    }
}

fn address_message(
    kind: u16,
    flags: u16,
    link: &Link,
    ip: IpAddr,
    prefix_len: u8,
    scope: Scope,
) -> Message {
    let mut header = [family(ip), prefix_len, 0, scope as u8, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&link.index.to_ne_bytes());
    let mut message = Message::new(kind, NLM_F_ACK | flags, &header);
    message.attr(IFA_LOCAL, &octets(ip)).attr(IFA_ADDRESS, &octets(ip));
    if ip.is_ipv6() {
        message.u32(IFA_FLAGS, IFA_F_NODAD);
        // IPv6 knows no such scope: what is never to be a source is deprecated
        // from the start, and valid for ever.
        if kind == RTM_NEWADDR && matches!(scope, Scope::Host) {
            let [preferred, valid] = [0_u32, u32::MAX].map(u32::to_ne_bytes);
            message.attr(IFA_CACHEINFO, &[preferred, valid, [0; 4], [0; 4]].concat());
        }
    }
    message
}

fn route_message(kind: u16, flags: u16, protocol: u8, route: &Route, like: IpAddr) -> Message {
    let prefix_len = route.destination.map_or(0, |(_, n)| n);
    let mut header = [0; 12];
    header[0] = family(like);
    header[1] = prefix_len;
    header[4] = RT_TABLE_MAIN;
    header[5] = protocol;
    header[6] = if like.is_ipv4() { route.scope as u8 } else { Scope::Universe as u8 };
    header[7] = RTN_UNICAST;
    if route.gateway.is_some() {
        header[8..12].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
    }
    let mut message = Message::new(kind, NLM_F_ACK | flags, &header);
    if let Some((ip, _)) = route.destination {
        message.attr(RTA_DST, &octets(ip));
    }
    message.u32(RTA_OIF, route.index);
    if let Some(gateway) = route.gateway {
        message.attr(RTA_GATEWAY, &octets(gateway));
    }
    if let Some(source) = route.source {
        message.attr(RTA_PREFSRC, &octets(source));
    }
    if route.metric != 0 {
        message.u32(RTA_PRIORITY, route.metric);
    }
    message
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn parse_link(received: &Received) -> Option<Link> {
    let header = received.payload.get(..16)?;
    let attrs = Attrs(&received.payload[16..]);
    Some(Link {
        index: word(header, 4)?,
        name: attrs.find_text(IFLA_IFNAME)?,
        up: word(header, 8)? & IFF_UP != 0,
        mtu: attrs.find_u32(IFLA_MTU)?,
        mac: attrs.find(IFLA_ADDRESS).unwrap_or(&[]).to_vec(),
        peer: attrs.find_u32(IFLA_LINK).unwrap_or(0),
        carrier_changes: attrs.find_u32(IFLA_CARRIER_CHANGES).unwrap_or(0),
    })
}

fn parse_address(received: &Received) -> Option<Address> {
    let header = received.payload.get(..8)?;
    let attrs = Attrs(&received.payload[8..]);
    // On a point-to-point link IFA_ADDRESS is the other end's.
    let ip = attrs.find(IFA_LOCAL).or_else(|| attrs.find(IFA_ADDRESS))?;
    Some(Address {
        index: word(header, 4)?,
        ip: ip_from(ip)?,
        prefix_len: header[1],
        scope: header[3],
        flags: attrs.find_u32(IFA_FLAGS).unwrap_or(u32::from(header[2])),
    })
}

fn parse_route(received: &Received) -> Option<Route> {
    let header = received.payload.get(..12)?;
    let attrs = Attrs(&received.payload[12..]);
    let table = attrs.find_u32(RTA_TABLE).unwrap_or(u32::from(header[4]));
    if header[7] != RTN_UNICAST || table != u32::from(RT_TABLE_MAIN) {
        return None;
    }
    let ip = |kind| attrs.find(kind).and_then(ip_from);
    Some(Route {
        destination: ip(RTA_DST).map(|ip| (ip, header[1])),
        index: attrs.find_u32(RTA_OIF)?,
        gateway: ip(RTA_GATEWAY),
        source: ip(RTA_PREFSRC),
        metric: attrs.find_u32(RTA_PRIORITY).unwrap_or(0),
        scope: match header[6] {
            253 => Scope::Link,
            254 => Scope::Host,
            _ => Scope::Universe,
        },
    })
}

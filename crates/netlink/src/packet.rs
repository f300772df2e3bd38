//! UDP datagrams past the kernel's routes (packet(7)): what comes is heard before
//! routes and firewalls see it, and what goes leaves by a named link to a named
//! card. So two machines can try a way that the kernel does not take.
//!
//! Only datagrams of one port are heard, which are from the same segment: no router
//! leaves them the hop limit that they begin with. Nothing of it stays when the
//! sockets go.

use crate::{Error, sys};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    AddressFamily, Protocol, SocketFlags, SocketType, bind, sendto, socket_with, sockopt,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const UDP: u8 = 17;
/// What no router has touched has this.
const HOPS: u8 = 255;
const V4_BYTES: usize = 20;
const V6_BYTES: usize = 40;
const UDP_BYTES: usize = 8;
/// The largest that is heard.
const DATAGRAM_BYTES: usize = 512;
const ETH_P_IP: u16 = libc::ETH_P_IP as u16;
const ETH_P_IPV6: u16 = libc::ETH_P_IPV6 as u16;
/// Of `sockaddr_ll`, before the card's address.
const NAME_BYTES: usize = 12;
/// No card's is longer.
const CARD_BYTES: usize = 32;

/// From where a datagram came, or where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The link's index.
    pub link: u32,
    /// The other card's address; empty where the link knows none.
    pub card: Vec<u8>,
}

/// A datagram of our port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub from: IpAddr,
    /// For whom it is, of the same family.
    pub to: IpAddr,
    /// What it says.
    pub body: Vec<u8>,
}

/// The sockets of one port.
#[derive(Debug)]
pub struct Packets {
    port: u16,
    heard: [OwnedFd; 2],
    /// Hold the port, so that the kernel does not answer that nobody listens there.
    _held: Vec<OwnedFd>,
}

impl Packets {
    /// Hears a port from now on, by both families.
    ///
    /// # Errors
    /// Somebody else has the port, or this is not root.
    pub fn open(port: u16) -> Result<Self, Error> {
        let fail = |e: io::Error| Error::io(format!("hear UDP port {port} of all links"), e);
        let held = [true, false].map(|v4| hold(port, v4)).into_iter();
        let held = held.filter_map(Result::transpose).collect::<io::Result<_>>().map_err(fail)?;
        let hear = |kind, program| hear(kind, program).map_err(fail);
        let heard = [hear(ETH_P_IP, filter_v4(port))?, hear(ETH_P_IPV6, filter_v6(port))?];
        Ok(Self { port, heard, _held: held })
    }

    /// For waiting until there is something to [`Self::receive`].
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        self.heard.each_ref().map(AsFd::as_fd)
    }

    /// The next datagram that is here; `None` where there is none now.
    ///
    /// # Errors
    /// The kernel tells nothing any more.
    pub fn receive(&self) -> io::Result<Option<(Place, Datagram)>> {
        let (mut packet, mut name) = ([0; DATAGRAM_BYTES], [0; NAME_BYTES + CARD_BYTES]);
        for socket in &self.heard {
            loop {
                let length = match sys::receive_named(socket, &mut packet, &mut name) {
                    Ok(length) => length,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // A link went down: the others go on.
                    Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => continue,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                let place = place(&name);
                // For somebody else, or for all.
                if name[10] == libc::PACKET_HOST
                    && let Some(datagram) = packet.get(..length).and_then(read)
                {
                    return Ok(Some((place, datagram)));
                }
            }
        }
        Ok(None)
    }

    /// Sends to a card.
    ///
    /// # Errors
    /// The link is down or gone, or the addresses are of two families.
    pub fn send(&self, place: &Place, datagram: &Datagram) -> io::Result<()> {
        let (kind, packet) = match (datagram.from, datagram.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                (ETH_P_IP, packet_v4(self.port, from, to, &datagram.body))
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                (ETH_P_IPV6, packet_v6(self.port, from, to, &datagram.body))
            }
            _ => return Err(io::Error::other("a datagram has addresses of one family")),
        };
        let [v4, v6] = &self.heard;
        let socket = if kind == ETH_P_IP { v4 } else { v6 };
        sys::send_named(socket, &packet, &name(kind, place))
    }

    /// Sends as anybody does: the kernel finds the way, and the card.
    ///
    /// # Errors
    /// It finds none, or the source is not this machine's.
    pub fn greet(&self, datagram: &Datagram) -> io::Result<()> {
        let (from, to) = (datagram.from, datagram.to);
        let socket = udp(from.is_ipv4())?;
        match from.is_ipv4() {
            true => sockopt::set_ip_ttl(&socket, u32::from(HOPS))?,
            false => sockopt::set_ipv6_unicast_hops(&socket, Some(HOPS))?,
        }
        bind(&socket, &SocketAddr::new(from, self.port))?;
        let to = SocketAddr::new(to, self.port);
        sendto(&socket, &datagram.body, rustix::net::SendFlags::empty(), &to)?;
        Ok(())
    }
}

/// One that shares its port with those of this process.
fn udp(v4: bool) -> io::Result<OwnedFd> {
    let family = if v4 { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if !v4 {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}

/// A socket that takes all and keeps nothing; none where the kernel lacks the family.
fn hold(port: u16, v4: bool) -> io::Result<Option<OwnedFd>> {
    let held = || -> io::Result<Option<OwnedFd>> {
        let socket = udp(v4)?;
        sys::attach_filter(&socket, &[RETURN_NOTHING])?;
        let any = if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        bind(&socket, &SocketAddr::new(any, port))?;
        Ok(Some(socket))
    };
    let lacks = [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL];
    match held() {
        Err(error) if error.raw_os_error().is_some_and(|e| lacks.contains(&e)) => Ok(None),
        held => held,
    }
}

/// A packet socket that hears what the filter lets through.
fn hear(kind: u16, program: Vec<libc::sock_filter>) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Of no protocol at first, so that nothing is heard before the filter is there.
    let none: Option<Protocol> = None;
    let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, none)?;
    sys::attach_filter(&socket, &program)?;
    let everywhere = Place { link: 0, card: Vec::new() };
    sys::bind_named(&socket, &name(kind, &everywhere))?;
    Ok(socket)
}

/// `sockaddr_ll`, with room for the address of any card.
fn name(kind: u16, place: &Place) -> [u8; NAME_BYTES + CARD_BYTES] {
    let mut name = [0; NAME_BYTES + CARD_BYTES];
    let card = place.card.get(..CARD_BYTES).unwrap_or(&place.card);
    name[0..2].copy_from_slice(&(libc::AF_PACKET as u16).to_ne_bytes());
    name[2..4].copy_from_slice(&kind.to_be_bytes());
    name[4..8].copy_from_slice(&place.link.to_ne_bytes());
    name[11] = card.len() as u8;
    name[NAME_BYTES..NAME_BYTES + card.len()].copy_from_slice(card);
    name
}

fn place(name: &[u8; NAME_BYTES + CARD_BYTES]) -> Place {
    let link = u32::from_ne_bytes([name[4], name[5], name[6], name[7]]);
    let length = usize::from(name[11]).min(CARD_BYTES);
    Place { link, card: name[NAME_BYTES..NAME_BYTES + length].to_vec() }
}

const fn step(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

const RETURN_NOTHING: libc::sock_filter = step(libc::BPF_RET | libc::BPF_K, 0);

const fn byte(at: u32) -> libc::sock_filter {
    step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, at)
}

const fn half(at: u32) -> libc::sock_filter {
    step(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, at)
}

const EQUALS: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;

const fn equals(value: u32) -> libc::sock_filter {
    step(EQUALS, value)
}

/// Classic BPF: where what is loaded does not equal what it is compared with, nothing is
/// heard.
fn filter(mut steps: Vec<libc::sock_filter>) -> Vec<libc::sock_filter> {
    let count = steps.len();
    for (at, step) in steps.iter_mut().enumerate() {
        if u32::from(step.code) == EQUALS {
            // Past the rest, and past that all is well.
            step.jf = (count - at) as u8;
        }
    }
    steps.extend([step(libc::BPF_RET | libc::BPF_K, DATAGRAM_BYTES as u32), RETURN_NOTHING]);
    steps
}

fn filter_v4(port: u16) -> Vec<libc::sock_filter> {
    filter(vec![
        byte(8),
        equals(u32::from(HOPS)),
        byte(9),
        equals(u32::from(UDP)),
        // No fragment of something larger.
        half(6),
        step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0x3fff),
        equals(0),
        // Behind a header whose length it says itself.
        step(libc::BPF_LDX | libc::BPF_MSH | libc::BPF_B, 0),
        step(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 2),
        equals(u32::from(port)),
    ])
}

fn filter_v6(port: u16) -> Vec<libc::sock_filter> {
    filter(vec![
        byte(6),
        equals(u32::from(UDP)),
        byte(7),
        equals(u32::from(HOPS)),
        half(V6_BYTES as u32 + 2),
        equals(u32::from(port)),
    ])
}

/// The sum of RFC 1071.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    // Parts begin at even places: all but the last have even lengths.
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Header and body, with the sum over the addresses too.
fn udp_bytes(port: u16, from: &[u8], to: &[u8], body: &[u8]) -> Vec<u8> {
    let (port, length) = (port.to_be_bytes(), (UDP_BYTES + body.len()) as u16);
    let mut udp = [&port[..], &port, &length.to_be_bytes(), &[0, 0], body].concat();
    let pseudo = [[0, UDP], length.to_be_bytes()].concat();
    // None at all would be a zero.
    let sum = match checksum(&[from, to, &pseudo, &udp]) {
        0 => u16::MAX,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    udp
}

fn packet_v4(port: u16, from: Ipv4Addr, to: Ipv4Addr, body: &[u8]) -> Vec<u8> {
    let udp = udp_bytes(port, &from.octets(), &to.octets(), body);
    let length = ((V4_BYTES + udp.len()) as u16).to_be_bytes();
    // Version and length, no service, no number, "do not fragment".
    let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0x40, 0, HOPS, UDP, 0, 0];
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum = checksum(&[&packet]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(udp);
    packet
}

fn packet_v6(port: u16, from: Ipv6Addr, to: Ipv6Addr, body: &[u8]) -> Vec<u8> {
    let udp = udp_bytes(port, &from.octets(), &to.octets(), body);
    let length = (udp.len() as u16).to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], UDP, HOPS];
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(udp);
    packet
}

/// What the filter let through; its sum is the kernel's to reckon, where a card does it.
fn read(packet: &[u8]) -> Option<Datagram> {
    let (from, to, udp): (IpAddr, IpAddr, &[u8]) = match packet.first()? >> 4 {
        4 => {
            let address = |at| Some(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?.into());
            let header = usize::from(packet.first()? & 0xf) * 4;
            (address(12)?, address(16)?, packet.get(header..)?)
        }
        6 => {
            let address = |at| Some(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?.into());
            (address(8)?, address(24)?, packet.get(V6_BYTES..)?)
        }
        _ => return None,
    };
    // A frame may be longer than what it carries.
    let length = usize::from(u16::from_be_bytes([*udp.get(4)?, *udp.get(5)?]));
    Some(Datagram { from, to, body: udp.get(UDP_BYTES..length)?.to_vec() })
}

#[cfg(test)]
mod tests;

//! Connections that the kernel tracks: listed, and forgotten one by one. A UDP
//! "connection" lives as long as its client keeps sending, so an entry that
//! leads to an endpoint that is gone has to be deleted.

use crate::Error;
use crate::nft::Family;
use crate::route::ip_from;
use crate::wire::{Attrs, Message, NLM_F_ACK, NLM_F_DUMP, Received, Socket};
use rustix::io::Errno;
use std::net::IpAddr;

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const NLA_F_NESTED: u16 = 0x8000;
const NFGENMSG: usize = 4;

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Direction {
    /// Who sends.
    pub source: (IpAddr, u16),
    /// Who receives.
    pub destination: (IpAddr, u16),
}

/// A tracked connection that has ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The transport protocol's number.
    pub protocol: u8,
    /// As the client sent it.
    pub original: Direction,
    /// As the answer comes: its source is the real server.
    pub reply: Direction,
    family: Family,
    /// The original tuple as the kernel wrote it, to name the entry by.
    tuple: Vec<u8>,
}

/// A connection to conntrack, bound to the network namespace it was opened in.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    /// Opens a netlink socket.
    ///
    /// # Errors
    /// No netfilter in the kernel, or no descriptor left.
    pub fn open() -> Result<Self, Error> {
        Ok(Conntrack { socket: Socket::netfilter()? })
    }

    /// The tracked connections of a family and a transport protocol.
    pub fn list(&self, family: Family, protocol: u8) -> Result<Vec<Connection>, Error> {
        let header = [family as u8, 0, 0, 0];
        let message = Message::new(kind(IPCTNL_MSG_CT_GET), NLM_F_DUMP, &header);
        let answers = self.socket.query(message, || "list tracked connections".into())?;
        let parsed = answers.iter().filter_map(|r| parse(family, r));
        Ok(parsed.filter(|c| c.protocol == protocol).collect())
    }

    /// Forgets a connection. Not an error if it ended by itself.
    pub fn delete(&self, connection: &Connection) -> Result<(), Error> {
        let header = [connection.family as u8, 0, 0, 0];
        let mut message = Message::new(kind(IPCTNL_MSG_CT_DELETE), NLM_F_ACK, &header);
        message.attr(CTA_TUPLE_ORIG | NLA_F_NESTED, &connection.tuple);
        match self.socket.request(message, || "forget a tracked connection".into()) {
            Err(e) if e.errno() == Some(Errno::NOENT) => Ok(()),
            result => result,
        }
    }
}

fn kind(message: u16) -> u16 {
    NFNL_SUBSYS_CTNETLINK << 8 | message
}

fn parse(family: Family, received: &Received) -> Option<Connection> {
    let attrs = Attrs(received.payload.get(NFGENMSG..)?);
    let tuple = attrs.find(CTA_TUPLE_ORIG)?;
    let protocol = *Attrs(tuple).nested(CTA_TUPLE_PROTO).find(CTA_PROTO_NUM)?.first()?;
    Some(Connection {
        protocol,
        original: direction(Attrs(tuple))?,
        reply: direction(attrs.nested(CTA_TUPLE_REPLY))?,
        family,
        tuple: tuple.to_vec(),
    })
}

fn direction(tuple: Attrs<'_>) -> Option<Direction> {
    // IPv4 has source and destination as 1 and 2, IPv6 as 3 and 4.
    let ips = tuple.nested(CTA_TUPLE_IP);
    let ip = |v4, v6| ips.find(v4).or_else(|| ips.find(v6)).and_then(ip_from);
    let ports = tuple.nested(CTA_TUPLE_PROTO);
    let port = |kind| Some(u16::from_be_bytes(ports.find(kind)?.try_into().ok()?));
    Some(Direction {
        source: (ip(1, 3)?, port(CTA_PROTO_SRC_PORT)?),
        destination: (ip(2, 4)?, port(CTA_PROTO_DST_PORT)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;
    use crate::netns::Netns;
    use crate::nft::expr::{CtKey, Expr, Reg};
    use crate::nft::{Batch, Chain, Hook, Nftables, Table};
    use std::net::UdpSocket;

    #[test]
    fn udp_entries_are_listed_and_forgotten() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: making network namespaces needs root");
            return;
        }
        let story = || {
            host::ensure_loopback().unwrap();
            // Connections are tracked only where a rule asks for it.
            let table = Table { family: Family::Ip, name: "test".into() };
            let mut batch = Batch::new();
            batch.add_table(&table);
            let chain = Chain::Base { kind: "filter", hook: Hook::Output, priority: 0 };
            batch.add_chain(&table, "out", &chain);
            batch.add_rule(&table, "out", &[Expr::Ct { key: CtKey::State, to: Reg(0) }]);
            Nftables::open().unwrap().commit(&batch, None).unwrap();

            let server = UdpSocket::bind("127.0.0.1:0").unwrap();
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.send_to(b"x", server.local_addr().unwrap()).unwrap();
            let conntrack = Conntrack::open().unwrap();
            let found = conntrack.list(Family::Ip, 17).unwrap();
            assert_eq!(found.len(), 1);
            let address =
                |s: &UdpSocket| (s.local_addr().unwrap().ip(), s.local_addr().unwrap().port());
            assert_eq!(found[0].original.source, address(&client));
            assert_eq!(found[0].original.destination, address(&server));
            assert_eq!(found[0].reply.source, address(&server));
            assert!(conntrack.list(Family::Ip, 6).unwrap().is_empty());
            conntrack.delete(&found[0]).unwrap();
            conntrack.delete(&found[0]).unwrap();
            assert!(conntrack.list(Family::Ip, 17).unwrap().is_empty());
        };
        Netns::new().unwrap().within(story).unwrap();
    }
}

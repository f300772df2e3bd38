//! nf_tables: tables, chains, sets, maps and rules, written in atomic batches
//! and read back.
//!
//! Numbers are those of linux/netfilter/nf_tables.h; every 32-bit attribute is
//! in network byte order. The kernel compares set keys as plain bytes: addresses
//! and ports are in network order as they are in the packet, while marks and
//! `numgen` results are in the machine's.
//!
//! Start with [`Batch`], then [`expr`] for what rules are made of.

pub mod expr;

mod batch;
mod client;

pub use batch::{Batch, Chain, Element, Hook, Set};
pub use client::Nftables;

use crate::wire::Message;
use expr::Verdict;

/// Whose packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    /// IPv4.
    Ip = 2,
    /// IPv6.
    Ip6 = 10,
}

/// A table's name and family, which is how everything in it is addressed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table {
    /// Whose packets it sees.
    pub family: Family,
    /// Unique in its family.
    pub name: String,
}

/// The value of a map's element or of an immediate expression.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// Bytes as they shall stand in registers.
    Value(Vec<u8>),
    /// What to do with the packet.
    Verdict(Verdict),
}

/// The type of a set's key or a map's data, a concatenation of fields. The
/// kernel only needs the length; the fields make listings by `nft` readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataType(pub Vec<Field>);

/// One field of a [`DataType`]; each takes whole 32-bit registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A transport protocol's number, one byte and three of padding.
    InetProto,
    /// A port, two bytes and two of padding.
    InetService,
    /// A number in the machine's byte order.
    Mark,
    /// An interface name, 16 bytes.
    IfName,
    /// A verdict, as a map's only data.
    Verdict,
}

impl Field {
    /// nft's number of the type, and bytes in registers.
    fn describe(self) -> (u32, u32) {
        match self {
            Field::Ipv4 => (7, 4),
            Field::Ipv6 => (8, 16),
            Field::InetProto => (12, 4),
            Field::InetService => (13, 4),
            Field::Mark => (19, 4),
            Field::IfName => (41, 16),
            Field::Verdict => (NFT_DATA_VERDICT, 16),
        }
    }
}

impl DataType {
    /// Six bits a field, the last field lowest.
    fn id(&self) -> u32 {
        match self.0.as_slice() {
            [Field::Verdict] => NFT_DATA_VERDICT,
            fields => fields.iter().fold(0, |id, field| id << 6 | field.describe().0),
        }
    }

    /// Bytes.
    fn len(&self) -> u32 {
        self.0.iter().map(|field| field.describe().1).sum()
    }
}

const NFT_DATA_VERDICT: u32 = 0xffff_ff00;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;

const NFNL_SUBSYS_NFTABLES: u16 = 10;

/// The `nlmsg_type` of an nf_tables message.
fn kind(message: u16) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | message
}

impl Message {
    /// `struct nft_data` as attributes.
    fn data(&mut self, kind: u16, data: &Data) -> &mut Self {
        self.nest(kind, |m| match data {
            Data::Value(bytes) => {
                m.attr(NFTA_DATA_VALUE, bytes);
            }
            Data::Verdict(verdict) => {
                m.nest(NFTA_DATA_VERDICT, |m| {
                    let (code, chain) = verdict.code();
                    m.be32(NFTA_VERDICT_CODE, code);
                    if let Some(chain) = chain {
                        m.text(NFTA_VERDICT_CHAIN, chain);
                    }
                });
            }
        })
    }
}

#[cfg(test)]
mod tests;

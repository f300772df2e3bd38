//! What rules are made of: expressions that move packet data through sixteen
//! 32-bit registers until one of them decides.

use super::{Data, Family};
use crate::wire::Message;
use std::time::Duration;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
/// The first of the 32-bit registers.
const NFT_REG32_00: u32 = 8;

/// A 32-bit register, 0 to 15. Longer values take the ones behind it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reg(pub u8);

impl Reg {
    fn number(self) -> u32 {
        NFT_REG32_00 + u32::from(self.0)
    }
}

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// On to the next hook.
    Accept,
    /// Away.
    Drop,
    /// Back to the calling chain.
    Return,
    /// Into a chain, and back here.
    Jump(String),
    /// Into a chain, and back to the caller of this one.
    Goto(String),
}

impl Verdict {
    pub(super) fn code(&self) -> (u32, Option<&str>) {
        match self {
            Verdict::Drop => (0, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3_i32 as u32, Some(chain)),
            Verdict::Goto(chain) => (-4_i32 as u32, Some(chain)),
            Verdict::Return => (-5_i32 as u32, None),
        }
    }

    pub(super) fn from_code(code: u32, chain: Option<String>) -> Option<Self> {
        Some(match (code as i32, chain) {
            (0, _) => Verdict::Drop,
            (1, _) => Verdict::Accept,
            (-3, Some(chain)) => Verdict::Jump(chain),
            (-4, Some(chain)) => Verdict::Goto(chain),
            (-5, _) => Verdict::Return,
            _ => return None,
        })
    }
}

/// Where payload offsets count from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Base {
    Network = 1,
    Transport = 2,
}

/// What is known about a packet beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MetaKey {
    Mark = 3,
    IifName = 6,
    OifName = 7,
    NfProto = 15,
    L4Proto = 16,
}

/// What conntrack knows about a packet's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CtKey {
    /// A bit set: [`CT_STATE_INVALID`], [`CT_STATE_NEW`], ...
    State = 0,
    /// A bit set: [`CT_STATUS_DNAT`], ...
    Status = 2,
    /// The connection's mark.
    Mark = 3,
}

/// Bits of [`CtKey::State`].
pub const CT_STATE_INVALID: u32 = 1;
/// Bits of [`CtKey::State`].
pub const CT_STATE_ESTABLISHED: u32 = 1 << 1;
/// Bits of [`CtKey::State`].
pub const CT_STATE_NEW: u32 = 1 << 3;
/// Bits of [`CtKey::Status`], enum ip_conntrack_status.
pub const CT_STATUS_DNAT: u32 = 1 << 5;

/// A comparison, of bytes from the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Cmp {
    Eq = 0,
    Neq = 1,
    Lt = 2,
    Lte = 3,
    Gt = 4,
    Gte = 5,
}

/// How a packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// ICMP port unreachable (`ECONNREFUSED`) from a table of this family.
    PortUnreachable(Family),
    /// A TCP reset; the rule must have made sure that it is TCP.
    TcpReset,
}

impl Reject {
    /// Type and code. A table of one family takes that family's ICMP codes, an
    /// inet table abstract ones.
    fn numbers(self) -> (u32, Option<u8>) {
        match self {
            Reject::PortUnreachable(Family::Ip) => (0, Some(3)),
            Reject::PortUnreachable(Family::Ip6) => (0, Some(4)),
            Reject::PortUnreachable(Family::Inet) => (2, Some(1)),
            Reject::TcpReset => (1, None),
        }
    }
}

/// What a fib expression looks up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fib {
    /// One if there is a route back to the source through the interface that
    /// the packet came in by, else zero.
    SourceRouteExists,
    /// The kind of the destination address: [`RTN_LOCAL`], ...
    DestinationType,
}

/// `fib daddr type local`
pub const RTN_LOCAL: u32 = 2;

/// What a rule does to a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DynsetOp {
    /// Adds an element, unless it is there.
    Add = 0,
    /// Adds an element, or renews its timeout.
    Update = 1,
    /// Deletes an element.
    Delete = 2,
}

/// Addresses and ports of a translation stand in these registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatKind {
    /// The source.
    Source = 0,
    /// The destination.
    Destination = 1,
}

/// One expression. A rule's expressions run from left to right until one of
/// them does not match.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Expr {
    /// Packet bytes into a register.
    Payload { base: Base, offset: u32, len: u32, to: Reg },
    /// Something known about the packet into a register.
    Meta { key: MetaKey, to: Reg },
    /// A register into the packet's mark.
    SetMark { from: Reg },
    /// Something known about the connection into a register.
    Ct { key: CtKey, to: Reg },
    /// Goes on if the register's bytes compare.
    Compare { op: Cmp, from: Reg, data: Vec<u8> },
    /// Goes on if the register's bytes lie in (or, negated, outside of) a range.
    Range { negate: bool, from: Reg, low: Vec<u8>, high: Vec<u8> },
    /// `to = from & mask ^ xor`
    Bitwise { from: Reg, to: Reg, mask: Vec<u8>, xor: Vec<u8> },
    /// Goes on if the set has the key; a map gives its data too.
    Lookup { set: String, from: Reg, to: Option<Reg>, negate: bool },
    /// Decides as the verdict map says, or goes on if it has no such key.
    VerdictMap { map: String, from: Reg },
    /// Bytes into a register.
    Immediate { to: Reg, value: Vec<u8> },
    /// Decides.
    Verdict(Verdict),
    /// A random number below `modulus` into a register, machine byte order.
    Random { to: Reg, modulus: u32 },
    /// Counts up, modulo.
    Increment { to: Reg, modulus: u32 },
    /// Translates; `family` is 2 for IPv4 and 10 for IPv6.
    Nat { kind: NatKind, family: u32, address: Reg, port: Option<Reg> },
    /// The source becomes the outgoing interface's address; `random` chooses
    /// source ports so that two connections do not race for one.
    Masquerade { random: bool },
    /// Refuses with an answer.
    Reject(Reject),
    /// Counts packets and bytes, for `nft list`.
    Counter,
    /// Writes a kernel log line.
    Log { prefix: String },
    /// Writes an element of a set or map; `data` for a map.
    Dynset { set: String, op: DynsetOp, key: Reg, data: Option<Reg>, timeout: Option<Duration> },
    /// Asks the routing tables; the result is in the machine's byte order.
    Fib { lookup: Fib, to: Reg },
}

impl Expr {
    /// Appends the expression to a rule's list.
    pub(super) fn encode(&self, message: &mut Message) {
        let mut name = |name: &str, fill: &dyn Fn(&mut Message)| {
            message.nest(NFTA_LIST_ELEM, |m| {
                m.text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, fill);
            });
        };
        let value = |bytes: &[u8]| Data::Value(bytes.to_vec());
        match self {
            Expr::Payload { base, offset, len, to } => name("payload", &|m| {
                m.be32(1, to.number()).be32(2, *base as u32).be32(3, *offset).be32(4, *len);
            }),
            Expr::Meta { key, to } => name("meta", &|m| {
                m.be32(1, to.number()).be32(2, *key as u32);
            }),
            Expr::SetMark { from } => name("meta", &|m| {
                m.be32(2, MetaKey::Mark as u32).be32(3, from.number());
            }),
            Expr::Ct { key, to } => name("ct", &|m| {
                m.be32(1, to.number()).be32(2, *key as u32);
            }),
            Expr::Compare { op, from, data } => name("cmp", &|m| {
                m.be32(1, from.number()).be32(2, *op as u32).data(3, &value(data));
            }),
            Expr::Range { negate, from, low, high } => name("range", &|m| {
                m.be32(1, from.number()).be32(2, u32::from(*negate));
                m.data(3, &value(low)).data(4, &value(high));
            }),
            Expr::Bitwise { from, to, mask, xor } => name("bitwise", &|m| {
                m.be32(1, from.number()).be32(2, to.number()).be32(3, mask.len() as u32);
                m.data(4, &value(mask)).data(5, &value(xor));
            }),
            Expr::Lookup { set, from, to, negate } => name("lookup", &|m| {
                m.text(1, set).be32(2, from.number());
                if let Some(to) = to {
                    m.be32(3, to.number());
                }
                if *negate {
                    m.be32(5, 1);
                }
            }),
            Expr::VerdictMap { map, from } => name("lookup", &|m| {
                // Register zero is the verdict.
                m.text(1, map).be32(2, from.number()).be32(3, 0);
            }),
            Expr::Immediate { to, value: bytes } => name("immediate", &|m| {
                m.be32(1, to.number()).data(2, &value(bytes));
            }),
            Expr::Verdict(verdict) => name("immediate", &|m| {
                m.be32(1, 0).data(2, &Data::Verdict(verdict.clone()));
            }),
            Expr::Increment { to, modulus } => name("numgen", &|m| {
                m.be32(1, to.number()).be32(2, *modulus).be32(3, 0);
            }),
            Expr::Random { to, modulus } => name("numgen", &|m| {
                m.be32(1, to.number()).be32(2, *modulus).be32(3, 1);
            }),
            Expr::Nat { kind, family, address, port } => name("nat", &|m| {
                m.be32(1, *kind as u32).be32(2, *family).be32(3, address.number());
                if let Some(port) = port {
                    m.be32(5, port.number());
                }
            }),
            Expr::Masquerade { random } => name("masq", &|m| {
                // NF_NAT_RANGE_PROTO_RANDOM_FULLY
                if *random {
                    m.be32(1, 1 << 4);
                }
            }),
            Expr::Reject(reject) => name("reject", &|m| {
                let (kind, code) = reject.numbers();
                m.be32(1, kind);
                if let Some(code) = code {
                    m.attr(2, &[code]);
                }
            }),
            Expr::Counter => name("counter", &|_| {}),
            Expr::Log { prefix } => name("log", &|m| {
                m.text(2, prefix);
            }),
            Expr::Dynset { set, op, key, data, timeout } => name("dynset", &|m| {
                m.text(1, set).be32(3, *op as u32).be32(4, key.number());
                if let Some(data) = data {
                    m.be32(5, data.number());
                }
                if let Some(timeout) = timeout {
                    m.attr(6, &super::batch::milliseconds(*timeout));
                }
            }),
            Expr::Fib { lookup, to } => name("fib", &|m| {
                // Result: 1 is an interface, 3 an address type. Flags: source
                // and incoming interface, existence only; or destination.
                let (result, flags) = match lookup {
                    Fib::SourceRouteExists => (1, 1 | 1 << 3 | 1 << 5),
                    Fib::DestinationType => (3, 1 << 1),
                };
                m.be32(1, to.number()).be32(2, result).be32(3, flags);
            }),
        }
    }
}

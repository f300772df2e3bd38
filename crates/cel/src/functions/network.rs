//! Addresses and blocks of addresses.

use std::{fmt, net::IpAddr};

use super::{
    Function, Library, Outcome, Overload,
    Pattern::{Bool, Int, Opaque, String as Str},
    function, global, member, no,
};
use crate::{cost::Cost, fault::Fault, value::Value};

const IP: super::Pattern = Opaque("net.IP");
const CIDR: super::Pattern = Opaque("net.CIDR");
const PARSE: Cost = Cost::Parse { sized: false };

pub(super) const FUNCTIONS: &[Function] = &[
    row("ip", &[global(&[Str], IP, PARSE), member(&[CIDR], IP, Cost::Unit)], |args| match args {
        [Value::String(text)] => Ok(Value::Ip(address(text).map_err(Fault::new)?)),
        [Value::Cidr(cidr)] => Ok(Value::Ip(cidr.address)),
        _ => no(),
    }),
    row("isIP", &[global(&[Str], Bool, PARSE)], |args| match args {
        [Value::String(text)] => Ok(Value::Bool(address(text).is_ok())),
        _ => no(),
    }),
    row("ip.isCanonical", &[global(&[Str], Bool, Cost::ParseTwice)], |args| match args {
        [Value::String(text)] => {
            let address = address(text).map_err(Fault::new)?;
            Ok(Value::Bool(address.to_string() == text[..]))
        }
        _ => no(),
    }),
    row("family", &[member(&[IP], Int, Cost::Unit)], |args| match args {
        [Value::Ip(address)] => Ok(Value::Int(if address.is_ipv4() { 4 } else { 6 })),
        _ => no(),
    }),
    row("isUnspecified", TEST, |args| test(args, |ip| ip.is_unspecified())),
    row("isLoopback", TEST, |args| test(args, |ip| ip.is_loopback())),
    row("isLinkLocalMulticast", TEST, |args| test(args, is_link_local_multicast)),
    row("isLinkLocalUnicast", TEST, |args| test(args, is_link_local)),
    row("isGlobalUnicast", TEST, |args| {
        test(args, |ip| {
            let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
            !(broadcast
                || ip.is_unspecified()
                || ip.is_loopback()
                || ip.is_multicast()
                || is_link_local(ip))
        })
    }),
    row("cidr", &[global(&[Str], CIDR, PARSE)], |args| match args {
        [Value::String(text)] => Ok(Value::Cidr(Cidr::parse(text).map_err(Fault::new)?)),
        _ => no(),
    }),
    row("isCIDR", &[global(&[Str], Bool, PARSE)], |args| match args {
        [Value::String(text)] => Ok(Value::Bool(Cidr::parse(text).is_ok())),
        _ => no(),
    }),
    row(
        "containsIP",
        &[
            member(&[CIDR, Str], Bool, Cost::ContainsIp { parse: true }),
            member(&[CIDR, IP], Bool, Cost::ContainsIp { parse: false }),
        ],
        |args| match args {
            [Value::Cidr(cidr), Value::Ip(ip)] => Ok(Value::Bool(cidr.contains(*ip))),
            [Value::Cidr(cidr), Value::String(text)] => {
                Ok(Value::Bool(cidr.contains(address(text).map_err(Fault::new)?)))
            }
            _ => no(),
        },
    ),
    row(
        "containsCIDR",
        &[
            member(&[CIDR, Str], Bool, Cost::ContainsCidr { parse: true }),
            member(&[CIDR, CIDR], Bool, Cost::ContainsCidr { parse: false }),
        ],
        |args| match args {
            [Value::Cidr(cidr), Value::Cidr(other)] => Ok(Value::Bool(cidr.contains_all(other))),
            [Value::Cidr(cidr), Value::String(text)] => {
                Ok(Value::Bool(cidr.contains_all(&Cidr::parse(text).map_err(Fault::new)?)))
            }
            _ => no(),
        },
    ),
    row("masked", &[member(&[CIDR], CIDR, Cost::Unit)], |args| match args {
        [Value::Cidr(cidr)] => {
            Ok(Value::Cidr(Cidr { address: cidr.network(cidr.address), len: cidr.len }))
        }
        _ => no(),
    }),
    row("prefixLength", &[member(&[CIDR], Int, Cost::Unit)], |args| match args {
        [Value::Cidr(cidr)] => Ok(Value::Int(i64::from(cidr.len))),
        _ => no(),
    }),
];

const TEST: &[Overload] = &[member(&[IP], Bool, Cost::Unit)];

const fn row(
    name: &'static str,
    overloads: &'static [Overload],
    run: for<'a> fn(&[Value<'a>]) -> Outcome<'a>,
) -> Function {
    function(Library::Network, name, overloads, run)
}

fn test<'a>(args: &[Value<'a>], holds: fn(&IpAddr) -> bool) -> Outcome<'a> {
    match args {
        [Value::Ip(address)] => Ok(Value::Bool(holds(address))),
        _ => no(),
    }
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn is_link_local_multicast(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    if text.contains('%') {
        return Err(format!("IP address {text:?} with zone value is not allowed"));
    }
    let address: IpAddr = text.parse().map_err(|_| {
        format!("IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP")
    })?;
    not_mapped(address, text)
}

fn not_mapped(address: IpAddr, text: &str) -> Result<IpAddr, String> {
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        address => Ok(address),
    }
}

/// A block of addresses, with the address it was written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub(crate) address: IpAddr,
    len: u8,
}

impl Cidr {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "network address parse error during conversion from string: netip.ParsePrefix({text:?}): invalid prefix"
            )
        };
        let (address, len) = text.split_once('/').ok_or_else(wrong)?;
        let digits = len.bytes().all(|b| b.is_ascii_digit());
        if !digits || (len.len() > 1 && len.starts_with('0')) {
            return Err(wrong());
        }
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let len: u8 = len.parse().map_err(|_| wrong())?;
        let len_max = if address.is_ipv4() { 32 } else { 128 };
        if len > len_max {
            return Err(wrong());
        }
        Ok(Self { address: not_mapped(address, text)?, len })
    }

    /// The first address of the block of this length that an address is in.
    fn network(&self, address: IpAddr) -> IpAddr {
        let len = u32::from(self.len);
        match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - len).unwrap_or(0);
                IpAddr::V4((u32::from(address) & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - len).unwrap_or(0);
                IpAddr::V6((u128::from(address) & mask).into())
            }
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && self.network(address) == self.network(self.address)
    }

    fn contains_all(&self, other: &Cidr) -> bool {
        self.contains(other.address) && self.len <= other.len
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

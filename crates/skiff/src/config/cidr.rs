//! Ranges of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address range in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The first address.
    pub network: IpAddr,
    /// Leading bits that are fixed.
    pub prefix: u8,
}

impl Cidr {
    /// Reads `10.42.0.0/16`; bits behind the prefix must be zero.
    pub fn parse(text: &str) -> Option<Self> {
        let (network, prefix) = text.split_once('/')?;
        let cidr = Self { network: network.parse().ok()?, prefix: prefix.parse().ok()? };
        let bits = if cidr.network.is_ipv4() { 32 } else { 128 };
        (cidr.prefix <= bits && cidr.nth(0) == Some(cidr.network)).then_some(cidr)
    }

    /// Whether an address is inside.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.network, ip) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                self.masked(ip) == self.network
            }
            _ => false,
        }
    }

    /// The address so many steps behind the first; `None` past the end.
    pub fn nth(&self, n: u32) -> Option<IpAddr> {
        let first = self.masked(self.network);
        let ip = match first {
            IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from(u32::from(ip).checked_add(n)?)),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip).checked_add(n.into())?)),
        };
        (self.masked(ip) == first).then_some(ip)
    }

    fn masked(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(ip) & mask))
            }
            IpAddr::V6(ip) => {
                let mask =
                    u128::MAX.checked_shl(128 - u32::from(self.prefix.min(128))).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(ip) & mask))
            }
        }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

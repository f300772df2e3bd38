//! Address ranges such as `10.43.0.0/16`.

use std::{fmt, net::IpAddr, str::FromStr};

/// IPv4 or IPv6, as `spec.ipFamilies` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `IPv4`.
    V4,
    /// `IPv6`.
    V6,
}

impl Family {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    pub(super) fn of(address: &IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// A range of addresses by prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// All host bits are zero.
    base: IpAddr,
    bits: u8,
}

/// Why a text is no range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseRangeError(String);

impl fmt::Display for ParseRangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ParseRangeError {}

impl Range {
    /// The family of its addresses.
    pub fn family(&self) -> Family {
        Family::of(&self.base)
    }

    fn width(&self) -> u8 {
        if self.base.is_ipv4() { 32 } else { 128 }
    }

    fn mask(&self) -> u128 {
        u128::MAX.checked_shl(u32::from(self.width() - self.bits)).unwrap_or(0)
    }

    /// How many addresses can be handed out: not the first, which names the
    /// network, and for IPv4 not the last, which is its broadcast address.
    pub fn hosts(&self) -> u64 {
        let all = 1u128.checked_shl(u32::from(self.width() - self.bits)).unwrap_or(u128::MAX);
        let hosts = all.saturating_sub(if self.base.is_ipv4() { 2 } else { 1 });
        // Of more, nobody uses the rest.
        u64::try_from(hosts).unwrap_or(u64::MAX)
    }

    /// The first host: `10.43.0.1`.
    pub fn first_host(&self) -> IpAddr {
        match self.base {
            IpAddr::V4(base) => IpAddr::V4((u32::from(base) + 1).into()),
            IpAddr::V6(base) => IpAddr::V6((u128::from(base) + 1).into()),
        }
    }

    /// Whether an address is one of its hosts.
    pub fn has_host(&self, address: &IpAddr) -> bool {
        let host = number(address) & !self.mask();
        let broadcast = self.base.is_ipv4() && host == u128::from(u32::MAX >> self.bits);
        self.contains(address) && host != 0 && !broadcast
    }

    /// Whether an address is in it at all.
    pub fn contains(&self, address: &IpAddr) -> bool {
        Family::of(address) == self.family() && number(address) & self.mask() == number(&self.base)
    }

    /// Whether all addresses of another are in it.
    pub fn covers(&self, other: &Self) -> bool {
        self.bits <= other.bits && self.contains(&other.base)
    }
}

fn number(address: &IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(*address)),
        IpAddr::V6(address) => u128::from(*address),
    }
}

impl FromStr for Range {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, ParseRangeError> {
        let wrong = |what: &str| ParseRangeError(format!("{text:?} is no address range: {what}"));
        let (base, bits) =
            text.split_once('/').ok_or_else(|| wrong("it looks like 10.43.0.0/16"))?;
        let base: IpAddr = base.parse().map_err(|_| wrong("the address is not valid"))?;
        let bits: u8 = bits.parse().map_err(|_| wrong("the prefix length is not a number"))?;
        let width = if base.is_ipv4() { 32 } else { 128 };
        if bits == 0 || bits > width - 2 {
            return Err(wrong("the prefix length leaves no room, or everything"));
        }
        let mask = Self { base, bits }.mask();
        let base = match base {
            IpAddr::V4(base) => {
                IpAddr::V4(u32::try_from(u128::from(u32::from(base)) & mask).unwrap_or(0).into())
            }
            IpAddr::V6(base) => IpAddr::V6((u128::from(base) & mask).into()),
        };
        Ok(Self { base, bits })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_a_range() {
        let range: Range = "10.43.7.9/16".parse().expect("range");
        assert_eq!(range.to_string(), "10.43.0.0/16");
        assert_eq!((range.hosts(), range.first_host().to_string()), (65_534, "10.43.0.1".into()));
        for (address, is_host) in [
            ("10.43.0.1", true),
            ("10.43.255.254", true),
            ("10.43.0.0", false),
            ("10.43.255.255", false),
            ("10.44.0.1", false),
            ("::1", false),
        ] {
            assert_eq!(range.has_host(&address.parse().expect("address")), is_host, "{address}");
        }
        let six: Range = "fd00:43::/112".parse().expect("range");
        assert_eq!((six.hosts(), six.first_host().to_string()), (65_535, "fd00:43::1".into()));
        assert!(six.has_host(&"fd00:43::ffff".parse().expect("address")));
        for (other, covered) in [
            ("10.43.9.0/24", true),
            ("10.43.0.0/16", true),
            ("10.42.0.0/15", false),
            ("fd00::/24", false),
        ] {
            assert_eq!(range.covers(&other.parse().expect("range")), covered, "{other}");
        }
        for text in ["", "10.43.0.0", "10.43.0.0/33", "10.43.0.0/0", "x/16", "10.43.0.0/31"] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_range_panics(text in "[0-9a-f.:/]{0,24}") {
            if let Ok(range) = text.parse::<Range>() {
                proptest::prop_assert!(range.has_host(&range.first_host()));
                proptest::prop_assert!(range.covers(&range));
            }
        }
    }
}

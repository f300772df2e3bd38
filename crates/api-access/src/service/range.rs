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

/// As many addresses of one range are used at most, as upstream.
const HOSTS_MAX: u128 = 1 << 20;

impl Range {
    /// The family of its addresses.
    pub fn family(&self) -> Family {
        Family::of(&self.base)
    }

    fn width(&self) -> u8 {
        if self.base.is_ipv4() { 32 } else { 128 }
    }

    fn base_number(&self) -> u128 {
        number(&self.base)
    }

    /// How many addresses can be handed out: not the first, which names the
    /// network, and for IPv4 not the last, which is its broadcast address.
    pub fn hosts(&self) -> u64 {
        let all = 1u128.checked_shl(u32::from(self.width() - self.bits)).unwrap_or(u128::MAX);
        let hosts = all.saturating_sub(if self.base.is_ipv4() { 2 } else { 1 });
        u64::try_from(hosts.min(HOSTS_MAX)).unwrap_or(u64::MAX)
    }

    /// The `n`th host, from 0: `10.43.0.1`.
    pub fn host(&self, n: u64) -> IpAddr {
        let number = self.base_number() + 1 + u128::from(n);
        match self.base {
            IpAddr::V4(_) => IpAddr::V4(u32::try_from(number).unwrap_or(u32::MAX).into()),
            IpAddr::V6(_) => IpAddr::V6(number.into()),
        }
    }

    /// Which host an address is; `None` outside.
    pub fn position(&self, address: &IpAddr) -> Option<u64> {
        if Family::of(address) != self.family() {
            return None;
        }
        let n = number(address).checked_sub(self.base_number())?.checked_sub(1)?;
        u64::try_from(n).ok().filter(|n| *n < self.hosts())
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
        let mask = u128::MAX.checked_shl(u32::from(width - bits)).unwrap_or(0);
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
        assert_eq!((range.hosts(), range.host(0).to_string()), (65_534, "10.43.0.1".to_owned()));
        assert_eq!(range.host(65_533).to_string(), "10.43.255.254");
        for (address, position) in [
            ("10.43.0.1", Some(0)),
            ("10.43.0.0", None),
            ("10.43.255.255", None),
            ("10.44.0.1", None),
            ("::1", None),
        ] {
            assert_eq!(range.position(&address.parse().expect("address")), position, "{address}");
        }
        let six: Range = "fd00:43::/112".parse().expect("range");
        assert_eq!((six.hosts(), six.host(0).to_string()), (65_535, "fd00:43::1".to_owned()));
        for text in ["", "10.43.0.0", "10.43.0.0/33", "10.43.0.0/0", "x/16", "10.43.0.0/31"] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_range_panics(text in "[0-9a-f.:/]{0,24}") {
            if let Ok(range) = text.parse::<Range>() {
                let last = range.hosts() - 1;
                proptest::prop_assert_eq!(range.position(&range.host(last)), Some(last));
            }
        }
    }
}

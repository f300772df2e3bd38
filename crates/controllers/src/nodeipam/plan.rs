//! Which share a node gets: a pure function.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The prefix of a node's share: 254 pods, or as many as anybody likes.
const NODE_PREFIX_V4: u8 = 24;
const NODE_PREFIX_V6: u8 = 64;
/// Shares that are looked at; a range with more has room for any cluster.
const SHARES_MAX: u128 = 1 << 16;

/// One of the cluster's pod networks, cut into shares of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodRange {
    first: u128,
    v4: bool,
    prefix: u8,
}

/// Why a network cannot be cut into shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeError(String);

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RangeError {}

impl PodRange {
    /// The range from its first address and prefix length.
    ///
    /// # Errors
    /// Where the prefix is longer than its family's addresses.
    pub fn new(network: IpAddr, prefix: u8) -> Result<Self, RangeError> {
        let (first, bits) = match network {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32),
            IpAddr::V6(ip) => (ip.to_bits(), 128),
        };
        match prefix <= bits {
            true => Ok(Self { first, v4: network.is_ipv4(), prefix }),
            false => Err(RangeError(format!("{network}/{prefix} is no network"))),
        }
    }

    /// A network that is smaller than a share is one node's.
    fn share_prefix(self) -> u8 {
        let usual = if self.v4 { NODE_PREFIX_V4 } else { NODE_PREFIX_V6 };
        usual.max(self.prefix)
    }

    fn shares(self) -> impl Iterator<Item = Share> {
        let prefix = self.share_prefix();
        let count = 1u128.checked_shl(u32::from(prefix - self.prefix)).unwrap_or(SHARES_MAX);
        let bits = if self.v4 { 32 } else { 128 };
        let step = 1u128.checked_shl(bits - u32::from(prefix)).unwrap_or(0);
        (0..count.min(SHARES_MAX)).map(move |n| Share {
            first: self.first + n * step,
            v4: self.v4,
            prefix,
        })
    }
}

/// A node's part of a [`PodRange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Share {
    first: u128,
    v4: bool,
    prefix: u8,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.v4 {
            // An address of that family has no more bits.
            true => write!(f, "{}/{}", Ipv4Addr::from_bits(self.first as u32), self.prefix),
            false => write!(f, "{}/{}", Ipv6Addr::from_bits(self.first), self.prefix),
        }
    }
}

impl Share {
    /// The first and the last address of a CIDR in text form.
    fn read(text: &str) -> Option<(bool, u128, u128)> {
        let (address, prefix) = text.split_once('/')?;
        let prefix: u32 = prefix.parse().ok()?;
        let (v4, address, bits) = match address.parse().ok()? {
            IpAddr::V4(ip) => (true, u128::from(ip.to_bits()), 32u32),
            IpAddr::V6(ip) => (false, ip.to_bits(), 128),
        };
        let rest = 1u128.checked_shl(bits.checked_sub(prefix)?).map_or(u128::MAX, |size| size - 1);
        Some((v4, address & !rest, address | rest))
    }

    fn last(self) -> u128 {
        let bits = if self.v4 { 32 } else { 128 };
        self.first + (1u128.checked_shl(bits - u32::from(self.prefix)).unwrap_or(0)).wrapping_sub(1)
    }
}

/// The first free share of every range; `None` where one of them has none.
/// `taken` are the shares of all other nodes as they are written there, which
/// may be of other sizes and of ranges that are no longer ours.
pub(super) fn share(ranges: &[PodRange], taken: &BTreeSet<String>) -> Option<Vec<String>> {
    let taken: Vec<_> = taken.iter().filter_map(|text| Share::read(text)).collect();
    let free = |share: &Share| {
        let meets = |&(v4, first, last): &(bool, u128, u128)| {
            v4 == share.v4 && first <= share.last() && share.first <= last
        };
        !taken.iter().any(meets)
    };
    ranges.iter().map(|range| range.shares().find(free).map(|share| share.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ranges: &[&str], taken: &[&str], expected: Option<&[&str]>) {
        let range = |text: &&str| {
            let (ip, prefix) = text.split_once('/').expect("a network");
            let (ip, prefix) = (ip.parse().expect("an address"), prefix.parse().expect("a length"));
            PodRange::new(ip, prefix).expect("valid")
        };
        let ranges: Vec<PodRange> = ranges.iter().map(range).collect();
        let taken = taken.iter().map(|text| (*text).to_owned()).collect();
        let expected = expected.map(|e| e.iter().map(|text| (*text).to_owned()).collect());
        assert_eq!(share(&ranges, &taken), expected);
    }

    #[test]
    fn the_first_free_share_of_each_family() {
        let dual = ["10.42.0.0/16", "fd42::/56"];
        check(&dual, &[], Some(&["10.42.0.0/24", "fd42::/64"]));
        let first = ["10.42.0.0/24", "fd42::/64"];
        check(&dual, &first, Some(&["10.42.1.0/24", "fd42:0:0:1::/64"]));
        // What went away is given out again.
        check(&["10.42.0.0/16"], &["10.42.1.0/24"], Some(&["10.42.0.0/24"]));
    }

    #[test]
    fn shares_of_other_sizes_are_kept_clear_of() {
        check(&["10.42.0.0/16"], &["10.42.0.0/23", "junk"], Some(&["10.42.2.0/24"]));
        check(&["10.42.0.0/16"], &["10.42.0.128/25"], Some(&["10.42.1.0/24"]));
        check(&["10.42.0.0/16"], &["10.0.0.0/8"], None);
    }

    #[test]
    fn a_small_range_is_for_few_nodes() {
        check(&["10.42.7.0/25"], &[], Some(&["10.42.7.0/25"]));
        check(&["10.42.7.0/25"], &["10.42.7.0/25"], None);
        check(&["0.0.0.0/0"], &[], Some(&["0.0.0.0/24"]));
        check(&["::/0"], &["::/64"], Some(&["0:0:0:1::/64"]));
        assert!(PodRange::new("10.0.0.0".parse().expect("ip"), 33).is_err());
    }
}

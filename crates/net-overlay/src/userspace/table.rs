//! Which peer has an address: the longest network that holds it. Pure.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use netlink::overlay::Network;

/// Networks and whose they are. Those of a cluster have one length a family, so
/// that finding one is one look, however many nodes there are.
#[derive(Debug)]
pub(super) struct Table<T> {
    networks: HashMap<Network, T>,
    /// Of each family, the longest first.
    lengths_v4: Vec<u8>,
    lengths_v6: Vec<u8>,
}

impl<T> Table<T> {
    pub(super) fn new(networks: impl IntoIterator<Item = (Network, T)>) -> Self {
        let networks: HashMap<Network, T> = networks
            .into_iter()
            .map(|((ip, prefix), of)| ((masked(ip, prefix), prefix), of))
            .collect();
        let lengths = |v4: bool| {
            let all: BTreeSet<u8> =
                networks.keys().filter(|(ip, _)| ip.is_ipv4() == v4).map(|(_, n)| *n).collect();
            all.into_iter().rev().collect()
        };
        let (lengths_v4, lengths_v6) = (lengths(true), lengths(false));
        Self { networks, lengths_v4, lengths_v6 }
    }

    pub(super) fn find(&self, ip: IpAddr) -> Option<&T> {
        let lengths = if ip.is_ipv4() { &self.lengths_v4 } else { &self.lengths_v6 };
        lengths.iter().find_map(|prefix| self.networks.get(&(masked(ip, *prefix), *prefix)))
    }
}

/// The network's first address.
fn masked(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0);
            IpAddr::V4((ip.to_bits() & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix.into())).unwrap_or(0);
            IpAddr::V6((ip.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_network_has_the_address() {
        let network = |text: &str| -> Network {
            let (ip, prefix) = text.split_once('/').expect("a network");
            (ip.parse().expect("an address"), prefix.parse().expect("a length"))
        };
        let table = Table::new(
            ["10.42.1.0/24", "10.42.2.0/24", "10.42.2.128/25", "fd42:0:0:1::/64", "0.0.0.0/0"]
                .map(|text| (network(text), text)),
        );
        for (ip, expected) in [
            ("10.42.1.0", Some("10.42.1.0/24")),
            ("10.42.1.255", Some("10.42.1.0/24")),
            ("10.42.2.127", Some("10.42.2.0/24")),
            ("10.42.2.128", Some("10.42.2.128/25")),
            ("10.42.3.1", Some("0.0.0.0/0")),
            ("fd42:0:0:1::9", Some("fd42:0:0:1::/64")),
            ("fd42:0:0:2::9", None),
        ] {
            assert_eq!(table.find(ip.parse().expect("an address")).copied(), expected, "{ip}");
        }
    }
}

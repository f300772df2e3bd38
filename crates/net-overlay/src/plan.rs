//! From the nodes there are to the routes there should be. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use netlink::overlay::{Device, Network, Reach, Tunnel, Via, Wanted};

/// What VXLAN puts around a packet: Ethernet, IP, UDP and its own header.
const VXLAN_BYTES_V4: u32 = 50;
const VXLAN_BYTES_V6: u32 = 70;
/// What pods get where nothing is known of any link.
const MTU_USUAL: u32 = 1500;
/// The least that IPv6 allows.
const MTU_MIN: u32 = 1280;

/// How nodes are to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Directly on one segment, by VXLAN elsewhere.
    Auto,
    /// Directly, and not at all elsewhere.
    Direct,
    /// By VXLAN.
    Vxlan,
}

/// What is known of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its own addresses, the first one first.
    pub addresses: Vec<IpAddr>,
    /// Where its pods are, at most one network of each family.
    pub pods: Vec<Network>,
}

/// All that the plan follows from.
#[derive(Debug)]
pub struct View<'a> {
    /// This node's name.
    pub me: &'a str,
    /// All nodes by name, this one among them.
    pub nodes: &'a BTreeMap<String, Peer>,
    /// How their addresses are reached.
    pub reach: &'a BTreeMap<IpAddr, Reach>,
    /// The operator's choice.
    pub mode: Mode,
}

/// What should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// For the kernel.
    pub wanted: Wanted,
    /// The largest packet of pods that gets everywhere.
    pub pod_mtu: u32,
    /// Nodes whose pods cannot be reached.
    pub unreachable: Vec<String>,
}

/// The plan of one node.
pub fn plan(view: &View<'_>) -> Plan {
    let mut plan = Plan { pod_mtu: MTU_USUAL, ..Plan::default() };
    let nothing = Peer::default();
    let me = view.nodes.get(view.me).unwrap_or(&nothing);
    // The family of the other ends is one for all: that of our first address.
    let v6 = me.addresses.first().is_some_and(IpAddr::is_ipv6);
    let mut tunnel_mtu: Option<u32> = None;
    for (name, peer) in view.nodes.iter().filter(|(name, _)| *name != view.me) {
        let known = |ip: &IpAddr| view.reach.get(ip).map(|reach| (*ip, *reach));
        let reached: Vec<(IpAddr, Reach)> = peer.addresses.iter().filter_map(known).collect();
        let direct = match view.mode {
            Mode::Vxlan => None,
            Mode::Auto | Mode::Direct => all_direct(peer, &reached),
        };
        if let Some(routes) = direct {
            for (network, via, mtu) in routes {
                plan.wanted.routes.insert(network, via);
                plan.pod_mtu = plan.pod_mtu.min(mtu);
            }
            continue;
        }
        let outer = reached.iter().find(|(ip, _)| ip.is_ipv6() == v6);
        match outer.filter(|_| view.mode != Mode::Direct && !peer.pods.is_empty()) {
            Some((to, reach)) => {
                let overhead = if v6 { VXLAN_BYTES_V6 } else { VXLAN_BYTES_V4 };
                let mtu = reach.mtu.saturating_sub(overhead).max(MTU_MIN);
                tunnel_mtu = Some(tunnel_mtu.unwrap_or(mtu).min(mtu));
                let addresses: Vec<IpAddr> = peer.pods.iter().map(|network| network.0).collect();
                for network in &peer.pods {
                    plan.wanted.routes.insert(*network, Via::Tunnel(network.0));
                }
                plan.wanted.tunnels.push(Tunnel { mac: mac(name), to: *to, addresses });
            }
            // It has just registered.
            None if peer.pods.is_empty() || peer.addresses.is_empty() => {}
            None => plan.unreachable.push(name.clone()),
        }
    }
    if let Some(mtu) = tunnel_mtu {
        // The first address of a node's network is no pod's.
        let addresses = me.pods.iter().map(|network| network.0).collect();
        plan.wanted.device = Some(Device { mac: mac(view.me), addresses, mtu, v6 });
        plan.pod_mtu = plan.pod_mtu.min(mtu);
    }
    plan.pod_mtu = plan.pod_mtu.max(MTU_MIN);
    plan
}

/// The direct routes to all of a node's pods, if there are such: each family of
/// pods by an address of that family on our segment.
fn all_direct(peer: &Peer, reached: &[(IpAddr, Reach)]) -> Option<Vec<(Network, Via, u32)>> {
    let routes = peer.pods.iter().map(|network| {
        let on_segment =
            |(ip, reach): &&(IpAddr, Reach)| reach.direct && ip.is_ipv4() == network.0.is_ipv4();
        let (gateway, reach) = reached.iter().find(on_segment)?;
        Some((*network, Via::Direct { gateway: *gateway, link: reach.link }, reach.mtu))
    });
    routes.collect()
}

/// The MAC of a node's device: every node finds the same from the name alone.
fn mac(node: &str) -> [u8; 6] {
    // FNV-1a: stable across versions, which nodes of different ones need.
    let hash = node
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let [a, b, c, d, e, ..] = hash.to_be_bytes();
    // Administered locally, and no group's.
    [0x02, a, b, c, d, e]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn node(addresses: &[&str], pods: &[&str]) -> Peer {
        let network = |text: &&str| {
            let (ip_text, prefix) = text.split_once('/').expect("a network");
            (ip(ip_text), prefix.parse().expect("a length"))
        };
        Peer {
            addresses: addresses.iter().map(|a| ip(a)).collect(),
            pods: pods.iter().map(network).collect(),
        }
    }

    /// Addresses of 192.0.2.0/24 and 2001:db8::/64 are on our segment, and all
    /// but 198.51.100.0/24 can be reached.
    fn check(mode: Mode, others: &[(&str, Peer)], expected: &str) {
        let me = node(&["192.0.2.1", "2001:db8::1"], &["10.42.0.0/24", "fd42::/64"]);
        let mut nodes = BTreeMap::from([("me".to_owned(), me)]);
        nodes.extend(others.iter().map(|(name, peer)| ((*name).to_owned(), peer.clone())));
        let mut reach = BTreeMap::new();
        for address in nodes.values().flat_map(|node| &node.addresses) {
            let text = address.to_string();
            let direct = text.starts_with("192.0.2.") || text.starts_with("2001:db8::");
            if !text.starts_with("198.51.100.") {
                reach.insert(*address, Reach { link: 2, mtu: 1500, direct });
            }
        }
        let plan = plan(&View { me: "me", nodes: &nodes, reach: &reach, mode });
        let mut told = Vec::new();
        for ((network, prefix), via) in &plan.wanted.routes {
            told.push(match via {
                Via::Direct { gateway, link } => {
                    format!("{network}/{prefix} by {gateway} on {link}")
                }
                Via::Tunnel(to) => format!("{network}/{prefix} in the tunnel to {to}"),
            });
        }
        for tunnel in &plan.wanted.tunnels {
            told.push(format!("tunnel to {}", tunnel.to));
        }
        if let Some(device) = &plan.wanted.device {
            told.push(format!("device {:?} {}", device.addresses, device.mtu));
        }
        told.extend(plan.unreachable.iter().map(|name| format!("{name} is unreachable")));
        told.push(format!("pods {}", plan.pod_mtu));
        assert_eq!(told.join("\n"), expected);
    }

    #[test]
    fn one_segment_needs_routes_only() {
        check(
            Mode::Auto,
            &[
                ("b", node(&["192.0.2.2", "2001:db8::2"], &["10.42.1.0/24", "fd42:0:0:1::/64"])),
                ("c", node(&["192.0.2.3"], &["10.42.2.0/24"])),
                ("new", node(&["192.0.2.4"], &[])),
                ("newer", node(&[], &["10.42.9.0/24"])),
            ],
            "10.42.1.0/24 by 192.0.2.2 on 2\n\
             10.42.2.0/24 by 192.0.2.3 on 2\n\
             fd42:0:0:1::/64 by 2001:db8::2 on 2\n\
             pods 1500",
        );
    }

    #[test]
    fn a_node_behind_a_router_is_tunnelled_to() {
        check(
            Mode::Auto,
            &[
                ("b", node(&["192.0.2.2"], &["10.42.1.0/24"])),
                ("far", node(&["203.0.113.2"], &["10.42.2.0/24"])),
                // On the segment for one family only.
                ("half", node(&["192.0.2.5"], &["10.42.3.0/24", "fd42:0:0:3::/64"])),
            ],
            "10.42.1.0/24 by 192.0.2.2 on 2\n\
             10.42.2.0/24 in the tunnel to 10.42.2.0\n\
             10.42.3.0/24 in the tunnel to 10.42.3.0\n\
             fd42:0:0:3::/64 in the tunnel to fd42:0:0:3::\n\
             tunnel to 203.0.113.2\n\
             tunnel to 192.0.2.5\n\
             device [10.42.0.0, fd42::] 1450\n\
             pods 1450",
        );
    }

    #[test]
    fn the_operator_chooses() {
        let others = [
            ("b", node(&["192.0.2.2"], &["10.42.1.0/24"])),
            ("far", node(&["203.0.113.2"], &["10.42.2.0/24"])),
            ("gone", node(&["198.51.100.9"], &["10.42.9.0/24"])),
        ];
        check(
            Mode::Vxlan,
            &others,
            "10.42.1.0/24 in the tunnel to 10.42.1.0\n\
             10.42.2.0/24 in the tunnel to 10.42.2.0\n\
             tunnel to 192.0.2.2\n\
             tunnel to 203.0.113.2\n\
             device [10.42.0.0, fd42::] 1450\n\
             gone is unreachable\n\
             pods 1450",
        );
        check(
            Mode::Direct,
            &others,
            "10.42.1.0/24 by 192.0.2.2 on 2\n\
             far is unreachable\n\
             gone is unreachable\n\
             pods 1500",
        );
    }

    #[test]
    fn macs_differ_and_stay() {
        assert_ne!(mac("a"), mac("b"));
        assert_eq!(mac("node-1"), mac("node-1"));
        assert_eq!(mac("node-1")[0] & 3, 2);
    }
}

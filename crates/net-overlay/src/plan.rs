//! From the nodes there are to the routes there should be. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use netlink::{
    overlay::{Device, Network, Reach, Sealed, Tunnel, Via, Wanted},
    wireguard,
};

use crate::{
    PublicKey,
    segment::{Other, Verdict, Way},
};

/// What VXLAN puts around a packet: Ethernet, IP, UDP and its own header.
const VXLAN_BYTES_V4: u32 = 50;
const VXLAN_BYTES_V6: u32 = 70;
/// What WireGuard does: IP, UDP, its own header and the seal at the end.
const WIREGUARD_BYTES_V4: u32 = 60;
const WIREGUARD_BYTES_V6: u32 = 80;
/// What pods get where nothing is known of any link.
const MTU_USUAL: u32 = 1500;
/// The least that IPv6 allows.
const MTU_MIN: u32 = 1280;

/// How nodes are to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Directly on one segment; elsewhere, and where the segment drops what has pods'
    /// addresses, by WireGuard where both have a key, and by VXLAN where not.
    Auto,
    /// Directly, whatever the segment does, and not at all elsewhere.
    Direct,
    /// By VXLAN.
    Vxlan,
    /// By WireGuard, and in no other way.
    Wireguard,
}

/// What is known of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its own addresses, the first one first.
    pub addresses: Vec<IpAddr>,
    /// Where its pods are, at most one network of each family.
    pub pods: Vec<Network>,
    /// By which it is known in WireGuard, where it has said so.
    pub key: Option<PublicKey>,
    /// Whether it says that it is well.
    pub is_ready: bool,
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
    /// What was found out of the networks between, by node.
    pub verdicts: &'a BTreeMap<String, Verdict>,
    /// The operator's choice.
    pub mode: Mode,
    /// This node's own key, where it has one.
    pub key: Option<PublicKey>,
    /// Where every node hears WireGuard.
    pub port: u16,
    /// Where the pods of all nodes are.
    pub cluster: &'a [Network],
}

/// What should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// For the kernel.
    pub wanted: Wanted,
    /// Who is reached by WireGuard.
    pub peers: BTreeMap<PublicKey, wireguard::Peer>,
    /// The largest packet of pods that gets everywhere.
    pub pod_mtu: u32,
    /// Nodes whose pods cannot be reached.
    pub unreachable: Vec<String>,
    /// Nodes on our segment that drops what has pods' addresses.
    pub filtered: Vec<String>,
}

/// Every other node with the direct ways to its pods: none where it is elsewhere, or all
/// is to be tunnelled. `tunnelled` is what is so now.
pub(crate) fn others(view: &View<'_>, tunnelled: &BTreeSet<Network>) -> BTreeMap<String, Other> {
    let nothing = Peer::default();
    let me = view.nodes.get(view.me).unwrap_or(&nothing);
    let others = view.nodes.iter().filter(|(name, _)| *name != view.me);
    let of_node = |(name, peer): (&String, &Peer)| {
        let routes = direct(view, peer, &reached(view, peer)).unwrap_or_default();
        let way = |(network, via, _): (Network, Via, u32)| {
            let Via::Direct { gateway, link } = via else { return None };
            let like = |ip: &IpAddr| ip.is_ipv4() == gateway.is_ipv4();
            // Of a family that we lack, nobody here sends anything.
            let ours = me.pods.iter().map(|network| network.0).find(like)?;
            let node = me.addresses.iter().copied().find(like)?;
            let carrier_changes = view.reach.get(&gateway).map_or(0, |r| r.carrier_changes);
            let (nodes, pods) = ([node, gateway], [ours, network.0]);
            Some(Way { link, carrier_changes, nodes, pods })
        };
        let ways = routes.into_iter().filter_map(way).collect();
        let is_tunnelled = peer.pods.iter().any(|network| tunnelled.contains(network));
        (name.clone(), Other { ways, is_ready: peer.is_ready, is_tunnelled })
    };
    others.map(of_node).collect()
}

fn reached(view: &View<'_>, peer: &Peer) -> Vec<(IpAddr, Reach)> {
    let known = |ip: &IpAddr| view.reach.get(ip).map(|reach| (*ip, *reach));
    peer.addresses.iter().filter_map(known).collect()
}

fn direct(
    view: &View<'_>,
    peer: &Peer,
    reached: &[(IpAddr, Reach)],
) -> Option<Vec<(Network, Via, u32)>> {
    match view.mode {
        Mode::Vxlan | Mode::Wireguard => None,
        Mode::Auto | Mode::Direct => all_direct(peer, reached),
    }
}

/// The plan of one node.
pub fn plan(view: &View<'_>) -> Plan {
    let nothing = Peer::default();
    let me = view.nodes.get(view.me).unwrap_or(&nothing);
    // The family of the other ends is one for all: that of our first address.
    let v6 = me.addresses.first().is_some_and(IpAddr::is_ipv6);
    // Pods that are made before there are other nodes are to fit, too.
    let pod_mtu = match view.mode {
        Mode::Auto | Mode::Direct => MTU_USUAL,
        Mode::Vxlan => inside(MTU_USUAL, vxlan_bytes(v6)),
        Mode::Wireguard => inside(MTU_USUAL, wireguard_bytes(v6)),
    };
    let mut plan = Plan { pod_mtu, ..Plan::default() };
    if view.mode == Mode::Wireguard {
        plan.wanted.refused = view.cluster.to_vec();
    }
    let mut tunnel_mtu: Option<u32> = None;
    let mut sealed_mtu: Option<u32> = None;
    let mut is_on_segment = false;
    for (name, peer) in view.nodes.iter().filter(|(name, _)| *name != view.me) {
        let reached = reached(view, peer);
        let direct = direct(view, peer, &reached);
        is_on_segment |= direct.as_ref().is_some_and(|routes| !routes.is_empty());
        let is_filtered = direct.is_some() && view.verdicts.get(name) == Some(&Verdict::Filtered);
        if is_filtered {
            plan.filtered.push(name.clone());
        }
        if let Some(routes) = direct.filter(|_| !is_filtered || view.mode == Mode::Direct) {
            for (network, via, mtu) in routes {
                plan.wanted.routes.insert(network, via);
                plan.pod_mtu = plan.pod_mtu.min(mtu);
            }
            continue;
        }
        // It has just registered.
        if peer.pods.is_empty() || peer.addresses.is_empty() {
            continue;
        }
        // Both ends find the same: each sees what the other has said.
        let key = peer.key.filter(|_| view.key.is_some());
        let far = match (view.mode, key) {
            (Mode::Direct, _) | (Mode::Wireguard, None) => None,
            (Mode::Auto | Mode::Wireguard, Some(key)) => seal(view, peer, key, &reached),
            (Mode::Auto | Mode::Vxlan, _) => {
                let outer = reached.iter().find(|(ip, _)| ip.is_ipv6() == v6);
                outer.map(|(to, reach)| tunnel(name, peer, *to, reach.mtu))
            }
        };
        match far {
            Some(Far::Tunnel(tunnel, mtu)) => {
                tunnel_mtu = Some(tunnel_mtu.unwrap_or(mtu).min(mtu));
                for network in &peer.pods {
                    plan.wanted.routes.insert(*network, Via::Tunnel(network.0));
                }
                plan.wanted.tunnels.push(tunnel);
            }
            // Two that say they have one key: the second one lies, or is a copy.
            Some(Far::Sealed(key, ..)) if plan.peers.contains_key(&key) => {
                plan.unreachable.push(name.clone());
            }
            Some(Far::Sealed(key, peer, mtu)) => {
                sealed_mtu = Some(sealed_mtu.unwrap_or(mtu).min(mtu));
                for network in &peer.allowed {
                    plan.wanted.routes.insert(*network, Via::Sealed);
                }
                plan.peers.insert(key, peer);
            }
            None => plan.unreachable.push(name.clone()),
        }
    }
    // The first address of a node's network is no pod's.
    let addresses: Vec<IpAddr> = me.pods.iter().map(|network| network.0).collect();
    if is_on_segment {
        // Others ask there whether we hear them, past the kernel, which has nothing to add.
        plan.wanted.silent.clone_from(&addresses);
    }
    if let Some(mtu) = sealed_mtu {
        plan.wanted.sealed = Some(Sealed { addresses: addresses.clone(), mtu });
        plan.pod_mtu = plan.pod_mtu.min(mtu);
    }
    if let Some(mtu) = tunnel_mtu {
        plan.wanted.device = Some(Device { mac: mac(view.me), addresses, mtu, v6 });
        plan.pod_mtu = plan.pod_mtu.min(mtu);
    }
    plan.pod_mtu = plan.pod_mtu.max(MTU_MIN);
    plan
}

/// A node that is not on our segment, and what fits on the way to it.
enum Far {
    Tunnel(Tunnel, u32),
    Sealed(PublicKey, wireguard::Peer, u32),
}

fn tunnel(name: &str, peer: &Peer, to: IpAddr, mtu: u32) -> Far {
    let addresses = peer.pods.iter().map(|network| network.0).collect();
    let inside = inside(mtu, vxlan_bytes(to.is_ipv6()));
    Far::Tunnel(Tunnel { mac: mac(name), to, addresses }, inside)
}

/// Of either family: what is inside need not be of the same.
fn seal(view: &View<'_>, peer: &Peer, key: PublicKey, reached: &[(IpAddr, Reach)]) -> Option<Far> {
    let (to, reach) = reached.first()?;
    // Its device has the first address of each of its networks.
    let allowed = peer.pods.clone();
    let peer = wireguard::Peer { endpoint: SocketAddr::new(*to, view.port), allowed };
    Some(Far::Sealed(key, peer, inside(reach.mtu, wireguard_bytes(to.is_ipv6()))))
}

fn vxlan_bytes(v6: bool) -> u32 {
    if v6 { VXLAN_BYTES_V6 } else { VXLAN_BYTES_V4 }
}

fn wireguard_bytes(v6: bool) -> u32 {
    if v6 { WIREGUARD_BYTES_V6 } else { WIREGUARD_BYTES_V4 }
}

fn inside(mtu: u32, overhead: u32) -> u32 {
    mtu.saturating_sub(overhead).max(MTU_MIN)
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
            key: None,
            is_ready: true,
        }
    }

    fn with_key(key: u8, peer: Peer) -> Peer {
        Peer { key: Some(PublicKey([key; 32])), ..peer }
    }

    /// Addresses of 192.0.2.0/24 and 2001:db8::/64 are on our segment, and all
    /// but 198.51.100.0/24 can be reached.
    fn check(mode: Mode, others: &[(&str, Peer)], expected: &str) {
        check_with(mode, None, others, expected);
    }

    /// The same for a node that has a key.
    fn check_with(mode: Mode, key: Option<u8>, others: &[(&str, Peer)], expected: &str) {
        check_tried(mode, key, others, &[], expected);
    }

    /// And where it was tried what the segment does.
    fn check_tried(
        mode: Mode,
        key: Option<u8>,
        others: &[(&str, Peer)],
        verdicts: &[(&str, Verdict)],
        expected: &str,
    ) {
        let me = node(&["192.0.2.1", "2001:db8::1"], &["10.42.0.0/24", "fd42::/64"]);
        let mut nodes = BTreeMap::from([("me".to_owned(), me)]);
        nodes.extend(others.iter().map(|(name, peer)| ((*name).to_owned(), peer.clone())));
        let mut reach = BTreeMap::new();
        for address in nodes.values().flat_map(|node| &node.addresses) {
            let text = address.to_string();
            let direct = text.starts_with("192.0.2.") || text.starts_with("2001:db8::");
            if !text.starts_with("198.51.100.") {
                let carrier_changes = 7;
                reach.insert(*address, Reach { link: 2, mtu: 1500, direct, carrier_changes });
            }
        }
        let key = key.map(|key| PublicKey([key; 32]));
        let cluster = [(ip("10.42.0.0"), 16)];
        let (nodes, reach) = (&nodes, &reach);
        let verdicts = verdicts.iter().map(|(name, v)| ((*name).to_owned(), *v)).collect();
        let (verdicts, cluster) = (&verdicts, &cluster);
        let view = View { me: "me", nodes, reach, verdicts, mode, key, port: 51820, cluster };
        let plan = plan(&view);
        let tried = super::others(&view, &BTreeSet::new());
        assert_eq!(plan.wanted.silent.is_empty(), tried.values().all(|o| o.ways.is_empty()));
        assert_eq!(plan.wanted.refused.is_empty(), mode != Mode::Wireguard);
        let mut told = Vec::new();
        for ((network, prefix), via) in &plan.wanted.routes {
            told.push(match via {
                Via::Direct { gateway, link } => {
                    format!("{network}/{prefix} by {gateway} on {link}")
                }
                Via::Tunnel(to) => format!("{network}/{prefix} in the tunnel to {to}"),
                Via::Sealed => format!("{network}/{prefix} sealed"),
            });
        }
        for tunnel in &plan.wanted.tunnels {
            told.push(format!("tunnel to {}", tunnel.to));
        }
        for (key, peer) in &plan.peers {
            let allowed = peer.allowed.iter().map(|(ip, prefix)| format!("{ip}/{prefix}"));
            let allowed = allowed.collect::<Vec<_>>().join(" ");
            told.push(format!("peer {} at {} has {allowed}", key.0[0], peer.endpoint));
        }
        if let Some(sealed) = &plan.wanted.sealed {
            told.push(format!("sealed device {:?} {}", sealed.addresses, sealed.mtu));
        }
        if let Some(device) = &plan.wanted.device {
            told.push(format!("device {:?} {}", device.addresses, device.mtu));
        }
        told.extend(plan.filtered.iter().map(|name| format!("{name} is filtered")));
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
    fn what_is_sealed_is_sealed_everywhere_or_not_sent() {
        let others = [
            ("b", with_key(2, node(&["192.0.2.2"], &["10.42.1.0/24", "fd42:0:0:1::/64"]))),
            ("far", with_key(3, node(&["2001:db8:3::2"], &["10.42.2.0/24"]))),
            ("gone", with_key(4, node(&["198.51.100.9"], &["10.42.9.0/24"]))),
            ("old", node(&["192.0.2.5"], &["10.42.5.0/24"])),
            ("new", with_key(6, node(&["192.0.2.6"], &[]))),
            ("twin", with_key(2, node(&["192.0.2.7"], &["10.42.7.0/24"]))),
        ];
        check_with(
            Mode::Wireguard,
            Some(1),
            &others,
            "10.42.1.0/24 sealed\n\
             10.42.2.0/24 sealed\n\
             fd42:0:0:1::/64 sealed\n\
             peer 2 at 192.0.2.2:51820 has 10.42.1.0/24 fd42:0:0:1::/64\n\
             peer 3 at [2001:db8:3::2]:51820 has 10.42.2.0/24\n\
             sealed device [10.42.0.0, fd42::] 1420\n\
             gone is unreachable\n\
             old is unreachable\n\
             twin is unreachable\n\
             pods 1420",
        );
    }

    /// As both ends see it, whichever of them is older or lacks it.
    #[test]
    fn by_itself_it_seals_where_both_can() {
        let far =
            |last: u8| node(&[&format!("203.0.113.{last}")], &[&format!("10.42.{last}.0/24")]);
        let others = [
            ("b", with_key(2, node(&["192.0.2.2"], &["10.42.1.0/24"]))),
            ("c", with_key(3, far(3))),
            ("old", far(4)),
        ];
        check_with(
            Mode::Auto,
            Some(1),
            &others,
            "10.42.1.0/24 by 192.0.2.2 on 2\n\
             10.42.3.0/24 sealed\n\
             10.42.4.0/24 in the tunnel to 10.42.4.0\n\
             tunnel to 203.0.113.4\n\
             peer 3 at 203.0.113.3:51820 has 10.42.3.0/24\n\
             sealed device [10.42.0.0, fd42::] 1440\n\
             device [10.42.0.0, fd42::] 1450\n\
             pods 1440",
        );
        check(
            Mode::Auto,
            &others[1..2],
            "10.42.3.0/24 in the tunnel to 10.42.3.0\n\
             tunnel to 203.0.113.3\n\
             device [10.42.0.0, fd42::] 1450\n\
             pods 1450",
        );
    }

    /// Where packets of pods are dropped on the segment a node is as one elsewhere; where
    /// nobody answers, the routes say.
    #[test]
    fn a_segment_that_filters_is_none() {
        let others = [
            ("b", with_key(2, node(&["192.0.2.2"], &["10.42.1.0/24"]))),
            ("c", with_key(3, node(&["192.0.2.3"], &["10.42.2.0/24"]))),
            ("d", with_key(4, node(&["192.0.2.4"], &["10.42.3.0/24"]))),
            ("old", node(&["192.0.2.5"], &["10.42.5.0/24"])),
            ("far", with_key(6, node(&["203.0.113.2"], &["10.42.6.0/24"]))),
        ];
        let tried = [
            ("b", Verdict::Filtered),
            ("c", Verdict::Segment),
            ("d", Verdict::Unknown),
            ("old", Verdict::Filtered),
            // It was on the segment before.
            ("far", Verdict::Filtered),
        ];
        check_tried(
            Mode::Auto,
            Some(1),
            &others,
            &tried,
            "10.42.1.0/24 sealed\n\
             10.42.2.0/24 by 192.0.2.3 on 2\n\
             10.42.3.0/24 by 192.0.2.4 on 2\n\
             10.42.5.0/24 in the tunnel to 10.42.5.0\n\
             10.42.6.0/24 sealed\n\
             tunnel to 192.0.2.5\n\
             peer 2 at 192.0.2.2:51820 has 10.42.1.0/24\n\
             peer 6 at 203.0.113.2:51820 has 10.42.6.0/24\n\
             sealed device [10.42.0.0, fd42::] 1440\n\
             device [10.42.0.0, fd42::] 1450\n\
             b is filtered\n\
             old is filtered\n\
             pods 1440",
        );
        // The operator knows better, and is told.
        check_tried(
            Mode::Direct,
            None,
            &others[..1],
            &tried[..1],
            "10.42.1.0/24 by 192.0.2.2 on 2\n\
             b is filtered\n\
             pods 1500",
        );
    }

    #[test]
    fn what_is_tried_is_the_direct_way_of_each_family() {
        let nodes = BTreeMap::from([
            ("a".to_owned(), node(&["192.0.2.1", "2001:db8::1"], &["10.42.1.0/24"])),
            (
                "b".to_owned(),
                node(&["2001:db8::2", "192.0.2.2"], &["10.42.2.0/24", "fd42:0:0:2::/64"]),
            ),
            ("far".to_owned(), node(&["203.0.113.2"], &["10.42.3.0/24"])),
        ]);
        let direct = Reach { link: 2, mtu: 1500, direct: true, carrier_changes: 7 };
        let addresses = nodes.values().flat_map(|node| node.addresses.clone());
        let reach: BTreeMap<_, _> = addresses
            .map(|ip| (ip, Reach { direct: ip != nodes["far"].addresses[0], ..direct }))
            .collect();
        let told = |me, mode| {
            let (verdicts, cluster) = (BTreeMap::new(), Vec::new());
            let (nodes, reach, verdicts, cluster) = (&nodes, &reach, &verdicts, &cluster);
            let view = View { me, nodes, reach, verdicts, mode, key: None, port: 1, cluster };
            others(&view, &[(ip("10.42.3.0"), 24)].into())
        };
        let way = |nodes: [&str; 2], pods: [&str; 2]| {
            let (nodes, pods) = (nodes.map(ip), pods.map(ip));
            Way { link: 2, carrier_changes: 7, nodes, pods }
        };
        let to_b = way(["192.0.2.1", "192.0.2.2"], ["10.42.1.0", "10.42.2.0"]);
        for mode in [Mode::Auto, Mode::Direct] {
            let told = told("a", mode);
            assert_eq!(told.len(), 2);
            // A family that one of both lacks is nobody's.
            assert_eq!(told["b"].ways, std::slice::from_ref(&to_b));
            assert!(!told["b"].is_tunnelled);
            assert!(told["far"].ways.is_empty() && told["far"].is_tunnelled);
        }
        // The other end has the same in mind.
        let to_a = way(["192.0.2.2", "192.0.2.1"], ["10.42.2.0", "10.42.1.0"]);
        assert_eq!(told("b", Mode::Auto)["a"].ways, [to_a]);
        for mode in [Mode::Vxlan, Mode::Wireguard] {
            assert!(told("a", mode).values().all(|other| other.ways.is_empty()));
        }
    }

    #[test]
    fn pods_of_the_first_node_fit_what_comes() {
        check(Mode::Auto, &[], "pods 1500");
        check(Mode::Vxlan, &[], "pods 1450");
        check_with(Mode::Wireguard, Some(1), &[], "pods 1440");
    }

    #[test]
    fn macs_differ_and_stay() {
        assert_ne!(mac("a"), mac("b"));
        assert_eq!(mac("node-1"), mac("node-1"));
        assert_eq!(mac("node-1")[0] & 3, 2);
    }
}

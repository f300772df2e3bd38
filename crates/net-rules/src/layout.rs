//! The fixed part of the ruleset: hooks, chains, sets, and the rules of the
//! chains that endpoints are picked in. It is the same for any Services, and for
//! any networks that their addresses are from.
//!
//! | set | key | leads to |
//! |---|---|---|
//! | services | address, protocol, port | the chain that picks |
//! | endpoints | the same and an index | address and port of an endpoint |
//! | refused | address, protocol, port | reject or drop |
//! | masquerade | address, protocol, port | – |
//! | restricted | address, protocol, port | – |
//! | sources | client's range, address, protocol, port | – |
//! | hairpin | address, the same address | – |
//! | networks | range of service addresses, any protocol | – |
//! | affinity | client, address, protocol, port | endpoint, for a while |
//!
//! A connection's first packet finds its chain in `services`: `pick-N` takes a
//! random one of N endpoints, `affinity-T-N` first looks where the client was
//! during the last T seconds. Before that, what `restricted` has is dropped unless
//! its client is in `sources`. For node ports the address is zero, and chains
//! whose names begin with `node-` put that zero in the address's place.

use crate::Config;
use netlink::nft::expr::*;
use netlink::nft::{Chain, DataType, Family, Field, Hook, Set};
use std::net::IpAddr;
use std::time::Duration;

pub(crate) const SERVICES: &str = "services";
pub(crate) const ENDPOINTS: &str = "endpoints";
pub(crate) const REFUSED: &str = "refused";
pub(crate) const MASQUERADE: &str = "masquerade";
pub(crate) const HAIRPIN: &str = "hairpin";
pub(crate) const AFFINITY: &str = "affinity";
pub(crate) const RESTRICTED: &str = "restricted";
/// Its keys are ranges.
pub(crate) const SOURCES: &str = "sources";
/// Its keys are ranges. The protocol is there because the kernel's ranges over
/// one field alone are of another form; an element spans all of them.
pub(crate) const NETWORKS: &str = "networks";
/// The sets whose elements follow from Services and their networks.
pub(crate) const PLANNED: [&str; 8] =
    [SERVICES, ENDPOINTS, REFUSED, MASQUERADE, HAIRPIN, RESTRICTED, SOURCES, NETWORKS];
/// Those whose keys are ranges.
pub(crate) const RANGES: [&str; 2] = [SOURCES, NETWORKS];
/// Where [`REFUSED`] leads for a word to the client.
pub(crate) const REJECT: &str = "reject";

/// Clients that are remembered at a time, over all Services.
const AFFINITY_MAX: u32 = 65_536;
/// The packet mark's bit for "masquerade this", as kube-proxy has it.
const MARK: u32 = 0x4000;

/// Something to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Chain(String, Chain),
    Set(Set),
    Rule(String, Vec<Expr>),
}

/// Where things stand in packets and registers of a family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) family: Family,
    /// 32-bit words of an address.
    words: u8,
    saddr: u32,
    daddr: u32,
    address: Field,
}

impl Layout {
    pub(crate) fn of(family: Family) -> Self {
        match family {
            Family::Ip6 => Layout { family, words: 4, saddr: 8, daddr: 24, address: Field::Ipv6 },
            _ => Layout { family, words: 1, saddr: 12, daddr: 16, address: Field::Ipv4 },
        }
    }

    fn is_v4(self) -> bool {
        self.family == Family::Ip
    }

    fn address(self, offset: u32, to: u8) -> Expr {
        let len = u32::from(self.words) * 4;
        Expr::Payload { base: Base::Network, offset, len, to: Reg(to) }
    }

    /// Address, protocol and port into the registers from `at`, the key of
    /// [`SERVICES`]. On a node port the address is zero.
    fn load_key(self, at: u8, node: bool) -> Vec<Expr> {
        let address = match node {
            true => Expr::Immediate { to: Reg(at), value: vec![0; usize::from(self.words) * 4] },
            false => self.address(self.daddr, at),
        };
        let protocol = Expr::Meta { key: MetaKey::L4Proto, to: Reg(at + self.words) };
        let to = Reg(at + self.words + 1);
        vec![address, protocol, Expr::Payload { base: Base::Transport, offset: 2, len: 2, to }]
    }

    /// Goes on if the address at `offset` is (or, negated, is not) in a network.
    fn in_network(self, offset: u32, network: (IpAddr, u8), negate: bool) -> Vec<Expr> {
        let bits = usize::from(self.words) * 32;
        let mask: Vec<u8> = (0..bits / 8)
            .map(|byte| {
                (0..8)
                    .filter(|bit| byte * 8 + bit < usize::from(network.1))
                    .fold(0, |m, bit| m | 0x80 >> bit)
            })
            .collect();
        let data = octets(network.0).iter().zip(&mask).map(|(a, m)| a & m).collect();
        let xor = vec![0; mask.len()];
        let op = if negate { Cmp::Neq } else { Cmp::Eq };
        vec![
            self.address(offset, 0),
            Expr::Bitwise { from: Reg(0), to: Reg(0), mask, xor },
            Expr::Compare { op, from: Reg(0), data },
        ]
    }

    fn nat(self, at: u8) -> Expr {
        Expr::Nat {
            kind: NatKind::Destination,
            family: self.family as u32,
            address: Reg(at),
            port: Some(Reg(at + self.words)),
        }
    }

    /// The chain that the name says: how many endpoints, whether clients are
    /// remembered, whether it is for node ports.
    pub(crate) fn pick_chain(self, pick: Pick) -> (String, Vec<Vec<Expr>>) {
        // Registers: [client] address protocol port index | endpoint.
        let client = if pick.affinity.is_some() { self.words } else { 0 };
        let index = Reg(client + self.words + 2);
        const FOUND: u8 = 11;
        let find = |index_from: Expr| {
            let lookup = Expr::Lookup {
                set: ENDPOINTS.into(),
                from: Reg(client),
                to: Some(Reg(FOUND)),
                negate: false,
            };
            [self.load_key(client, pick.node), vec![index_from, lookup]].concat()
        };
        let random = Expr::Random { to: index, modulus: pick.count };
        // A packet may have come here by the verdict of before a change, and
        // find no endpoint of its index after it; index zero is always there.
        let zero = Expr::Immediate { to: index, value: vec![0; 4] };
        let mut rules = Vec::new();
        if let Some(timeout) = pick.affinity {
            let load_client = self.address(self.saddr, 0);
            let remember = Expr::Dynset {
                set: AFFINITY.into(),
                op: DynsetOp::Update,
                key: Reg(0),
                data: Some(Reg(FOUND)),
                timeout: Some(timeout),
            };
            let known = Expr::Lookup {
                set: AFFINITY.into(),
                from: Reg(0),
                to: Some(Reg(FOUND)),
                negate: false,
            };
            let mut rule = vec![load_client.clone()];
            rule.extend(self.load_key(client, pick.node));
            rule.extend([known, remember.clone(), self.nat(FOUND)]);
            rules.push(rule);
            let mut rule = vec![load_client];
            rule.extend(find(random.clone()));
            rule.extend([remember, self.nat(FOUND)]);
            rules.push(rule);
            // Below: the memory is full, and nothing was decided.
        }
        for index_from in [random, zero] {
            let mut rule = find(index_from);
            rule.push(self.nat(FOUND));
            rules.push(rule);
        }
        (pick.name(), rules)
    }
}

/// Which chain picks an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pick {
    pub(crate) count: u32,
    pub(crate) affinity: Option<Duration>,
    pub(crate) node: bool,
}

impl Pick {
    pub(crate) fn name(self) -> String {
        let node = if self.node { "node-" } else { "" };
        match self.affinity {
            Some(timeout) => format!("{node}affinity-{}-{}", timeout.as_secs(), self.count),
            None => format!("{node}pick-{}", self.count),
        }
    }

    /// Back from a name; `None` for other chains.
    #[cfg(test)]
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let (node, rest) = match name.strip_prefix("node-") {
            Some(rest) => (true, rest),
            None => (false, name),
        };
        if let Some(count) = rest.strip_prefix("pick-") {
            return Some(Pick { count: count.parse().ok()?, affinity: None, node });
        }
        let (seconds, count) = rest.strip_prefix("affinity-")?.split_once('-')?;
        let affinity = Some(Duration::from_secs(seconds.parse().ok()?));
        Some(Pick { count: count.parse().ok()?, affinity, node })
    }
}

pub(crate) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Everything but the elements and the chains that pick.
pub(crate) fn items(config: &Config, family: Family) -> Vec<Item> {
    let l = Layout::of(family);
    let mut items = sets(l);
    let base = |kind, hook, priority| Chain::Base { kind, hook, priority };
    for (name, chain) in [
        ("spoofed", base("filter", Hook::Prerouting, -300)),
        // Ahead of translation: it looks at what the client connects to.
        ("restrict-prerouting", base("filter", Hook::Prerouting, -110)),
        ("restrict-output", base("filter", Hook::Output, -110)),
        ("nat-prerouting", base("nat", Hook::Prerouting, -100)),
        // Between translation and routing: what still has a service address here
        // found no endpoint, and no route need lead anywhere for it.
        ("filter-prerouting", base("filter", Hook::Prerouting, -90)),
        ("nat-output", base("nat", Hook::Output, -100)),
        ("nat-postrouting", base("nat", Hook::Postrouting, 100)),
        ("filter-input", base("filter", Hook::Input, 0)),
        ("filter-forward", base("filter", Hook::Forward, 0)),
        ("filter-output", base("filter", Hook::Output, 0)),
        ("dispatch", Chain::Regular),
        ("refuse", Chain::Regular),
        (REJECT, Chain::Regular),
    ] {
        items.push(Item::Chain(name.into(), chain));
    }
    let mut rule =
        |chain: &str, parts: &[&[Expr]]| items.push(Item::Rule(chain.into(), parts.concat()));
    let jump = |chain: &str| Expr::Verdict(Verdict::Jump(chain.into()));

    // A pod may only send from an address that is routed to it.
    let prefix = config.pod_ifname_prefix.clone().into_bytes();
    rule(
        "spoofed",
        &[&[
            Expr::Meta { key: MetaKey::IifName, to: Reg(0) },
            Expr::Compare { op: Cmp::Eq, from: Reg(0), data: prefix },
            Expr::Fib { lookup: Fib::SourceRouteExists, to: Reg(0) },
            Expr::Compare { op: Cmp::Eq, from: Reg(0), data: vec![0] },
            Expr::Counter,
            Expr::Verdict(Verdict::Drop),
        ]],
    );

    // Links whose pods answer at the node's loopback address take it as a
    // destination; no pod may send there.
    let loopback: (IpAddr, u8) = match l.is_v4() {
        true => ([127, 0, 0, 0].into(), 8),
        false => (std::net::Ipv6Addr::LOCALHOST.into(), 128),
    };
    rule(
        "spoofed",
        &[
            &[
                Expr::Meta { key: MetaKey::IifName, to: Reg(0) },
                Expr::Compare {
                    op: Cmp::Eq,
                    from: Reg(0),
                    data: config.pod_ifname_prefix.clone().into_bytes(),
                },
            ],
            &l.in_network(l.daddr, loopback, false),
            &[Expr::Counter, Expr::Verdict(Verdict::Drop)],
        ],
    );

    // Who may connect to a load balancer's address (`loadBalancerSourceRanges`).
    let lookup =
        |set: &str, negate| Expr::Lookup { set: set.into(), from: Reg(0), to: None, negate };
    for chain in ["restrict-prerouting", "restrict-output"] {
        let client = [vec![l.address(l.saddr, 0)], l.load_key(l.words, false)].concat();
        rule(
            chain,
            &[
                &ct_state(CT_STATE_NEW),
                &l.load_key(0, false),
                &[lookup(RESTRICTED, false)],
                &client,
                &[lookup(SOURCES, true), Expr::Counter, Expr::Verdict(Verdict::Drop)],
            ],
        );
    }

    // From outside to a cluster address: the answer must come back through us.
    let of_family = |networks: &[(IpAddr, u8)]| -> Vec<(IpAddr, u8)> {
        networks.iter().copied().filter(|n| n.0.is_ipv4() == l.is_v4()).collect()
    };
    let pods = of_family(&config.pod_networks);
    let to_service = [
        l.address(l.daddr, 0),
        Expr::Meta { key: MetaKey::L4Proto, to: Reg(l.words) },
        lookup(NETWORKS, false),
    ];
    let not_from_pods: Vec<Expr> =
        pods.iter().flat_map(|pods| l.in_network(l.saddr, *pods, true)).collect();
    rule("nat-prerouting", &[&not_from_pods, &to_service, &set_mark(true)]);
    rule("nat-prerouting", &[&[jump("dispatch")]]);
    rule("nat-output", &[&[jump("dispatch")]]);
    let in_masquerade =
        || Expr::Lookup { set: MASQUERADE.into(), from: Reg(0), to: None, negate: false };
    let to_chain = || Expr::VerdictMap { map: SERVICES.into(), from: Reg(0) };
    rule("dispatch", &[&l.load_key(0, false), &[in_masquerade()], &set_mark(true)]);
    rule("dispatch", &[&l.load_key(0, false), &[to_chain()]]);
    // Node ports: any address of this node but those of the loopback, from
    // which nothing can be sent on to a pod.
    let mut local = vec![
        Expr::Fib { lookup: Fib::DestinationType, to: Reg(0) },
        Expr::Compare { op: Cmp::Eq, from: Reg(0), data: RTN_LOCAL.to_ne_bytes().to_vec() },
    ];
    local.extend(l.in_network(l.daddr, loopback, true));
    rule("dispatch", &[&local, &l.load_key(0, true), &[in_masquerade()], &set_mark(true)]);
    rule("dispatch", &[&local, &l.load_key(0, true), &[to_chain()]]);

    // The mark is taken off, so that no tunnel sees it on the packet it makes.
    let masquerade = Expr::Masquerade { random: true };
    let marked = [
        Expr::Meta { key: MetaKey::Mark, to: Reg(0) },
        Expr::Bitwise {
            from: Reg(0),
            to: Reg(0),
            mask: MARK.to_ne_bytes().to_vec(),
            xor: vec![0; 4],
        },
        Expr::Compare { op: Cmp::Neq, from: Reg(0), data: vec![0; 4] },
    ];
    rule("nat-postrouting", &[&marked, &set_mark(false), std::slice::from_ref(&masquerade)]);
    let same = Expr::Lookup { set: HAIRPIN.into(), from: Reg(0), to: None, negate: false };
    rule(
        "nat-postrouting",
        &[&[l.address(l.saddr, 0), l.address(l.daddr, l.words), same, masquerade.clone()]],
    );
    let multicast: (IpAddr, u8) = match l.is_v4() {
        true => ([224, 0, 0, 0].into(), 4),
        false => (std::net::Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), 8),
    };
    for from in &pods {
        let mut parts = l.in_network(l.saddr, *from, false);
        pods.iter().for_each(|to| parts.extend(l.in_network(l.daddr, *to, true)));
        parts.extend(l.in_network(l.daddr, multicast, true));
        rule("nat-postrouting", &[&parts, std::slice::from_ref(&masquerade)]);
    }

    // What conntrack cannot place would leave with the wrong addresses.
    let drop = || Expr::Verdict(Verdict::Drop);
    rule("filter-forward", &[&ct_state(CT_STATE_INVALID), &[Expr::Counter, drop()]]);
    for chain in ["filter-prerouting", "filter-output"] {
        rule(chain, &[&ct_state(CT_STATE_NEW), &[jump("refuse")]]);
    }
    let refused = || Expr::VerdictMap { map: REFUSED.into(), from: Reg(0) };
    rule("filter-input", &[&ct_state(CT_STATE_NEW), &l.load_key(0, true), &[refused()]]);
    for ip in config.node_local.iter().filter(|ip| ip.is_ipv4() == l.is_v4()) {
        let data = octets(*ip);
        rule(
            "refuse",
            &[&[
                l.address(l.daddr, 0),
                Expr::Compare { op: Cmp::Eq, from: Reg(0), data },
                Expr::Verdict(Verdict::Return),
            ]],
        );
    }
    // While its process is away, a client that is told so gives up at once, and one that
    // is told nothing asks again after a while. TCP is still reset.
    let (protocol, unreachable) = if l.is_v4() { (1, 3) } else { (58, 1) };
    for ip in config.node_local.iter().filter(|ip| ip.is_ipv4() == l.is_v4()) {
        rule(
            "filter-output",
            &[&[
                l.address(l.saddr, 0),
                Expr::Compare { op: Cmp::Eq, from: Reg(0), data: octets(*ip) },
                Expr::Meta { key: MetaKey::L4Proto, to: Reg(0) },
                Expr::Compare { op: Cmp::Eq, from: Reg(0), data: vec![protocol] },
                Expr::Payload { base: Base::Transport, offset: 0, len: 1, to: Reg(0) },
                Expr::Compare { op: Cmp::Eq, from: Reg(0), data: vec![unreachable] },
                drop(),
            ]],
        );
    }
    rule("refuse", &[&l.load_key(0, false), &[refused()]]);
    // Nothing else is there: no such Service, or not this port.
    rule("refuse", &[&to_service, &[jump(REJECT)]]);
    // A reset for TCP: the node's own packets are on their way to `lo`, by the
    // service route, and the kernel sends no ICMP error back from there. The
    // node's own UDP senders get EPERM from the drop instead.
    rule(
        REJECT,
        &[&[
            Expr::Meta { key: MetaKey::L4Proto, to: Reg(0) },
            Expr::Compare { op: Cmp::Eq, from: Reg(0), data: vec![6] },
            Expr::Reject(Reject::TcpReset),
        ]],
    );
    rule(REJECT, &[&[Expr::Reject(Reject::PortUnreachable(family))]]);
    items
}

fn sets(l: Layout) -> Vec<Item> {
    let frontend = [l.address, Field::InetProto, Field::InetService];
    let endpoint = DataType(vec![l.address, Field::InetService]);
    let set = |name: &str, key: &[Field], data: Option<DataType>| Set {
        name: name.into(),
        key: DataType(key.to_vec()),
        data,
        dynamic: false,
        timeouts: false,
        interval: false,
        size: 0,
    };
    let with_index = [&frontend[..], &[Field::Mark]].concat();
    let with_client = [&[l.address], &frontend[..]].concat();
    let affinity = Set {
        dynamic: true,
        timeouts: true,
        size: AFFINITY_MAX,
        ..set(AFFINITY, &with_client, Some(endpoint.clone()))
    };
    vec![
        Item::Set(set(SERVICES, &frontend, Some(DataType::verdict()))),
        Item::Set(set(ENDPOINTS, &with_index, Some(endpoint))),
        Item::Set(set(REFUSED, &frontend, Some(DataType::verdict()))),
        Item::Set(set(MASQUERADE, &frontend, None)),
        Item::Set(set(HAIRPIN, &[l.address, l.address], None)),
        Item::Set(set(RESTRICTED, &frontend, None)),
        Item::Set(Set { interval: true, ..set(SOURCES, &with_client, None) }),
        Item::Set(Set { interval: true, ..set(NETWORKS, &[l.address, Field::InetProto], None) }),
        Item::Set(affinity),
    ]
}

fn set_mark(on: bool) -> Vec<Expr> {
    let xor = if on { MARK } else { 0 };
    vec![
        Expr::Meta { key: MetaKey::Mark, to: Reg(0) },
        Expr::Bitwise {
            from: Reg(0),
            to: Reg(0),
            mask: (!MARK).to_ne_bytes().to_vec(),
            xor: xor.to_ne_bytes().to_vec(),
        },
        Expr::SetMark { from: Reg(0) },
    ]
}

fn ct_state(bits: u32) -> Vec<Expr> {
    vec![
        Expr::Ct { key: CtKey::State, to: Reg(0) },
        Expr::Bitwise {
            from: Reg(0),
            to: Reg(0),
            mask: bits.to_ne_bytes().to_vec(),
            xor: vec![0; 4],
        },
        Expr::Compare { op: Cmp::Neq, from: Reg(0), data: vec![0; 4] },
    ]
}

/// The name of an empty chain that says which layout a table has: a hash over
/// all of it. A table with another one is made anew.
pub(crate) fn stamp(config: &Config, family: Family) -> String {
    let layout = Layout::of(family);
    let affinity = Some(Duration::from_secs(1));
    let samples = [
        layout.pick_chain(Pick { count: 2, affinity: None, node: false }),
        layout.pick_chain(Pick { count: 2, affinity, node: true }),
    ];
    let text = format!("{:?}{samples:?}", items(config, family));
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    format!("layout-{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::config;

    #[test]
    fn names_of_chains_are_read_back() {
        for affinity in [None, Some(Duration::from_secs(10800))] {
            for node in [true, false] {
                let pick = Pick { count: 3, affinity, node };
                assert_eq!(Pick::from_name(&pick.name()), Some(pick));
            }
        }
        assert_eq!(Pick::from_name("refuse"), None);
    }

    #[test]
    fn the_stamp_depends_on_all_that_the_rules_depend_on() {
        let stamp = |config: &Config| super::stamp(config, Family::Ip);
        let base = config();
        assert_eq!(stamp(&base), stamp(&base.clone()));
        let other = Config { node_local: Vec::new(), ..base.clone() };
        assert_ne!(stamp(&base), stamp(&other));
        assert_ne!(super::stamp(&base, Family::Ip6), stamp(&base));
    }
}

//! A packet tracer: what the rules do with a connection's first packet, without a
//! kernel and without root. It runs the very expressions that the kernel is given.

use super::*;
use crate::frontend::frontends;
use crate::layout::{self, Item};
use crate::plan::{self, Elements};
use netlink::nft::expr::*;
use netlink::nft::{Chain, Data, Family, Hook};
use std::collections::{BTreeMap, BTreeSet};

mod policies;

/// The node's own address of each family.
const NODE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

/// What comes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Dropped,
    Rejected,
    Arrives { ip: IpAddr, port: u16, masqueraded: bool },
}

#[derive(Debug, Clone)]
struct Packet {
    /// From a pod's link, from the one to the outside, or from the node itself.
    link: Option<&'static str>,
    source: IpAddr,
    destination: IpAddr,
    protocol: Protocol,
    port: u16,
    mark: u32,
    masqueraded: bool,
}

impl Packet {
    fn bytes(&self, base: Base, offset: u32, len: u32) -> Vec<u8> {
        let header = match (base, self.source.is_ipv4()) {
            (Base::Transport, _) => [[0; 2], self.port.to_be_bytes()].concat(),
            (_, true) => {
                [&[0; 12][..], &layout::octets(self.source), &layout::octets(self.destination)]
                    .concat()
            }
            (_, false) => {
                [&[0; 8][..], &layout::octets(self.source), &layout::octets(self.destination)]
                    .concat()
            }
        };
        header[offset as usize..(offset + len) as usize].to_vec()
    }
}

/// One family's table.
struct Rules {
    chains: BTreeMap<String, (Chain, Vec<Vec<Expr>>)>,
    elements: Elements,
    /// What comes of a throw, before the modulus.
    random: u32,
}

impl Rules {
    fn of(service: &Service, family: Family) -> Self {
        let mut chains: BTreeMap<String, (Chain, Vec<Vec<Expr>>)> = BTreeMap::new();
        for item in layout::items(&config(), family) {
            match item {
                Item::Chain(name, chain) => _ = chains.insert(name, (chain, Vec::new())),
                Item::Rule(name, rule) => chains.get_mut(&name).expect("its chain").1.push(rule),
                Item::Set(_) => {}
            }
        }
        let mut elements = plan::networks(&config().service_networks, family);
        for (key, frontend) in frontends(service, &config()) {
            if plan::family_of(key.ip) != family {
                continue;
            }
            let (more, pick) = plan::elements(&key, &frontend);
            elements.extend(more);
            elements.extend(plan::hairpins(&frontend.local, family));
            if let Some(pick) = pick {
                let (name, rules) = layout::Layout::of(family).pick_chain(pick);
                chains.insert(name, (Chain::Regular, rules));
            }
        }
        Rules { chains, elements, random: 0 }
    }

    fn trace(&mut self, mut packet: Packet) -> Fate {
        let is_local = |packet: &Packet| NODE.contains(&packet.destination.to_string().as_str());
        let first = if packet.link.is_some() { Hook::Prerouting } else { Hook::Output };
        if let Some(fate) = self.hook(first, &mut packet) {
            return fate;
        }
        let second = match (packet.link, is_local(&packet)) {
            (_, true) => Some(Hook::Input),
            (Some(_), false) => Some(Hook::Forward),
            (None, false) => None,
        };
        for hook in second.into_iter().chain([Hook::Postrouting]) {
            if let Some(fate) = self.hook(hook, &mut packet) {
                return fate;
            }
        }
        let Packet { destination, port, masqueraded, .. } = packet;
        Fate::Arrives { ip: destination, port, masqueraded }
    }

    fn hook(&mut self, hook: Hook, packet: &mut Packet) -> Option<Fate> {
        let here = |(name, (chain, _)): (&String, &(Chain, _))| match chain {
            Chain::Base { hook: at, priority, .. } if *at == hook => {
                Some((*priority, name.clone()))
            }
            _ => None,
        };
        let mut chains: Vec<(i32, String)> = self.chains.iter().filter_map(here).collect();
        chains.sort();
        chains.iter().find_map(|(_, name)| match self.chain(name, packet) {
            Some(Step::Fate(fate)) => Some(fate),
            _ => None,
        })
    }

    fn chain(&mut self, name: &str, packet: &mut Packet) -> Option<Step> {
        let (_, rules) = self.chains.get(name).unwrap_or_else(|| panic!("a chain {name}"));
        for rule in rules.clone() {
            match self.rule(&rule, packet) {
                Some(Verdict::Accept) => return Some(Step::Accepted),
                Some(Verdict::Drop) => return Some(Step::Fate(Fate::Dropped)),
                Some(Verdict::Return) => return None,
                Some(Verdict::Goto(to)) if to == REJECTS => {
                    return Some(Step::Fate(Fate::Rejected));
                }
                Some(Verdict::Goto(to)) => return self.chain(&to, packet),
                Some(Verdict::Jump(to)) => match self.chain(&to, packet) {
                    None => {}
                    decided => return decided,
                },
                None => {}
            }
        }
        None
    }

    /// What a rule decides; a translation ends the hook as `accept` does.
    fn rule(&mut self, rule: &[Expr], packet: &mut Packet) -> Option<Verdict> {
        let mut registers = [0_u8; 64];
        let at = |register: Reg| usize::from(register.0) * 4;
        fn put(registers: &mut [u8; 64], at: usize, bytes: &[u8]) {
            // A load fills whole words.
            registers[at..at + bytes.len().next_multiple_of(4)].fill(0);
            registers[at..at + bytes.len()].copy_from_slice(bytes);
        }
        for expr in rule {
            match expr {
                Expr::Payload { base, offset, len, to } => {
                    put(&mut registers, at(*to), &packet.bytes(*base, *offset, *len));
                }
                Expr::Meta { key, to } => {
                    let bytes = match key {
                        MetaKey::L4Proto => vec![packet.protocol as u8],
                        MetaKey::Mark => packet.mark.to_ne_bytes().to_vec(),
                        MetaKey::IifName => {
                            let mut name = packet.link.unwrap_or("lo").as_bytes().to_vec();
                            name.resize(16, 0);
                            name
                        }
                        other => panic!("{other:?} is not traced"),
                    };
                    put(&mut registers, at(*to), &bytes);
                }
                Expr::SetMark { from } => {
                    let bytes = registers[at(*from)..at(*from) + 4].try_into().expect("a word");
                    packet.mark = u32::from_ne_bytes(bytes);
                }
                Expr::Ct { key: CtKey::State, to } => {
                    put(&mut registers, at(*to), &CT_STATE_NEW.to_ne_bytes());
                }
                Expr::Fib { lookup: Fib::SourceRouteExists, to } => {
                    put(&mut registers, at(*to), &1_u32.to_ne_bytes());
                }
                Expr::Fib { lookup: Fib::DestinationType, to } => {
                    let local = NODE.contains(&packet.destination.to_string().as_str());
                    let kind = if local { RTN_LOCAL } else { 1 };
                    put(&mut registers, at(*to), &kind.to_ne_bytes());
                }
                Expr::Immediate { to, value } => put(&mut registers, at(*to), value),
                Expr::Random { to, modulus } => {
                    put(&mut registers, at(*to), &(self.random % modulus).to_ne_bytes());
                }
                Expr::Bitwise { from, to, mask, xor } => {
                    let bytes: Vec<u8> = registers[at(*from)..]
                        .iter()
                        .zip(mask.iter().zip(xor))
                        .map(|(byte, (mask, xor))| byte & mask ^ xor)
                        .collect();
                    put(&mut registers, at(*to), &bytes);
                }
                Expr::Compare { op, from, data } => {
                    let found = &registers[at(*from)..at(*from) + data.len()];
                    let holds = match op {
                        Cmp::Eq => found == data,
                        Cmp::Neq => found != data,
                        other => panic!("{other:?} is not traced"),
                    };
                    if !holds {
                        return None;
                    }
                }
                Expr::Lookup { set, from, to, negate } => {
                    let found = self.find(set, &registers[at(*from)..]);
                    if found.is_some() == *negate {
                        return None;
                    }
                    if let (Some(to), Some(Some(Data::Value(value)))) = (to, found) {
                        put(&mut registers, at(*to), value);
                    }
                }
                Expr::VerdictMap { map, from } => {
                    if let Some(Some(Data::Verdict(verdict))) =
                        self.find(map, &registers[at(*from)..])
                    {
                        return Some(verdict.clone());
                    }
                    return None;
                }
                Expr::Nat { address, port, .. } => {
                    let words = layout::octets(packet.destination).len();
                    let ip = &registers[at(*address)..at(*address) + words];
                    packet.destination = plan::ip_of(ip).expect("an address");
                    let port = at(port.expect("a port"));
                    packet.port = u16::from_be_bytes([registers[port], registers[port + 1]]);
                    return Some(Verdict::Accept);
                }
                Expr::Masquerade { .. } => {
                    packet.masqueraded = true;
                    return Some(Verdict::Accept);
                }
                Expr::Reject(_) => return Some(Verdict::Goto(REJECTS.into())),
                Expr::Verdict(verdict) => return Some(verdict.clone()),
                Expr::Counter => {}
                Expr::Dynset { set, op: DynsetOp::Update, key, data: Some(data), timeout } => {
                    assert!((set == layout::AFFINITY) && timeout.is_some(), "{set}");
                    let words = layout::octets(packet.destination).len();
                    // Client, address, protocol and port; address and port.
                    let key = registers[at(*key)..at(*key) + 2 * words + 8].to_vec();
                    let endpoint = registers[at(*data)..at(*data) + words + 4].to_vec();
                    let remembered = Some(Data::Value(endpoint));
                    self.elements.insert((layout::AFFINITY, key), remembered);
                }
                other => panic!("{other:?} is not traced"),
            }
        }
        None
    }

    /// The data of the element that the registers name.
    fn find(&self, set: &str, registers: &[u8]) -> Option<&Option<Data>> {
        let holds = |key: &[u8]| match layout::RANGES.contains(&set) {
            false => registers.starts_with(key),
            // Each field lies between those of the range's ends: the first, which is
            // an address, and the others as one.
            true => {
                let (first, last) = key.split_at(key.len() / 2);
                let address = match set {
                    layout::SOURCES => (first.len() - 8) / 2,
                    _ => first.len() - 4,
                };
                let fields = [0..address, address..first.len()];
                fields.into_iter().all(|field| {
                    let value = &registers[field.clone()];
                    first[field.clone()] <= *value && *value <= last[field]
                })
            }
        };
        let in_set = self.elements.iter().filter(|((name, _), _)| *name == set);
        in_set.into_iter().find(|((_, key), _)| holds(key)).map(|(_, data)| data)
    }
}

/// How a chain ended, if it decided.
enum Step {
    Accepted,
    Fate(Fate),
}

/// Stands for the verdict of a reject expression.
const REJECTS: &str = "(rejects)";

fn first_packet(from: &str, to: &str) -> Packet {
    let target: std::net::SocketAddr = to.parse().expect("an address and a port");
    let is_pod = from.starts_with("10.42.") || from.starts_with("fd42::");
    let link = match NODE.contains(&from) {
        true => None,
        false if is_pod => Some("skp0"),
        false => Some("eth0"),
    };
    Packet {
        link,
        source: from.parse().expect("an address"),
        destination: target.ip(),
        protocol: Protocol::Tcp,
        port: target.port(),
        mark: 0,
        masqueraded: false,
    }
}

fn told(fate: &Fate) -> String {
    match fate {
        Fate::Dropped => "dropped".to_owned(),
        Fate::Rejected => "rejected".to_owned(),
        Fate::Arrives { ip, port, masqueraded } => {
            let as_node = if *masqueraded { " as the node" } else { "" };
            format!("{}{as_node}", std::net::SocketAddr::new(*ip, *port))
        }
    }
}

/// One packet a line: from, to, what comes of it.
#[track_caller]
fn check(service: &Service, expected: &str) {
    let lines = expected.lines().map(str::trim).filter(|line| !line.is_empty());
    let found: Vec<String> = lines
        .clone()
        .map(|line| {
            let (from, rest) = line.split_once(" -> ").expect("from -> to: fate");
            let (to, _) = rest.split_once(": ").expect("to: fate");
            let packet = first_packet(from, to);
            let source = packet.source;
            let mut rules = Rules::of(service, plan::family_of(source));
            format!("{from} -> {to}: {}", told(&rules.trace(packet)))
        })
        .collect();
    assert_eq!(found.join("\n"), lines.collect::<Vec<_>>().join("\n"));
}

#[test]
fn addresses_and_ports_lead_to_their_endpoint() {
    let mut service = service(&["10.42.0.5", "fd42::5"]);
    service.cluster_ips.push("fd43::5".parse().unwrap());
    service.external_ips = ["198.51.100.7", "2001:db8:e::7"].map(|ip| ip.parse().unwrap()).into();
    service.ports[0].node_port = Some(30080);
    check(
        &service,
        "10.42.0.6 -> 10.43.0.5:80: 10.42.0.5:8080
         10.42.0.5 -> 10.43.0.5:80: 10.42.0.5:8080 as the node
         fd42::6 -> [fd43::5]:80: [fd42::5]:8080
         192.0.2.1 -> 10.43.0.5:80: 10.42.0.5:8080
         203.0.113.1 -> 10.43.0.5:80: 10.42.0.5:8080 as the node
         10.42.0.6 -> 10.43.0.5:81: rejected
         10.42.0.6 -> 10.43.9.9:80: rejected
         203.0.113.1 -> 192.0.2.1:30080: 10.42.0.5:8080 as the node
         203.0.113.1 -> 198.51.100.7:80: 10.42.0.5:8080 as the node
         10.42.0.6 -> 203.0.113.1:80: 203.0.113.1:80 as the node
         10.42.0.6 -> 127.0.0.1:80: dropped
         fd42::5 -> [fd43::5]:80: [fd42::5]:8080 as the node
         2001:db8::1 -> [fd43::5]:80: [fd42::5]:8080
         2001:db8:f::1 -> [fd43::5]:80: [fd42::5]:8080 as the node
         fd42::6 -> [fd43::5]:81: rejected
         fd42::6 -> [fd43::9]:80: rejected
         2001:db8:f::1 -> [2001:db8::1]:30080: [fd42::5]:8080 as the node
         2001:db8:f::1 -> [2001:db8:e::7]:80: [fd42::5]:8080 as the node
         fd42::6 -> [2001:db8:f::1]:80: [2001:db8:f::1]:80 as the node
         fd42::6 -> [fd42::5]:8080: [fd42::5]:8080",
    );
    service.external_policy = TrafficPolicy::Local;
    check(
        &service,
        "203.0.113.1 -> 192.0.2.1:30080: 10.42.0.5:8080
         2001:db8::9 -> [2001:db8::1]:30080: [fd42::5]:8080",
    );
    service.ports[0].endpoints.iter_mut().for_each(|endpoint| endpoint.local = false);
    check(
        &service,
        "203.0.113.1 -> 192.0.2.1:30080: dropped
         2001:db8:f::1 -> [2001:db8::1]:30080: dropped
         2001:db8:f::1 -> [2001:db8:e::7]:80: dropped",
    );
}

#[test]
fn a_balancer_lets_in_its_source_ranges() {
    let mut service = service(&["10.42.0.5", "fd42::5"]);
    service.cluster_ips.push("fd43::5".parse().unwrap());
    service.ports[0].node_port = Some(30080);
    // The node's own, as here, and one that only the balancer has.
    service.balancer_ips =
        [NODE[0], NODE[1], "198.51.100.7"].map(|ip| ip.parse().unwrap()).to_vec();
    let range = |ip: &str, bits| (ip.parse().unwrap(), bits);
    service.source_ranges = Some(vec![range("203.0.113.0", 24), range("10.42.0.6", 32)]);
    check(
        &service,
        "203.0.113.1 -> 192.0.2.1:80: 10.42.0.5:8080 as the node
         203.0.114.1 -> 192.0.2.1:80: dropped
         203.0.113.1 -> 198.51.100.7:80: 10.42.0.5:8080 as the node
         203.0.114.1 -> 198.51.100.7:80: dropped
         10.42.0.6 -> 192.0.2.1:80: 10.42.0.5:8080 as the node
         10.42.0.7 -> 192.0.2.1:80: dropped
         192.0.2.1 -> 192.0.2.1:80: dropped
         2001:db8::9 -> [2001:db8::1]:80: dropped
         203.0.114.1 -> 192.0.2.1:30080: 10.42.0.5:8080 as the node
         203.0.114.1 -> 192.0.2.1:22: 192.0.2.1:22
         10.42.0.7 -> 10.43.0.5:80: 10.42.0.5:8080",
    );
    service.source_ranges = Some(vec![range("2001:db8::", 32)]);
    check(
        &service,
        "2001:db8::9 -> [2001:db8::1]:80: [fd42::5]:8080 as the node
         2001:db9::9 -> [2001:db8::1]:80: dropped
         203.0.113.1 -> 192.0.2.1:80: dropped",
    );
    service.source_ranges = Some(Vec::new());
    check(&service, "203.0.113.1 -> 192.0.2.1:80: dropped");
    service.source_ranges = None;
    check(&service, "203.0.114.1 -> 192.0.2.1:80: 10.42.0.5:8080 as the node");
    // Who is not let in is not told either that nobody is there.
    service.ports[0].endpoints.clear();
    check(&service, "203.0.113.1 -> 192.0.2.1:80: rejected");
    service.source_ranges = Some(vec![range("10.0.0.0", 8)]);
    check(&service, "203.0.113.1 -> 192.0.2.1:80: dropped");
}

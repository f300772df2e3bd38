//! From frontends to elements, and from the elements there are and those there
//! should be to one batch. Pure.

use crate::frontend::{Frontend, FrontendKey, Network, WithoutEndpoints, masked, outermost};
use crate::layout::{self, Item, Layout, Pick};
use crate::service::Protocol;
use crate::{Config, Summary};
use netlink::nft::expr::Verdict;
use netlink::nft::{Batch, Data, Element, Family, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Elements of one family's sets: set and key → data. A key that is a range is
/// its first and its last key, one behind the other.
pub(crate) type Elements = BTreeMap<(&'static str, Vec<u8>), Option<Data>>;

pub(crate) fn family_of(ip: IpAddr) -> Family {
    if ip.is_ipv4() { Family::Ip } else { Family::Ip6 }
}

/// What a frontend puts into the sets, and the chain it needs. Hairpin pairs are
/// shared between frontends and come from [`hairpins`].
pub(crate) fn elements(key: &FrontendKey, frontend: &Frontend) -> (Elements, Option<Pick>) {
    let mut elements = Elements::new();
    let bytes = key_bytes(key);
    if let Some(sources) = &frontend.sources {
        elements.insert((layout::RESTRICTED, bytes.clone()), None);
        for (ip, bits) in sources {
            let end = |last| [&layout::octets(masked(*ip, *bits, last))[..], &bytes].concat();
            elements.insert((layout::SOURCES, [end(false), end(true)].concat()), None);
        }
    }
    if frontend.endpoints.is_empty() {
        let verdict = match frontend.none {
            WithoutEndpoints::Reject => Verdict::Goto(layout::REJECT.into()),
            WithoutEndpoints::Drop => Verdict::Drop,
        };
        elements.insert((layout::REFUSED, bytes), Some(Data::Verdict(verdict)));
        return (elements, None);
    }
    let count = u32::try_from(frontend.endpoints.len()).unwrap_or(u32::MAX);
    let pick = Pick { count, affinity: frontend.affinity, node: key.is_node_port() };
    for (index, (ip, port)) in frontend.endpoints.iter().enumerate() {
        // As `numgen` counts: in the machine's byte order.
        let index = (index as u32).to_ne_bytes();
        let indexed = [&bytes[..], &index].concat();
        elements
            .insert((layout::ENDPOINTS, indexed), Some(Data::Value(endpoint_bytes(*ip, *port))));
    }
    if frontend.masquerade {
        elements.insert((layout::MASQUERADE, bytes.clone()), None);
    }
    let verdict = Verdict::Goto(pick.name());
    elements.insert((layout::SERVICES, bytes), Some(Data::Verdict(verdict)));
    (elements, Some(pick))
}

/// The pairs by which endpoints' connections to themselves are known.
pub(crate) fn hairpins(ips: &BTreeSet<IpAddr>, family: Family) -> Elements {
    let pair = |ip: &IpAddr| {
        ((layout::HAIRPIN, [layout::octets(*ip), layout::octets(*ip)].concat()), None)
    };
    ips.iter().filter(|ip| family_of(**ip) == family).map(pair).collect()
}

/// What service addresses are from, for every protocol.
pub(crate) fn networks(networks: &[Network], family: Family) -> Elements {
    let end = |(ip, bits): Network, last: bool| {
        let protocol = if last { u8::MAX } else { 0 };
        [&layout::octets(masked(ip, bits, last))[..], &[protocol, 0, 0, 0]].concat()
    };
    let range =
        |network| ((layout::NETWORKS, [end(network, false), end(network, true)].concat()), None);
    outermost(networks, family == Family::Ip).into_iter().map(range).collect()
}

/// Address, protocol and port, each padded to 32-bit words.
pub(crate) fn key_bytes(key: &FrontendKey) -> Vec<u8> {
    let port = key.port.to_be_bytes();
    [&layout::octets(key.ip)[..], &[key.protocol as u8, 0, 0, 0], &port, &[0, 0]].concat()
}

/// Back from [`key_bytes`].
pub(crate) fn key_from(bytes: &[u8]) -> Option<FrontendKey> {
    let (ip, rest) = ip_from(bytes)?;
    let [protocol, _, _, _, high, low, ..] = *rest else { return None };
    let all = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let protocol = all.into_iter().find(|p| *p as u8 == protocol)?;
    Some(FrontendKey { ip, protocol, port: u16::from_be_bytes([high, low]) })
}

fn endpoint_bytes(ip: IpAddr, port: u16) -> Vec<u8> {
    [&layout::octets(ip)[..], &port.to_be_bytes(), &[0, 0]].concat()
}

pub(crate) fn endpoint_from(bytes: &[u8]) -> Option<(IpAddr, u16)> {
    let words = if bytes.len() > 8 { 16 } else { 4 };
    let port = bytes.get(words..words + 2)?;
    Some((ip_of(bytes.get(..words)?)?, u16::from_be_bytes([port[0], port[1]])))
}

/// The address in front: a key has 12 bytes with IPv4 and 24 with IPv6.
fn ip_from(bytes: &[u8]) -> Option<(IpAddr, &[u8])> {
    let words = if bytes.len() < 24 { 4 } else { 16 };
    Some((ip_of(bytes.get(..words)?)?, bytes.get(words..)?))
}

pub(crate) fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
        _ => None,
    }
}

/// Appends to `batch` what makes `before` into `after`, with the chains in
/// `picks` that are not among `chains`. Deletions come first: an element that
/// changes its data is deleted and added.
pub(crate) fn update(
    batch: &mut Batch,
    table: &Table,
    before: &Elements,
    after: &Elements,
    picks: &[Pick],
    chains: &mut BTreeSet<String>,
) -> Summary {
    let layout = Layout::of(table.family);
    for pick in picks {
        if chains.insert(pick.name()) {
            let (name, rules) = layout.pick_chain(*pick);
            batch.add_chain(table, &name, &netlink::nft::Chain::Regular);
            rules.iter().for_each(|rule| batch.add_rule(table, &name, rule));
        }
    }
    let differ = |from: &Elements, to: &Elements| {
        let mut by_set: BTreeMap<&'static str, Vec<Element>> = BTreeMap::new();
        for ((set, key), data) in from.iter().filter(|(key, data)| to.get(key) != Some(data)) {
            by_set.entry(set).or_default().push(element(set, key, data));
        }
        by_set
    };
    let (deleted, added) = (differ(before, after), differ(after, before));
    deleted.iter().for_each(|(set, elements)| batch.delete_elements(table, set, elements));
    added.iter().for_each(|(set, elements)| batch.add_elements(table, set, elements));
    let count = |all: &BTreeMap<&str, Vec<Element>>| all.values().map(Vec::len).sum();
    Summary { added: count(&added), deleted: count(&deleted), ..Summary::default() }
}

fn element(set: &str, key: &[u8], data: &Option<Data>) -> Element {
    let (first, last) = match layout::RANGES.contains(&set) {
        true => key.split_at(key.len() / 2),
        false => (key, &[][..]),
    };
    let key_end = (!last.is_empty()).then(|| last.to_vec());
    Element { key_end, data: data.clone(), ..Element::key(first.to_vec()) }
}

/// Back from the kernel's element to set, key and data.
pub(crate) fn from_kernel(
    set: &'static str,
    element: Element,
) -> ((&'static str, Vec<u8>), Option<Data>) {
    let mut key = element.key;
    if layout::RANGES.contains(&set) {
        let last = element.key_end.unwrap_or_else(|| key.clone());
        key.extend(last);
    }
    ((set, key), element.data)
}

/// Makes a table anew, empty of elements.
pub(crate) fn rebuild(batch: &mut Batch, table: &Table, config: &Config) {
    batch.delete_table(table);
    batch.add_table(table);
    let items = layout::items(config, table.family);
    // Rules name chains and sets, so those come first.
    for item in &items {
        match item {
            Item::Chain(name, chain) => batch.add_chain(table, name, chain),
            Item::Set(set) => batch.add_set(table, set),
            Item::Rule(..) => {}
        }
    }
    for item in &items {
        if let Item::Rule(chain, expressions) = item {
            batch.add_rule(table, chain, expressions);
        }
    }
    let stamp = layout::stamp(config, table.family);
    batch.add_chain(table, &stamp, &netlink::nft::Chain::Regular);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::frontends;
    use crate::tests::{config, service};
    use std::time::Duration;

    #[test]
    fn keys_are_read_back() {
        for ip in ["10.43.0.5", "fd43::5", "0.0.0.0"] {
            let key = FrontendKey { ip: ip.parse().unwrap(), protocol: Protocol::Udp, port: 53 };
            assert_eq!(key_from(&key_bytes(&key)), Some(key));
            assert_eq!(endpoint_from(&endpoint_bytes(key.ip, 80)), Some((key.ip, 80)));
        }
        assert_eq!(key_from(&[1, 2, 3]), None);
    }

    #[test]
    fn a_change_costs_its_own_elements() {
        let all = |ips: &[&str]| {
            let service = service(ips);
            let mut all = Elements::new();
            for (key, frontend) in frontends(&service, &config()) {
                all.extend(elements(&key, &frontend).0);
            }
            all
        };
        let table = Table { family: Family::Ip, name: "t".into() };
        let change = |from: &[&str], to: &[&str]| {
            let (mut batch, mut chains) = (Batch::new(), BTreeSet::new());
            let summary = update(&mut batch, &table, &all(from), &all(to), &[], &mut chains);
            (summary.deleted, summary.added)
        };
        assert_eq!(change(&["10.42.0.5"], &["10.42.0.5"]), (0, 0));
        assert_eq!(change(&["10.42.0.5"], &["10.42.0.6"]), (1, 1));
        // One more: its element and the verdict.
        assert_eq!(change(&["10.42.0.5"], &["10.42.0.5", "10.42.0.6"]), (1, 2));
        assert_eq!(change(&["10.42.0.5"], &[]), (2, 1));
    }

    #[test]
    fn networks_are_ranges_of_their_family() {
        let network = |ip: &str, bits| (ip.parse().unwrap(), bits);
        let all = [network("10.43.0.0", 16), network("10.43.7.0", 24), network("fd43::", 112)];
        let keys: Vec<_> = networks(&all, Family::Ip).into_keys().map(|(_, key)| key).collect();
        assert_eq!(keys, [vec![10, 43, 0, 0, 0, 0, 0, 0, 10, 43, 255, 255, 255, 0, 0, 0]]);
        assert_eq!(networks(&all, Family::Ip6).len(), 1);
    }

    #[test]
    fn chains_are_made_once() {
        let table = Table { family: Family::Ip6, name: "t".into() };
        let (mut batch, mut chains) = (Batch::new(), BTreeSet::new());
        let pick = Pick { count: 2, affinity: Some(Duration::from_secs(5)), node: false };
        update(&mut batch, &table, &Elements::new(), &Elements::new(), &[pick, pick], &mut chains);
        assert_eq!(batch.len(), 5);
        update(&mut batch, &table, &Elements::new(), &Elements::new(), &[pick], &mut chains);
        assert_eq!(batch.len(), 5);
    }
}

//! From a Service to what the rules need: for each address and port the
//! endpoints that get new connections, and what else holds there.

use crate::Config;
use crate::service::{Endpoint, Hint, Port, Protocol, Service, TrafficPolicy};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// An address and how many of its leading bits count.
pub(crate) type Network = (IpAddr, u8);

/// What a client connects to. For a node port the address is the unspecified
/// one, which stands for every address of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FrontendKey {
    pub(crate) ip: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

/// What happens to its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frontend {
    /// Never empty for long: `none` says what happens then.
    pub(crate) endpoints: Vec<(IpAddr, u16)>,
    /// Endpoint addresses on this node, which may connect to themselves.
    pub(crate) local: BTreeSet<IpAddr>,
    pub(crate) affinity: Option<Duration>,
    /// The client's address is replaced wherever it comes from.
    pub(crate) masquerade: bool,
    /// The networks whose clients are let in, none inside another; `None` is
    /// everybody.
    pub(crate) sources: Option<BTreeSet<Network>>,
    pub(crate) none: WithoutEndpoints,
}

/// What becomes of a connection that no endpoint can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WithoutEndpoints {
    /// The client is told.
    Reject,
    /// Nothing is said: there are endpoints, on other nodes, and a load balancer
    /// shall look for those.
    Drop,
}

impl FrontendKey {
    pub(crate) fn is_node_port(&self) -> bool {
        self.ip.is_unspecified()
    }
}

/// All that a Service listens on, except what this node answers itself.
pub(crate) fn frontends(service: &Service, config: &Config) -> BTreeMap<FrontendKey, Frontend> {
    let mut all = BTreeMap::new();
    for port in &service.ports {
        let key = |ip, number| FrontendKey { ip, protocol: port.protocol, port: number };
        for &ip in service.cluster_ips.iter().filter(|ip| !config.node_local.contains(ip)) {
            let frontend = frontend(service, port, ip.is_ipv4(), service.internal_policy, false);
            all.insert(key(ip, port.port), frontend);
        }
        let external = |v4| {
            let masquerade = service.external_policy == TrafficPolicy::Cluster;
            frontend(service, port, v4, service.external_policy, masquerade)
        };
        for &ip in service.external_ips.iter().filter(|ip| !config.node_local.contains(ip)) {
            all.insert(key(ip, port.port), external(ip.is_ipv4()));
        }
        for &ip in service.balancer_ips.iter().filter(|ip| !config.node_local.contains(ip)) {
            let ranges = service.source_ranges.as_deref();
            // A list of one family's networks lets in nobody of the other.
            let sources = ranges.map(|ranges| outermost(ranges, ip.is_ipv4()));
            all.insert(key(ip, port.port), Frontend { sources, ..external(ip.is_ipv4()) });
        }
        if let Some(number) = port.node_port {
            for v4 in families(service, port) {
                let any: IpAddr =
                    if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                all.insert(key(any, number), external(v4));
            }
        }
    }
    all
}

/// The families of a node port: the Service's own, or its endpoints' where it
/// has no address of its own.
fn families(service: &Service, port: &Port) -> BTreeSet<bool> {
    match service.cluster_ips.is_empty() {
        true => port.endpoints.iter().map(|endpoint| endpoint.ip.is_ipv4()).collect(),
        false => service.cluster_ips.iter().map(IpAddr::is_ipv4).collect(),
    }
}

fn frontend(
    service: &Service,
    port: &Port,
    v4: bool,
    policy: TrafficPolicy,
    masquerade: bool,
) -> Frontend {
    let family: Vec<&Endpoint> = port.endpoints.iter().filter(|e| e.ip.is_ipv4() == v4).collect();
    let usable = match policy {
        TrafficPolicy::Cluster => nearby(usable(family.iter().copied())),
        TrafficPolicy::Local => usable(family.iter().filter(|e| e.local).copied()),
    };
    let elsewhere = policy == TrafficPolicy::Local && !family.is_empty();
    Frontend {
        local: usable.iter().filter(|e| e.local).map(|e| e.ip).collect(),
        endpoints: usable
            .iter()
            .map(|e| (e.ip, e.port))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        affinity: service.affinity,
        masquerade,
        sources: None,
        none: if elsewhere { WithoutEndpoints::Drop } else { WithoutEndpoints::Reject },
    }
}

/// The networks of a family without those that lie in another: the kernel's
/// ranges must not overlap.
pub(crate) fn outermost(ranges: &[Network], v4: bool) -> BTreeSet<Network> {
    let family = ranges.iter().filter(|(ip, _)| ip.is_ipv4() == v4);
    let networks: BTreeSet<Network> =
        family.map(|(ip, bits)| (masked(*ip, *bits, false), *bits)).collect();
    let inside = |(ip, bits): &Network, (outer, outer_bits): &Network| {
        outer_bits < bits && masked(*ip, *outer_bits, false) == *outer
    };
    let outer = |network: &&Network| !networks.iter().any(|other| inside(network, other));
    networks.iter().filter(outer).copied().collect()
}

/// The first address of the network that `ip` is in, or its last.
pub(crate) fn masked(ip: IpAddr, bits: u8, last: bool) -> IpAddr {
    let host = |width: u32| u128::MAX.checked_shr(128 - width + u32::from(bits)).unwrap_or(0);
    match ip {
        IpAddr::V4(v4) => {
            let host = host(32) as u32;
            let network = u32::from(v4) & !host;
            Ipv4Addr::from(if last { network | host } else { network }).into()
        }
        IpAddr::V6(v6) => {
            let network = u128::from(v6) & !host(128);
            Ipv6Addr::from(if last { network | host(128) } else { network }).into()
        }
    }
}

/// The ready endpoints; if there are none, those that still serve while they
/// terminate (KEP-1669).
fn usable<'a>(endpoints: impl Iterator<Item = &'a Endpoint> + Clone) -> Vec<&'a Endpoint> {
    let ready: Vec<&Endpoint> = endpoints.clone().filter(|e| e.ready).collect();
    if ready.is_empty() {
        return endpoints.filter(|e| e.serving && e.terminating).collect();
    }
    ready
}

/// Those that are for this node, or else for its zone (KEP-3015). Hints count where all
/// that are ready have one and some is for here: else clients would have no endpoint.
fn nearby(endpoints: Vec<&Endpoint>) -> Vec<&Endpoint> {
    // Whoever leaves takes what comes, and comes only where nobody is ready.
    if endpoints.iter().any(|e| !e.ready) {
        return endpoints;
    }
    for hint in [|e: &Endpoint| e.for_node, |e: &Endpoint| e.for_zone] {
        let all = endpoints.iter().all(|e| hint(e) != Hint::Silent);
        if all && endpoints.iter().any(|e| hint(e) == Hint::Here) {
            return endpoints.into_iter().filter(|e| hint(e) == Hint::Here).collect();
        }
    }
    endpoints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{config, endpoint, service};

    fn endpoints(service: &Service) -> String {
        let all = frontends(service, &config());
        let lines = all.iter().map(|(key, f)| {
            let ips: Vec<String> =
                f.endpoints.iter().map(|(ip, port)| format!("{ip}:{port}")).collect();
            let what = if ips.is_empty() { format!("{:?}", f.none) } else { ips.join(" ") };
            let masquerade = if f.masquerade { " masquerade" } else { "" };
            format!("{}:{} -> {what}{masquerade}", key.ip, key.port)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn who_gets_new_connections() {
        let mut service = service(&["10.42.0.5", "10.42.0.6"]);
        assert_eq!(endpoints(&service), "10.43.0.5:80 -> 10.42.0.5:8080 10.42.0.6:8080");
        service.ports[0].endpoints[0].ready = false;
        assert_eq!(endpoints(&service), "10.43.0.5:80 -> 10.42.0.6:8080");
        service.ports[0].endpoints[1].ready = false;
        assert_eq!(endpoints(&service), "10.43.0.5:80 -> Reject");
        let terminating = Endpoint { ready: false, terminating: true, ..endpoint("10.42.0.7") };
        service.ports[0].endpoints.push(terminating);
        assert_eq!(endpoints(&service), "10.43.0.5:80 -> 10.42.0.7:8080");
        service.cluster_ips = vec!["10.43.0.10".parse().unwrap()];
        assert_eq!(endpoints(&service), "");
    }

    #[test]
    fn hints_are_followed_where_all_have_one_and_some_is_for_here() {
        use Hint::{Elsewhere, Here, Silent};
        let check = |hints: [(Hint, Hint); 3], expected: &[&str]| {
            let mut service = service(&["10.42.0.5", "10.42.0.6", "10.42.0.7"]);
            for (endpoint, (for_node, for_zone)) in service.ports[0].endpoints.iter_mut().zip(hints)
            {
                (endpoint.for_node, endpoint.for_zone) = (for_node, for_zone);
            }
            let ips: Vec<String> =
                expected.iter().map(|last| format!("10.42.0.{last}:8080")).collect();
            let expected = format!("10.43.0.5:80 -> {}", ips.join(" "));
            assert_eq!(endpoints(&service), expected, "{hints:?}");
            service
        };
        let all: &[&str] = &["5", "6", "7"];
        check([(Silent, Here), (Silent, Elsewhere), (Silent, Here)], &["5", "7"]);
        check([(Here, Here), (Elsewhere, Here), (Elsewhere, Elsewhere)], &["5"]);
        // None on this node: its zone's.
        check([(Elsewhere, Here), (Elsewhere, Here), (Elsewhere, Elsewhere)], &["5", "6"]);
        // One that says nothing makes all count, for nodes and zones each.
        check([(Silent, Here), (Silent, Silent), (Silent, Elsewhere)], all);
        check([(Here, Here), (Silent, Here), (Elsewhere, Elsewhere)], &["5", "6"]);
        check([(Silent, Elsewhere), (Silent, Elsewhere), (Silent, Elsewhere)], all);
        // Only those that are ready are asked.
        let mut service = check([(Silent, Here), (Silent, Elsewhere), (Silent, Elsewhere)], &["5"]);
        service.ports[0].endpoints[0].ready = false;
        assert_eq!(endpoints(&service), "10.43.0.5:80 -> 10.42.0.6:8080 10.42.0.7:8080");
        for endpoint in &mut service.ports[0].endpoints {
            (endpoint.ready, endpoint.terminating) = (false, true);
        }
        let leaving = "10.43.0.5:80 -> 10.42.0.5:8080 10.42.0.6:8080 10.42.0.7:8080";
        assert_eq!(endpoints(&service), leaving);
        // Who asks for this node's only gets those, whatever is hinted.
        let mut service = check([(Elsewhere, Elsewhere), (Here, Here), (Here, Here)], &["6", "7"]);
        service.internal_policy = TrafficPolicy::Local;
        service.ports[0].endpoints[1].local = false;
        assert_eq!(endpoints(&service), "10.43.0.5:80 -> 10.42.0.5:8080 10.42.0.7:8080");
    }

    #[test]
    fn a_node_port_without_a_service_address_has_its_endpoints_family() {
        let mut service = service(&["10.42.0.5"]);
        service.cluster_ips.clear();
        service.ports[0].node_port = Some(8080);
        service.external_policy = TrafficPolicy::Local;
        assert_eq!(endpoints(&service), "0.0.0.0:8080 -> 10.42.0.5:8080");
    }

    #[test]
    fn a_network_s_first_and_last_address() {
        for (ip, bits, first, last) in [
            ("10.1.2.3", 8, "10.0.0.0", "10.255.255.255"),
            ("10.1.2.3", 31, "10.1.2.2", "10.1.2.3"),
            ("10.1.2.3", 32, "10.1.2.3", "10.1.2.3"),
            ("10.1.2.3", 0, "0.0.0.0", "255.255.255.255"),
            ("fd42::1:2", 112, "fd42::1:0", "fd42::1:ffff"),
            ("fd42::1", 128, "fd42::1", "fd42::1"),
            ("fd42::1", 0, "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            let masked = |last| masked(ip.parse().unwrap(), bits, last).to_string();
            assert_eq!(
                (masked(false).as_str(), masked(true).as_str()),
                (first, last),
                "{ip}/{bits}"
            );
        }
    }

    #[test]
    fn who_is_let_in_by_a_balancer() {
        let mut service = service(&["10.42.0.5", "fd42::5"]);
        service.external_ips = vec!["192.0.2.8".parse().unwrap()];
        service.balancer_ips = vec!["192.0.2.9".parse().unwrap(), "2001:db8::9".parse().unwrap()];
        let sources = |service: &Service| {
            let all = frontends(service, &config());
            let restricted = all.iter().filter_map(|(key, f)| Some((key.ip, f.sources.as_ref()?)));
            let line = |(ip, sources): (IpAddr, &BTreeSet<Network>)| {
                let list: Vec<String> =
                    sources.iter().map(|(ip, bits)| format!("{ip}/{bits}")).collect();
                format!("{ip} from {}", list.join(" "))
            };
            restricted.map(line).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(sources(&service), "");
        let range = |ip: &str, bits| (ip.parse().unwrap(), bits);
        service.source_ranges = Some(vec![
            range("203.0.113.77", 32),
            range("10.1.0.0", 16),
            range("10.0.0.1", 8),
            range("10.0.0.0", 8),
        ]);
        assert_eq!(
            sources(&service),
            "192.0.2.9 from 10.0.0.0/8 203.0.113.77/32, 2001:db8::9 from "
        );
        service.source_ranges = Some(vec![range("0.0.0.0", 0), range("::", 0)]);
        assert_eq!(sources(&service), "192.0.2.9 from 0.0.0.0/0, 2001:db8::9 from ::/0");
        // An address that is also an external one is no way around.
        service.external_ips = service.balancer_ips.clone();
        assert_eq!(sources(&service), "192.0.2.9 from 0.0.0.0/0, 2001:db8::9 from ::/0");
    }

    #[test]
    fn policies_and_families() {
        let mut service = service(&["10.42.0.5", "10.42.1.6", "fd42::7"]);
        service.cluster_ips.push("fd43::5".parse().unwrap());
        service.external_ips = vec!["192.0.2.9".parse().unwrap()];
        service.ports[0].node_port = Some(30080);
        service.ports[0].endpoints[1].local = false;
        assert_eq!(
            endpoints(&service),
            "0.0.0.0:30080 -> 10.42.0.5:8080 10.42.1.6:8080 masquerade\n\
             10.43.0.5:80 -> 10.42.0.5:8080 10.42.1.6:8080\n\
             192.0.2.9:80 -> 10.42.0.5:8080 10.42.1.6:8080 masquerade\n\
             :::30080 -> fd42::7:8080 masquerade\n\
             fd43::5:80 -> fd42::7:8080"
        );
        service.external_policy = TrafficPolicy::Local;
        service.internal_policy = TrafficPolicy::Local;
        service.ports[0].endpoints[0].local = false;
        service.ports[0].endpoints[2].local = false;
        let dropped = endpoints(&service);
        assert_eq!(dropped.matches("-> Drop").count(), 5, "{dropped}");
        assert!(!dropped.contains("masquerade"));
    }
}

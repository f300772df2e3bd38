//! From a Service to what the rules need: for each address and port the
//! endpoints that get new connections, and what else holds there.

use crate::Config;
use crate::service::{Endpoint, Port, Protocol, Service, TrafficPolicy};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

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
    let allowed = |e: &&&Endpoint| policy == TrafficPolicy::Cluster || e.local;
    let usable = usable(family.iter().filter(allowed).copied());
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
        none: if elsewhere { WithoutEndpoints::Drop } else { WithoutEndpoints::Reject },
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
    fn a_node_port_without_a_service_address_has_its_endpoints_family() {
        let mut service = service(&["10.42.0.5"]);
        service.cluster_ips.clear();
        service.ports[0].node_port = Some(8080);
        service.external_policy = TrafficPolicy::Local;
        assert_eq!(endpoints(&service), "0.0.0.0:8080 -> 10.42.0.5:8080");
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

//! What is known: Services by their names and addresses, kept up to date a
//! Service at a time.

use crate::service::{Endpoint, Port, Service, ServiceName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What the zone depends on beside Services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneConfig {
    /// The cluster domain, `cluster.local`.
    pub domain: String,
    /// This DNS's own addresses, for the NS record.
    pub nameservers: Vec<IpAddr>,
    /// The pod and service networks. A PTR question for an unknown address in
    /// them is answered (there is no such name) and not forwarded.
    pub networks: Vec<(IpAddr, u8)>,
}

/// Everything that the DNS answers from memory.
#[derive(Debug, Clone)]
pub struct Zone {
    config: ZoneConfig,
    /// Lower-case labels of the domain, in the order they are written.
    domain: Vec<String>,
    services: BTreeMap<ServiceName, Service>,
    /// Which Services use an address, in order: most often one, for which a set would
    /// take the room of eleven.
    by_ip: BTreeMap<IpAddr, Vec<ServiceName>>,
    /// Counts changes, for the SOA record.
    serial: u32,
}

/// What a name in the zone stands for.
#[derive(Debug, PartialEq)]
pub(crate) enum Node<'a> {
    /// Nothing: NXDOMAIN.
    Absent,
    /// The zone itself.
    Apex,
    /// A name that has names below it but no records: NODATA.
    Empty,
    /// Addresses of a Service, an endpoint or a pod.
    Addresses(Vec<IpAddr>),
    /// The SRV records of a named port: host names below the Service (none for
    /// the Service itself) with the port and the addresses.
    Ports { service: &'a ServiceName, targets: Vec<Target> },
    /// An ExternalName.
    Alias(&'a str),
    /// The version of the specification.
    Version,
}

/// One target of an SRV record.
#[derive(Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) host: Option<String>,
    pub(crate) port: u16,
    pub(crate) ips: Vec<IpAddr>,
}

impl Zone {
    /// An empty zone.
    pub fn new(config: ZoneConfig) -> Self {
        let domain = config.domain.trim_matches('.').to_ascii_lowercase();
        let domain = domain.split('.').map(str::to_owned).collect();
        Zone { config, domain, services: BTreeMap::new(), by_ip: BTreeMap::new(), serial: 1 }
    }

    /// A Service is new, changed, or (`None`) gone.
    pub fn apply(&mut self, name: ServiceName, service: Option<Service>) {
        self.serial = self.serial.wrapping_add(1);
        if let Some(old) = self.services.remove(&name) {
            for ip in ips_of(&old) {
                if let Some(names) = self.by_ip.get_mut(&ip) {
                    names.retain(|known| *known != name);
                    if names.is_empty() {
                        self.by_ip.remove(&ip);
                    }
                }
            }
        }
        if let Some(new) = service {
            for ip in ips_of(&new) {
                let names = self.by_ip.entry(ip).or_insert_with(|| Vec::with_capacity(1));
                if let Err(at) = names.binary_search(&name) {
                    names.insert(at, name.clone());
                }
            }
            self.services.insert(name, new);
        }
    }

    /// The pod and service networks are others now.
    pub fn set_networks(&mut self, networks: Vec<(IpAddr, u8)>) {
        self.config.networks = networks;
    }

    /// How many Services there are.
    pub fn len(&self) -> usize {
        self.services.len()
    }

    /// Are there no Services?
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    pub(crate) fn config(&self) -> &ZoneConfig {
        &self.config
    }

    pub(crate) fn domain(&self) -> &[String] {
        &self.domain
    }

    pub(crate) fn serial(&self) -> u32 {
        self.serial
    }

    /// Finds a name by its lower-case labels before the domain.
    pub(crate) fn find(&self, labels: &[&str]) -> Node<'_> {
        match labels {
            [] => Node::Apex,
            ["dns-version"] => Node::Version,
            ["svc" | "pod"] | ["dns"] => Node::Empty,
            ["ns", "dns"] => Node::Addresses(self.config.nameservers.clone()),
            [namespace, "svc" | "pod"] if self.has_namespace(namespace) => Node::Empty,
            [ip, _, "pod"] => undashed(ip).map_or(Node::Absent, |ip| Node::Addresses(vec![ip])),
            [rest @ .., name, namespace, "svc"] => self.find_service(namespace, name, rest),
            _ => Node::Absent,
        }
    }

    fn has_namespace(&self, namespace: &str) -> bool {
        let first = ServiceName { namespace: namespace.to_owned(), name: String::new() };
        self.services.range(first..).next().is_some_and(|(name, _)| name.namespace == namespace)
    }

    fn find_service(&self, namespace: &str, name: &str, below: &[&str]) -> Node<'_> {
        let wanted = ServiceName { namespace: namespace.to_owned(), name: name.to_owned() };
        let Some((service_name, service)) = self.services.get_key_value(&wanted) else {
            return Node::Absent;
        };
        let ports = |wanted: &dyn Fn(&Port) -> bool| -> Vec<Target> {
            let all: Vec<Target> = match service {
                Service::Cluster { ips, ports } => ports
                    .iter()
                    .filter(|p| wanted(p))
                    .map(|p| Target { host: None, port: p.port, ips: ips.clone() })
                    .collect(),
                Service::Headless { .. } => published(service)
                    .flat_map(|e| e.ports.iter().map(move |p| (e, p)))
                    .filter(|(_, p)| wanted(p))
                    .map(|(e, p)| Target { host: Some(host_of(e)), port: p.port, ips: vec![e.ip] })
                    .collect(),
                Service::External { .. } => Vec::new(),
            };
            merged(all)
        };
        match (below, service) {
            ([], Service::Cluster { ips, .. }) => Node::Addresses(ips.clone()),
            ([], Service::External { name }) => Node::Alias(name),
            // With nothing to publish there is no such name (2.4.1).
            ([], Service::Headless { .. }) => addresses_or_absent(published(service).map(|e| e.ip)),
            ([host], Service::Headless { .. }) if !host.starts_with('_') => addresses_or_absent(
                published(service).filter(|e| host_of(e) == *host).map(|e| e.ip),
            ),
            ([protocol], _) => {
                match ports(&|p| is_label(protocol, p.protocol.label())).is_empty() {
                    true => Node::Absent,
                    false => Node::Empty,
                }
            }
            ([port, protocol], _) => {
                let targets =
                    ports(&|p| is_label(protocol, p.protocol.label()) && is_label(port, &p.name));
                match targets.is_empty() {
                    true => Node::Absent,
                    false => Node::Ports { service: service_name, targets },
                }
            }
            _ => Node::Absent,
        }
    }

    /// The names of an address, relative to the domain, lower-case labels
    /// joined by dots; `None` if the question is none of this zone's business.
    pub(crate) fn find_ip(&self, ip: IpAddr) -> Option<Vec<String>> {
        let Some(services) = self.by_ip.get(&ip) else {
            let ours = self.config.networks.iter().any(|(network, n)| contains(*network, *n, ip));
            return ours.then(Vec::new);
        };
        let names = services.iter().flat_map(|name| {
            let base = format!("{}.{}.svc", name.name, name.namespace);
            match self.services.get(name) {
                Some(service @ Service::Headless { .. }) => published(service)
                    .filter(|e| e.ip == ip)
                    .map(|e| format!("{}.{base}", host_of(e)))
                    .collect(),
                _ => vec![base],
            }
        });
        Some(names.collect())
    }
}

fn ips_of(service: &Service) -> BTreeSet<IpAddr> {
    match service {
        Service::Cluster { ips, .. } => ips.iter().copied().collect(),
        Service::Headless { endpoints, .. } => endpoints.iter().map(|e| e.ip).collect(),
        Service::External { .. } => BTreeSet::new(),
    }
}

/// The endpoints of a headless Service that have names.
fn published(service: &Service) -> impl Iterator<Item = &Endpoint> {
    let (endpoints, all) = match service {
        Service::Headless { endpoints, publish_not_ready } => {
            (endpoints.as_slice(), *publish_not_ready)
        }
        _ => (&[][..], false),
    };
    endpoints.iter().filter(move |e| e.ready || all)
}

fn addresses_or_absent<'a>(ips: impl Iterator<Item = IpAddr>) -> Node<'a> {
    // An address may stand in several slices.
    let ips: BTreeSet<IpAddr> = ips.collect();
    match ips.is_empty() {
        true => Node::Absent,
        false => Node::Addresses(ips.into_iter().collect()),
    }
}

/// A pod with a host name and an address of each family is one target.
fn merged(all: Vec<Target>) -> Vec<Target> {
    let mut merged: Vec<Target> = Vec::new();
    let mut known: BTreeMap<(Option<String>, u16), usize> = BTreeMap::new();
    for target in all {
        match known.get(&(target.host.clone(), target.port)) {
            Some(index) => merged[*index].ips.extend(target.ips),
            None => {
                known.insert((target.host.clone(), target.port), merged.len());
                merged.push(target);
            }
        }
    }
    merged
}

/// The endpoint's name below its Service.
fn host_of(endpoint: &Endpoint) -> String {
    match &endpoint.hostname {
        Some(hostname) if !hostname.is_empty() => hostname.to_ascii_lowercase(),
        _ => dashed(endpoint.ip),
    }
}

/// `_tcp` for `tcp`.
fn is_label(label: &str, name: &str) -> bool {
    !name.is_empty() && label.strip_prefix('_').is_some_and(|l| l.eq_ignore_ascii_case(name))
}

/// `10-42-0-5`, `fd00--5`.
pub(crate) fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

fn undashed(label: &str) -> Option<IpAddr> {
    label.replace('-', ".").parse().or_else(|_| label.replace('-', ":").parse()).ok()
}

fn contains(network: IpAddr, prefix_len: u8, ip: IpAddr) -> bool {
    fn bits(ip: IpAddr) -> u128 {
        match ip {
            IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
            IpAddr::V6(v6) => v6.into(),
        }
    }
    let differ = bits(network) ^ bits(ip);
    network.is_ipv4() == ip.is_ipv4() && differ.leading_zeros() >= u32::from(prefix_len)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::service::Protocol;

    pub(crate) fn name(text: &str) -> ServiceName {
        let (namespace, name) = text.split_once('/').unwrap();
        ServiceName { namespace: namespace.into(), name: name.into() }
    }

    fn port(name: &str, port: u16) -> Port {
        Port { name: name.into(), protocol: Protocol::Tcp, port }
    }

    fn endpoint(ip: &str, hostname: Option<&str>, ready: bool) -> Endpoint {
        let hostname = hostname.map(str::to_owned);
        Endpoint { ip: ip.parse().unwrap(), hostname, ready, ports: vec![port("pg", 5432)] }
    }

    /// The zone that most tests here and in `answer` ask.
    pub(crate) fn zone() -> Zone {
        let mut zone = Zone::new(ZoneConfig {
            domain: "cluster.local".into(),
            nameservers: vec!["10.43.0.10".parse().unwrap()],
            networks: vec![("10.42.0.0".parse().unwrap(), 16), ("10.43.0.0".parse().unwrap(), 16)],
        });
        let ips = vec!["10.43.0.5".parse().unwrap(), "fd43::5".parse().unwrap()];
        zone.apply(
            name("default/web"),
            Some(Service::Cluster { ips, ports: vec![port("http", 80)] }),
        );
        let endpoints = vec![
            endpoint("10.42.0.7", Some("db-0"), true),
            endpoint("10.42.0.8", None, true),
            endpoint("10.42.0.9", Some("db-2"), false),
        ];
        zone.apply(
            name("default/db"),
            Some(Service::Headless { endpoints, publish_not_ready: false }),
        );
        let endpoints = vec![endpoint("10.42.0.9", Some("seed"), false)];
        zone.apply(
            name("default/seeds"),
            Some(Service::Headless { endpoints, publish_not_ready: true }),
        );
        let endpoints = vec![endpoint("10.42.0.9", Some("lost"), false)];
        zone.apply(
            name("other/unready"),
            Some(Service::Headless { endpoints, publish_not_ready: false }),
        );
        zone.apply(
            name("other/alias"),
            Some(Service::External { name: "web.default.svc.cluster.local".into() }),
        );
        zone.apply(name("other/far"), Some(Service::External { name: "example.org".into() }));
        zone.apply(
            name("other/loop"),
            Some(Service::External { name: "loop.other.svc.cluster.local.".into() }),
        );
        zone
    }

    #[test]
    fn a_service_that_goes_leaves_nothing() {
        let mut zone = zone();
        let before = zone.serial();
        assert!(
            zone.find_ip("10.43.0.5".parse().unwrap()).is_some_and(|n| n == ["web.default.svc"])
        );
        for service in ["default/web", "default/db", "default/seeds"] {
            zone.apply(name(service), None);
        }
        assert_eq!(zone.find(&["web", "default", "svc"]), Node::Absent);
        assert_eq!(zone.find(&["default", "svc"]), Node::Absent);
        assert_eq!(zone.find_ip("10.43.0.5".parse().unwrap()), Some(Vec::new()));
        assert!(zone.serial() > before && zone.len() == 4);
        assert!(zone.by_ip.len() == 1);
    }

    /// A StatefulSet's pod is in a slice of each family.
    #[test]
    fn a_pod_of_two_families_is_one_target() {
        let mut zone = zone();
        let ips = ["10.42.0.20", "10.42.0.21", "fd42::20", "fd42::21"];
        let host = |ip: &str| if ip.ends_with("20") { "db-0" } else { "db-1" };
        let endpoints = ips.iter().map(|ip| endpoint(ip, Some(host(ip)), true)).collect();
        let both = Service::Headless { endpoints, publish_not_ready: false };
        zone.apply(name("default/both"), Some(both));
        let Node::Ports { targets, .. } = zone.find(&["_pg", "_tcp", "both", "default", "svc"])
        else {
            panic!("a named port");
        };
        let told: Vec<String> = targets
            .iter()
            .map(|t| format!("{:?}:{} {:?}", t.host.as_deref(), t.port, t.ips))
            .collect();
        assert_eq!(
            told,
            [
                "Some(\"db-0\"):5432 [10.42.0.20, fd42::20]",
                "Some(\"db-1\"):5432 [10.42.0.21, fd42::21]",
            ]
        );
        let of_one = vec!["10.42.0.20".parse().unwrap(), "fd42::20".parse().unwrap()];
        assert_eq!(zone.find(&["db-0", "both", "default", "svc"]), Node::Addresses(of_one));
        let names = zone.find_ip("fd42::21".parse().unwrap());
        assert_eq!(names, Some(vec!["db-1.both.default.svc".to_owned()]));
    }

    #[test]
    fn networks() {
        assert!(contains("10.42.0.0".parse().unwrap(), 16, "10.42.255.1".parse().unwrap()));
        assert!(!contains("10.42.0.0".parse().unwrap(), 16, "10.43.0.0".parse().unwrap()));
        assert!(contains("fd42::".parse().unwrap(), 16, "fd42:1::".parse().unwrap()));
        assert!(!contains("0.0.0.0".parse().unwrap(), 0, "::".parse().unwrap()));
        assert_eq!(undashed(&dashed("fd42::5".parse().unwrap())), "fd42::5".parse().ok());
        assert_eq!(undashed("nonsense"), None);
    }
}

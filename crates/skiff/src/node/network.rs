//! The node's side of the cluster network: what the kernel is told at start,
//! the routes to other nodes' pods, the service proxy and the DNS.

use std::{
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, RwLock},
};

use ::node::{HostPorts, Live};

use client::{Ambient, Api, SharedInformers, supervise};
use net_overlay::{Carrier, Keys, Mode, Overlay, Sealing};
use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, task::JoinHandle};
use tracing::{info, warn};

use super::{cluster_dns, health_ports, overlay, service_networks, service_proxy};
use crate::{
    StartError,
    config::{Cidr, Cluster, Machine},
};

/// The nftables table; a network namespace has one node.
const TABLE: &str = "skiff";

/// What a node did to the network, left in its data directory so that
/// `skiff killall` can undo it without knowing the flags.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Footprint {
    version: u32,
    table: String,
    pub(super) service_networks: Vec<(IpAddr, u8)>,
    local_addresses: Vec<IpAddr>,
}

impl Footprint {
    fn path(data_dir: &Path) -> std::path::PathBuf {
        data_dir.join("node/network.json")
    }

    pub(super) fn new(cluster: &Cluster) -> Self {
        Self {
            version: 1,
            table: TABLE.into(),
            service_networks: pairs(&cluster.service_cidrs),
            local_addresses: cluster.dns.clone(),
        }
    }

    pub(super) fn save(&self, data_dir: &Path) -> Result<(), StartError> {
        let path = Self::path(data_dir);
        let text = serde_json::to_vec(self)?;
        // An unchanged file is not written: a start should cost the SD card nothing.
        if std::fs::read(&path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        let put = || {
            std::fs::create_dir_all(path.parent().unwrap_or(data_dir))?;
            let new = path.with_extension("new");
            std::fs::write(&new, &text)?;
            std::fs::rename(&new, &path)
        };
        put().map_err(|error| format!("{}: {error}", path.display()).into())
    }

    /// The same with other networks of Services.
    pub(super) fn with(self, service_networks: Vec<(IpAddr, u8)>) -> Self {
        Self { service_networks, ..self }
    }

    /// The same with routes that an earlier life may have left: what is no more a
    /// network of Services goes when that is known.
    fn after(self, before: Option<Self>) -> Self {
        let mut all = self.service_networks.clone();
        let before = before.into_iter().flat_map(|before| before.service_networks);
        all.extend(before.filter(|network| !self.service_networks.contains(network)));
        self.with(all)
    }

    /// What the node with this data directory did; `None` where it never ran.
    pub(crate) fn load(data_dir: &Path) -> Result<Option<Self>, StartError> {
        let path = Self::path(data_dir);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| format!("{}: {error}", path.display()).into()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{}: {error}", path.display()).into()),
        }
    }

    /// Takes it all back; tries everything and returns every failure.
    pub(crate) fn undo(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let mut note = |what: &str, result: Result<(), String>| {
            failures.extend(result.err().map(|error| format!("{what}: {error}")));
        };
        match netlink::pod_link::list() {
            Ok(links) => {
                for link in links {
                    let removed = netlink::pod_link::remove(&link.host_ifname);
                    note(&link.host_ifname, removed.map_err(|error| error.to_string()));
                }
            }
            Err(error) => note("pod links", Err(error.to_string())),
        }
        note("routes to other nodes", net_overlay::killall().map_err(|error| error.to_string()));
        note("service rules", net_rules::killall(&self.table).map_err(|error| error.to_string()));
        for (network, prefix) in &self.service_networks {
            let removed = netlink::host::remove_service_route(*network, *prefix);
            note("service route", removed.map_err(|error| error.to_string()));
        }
        let removed = netlink::host::remove_local_addresses(&self.local_addresses);
        note("DNS address", removed.map_err(|error| error.to_string()));
        failures
    }
}

pub(super) fn pairs(cidrs: &[Cidr]) -> Vec<(IpAddr, u8)> {
    cidrs.iter().map(|cidr| (cidr.network, cidr.prefix)).collect()
}

/// The node's addresses: as told, else those of the default route.
pub(crate) fn addresses(machine: &Machine, cluster: &Cluster) -> Result<Vec<IpAddr>, StartError> {
    if !machine.node_ips.is_empty() {
        return chosen(&machine.node_ips, cluster, true).map_err(StartError::from);
    }
    chosen(&netlink::host::node_addresses()?, cluster, false).map_err(StartError::from)
}

/// The addresses that the node says it has. Found ones are of the families that
/// pods have, in their order: the first address is the one that others are told,
/// so it is of the cluster's first family.
fn chosen(all: &[IpAddr], cluster: &Cluster, named: bool) -> Result<Vec<IpAddr>, String> {
    let v6 = cluster.pod_cidrs.first().is_some_and(|cidr| cidr.network.is_ipv6());
    let (family, dual) = (if v6 { "IPv6" } else { "IPv4" }, cluster.pod_cidrs.len() > 1);
    if named {
        return match all.first() {
            Some(first) if first.is_ipv6() != v6 => Err(format!(
                "--node-ip begins with {first}, but the cluster's first family is {family}: name an \
                 address of that family first"
            )),
            _ => Ok(all.to_vec()),
        };
    }
    let of_family = |cidr: &Cidr| {
        let ipv4 = cidr.network.is_ipv4();
        all.iter().copied().filter(move |ip| ip.is_ipv4() == ipv4).collect::<Vec<_>>()
    };
    let found: Vec<IpAddr> = cluster.pod_cidrs.iter().flat_map(of_family).collect();
    if found.first().is_none_or(|first| first.is_ipv6() != v6) {
        let what = if v6 || dual { format!("{family} address") } else { "address".to_owned() };
        return Err(format!(
            "this machine has no {what} yet: connect its network, or name one with --node-ip"
        ));
    }
    Ok(found)
}

/// The node's WireGuard key, where it takes part: it is told to seal everything, or
/// its kernel can and it chooses by itself.
fn sealing(machine: &Machine, cluster: &Cluster) -> Result<Option<Sealing>, StartError> {
    let takes_part = match cluster.pod_network {
        Mode::Direct | Mode::Vxlan => false,
        Mode::Wireguard => true,
        Mode::Auto => Carrier::found()? == Carrier::Kernel,
    };
    if !takes_part {
        return Ok(None);
    }
    let carrier = Carrier::found()?;
    if carrier == Carrier::Userspace {
        info!("the kernel has no WireGuard: skiff encrypts pods' packets itself, which is slower");
    }
    let keys = Keys::kept(&machine.data_dir.join("node/wireguard.key"))?;
    Ok(Some(Sealing { keys, carrier }))
}

/// What the node hears of its network while it runs.
#[derive(Clone)]
pub(crate) struct Outside {
    /// The node's own addresses.
    pub(crate) ips: Live<Vec<IpAddr>>,
    /// What fits on the way to every other node, bytes.
    pub(crate) pod_mtu: Live<u32>,
    /// What pods want of the node's own ports.
    pub(crate) host_ports: HostPorts,
    /// How it takes part in WireGuard.
    pub(crate) sealing: Option<Sealing>,
}

impl Outside {
    pub(crate) fn new(
        machine: &Machine,
        cluster: &Cluster,
        ips: Vec<IpAddr>,
    ) -> Result<Self, StartError> {
        Ok(Self {
            ips: Live::new(ips),
            pod_mtu: Live::new(1500),
            host_ports: HostPorts::default(),
            sealing: sealing(machine, cluster)?,
        })
    }
}

/// A node among its own pods' or Services' addresses would lose what it sends.
fn overlap(cluster: &Cluster, ips: &[IpAddr]) -> Result<(), StartError> {
    for (flag, cidrs) in
        [("--cluster-cidr", &cluster.pod_cidrs), ("--service-cidr", &cluster.service_cidrs)]
    {
        for cidr in cidrs {
            if let Some(ip) = ips.iter().find(|ip| cidr.contains(**ip)) {
                return Err(format!(
                    "this machine's address {ip} lies in the cluster's {flag} {cidr}: give the \
                     machine another network, or start the servers with ranges that are free here"
                )
                .into());
            }
        }
    }
    Ok(())
}

pub(super) fn route_services(services: &[Cidr], ips: &[IpAddr]) -> Result<(), netlink::Error> {
    for (network, prefix) in pairs(services) {
        let source = ips.iter().find(|ip| ip.is_ipv4() == network.is_ipv4()).copied();
        netlink::host::ensure_service_route(network, prefix, source)?;
    }
    Ok(())
}

/// Follows the machine's own addresses until dropped. `changed` is told by the
/// kernel's news, and `links` afterwards.
async fn follow_addresses(
    machine: Machine,
    cluster: Cluster,
    ips: Live<Vec<IpAddr>>,
    services: Live<Vec<Cidr>>,
    changed: Arc<Notify>,
    links: Arc<Notify>,
) {
    loop {
        changed.notified().await;
        match addresses(&machine, &cluster) {
            Ok(found) => {
                if found != ips.get() {
                    info!(addresses = ?found, "this machine's addresses have changed");
                    ips.set(found.clone());
                }
                if let Err(error) = route_services(&services.get(), &found) {
                    warn!(%error, "Services cannot be reached from this node");
                }
            }
            // Between an old address and a new one there is none.
            Err(error) => warn!(%error, "this machine has lost its address"),
        }
        links.notify_one();
    }
}

/// Readies the kernel and starts what follows Nodes and Services.
pub(crate) async fn start(
    machine: &Machine,
    cluster: &Cluster,
    outside: &Outside,
    api: Api,
    ambient: Ambient,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let before = Footprint::load(&machine.data_dir)?;
    Footprint::new(cluster).after(before).save(&machine.data_dir)?;
    netlink::host::ensure_loopback()?;
    netlink::host::enable_forwarding(cluster.has_ipv6())?;
    netlink::host::ensure_local_addresses(&cluster.dns)?;
    let node_ips = outside.ips.get();
    overlap(cluster, &node_ips)?;
    route_services(&cluster.service_cidrs, &node_ips)?;
    let (changed, links) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let told = changed.clone();
    netlink::host::follow_addresses(move || told.notify_one())?;
    let proxy = net_rules::Proxy::open(net_rules::Config {
        table: TABLE.into(),
        pod_networks: pairs(&cluster.pod_cidrs),
        service_networks: pairs(&cluster.service_cidrs),
        node_local: cluster.dns.clone(),
        pod_ifname_prefix: netlink::pod_link::HOST_PREFIX.into(),
    })?;
    for chain in proxy.foreign_drops()? {
        warn!(
            %chain,
            "a firewall on this machine drops forwarded packets: pods cannot talk until it lets {} through",
            cluster.pod_cidrs.iter().map(Cidr::to_string).collect::<Vec<_>>().join(", ")
        );
    }
    let informers = SharedInformers::new(api, ambient);
    let zone = net_dns::ZoneConfig {
        domain: cluster.domain.clone(),
        nameservers: cluster.dns.clone(),
        networks: pairs(&cluster.pod_cidrs)
            .into_iter()
            .chain(pairs(&cluster.service_cidrs))
            .collect(),
    };
    let zone = Arc::new(RwLock::new(net_dns::Zone::new(zone)));
    let dns = cluster_dns::start(&informers, zone.clone(), &cluster.dns).await?;
    let services = Live::new(cluster.service_cidrs.clone());
    let (proxy, name) = (Arc::new(Mutex::new(proxy)), machine.node_name.clone());
    let proxy = {
        let (informers, name, services) = (informers.clone(), name.clone(), services.clone());
        let ports = outside.host_ports.clone();
        kept("the service proxy", move || {
            let (informers, proxy, name) = (informers.clone(), proxy.clone(), name.clone());
            service_proxy::run(informers, proxy, name, ports.clone(), services.clone())
        })
    };
    let networks = {
        let (informers, services) = (informers.clone(), services.clone());
        let (cluster, data_dir) = (cluster.clone(), machine.data_dir.clone());
        let ips = outside.ips.clone();
        kept("following the networks of Services", move || {
            let networks = service_networks::Networks {
                cluster: cluster.clone(),
                data_dir: data_dir.clone(),
                ips: ips.clone(),
                usable: services.clone(),
                zone: zone.clone(),
            };
            service_networks::run(informers.clone(), networks)
        })
    };
    let health = {
        let (informers, name) = (informers.clone(), name.clone());
        kept("health ports of Services", move || health_ports::run(informers.clone(), name.clone()))
    };
    let routes = {
        let (cluster, links) = (cluster.clone(), links.clone());
        let (sealing, mtu) = (outside.sealing.clone(), outside.pod_mtu.clone());
        kept("the routes to other nodes' pods", move || {
            let judged = links.clone();
            let ways = Overlay::new(
                name.clone(),
                cluster.pod_network,
                cluster.wireguard_port,
                pairs(&cluster.pod_cidrs),
                sealing.clone(),
                move || judged.notify_one(),
            );
            overlay::run(informers.clone(), ways, links.clone(), mtu.clone())
        })
    };
    let own = {
        let (machine, cluster, ips) = (machine.clone(), cluster.clone(), outside.ips.clone());
        kept("following this machine's addresses", move || {
            // A change since they were looked at is told by nobody.
            changed.notify_one();
            let (machine, cluster, ips) = (machine.clone(), cluster.clone(), ips.clone());
            let (services, changed, links) = (services.clone(), changed.clone(), links.clone());
            follow_addresses(machine, cluster, ips, services, changed, links)
        })
    };
    Ok(vec![dns, proxy, networks, health, routes, own])
}

/// A task of its own that starts anew where it ends.
fn kept<F>(what: &'static str, run: impl FnMut() -> F + Send + 'static) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(supervise(what, run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_known_by_an_address_of_the_first_family() {
        let cluster = |pods: &str| Cluster {
            pod_cidrs: pods.split(',').map(|cidr| Cidr::parse(cidr).expect("a network")).collect(),
            service_cidrs: Vec::new(),
            dns: Vec::new(),
            domain: "cluster.local".into(),
            pod_network: Mode::Auto,
            wireguard_port: 51820,
        };
        let (four, six) = ("10.42.0.0/16", "fd42::/56");
        let (both, turned) = (format!("{four},{six}"), format!("{six},{four}"));
        for (pods, has, named, expected) in [
            (four, "192.0.2.1 2001:db8::1", false, Ok("192.0.2.1")),
            (six, "192.0.2.1 2001:db8::1", false, Ok("2001:db8::1")),
            (&*both, "192.0.2.1 2001:db8::1", false, Ok("192.0.2.1 2001:db8::1")),
            (&*turned, "192.0.2.1 2001:db8::1", false, Ok("2001:db8::1 192.0.2.1")),
            // Its pods have both all the same, by a tunnel.
            (&*both, "192.0.2.1", false, Ok("192.0.2.1")),
            (&*both, "2001:db8::1", false, Err("no IPv4 address")),
            (six, "192.0.2.1", false, Err("no IPv6 address")),
            (four, "", false, Err("has no address yet")),
            (four, "192.0.2.9 2001:db8::9", true, Ok("192.0.2.9 2001:db8::9")),
            (&*turned, "192.0.2.9 2001:db8::9", true, Err("first family is IPv6")),
        ] {
            let all: Vec<IpAddr> =
                has.split_whitespace().map(|ip| ip.parse().expect("an address")).collect();
            let told = chosen(&all, &cluster(pods), named);
            let told =
                told.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
            match expected {
                Ok(expected) => assert_eq!(told.as_deref(), Ok(expected), "{pods}: {has}"),
                Err(why) => {
                    let error = told.expect_err(has);
                    assert!(error.contains(why), "{pods}: {has}: {error}");
                }
            }
        }
    }
}

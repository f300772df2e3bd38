//! The node's side of the cluster network: what the kernel is told at start,
//! the service proxy and the DNS.

use std::{net::IpAddr, path::Path};

use ::node::HostPorts;
use client::{Ambient, Api, SharedInformers};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tracing::warn;

use super::{StartError, cluster_dns, service_proxy};
use crate::config::{Cidr, Config};

/// The nftables table; a network namespace has one server.
const TABLE: &str = "skiff";

/// What a server did to the network, left in its data directory so that
/// `skiff killall` can undo it without knowing the flags.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Footprint {
    version: u32,
    table: String,
    service_networks: Vec<(IpAddr, u8)>,
    local_addresses: Vec<IpAddr>,
}

impl Footprint {
    fn path(data_dir: &Path) -> std::path::PathBuf {
        data_dir.join("node/network.json")
    }

    fn new(config: &Config) -> Self {
        Self {
            version: 1,
            table: TABLE.into(),
            service_networks: pairs(&config.service_cidrs),
            local_addresses: config.cluster_dns.clone(),
        }
    }

    fn save(&self, data_dir: &Path) -> Result<(), StartError> {
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

    /// What the server with this data directory did; `None` where it never ran.
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

fn pairs(cidrs: &[Cidr]) -> Vec<(IpAddr, u8)> {
    cidrs.iter().map(|cidr| (cidr.network, cidr.prefix)).collect()
}

/// The node's addresses: as told, else those of the default route.
pub(super) fn addresses(config: &Config) -> Result<Vec<IpAddr>, StartError> {
    if !config.node_ips.is_empty() {
        return Ok(config.node_ips.clone());
    }
    // Of the families that pods have, and in their order: the first address is
    // the one that others are told.
    let all = netlink::host::node_addresses()?;
    let of_family = |cidr: &Cidr| {
        let ipv4 = cidr.network.is_ipv4();
        all.iter().copied().filter(move |ip| ip.is_ipv4() == ipv4).collect::<Vec<_>>()
    };
    let found: Vec<IpAddr> = config.cluster_cidrs.iter().flat_map(of_family).collect();
    if found.is_empty() {
        return Err(
            "this machine has no address yet: connect its network, or name one with --node-ip"
                .into(),
        );
    }
    Ok(found)
}

/// Readies the kernel and starts what follows Services.
pub(super) async fn start(
    config: &Config,
    node_ips: &[IpAddr],
    api: Api,
    ambient: Ambient,
    host_ports: HostPorts,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    Footprint::new(config).save(&config.data_dir)?;
    let ipv6 = config.cluster_cidrs.iter().any(|cidr| cidr.network.is_ipv6());
    netlink::host::ensure_loopback()?;
    netlink::host::enable_forwarding(ipv6)?;
    netlink::host::ensure_local_addresses(&config.cluster_dns)?;
    for (network, prefix) in pairs(&config.service_cidrs) {
        let source = node_ips.iter().find(|ip| ip.is_ipv4() == network.is_ipv4()).copied();
        netlink::host::ensure_service_route(network, prefix, source)?;
    }
    let proxy = net_rules::Proxy::open(net_rules::Config {
        table: TABLE.into(),
        pod_networks: pairs(&config.cluster_cidrs),
        service_networks: pairs(&config.service_cidrs),
        node_local: config.cluster_dns.clone(),
        pod_ifname_prefix: netlink::pod_link::HOST_PREFIX.into(),
    })?;
    for chain in proxy.foreign_drops()? {
        warn!(
            %chain,
            "a firewall on this machine drops forwarded packets: pods cannot talk until it lets {} through",
            config.cluster_cidrs.iter().map(Cidr::to_string).collect::<Vec<_>>().join(", ")
        );
    }
    let informers = SharedInformers::new(api, ambient);
    let zone = net_dns::ZoneConfig {
        domain: config.cluster_domain.clone(),
        nameservers: config.cluster_dns.clone(),
        networks: pairs(&config.cluster_cidrs)
            .into_iter()
            .chain(pairs(&config.service_cidrs))
            .collect(),
    };
    let dns = cluster_dns::start(&informers, zone, &config.cluster_dns).await?;
    let proxy = service_proxy::run(informers, proxy, config.node_name.clone(), host_ports);
    Ok(vec![dns, tokio::spawn(proxy)])
}

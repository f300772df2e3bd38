//! What all machines of a cluster agree on: its networks and its domain.

use std::{collections::BTreeMap, net::IpAddr};

use net_overlay::Mode;

use super::{Cidr, all, ip, parsed};
use crate::flags::{UsageError, Values};

/// What all machines of a cluster agree on. Servers are told; nodes read it
/// from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Pod addresses.
    pub pod_cidrs: Vec<Cidr>,
    /// Service addresses.
    pub service_cidrs: Vec<Cidr>,
    /// DNS service addresses.
    pub dns: Vec<IpAddr>,
    /// `cluster.local`.
    pub domain: String,
    /// How pods reach those of other nodes.
    pub pod_network: Mode,
    /// The UDP port of each node that they are sealed to.
    pub wireguard_port: u16,
}

const MODES: [(&str, Mode); 4] = [
    ("auto", Mode::Auto),
    ("direct", Mode::Direct),
    ("vxlan", Mode::Vxlan),
    ("wireguard", Mode::Wireguard),
];
/// What [`Cluster::tell`] says of a cluster whose servers are too old to.
const WIREGUARD_PORT: (&str, &str) = ("wireguard-port", "51820");

/// Whether a range is an IPv6 one.
fn is_v6(cidr: &Cidr) -> bool {
    cidr.network.is_ipv6()
}

/// A cluster has one range of each family at most.
fn families(flag: &str, cidrs: &[Cidr]) -> Result<(), UsageError> {
    match cidrs {
        [_] => Ok(()),
        [first, second] if is_v6(first) != is_v6(second) => Ok(()),
        [] => Err(UsageError(format!("--{flag} is empty: name a network, or leave the flag out"))),
        _ => Err(UsageError(format!(
            "--{flag}: {} are too many; name one network of IPv4, one of IPv6, or one of each",
            joined(cidrs)
        ))),
    }
}

/// What has a Service address must be able to have pods behind it, and the
/// family that comes first is the cluster's own, for pods as for Services.
fn agree(pods: &[Cidr], services: &[Cidr]) -> Result<(), UsageError> {
    for cidr in services {
        if !pods.iter().any(|pods| is_v6(pods) == is_v6(cidr)) {
            return Err(UsageError(format!(
                "--service-cidr {cidr}: pods have no addresses of that family; add a network of it \
                 to --cluster-cidr"
            )));
        }
    }
    match (pods, services) {
        ([pods, ..], [services, ..]) if is_v6(pods) != is_v6(services) => Err(UsageError(format!(
            "--cluster-cidr begins with {pods} and --service-cidr with {services}: begin both \
                 with the same family, which will be the cluster's first"
        ))),
        _ => Ok(()),
    }
}

/// The address of the cluster's DNS where nobody has said another.
fn usual_dns(services: &Cidr) -> Result<IpAddr, UsageError> {
    services.nth(10).ok_or_else(|| {
        UsageError(format!(
            "--service-cidr {services} has no tenth address for the cluster's DNS: choose a larger \
             range, or an address of it with --cluster-dns"
        ))
    })
}

impl Cluster {
    /// Whether pods or Services have IPv6 addresses.
    pub fn has_ipv6(&self) -> bool {
        self.pod_cidrs.iter().any(is_v6)
    }

    /// Checks every value; the keys are those of the flags.
    ///
    /// # Errors
    /// Names the flag and what it should look like.
    pub fn new(values: &Values) -> Result<Self, UsageError> {
        let pod_cidrs = all(values, "cluster-cidr", "a network such as 10.42.0.0/16", Cidr::parse)?;
        let service_cidrs =
            all(values, "service-cidr", "a network such as 10.43.0.0/16", Cidr::parse)?;
        families("cluster-cidr", &pod_cidrs)?;
        families("service-cidr", &service_cidrs)?;
        agree(&pod_cidrs, &service_cidrs)?;
        let dns: Vec<IpAddr> = match values.is_given("cluster-dns") {
            true => all(values, "cluster-dns", "an address such as 10.43.0.10", ip)?,
            false => service_cidrs.iter().map(usual_dns).collect::<Result<_, _>>()?,
        };
        for dns in &dns {
            if !service_cidrs.iter().any(|cidr| cidr.contains(*dns)) {
                return Err(UsageError(format!(
                    "--cluster-dns: {dns} is not inside --service-cidr {}; choose an address from that range",
                    joined(&service_cidrs)
                )));
            }
        }
        for (pods, services) in
            pod_cidrs.iter().flat_map(|pods| service_cidrs.iter().map(move |s| (pods, s)))
        {
            if pods.contains(services.network) || services.contains(pods.network) {
                return Err(UsageError(format!(
                    "--cluster-cidr {pods} and --service-cidr {services} overlap; choose ranges \
                     that have no address in common"
                )));
            }
        }
        let domain = values.one("cluster-domain").unwrap_or_default().to_owned();
        if let Some(fault) = api_object::name::dns1123_subdomain(&domain).first() {
            return Err(UsageError(format!("--cluster-domain: \"{domain}\": {fault}")));
        }
        let modes = "one of auto, direct, vxlan and wireguard";
        let pod_network = parsed(values, "pod-network", modes, |text| {
            MODES.iter().find(|(name, _)| *name == text).map(|(_, mode)| *mode)
        })?;
        let wireguard_port = parsed(values, "wireguard-port", "a port from 1 to 65535", |text| {
            text.parse().ok().filter(|port| *port != 0)
        })?;
        Ok(Self { pod_cidrs, service_cidrs, dns, domain, pod_network, wireguard_port })
    }

    /// What [`Self::told`] reads back: one text a flag.
    pub fn tell(&self) -> BTreeMap<String, String> {
        [
            ("cluster-cidr", joined(&self.pod_cidrs)),
            ("service-cidr", joined(&self.service_cidrs)),
            ("cluster-dns", joined(&self.dns)),
            ("cluster-domain", self.domain.clone()),
            (
                "pod-network",
                (MODES.iter().find(|(_, mode)| *mode == self.pod_network))
                    .map_or_else(String::new, |(name, _)| (*name).to_owned()),
            ),
            ("wireguard-port", self.wireguard_port.to_string()),
        ]
        .map(|(key, text)| (key.to_owned(), text))
        .into()
    }

    /// From what a server tells. What a newer one says beside that is not for us.
    ///
    /// # Errors
    /// Where a value is missing or wrong.
    pub fn told(texts: &BTreeMap<String, String>) -> Result<Self, UsageError> {
        let keys = ["cluster-cidr", "service-cidr", "cluster-dns", "cluster-domain", "pod-network"];
        let mut values = Values::default();
        for key in keys {
            let text = texts.get(key).filter(|text| !text.is_empty()).ok_or_else(|| {
                UsageError(format!("the server does not say what {key} the cluster has"))
            })?;
            values.set(key, text);
        }
        let (key, usual) = WIREGUARD_PORT;
        values.set(key, texts.get(key).map_or(usual, String::as_str));
        Self::new(&values)
    }
}

pub(super) fn joined(all: &[impl ToString]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

//! What a node is told by its operator.

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf, str::FromStr};

use tokio::sync::watch;

use crate::device::cdi::CdiFiles;
use crate::eviction::{DeadContainers, Eviction};
use crate::pod::{host_ports::HostPorts, static_pods::StaticPods};
use crate::port::Port;
use crate::shutdown::ShutdownGrace;

/// A setting that may change while the node runs. Clones share it.
#[derive(Debug, Clone)]
pub struct Live<T>(watch::Sender<T>);

impl<T: Clone + PartialEq> Live<T> {
    /// With its first value.
    pub fn new(value: T) -> Self {
        Self(watch::Sender::new(value))
    }

    /// As it is now.
    pub fn get(&self) -> T {
        self.0.borrow().clone()
    }

    /// Tells another value; the same one again is told to nobody.
    pub fn set(&self, value: T) {
        self.0.send_if_modified(|known| {
            let other = *known != value;
            *known = value;
            other
        });
    }

    /// Hears of other values.
    pub fn follow(&self) -> watch::Receiver<T> {
        self.0.subscribe()
    }
}

/// Everything that a node does not find out by itself.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Name of the Node object.
    pub name: String,
    /// The node's own state.
    pub data_dir: PathBuf,
    /// Where directories are made that are volumes (`local-path`).
    pub storage_dir: PathBuf,
    /// The node's addresses; the first is its primary one.
    pub ips: Live<Vec<IpAddr>>,
    /// Labels beyond hostname, os and arch (node roles, the operator's own).
    pub labels: BTreeMap<String, String>,
    /// Annotations on the Node object.
    pub annotations: BTreeMap<String, String>,
    /// Taints given at registration; later ones belong to the API.
    pub taints: Vec<Taint>,
    /// Name servers of pods with `dnsPolicy: ClusterFirst`.
    pub cluster_dns: Vec<IpAddr>,
    /// Suffix of cluster names, `cluster.local`.
    pub cluster_domain: String,
    /// Where pod addresses come from.
    pub pod_cidrs: PodCidrs,
    /// `/var/lib/kubelet`: pods' volumes are below it.
    pub kubelet_dir: PathBuf,
    /// Where images are: their file system is measured.
    pub images_dir: PathBuf,
    /// `/var/log`: `pods/` and `containers/` are below it.
    pub log_dir: PathBuf,
    /// Where the node's own resolver configuration is now, `/etc/resolv.conf`.
    pub resolv_conf: fn() -> PathBuf,
    /// What pods may not request, beside what hard eviction thresholds keep free; a
    /// default by machine size where `None`.
    pub reserved: Option<Reserved>,
    /// Pods together are kept to what they may request, by their cgroup.
    pub enforce_allocatable: bool,
    /// When pods are evicted and images collected.
    pub eviction: Eviction,
    /// Which containers that have ended are kept.
    pub dead_containers: DeadContainers,
    /// How long pods may take to end when the machine shuts down, by priority, the
    /// lowest first; where empty they run till the machine is off.
    pub shutdown: Vec<ShutdownGrace>,
    /// Most pods at once.
    pub pods_max: u32,
    /// Most processes and threads a pod; no limit where `None`.
    pub pod_pids_max: Option<u64>,
    /// Pods from files, if any.
    pub static_pods: Option<StaticPods>,
    /// Where the node says which of its ports lead to pods.
    pub host_ports: HostPorts,
    /// What containers need for devices that plugins hand out by name.
    pub cdi: CdiFiles,
    /// Sysctls beyond the safe ones that pods may set, by name or prefix
    /// (`net.core.*`).
    pub allowed_unsafe_sysctls: Vec<String>,
    /// MTU of the links of pods that start, bytes.
    pub pod_mtu: Live<u32>,
    /// Where the node answers by itself, as a kubelet does; nowhere where `None`.
    pub port: Option<Port>,
}

impl NodeConfig {
    /// The usual paths and sizes for a node of this name and addresses.
    pub fn new(name: impl Into<String>, data_dir: impl Into<PathBuf>, ips: Vec<IpAddr>) -> Self {
        let data_dir = data_dir.into();
        Self {
            name: name.into(),
            storage_dir: data_dir.join("storage"),
            images_dir: data_dir.clone(),
            data_dir,
            ips: Live::new(ips),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            taints: Vec::new(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            pod_cidrs: PodCidrs::FromNode,
            kubelet_dir: "/var/lib/kubelet".into(),
            log_dir: "/var/log".into(),
            resolv_conf: || "/etc/resolv.conf".into(),
            reserved: None,
            enforce_allocatable: true,
            eviction: Eviction::default(),
            dead_containers: DeadContainers::default(),
            shutdown: Vec::new(),
            pods_max: 110,
            pod_pids_max: None,
            static_pods: None,
            host_ports: HostPorts::default(),
            cdi: CdiFiles::default(),
            allowed_unsafe_sysctls: Vec::new(),
            pod_mtu: Live::new(1500),
            port: None,
        }
    }
}

/// A taint as in `spec.taints`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taint {
    /// Qualified name.
    pub key: String,
    /// May be empty.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// Where pod addresses come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodCidrs {
    /// These, at most one of each family; also written to nothing.
    Fixed(Vec<Cidr>),
    /// `spec.podCIDRs` of the Node object, once a controller has set it.
    FromNode,
}

/// What is kept back from pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    /// Thousandths of a CPU.
    pub cpu_millis: i64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Bytes of the kubelet directory's file system.
    pub storage_bytes: u64,
}

/// A network: address and prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// Its first address.
    pub address: IpAddr,
    /// Leading bits that are fixed.
    pub prefix_len: u8,
}

impl Cidr {
    /// How many addresses, capped at 2^32.
    pub(crate) fn size(&self) -> u64 {
        let bits = if self.address.is_ipv4() { 32 } else { 128 };
        1 << (bits - u32::from(self.prefix_len)).min(32)
    }

    /// The address `offset` after the first.
    pub(crate) fn nth(&self, offset: u64) -> IpAddr {
        match self.address {
            IpAddr::V4(v4) => {
                let offset = u32::try_from(offset).unwrap_or(u32::MAX);
                IpAddr::V4(v4.to_bits().wrapping_add(offset).into())
            }
            IpAddr::V6(v6) => IpAddr::V6(v6.to_bits().wrapping_add(offset.into()).into()),
        }
    }

    /// Whether the address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(net), IpAddr::V4(a)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_len)).unwrap_or(0);
                net.to_bits() & mask == a.to_bits() & mask
            }
            (IpAddr::V6(net), IpAddr::V6(a)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix_len)).unwrap_or(0);
                net.to_bits() & mask == a.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a network such as 10.42.0.0/24");
        let (address, len) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let prefix_len: u8 = len.parse().map_err(|_| wrong())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if prefix_len > bits {
            return Err(wrong());
        }
        let address = match address {
            IpAddr::V4(a) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix_len)).unwrap_or(0);
                IpAddr::V4((a.to_bits() & mask).into())
            }
            IpAddr::V6(a) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix_len)).unwrap_or(0);
                IpAddr::V6((a.to_bits() & mask).into())
            }
        };
        Ok(Self { address, prefix_len })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_read_masked_and_counted() {
        let net: Cidr = "10.42.3.7/24".parse().expect("valid");
        assert_eq!(net.to_string(), "10.42.3.0/24");
        assert_eq!(net.size(), 256);
        assert_eq!(net.nth(5).to_string(), "10.42.3.5");
        assert!(net.contains("10.42.3.255".parse().expect("ip")));
        assert!(!net.contains("10.42.4.0".parse().expect("ip")));
        let six: Cidr = "fd00:42::/64".parse().expect("valid");
        assert_eq!(six.nth(2).to_string(), "fd00:42::2");
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "a/8", "10.0.0.0/-1"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}

//! Ports of the node that pods want to be reached at. The node only tells
//! which; whoever makes the rules follows them.

use std::{collections::BTreeMap, net::IpAddr};

use api_types::core::Pod;
use tokio::sync::watch;

use super::view::{PodState, is_sidecar};

/// One port of the node that leads to a pod of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The node's address that it is on; all of them where `None`.
    pub host_ip: Option<IpAddr>,
    /// On the node.
    pub host_port: u16,
    /// In the pod.
    pub pod_port: u16,
}

impl HostPort {
    /// Whether both cannot be on the node: all addresses include each of them.
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        let is_same_ip = match (self.host_ip, other.host_ip) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        is_same_ip && self.host_port == other.host_port && self.protocol == other.protocol
    }
}

/// The ports of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPorts {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's addresses, at most one of each family.
    pub ips: Vec<IpAddr>,
    /// At least one.
    pub ports: Vec<HostPort>,
}

/// The ports of all pods of a node, by pod UID. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HostPorts(watch::Sender<BTreeMap<String, PodPorts>>);

impl Default for HostPorts {
    fn default() -> Self {
        Self(watch::channel(BTreeMap::new()).0)
    }
}

impl HostPorts {
    /// Sees every change from now on.
    pub fn subscribe(&self) -> watch::Receiver<BTreeMap<String, PodPorts>> {
        self.0.subscribe()
    }

    /// Says which ports a pod has now; tells nobody what they know.
    pub(crate) fn set(&self, uid: &str, ports: Option<PodPorts>) {
        self.0.send_if_modified(|all| {
            let before = match &ports {
                Some(ports) => all.insert(uid.to_owned(), ports.clone()),
                None => all.remove(uid),
            };
            before != ports
        });
    }
}

/// What a pod has while it has a network of its own.
pub(crate) fn of(state: &PodState) -> Option<PodPorts> {
    state.ready_sandbox()?;
    let pod = &state.pod;
    let ports = ports(pod);
    if pod.spec.host_network || state.pod_ips.is_empty() || ports.is_empty() {
        return None;
    }
    Some(PodPorts {
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        ips: state.pod_ips.clone(),
        ports,
    })
}

/// The ports that a pod asks for.
pub(crate) fn ports(pod: &Pod) -> Vec<HostPort> {
    let sidecars = pod.spec.init_containers.iter().filter(|c| is_sidecar(c));
    let all = pod.spec.containers.iter().chain(sidecars).flat_map(|c| &c.ports);
    let port = |port: &api_types::core::ContainerPort| {
        let number = |n: i32| u16::try_from(n).ok().filter(|n| *n > 0);
        Some(HostPort {
            protocol: if port.protocol.is_empty() { "TCP".into() } else { port.protocol.clone() },
            host_ip: port.host_ip.parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified()),
            host_port: number(port.host_port)?,
            pod_port: number(port.container_port)?,
        })
    };
    all.filter_map(port).collect()
}

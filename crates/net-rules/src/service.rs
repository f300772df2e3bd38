//! What the proxy is told: Services with their endpoints, in plain words.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// `namespace/name` of a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A Service that has addresses of its own; headless ones and ExternalName ones
/// do not come here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Service {
    /// `spec.clusterIPs`, without "None"; none for ports of the node alone.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` of mode VIP.
    pub balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`: who may connect to `balancer_ips`, by
    /// address and length of prefix. `None` is anybody; an empty list is nobody.
    pub source_ranges: Option<Vec<(IpAddr, u8)>>,
    /// `spec.ports`, each with its endpoints.
    pub ports: Vec<Port>,
    /// `sessionAffinity: ClientIP` with its timeout.
    pub affinity: Option<Duration>,
    /// `spec.internalTrafficPolicy`, for the cluster addresses.
    pub internal_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`, for external addresses and node ports.
    pub external_policy: TrafficPolicy,
}

/// Which endpoints may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrafficPolicy {
    /// All of them.
    #[default]
    Cluster,
    /// Only those on this node; with none, packets are dropped.
    Local,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// `protocol`.
    pub protocol: Protocol,
    /// `port`.
    pub port: u16,
    /// `nodePort`, where there is one.
    pub node_port: Option<u16>,
    /// The addresses that the EndpointSlices give for this port, resolved by the
    /// port's name.
    pub endpoints: Vec<Endpoint>,
}

/// A transport protocol, with its number in the IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// TCP.
    Tcp = 6,
    /// UDP: its conntrack entries go with their endpoint.
    Udp = 17,
    /// SCTP.
    Sctp = 132,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

/// One address behind a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod's address.
    pub ip: IpAddr,
    /// The port in the pod.
    pub port: u16,
    /// `conditions.ready`: gets new connections.
    pub ready: bool,
    /// `conditions.serving`: gets them if nothing is ready and this one is
    /// terminating.
    pub serving: bool,
    /// `conditions.terminating`.
    pub terminating: bool,
    /// It is on this node.
    pub local: bool,
    /// `hints.forNodes`.
    pub for_node: Hint,
    /// `hints.forZones`.
    pub for_zone: Hint,
}

/// Whose clients an endpoint is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hint {
    /// It does not say.
    #[default]
    Silent,
    /// Those of this node, or of its zone.
    Here,
    /// Those of others.
    Elsewhere,
}

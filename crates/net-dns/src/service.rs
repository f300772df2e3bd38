//! What the DNS is told: Services with their endpoints, in plain words.

use std::net::IpAddr;

/// `namespace/name` of a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
}

/// A Service as its names need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// Has addresses of its own: A, AAAA, PTR, and SRV for its named ports.
    Cluster {
        /// `spec.clusterIPs`.
        ips: Vec<IpAddr>,
        /// The named ports.
        ports: Vec<Port>,
    },
    /// `clusterIP: None`: the names lead to the endpoints.
    Headless {
        /// Every endpoint of the Service's EndpointSlices.
        endpoints: Vec<Endpoint>,
        /// `spec.publishNotReadyAddresses`.
        publish_not_ready: bool,
    },
    /// `type: ExternalName`: a CNAME.
    External {
        /// `spec.externalName`, absolute with or without its final dot.
        name: String,
    },
}

/// A named port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// `name`; ports without one have no SRV record.
    pub name: String,
    /// `protocol`, of which the record's name has the lower case.
    pub protocol: Protocol,
    /// `port`, for a headless Service the endpoint's.
    pub port: u16,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `_tcp`
    Tcp,
    /// `_udp`
    Udp,
    /// `_sctp`
    Sctp,
}

impl Protocol {
    /// As in the label `_tcp`.
    pub fn label(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

/// One address of a headless Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod's address.
    pub ip: IpAddr,
    /// `hostname`; without one the name is made of the address.
    pub hostname: Option<String>,
    /// `conditions.ready`.
    pub ready: bool,
    /// The named ports of its slice.
    pub ports: Vec<Port>,
}

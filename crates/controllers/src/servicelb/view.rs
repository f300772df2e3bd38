//! What is looked at of Services, slices and nodes.

use std::net::IpAddr;

use api_types::core::{Condition, NodeAddress};
use serde::{Deserialize, Serialize};

use crate::cached::null_is_default;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Service {
    pub(super) spec: ServiceSpec,
    pub(super) status: ServiceStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ServiceSpec {
    pub(super) r#type: String,
    pub(super) external_traffic_policy: String,
    pub(super) load_balancer_class: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) ip_families: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) ports: Vec<Port>,
}

/// What of a port nobody else may have on the same address.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(default)]
pub(super) struct Port {
    pub(super) port: u16,
    pub(super) protocol: String,
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ServiceStatus {
    pub(super) load_balancer: LoadBalancer,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct LoadBalancer {
    #[serde(deserialize_with = "null_is_default")]
    pub(super) ingress: Vec<Ingress>,
}

/// `LoadBalancerIngress`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Ingress {
    pub(super) ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ip_mode: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Node {
    pub(super) status: NodeStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct NodeStatus {
    #[serde(deserialize_with = "null_is_default")]
    pub(super) conditions: Vec<Condition>,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) addresses: Vec<NodeAddress>,
    pub(super) daemon_endpoints: DaemonEndpoints,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct DaemonEndpoints {
    pub(super) kubelet_endpoint: DaemonEndpoint,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct DaemonEndpoint {
    /// None where it is 0.
    pub(super) port: u16,
}

impl Node {
    pub(super) fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(|c| c.r#type == "Ready" && c.status == "True")
    }

    /// Where others reach it: from outside if it says so, else inside.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let of = |kind: &str| -> Vec<IpAddr> {
            let own = self.status.addresses.iter().filter(|address| address.r#type == kind);
            own.filter_map(|address| address.address.parse().ok()).collect()
        };
        match of("ExternalIP") {
            none if none.is_empty() => of("InternalIP"),
            external => external,
        }
    }
}

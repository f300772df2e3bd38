//! What the tests of this crate share.

use crate::*;

mod network;
mod trace;

pub(crate) fn config() -> Config {
    Config {
        table: "skiff".into(),
        pod_networks: vec![("10.42.0.0".parse().unwrap(), 16), ("fd42::".parse().unwrap(), 48)],
        service_networks: vec![
            ("10.43.0.0".parse().unwrap(), 16),
            ("fd43::".parse().unwrap(), 112),
        ],
        node_local: vec!["10.43.0.10".parse().unwrap()],
        pod_ifname_prefix: netlink::pod_link::HOST_PREFIX.into(),
    }
}

/// A ready endpoint on this node.
pub(crate) fn endpoint(ip: &str) -> Endpoint {
    let ip = ip.parse().unwrap();
    Endpoint {
        ip,
        port: 8080,
        ready: true,
        serving: true,
        terminating: false,
        local: true,
        for_node: Hint::Silent,
        for_zone: Hint::Silent,
    }
}

/// 10.43.0.5:80 with these endpoints.
pub(crate) fn service(endpoints: &[&str]) -> Service {
    Service {
        cluster_ips: vec!["10.43.0.5".parse().unwrap()],
        ports: vec![Port {
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
            endpoints: endpoints.iter().map(|ip| endpoint(ip)).collect(),
        }],
        ..Service::default()
    }
}

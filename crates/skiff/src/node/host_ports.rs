//! Pods' ports on the node, as the Services that the rules know: one on all the
//! node's addresses or one of them, whose clients keep theirs, and one on the
//! loopback address, whose clients cannot.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use ::node::{HostPort, PodPorts};
use net_rules::{Endpoint, Hint, Port, Protocol, Service, ServiceName, TrafficPolicy};

/// The rules' Services for these pods.
pub(crate) fn services(pods: &BTreeMap<String, PodPorts>) -> BTreeMap<ServiceName, Service> {
    let mut services = BTreeMap::new();
    for (uid, pod) in pods {
        for (index, port) in pod.ports.iter().enumerate() {
            for (what, service) in of(pod, port) {
                // No Service has a name with a space.
                let name = format!("{uid} {what} {index}");
                services.insert(ServiceName { namespace: pod.namespace.clone(), name }, service);
            }
        }
    }
    services
}

fn of(pod: &PodPorts, port: &HostPort) -> Vec<(&'static str, Service)> {
    let protocol = match port.protocol.as_str() {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => return Vec::new(),
    };
    let service = |ip: Option<IpAddr>, policy: TrafficPolicy| Service {
        external_ips: ip.into_iter().collect(),
        ports: vec![Port {
            protocol,
            port: port.host_port,
            node_port: ip.is_none().then_some(port.host_port),
            endpoints: pod
                .ips
                .iter()
                .map(|ip| Endpoint {
                    ip: *ip,
                    port: port.pod_port,
                    ready: true,
                    serving: true,
                    terminating: false,
                    local: true,
                    for_node: Hint::Silent,
                    for_zone: Hint::Silent,
                })
                .collect(),
        }],
        external_policy: policy,
        ..Service::default()
    };
    match port.host_ip {
        Some(ip) if ip.is_loopback() => {
            vec![("loopback", service(Some(ip), TrafficPolicy::Cluster))]
        }
        Some(ip) => vec![("address", service(Some(ip), TrafficPolicy::Local))],
        None => vec![
            ("node", service(None, TrafficPolicy::Local)),
            ("loopback", service(Some(Ipv4Addr::LOCALHOST.into()), TrafficPolicy::Cluster)),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_where_the_pod_wants_it() {
        let told = |host_ip: Option<&str>| {
            let port = HostPort {
                protocol: "UDP".into(),
                host_ip: host_ip.map(|ip| ip.parse().expect("an address")),
                host_port: 53,
                pod_port: 5353,
            };
            let pod = PodPorts {
                namespace: "ns".into(),
                name: "p".into(),
                ips: vec!["10.42.0.9".parse().expect("an address")],
                ports: vec![port],
            };
            let line = |(name, s): (&ServiceName, &Service)| {
                let port = &s.ports[0];
                format!("{name}: {:?} {:?} {:?}", s.external_ips, port.node_port, s.external_policy)
            };
            let services = services(&BTreeMap::from([("u".to_owned(), pod)]));
            services.iter().map(line).collect::<Vec<_>>()
        };
        assert_eq!(
            told(None),
            ["ns/u loopback 0: [127.0.0.1] None Cluster", "ns/u node 0: [] Some(53) Local"]
        );
        assert_eq!(told(Some("192.0.2.1")), ["ns/u address 0: [192.0.2.1] None Local"]);
        assert_eq!(told(Some("127.0.0.1")), ["ns/u loopback 0: [127.0.0.1] None Cluster"]);
    }
}

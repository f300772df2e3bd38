//! Whose addresses a Service is reached at: a pure function.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::view::{Ingress, Node, Port, Service};

/// Upstream's label for nodes that take no traffic of load balancers.
pub(super) const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// A node as a load balancer sees it.
pub(super) struct Candidate<'a> {
    pub(super) name: &'a str,
    pub(super) labels: &'a BTreeMap<String, String>,
    pub(super) node: &'a Node,
}

/// A Service as a load balancer sees it.
pub(super) struct Claimant<'a> {
    /// `namespace/name`.
    pub(super) key: String,
    /// RFC 3339.
    pub(super) created: &'a str,
    pub(super) service: &'a Service,
    /// The nodes with ready endpoints of it.
    pub(super) local: BTreeSet<String>,
}

/// What a Service gets.
#[derive(Debug, PartialEq)]
pub(super) struct Share {
    /// What its status should list.
    pub(super) ingress: Vec<Ingress>,
    /// Why it gets no more of the addresses that it wants; empty where it gets all.
    pub(super) refused: String,
}

/// What each Service gets, in their order; `None` where it is not ours to serve. On an
/// address a port is one Service's: of those that list the address already, else of all,
/// the oldest's. Ports that skiff itself listens on are nobody's.
pub(super) fn shares(
    services: &[Claimant<'_>],
    nodes: &[Candidate<'_>],
    api_port: Option<u16>,
) -> Vec<Option<Share>> {
    let wanted: Vec<_> = services.iter().map(|claimant| wanted(claimant, nodes)).collect();
    let mut held: BTreeMap<(IpAddr, Port), String> = BTreeMap::new();
    for candidate in nodes {
        let kubelet = candidate.node.status.daemon_endpoints.kubelet_endpoint.port;
        let own = [(Some(kubelet), "the kubelet"), (api_port, "the API server")];
        for (port, holder) in own {
            let Some(port) = port.filter(|port| *port != 0) else { continue };
            for address in candidate.node.addresses() {
                held.insert((address, Port { port, protocol: "TCP".into() }), holder.into());
            }
        }
    }
    let mut claims: Vec<(IpAddr, usize)> = (wanted.iter().enumerate())
        .flat_map(|(at, wanted)| wanted.iter().flatten().map(move |address| (*address, at)))
        .collect();
    claims.sort_by_key(|(address, at)| {
        let claimant = &services[*at];
        let text = address.to_string();
        let listed = claimant.service.status.load_balancer.ingress.iter().any(|i| i.ip == text);
        (*address, !listed, claimant.created, &claimant.key)
    });
    let mut given = vec![BTreeSet::new(); services.len()];
    let mut refused = vec![BTreeMap::<String, Vec<String>>::new(); services.len()];
    for (address, at) in claims {
        let ports = &services[at].service.spec.ports;
        let taken = |port: &&Port| held.contains_key(&(address, (*port).clone()));
        if let Some(port) = ports.iter().find(taken) {
            let holder = &held[&(address, port.clone())];
            let why = format!("port {port} is taken by {holder}");
            refused[at].entry(why).or_default().push(address.to_string());
            continue;
        }
        let holder = format!("Service {}", services[at].key);
        held.extend(ports.iter().map(|port| ((address, port.clone()), holder.clone())));
        given[at].insert(address);
    }
    let whys = refused.into_iter().map(|refused| {
        let each = refused.iter().map(|(why, on)| format!("{why} on {}", on.join(", ")));
        each.collect::<Vec<_>>().join("; ")
    });
    // The address is the node's own, so packets keep it on their way in.
    let entry = |ip: IpAddr| Ingress { ip: ip.to_string(), ip_mode: Some("VIP".into()) };
    let each = wanted.into_iter().zip(given).zip(whys);
    each.map(|((wanted, given), refused)| {
        wanted.map(|_| Share { ingress: given.into_iter().map(entry).collect(), refused })
    })
    .collect()
}

/// The addresses that a Service would have if it were alone; `None` where it is not ours.
fn wanted(claimant: &Claimant<'_>, nodes: &[Candidate<'_>]) -> Option<BTreeSet<IpAddr>> {
    let Claimant { service, local, .. } = claimant;
    let spec = &service.spec;
    if spec.r#type != "LoadBalancer" {
        // What a Service was before leaves nothing behind.
        return (!service.status.load_balancer.ingress.is_empty()
            && spec.load_balancer_class.is_none())
        .then(BTreeSet::new);
    }
    if spec.load_balancer_class.is_some() {
        return None;
    }
    let wants = |v4: bool| {
        let name = if v4 { "IPv4" } else { "IPv6" };
        spec.ip_families.is_empty() || spec.ip_families.iter().any(|family| family == name)
    };
    let takes = |candidate: &&Candidate<'_>| {
        candidate.node.is_ready()
            && !candidate.labels.contains_key(EXCLUDED)
            && (spec.external_traffic_policy != "Local" || local.contains(candidate.name))
    };
    let addresses = nodes.iter().filter(takes).flat_map(|candidate| candidate.node.addresses());
    Some(addresses.filter(|ip| wants(ip.is_ipv4())).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(service: serde_json::Value, local: &[&str], expected: Option<&[&str]>) {
        let service: Service = serde_json::from_value(service).expect("a Service");
        let node = |ready: &str, addresses: serde_json::Value| -> Node {
            serde_json::from_value(json!({"status": {
                "conditions": [{"type": "Ready", "status": ready}], "addresses": addresses,
            }}))
            .expect("a Node")
        };
        let internal = |ip: &str| json!([{"type": "InternalIP", "address": ip}]);
        let plain = BTreeMap::new();
        let excluded = BTreeMap::from([(EXCLUDED.to_owned(), String::new())]);
        let nodes = [
            ("a", node("True", internal("192.0.2.1")), &plain),
            (
                "b",
                node(
                    "True",
                    json!([
                        {"type": "InternalIP", "address": "192.0.2.2"},
                        {"type": "ExternalIP", "address": "203.0.113.2"},
                    ]),
                ),
                &plain,
            ),
            ("c", node("Unknown", internal("192.0.2.3")), &plain),
            ("d", node("True", internal("192.0.2.4")), &excluded),
            ("e", node("True", internal("2001:db8::5")), &plain),
        ];
        let candidates: Vec<Candidate<'_>> =
            nodes.iter().map(|(name, node, labels)| Candidate { name, node, labels }).collect();
        let local = local.iter().map(|name| (*name).to_owned()).collect();
        let claimant = Claimant { key: "default/a".into(), created: "", service: &service, local };
        let mut found = shares(&[claimant], &candidates, None);
        let found = found
            .remove(0)
            .map(|share| share.ingress.into_iter().map(|one| one.ip).collect::<Vec<_>>());
        assert_eq!(found, expected.map(|e| e.iter().map(|ip| (*ip).to_owned()).collect()));
    }

    #[test]
    fn ready_nodes_serve() {
        let spec = |more: serde_json::Value| {
            let mut spec = json!({"type": "LoadBalancer", "ipFamilies": ["IPv4"]});
            spec.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
            json!({"spec": spec})
        };
        check(spec(json!({})), &[], Some(&["192.0.2.1", "203.0.113.2"]));
        check(
            spec(json!({"ipFamilies": ["IPv4", "IPv6"]})),
            &[],
            Some(&["192.0.2.1", "203.0.113.2", "2001:db8::5"]),
        );
        let local = json!({"externalTrafficPolicy": "Local"});
        check(spec(local.clone()), &["b", "c"], Some(&["203.0.113.2"]));
        check(spec(local), &[], Some(&[]));
        check(spec(json!({"loadBalancerClass": "metallb"})), &[], None);
    }

    #[test]
    fn others_are_left_alone_and_what_was_one_is_cleared() {
        check(json!({"spec": {"type": "ClusterIP"}}), &[], None);
        let was = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
        check(json!({"spec": {"type": "ClusterIP"}, "status": was}), &[], Some(&[]));
    }

    /// Name, time of creation, port, and the addresses that it has.
    type Claim = (&'static str, &'static str, u16, &'static [&'static str]);

    /// What each gets of the nodes 192.0.2.1 and 192.0.2.2.
    fn checks(claims: &[Claim], expected: &[(&[&str], &str)]) {
        let nodes = ["192.0.2.1", "192.0.2.2"].map(|ip| -> Node {
            serde_json::from_value(json!({"status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": ip}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            }}))
            .expect("a Node")
        });
        let labels = BTreeMap::new();
        let candidates = nodes.each_ref().map(|node| Candidate { name: "", labels: &labels, node });
        let services: Vec<Service> = (claims.iter())
            .map(|(_, _, port, has)| {
                let ingress: Vec<_> = has.iter().map(|ip| json!({"ip": ip})).collect();
                serde_json::from_value(json!({
                    "spec": {"type": "LoadBalancer", "ports": [{"port": port, "protocol": "TCP"}]},
                    "status": {"loadBalancer": {"ingress": ingress}},
                }))
                .expect("a Service")
            })
            .collect();
        let claimants: Vec<_> = (claims.iter().zip(&services))
            .map(|((name, created, ..), service)| Claimant {
                key: format!("default/{name}"),
                created,
                service,
                local: BTreeSet::new(),
            })
            .collect();
        let found = shares(&claimants, &candidates, Some(6443));
        assert_eq!(found.len(), expected.len());
        for ((found, (ips, refused)), claim) in found.iter().zip(expected).zip(claims) {
            let found = found.as_ref().expect("it is ours");
            let has: Vec<&str> = found.ingress.iter().map(|one| one.ip.as_str()).collect();
            assert_eq!(has, *ips, "{claim:?}");
            assert_eq!(found.refused, *refused, "{claim:?}");
        }
    }

    #[test]
    fn a_port_is_one_services() {
        const BOTH: &[&str] = &["192.0.2.1", "192.0.2.2"];
        let taken = "port 80/TCP is taken by Service default/a on 192.0.2.1, 192.0.2.2";
        checks(&[("a", "1", 80, &[]), ("b", "2", 81, &[])], &[(BOTH, ""), (BOTH, "")]);
        checks(&[("b", "2", 80, &[]), ("a", "1", 80, &[])], &[(&[], taken), (BOTH, "")]);
        // Who has it keeps it, whoever else comes to want it.
        checks(&[("b", "1", 80, &[]), ("a", "2", 80, BOTH)], &[(&[], taken), (BOTH, "")]);
        checks(
            &[("a", "2", 80, &["192.0.2.1"]), ("b", "1", 80, &["192.0.2.2"])],
            &[
                (&["192.0.2.1"], "port 80/TCP is taken by Service default/b on 192.0.2.2"),
                (&["192.0.2.2"], "port 80/TCP is taken by Service default/a on 192.0.2.1"),
            ],
        );
    }

    #[test]
    fn what_skiff_listens_on_is_nobodys() {
        checks(
            &[("a", "1", 6443, &[]), ("b", "1", 10250, &["192.0.2.1"])],
            &[
                (&[], "port 6443/TCP is taken by the API server on 192.0.2.1, 192.0.2.2"),
                (&[], "port 10250/TCP is taken by the kubelet on 192.0.2.1, 192.0.2.2"),
            ],
        );
    }
}

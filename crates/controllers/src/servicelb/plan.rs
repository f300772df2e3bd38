//! Whose addresses a Service is reached at: a pure function.

use std::collections::{BTreeMap, BTreeSet};

use super::view::{Ingress, Node, Service};

/// Upstream's label for nodes that take no traffic of load balancers.
pub(super) const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// A node as a load balancer sees it.
pub(super) struct Candidate<'a> {
    pub(super) name: &'a str,
    pub(super) labels: &'a BTreeMap<String, String>,
    pub(super) node: &'a Node,
}

/// The ingress that the status should list; `None` where the Service is not
/// ours to serve. `local` are the nodes with ready endpoints of it.
pub(super) fn ingress(
    service: &Service,
    nodes: &[Candidate<'_>],
    local: &BTreeSet<String>,
) -> Option<Vec<Ingress>> {
    let spec = &service.spec;
    if spec.r#type != "LoadBalancer" {
        // What a Service was before leaves nothing behind.
        return (!service.status.load_balancer.ingress.is_empty()
            && spec.load_balancer_class.is_none())
        .then(Vec::new);
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
    let addresses: BTreeSet<_> = nodes
        .iter()
        .filter(takes)
        .flat_map(|candidate| candidate.node.addresses())
        .filter(|ip| wants(ip.is_ipv4()))
        .collect();
    // The address is the node's own, so packets keep it on their way in.
    let entry = |ip: std::net::IpAddr| Ingress { ip: ip.to_string(), ip_mode: Some("VIP".into()) };
    Some(addresses.into_iter().map(entry).collect())
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
        let found = ingress(&service, &candidates, &local);
        let found = found.map(|all| all.into_iter().map(|one| one.ip).collect::<Vec<_>>());
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
}

//! The pods behind a Service, each through the tunnel of its node.

use api_schema::tree;
use bytes::Bytes;
use client::Api;
use http::Method;
use serde_json::Value;
use tunnel::{Nodes, Open, Socket, Target};

/// A connection to the first of the Service's pods whose node opens one.
pub(super) async fn open(api: &Api, nodes: &Nodes, service: &Value, port: u16) -> Option<Socket> {
    let (namespace, name) =
        (tree::text(service, "metadata.namespace"), tree::text(service, "metadata.name"));
    let url = format!(
        "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector=\
         kubernetes.io%2Fservice-name%3D{name}"
    );
    let listed = api.request(Method::GET, &url, None, Bytes::new()).await.ok()?;
    let listed: Value = serde_json::from_slice(&listed).ok()?;
    for (node, open) in pods(service, tree::list(&listed, "items"), port) {
        if !nodes.is_connected(&node) {
            continue;
        }
        match nodes.open(&node, open).await {
            Ok(end) => return Some(Socket::from(end)),
            Err(error) => tracing::debug!(node, %error, "an endpoint is not reached"),
        }
    }
    None
}

/// The ready pods of a port of a Service: their nodes, and what is asked of them. The node
/// holds a pod's uid against its name, and nobody reaches another namespace by writing
/// endpoints.
fn pods(service: &Value, slices: &[Value], port: u16) -> Vec<(String, Open)> {
    let mut ports = tree::list(service, "spec.ports").iter();
    let Some(port) = ports.find(|there| tree::int(there, "port") == Some(i64::from(port))) else {
        return Vec::new();
    };
    let namespace = tree::text(service, "metadata.namespace");
    let mut found = Vec::new();
    for slice in slices {
        let mut ports = tree::list(slice, "ports").iter();
        let same = |there: &&Value| tree::text(there, "name") == tree::text(port, "name");
        let number = ports.find(same).and_then(|port| tree::int(port, "port"));
        let Some(number) = number.and_then(|number| u16::try_from(number).ok()) else { continue };
        for endpoint in tree::list(slice, "endpoints") {
            let text = |path| tree::text(endpoint, path).to_owned();
            let is_ready = tree::get(endpoint, "conditions.ready") != &Value::Bool(false);
            let is_pod =
                text("targetRef.kind") == "Pod" && text("targetRef.namespace") == namespace;
            if !is_ready || !is_pod || text("nodeName").is_empty() {
                continue;
            }
            let target = Target {
                namespace: namespace.to_owned(),
                pod: text("targetRef.name"),
                uid: text("targetRef.uid"),
                container: String::new(),
            };
            found.push((text("nodeName"), Open::Connect(target, number)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ready_pods_of_the_namespace_are_asked_for_by_the_port_of_theirs() {
        let service = json!({"metadata": {"name": "s", "namespace": "n"},
            "spec": {"ports": [{"name": "a", "port": 443}, {"name": "b", "port": 444}]}});
        let endpoint = |pod: &str, namespace: &str, node: &str, ready| {
            json!({"addresses": ["10.42.0.9"], "conditions": {"ready": ready}, "nodeName": node,
                "targetRef": {"kind": "Pod", "name": pod, "namespace": namespace, "uid": "u"}})
        };
        let slices = [json!({
            "ports": [{"name": "a", "port": 9443}, {"name": "b", "port": 9444}],
            "endpoints": [
                endpoint("away", "n", "", true), endpoint("starts", "n", "pi", false),
                endpoint("stranger", "other", "pi", true), endpoint("serves", "n", "pi", true),
                {"addresses": ["192.0.2.1"], "nodeName": "pi"},
            ],
        })];
        let found = |port| pods(&service, &slices, port);
        let target = || Target {
            namespace: "n".into(),
            pod: "serves".into(),
            uid: "u".into(),
            container: String::new(),
        };
        assert_eq!(found(443), [("pi".to_owned(), Open::Connect(target(), 9443))]);
        assert_eq!(found(444), [("pi".to_owned(), Open::Connect(target(), 9444))]);
        assert_eq!(found(9443), []);
    }
}

//! `healthCheckNodePort`: a load balancer asks each node whether it has
//! endpoints of a Service of its own (`externalTrafficPolicy: Local`).

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{Ipv6Addr, SocketAddr},
};

use client::SharedInformers;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tracing::warn;

use super::{
    served::{self, EndpointSlice},
    service_proxy::{BY_SERVICE, Changed},
};

/// The port of a Service, where it has one.
fn port(service: &served::Service) -> Option<u16> {
    let spec = &service.spec;
    let local = &*spec.r#type == "LoadBalancer"
        && &*spec.external_traffic_policy == "Local"
        && served::is_proxied(service.metadata.labels.as_ref());
    u16::try_from(spec.health_check_node_port).ok().filter(|port| local && *port != 0)
}

/// How many endpoints can serve on this node, as upstream counts: ready ones. A
/// pod of two families is in a slice of each, and counts once.
fn local_endpoints<'a>(slices: impl Iterator<Item = &'a EndpointSlice>, node: &str) -> usize {
    let mut counts = BTreeMap::<&str, usize>::new();
    for slice in slices {
        let ours = slice.endpoints.iter().filter(|endpoint| {
            endpoint.node_name.as_deref() == Some(node) && endpoint.conditions.ready.unwrap_or(true)
        });
        *counts.entry(&slice.address_type).or_default() += ours.count();
    }
    counts.into_values().max().unwrap_or(0)
}

/// Upstream's answer: 200 where there are endpoints, else 503.
fn answer(key: &str, count: usize) -> Response<Full<Bytes>> {
    let (namespace, name) = key.split_once('/').unwrap_or_default();
    let body = json!({
        "service": {"namespace": namespace, "name": name},
        "localEndpoints": count,
        "serviceProxyHealthy": true,
    });
    let mut response = Response::new(Full::from(body.to_string()));
    if count == 0 {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert("x-content-type-options", header::HeaderValue::from_static("nosniff"));
    let weight = header::HeaderValue::from(count);
    headers.insert("x-load-balancing-endpoint-weight", weight);
    response
}

/// A port that is served.
struct Open {
    port: u16,
    count: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves the ports of all Services until dropped.
pub(super) async fn run(informers: SharedInformers, node: String) {
    let (services, slices) = (served::services(&informers), served::slices(&informers));
    let changed = Changed::follow(&services, &slices);
    let mut open: BTreeMap<String, Open> = BTreeMap::new();
    loop {
        for key in changed.take().await {
            let wanted = services.get(&key).and_then(|service| port(&service.view));
            open.retain(|known, open| *known != key || Some(open.port) == wanted);
            let Some(port) = wanted else { continue };
            let known = slices.by_index(BY_SERVICE, &key);
            let count = local_endpoints(known.iter().map(|slice| &slice.view), &node);
            if let Some(known) = open.get(&key) {
                known.count.send_replace(count);
                continue;
            }
            match listen(port).await {
                Ok(listener) => {
                    let (count, told) = watch::channel(count);
                    let task = tokio::spawn(serve(listener, key.clone(), told));
                    open.insert(key, Open { port, count, task });
                }
                Err(error) => warn!(
                    service = key,
                    port,
                    %error,
                    "the Service's healthCheckNodePort cannot be served: end what uses it, or \
                     choose another"
                ),
            }
        }
    }
}

/// On every address; on a machine without IPv6, on those of IPv4.
async fn listen(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(error),
        Err(_) => TcpListener::bind(SocketAddr::from(([0; 4], port))).await,
        bound => bound,
    }
}

async fn serve(listener: TcpListener, key: String, count: watch::Receiver<usize>) {
    // Ends with the port: who asks is answered in one piece.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (key, count) = (key.clone(), count.clone());
        connections.spawn(async move {
            let reply = service_fn(move |_| {
                let response = answer(&key, *count.borrow());
                async move { Ok::<_, Infallible>(response) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(std::time::Duration::from_secs(10))
                .serve_connection(TokioIo::new(stream), reply);
            // How a prober ends its connection is its own affair.
            drop(served.await);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_balancers_have_a_port() {
        let service = |kind: &str, policy: &str| -> served::Service {
            serde_json::from_value(json!({"spec": {
                "type": kind, "externalTrafficPolicy": policy, "healthCheckNodePort": 30123,
            }}))
            .expect("a Service")
        };
        assert_eq!(port(&service("LoadBalancer", "Local")), Some(30123));
        assert_eq!(port(&service("LoadBalancer", "Cluster")), None);
        assert_eq!(port(&service("NodePort", "Local")), None);
        let mut others = service("LoadBalancer", "Local");
        let label = json!({"service.kubernetes.io/service-proxy-name": "other"});
        others.metadata.labels = serde_json::from_value(label).expect("labels");
        assert_eq!(port(&others), None);
    }

    #[test]
    fn a_pod_of_two_families_counts_once() {
        let slice = |family: &str, nodes: &[&str]| -> EndpointSlice {
            let one = |node: &&str| json!({"addresses": ["192.0.2.1"], "nodeName": node});
            let endpoints: Vec<_> = nodes.iter().map(one).collect();
            serde_json::from_value(json!({"addressType": family, "endpoints": endpoints}))
                .expect("a slice")
        };
        let slices = [
            slice("IPv4", &["n1", "n2", "n1"]),
            slice("IPv4", &["n1"]),
            slice("IPv6", &["n1", "n2", "n1"]),
            slice("IPv6", &["n1"]),
        ];
        assert_eq!(local_endpoints(slices.iter(), "n1"), 3);
        assert_eq!(local_endpoints(slices.iter(), "n2"), 1);
        assert_eq!(local_endpoints(slices.iter(), "n3"), 0);
    }

    #[test]
    fn a_node_without_endpoints_is_unavailable() {
        assert_eq!(answer("a/web", 2).status(), 200);
        let none = answer("a/web", 0);
        assert_eq!(none.status(), 503);
        assert_eq!(none.headers()["x-load-balancing-endpoint-weight"], "0");
    }
}

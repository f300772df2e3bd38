//! Carries Services and EndpointSlices from the API, pods' ports of this node, and
//! the networks that Services' addresses are from, into the kernel's rules.
//!
//! [`service`] is the pure translation; [`run`] follows changes and applies
//! them in one transaction for all that came meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ::node::{HostPorts, Live};
use client::{Backoff, Cached, Informer, SharedInformers};
use net_rules::{Endpoint, Hint, Port, Protocol, Proxy, Service, ServiceName, TrafficPolicy};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::{
    host_ports, network, overlay,
    served::{self, EndpointSlice, ForName},
};
use crate::config::Cidr;

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// The index of slices by the key of their Service.
pub(crate) const BY_SERVICE: &str = "service";

/// `namespace/name` of the Service that a slice belongs to.
pub(crate) fn service_of(slice: &Cached<EndpointSlice>) -> Vec<String> {
    let labels = slice.view.metadata.labels.as_ref();
    let service = labels.and_then(|labels| labels.service.as_ref());
    service.map(|name| format!("{}/{name}", slice.meta.namespace)).into_iter().collect()
}

/// The keys whose Service or slices changed since they were last taken.
#[derive(Default)]
pub(crate) struct Changed {
    keys: Mutex<BTreeSet<String>>,
    notify: Notify,
}

impl Changed {
    /// Collects changes of both informers from now on.
    pub(crate) fn follow(
        services: &Informer<served::Service>,
        slices: &Informer<EndpointSlice>,
    ) -> Arc<Self> {
        let changed = Arc::new(Self::default());
        // Who followed before may have ended.
        let told = Arc::downgrade(&changed);
        services.on_change(move |change| {
            if let Some(told) = told.upgrade() {
                told.add([change.object().key()]);
            }
        });
        let told = Arc::downgrade(&changed);
        slices.on_change(move |change| {
            if let Some(told) = told.upgrade() {
                told.add(change.sides().flat_map(|slice| service_of(slice)));
            }
        });
        changed
    }

    fn add(&self, keys: impl IntoIterator<Item = String>) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
        self.notify.notify_one();
    }

    /// Waits for a change and takes all keys there are.
    pub(crate) async fn take(&self) -> BTreeSet<String> {
        loop {
            let keys =
                std::mem::take(&mut *self.keys.lock().unwrap_or_else(PoisonError::into_inner));
            if !keys.is_empty() {
                return keys;
            }
            self.notify.notified().await;
        }
    }
}

/// Where this proxy is, as endpoints' hints name it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Place {
    node: String,
    zone: Option<String>,
}

impl Place {
    fn hint(here: Option<&str>, names: &[ForName]) -> Hint {
        match names {
            [] => Hint::Silent,
            names if names.iter().any(|one| Some(&*one.name) == here) => Hint::Here,
            _ => Hint::Elsewhere,
        }
    }
}

/// What the rules need to know of a Service; `None` where it has no address of
/// its own (headless, ExternalName, not yet allocated) or another proxy serves it.
pub(crate) fn service(
    object: &served::Service,
    slices: &[Arc<Cached<EndpointSlice>>],
    place: &Place,
) -> Option<Service> {
    let spec = &object.spec;
    if !served::is_proxied(object.metadata.labels.as_ref()) {
        return None;
    }
    let addresses = |texts: &[String]| {
        texts.iter().filter_map(|text| text.parse().ok()).collect::<Vec<IpAddr>>()
    };
    let mut cluster_ips = addresses(&spec.cluster_ips);
    if cluster_ips.is_empty() {
        cluster_ips.extend(spec.cluster_ip.parse::<IpAddr>());
    }
    if &*spec.r#type == "ExternalName" || cluster_ips.is_empty() {
        return None;
    }
    let (mut balancer_ips, mut source_ranges) = (Vec::new(), None);
    if &*spec.r#type == "LoadBalancer" {
        // In mode Proxy the balancer has put the node's or the pod's address in.
        let whole = object.status.load_balancer.ingress.iter();
        let whole = whole.filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
        balancer_ips.extend(whole.filter_map(|ingress| ingress.ip.parse::<IpAddr>().ok()));
        source_ranges = self::source_ranges(object);
    }
    let policy = |text: Option<&str>| match text {
        Some("Local") => TrafficPolicy::Local,
        _ => TrafficPolicy::Cluster,
    };
    let affinity_s = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref())
        .and_then(|client_ip| client_ip.timeout_seconds)
        .and_then(|seconds| u64::try_from(seconds).ok())
        .unwrap_or(10_800);
    Some(Service {
        cluster_ips,
        external_ips: addresses(&spec.external_ips),
        balancer_ips,
        source_ranges,
        ports: spec.ports.iter().filter_map(|port| self::port(port, slices, place)).collect(),
        affinity: (&*spec.session_affinity == "ClientIP").then(|| Duration::from_secs(affinity_s)),
        internal_policy: policy(spec.internal_traffic_policy.as_deref()),
        external_policy: policy(Some(&*spec.external_traffic_policy)),
    })
}

/// The field, or what came before it. Both are lists that may have blanks in them;
/// what is no network lets in nobody.
fn source_ranges(object: &served::Service) -> Option<Vec<(IpAddr, u8)>> {
    let spec = &object.spec;
    let annotations = object.metadata.annotations.as_ref();
    let annotation = annotations.and_then(|all| all.source_ranges.as_deref()).map(str::trim);
    let texts: Vec<&str> = match spec.load_balancer_source_ranges.is_empty() {
        true => annotation.filter(|text| !text.is_empty())?.split(',').collect(),
        false => spec.load_balancer_source_ranges.iter().map(String::as_str).collect(),
    };
    let range = |text: &str| {
        let (ip, bits) = text.trim().split_once('/')?;
        Some((ip.parse().ok()?, bits.parse().ok()?))
    };
    Some(texts.into_iter().filter_map(range).collect())
}

fn port(
    port: &served::ServicePort,
    slices: &[Arc<Cached<EndpointSlice>>],
    place: &Place,
) -> Option<Port> {
    let mut endpoints = Vec::new();
    let proxied = |slice: &&Arc<Cached<EndpointSlice>>| {
        served::is_proxied(slice.view.metadata.labels.as_ref())
    };
    for slice in slices.iter().filter(proxied) {
        let named = slice.view.ports.iter().find(|candidate| {
            candidate.name.as_deref().unwrap_or_default() == &*port.name
                && candidate.protocol.as_deref().unwrap_or("TCP") == protocol_name(&port.protocol)
        });
        let Some(number) =
            named.and_then(|port| port.port).and_then(|port| u16::try_from(port).ok())
        else {
            continue;
        };
        for endpoint in &slice.view.endpoints {
            let conditions = &endpoint.conditions;
            let local = endpoint.node_name.as_deref() == Some(&*place.node);
            let hints = endpoint.hints.as_deref();
            // An endpoint's addresses are the same pod; proxies use the first.
            let Some(ip) = endpoint.addresses.first().and_then(|text| text.parse().ok()) else {
                continue;
            };
            let ready = conditions.ready.unwrap_or(true);
            endpoints.push(Endpoint {
                ip,
                port: number,
                ready,
                serving: conditions.serving.unwrap_or(ready),
                terminating: conditions.terminating.unwrap_or(false),
                local,
                for_node: hints
                    .map_or(Hint::Silent, |hints| Place::hint(Some(&place.node), &hints.for_nodes)),
                for_zone: hints.map_or(Hint::Silent, |hints| {
                    Place::hint(place.zone.as_deref(), &hints.for_zones)
                }),
            });
        }
    }
    // Most have one or two, and the list had room for four.
    endpoints.shrink_to_fit();
    Some(Port {
        protocol: match protocol_name(&port.protocol) {
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            "SCTP" => Protocol::Sctp,
            _ => return None,
        },
        port: u16::try_from(port.port).ok()?,
        node_port: u16::try_from(port.node_port).ok().filter(|port| *port != 0),
        endpoints,
    })
}

fn protocol_name(text: &str) -> &str {
    if text.is_empty() { "TCP" } else { text }
}

/// How soon what the kernel remembers of endpoints that are gone is to be forgotten again.
const FORGET_AGAIN: Backoff =
    Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(300) };

/// Keeps the kernel's rules equal to the API's Services until dropped.
pub(crate) async fn run(
    informers: SharedInformers,
    proxy: Arc<Mutex<Proxy>>,
    node_name: String,
    host_ports: HostPorts,
    networks: Live<Vec<Cidr>>,
) {
    let (mut host_ports, mut networks) = (host_ports.subscribe(), networks.follow());
    // What the rules have of them.
    let mut known = BTreeMap::new();
    let (services, slices) = (served::services(&informers), served::slices(&informers));
    let changed = Changed::follow(&services, &slices);
    let mut zone = follow_zone(&informers, &node_name).await;
    services.wait_synced().await;
    slices.wait_synced().await;

    let view = |key: &str, place: &Place| -> Option<Service> {
        let object = services.get(key)?;
        service(&object.view, &slices.by_index(BY_SERVICE, key), place)
    };
    let mut place = Place { node: node_name, zone: None };
    let (mut failures, mut unforgotten) = (0, 0);
    let mut reconciled = false;
    let mut keys = BTreeSet::new();
    loop {
        if reconciled {
            tokio::select! {
                mut told = changed.take() => keys.append(&mut told),
                // The node outlives its proxy.
                _ = host_ports.changed() => {}
                _ = networks.changed() => {}
                _ = zone.changed() => {}
                () = tokio::time::sleep(FORGET_AGAIN.delay(unforgotten)), if unforgotten > 0 => {}
            }
        }
        let here = zone.borrow_and_update().clone();
        if here != place.zone {
            place.zone = here;
            keys.extend(services.list().iter().map(|object| object.key()));
        }
        let (whole, told) = (!reconciled, keys.clone());
        let listed: Vec<String> = match whole {
            true => services.list().iter().map(|object| object.key()).collect(),
            false => told.into_iter().collect(),
        };
        let on_node = host_ports::services(&host_ports.borrow_and_update());
        let mut wanted: Vec<(ServiceName, Option<Service>)> =
            listed.iter().filter_map(|key| Some((name(key)?, view(key, &place)))).collect();
        let gone = known.keys().filter(|name| !on_node.contains_key(*name));
        wanted.extend(gone.map(|name| (name.clone(), None)));
        let news =
            on_node.iter().filter(|(name, service)| whole || known.get(*name) != Some(*service));
        wanted.extend(news.map(|(name, service)| (name.clone(), Some(service.clone()))));
        let from = network::pairs(&networks.borrow_and_update());
        let worker = proxy.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mut proxy = worker.lock().unwrap_or_else(PoisonError::into_inner);
            proxy.set_networks(from);
            match whole {
                true => {
                    let all = wanted.into_iter().filter_map(|(name, view)| Some((name, view?)));
                    proxy.reconcile(all.collect::<BTreeMap<_, _>>())
                }
                false => proxy.apply(wanted),
            }
        })
        .await;
        // Where the worker panicked it is the same: what it knew is read anew.
        let done = done.map_err(|error| error.to_string());
        match done.and_then(|done| done.map_err(|error| error.to_string())) {
            Ok(summary) => {
                if whole {
                    info!(
                        added = summary.added,
                        deleted = summary.deleted,
                        "service rules are in place"
                    );
                }
                (reconciled, failures) = (true, 0);
                unforgotten = if summary.unforgotten { unforgotten + 1 } else { 0 };
                known = on_node;
                keys.clear();
            }
            Err(error) => {
                warn!(%error, "service rules could not be changed; trying again");
                // What the kernel has is not known any more.
                reconciled = false;
                tokio::time::sleep(Backoff::CONNECT.delay(failures)).await;
                failures += 1;
            }
        }
    }
}

/// The zone that this node's Node is in, as that changes.
async fn follow_zone(
    informers: &SharedInformers,
    node_name: &str,
) -> watch::Receiver<Option<String>> {
    let nodes = overlay::nodes(informers);
    let (told, zone) = watch::channel(None);
    let name = node_name.to_owned();
    nodes.on_change(move |change| {
        if change.object().meta.name == name {
            let node = change.new.as_ref();
            let now = node.and_then(|node| node.meta.labels.get(ZONE_LABEL).cloned());
            told.send_if_modified(|zone| std::mem::replace(zone, now.clone()) != now);
        }
    });
    nodes.wait_synced().await;
    zone
}

fn name(key: &str) -> Option<ServiceName> {
    let (namespace, name) = key.split_once('/')?;
    Some(ServiceName { namespace: namespace.to_owned(), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use api_object::Object;
    use bytes::Bytes;
    use client::{Ambient, Api, Body, BoxFuture, Transport, TransportError};
    use http::{Request, Response};
    use serde_json::{Value, json};

    use super::*;

    fn cached<V: client::View>(object: Value) -> Arc<Cached<V>> {
        let object = Object::parse(object.to_string().into()).expect("an object");
        Arc::new(Cached::read(object, false).expect("the view's shape"))
    }

    fn slice(port: Value, endpoints: Value) -> Arc<Cached<EndpointSlice>> {
        cached(json!({
            "metadata": {"namespace": "a", "name": "web-x", "labels": {"kubernetes.io/service-name": "web"}},
            "ports": [port], "endpoints": endpoints,
        }))
    }

    fn on(node: &str, zone: Option<&str>) -> Place {
        Place { node: node.to_owned(), zone: zone.map(str::to_owned) }
    }

    #[test]
    fn ports_meet_endpoints_by_name() {
        let object = cached::<served::Service>(json!({
            "metadata": {"namespace": "a", "name": "web"},
            "spec": {"clusterIP": "10.43.0.7", "clusterIPs": ["10.43.0.7"], "sessionAffinity": "ClientIP",
                "ports": [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]},
        }));
        let http = slice(
            json!({"name": "http", "port": 8080, "protocol": "TCP"}),
            json!([
                {"addresses": ["10.42.0.2"], "nodeName": "n1", "conditions": {"ready": true}},
                {"addresses": ["10.42.0.3"], "nodeName": "n2", "conditions": {"ready": false, "serving": true, "terminating": true}},
            ]),
        );
        assert_eq!(service_of(&http), ["a/web"]);
        let service = service(&object.view, &[http], &on("n1", None)).expect("it has an address");
        assert_eq!(service.affinity, Some(Duration::from_secs(10_800)));
        let [http, dns] = service.ports.as_slice() else { panic!("two ports") };
        assert_eq!((http.port, http.endpoints.len(), dns.endpoints.len()), (80, 2, 0));
        let [first, second] = http.endpoints.as_slice() else { panic!("two endpoints") };
        assert!(first.local && first.ready && first.serving && first.port == 8080);
        assert!(!second.local && !second.ready && second.serving && second.terminating);
    }

    #[test]
    fn a_balancer_s_addresses_are_external_ones() {
        let service = |kind: &str, mode: &str| {
            let object = cached::<served::Service>(json!({
                "metadata": {"name": "a"},
                "spec": {"clusterIP": "10.43.0.7", "type": kind, "externalIPs": ["192.0.2.9"]},
                "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": mode}]}},
            }));
            let service =
                super::service(&object.view, &[], &Place::default()).expect("it has an address");
            let all = service.external_ips.iter().chain(&service.balancer_ips);
            all.map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(service("LoadBalancer", "VIP"), ["192.0.2.9", "192.0.2.1"]);
        assert_eq!(service("LoadBalancer", "Proxy"), ["192.0.2.9"]);
        assert_eq!(service("ClusterIP", "VIP"), ["192.0.2.9"]);
    }

    #[test]
    fn whom_a_balancer_lets_in() {
        let ranges = |kind: &str, field: &[&str], annotation: Option<&str>| {
            let mut object = json!({
                "metadata": {"name": "a", "annotations": {}},
                "spec": {"clusterIP": "10.43.0.7", "type": kind, "loadBalancerSourceRanges": field},
            });
            if let Some(text) = annotation {
                let name = "service.beta.kubernetes.io/load-balancer-source-ranges";
                object["metadata"]["annotations"][name] = text.into();
            }
            let object = cached::<served::Service>(object);
            let service = super::service(&object.view, &[], &Place::default());
            let list = service.expect("it has an address").source_ranges?;
            Some(list.iter().map(|(ip, bits)| format!("{ip}/{bits}")).collect::<Vec<_>>().join(" "))
        };
        let balancer = |field: &[&str], annotation| ranges("LoadBalancer", field, annotation);
        assert_eq!(balancer(&[], None), None);
        assert_eq!(balancer(&[], Some(" ")), None);
        assert_eq!(balancer(&[], Some("10.0.0.0/8, fd00::/8")).unwrap(), "10.0.0.0/8 fd00::/8");
        assert_eq!(balancer(&[" 192.0.2.0/24"], Some("10.0.0.0/8")).unwrap(), "192.0.2.0/24");
        assert_eq!(balancer(&["nonsense"], None).unwrap(), "");
        assert_eq!(ranges("NodePort", &["192.0.2.0/24"], None), None);
    }

    #[test]
    fn hints_are_for_this_node_and_its_zone_or_not() {
        let object = cached::<served::Service>(json!({
            "metadata": {"namespace": "a", "name": "web"},
            "spec": {"clusterIP": "10.43.0.7", "ports": [{"port": 80}]},
        }));
        let endpoint = |hints: Value| json!({"addresses": ["10.42.0.2"], "hints": hints});
        let slice = slice(
            json!({"name": "", "port": 8080}),
            json!([
                endpoint(json!({"forZones": [{"name": "z1"}, {"name": "z2"}]})),
                endpoint(json!({"forZones": [{"name": "z3"}], "forNodes": [{"name": "n1"}]})),
                endpoint(json!({"forNodes": [{"name": "n2"}]})),
                endpoint(Value::Null),
            ]),
        );
        let hints = |place: Place| {
            let service = service(&object.view, std::slice::from_ref(&slice), &place);
            let service = service.expect("it has an address");
            let endpoints = service.ports.iter().flat_map(|port| &port.endpoints);
            endpoints.map(|e| format!("{:?} {:?}", e.for_node, e.for_zone)).collect::<Vec<_>>()
        };
        assert_eq!(
            hints(on("n1", Some("z2"))),
            ["Silent Here", "Here Elsewhere", "Elsewhere Silent", "Silent Silent"]
        );
        assert_eq!(
            hints(on("n2", None)),
            ["Silent Elsewhere", "Elsewhere Elsewhere", "Here Silent", "Silent Silent"]
        );
    }

    #[test]
    fn what_another_proxy_serves_has_no_rules() {
        for (label, value) in [
            ("service.kubernetes.io/service-proxy-name", "other"),
            ("service.kubernetes.io/service-proxy-name", ""),
            ("service.kubernetes.io/headless", ""),
        ] {
            let labels = json!({label: value, "kubernetes.io/service-name": "web"});
            let service = |labels: &Value| {
                cached::<served::Service>(json!({
                    "metadata": {"namespace": "a", "name": "web", "labels": labels},
                    "spec": {"clusterIP": "10.43.0.7", "ports": [{"port": 80}]},
                }))
            };
            let place = on("n1", None);
            assert_eq!(super::service(&service(&labels).view, &[], &place), None, "{label}");
            // Nor does a slice of its lend its endpoints to a Service without the label.
            let slice = cached::<EndpointSlice>(json!({
                "metadata": {"namespace": "a", "name": "web-x", "labels": labels},
                "ports": [{"name": "", "port": 8080}],
                "endpoints": [{"addresses": ["10.42.0.2"]}],
            }));
            let own = super::service(&service(&Value::Null).view, &[slice], &place);
            assert!(own.expect("it is ours").ports[0].endpoints.is_empty(), "{label}");
        }
    }

    /// A server out of reach.
    #[derive(Debug)]
    struct Nowhere;

    impl Transport for Nowhere {
        fn send(&self, _: Request<Bytes>) -> BoxFuture<Result<Response<Body>, TransportError>> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn nothing_is_collected_for_who_has_ended() {
        let api = Api::new(Arc::new(Nowhere), "test");
        let informers = SharedInformers::new(api, Ambient::system());
        let changed = Changed::follow(&served::services(&informers), &served::slices(&informers));
        let known = Arc::downgrade(&changed);
        drop(changed);
        assert!(known.upgrade().is_none());
    }

    #[test]
    fn what_has_no_address_has_no_rules() {
        for spec in [
            json!({"clusterIP": "None", "clusterIPs": ["None"]}),
            json!({"type": "ExternalName"}),
            json!({}),
        ] {
            let object =
                cached::<served::Service>(json!({"metadata": {"name": "a"}, "spec": spec}));
            assert_eq!(service(&object.view, &[], &Place::default()), None);
        }
    }
}

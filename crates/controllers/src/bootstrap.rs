//! What a cluster has from its first second: the system namespaces and priority
//! classes, the `kubernetes` Service with the servers' addresses, and `kube-dns`.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use client::{
    Api, Error, Informer, MetaOnly, Outcome, PatchKind, Resource, Selection, WorkQueue,
    reconcile_loop,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Context, KubernetesService,
    cached::{ENDPOINT_SLICES, ENDPOINTS, NAMESPACES, PRIORITY_CLASSES, SERVICES},
};

const SYSTEM_NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// Name, value, description.
const SYSTEM_PRIORITIES: [(&str, i64, &str); 2] = [
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];
/// There is one thing to be brought about.
const KEY: &str = "cluster";

/// The part of an object that is kept as it should be.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Kept {
    spec: Value,
    endpoints: Value,
    ports: Value,
    subsets: Value,
}

struct Bootstrap {
    api: Api,
    namespaces: Informer<MetaOnly>,
    priorities: Informer<MetaOnly>,
    services: Informer<Kept>,
    dns: Informer<MetaOnly>,
    slices: Informer<Kept>,
    /// The older form of the slice.
    endpoints: Informer<Kept>,
    context: Context,
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Bootstrap {
        api: context.api.clone(),
        namespaces: context.informers.get(Selection::all(NAMESPACES)),
        priorities: context.informers.get(Selection::all(PRIORITY_CLASSES)),
        services: context
            .informers
            .get(Selection::all(SERVICES).namespace("default").fields("metadata.name=kubernetes")),
        dns: context.informers.get(
            Selection::all(SERVICES).namespace("kube-system").fields("metadata.name=kube-dns"),
        ),
        slices: context.informers.get(
            Selection::all(ENDPOINT_SLICES).namespace("default").fields("metadata.name=kubernetes"),
        ),
        endpoints: context
            .informers
            .get(Selection::all(ENDPOINTS).namespace("default").fields("metadata.name=kubernetes")),
        context,
    });
    let queue = Arc::new(WorkQueue::default());
    queue.add(KEY.to_owned());
    let keys = queue.clone();
    controller.namespaces.on_change(move |change| {
        let name = change.object().meta.name.as_str();
        if change.new.is_none() && SYSTEM_NAMESPACES.contains(&name) {
            keys.add(KEY.to_owned());
        }
    });
    let keys = queue.clone();
    controller.priorities.on_change(move |change| {
        if change.new.is_none() {
            keys.add(KEY.to_owned());
        }
    });
    let keys = queue.clone();
    controller.services.on_change(move |_| keys.add(KEY.to_owned()));
    let keys = queue.clone();
    controller.dns.on_change(move |_| keys.add(KEY.to_owned()));
    let keys = queue.clone();
    controller.slices.on_change(move |_| keys.add(KEY.to_owned()));
    let keys = queue.clone();
    controller.endpoints.on_change(move |_| keys.add(KEY.to_owned()));
    let told = controller.context.settings.kubernetes_service.clone();
    controller.namespaces.wait_synced().await;
    controller.priorities.wait_synced().await;
    controller.services.wait_synced().await;
    controller.dns.wait_synced().await;
    controller.slices.wait_synced().await;
    controller.endpoints.wait_synced().await;
    let keys = queue.clone();
    let servers_change = async move {
        let Some(KubernetesService { mut addresses, .. }) = told else { return };
        while addresses.changed().await.is_ok() {
            keys.add(KEY.to_owned());
        }
    };
    let reconciling = reconcile_loop("bootstrap", queue, 1, move |_| {
        let controller = controller.clone();
        async move { controller.reconcile().await }
    });
    tokio::join!(reconciling, servers_change);
}

impl Bootstrap {
    async fn reconcile(&self) -> Outcome {
        for name in SYSTEM_NAMESPACES {
            if self.namespaces.get(name).is_none() {
                let namespace =
                    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
                self.create(NAMESPACES, "", &namespace).await?;
            }
        }
        if let Some(kubernetes) = &self.context.settings.kubernetes_service {
            self.kubernetes(kubernetes).await?;
        }
        let dns = dns_service(&self.context.settings.cluster_dns);
        if let Some(service) = dns.filter(|_| self.dns.is_empty()) {
            self.create(SERVICES, "kube-system", &service).await?;
        }
        for (name, value, description) in SYSTEM_PRIORITIES {
            if self.priorities.get(name).is_none() {
                let class = json!({
                    "apiVersion": "scheduling.k8s.io/v1",
                    "kind": "PriorityClass",
                    "metadata": {"name": name},
                    "value": value,
                    "description": description,
                });
                self.create(PRIORITY_CLASSES, "", &class).await?;
            }
        }
        Ok(None)
    }

    async fn kubernetes(&self, service: &KubernetesService) -> Result<(), Error> {
        let wanted = kubernetes_service(service);
        match self.services.get("default/kubernetes") {
            None => self.create(SERVICES, "default", &wanted).await?,
            Some(known) if known.view.spec["ports"][0]["targetPort"] != json!(service.port) => {
                let patch = json!({"spec": {"ports": wanted["spec"]["ports"]}});
                self.patch(SERVICES, &patch).await?;
            }
            Some(_) => {}
        }
        // Slices have one kind of address; the Service's own kind it is.
        let v6 = service.cluster_ip.is_ipv6();
        let told = service.addresses.borrow().clone();
        let parsed = told.iter().filter_map(|address| address.parse::<SocketAddr>().ok());
        let mut addresses: Vec<IpAddr> =
            parsed.map(|address| address.ip()).filter(|ip| ip.is_ipv6() == v6).collect();
        addresses.sort();
        if addresses.is_empty() {
            // A server that has only just come to lead will tell.
            return Ok(());
        }
        let slice = kubernetes_slice(&addresses, v6, service.port);
        match self.slices.get("default/kubernetes") {
            None => self.create(ENDPOINT_SLICES, "default", &slice).await?,
            Some(known) if !same_slice(&known.view, &slice) => {
                let patch = json!({"endpoints": slice["endpoints"], "ports": slice["ports"]});
                self.patch(ENDPOINT_SLICES, &patch).await?;
            }
            Some(_) => {}
        }
        self.endpoints(&addresses, service.port).await
    }

    /// The older form of the same.
    async fn endpoints(&self, addresses: &[IpAddr], port: u16) -> Result<(), Error> {
        let addresses: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        let subsets = json!([{
            "addresses": addresses,
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }]);
        let endpoints = json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                // The slice is written by us, not mirrored from this.
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
            },
            "subsets": subsets,
        });
        match self.endpoints.get("default/kubernetes") {
            None => self.create(ENDPOINTS, "default", &endpoints).await,
            Some(known) if known.view.subsets != subsets => {
                self.patch(ENDPOINTS, &json!({"subsets": subsets})).await
            }
            Some(_) => Ok(()),
        }
    }

    async fn patch(&self, resource: Resource, patch: &Value) -> Result<(), Error> {
        let patched =
            self.api.patch(resource, "default", "kubernetes", "", PatchKind::Merge, patch);
        patched.await.map(drop)
    }

    async fn create(&self, resource: Resource, namespace: &str, body: &Value) -> Result<(), Error> {
        match self.api.create(resource, namespace, body).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn kubernetes_service(service: &KubernetesService) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": service.cluster_ip,
            "ports": [{
                "name": "https",
                "port": 443,
                "protocol": "TCP",
                "targetPort": service.port,
            }],
            "sessionAffinity": "None",
        },
    })
}

fn kubernetes_slice(addresses: &[IpAddr], v6: bool, port: u16) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}}))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": if v6 { "IPv6" } else { "IPv4" },
        "endpoints": endpoints,
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    })
}

/// Whether the slice has these addresses and this port, whatever defaults the
/// server filled in.
fn same_slice(known: &Kept, wanted: &Value) -> bool {
    let addresses = |endpoints: &Value| {
        let endpoints = endpoints.as_array().into_iter().flatten();
        endpoints.map(|endpoint| endpoint["addresses"][0].clone()).collect::<Vec<_>>()
    };
    addresses(&known.endpoints) == addresses(&wanted["endpoints"])
        && known.ports[0]["port"] == wanted["ports"][0]["port"]
}

/// Every node answers at these addresses itself, so the Service has neither
/// selector nor endpoints: it holds the first address of each family, and tools
/// find them by name.
fn dns_service(addresses: &[IpAddr]) -> Option<Value> {
    let first = addresses.first()?;
    let mut service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS",
            },
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": first,
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
            ],
        },
    });
    if let Some(second) = addresses.iter().find(|ip| ip.is_ipv6() != first.is_ipv6()) {
        service["spec"]["clusterIPs"] = json!([first, second]);
        service["spec"]["ipFamilyPolicy"] = "PreferDualStack".into();
    }
    Some(service)
}

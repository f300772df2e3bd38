//! Slices of Endpoints that somebody wrote by hand, for a Service without a
//! selector.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use api_types::discovery::{Endpoint, EndpointConditions};
use client::{
    Cached, Informer, Outcome, Recorder, Reference, Selection, WorkQueue, reconcile_loop,
};
use serde_json::Value;

use super::{
    endpoints::Text,
    plan::{Group, Plan, Port, share},
    trigger::ANNOTATION,
    view::{MANAGED_BY_LABEL, SERVICE_LABEL, Slice, managed_service},
    writer::Writer,
};
use crate::{
    Context,
    cached::{ENDPOINT_SLICES, ENDPOINTS, SERVICES, Service},
    owner,
};

const WORKERS: usize = 2;
const MANAGED_BY: &str = "endpointslicemirroring-controller.k8s.io";
/// Index of slices that mirror: `namespace/service`.
const BY_MIRRORED: &str = "mirrored";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints were once used to elect leaders.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const NOT_COPIED: [&str; 2] = ["kubectl.kubernetes.io/last-applied-configuration", ANNOTATION];
/// Most addresses of a subset that are mirrored; upstream's number.
const ADDRESSES_MAX: usize = 1000;

struct Mirror {
    services: Informer<Service>,
    endpoints: Informer<Text>,
    slices: Informer<Slice>,
    recorder: Recorder,
    writer: Writer,
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Mirror {
        services: context.informers.get(Selection::all(SERVICES)),
        endpoints: context.informers.get(Selection::all(ENDPOINTS)),
        slices: context.informers.get(Selection::all(ENDPOINT_SLICES)),
        recorder: context.recorder("endpoint-slice-mirroring-controller"),
        writer: Writer::new(context.api),
    });
    controller.slices.add_index(BY_MIRRORED, |slice| managed_service(slice, MANAGED_BY));
    let queue = Arc::new(WorkQueue::default());
    let keys = queue.clone();
    controller.services.on_change(move |change| keys.add(change.object().key()));
    let keys = queue.clone();
    controller.endpoints.on_change(move |change| keys.add(change.object().key()));
    let keys = queue.clone();
    controller.slices.on_change(move |change| {
        let services = change.sides().flat_map(|slice| managed_service(slice, MANAGED_BY));
        services.for_each(|key| keys.add(key));
    });
    controller.services.wait_synced().await;
    controller.endpoints.wait_synced().await;
    controller.slices.wait_synced().await;
    reconcile_loop("endpointslice-mirroring", queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

impl Mirror {
    async fn reconcile(&self, key: &str) -> Outcome {
        self.writer.settle(key, &self.slices).await?;
        let slices = self.slices.by_index(BY_MIRRORED, key);
        let service = self.services.get(key);
        let endpoints = self.endpoints.get(key).filter(|endpoints| {
            service.as_ref().is_some_and(|service| is_mirrored(service, endpoints))
        });
        let plan = match &endpoints {
            Some(endpoints) => plan(endpoints, &slices),
            None => Plan { delete: slices, ..Plan::default() },
        };
        let Some(named) = endpoints.as_ref().map(|endpoints| &endpoints.meta).or_else(|| {
            // Whose they were does not matter for those that go.
            plan.delete.first().map(|slice| &slice.meta)
        }) else {
            return Ok(None);
        };
        let owner = owner::reference("v1", "Endpoints", named);
        match self.writer.carry_out(named, &owner, &plan).await {
            Ok(()) => Ok(None),
            Err(error) if owner::namespace_terminates(&error) => Ok(None),
            Err(error) => {
                if let Some(endpoints) = endpoints.filter(|_| !error.is_conflict()) {
                    let message = format!("Error updating mirrored EndpointSlices: {error}");
                    let about = Reference::new("v1", "Endpoints", &endpoints.meta);
                    self.recorder.warning(&about, "FailedToUpdateEndpointSlices", message);
                }
                Err(error.into())
            }
        }
    }
}

fn is_mirrored(service: &Cached<Service>, endpoints: &Cached<Text>) -> bool {
    service.view.spec.selector.is_empty()
        && service.meta.deletion_timestamp.is_none()
        && endpoints.meta.deletion_timestamp.is_none()
        && endpoints.meta.labels.get(SKIP).is_none_or(|skip| skip != "true")
        && !endpoints.meta.annotations.contains_key(LEADER)
}

fn plan(endpoints: &Cached<Text>, slices: &[Arc<Cached<Slice>>]) -> Plan {
    let meta = &endpoints.meta;
    let mut labels = meta.labels.clone();
    labels.insert(SERVICE_LABEL.into(), meta.name.clone());
    labels.insert(MANAGED_BY_LABEL.into(), MANAGED_BY.into());
    let annotations = meta.annotations.iter().filter(|(k, _)| !NOT_COPIED.contains(&k.as_str()));
    let annotations = annotations.map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut plan = Plan { labels, annotations, ..Plan::default() };
    let mut wanted: BTreeMap<Group, Vec<Endpoint>> = BTreeMap::new();
    // It was read as JSON already.
    let object: Value = serde_json::from_str(endpoints.view.get()).unwrap_or_default();
    for subset in object["subsets"].as_array().into_iter().flatten() {
        let mut ports: Vec<Port> =
            subset["ports"].as_array().into_iter().flatten().map(port).collect();
        ports.sort();
        let mut seen = BTreeSet::new();
        let lists = [("addresses", true), ("notReadyAddresses", false)];
        let all = lists.iter().flat_map(|(list, ready)| {
            let addresses = subset[*list].as_array().into_iter().flatten();
            addresses.map(|address| (address, *ready))
        });
        for (address, ready) in all.take(ADDRESSES_MAX) {
            let Some(ip) = address["ip"].as_str().and_then(|ip| ip.parse::<IpAddr>().ok()) else {
                continue;
            };
            // One that is in both lists is ready.
            if seen.insert(ip) {
                let family = if ip.is_ipv6() { "IPv6" } else { "IPv4" };
                let group = wanted.entry((family, ports.clone())).or_default();
                group.push(endpoint(ip, address, ready));
            }
        }
    }
    share(&mut plan, slices, wanted, &["IPv4", "IPv6"]);
    plan
}

fn port(port: &Value) -> Port {
    let text = |field: &str| port[field].as_str().map(str::to_owned);
    Port {
        name: text("name").unwrap_or_default(),
        protocol: text("protocol").unwrap_or_else(|| "TCP".into()),
        port: port["port"].as_i64().and_then(|port| i32::try_from(port).ok()).unwrap_or(0),
        app_protocol: text("appProtocol"),
    }
}

fn endpoint(ip: IpAddr, address: &Value, ready: bool) -> Endpoint {
    let text = |field: &str| address[field].as_str().map(str::to_owned);
    let target = &address["targetRef"];
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: EndpointConditions { ready: Some(ready), serving: None, terminating: None },
        hostname: text("hostname"),
        node_name: text("nodeName"),
        target_ref: target.is_object().then(|| {
            let text = |field: &str| target[field].as_str().unwrap_or_default().to_owned();
            api_types::core::ObjectReference {
                kind: text("kind"),
                namespace: text("namespace"),
                name: text("name"),
                uid: text("uid"),
                ..Default::default()
            }
        }),
        zone: None,
        hints: None,
    }
}

//! Carries out EndpointSlice plans.

use std::sync::Arc;

use api_object::LabelSelector;
use api_types::discovery::{Endpoint, EndpointPort};
use client::{
    Api, Cached, DeleteOptions, Error, Informer, Outcome, OwnWrites, PatchKind, Recorder,
    Reference, Selection, WorkQueue, reconcile_loop,
};
use serde_json::{Map, Value, json};

use super::{
    plan::{Plan, plan},
    view::{BY_SERVICE, Slice, service_of, view},
};
use crate::{
    Context,
    cached::{self, ENDPOINT_SLICES, NODES, Node, Pod, SERVICES, Service},
    owner,
};

const WORKERS: usize = 4;

struct EndpointSlices {
    api: Api,
    services: Informer<Service>,
    pods: Informer<Pod>,
    slices: Informer<Slice>,
    nodes: Informer<Node>,
    recorder: Recorder,
    writes: OwnWrites,
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(EndpointSlices {
        api: context.api.clone(),
        services: context.informers.get(Selection::all(SERVICES)),
        pods: cached::pods(&context.informers),
        slices: context.informers.get(Selection::all(ENDPOINT_SLICES)),
        nodes: context.informers.get(Selection::all(NODES)),
        recorder: context.recorder("endpoint-slice-controller"),
        writes: OwnWrites::default(),
    });
    controller.slices.add_index(BY_SERVICE, service_of);
    let queue = Arc::new(WorkQueue::default());
    controller.watch(&queue);
    controller.services.wait_synced().await;
    controller.pods.wait_synced().await;
    controller.slices.wait_synced().await;
    controller.nodes.wait_synced().await;
    reconcile_loop("endpointslice", queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

impl EndpointSlices {
    fn watch(&self, queue: &Arc<WorkQueue<String>>) {
        let keys = queue.clone();
        self.services.on_change(move |change| keys.add(change.object().key()));
        let keys = queue.clone();
        self.slices.on_change(move |change| {
            change.sides().flat_map(|slice| service_of(slice)).for_each(|key| keys.add(key));
        });
        let (keys, services) = (queue.clone(), self.services.clone());
        self.pods.on_change(move |change| {
            if !concerns_endpoints(change) {
                return;
            }
            for service in services.list_namespace(&change.object().meta.namespace) {
                let selector = &service.view.spec.selector;
                let matches = |pod: &Arc<Cached<Pod>>| {
                    LabelSelector::from_map(selector).matches(&pod.meta.labels)
                };
                if !selector.is_empty() && change.sides().any(matches) {
                    keys.add(service.key());
                }
            }
        });
    }

    async fn reconcile(&self, key: &str) -> Outcome {
        self.writes.settle(key, &self.slices).await?;
        let Some(service) = self.services.get(key) else { return Ok(None) };
        let view = view(service.clone(), &self.pods, &self.slices, &self.nodes);
        let plan = plan(&view);
        match self.carry_out(&service, &plan).await {
            Ok(()) => Ok(None),
            Err(error) if owner::namespace_terminates(&error) => Ok(None),
            Err(error) => {
                if !error.is_conflict() {
                    let message =
                        format!("Error updating Endpoint Slices for Service {key}: {error}");
                    let about = Reference::new("v1", "Service", &service.meta);
                    self.recorder.warning(&about, "FailedToUpdateEndpointSlices", message);
                }
                Err(error.into())
            }
        }
    }

    async fn carry_out(&self, service: &Cached<Service>, plan: &Plan) -> Result<(), Error> {
        let key = service.key();
        let namespace = &service.meta.namespace;
        for slice in &plan.create {
            let mut body = json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "generateName": format!("{}-", service.meta.name),
                    "namespace": namespace,
                    "labels": plan.labels,
                    "ownerReferences": [owner::reference("v1", "Service", &service.meta)],
                },
                "addressType": slice.address_type,
            });
            body["endpoints"] = endpoints_json(&slice.endpoints);
            body["ports"] = ports_json(&slice.ports);
            let written = self.api.create(ENDPOINT_SLICES, namespace, &body).await?;
            self.writes.record(&key, &written);
        }
        for (known, next) in &plan.update {
            let mut labels = json!(plan.labels);
            for gone in known.meta.labels.keys().filter(|key| !plan.labels.contains_key(*key)) {
                labels[gone] = Value::Null;
            }
            let patch = json!({
                "metadata": {
                    "uid": known.meta.uid,
                    "resourceVersion": known.meta.resource_version,
                    "labels": labels,
                },
                "endpoints": endpoints_json(&next.endpoints),
                "ports": ports_json(&next.ports),
            });
            let name = &known.meta.name;
            let written =
                self.api.patch(ENDPOINT_SLICES, namespace, name, "", PatchKind::Merge, &patch);
            match written.await {
                Ok(written) => self.writes.record(&key, &written),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        for slice in &plan.delete {
            let options = DeleteOptions::uid(&slice.meta.uid);
            match self.api.delete(ENDPOINT_SLICES, namespace, &slice.meta.name, &options).await {
                Ok(()) => {}
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Heartbeats and restarts of containers change nothing in a slice.
fn concerns_endpoints(change: &client::Change<Pod>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    let part = |pod: &Cached<Pod>| {
        (
            pod.meta.labels.clone(),
            pod.meta.deletion_timestamp.is_some(),
            pod.view.is_terminal(),
            pod.view.ready().is_some(),
            pod.view.status.pod_ip.clone(),
            pod.view.status.pod_ips.clone(),
            pod.view.spec.clone(),
        )
    };
    part(old) != part(new)
}

fn endpoints_json(endpoints: &[Endpoint]) -> Value {
    let one = |endpoint: &Endpoint| {
        let mut map = Map::new();
        map.insert("addresses".into(), json!(endpoint.addresses));
        map.insert(
            "conditions".into(),
            json!({
                "ready": endpoint.conditions.ready,
                "serving": endpoint.conditions.serving,
                "terminating": endpoint.conditions.terminating,
            }),
        );
        let mut put = |key: &str, value: &Option<String>| {
            if let Some(value) = value {
                map.insert(key.to_owned(), json!(value));
            }
        };
        put("hostname", &endpoint.hostname);
        put("nodeName", &endpoint.node_name);
        put("zone", &endpoint.zone);
        if let Some(target) = &endpoint.target_ref {
            let target = json!({
                "kind": target.kind,
                "namespace": target.namespace,
                "name": target.name,
                "uid": target.uid,
            });
            map.insert("targetRef".into(), target);
        }
        Value::Object(map)
    };
    endpoints.iter().map(one).collect()
}

fn ports_json(ports: &[EndpointPort]) -> Value {
    let one = |port: &EndpointPort| {
        let mut json = json!({"name": port.name, "protocol": port.protocol, "port": port.port});
        if let Some(app) = &port.app_protocol {
            json["appProtocol"] = json!(app);
        }
        json
    };
    ports.iter().map(one).collect()
}

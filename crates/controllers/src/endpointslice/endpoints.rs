//! Endpoints: what Services had before slices. Deprecated, still written for
//! Services with a selector, for those who read nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use api_types::discovery::Endpoint;
use client::{
    Api, Cached, DeleteOptions, Error, Informer, Outcome, OwnWrites, Recorder, Reference,
    Selection, WorkQueue, reconcile_loop,
};
use serde_json::{Map, Value, json};

use super::{
    act::follow_pods,
    plan::{Group, families, wanted},
    trigger::{ANNOTATION, Triggers},
    view::{View, selected},
    writer::target_json,
};
use crate::{
    Context,
    cached::{self, ENDPOINTS, Pod, SERVICES, Service},
    owner,
};

const WORKERS: usize = 2;
const MANAGED_BY_LABEL: &str = "endpoints.kubernetes.io/managed-by";
const MANAGED_BY: &str = "endpoint-controller";
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
const CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Most addresses of an object; upstream's number.
const ADDRESSES_MAX: usize = 1000;

/// Endpoints as text, which is parsed where it is read: that is seldom, and as trees those
/// of a thousand Services would take 8 MB.
pub(super) type Text = Box<serde_json::value::RawValue>;

struct EndpointsController {
    api: Api,
    services: Informer<Service>,
    pods: Informer<Pod>,
    endpoints: Informer<Text>,
    recorder: Recorder,
    writes: OwnWrites,
    /// Services that were there: their Endpoints go with them, whoever wrote
    /// those.
    seen: Mutex<BTreeSet<String>>,
    triggers: Mutex<Triggers>,
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(EndpointsController {
        api: context.api.clone(),
        services: context.informers.get(Selection::all(SERVICES)),
        pods: cached::pods(&context.informers),
        endpoints: context.informers.get(Selection::all(ENDPOINTS)),
        recorder: context.recorder("endpoint-controller"),
        writes: OwnWrites::default(),
        seen: Mutex::default(),
        triggers: Mutex::default(),
    });
    let queue = Arc::new(WorkQueue::default());
    controller.watch(&queue);
    controller.services.wait_synced().await;
    controller.pods.wait_synced().await;
    controller.endpoints.wait_synced().await;
    reconcile_loop("endpoints", queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

impl EndpointsController {
    fn watch(&self, queue: &Arc<WorkQueue<String>>) {
        let keys = queue.clone();
        self.services.on_change(move |change| keys.add(change.object().key()));
        let keys = queue.clone();
        self.endpoints.on_change(move |change| keys.add(change.object().key()));
        follow_pods(&self.pods, &self.services, queue);
    }

    async fn reconcile(&self, key: &str) -> Outcome {
        self.writes.settle(key, &self.endpoints).await?;
        let known = self.endpoints.get(key);
        let triggers = || self.triggers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(service) = self.services.get(key) else {
            triggers().forget(key);
            let was_there = self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            if let Some(known) = known {
                let is_ours =
                    known.meta.labels.get(MANAGED_BY_LABEL).is_some_and(|by| by == MANAGED_BY);
                if was_there || is_ours {
                    let options = DeleteOptions::uid(&known.meta.uid);
                    let (namespace, name) = (&known.meta.namespace, &known.meta.name);
                    match self.api.delete(ENDPOINTS, namespace, name, &options).await {
                        Err(error) if !error.is_not_found() && !error.is_conflict() => {
                            return Err(error.into());
                        }
                        _ => {}
                    }
                }
            }
            return Ok(None);
        };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
        let spec = &service.view.spec;
        if spec.selector.is_empty()
            || spec.r#type == "ExternalName"
            || service.meta.deletion_timestamp.is_some()
        {
            return Ok(None);
        }
        let pods = selected(&service, &self.pods);
        let view =
            View { service: service.clone(), pods, slices: Vec::new(), zones: BTreeMap::new() };
        let mut object = desired(&view, known.as_deref());
        let triggered = triggers().look(key, &view);
        if let Some(object) = &mut object {
            if let Some(triggered) = triggered {
                object["metadata"]["annotations"][ANNOTATION] = json!(triggered);
            } else if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
                annotations.remove(ANNOTATION);
            }
        }
        match self.write(&service, known.as_deref(), object).await {
            Ok(()) => Ok(None),
            Err(error) if owner::namespace_terminates(&error) => Ok(None),
            Err(error) => {
                if !error.is_conflict() {
                    let (reason, verb) = match known {
                        Some(_) => ("FailedToUpdateEndpoint", "update"),
                        None => ("FailedToCreateEndpoint", "create"),
                    };
                    let message = format!("Failed to {verb} endpoint for service {key}: {error}");
                    let about = Reference::new("v1", "Service", &service.meta);
                    self.recorder.warning(&about, reason, message);
                }
                Err(error.into())
            }
        }
    }

    async fn write(
        &self,
        service: &Cached<Service>,
        known: Option<&Cached<Text>>,
        object: Option<Value>,
    ) -> Result<(), Error> {
        let Some(object) = object else { return Ok(()) };
        let (namespace, name) = (&service.meta.namespace, &service.meta.name);
        let written = match known {
            Some(_) => self.api.update(ENDPOINTS, namespace, name, "", &object).await?,
            None => self.api.create(ENDPOINTS, namespace, &object).await?,
        };
        self.writes.record(&service.key(), &written);
        Ok(())
    }
}

/// The object as it should be; none where it is.
fn desired(view: &View, known: Option<&Cached<Text>>) -> Option<Value> {
    let service = &view.service;
    let family: Vec<&'static str> = families(&service.view.spec).into_iter().take(1).collect();
    let has_ports = !service.view.spec.ports.is_empty();
    let groups = wanted(view, &family);
    // A pod that has none of the ports has no part in it.
    let groups = groups.into_iter().filter(|((_, ports), _)| !has_ports || !ports.is_empty());
    let mut room = ADDRESSES_MAX;
    let mut is_cut = false;
    let subsets: Vec<Value> =
        groups.filter_map(|group| subset(group, &mut room, &mut is_cut)).collect();
    let mut labels = service.meta.labels.clone();
    labels.insert(MANAGED_BY_LABEL.into(), MANAGED_BY.into());
    match service.view.spec.cluster_ip.as_str() {
        "None" => drop(labels.insert(HEADLESS_LABEL.into(), String::new())),
        _ => drop(labels.remove(HEADLESS_LABEL)),
    }
    // It was read as JSON already.
    let known = known.and_then(|known| serde_json::from_str::<Value>(known.view.get()).ok());
    let mut object = known.clone().unwrap_or_else(|| {
        json!({
            "metadata": {
                "name": service.meta.name,
                "namespace": service.meta.namespace,
            },
        })
    });
    object["metadata"]["labels"] = json!(labels);
    if is_cut {
        object["metadata"]["annotations"][CAPACITY] = json!("truncated");
    } else if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.remove(CAPACITY);
    }
    match subsets.is_empty() {
        true => drop(object.as_object_mut().map(|object| object.remove("subsets"))),
        false => object["subsets"] = Value::Array(subsets),
    }
    if known.is_some_and(|known| known == object) {
        return None;
    }
    object["apiVersion"] = json!("v1");
    object["kind"] = json!("Endpoints");
    Some(object)
}

fn subset(
    ((_, ports), endpoints): (Group, Vec<Endpoint>),
    room: &mut usize,
    is_cut: &mut bool,
) -> Option<Value> {
    let (mut ready, mut waiting) = (BTreeMap::new(), BTreeMap::new());
    for endpoint in &endpoints {
        let is_ready = endpoint.conditions.ready == Some(true);
        // One that leaves serves nobody new.
        if !is_ready && endpoint.conditions.terminating == Some(true) {
            continue;
        }
        if *room == 0 {
            *is_cut = true;
            break;
        }
        *room -= 1;
        let Some(ip) = endpoint.addresses.first() else { continue };
        let list = if is_ready { &mut ready } else { &mut waiting };
        list.insert(ip.clone(), address(ip, endpoint));
    }
    if ready.is_empty() && waiting.is_empty() {
        return None;
    }
    let mut subset = Map::new();
    for (field, addresses) in [("addresses", ready), ("notReadyAddresses", waiting)] {
        if !addresses.is_empty() {
            subset.insert(field.into(), addresses.into_values().collect());
        }
    }
    if !ports.is_empty() {
        let port = |port: &super::plan::Port| {
            let mut one = Map::new();
            if !port.name.is_empty() {
                one.insert("name".into(), json!(port.name));
            }
            one.insert("port".into(), json!(port.port));
            one.insert("protocol".into(), json!(port.protocol));
            if let Some(app) = &port.app_protocol {
                one.insert("appProtocol".into(), json!(app));
            }
            Value::Object(one)
        };
        subset.insert("ports".into(), ports.iter().map(port).collect());
    }
    Some(Value::Object(subset))
}

fn address(ip: &str, endpoint: &Endpoint) -> Value {
    let mut address = json!({"ip": ip});
    if let Some(hostname) = &endpoint.hostname {
        address["hostname"] = json!(hostname);
    }
    if let Some(node) = &endpoint.node_name {
        address["nodeName"] = json!(node);
    }
    if let Some(target) = &endpoint.target_ref {
        address["targetRef"] = target_json(target);
    }
    address
}

//! Writes slices, whoever plans them.

use api_object::{Meta, OwnerReference};
use api_types::{
    core::ObjectReference,
    discovery::{Endpoint, EndpointPort, ForName},
};
use client::{Api, DeleteOptions, Error, Informer, Lagging, OwnWrites, PatchKind};
use serde_json::{Map, Value, json};

use super::{plan::Plan, trigger::ANNOTATION, view::Slice};
use crate::cached::ENDPOINT_SLICES;

pub(super) struct Writer {
    api: Api,
    writes: OwnWrites,
}

impl Writer {
    pub(super) fn new(api: Api) -> Self {
        Self { api, writes: OwnWrites::default() }
    }

    /// Waits until the cache has what was written for a key.
    pub(super) async fn settle(&self, key: &str, slices: &Informer<Slice>) -> Result<(), Lagging> {
        self.writes.settle(key, slices).await
    }

    /// Makes, changes and deletes slices that are named after `named` and go
    /// with `owner`.
    pub(super) async fn carry_out(
        &self,
        named: &Meta,
        owner: &OwnerReference,
        plan: &Plan,
    ) -> Result<(), Error> {
        let key = named.key();
        let namespace = &named.namespace;
        for slice in &plan.create {
            let mut body = json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "generateName": format!("{}-", named.name),
                    "namespace": namespace,
                    "labels": plan.labels,
                    "ownerReferences": [owner],
                },
                "addressType": slice.address_type,
            });
            let annotations = annotations(plan, None);
            if !annotations.is_empty() {
                body["metadata"]["annotations"] = annotations.into();
            }
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
            let mut patch = json!({
                "metadata": {
                    "uid": known.meta.uid,
                    "resourceVersion": known.meta.resource_version,
                    "labels": labels,
                },
                "endpoints": endpoints_json(&next.endpoints),
                "ports": ports_json(&next.ports),
            });
            let annotations = annotations(plan, Some(&known.meta));
            if !annotations.is_empty() {
                patch["metadata"]["annotations"] = annotations.into();
            }
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

/// What is to be set; the time of a former change goes where there is no new one.
fn annotations(plan: &Plan, known: Option<&Meta>) -> Map<String, Value> {
    let set = plan.annotations.iter().map(|(key, value)| (key.clone(), json!(value)));
    let mut annotations: Map<String, Value> = set.collect();
    let has_one = known.is_some_and(|meta| meta.annotations.contains_key(ANNOTATION));
    if plan.triggered.is_some() || has_one {
        annotations.insert(ANNOTATION.into(), json!(plan.triggered));
    }
    annotations
}

pub(super) fn target_json(target: &ObjectReference) -> Value {
    json!({
        "kind": target.kind,
        "namespace": target.namespace,
        "name": target.name,
        "uid": target.uid,
    })
}

fn endpoints_json(endpoints: &[Endpoint]) -> Value {
    let one = |endpoint: &Endpoint| {
        let mut map = Map::new();
        map.insert("addresses".into(), json!(endpoint.addresses));
        let conditions = &endpoint.conditions;
        let conditions = [
            ("ready", conditions.ready),
            ("serving", conditions.serving),
            ("terminating", conditions.terminating),
        ];
        let known =
            conditions.iter().filter_map(|(name, is)| Some(((*name).into(), json!((*is)?))));
        map.insert("conditions".into(), Value::Object(known.collect()));
        let mut put = |key: &str, value: &Option<String>| {
            if let Some(value) = value {
                map.insert(key.to_owned(), json!(value));
            }
        };
        put("hostname", &endpoint.hostname);
        put("nodeName", &endpoint.node_name);
        put("zone", &endpoint.zone);
        if let Some(hints) = &endpoint.hints {
            let lists = [("forNodes", &hints.for_nodes), ("forZones", &hints.for_zones)];
            let named =
                |list: &[ForName]| list.iter().map(|one| json!({"name": one.name})).collect();
            let some = lists.iter().filter(|(_, list)| !list.is_empty());
            let some = some.map(|(field, list)| ((*field).to_owned(), named(list)));
            map.insert("hints".into(), Value::Object(some.collect()));
        }
        if let Some(target) = &endpoint.target_ref {
            map.insert("targetRef".into(), target_json(target));
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

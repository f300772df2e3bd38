//! An `Access` over objects in memory, for the tests of this crate.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use api_object::{GroupVersionKind, GroupVersionResource, Status};
use api_registry::{Admission, Attributes, Operation, UserInfo};
use client::{Api, Body, BoxFuture, Resource, Transport, TransportError};
use jiff::Timestamp;
use pki::service_account::KeySet;
use serde_json::{Value, json};

use crate::{
    Access, Settings,
    bootstrap::{self, Write},
    state::{SERVICES, SOURCES, tests::put},
};

pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Answers GETs from a map of paths.
#[derive(Default)]
pub(crate) struct Objects(Mutex<BTreeMap<String, Value>>);

impl Transport for Objects {
    fn send(
        &self,
        request: http::Request<bytes::Bytes>,
    ) -> BoxFuture<Result<http::Response<Body>, TransportError>> {
        let path = request.uri().path().to_owned();
        let found = self.0.lock().expect("no panic").get(&path).cloned();
        let (code, body) = match found {
            Some(object) => (200, object),
            None => {
                let mut parts = path.rsplit('/');
                let (name, plural) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
                let gvr = GroupVersionResource::new("", "v1", plural);
                (404, serde_json::to_value(Status::not_found(&gvr, name)).expect("plain data"))
            }
        };
        let response =
            http::Response::builder().status(code).body(Body::Full(body.to_string().into()));
        Box::pin(async move { response.map_err(|error| TransportError(error.to_string())) })
    }
}

/// A cluster in memory.
pub(crate) struct World {
    pub(crate) access: Arc<Access>,
    objects: Arc<Objects>,
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("in range")
}

/// Settings with a fixed clock and key.
pub(crate) fn settings(ranges: &[&str]) -> Settings {
    let key = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgFItBkY5sqirU/UWY
VsZgPaGfomblM/yoX4DC58YWZoGhRANCAARJ0KKpUsJHvAc+l6eKYz8BGUETGL1c
LFZlfW9IlBrbV+wtZ/1qtGZ8AHiMJzKr4Csjsz27Ub2AE59bjQNsovO2
-----END PRIVATE KEY-----
";
    Settings {
        keys: Arc::new(KeySet::from_pem(key).expect("a key")),
        issuer: ISSUER.into(),
        cluster_ca_pem: "CA".into(),
        service_ranges: ranges.iter().map(|range| range.parse().expect("range")).collect(),
        reserved_addresses: vec!["10.43.0.1".parse().expect("address")],
        node_ports: (30_000, 32_767),
        catalogue: Arc::new(api_kinds::catalogue()),
        webhooks: None,
        converter: None,
        clock: Arc::new(now),
        random: crate::system_random(),
    }
}

impl World {
    /// With the bootstrap policy in place, and everything known.
    pub(crate) fn new(ranges: &[&str]) -> Self {
        Self::with(settings(ranges))
    }

    /// The same with settings of one's own.
    pub(crate) fn with(settings: Settings) -> Self {
        let access = Access::new(settings);
        let objects = Arc::new(Objects::default());
        access.api.set(Api::new(objects.clone(), "test")).expect("once");
        let world = Self { access, objects };
        for _ in SOURCES {
            world.access.source_synced();
        }
        world.access.policy_ensured.send_replace(true);
        let writes = bootstrap::plan(bootstrap::policy(), &world.access.state().policy);
        for write in writes {
            let Write::Create { resource, object, .. } = write else { continue };
            world.access.change_state(|state| put(state, resource, &object));
        }
        world
    }

    /// An object that everybody has seen.
    pub(crate) fn add(&self, resource: Resource, object: Value) {
        self.add_unseen(resource, object.clone());
        self.access.change_state(|state| put(state, resource, &object));
        if resource == SERVICES {
            let parsed = api_object::Object::parse(object.to_string().into()).expect("an object");
            self.access.allocators.observed(&parsed.meta, &object);
        }
    }

    /// An object that the watches have not told of yet.
    pub(crate) fn add_unseen(&self, resource: Resource, object: Value) {
        let text =
            |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or("").to_owned();
        let path = resource.path(&text("/metadata/namespace"), &text("/metadata/name"), "");
        self.objects.0.lock().expect("no panic").insert(path, object);
    }

    /// Gone, and the watches have not told of it yet.
    pub(crate) fn delete_unseen(&self, resource: Resource, namespace: &str, name: &str) {
        self.objects.0.lock().expect("no panic").remove(&resource.path(namespace, name, ""));
    }

    /// Mutates and validates as the registry does.
    pub(crate) async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        self.access.mutate(attributes).await?;
        let result = self.access.validate(attributes).await;
        self.access.settled(attributes, result.is_ok());
        result
    }
}

pub(crate) fn user(name: &str, groups: &[&str]) -> Arc<UserInfo> {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    Arc::new(UserInfo { name: name.into(), groups, ..UserInfo::default() })
}

pub(crate) fn admin() -> Arc<UserInfo> {
    user("system:admin", &["system:masters", "system:authenticated"])
}

pub(crate) fn node_user(name: &str) -> Arc<UserInfo> {
    user(&format!("system:node:{name}"), &["system:nodes", "system:authenticated"])
}

/// A write of `resource` (`pods`, `pods/status`, `roles.rbac.authorization.k8s.io`).
pub(crate) fn write(
    user: Arc<UserInfo>,
    operation: Operation,
    resource: &str,
    namespace: &str,
    object: Option<Value>,
    old_object: Option<Value>,
) -> Attributes {
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let named = object.as_ref().or(old_object.as_ref()).cloned().unwrap_or(json!({}));
    Attributes {
        operation,
        resource: GroupVersionResource::new(group, "v1", resource),
        kind: GroupVersionKind::default(),
        subresource: subresource.into(),
        namespace: namespace.into(),
        name: named.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("").into(),
        object,
        old_object,
        dry_run: false,
        user,
        warnings: Vec::new(),
        beside: Vec::new(),
        options: Value::Null,
        reinvocation: Default::default(),
        reserved: Vec::new(),
    }
}

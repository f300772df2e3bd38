//! An API server in memory, as a transport.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use api_object::{FieldSelector, GroupVersionResource, LabelSelector, Reason, Status};
use bytes::Bytes;
use client::{Ambient, Api, Body, BoxFuture, Resource, Transport, TransportError};
use futures_util::stream;
use http::{Method, Request, Response};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    Build, discovery,
    store::{Filter, Store, merge},
};

/// A cluster's API in memory: every kind, no admission, no validation. Made
/// for tests on tokio's paused clock: there, any sleep of the test ends when
/// everybody else is idle. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FakeCluster(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Mutex<Store>,
    /// The revision; watchers wait for it to rise.
    revision: watch::Sender<u64>,
    /// Rises when all watches are cut.
    cuts: watch::Sender<u64>,
    /// Watches from before this get 410.
    oldest: AtomicU64,
    requests: Mutex<BTreeMap<String, u64>>,
    clock_sets: watch::Sender<()>,
}

impl Default for FakeCluster {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeCluster {
    /// An empty cluster.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            store: Mutex::default(),
            revision: watch::Sender::default(),
            cuts: watch::Sender::default(),
            oldest: AtomicU64::new(0),
            requests: Mutex::default(),
            clock_sets: watch::Sender::default(),
        }))
    }

    /// From now on, bound pods run and get ready at once, and deleted ones go.
    pub fn with_kubelet(self) -> Self {
        self.store().kubelet = true;
        self
    }

    /// A client.
    pub fn api(&self) -> Api {
        Api::new(Arc::new(self.clone()), "test")
    }

    /// The fake's clock, and counted randomness.
    pub fn ambient(&self) -> Ambient {
        let counter = AtomicU64::new(1);
        let cluster = self.clone();
        Ambient::new(
            move || cluster.store().now(),
            move || {
                counter.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11
            },
        )
        .with_clock_sets(self.0.clock_sets.subscribe())
    }

    /// Creates what was built; returns it as it was stored.
    pub fn create(&self, resource: Resource, object: &Build) -> Value {
        let json = object.json();
        let namespace = json["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let created = self.store().create(&resource.gvr(), &namespace, json);
        self.changed();
        created.expect("it was not there")
    }

    /// Changes an object, status and all.
    pub fn edit(&self, resource: Resource, key: &str, change: impl FnOnce(&mut Value)) {
        let (namespace, name) = split(key);
        let gvr = resource.gvr();
        {
            let mut store = self.store();
            let mut next = store.get(&gvr, namespace, name).expect("it is there");
            change(&mut next);
            let status = next["status"].clone();
            let edited = store.change(&gvr, namespace, name, "", |object| *object = next);
            edited.expect("nobody else writes");
            if store.get(&gvr, namespace, name).is_ok() {
                let edited =
                    store.change(&gvr, namespace, name, "status", |o| o["status"] = status);
                edited.expect("nobody else writes");
            }
        }
        self.changed();
    }

    /// Deletes an object, as a client would.
    pub fn delete(&self, resource: Resource, key: &str) {
        self.delete_with(resource, key, json!({}));
    }

    /// Deletes an object with options: `{"propagationPolicy": "Foreground"}`.
    pub fn delete_with(&self, resource: Resource, key: &str, options: Value) {
        let (namespace, name) = split(key);
        let deleted = self.store().delete(&resource.gvr(), namespace, name, &options);
        deleted.expect("it is there");
        self.changed();
    }

    /// An object, if it is there.
    pub fn get(&self, resource: Resource, key: &str) -> Option<Value> {
        let (namespace, name) = split(key);
        self.store().get(&resource.gvr(), namespace, name).ok()
    }

    /// Every object of a resource, by namespace and name.
    pub fn list(&self, resource: Resource) -> Vec<Value> {
        let gvr = resource.gvr();
        let store = self.store();
        let objects = store.objects.iter().filter(|((of, _, _), _)| *of == gvr);
        objects.map(|(_, object)| object.clone()).collect()
    }

    /// `reason: message` of every event, in the order of first being told.
    pub fn events(&self) -> Vec<String> {
        self.told(|_| true)
    }

    /// Those of them about the object of that name.
    pub fn events_about(&self, name: &str) -> Vec<String> {
        self.told(|event| event["involvedObject"]["name"] == name)
    }

    fn told(&self, wanted: impl Fn(&Value) -> bool) -> Vec<String> {
        let mut events = self.list(Resource::namespaced("", "v1", "events"));
        events.retain(wanted);
        events.sort_by_key(|event| {
            event["metadata"]["uid"].as_str().and_then(|uid| uid[4..].parse::<u64>().ok())
        });
        let line = |event: &Value| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            format!("{}: {}", text(&event["reason"]), text(&event["message"]))
        };
        events.iter().map(line).collect()
    }

    /// The revision of the last write: unchanged while everybody is content.
    pub fn revision(&self) -> u64 {
        self.store().revision
    }

    /// How many requests of a method there were: `requests("GET")`.
    pub fn requests(&self, method: &str) -> u64 {
        let requests = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.get(method).copied().unwrap_or(0)
    }

    /// Ends all watches, as a server that restarts.
    pub fn cut_watches(&self) {
        self.0.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// From now on watches from before the present revision get 410.
    pub fn forget_history(&self) {
        self.0.oldest.store(self.revision(), Ordering::Relaxed);
    }

    /// From now on, the cluster's clock goes with tokio's, where it stood
    /// still before.
    pub fn with_running_clock(self) -> Self {
        self.store().clock = Some(tokio::time::Instant::now());
        self
    }

    /// Removes an object at once, whatever holds it: a kubelet whose pod has
    /// ended.
    pub fn remove(&self, resource: Resource, key: &str) {
        let (namespace, name) = split(key);
        self.store().remove(&resource.gvr(), namespace, name);
        self.changed();
    }

    /// Sets the clock by so many seconds, forward or back.
    pub fn set_clock(&self, seconds: i64) {
        self.store().clock_set_s += seconds;
        self.0.clock_sets.send_replace(());
    }

    /// From now on, every new pod is bound to this node at once, or to the one that
    /// its node affinity names.
    pub fn with_node(self, node: &str) -> Self {
        self.store().node = Some(node.into());
        self
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        let revision = self.revision();
        self.0.revision.send_if_modified(|known| std::mem::replace(known, revision) != revision);
    }

    fn answer(&self, request: &Request<Bytes>) -> Result<Body, Status> {
        let method = request.method().clone();
        {
            let mut requests = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner);
            *requests.entry(method.to_string()).or_default() += 1;
        }
        if let Some(answer) = discovery::answer(request.uri().path()) {
            return Ok(Body::Full(answer.to_string().into()));
        }
        let query = query(request.uri().query().unwrap_or_default());
        let target = Target::parse(request.uri().path())?;
        let Target { gvr, namespace, name, subresource } = &target;
        let body = match request.body() {
            bytes if bytes.is_empty() => Value::Null,
            bytes => {
                serde_json::from_slice(bytes).map_err(|e| Status::bad_request(e.to_string()))?
            }
        };
        let select = |text: &str| query.get(text).map_or("", String::as_str).to_owned();
        let filter = Filter {
            gvr: gvr.clone(),
            namespace: namespace.clone(),
            labels: LabelSelector::parse(&select("labelSelector"))
                .map_err(|e| Status::bad_request(e.to_string()))?,
            fields: FieldSelector::parse(&select("fieldSelector"))
                .map_err(|e| Status::bad_request(e.to_string()))?,
        };
        let object = match (method, name.as_str(), subresource.as_str()) {
            (Method::GET, "", _) if query.get("watch").is_some_and(|watch| watch == "true") => {
                return self.watch(filter, &select("resourceVersion"));
            }
            (Method::GET, "", _) => {
                let store = self.store();
                let items: Vec<&Value> = store
                    .objects
                    .iter()
                    .filter(|((of, _, _), object)| filter.matches(of, object))
                    .map(|(_, object)| object)
                    .collect();
                let revision = store.revision.to_string();
                json!({"kind": "List", "metadata": {"resourceVersion": revision}, "items": items})
            }
            (Method::GET, name, "scale") => scale(&self.store().get(gvr, namespace, name)?),
            (Method::PATCH, name, "scale") => {
                let replicas = &body["spec"]["replicas"];
                let resize = |object: &mut Value| object["spec"]["replicas"] = replicas.clone();
                scale(&self.store().change(gvr, namespace, name, "", resize)?)
            }
            (Method::DELETE, "", _) => {
                let mut store = self.store();
                let keys: Vec<(String, String)> = store
                    .objects
                    .iter()
                    .filter(|((of, _, _), object)| filter.matches(of, object))
                    .map(|((_, namespace, name), _)| (namespace.clone(), name.clone()))
                    .collect();
                for (namespace, name) in keys {
                    store.delete(gvr, &namespace, &name, &body)?;
                }
                json!({"kind": "Status", "status": "Success"})
            }
            (Method::GET, name, _) => self.store().get(gvr, namespace, name)?,
            (Method::POST, "", _) => self.store().create(gvr, namespace, body)?,
            (Method::POST, name, "binding") => {
                let node = body["target"]["name"].clone();
                let mut store = self.store();
                if !store.get(gvr, namespace, name)?["spec"]["nodeName"].is_null() {
                    return Err(Status::conflict(gvr, name, "pod is already assigned to a node"));
                }
                store.change(gvr, namespace, name, "", |pod| pod["spec"]["nodeName"] = node)?;
                json!({"kind": "Status", "status": "Success"})
            }
            (Method::PUT, name, sub) => {
                self.store().change(gvr, namespace, name, sub, |object| {
                    let known = object["metadata"].clone();
                    *object = body;
                    for field in ["uid", "resourceVersion"] {
                        if object["metadata"][field].is_null() {
                            object["metadata"][field] = known[field].clone();
                        }
                    }
                })?
            }
            (Method::PATCH, name, sub) => {
                let kind = request.headers().get("content-type").and_then(|v| v.to_str().ok());
                let strategic = kind.is_some_and(|kind| kind.contains("strategic"));
                self.store().change(gvr, namespace, name, sub, |o| merge(o, &body, strategic))?
            }
            (Method::DELETE, name, _) => self.store().delete(gvr, namespace, name, &body)?,
            (method, ..) => {
                return Err(Status::bad_request(format!("the fake does not know {method} here")));
            }
        };
        self.changed();
        Ok(Body::Full(object.to_string().into()))
    }

    fn watch(&self, filter: Filter, from: &str) -> Result<Body, Status> {
        let mut first = Vec::new();
        let store = self.store();
        let mut seen = store.history.len();
        if from.is_empty() {
            let present = store.objects.iter().filter(|((of, _, _), o)| filter.matches(of, o));
            first.extend(present.map(|(_, o)| json!({"type": "ADDED", "object": o})));
            first.push(json!({"type": "BOOKMARK", "object": {"metadata": {
                "resourceVersion": store.revision.to_string(),
                "annotations": {"k8s.io/initial-events-end": "true"},
            }}}));
        } else {
            let from: u64 = from.parse().map_err(|_| Status::bad_request("resourceVersion"))?;
            if from < self.0.oldest.load(Ordering::Relaxed) {
                return Err(Status::expired("too old resource version"));
            }
            seen = store.history.partition_point(|entry| entry.revision <= from);
        }
        drop(store);
        let lines = |events: &[Value]| {
            let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
            Bytes::from(lines)
        };
        let (inner, first) = (self.0.clone(), lines(&first));
        let (revision, cuts) = (inner.revision.subscribe(), inner.cuts.subscribe());
        let state = (inner, filter, seen, Some(first), revision, cuts);
        let stream = stream::unfold(state, move |state| async move {
            let (inner, filter, mut seen, first, mut revision, mut cuts) = state;
            if let Some(first) = first {
                return Some((Ok(first), (inner, filter, seen, None, revision, cuts)));
            }
            loop {
                revision.borrow_and_update();
                let events: Vec<Value> = {
                    let store = inner.store.lock().unwrap_or_else(PoisonError::into_inner);
                    let new = &store.history[seen..];
                    seen = store.history.len();
                    new.iter().filter_map(|entry| entry.event(&filter)).collect()
                };
                if !events.is_empty() {
                    let chunk = lines(&events);
                    return Some((Ok(chunk), (inner, filter, seen, None, revision, cuts)));
                }
                tokio::select! {
                    biased;
                    _ = cuts.changed() => return None,
                    _ = revision.changed() => {}
                }
            }
        });
        Ok(Body::Stream(Box::pin(stream)))
    }
}

impl Transport for FakeCluster {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<Result<Response<Body>, TransportError>> {
        let (code, body) = match self.answer(&request) {
            Ok(body) => (200, body),
            Err(status) => {
                let text = serde_json::to_vec(&status).expect("plain data");
                (status.code, Body::Full(text.into()))
            }
        };
        Box::pin(async move {
            // Everybody else gets a turn, as they would with a real server.
            tokio::task::yield_now().await;
            let response = Response::builder().status(code).body(body);
            Ok(response.expect("a status and a body are a response"))
        })
    }
}

/// The size of a workload whose selector is labels.
fn scale(object: &Value) -> Value {
    let labels = object["spec"]["selector"]["matchLabels"].as_object();
    let labels = labels.into_iter().flatten();
    let labels = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": object["metadata"],
        "spec": {"replicas": object["spec"]["replicas"]},
        "status": {
            "replicas": object["status"]["replicas"].as_i64().unwrap_or(0),
            "selector": labels.collect::<Vec<_>>().join(","),
        },
    })
}

struct Target {
    gvr: GroupVersionResource,
    namespace: String,
    name: String,
    subresource: String,
}

impl Target {
    fn parse(path: &str) -> Result<Self, Status> {
        let mut parts = path.split('/').skip(1);
        let mut next = || parts.next().unwrap_or_default();
        let (group, version) = match next() {
            "api" => ("", next()),
            "apis" => (next(), next()),
            _ => return Err(Status::bad_request(format!("the fake does not know {path}"))),
        };
        if version.is_empty() {
            // A group by itself, which nobody serves: versions are answered for.
            let text = "the server could not find the requested resource";
            return Err(Status::failure(Reason::NotFound, text));
        }
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", _, "status" | "finalize"] => ("", rest.as_slice()),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let at = |i: usize| rest.get(i).copied().unwrap_or_default().to_owned();
        Ok(Self {
            gvr: GroupVersionResource::new(group, version, &at(0)),
            namespace: namespace.to_owned(),
            name: at(1),
            subresource: at(2),
        })
    }
}

fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), decode(value))).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits: Vec<u8> = rest.by_ref().take(2).collect();
            let digits = String::from_utf8_lossy(&digits).into_owned();
            bytes.push(u8::from_str_radix(&digits, 16).unwrap_or(b'?'));
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn split(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}

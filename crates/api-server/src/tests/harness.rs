//! A server in this process, and requests to it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use api_registry::{
    AdmitAll, Authenticator, Authorizer, BoxFuture, Credentials, Decision, Evict, Forward,
    NoExtensions, Registry, RequestAttributes, Sources, UserInfo,
};
use bytes::Bytes;
use client::Transport;
use futures_util::StreamExt;
use http::{HeaderMap, Request};
use serde_json::{Value, json};
use store::MemoryStore;
use tokio::sync::mpsc;

use crate::{ApiServer, InProcess, Parts, Published, Version};

/// Everybody is who the token says; `admin` may do everything, `carol` delete,
/// others nothing but read `/version`.
pub(super) struct Names;

impl Authenticator for Names {
    fn authenticate<'a>(
        &'a self,
        credentials: Credentials<'a>,
    ) -> BoxFuture<'a, Result<Option<Arc<UserInfo>>, api_object::Status>> {
        let user = credentials.bearer.map(|name| Arc::new(named(name)));
        Box::pin(async move { Ok(user) })
    }
}

impl Authorizer for Names {
    fn authorize<'a>(&'a self, asked: &'a RequestAttributes) -> BoxFuture<'a, Decision> {
        let public = asked.path == "/version" && !asked.resource_request;
        let deletes = asked.user.name == "carol" && asked.verb == "delete";
        let allowed = asked.user.name == "admin" || public || deletes;
        let decision = match allowed {
            true => Decision::Allow,
            false => Decision::NoOpinion { reason: String::new() },
        };
        Box::pin(async move { decision })
    }
}

pub(super) fn named(name: &str) -> UserInfo {
    UserInfo { name: name.into(), ..UserInfo::default() }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Answer {
    /// The texts of its `Warning` headers.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.headers
            .get_all("warning")
            .iter()
            .map(|value| value.to_str().expect("text").to_owned())
            .collect()
    }

    pub(super) fn at(&self, pointer: &str) -> &Value {
        self.body.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// The names of a list's items.
    pub(super) fn names(&self) -> Vec<&str> {
        let items = self.at("/items").as_array().expect("items");
        items.iter().map(|item| item["metadata"]["name"].as_str().expect("a name")).collect()
    }

    pub(super) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

/// A server and who asks it.
pub(super) struct Cluster {
    pub(super) server: Arc<ApiServer>,
    pub(super) transport: Arc<InProcess>,
}

pub(super) fn cluster() -> Cluster {
    cluster_over(MemoryStore::default())
}

pub(super) fn cluster_over(store: MemoryStore) -> Cluster {
    let server = ApiServer::new(parts(store));
    let transport = server.transport(named("admin"));
    Cluster { server, transport }
}

/// What a server for tests is made of.
pub(super) fn parts(store: MemoryStore) -> Parts {
    let now: Arc<dyn Fn() -> jiff::Timestamp + Send + Sync> =
        Arc::new(|| "2026-01-01T00:00:00Z".parse().expect("a time"));
    let count = AtomicU64::new(1);
    let sources = Sources {
        now: now.clone(),
        random: Arc::new(move || u128::from(count.fetch_add(1, Ordering::Relaxed)) << 8),
    };
    let catalogue = Arc::new(api_kinds::catalogue());
    let mut registry =
        Registry::new(Arc::new(store), Arc::new(AdmitAll), catalogue.clone(), sources, 1);
    registry.handle("", "pods", "eviction", Arc::new(Evict));
    let binding = Forward { group: "", version: "v1", plural: "pods", subresource: "binding" };
    registry.handle("", "bindings", "", Arc::new(binding));
    let component =
        |name| json!({"kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name}});
    let components = move |_| -> api_registry::Computing {
        Box::pin(async move { Ok(["scheduler", "store"].map(component).to_vec()) })
    };
    registry.compute("", "componentstatuses", Arc::new(components));
    Parts {
        catalogue,
        registry: Arc::new(registry),
        authenticator: Arc::new(Names),
        authorizer: Arc::new(Names),
        nodes: Arc::default(),
        extensions: Arc::new(NoExtensions),
        metrics: metrics::Table::new(),
        version: Version::default(),
        now,
        descriptions: api_kinds::descriptions,
        published: vec![Published {
            path: "/openid/v1/jwks",
            media_type: "application/jwk-set+json",
            cache_control: "public, max-age=3600",
            text: r#"{"keys":[]}"#.into(),
        }],
        address: "127.0.0.1:6443".into(),
    }
}

pub(super) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(super) const PODS: &str = "/api/v1/namespaces/default/pods";

pub(super) fn config_map(name: &str, data: Value) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": data})
}

pub(super) fn pod(name: &str, node: &str) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": name},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
    })
}

impl Cluster {
    pub(super) async fn send(&self, method: &str, path: &str, body: Value) -> Answer {
        let media_type = match (method, &body) {
            ("PATCH", Value::Array(_)) => "application/json-patch+json",
            ("PATCH", _) => "application/merge-patch+json",
            _ => "application/json",
        };
        self.send_as(method, path, &[("content-type", media_type)], body).await
    }

    pub(super) async fn send_as(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Answer {
        let bytes = match body {
            Value::Null => Bytes::new(),
            body => Bytes::from(body.to_string()),
        };
        let (code, headers, bytes) = self.send_bytes(method, path, headers, bytes).await;
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into());
        Answer { code, headers, body }
    }

    /// The answer as it is.
    pub(super) async fn send_bytes(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> (u16, HeaderMap, Bytes) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).expect("a request");
        let (head, body) = self.transport.send(request).await.expect("in process").into_parts();
        let client::Body::Full(bytes) = body else { panic!("{path} is a stream") };
        (head.status.as_u16(), head.headers, bytes)
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, Value::Null).await
    }

    /// Creates, and expects that to work.
    pub(super) async fn create(&self, path: &str, body: Value) -> Value {
        let answer = self.send("POST", path, body).await;
        assert_eq!(answer.code, 201, "{}", answer.body);
        answer.body
    }

    /// Creates empty ConfigMaps; their versions.
    pub(super) async fn config_maps(&self, names: &[&str]) -> Vec<String> {
        let mut versions = Vec::new();
        for name in names {
            let made = self.create(CONFIG_MAPS, config_map(name, json!({}))).await;
            versions.push(made["metadata"]["resourceVersion"].as_str().expect("one").to_owned());
        }
        versions
    }

    /// The events of a watch as they come.
    pub(super) async fn watch(&self, path: &str) -> mpsc::UnboundedReceiver<Value> {
        self.watch_as(path, &[]).await
    }

    pub(super) async fn watch_as(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> mpsc::UnboundedReceiver<Value> {
        let (_, mut chunks) = self.stream(path, headers).await;
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(chunk) = chunks.recv().await {
                for line in chunk.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    let event = serde_json::from_slice(line).expect("whole lines");
                    if sender.send(event).is_err() {
                        return;
                    }
                }
            }
        });
        receiver
    }

    /// The chunks of a watch as they come.
    pub(super) async fn stream(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (HeaderMap, mpsc::UnboundedReceiver<Bytes>) {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Bytes::new()).expect("a request");
        let (head, body) = self.transport.send(request).await.expect("in process").into_parts();
        let client::Body::Stream(mut chunks) = body else {
            panic!("{path} is no stream: {}", head.status)
        };
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(chunk) = chunks.next().await {
                if sender.send(chunk.expect("in process")).is_err() {
                    return;
                }
            }
        });
        (head.headers, receiver)
    }
}

/// `ADDED a`, `BOOKMARK `, …
pub(super) async fn told(events: &mut mpsc::UnboundedReceiver<Value>) -> String {
    let event = events.recv().await.expect("an event");
    let name = event.pointer("/object/metadata/name").and_then(Value::as_str).unwrap_or_default();
    format!("{} {name}", event["type"].as_str().expect("a type"))
}

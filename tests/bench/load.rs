//! The load: `load KUBECONFIG VERB CONNECTIONS COUNT [SUBJECT [ENCODING]]`.
//! Says when it is ready to begin, then prints one line of JSON.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use client::{Api, DeleteOptions, Https, HttpsConfig, ListOptions, Resource, WatchEvent};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    bare,
    child::ready,
    connection::{Asked, Connection, USER_AGENT, https_config},
    objects::{CONFIG_MAPS, Encoding, NAMESPACE, SUBJECTS, Subject},
};

const PODS: Resource = Resource::namespaced("", "v1", "pods");
const NAMESPACES: Resource = Resource::cluster("", "v1", "namespaces");

/// The load itself, with what follows `load` on the command line.
pub(crate) fn run(args: &[String]) {
    let [kubeconfig, verb, connections, count, rest @ ..] = args else {
        panic!("load KUBECONFIG VERB CONNECTIONS COUNT [SUBJECT [ENCODING]]")
    };
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let (subject, encoding) = match rest[..] {
        [] => ("configmaps", "json"),
        [subject] => (subject, "json"),
        [subject, encoding, ..] => (subject, encoding),
    };
    let subject = SUBJECTS.iter().find(|row| row.name == subject).expect("a row of SUBJECTS");
    let load = Load {
        https: https_config(kubeconfig),
        verb: verb.clone(),
        connections: connections.parse().expect("a number"),
        count: count.parse().expect("a number"),
        subject,
        encoding: Encoding::named(encoding, subject),
    };
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    println!("{}", runtime.block_on(load.run()));
    // Connections that are still open need no farewell.
    runtime.shutdown_background();
}

struct Load {
    https: HttpsConfig,
    verb: String,
    connections: usize,
    count: usize,
    subject: &'static Subject,
    encoding: Encoding,
}

impl Load {
    fn connect(&self, accept: &'static str) -> Connection {
        let https = Https::new(self.https.clone()).expect("our own kubeconfig");
        Connection { https: Arc::new(https), accept }
    }

    /// One that is made already, so that nobody counts its handshake.
    async fn warm(&self) -> Connection {
        let connection = self.connect(self.encoding.media_type());
        Connection { accept: "application/json", ..connection.clone() }.get("/version").await;
        connection
    }

    fn api(&self) -> Api {
        Api::new(self.connect("application/json").https, USER_AGENT)
    }

    async fn run(self) -> Value {
        let first = self.api();
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        match first.create(NAMESPACES, "", &namespace).await {
            Ok(_) => {}
            Err(error) if error.is_conflict() => {}
            Err(error) => panic!("{error}"),
        }
        match self.verb.as_str() {
            "list" => self.list("").await,
            "pages" => self.list("?limit=500").await,
            "openapi-v2" => self.openapi("/openapi/v2").await,
            "openapi-v3" => self.openapi("/openapi/v3").await,
            "pods" => pods(&first, self.count).await,
            verb if bare::VERBS.contains(&verb) => {
                let makers = (0..bare::MAKERS).map(|_| self.api()).collect();
                bare::Load { verb, nodes: self.connections, count: self.count, makers }.run().await
            }
            "watch" => self.watch(&first).await,
            _ => self.each().await,
        }
    }

    /// The request that this verb means: for a new object of that name where it
    /// creates, else for the one that is there.
    fn asked(&self, verb: &str, name: &str, text: &str) -> Asked {
        let path = |name| self.subject.resource.path(NAMESPACE, name, "");
        let object = || (self.subject.object)(name, text);
        let media_type = self.encoding.media_type();
        let patch = |content_type| {
            let patch = json!({"metadata": {"annotations": {"n": text}}}).to_string();
            Asked::new(Method::PATCH, path(name), content_type, patch.into())
        };
        match verb {
            "get" => Asked::new(Method::GET, path(name), media_type, Bytes::new()),
            "create" => {
                Asked::new(Method::POST, path(""), media_type, self.encoding.body(&object()))
            }
            "update" => {
                Asked::new(Method::PUT, path(name), media_type, self.encoding.body(&object()))
            }
            "merge-patch" => patch("application/merge-patch+json"),
            "strategic-patch" => patch("application/strategic-merge-patch+json"),
            "apply" => Asked::new(
                Method::PATCH,
                format!("{}?fieldManager={USER_AGENT}", path(name)),
                "application/apply-patch+yaml",
                object().to_string().into(),
            ),
            _ => panic!("no verb is called {verb:?}"),
        }
    }

    async fn each(self) -> Value {
        let run = std::process::id();
        // Each connection has an object of its own, since writers of one conflict.
        let target = |connection: usize| format!("{}-{connection}", self.verb);
        if self.verb != "create" {
            let connection = self.connect(self.encoding.media_type());
            let make = if self.verb == "apply" { "apply" } else { "create" };
            for n in 0..self.connections {
                let (status, bytes) = connection.send(self.asked(make, &target(n), "made")).await;
                // May be there from a run before.
                assert!(
                    status.is_success() || status == StatusCode::CONFLICT,
                    "{status}: {}",
                    String::from_utf8_lossy(&bytes)
                );
            }
        }
        let body = self.asked(&self.verb, "name", "text").body.len();
        let (connections, count) = (self.connections, self.count);
        let mut ours = Vec::new();
        for target in (0..connections).map(target) {
            ours.push((self.warm().await, target));
        }
        let load = Arc::new(self);
        ready();
        let began = Instant::now();
        let tasks: Vec<_> = ours
            .into_iter()
            .enumerate()
            .map(|(at, (connection, target))| {
                let load = load.clone();
                tokio::spawn(async move {
                    for n in (at..count).step_by(connections) {
                        let text = format!("{run}-{n}");
                        let name = match load.verb.as_str() {
                            "create" => format!("made-{text}"),
                            _ => target.clone(),
                        };
                        connection.ask(load.asked(&load.verb, &name, &text)).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("every request succeeds");
        }
        let seconds = began.elapsed().as_secs_f64();
        json!({"rate": count as f64 / seconds, "seconds": seconds, "bytes": body * count})
    }

    /// Lists everything `count` times; `query` may ask for pages.
    async fn list(&self, query: &str) -> Value {
        let collection = self.subject.resource.path(NAMESPACE, "", "");
        let mut paths = vec![format!("{collection}{query}")];
        // Tokens are the same in either encoding, and can be used again.
        let json = self.connect("application/json");
        if !query.is_empty() {
            while let Some(token) = continues(&json.get(&paths[paths.len() - 1]).await) {
                paths.push(format!("{collection}{query}&continue={token}"));
            }
        }
        let connection = self.warm().await;
        ready();
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..self.count {
            let began = Instant::now();
            bytes = 0;
            for path in &paths {
                bytes += connection.get(path).await.len();
            }
            times.push(began.elapsed());
        }
        json!({"p50_ms": p50(times), "bytes": bytes})
    }

    /// A version's documents, asked twice: the one there is, or the index and
    /// each that it names.
    async fn openapi(&self, path: &str) -> Value {
        let connection = self.warm().await;
        ready();
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..2 {
            let began = Instant::now();
            let first = connection.get(path).await;
            bytes = first.len();
            for url in documents(&first) {
                bytes += connection.get(&url).await.len();
            }
            times.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        json!({"first_ms": times[0], "again_ms": times[1], "bytes": bytes})
    }

    /// Creates an object each time it is told to, and tells when the request was
    /// sent and when it was answered. It is a thread with a connection of its own, so that the answer does not wait for
    /// the watchers' events to be read.
    fn writer(&self) -> (UnboundedReceiver<(Instant, Instant)>, std::sync::mpsc::Sender<()>) {
        let (told, written) = tokio::sync::mpsc::unbounded_channel();
        let (go, wanted) = std::sync::mpsc::channel();
        let (api, object) = (self.api(), self.subject.object);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            for (n, ()) in wanted.into_iter().enumerate() {
                let name = format!("watched-{}-{n}", std::process::id());
                let object = object(&name, "watched");
                runtime.block_on(async {
                    let sent = Instant::now();
                    api.create(CONFIG_MAPS, NAMESPACE, &object).await.expect("created");
                    let _ = told.send((sent, Instant::now()));
                });
            }
        });
        (written, go)
    }

    /// Watchers share ten connections; the times are from a write that was sent,
    /// and acknowledged, to the last watcher's event.
    async fn watch(&self, api: &Api) -> Value {
        let watchers = self.connections;
        let list = api
            .list(
                CONFIG_MAPS,
                NAMESPACE,
                &ListOptions { field_selector: "metadata.name=none".into(), ..Default::default() },
            )
            .await
            .expect("a list");
        let (told, mut events) = tokio::sync::mpsc::unbounded_channel();
        let connections: Vec<Api> = (0..10).map(|_| self.api()).collect();
        for n in 0..watchers {
            let options = ListOptions {
                resource_version: list.resource_version.clone(),
                ..Default::default()
            };
            let mut watch =
                connections[n % 10].watch(CONFIG_MAPS, NAMESPACE, &options).await.expect("a watch");
            let told = told.clone();
            tokio::spawn(async move {
                while let Some(event) = watch.next().await {
                    if let WatchEvent::Added(_) = event.expect("an event") {
                        let _ = told.send(Instant::now());
                    }
                }
            });
        }
        let (mut written, go) = self.writer();
        ready();
        let (mut since_sent, mut since_acknowledged) = (Vec::new(), Vec::new());
        for _ in 0..self.count {
            go.send(()).expect("the writer runs");
            let mut last = events.recv().await.expect("watchers run");
            for _ in 1..watchers {
                last = events.recv().await.expect("watchers run").max(last);
            }
            let (sent, acknowledged) = written.recv().await.expect("the writer runs");
            since_sent.push(last.saturating_duration_since(sent));
            // Zero where the last watcher heard of it before the writer did.
            since_acknowledged.push(last.saturating_duration_since(acknowledged));
        }
        json!({"sent_p50_ms": p50(since_sent), "p50_ms": p50(since_acknowledged)})
    }
}

/// From the request that creates a pod to the event that says it is Running.
async fn pods(api: &Api, count: usize) -> Value {
    let list = api.list(PODS, "default", &ListOptions::default()).await.expect("a list");
    let options = ListOptions { resource_version: list.resource_version, ..Default::default() };
    let mut watch = api.watch(PODS, "default", &options).await.expect("a watch");
    ready();
    let mut times = Vec::new();
    for n in 0..count {
        let name = format!("bench-{}-{n}", std::process::id());
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "skiff.local/toolbox", "args": ["sleep", "infinity"]}],
        }});
        let began = Instant::now();
        api.create(PODS, "default", &pod).await.expect("created");
        loop {
            let event = watch.next().await.expect("the watch goes on").expect("an event");
            let WatchEvent::Modified(object) = event else { continue };
            let status: Value = serde_json::from_slice(&object.bytes).expect("JSON");
            if object.meta.name == name && status["status"]["phase"] == "Running" {
                break;
            }
        }
        times.push(began.elapsed());
        api.delete(PODS, "default", &name, &DeleteOptions::default()).await.expect("deleted");
        loop {
            let event = watch.next().await.expect("the watch goes on").expect("an event");
            if matches!(&event, WatchEvent::Deleted(object) if object.meta.name == name) {
                break;
            }
        }
    }
    json!({"p50_ms": share(&mut times, 0.5), "p99_ms": share(&mut times, 0.99)})
}

/// Where the next page begins.
fn continues(list: &[u8]) -> Option<String> {
    let list: Value = serde_json::from_slice(list).expect("JSON");
    let token = list["metadata"]["continue"].as_str().unwrap_or("");
    (!token.is_empty()).then(|| token.to_owned())
}

/// The documents that an index names; what is no index names none.
fn documents(index: &[u8]) -> Vec<String> {
    let index: Value = serde_json::from_slice(index).expect("JSON");
    let urls = index["paths"].as_object().into_iter().flatten();
    urls.filter_map(|(_, path)| Some(path["serverRelativeURL"].as_str()?.to_owned())).collect()
}

fn p50(mut times: Vec<Duration>) -> f64 {
    share(&mut times, 0.5)
}

/// The time that this share of all took at most, milliseconds.
pub(crate) fn share(times: &mut [Duration], share: f64) -> f64 {
    times.sort();
    times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1000.0
}

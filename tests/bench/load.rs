//! The load: `load KUBECONFIG VERB CONNECTIONS COUNT`. Prints one line of JSON.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use client::{
    Api, Credentials, DeleteOptions, Https, HttpsConfig, ListOptions, PatchKind, Resource,
    WatchEvent,
};
use serde_json::{Value, json};

const CONFIG_MAPS: Resource = Resource::namespaced("", "v1", "configmaps");
const PODS: Resource = Resource::namespaced("", "v1", "pods");
const NAMESPACES: Resource = Resource::cluster("", "v1", "namespaces");
const NAMESPACE: &str = "bench";

pub(crate) fn run(args: &[String]) {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let [kubeconfig, verb, connections, count, ..] = args else {
        panic!("load KUBECONFIG VERB CONNECTIONS COUNT")
    };
    let (connections, count): (usize, usize) =
        (connections.parse().expect("a number"), count.parse().expect("a number"));
    let answer = runtime.block_on(load(kubeconfig, verb, connections, count));
    println!("{answer}");
    // Connections that are still open need no farewell.
    runtime.shutdown_background();
}

fn connect(kubeconfig: &str) -> Api {
    let text = std::fs::read_to_string(kubeconfig).expect("the kubeconfig");
    let config: Value = serde_saphyr::from_str(&text).expect("YAML");
    let pem = |value: &Value| STANDARD.decode(value.as_str().expect("data")).expect("base64");
    let cluster = &config["clusters"][0]["cluster"];
    let user = &config["users"][0]["user"];
    let server = cluster["server"].as_str().expect("a URL").trim_start_matches("https://");
    let https = Https::new(HttpsConfig {
        servers: vec![server.to_owned()],
        ca_pem: pem(&cluster["certificate-authority-data"]),
        credentials: Credentials::Pem {
            cert: pem(&user["client-certificate-data"]),
            key: pem(&user["client-key-data"]),
        },
    });
    Api::new(Arc::new(https.expect("our own kubeconfig")), "skiff-bench")
}

/// About a kilobyte, as ConfigMaps are.
fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": "bench"}}, "data": {"key": "x".repeat(1000)}})
}

async fn load(kubeconfig: &str, verb: &str, connections: usize, count: usize) -> Value {
    let first = connect(kubeconfig);
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    match first.create(NAMESPACES, "", &namespace).await {
        Ok(_) => {}
        Err(error) if error.is_conflict() => {}
        Err(error) => panic!("{error}"),
    }
    match verb {
        "list" => list(&first, count).await,
        "pods" => pods(&first, count).await,
        "watch" => watch(&first, kubeconfig, connections, count).await,
        _ => each(kubeconfig, verb, connections, count).await,
    }
}

async fn each(kubeconfig: &str, verb: &str, connections: usize, count: usize) -> Value {
    let run = std::process::id();
    let prefix = if verb == "fill" { "fill".to_owned() } else { format!("{verb}-{run}") };
    // Each connection has one of its own, since writers of one object conflict.
    let target = |connection: usize| format!("target-{connection}");
    if verb == "get" || verb == "patch" {
        let api = connect(kubeconfig);
        for connection in 0..connections {
            // May be there from a run before.
            let _ = api.create(CONFIG_MAPS, NAMESPACE, &config_map(&target(connection))).await;
        }
    }
    let began = Instant::now();
    let mut tasks = Vec::new();
    for connection in 0..connections {
        let api = connect(kubeconfig);
        let (verb, prefix, target) = (verb.to_owned(), prefix.clone(), target(connection));
        tasks.push(tokio::spawn(async move {
            for n in (connection..count).step_by(connections) {
                let done = match verb.as_str() {
                    "get" => api.get(CONFIG_MAPS, NAMESPACE, &target).await,
                    "patch" => {
                        let patch = json!({"metadata": {"annotations": {"n": n.to_string()}}});
                        api.patch(CONFIG_MAPS, NAMESPACE, &target, "", PatchKind::Merge, &patch)
                            .await
                    }
                    _ => {
                        api.create(CONFIG_MAPS, NAMESPACE, &config_map(&format!("{prefix}-{n}")))
                            .await
                    }
                };
                done.unwrap_or_else(|error| panic!("{verb} {n}: {error}"));
            }
        }));
    }
    for task in tasks {
        task.await.expect("every request succeeds");
    }
    let seconds = began.elapsed().as_secs_f64();
    let bytes = config_map("name").to_string().len() * count;
    json!({"rate": count as f64 / seconds, "seconds": seconds, "bytes": bytes})
}

async fn list(api: &Api, count: usize) -> Value {
    let mut times = Vec::new();
    let mut bytes = 0;
    for _ in 0..count {
        let began = Instant::now();
        let path = CONFIG_MAPS.path(NAMESPACE, "", "");
        bytes = api
            .request(http::Method::GET, &path, None, bytes::Bytes::new())
            .await
            .expect("a list")
            .len();
        times.push(began.elapsed());
    }
    json!({"p50_ms": p50(times), "bytes": bytes})
}

/// Watchers share ten connections; the time is from the acknowledgement of a
/// write to the last watcher's event.
async fn watch(api: &Api, kubeconfig: &str, watchers: usize, count: usize) -> Value {
    let list = api
        .list(
            CONFIG_MAPS,
            NAMESPACE,
            &ListOptions { field_selector: "metadata.name=none".into(), ..Default::default() },
        )
        .await
        .expect("a list");
    let (told, mut events) = tokio::sync::mpsc::unbounded_channel();
    let connections: Vec<Api> = (0..10).map(|_| connect(kubeconfig)).collect();
    for n in 0..watchers {
        let options =
            ListOptions { resource_version: list.resource_version.clone(), ..Default::default() };
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
    let mut times = Vec::new();
    for n in 0..count {
        let name = format!("watched-{}-{n}", std::process::id());
        api.create(CONFIG_MAPS, NAMESPACE, &config_map(&name)).await.expect("created");
        let acknowledged = Instant::now();
        let mut last = acknowledged;
        for _ in 0..watchers {
            last = events.recv().await.expect("watchers run").max(last);
        }
        times.push(last - acknowledged);
        api.delete(CONFIG_MAPS, NAMESPACE, &name, &DeleteOptions::default())
            .await
            .expect("deleted");
    }
    json!({"p50_ms": p50(times)})
}

/// From the request that creates a pod to the event that says it is Running.
async fn pods(api: &Api, count: usize) -> Value {
    let list = api.list(PODS, "default", &ListOptions::default()).await.expect("a list");
    let options = ListOptions { resource_version: list.resource_version, ..Default::default() };
    let mut watch = api.watch(PODS, "default", &options).await.expect("a watch");
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
    json!({"p50_ms": p50(times)})
}

fn p50(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

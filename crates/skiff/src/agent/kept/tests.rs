//! A server that is there, goes, and comes back.

use std::{collections::BTreeSet, sync::Mutex};

use client::{Api, ListOptions, Reflected, Resource, reflect};
use tokio::{sync::mpsc, time::Instant};

use super::{file::Budget, *};

const PODS: Resource = Resource::namespaced("", "v1", "pods");
const SECRETS: Resource = Resource::namespaced("", "v1", "secrets");

/// Answers as told: a watch with these events, anything else with an object.
struct Server {
    up: AtomicBool,
    events: Mutex<Vec<Value>>,
}

impl Server {
    fn new(events: Vec<Value>) -> Arc<Self> {
        Arc::new(Self { up: AtomicBool::new(true), events: Mutex::new(events) })
    }
}

fn pod(name: &str, version: u32) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "d",
        "uid": format!("uid-{name}"), "resourceVersion": version.to_string(),
        "managedFields": [{"manager": "kubectl"}]}, "spec": {"containers": [{"name": "c"}]}})
}

fn event(kind: &str, object: Value) -> Value {
    json!({"type": kind, "object": object})
}

fn initial_end() -> Value {
    event(
        "BOOKMARK",
        json!({"metadata": {"resourceVersion": "9",
        "annotations": {"k8s.io/initial-events-end": "true"}}}),
    )
}

impl Transport for Server {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<Result<Response<Body>, TransportError>> {
        if !self.up.load(Ordering::SeqCst) {
            return Box::pin(std::future::ready(Err(TransportError("refused".into()))));
        }
        let body = match request.uri().query().is_some_and(|query| query.contains("watch=true")) {
            true => {
                let events = self.events.lock().expect("no panic").clone();
                let text: String = events.iter().map(|event| format!("{event}\n")).collect();
                let told = futures_util::stream::iter(
                    text.into_bytes().chunks(7).map(|c| Ok(Bytes::copy_from_slice(c))).collect::<Vec<_>>(),
                );
                Body::Stream(Box::pin(told.chain(futures_util::stream::pending())))
            }
            false if request.method() == http::Method::POST => Body::Full(Bytes::from_static(
                br#"{"kind":"TokenRequest","apiVersion":"v1","metadata":{"name":"d"},"status":{"token":"t","expirationTimestamp":"2020-01-01T00:00:00Z"}}"#,
            )),
            false => Body::Full(pod("secret", 3).to_string().into()),
        };
        Box::pin(std::future::ready(Ok(Response::new(body))))
    }
}

/// What a follower hears until it is in step.
async fn follow(api: &Api) -> Vec<String> {
    let (sender, mut heard) = mpsc::unbounded_channel();
    let (options, ambient) = (ListOptions::default(), Ambient::system());
    let following = reflect(api, PODS, "", &options, &ambient, move |event| {
        let _ = sender.send(event);
    });
    let collect = async {
        let mut names = Vec::new();
        while let Some(event) = heard.recv().await {
            match event {
                Reflected::Upsert(object) => names.push(object.meta.name),
                Reflected::Synced(_) => return names,
                _ => {}
            }
        }
        names
    };
    tokio::select! {
        () = following => Vec::new(),
        names = collect => names,
    }
}

fn node(server: &Arc<Server>, dir: &std::path::Path) -> (Api, Arc<Shared>) {
    let files = Files::open(dir, b"the node's key").expect("a folder");
    let shared = Shared::new(files, server.clone(), Ambient::system());
    (Api::new(Arc::new(shared.before(server.clone())), "kubelet"), shared)
}

#[tokio::test]
async fn a_node_knows_its_pods_without_a_server() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::new(vec![
        event("ADDED", pod("a", 1)),
        event("ADDED", pod("b", 2)),
        event("ADDED", pod("gone", 3)),
        initial_end(),
        event("DELETED", pod("gone", 4)),
        event("MODIFIED", pod("b", 5)),
    ]);
    let (api, shared) = node(&server, dir.path());
    assert_eq!(follow(&api).await, ["a", "b", "gone"]);
    api.get(SECRETS, "d", "secret").await.expect("the server answers");
    let request = json!({"spec": {"boundObjectRef": {"uid": "uid-a"}}});
    let accounts = Resource::namespaced("", "v1", "serviceaccounts");
    let ask = async |api: &Api| api.create_sub(accounts, "d", "default", "token", &request).await;
    ask(&api).await.expect("the server answers");
    let write = |files: &Files| {
        let parts = [true, false].map(|hurried| files.write_part(hurried));
        parts.map(|part| part.expect("a healthy disk")).iter().sum::<u64>()
    };
    assert!(write(&shared.files) > 0);
    // Of the same state nothing is written.
    follow(&api).await;
    ask(&api).await.expect("the server answers");
    assert_eq!(write(&shared.files), 0);
    for entry in std::fs::read_dir(dir.path()).expect("readable") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("readable");
        assert!(!bytes.windows(6).any(|part| part == b"\"name\""), "it is sealed");
    }

    // Another process, and no server.
    server.up.store(false, Ordering::SeqCst);
    let (api, shared) = node(&server, dir.path());
    let mut known = follow(&api).await;
    known.sort();
    assert_eq!(known, ["a", "b"]);
    assert_eq!(api.get(SECRETS, "d", "secret").await.expect("kept").meta.name, "secret");
    let token = ask(&api).await.expect("kept");
    let token: Value = serde_json::from_slice(&token.bytes).expect("JSON");
    assert_eq!(token["status"]["token"], "t");
    assert_ne!(token["status"]["expirationTimestamp"], "2020-01-01T00:00:00Z");
    assert!(api.get(SECRETS, "d", "other").await.is_err(), "never told");
    assert!(!shared.is_online());

    // It comes back with less.
    *server.events.lock().expect("no panic") = vec![event("ADDED", pod("b", 7)), initial_end()];
    server.up.store(true, Ordering::SeqCst);
    let mut online = shared.online.subscribe();
    online.wait_for(|online| *online).await.expect("it is looked for");
    assert_eq!(follow(&api).await, ["b"]);
    shared.files.write_pending().expect("a healthy disk");
    server.up.store(false, Ordering::SeqCst);
    let (api, _) = node(&server, dir.path());
    assert_eq!(follow(&api).await, ["b"]);
    // With another key nothing opens, and nothing is believed.
    let files = Files::open(dir.path(), b"another key").expect("a folder");
    assert!(files.selection("/api/v1/pods?").is_empty());
}

#[tokio::test]
async fn a_kept_watch_ends_when_there_is_a_server() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::new(vec![event("ADDED", pod("a", 1)), initial_end()]);
    let (api, shared) = node(&server, dir.path());
    follow(&api).await;
    shared.files.write_pending().expect("a healthy disk");
    server.up.store(false, Ordering::SeqCst);
    let mut watch = api.watch(PODS, "", &ListOptions::default()).await.expect("kept");
    assert!(matches!(watch.next().await, Some(Ok(client::WatchEvent::Added(_)))));
    // Who is missing may have come since.
    assert!(matches!(
        watch.next().await,
        Some(Ok(client::WatchEvent::Bookmark { resource_version, initial_end: true }))
            if resource_version == node::TOLD_BEFORE
    ));
    server.up.store(true, Ordering::SeqCst);
    let end = watch.next().await.expect("an event").expect_err("the end");
    assert_eq!(end.code(), Some(410));
}

#[test]
fn writing_is_held_to_a_budget() {
    let start = Instant::now();
    let (second, milli) = (Duration::from_secs(1), Duration::from_millis(1));
    let mut budget = Budget::new(start);
    assert_eq!(budget.take(8 << 20, start), start, "a burst");
    let mut free = budget.take(10 << 10, start);
    assert_eq!(free, start + 10 * second);
    // What was waited for is spent.
    free = budget.take(1 << 10, free);
    assert_eq!(free, start + 11 * second);
    assert_eq!(budget.take(1 << 10, free + second), start + 12 * second, "it came by then");
    // A second in two parts is a second.
    free = start + 12 * second;
    assert_eq!(budget.take(0, free + 500 * milli), free + 500 * milli);
    assert_eq!(budget.take(1 << 10, free + second), free + second);
    let later = free + Duration::from_secs(3600);
    assert_eq!(budget.take(3 << 20, later), later, "an hour without changes");
}

/// The names of the pods that another process would know.
fn pods_on_disk(dir: &std::path::Path) -> Vec<String> {
    let files = Files::open(dir, b"the node's key").expect("a folder");
    let pods = files.selection("/api/v1/pods?");
    let name = |pod: Value| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    pods.into_iter().map(name).collect()
}

#[tokio::test(start_paused = true)]
async fn pods_are_written_whatever_the_budget_has() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::new(vec![event("ADDED", pod("a", 1)), initial_end()]);
    let (api, shared) = node(&server, dir.path());
    let writer = tokio::spawn(shared.files.clone().run());
    // More than a burst: what comes after it waits for a quarter of an hour.
    shared.files.keep("answer.large".into(), &json!({"x": "x".repeat(9 << 20)}));
    while !dir.path().join("answer.large").exists() {
        tokio::time::advance(Duration::from_millis(100)).await;
        tokio::task::yield_now().await;
    }
    shared.files.keep("answer.small".into(), &json!({}));
    follow(&api).await;
    let began = Instant::now();
    while pods_on_disk(dir.path()).is_empty() {
        tokio::time::advance(Duration::from_millis(100)).await;
        tokio::task::yield_now().await;
        assert!(began.elapsed() < Duration::from_secs(600), "they wait");
    }
    assert_eq!(pods_on_disk(dir.path()), ["a"]);
    assert!(!dir.path().join("answer.small").exists(), "it waits");
    writer.abort();
}

#[tokio::test]
async fn what_the_disk_refused_still_waits() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::new(vec![event("ADDED", pod("a", 1)), initial_end()]);
    let (api, shared) = node(&server, dir.path());
    follow(&api).await;
    let new = dir.path().join(".new");
    std::fs::create_dir(&new).expect("made");
    shared.files.write_pending().expect_err("no file can be written");
    std::fs::remove_dir(&new).expect("removed");
    shared.files.write_pending().expect("a healthy disk");
    server.up.store(false, Ordering::SeqCst);
    let (api, _) = node(&server, dir.path());
    assert_eq!(follow(&api).await, ["a"], "the selection is whole");
}

#[test]
fn of_a_selection_that_is_whole_what_came_before_goes_and_what_comes_after_stays() {
    let dir = tempfile::tempdir().expect("a folder");
    let files = Files::open(dir.path(), b"the node's key").expect("a folder");
    let key = "/api/v1/pods?";
    let names = |files: &Files| {
        let all = files.selection(key).into_iter();
        all.map(|pod| pod["metadata"]["name"].as_str().expect("a name").to_owned())
            .collect::<BTreeSet<_>>()
    };
    let keep = |name: &str| files.keep(file::object_name(key, "d", name), &pod(name, 1));
    ["gone", "stays"].into_iter().for_each(keep);
    files.complete(key, BTreeSet::from([file::object_name(key, "d", "stays")]));
    keep("new");
    let whole = BTreeSet::from(["new".to_owned(), "stays".to_owned()]);
    assert_eq!(names(&files), whole);
    files.write_pending().expect("a healthy disk");
    assert_eq!(names(&files), whole);
}

//! Versions of groups that another server serves, which is a small HTTP server on
//! loopback here; TLS towards it is `api-aggregation`'s.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use api_registry::{BoxFuture, Connection, Extension, Extensions, Priority, Registered, UserInfo};
use futures_util::StreamExt;
use http::Request;
use serde_json::{Value, json};
use store::MemoryStore;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    harness::{Cluster, named, parts},
    streams::request,
};
use crate::{ApiServer, Parts};

/// One other server, as APIServices could say.
struct Others {
    address: SocketAddr,
    registered: Mutex<Arc<Registered>>,
    connections: AtomicUsize,
}

impl Others {
    /// From now on this is what is said: group, version and whether it answers.
    fn say(&self, rows: &[(&str, &str, bool)]) {
        let other = |&(group, version, available): &(&str, &str, bool)| {
            let (group, version) = (group.to_owned(), version.to_owned());
            let priority = Priority { group, version, of_group: 2000, of_version: 15 };
            let (namespace, name) = ("wardle".to_owned(), "api".to_owned());
            let port = 443;
            Arc::new(Extension { priority, namespace, name, port, available, ..Default::default() })
        };
        let others = rows.iter().map(other).collect();
        let registered = Arc::new(Registered { local: Vec::new(), others });
        *self.registered.lock().expect("no panic") = registered;
    }
}

impl Extensions for Others {
    fn registered(&self) -> Arc<Registered> {
        self.registered.lock().expect("no panic").clone()
    }

    fn connect<'a>(
        &'a self,
        extension: &'a Extension,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, String>> {
        Box::pin(async move {
            if extension.priority.group == "gone.io" {
                return Err("dial tcp 10.43.0.9:443: connect: connection refused".into());
            }
            self.connections.fetch_add(1, Ordering::Relaxed);
            let stream = TcpStream::connect(self.address).await;
            let stream: Box<dyn Connection> = Box::new(stream.map_err(|error| error.to_string())?);
            Ok(stream)
        })
    }
}

/// Answers by path, once a connection; says back what it was asked.
async fn other(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a head"));
            }
            let head = String::from_utf8(head).expect("text");
            let path = head.split(' ').nth(1).expect("a path");
            let list = json!({"kind": "APIResourceList", "resources": [
                {"name": "flunders", "singularName": "flunder", "namespaced": true,
                    "kind": "Flunder", "verbs": ["get", "list"]}]});
            let index = json!({"paths": {"apis/ext.io/v1":
                {"serverRelativeURL": "/openapi/v3/apis/ext.io/v1?hash=ABC"}}});
            let (status, headers, body) = match path {
                "/apis/ext.io/v1" => ("200 OK", "", list.to_string()),
                "/openapi/v3" => ("200 OK", "", index.to_string()),
                "/apis/ext.io/v1/moved" => {
                    ("302 Found", "Location: https://elsewhere/\r\n", String::new())
                }
                "/apis/ext.io/v1/flunders?watch=1" => {
                    let begun =
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nfirst\n\r\n";
                    stream.write_all(begun.as_bytes()).await.expect("open");
                    // Until the client has had enough.
                    let _ = stream.read_u8().await;
                    return;
                }
                "/apis/ext.io/v1/flunders/a/console" => (
                    "101 Switching Protocols",
                    "Connection: Upgrade\r\nUpgrade: websocket\r\n",
                    String::new(),
                ),
                _ => ("200 OK", "X-Other: a\r\n", head.clone()),
            };
            let length = match status.starts_with("101") {
                true => String::new(),
                false => format!("Content-Length: {}\r\n", body.len()),
            };
            let answer = format!("HTTP/1.1 {status}\r\n{headers}{length}\r\n{body}");
            stream.write_all(answer.as_bytes()).await.expect("open");
            if status.starts_with("101") {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            }
        });
    }
}

const SERVED: &[(&str, &str, bool)] =
    &[("ext.io", "v1", true), ("gone.io", "v1", true), ("away.io", "v1", false)];

async fn beside(caller: UserInfo) -> (Cluster, Arc<Others>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(other(listener));
    let registered = Mutex::default();
    let others = Arc::new(Others { address, registered, connections: AtomicUsize::new(0) });
    others.say(SERVED);
    let extensions = others.clone();
    let server = ApiServer::new(Parts { extensions, ..parts(MemoryStore::default()) });
    (Cluster { transport: server.transport(caller), server }, others)
}

/// The whole answer's code and text.
async fn text(cluster: &Cluster, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(bytes::Bytes::new()).expect("a request");
    let sent = client::Transport::send(&*cluster.transport, request).await;
    let (head, body) = sent.expect("in process").into_parts();
    let bytes = match body {
        client::Body::Full(bytes) => bytes.to_vec(),
        client::Body::Stream(chunks) => {
            let chunks: Vec<_> = chunks.collect().await;
            chunks.into_iter().flat_map(|chunk| chunk.expect("whole").to_vec()).collect()
        }
    };
    (head.status.as_u16(), String::from_utf8(bytes).expect("text"))
}

async fn object(cluster: &Cluster, path: &str, accept: &str) -> Value {
    let (code, text) = text(cluster, path, &[("accept", accept)]).await;
    assert_eq!(code, 200, "{path}: {text}");
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test]
async fn the_others_get_to_know_who_asks_and_from_nobody_else() {
    let extra = ("example.com/team".to_owned(), vec!["a".to_owned()]);
    let jane = UserInfo { uid: "u-1".into(), extra: [extra].into(), ..named("admin") };
    let (cluster, _) = beside(jane).await;
    let spoofed = [
        ("authorization", "Bearer secret"),
        ("x-remote-user", "root"),
        ("x-remote-group", "system:masters"),
        ("x-remote-extra-scopes", "all"),
        ("x-mine", "1"),
    ];
    let path = "/apis/ext.io/v1/namespaces/n/flunders?limit=5";
    let (code, head) = text(&cluster, path, &spoofed).await;
    assert_eq!(code, 200);
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with(&format!("get {path} http/1.1\r\n")), "{head}");
    for said in [
        "host: api.wardle.svc\r\n",
        "x-remote-user: admin\r\n",
        "x-remote-uid: u-1\r\n",
        "x-remote-extra-example.com%2fteam: a\r\n",
        "x-mine: 1\r\n",
    ] {
        assert!(head.contains(said), "{said} is not in {head}");
    }
    for gone in ["secret", "root", "masters", "scopes"] {
        assert!(!head.contains(gone), "{gone} is in {head}");
    }
}

#[tokio::test]
async fn who_may_not_is_refused_here() {
    let (cluster, others) = beside(UserInfo::anonymous()).await;
    let (code, told) = text(&cluster, "/apis/ext.io/v1/namespaces/n/flunders", &[]).await;
    assert!(code == 403 && told.contains("flunders.ext.io"), "{code}: {told}");
    assert_eq!(others.connections.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn who_is_away_is_told_in_upstreams_words() {
    let (cluster, _) = beside(named("admin")).await;
    for (path, expected) in [
        ("/apis/away.io/v1/things", (503, "service unavailable\n")),
        ("/apis/away.io/v1", (503, "service unavailable\n")),
        (
            "/apis/gone.io/v1/things",
            (
                503,
                "error trying to reach service: dial tcp 10.43.0.9:443: connect: connection refused\n",
            ),
        ),
        (
            "/apis/ext.io/v1/moved",
            (502, "the backend attempted to redirect this request, which is not permitted"),
        ),
        ("/apis/ext.io/v1/namespaces/n/../m/flunders", (404, "404 page not found\n")),
        ("/apis/nobody.io/v1/things", (404, "404 page not found\n")),
    ] {
        let (code, told) = text(&cluster, path, &[]).await;
        assert_eq!((code, told.as_str()), expected, "{path}");
    }
}

#[tokio::test]
async fn watches_and_other_protocols_pass() {
    let (cluster, _) = beside(named("admin")).await;
    let (_, mut chunks) = cluster.stream("/apis/ext.io/v1/flunders?watch=1", &[]).await;
    assert_eq!(chunks.recv().await.expect("a chunk"), "first\n");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(cluster.server.clone().serve(listener, None, std::future::pending()));
    let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let path = "/apis/ext.io/v1/flunders/a/console";
    let (head, mut stream) = request(address, "GET", path, headers).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    stream.write_all(b"hello").await.expect("open");
    let mut echoed = [0; 5];
    stream.read_exact(&mut echoed).await.expect("open");
    assert_eq!(&echoed, b"hello");
}

#[tokio::test]
async fn discovery_tells_what_the_others_serve() {
    const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let (cluster, others) = beside(named("admin")).await;
    let plain = "application/json";
    let groups = object(&cluster, "/apis", plain).await;
    let names: Vec<&str> = (groups["groups"].as_array().expect("groups").iter())
        .filter_map(|group| group["name"].as_str())
        .filter(|name| name.ends_with(".io") && !name.ends_with("k8s.io"))
        .collect();
    assert_eq!(names, ["away.io", "ext.io", "gone.io"]);
    let group = object(&cluster, "/apis/ext.io", plain).await;
    assert_eq!(group["preferredVersion"]["groupVersion"], "ext.io/v1");
    let list = object(&cluster, "/apis/ext.io/v1", plain).await;
    assert_eq!(list["resources"][0]["name"], "flunders");

    let version = |list: &Value, name: &str| {
        let mut items = list["items"].as_array().expect("groups").iter();
        let item = items.find(|item| item["metadata"]["name"] == name).expect("the group");
        item["versions"][0].clone()
    };
    others.connections.store(0, Ordering::Relaxed);
    let list = object(&cluster, "/apis", AGGREGATED).await;
    let served = version(&list, "ext.io");
    assert_eq!(
        (&served["freshness"], &served["resources"][0]["responseKind"]["kind"]),
        (&json!("Current"), &json!("Flunder"))
    );
    for name in ["gone.io", "away.io"] {
        let stale = version(&list, name);
        assert_eq!((&stale["freshness"], &stale["resources"]), (&json!("Stale"), &json!([])));
    }
    object(&cluster, "/apis", AGGREGATED).await;
    assert_eq!(others.connections.load(Ordering::Relaxed), 1, "an answer is good for a while");
    // What it said before is told while it is away.
    others.say(&[("ext.io", "v1", false)]);
    let served = version(&object(&cluster, "/apis", AGGREGATED).await, "ext.io");
    assert_eq!(
        (&served["freshness"], &served["resources"][0]["resource"]),
        (&json!("Stale"), &json!("flunders"))
    );
    others.say(&[]);
    let groups = object(&cluster, "/apis", plain).await;
    assert!(!groups.to_string().contains("ext.io"));
}

#[tokio::test]
async fn openapi_of_the_others_is_listed_and_passed_on() {
    let (cluster, _) = beside(named("admin")).await;
    let index = object(&cluster, "/openapi/v3", "application/json").await;
    let url = &index["paths"]["apis/ext.io/v1"]["serverRelativeURL"];
    assert_eq!(url, "/openapi/v3/apis/ext.io/v1?hash=ABC");
    assert!(
        index["paths"].get("apis/away.io/v1").is_none() && index["paths"].get("api/v1").is_some()
    );
    let (_, head) = text(&cluster, url.as_str().expect("a path"), &[]).await;
    assert!(head.starts_with("GET /openapi/v3/apis/ext.io/v1?hash=ABC HTTP/1.1"), "{head}");
}

#[tokio::test]
async fn another_server_takes_the_place_of_a_built_in_version_and_gives_it_back() {
    let (cluster, others) = beside(named("admin")).await;
    let path = "/apis/apps/v1/namespaces/n/deployments";
    let (_, own) = text(&cluster, path, &[]).await;
    assert!(own.contains("DeploymentList"), "{own}");
    others.say(&[("apps", "v1", true)]);
    let (_, head) = text(&cluster, path, &[]).await;
    assert!(head.starts_with(&format!("GET {path} HTTP/1.1")), "{head}");
    let index = object(&cluster, "/openapi/v3", "application/json").await;
    assert!(index["paths"].get("apis/apps/v1").is_none(), "ours is not the other's");
    others.say(&[]);
    let (_, own) = text(&cluster, path, &[]).await;
    assert!(own.contains("DeploymentList"), "{own}");
}

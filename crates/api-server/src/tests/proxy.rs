//! Requests that are passed on to a pod, which is a small HTTP server behind
//! the node's tunnel.

use std::{net::SocketAddr, sync::Arc};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tunnel::{End, Input, NodeStreams, Open, OpenError, Output, ServerEnd};

use super::{
    harness::{Cluster, PODS, cluster},
    streams::request,
};

/// A node whose pods are all at one address; port 9 refuses.
struct Node(SocketAddr);

impl NodeStreams for Node {
    fn open(&self, open: Open) -> tunnel::BoxFuture<Result<ServerEnd, OpenError>> {
        let address = self.0;
        Box::pin(async move {
            let stream = match open {
                Open::Connect(_, 9) => {
                    let why = "dial tcp 10.42.0.9:9: connect: connection refused";
                    return Err(OpenError::Failed(why.into()));
                }
                Open::Connect(..) => TcpStream::connect(address).await.expect("listening"),
                Open::Logs(..) => {
                    let (server, node) = tunnel::pair();
                    let _ = node.output.send(Output::Stdout("logged\n".into())).await;
                    return Ok(server);
                }
                other => return Err(OpenError::Failed(format!("{other:?}"))),
            };
            let (server, mut node) = tunnel::pair();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.into_split();
                tokio::spawn(async move {
                    while let Some(Input::Data(bytes)) = node.input.recv().await {
                        let _ = write.write_all(&bytes).await;
                    }
                });
                let mut buffer = vec![0; 1000];
                while let Ok(count @ 1..) = read.read(&mut buffer).await {
                    let bytes = buffer[..count].to_vec().into();
                    let _ = node.output.send(Output::Stdout(bytes)).await;
                }
                let _ = node.output.send(Output::End(End::Exited(0))).await;
            });
            Ok(server)
        })
    }
}

/// Answers by path, once a connection; says back what it was asked.
async fn pod(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a head"));
            }
            let head = String::from_utf8(head).expect("text");
            let length = head.to_ascii_lowercase();
            let length = length.split_once("content-length: ").map_or(0, |(_, rest)| {
                rest.split_once("\r\n").expect("a line").0.parse().expect("a number")
            });
            let mut sent = vec![0; length];
            stream.read_exact(&mut sent).await.expect("a body");
            let (line, _) = head.split_once("\r\n").expect("a line");
            let path = line.split(' ').nth(1).expect("a path");
            let (status, headers, body) = match path {
                "/moved" => ("302 Found", "Location: /elsewhere\r\n", String::new()),
                "/page" => (
                    "200 OK",
                    "Content-Type: text/html; charset=utf-8\r\n",
                    "<a href=\"/x\">x</a>".to_owned(),
                ),
                "/broken" => ("200 OK", "Content-Length: 100\r\n", "cut".to_owned()),
                "/upgrade" => (
                    "101 Switching Protocols",
                    "Connection: Upgrade\r\nUpgrade: echo\r\n",
                    String::new(),
                ),
                _ => (
                    "200 OK",
                    "Access-Control-Allow-Origin: *\r\nX-Pod: a\r\n",
                    format!("{head}{}", String::from_utf8_lossy(&sent)),
                ),
            };
            let length = match status.starts_with("101") || path == "/broken" {
                true => String::new(),
                false => format!("Content-Length: {}\r\n", body.len()),
            };
            let answer = format!("HTTP/1.1 {status}\r\n{headers}{length}\r\n{body}");
            stream.write_all(answer.as_bytes()).await.expect("open");
            if path == "/upgrade" {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            }
        });
    }
}

async fn listening() -> (Cluster, SocketAddr) {
    let cluster = cluster();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let node = Node(listener.local_addr().expect("bound"));
    tokio::spawn(pod(listener));
    cluster.server.parts.nodes.insert("n", Arc::new(node));
    cluster
        .create(
            "/api/v1/nodes",
            json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n"}}),
        )
        .await;
    let created = cluster.create(PODS, super::harness::pod("p", "n")).await;
    let service = json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "s"},
        "spec": {"clusterIP": "None", "ports": [{"name": "web", "port": 80, "targetPort": 8080}]}});
    cluster.create("/api/v1/namespaces/default/services", service).await;
    let slice = |name: &str, service: &str, endpoint: serde_json::Value| {
        json!({"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
            "ports": [{"name": "web", "port": 8080}], "endpoints": [endpoint]})
    };
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let target = json!({"kind": "Pod", "name": "p", "namespace": "default", "uid": created["metadata"]["uid"]});
    let endpoint = json!({"addresses": ["10.42.0.9"], "nodeName": "n", "targetRef": target});
    cluster.create(slices, slice("s-1", "s", endpoint)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(cluster.server.clone().serve(listener, None, std::future::pending()));
    (cluster, address)
}

/// The answer's head, and its body to the end of the connection.
async fn ask(address: SocketAddr, line: &str, headers: &str) -> (String, String) {
    let (method, path) = line.split_once(' ').expect("a method and a path");
    let headers = format!("Connection: close\r\n{headers}");
    let path = format!("/api/v1/{path}");
    let (head, mut stream) = request(address, method, &path, &headers).await;
    let mut body = Vec::new();
    let _ = stream.read_to_end(&mut body).await;
    (head, String::from_utf8(body).expect("text"))
}

#[tokio::test]
async fn every_method_reaches_a_pod_and_a_service() {
    let (_cluster, address) = listening().await;
    for place in [
        "namespaces/default/pods/p/proxy",
        "namespaces/default/pods/http:p:8080/proxy",
        "namespaces/default/services/s:80/proxy",
        "namespaces/default/services/s:web/proxy",
    ] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let line = format!("{method} {place}/some%2Fpath?a=b&c");
            let (head, body) = ask(address, &line, "Content-Length: 0\r\n").await;
            assert!(head.starts_with("HTTP/1.1 200"), "{line}: {head}");
            assert!(
                body.starts_with(&format!("{method} /some%2Fpath?a=b&c HTTP/1.1\r\n")),
                "{body}"
            );
        }
    }
}

#[tokio::test]
async fn headers_bodies_and_heads_are_passed_on() {
    let (_cluster, address) = listening().await;
    let line = "POST namespaces/default/pods/p/proxy/x";
    let path = "/api/v1/namespaces/default/pods/p/proxy/x";
    let headers = "Content-Length: 5\r\nX-Remote-User: b\r\nX-Mine: 1\r\nConnection: X-Mine\r\nCookie: a=b\r\n\r\nhello";
    let (head, mut stream) = request(address, "POST", path, headers).await;
    let mut body = vec![0; 400];
    let count = stream.read(&mut body).await.expect("a body");
    let body = String::from_utf8_lossy(&body[..count]).to_ascii_lowercase();
    assert!(head.contains("x-pod: a") && !head.contains("access-control"), "{head}");
    for kept in [
        "cookie: a=b",
        "host: x\r\n",
        "x-forwarded-for: 127.0.0.1",
        &format!("x-forwarded-uri: {path}"),
    ] {
        assert!(body.contains(kept), "{kept} is not in {body}");
    }
    for gone in ["authorization", "x-remote", "x-mine", "admin"] {
        assert!(!body.contains(gone), "{gone} is in {body}");
    }
    let (head, body) = ask(address, &line.replace("POST", "HEAD"), "").await;
    assert!(head.starts_with("HTTP/1.1 200") && body.is_empty(), "{head}{body}");
}

#[tokio::test]
async fn links_lead_back_through_the_proxy() {
    let (_cluster, address) = listening().await;
    let proxy = "namespaces/default/pods/p/proxy";
    let (head, _) = ask(address, &format!("GET {proxy}?a=b"), "").await;
    assert!(head.starts_with("HTTP/1.1 301"), "{head}");
    assert!(head.contains(&format!("location: /api/v1/{proxy}/?a=b\r\n")), "{head}");
    let (head, _) = ask(address, &format!("GET {proxy}/moved"), "").await;
    assert!(head.starts_with("HTTP/1.1 302"), "not followed: {head}");
    assert!(head.contains(&format!("location: /api/v1/{proxy}/elsewhere\r\n")), "{head}");
    let (_, body) = ask(address, &format!("GET {proxy}/page"), "").await;
    assert!(body.contains(&format!("<a href=\"/api/v1/{proxy}/x\">")), "{body}");
    let (_, body) = ask(address, &format!("POST {proxy}"), "Content-Length: 0\r\n").await;
    assert!(body.starts_with("POST / HTTP/1.1"), "{body}");
}

#[tokio::test]
async fn who_does_not_answer_is_told_in_upstreams_words() {
    let (cluster, _) = listening().await;
    cluster.create(PODS, super::harness::pod("pending", "")).await;
    let service = json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "none"},
        "spec": {"clusterIP": "None", "ports": [{"port": 80}]}});
    cluster.create("/api/v1/namespaces/default/services", service).await;
    let slice = json!({"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
        "metadata": {"name": "sly", "labels": {"kubernetes.io/service-name": "none"}},
        "ports": [{"name": "sly", "port": 80}], "endpoints": [{"addresses": ["169.254.169.254"]}]});
    cluster.create("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", slice).await;
    for (path, code, message) in [
        (
            "pods/p:9/proxy/",
            503,
            "error trying to reach service: dial tcp 10.42.0.9:9: connect: connection refused",
        ),
        ("pods/x/proxy/", 404, "pods \"x\" not found"),
        ("pods/pending/proxy/", 400, "address not allowed"),
        ("pods/ftp:p:1/proxy/", 400, "invalid pod request \"ftp:p:1\""),
        ("services/s:81/proxy/", 503, "no service port 81 found for service \"s\""),
        ("services/s/proxy/", 503, "no endpoints available for service \"s\""),
        ("services/none:80/proxy/", 503, "no endpoints available for service \"none:80\""),
        ("services/none:sly/proxy/", 400, "address not allowed"),
    ] {
        let answer = cluster.get(&format!("/api/v1/namespaces/default/{path}")).await;
        assert_eq!((answer.code, answer.message()), (code, message), "{path}");
    }
    let unknown = cluster.send("TRACE", &format!("{PODS}/p/proxy/"), json!(null)).await;
    assert_eq!(unknown.code, 405);
}

#[tokio::test]
async fn a_backend_that_breaks_off_breaks_the_answer() {
    let (_cluster, address) = listening().await;
    let (head, body) = ask(address, "GET namespaces/default/pods/p/proxy/broken", "").await;
    assert!(head.contains("content-length: 100"), "{head}");
    assert_eq!(body, "cut", "the connection ends early");
}

#[tokio::test]
async fn protocols_change_through_the_proxy() {
    let (_cluster, address) = listening().await;
    let path = "/api/v1/namespaces/default/pods/p/proxy/upgrade";
    let headers = "Connection: Upgrade\r\nUpgrade: echo\r\n";
    let (head, mut stream) = request(address, "GET", path, headers).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    stream.write_all(b"hello").await.expect("open");
    let mut echoed = [0; 5];
    stream.read_exact(&mut echoed).await.expect("open");
    assert_eq!(&echoed, b"hello");
}

#[tokio::test]
async fn a_node_answers_what_is_known_of_it() {
    let (cluster, address) = listening().await;
    let (_, body) = ask(address, "GET nodes/n:10250/proxy/healthz", "").await;
    assert_eq!(body, "ok");
    let pods = cluster.get("/api/v1/nodes/n/proxy/pods").await;
    assert_eq!(pods.body["items"][0]["metadata"]["name"], "p");
    let (_, body) = ask(address, "GET nodes/n/proxy/containerLogs/default/p/c", "").await;
    assert!(body.contains("logged"), "{body}");
    for (path, code) in
        [("n:22/proxy/", 503), ("n/proxy/checkpoint", 404), ("x/proxy/healthz", 404)]
    {
        assert_eq!(cluster.get(&format!("/api/v1/nodes/{path}")).await.code, code, "{path}");
    }
}

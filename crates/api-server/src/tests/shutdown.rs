//! The end of a server, and what one request may do to it.

use std::time::Duration;

use http::Request;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use super::harness::{CONFIG_MAPS, cluster, config_map};
use crate::body::{REQUEST_BYTES_MAX, RequestBody};

#[tokio::test]
async fn a_stopping_server_ends_its_watches_and_returns() {
    let cluster = cluster();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(cluster.server.clone().serve(listener, None, async {
        let _ = stopped.await;
    }));
    let mut stream = TcpStream::connect(address).await.expect("listening");
    let request = format!(
        "GET {CONFIG_MAPS}?watch=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.expect("headers come before the first event");
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    stop.send(()).expect("still serving");
    tokio::time::timeout(Duration::from_secs(10), serving)
        .await
        .expect("the server returns")
        .expect("without a panic");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.expect("an orderly end");
    assert!(rest.ends_with(b"0\r\n\r\n"), "the last chunk, so that the client sees an end");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let cluster = cluster();
    let body = RequestBody::Full(vec![b' '; REQUEST_BYTES_MAX + 1].into());
    let status = body.read().await.expect_err("too large");
    assert_eq!(status.code, 413);
    let large = config_map("a", json!({"x": "y".repeat((1 << 20) + 1)}));
    let answer = cluster.send("POST", CONFIG_MAPS, large).await;
    assert_eq!(answer.code, 422, "more than a ConfigMap may hold: {}", answer.message());
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    struct Panics;
    impl api_registry::Authorizer for Panics {
        fn authorize<'a>(
            &'a self,
            _: &'a api_registry::RequestAttributes,
        ) -> api_registry::BoxFuture<'a, api_registry::Decision> {
            Box::pin(async { panic!("on purpose") })
        }
    }
    let mut parts = super::harness::parts(store::MemoryStore::default());
    parts.authorizer = std::sync::Arc::new(Panics);
    let server = crate::ApiServer::new(parts);
    let request = Request::get("/version").body(RequestBody::Full(Vec::new().into()));
    let caller = crate::server::Caller::Connection { certificate: None, near: false };
    let reply = server.handle(request.expect("a request"), caller).await;
    assert_eq!(reply.status(), 500);
    let crate::Body::Full(bytes) = reply.into_body() else { panic!("a Status is whole") };
    let status: Value = serde_json::from_slice(&bytes).expect("a Status");
    assert_eq!(
        status["message"],
        "Internal error occurred: This request caused apiserver to panic. Look in the logs for details."
    );
}

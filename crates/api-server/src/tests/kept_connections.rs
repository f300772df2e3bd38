//! Connections to another server that are kept for the next read. The other server says
//! by which of its connections it was asked.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use api_registry::{BoxFuture, Connection, Extension, Extensions, Priority, Registered};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use store::MemoryStore;
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

use super::harness::{named, parts};
use crate::{ApiServer, Parts, extension::idle};

/// The other server.
#[derive(Default)]
struct Other {
    connections: Mutex<Vec<AbortHandle>>,
    /// Asked by this one, it breaks off: 0 for none.
    broken: AtomicUsize,
}

impl Other {
    async fn run(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let mut connections = self.connections.lock().expect("no panic");
            let (other, number) = (self.clone(), connections.len() + 1);
            let serve = service_fn(move |_: Request<_>| {
                let breaks = other.broken.load(Ordering::Relaxed) == number;
                let answer = Response::new(Full::new(Bytes::from(number.to_string())));
                std::future::ready(if breaks { Err("it breaks off") } else { Ok(answer) })
            });
            let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), serve);
            connections.push(tokio::spawn(async { drop(serving.await) }).abort_handle());
        }
    }
}

/// Versions of one group that the other server serves, by the CA that each knows it by.
struct Versions(SocketAddr, Arc<Registered>);

const VERSIONS: &[(&str, &str)] = &[("v1", "CA"), ("v2", "CA"), ("v3", "another CA")];

impl Extensions for Versions {
    fn registered(&self) -> Arc<Registered> {
        self.1.clone()
    }

    fn connect<'a>(
        &'a self,
        _: &'a Extension,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, String>> {
        Box::pin(async {
            let stream = TcpStream::connect(self.0).await.map_err(|error| error.to_string())?;
            Ok(Box::new(stream) as Box<dyn Connection>)
        })
    }
}

struct Story {
    server: Arc<ApiServer>,
    other: Arc<Other>,
}

async fn story() -> Story {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let other = Arc::new(Other::default());
    tokio::spawn(other.clone().run(listener));
    let version = |&(version, ca): &(&str, &str)| {
        let (group, version) = ("ext.io".to_owned(), version.to_owned());
        let priority = Priority { group, version, of_group: 2000, of_version: 15 };
        let (namespace, name) = ("wardle".to_owned(), "api".to_owned());
        let (ca_bundle, port, available, insecure) = (ca.into(), 443, true, false);
        Arc::new(Extension { priority, namespace, name, port, ca_bundle, insecure, available })
    };
    let others = VERSIONS.iter().map(version).collect();
    let registered = Arc::new(Registered { local: Vec::new(), others });
    let extensions = Arc::new(Versions(address, registered));
    let server = ApiServer::new(Parts { extensions, ..parts(MemoryStore::default()) });
    Story { server, other }
}

impl Story {
    /// By which connection the other server was asked.
    async fn asked(&self, method: &str, version: &str) -> String {
        let path = format!("/apis/ext.io/{version}/flunders");
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Bytes::new()).expect("a request");
        let transport = self.server.transport(named("admin"));
        let sent = client::Transport::send(&*transport, request).await.expect("in process");
        assert_eq!(sent.status(), 200, "{method} {version}");
        let bytes = match sent.into_body() {
            client::Body::Full(bytes) => bytes.to_vec(),
            client::Body::Stream(chunks) => {
                let chunks: Vec<_> = futures_util::StreamExt::collect(chunks).await;
                chunks.into_iter().flat_map(|chunk| chunk.expect("whole").to_vec()).collect()
            }
        };
        String::from_utf8(bytes).expect("text")
    }

    /// Waits until so many connections are kept.
    async fn kept(&self, count: usize) {
        let all = async {
            while self.server.idle.count() != count {
                tokio::task::yield_now().await;
            }
        };
        let kept = tokio::time::timeout(Duration::from_secs(20), all).await;
        assert!(kept.is_ok(), "{} are kept and not {count}", self.server.idle.count());
    }
}

#[tokio::test]
async fn reads_come_by_one_connection_and_changes_by_their_own() {
    let story = story().await;
    for (method, by) in [("GET", "1"), ("GET", "1"), ("POST", "2"), ("DELETE", "3"), ("GET", "1")] {
        assert_eq!(story.asked(method, "v1").await, by, "{method}");
        story.kept(1).await;
    }
}

#[tokio::test]
async fn who_is_known_by_another_certificate_is_another_server() {
    let story = story().await;
    assert_eq!(story.asked("GET", "v1").await, "1");
    story.kept(1).await;
    assert_eq!(story.asked("GET", "v2").await, "1", "the same Service by the same CA");
    story.kept(1).await;
    assert_eq!(story.asked("GET", "v3").await, "2");
    story.kept(2).await;
}

#[tokio::test]
async fn a_read_does_not_fail_by_a_connection_that_died() {
    let story = story().await;
    assert_eq!(story.asked("GET", "v1").await, "1");
    story.kept(1).await;
    // Closed, whether that was seen by now or not.
    story.other.connections.lock().expect("no panic")[0].abort();
    assert_eq!(story.asked("GET", "v1").await, "2");
    story.kept(1).await;
    // It takes the request and breaks off.
    story.other.broken.store(2, Ordering::Relaxed);
    assert_eq!(story.asked("GET", "v1").await, "3");
    story.kept(1).await;
}

#[tokio::test]
async fn a_connection_is_kept_for_a_while_and_few_are() {
    let story = story().await;
    let many = join_all((0..2 * idle::OF_ONE_MAX).map(|_| story.asked("GET", "v1"))).await;
    assert_eq!(many.len(), 2 * idle::OF_ONE_MAX);
    story.kept(idle::OF_ONE_MAX).await;
    let all = story.other.connections.lock().expect("no panic").len();
    assert!(all > idle::OF_ONE_MAX, "they were asked at once, by {all}");
    tokio::time::pause();
    tokio::time::advance(idle::IDLE_MAX + Duration::from_secs(1)).await;
    tokio::time::resume();
    story.kept(0).await;
    assert_eq!(story.asked("GET", "v1").await, (all + 1).to_string());
}

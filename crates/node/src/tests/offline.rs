//! An agent that starts where no server is in reach, from a memory that lags behind.

use std::sync::Arc;

use bytes::Bytes;
use client::{Api, Body, BoxFuture, Transport, TransportError};
use futures_util::StreamExt as _;
use http::{Request, Response};
use serde_json::{Value, json};
use testkit::FakeCluster;
use tokio::sync::watch;
use tunnel::LogOptions;

use super::{
    SERVE,
    bed::{Bed, PATIENCE, inside},
    container,
};
use crate::{TOLD_BEFORE, resources::PODS};

/// Tells the pods that it kept for as long as the server is away.
struct Memory {
    server: FakeCluster,
    pods: Vec<Value>,
    is_online: watch::Sender<bool>,
}

impl Memory {
    fn told_before(&self) -> Response<Body> {
        let end = json!({"metadata": {"resourceVersion": TOLD_BEFORE,
            "annotations": {"k8s.io/initial-events-end": "true"}}});
        let added = self.pods.iter().map(|pod| json!({"type": "ADDED", "object": pod}));
        let events = added.chain([json!({"type": "BOOKMARK", "object": end})]);
        let told: String = events.map(|event| format!("{event}\n")).collect();
        let mut online = self.is_online.subscribe();
        let expired = async move {
            // The sender goes with the story.
            let _ = online.wait_for(|online| *online).await;
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                "reason": "Expired", "code": 410});
            Ok(format!("{}\n", json!({"type": "ERROR", "object": status})).into())
        };
        let told = futures_util::stream::iter([Ok(Bytes::from(told))]);
        Response::new(Body::Stream(Box::pin(told.chain(futures_util::stream::once(expired)))))
    }
}

impl Transport for Memory {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<Result<Response<Body>, TransportError>> {
        if *self.is_online.borrow() {
            return self.server.send(request);
        }
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let answer = match request.uri().path() == PODS.path("", "", "") && is_watch {
            true => Ok(self.told_before()),
            false => Err(TransportError("no server is in reach".into())),
        };
        Box::pin(std::future::ready(answer))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_the_memory_lacks_runs_on() {
    if !inside("offline::a_pod_that_the_memory_lacks_runs_on") {
        return;
    }
    let bed = Bed::new();
    let node = bed.start().await;
    for name in ["kept", "late", "deleted"] {
        let mut main = container(SERVE);
        main["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        bed.bind(
            name,
            json!({"restartPolicy": "Always", "containers": [main],
                "volumes": [{"name": "v", "emptyDir": {}}]}),
        )
        .await;
        bed.until_ready(name).await;
    }
    bed.run(&node, "late", "echo precious > /v/file").await;
    let containers = || bed.pod("late").expect("there")["status"]["containerStatuses"].clone();
    let before = containers();
    node.shutdown();
    drop(node);
    let memory = Arc::new(Memory {
        server: bed.cluster.clone(),
        pods: vec![bed.pod("kept").expect("there")],
        is_online: watch::Sender::new(false),
    });
    bed.cluster.delete_with(PODS, "default/deleted", json!({"gracePeriodSeconds": 0}));
    let node = bed.start_with(Api::new(memory.clone(), "test"), |runtime| runtime).await;
    let known = async |name: &str| {
        let wait = async {
            while bed.logs(&node, name, LogOptions::default()).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("in time");
    };
    known("kept").await;
    memory.is_online.send_replace(true);
    known("late").await;
    let (text, _) = bed.run(&node, "late", "cat /v/file").await;
    assert_eq!(text, "precious\n");
    assert_eq!(containers(), before);
    // The server's word counts: what it lacks ends.
    for name in ["kept", "late"] {
        bed.cluster.delete_with(PODS, &format!("default/{name}"), json!({"gracePeriodSeconds": 5}));
        bed.until(name, "gone", |pod| pod.is_none()).await;
    }
    bed.until_nothing_is_left().await;
}

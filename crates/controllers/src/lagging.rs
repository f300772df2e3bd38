//! A cluster whose caches of pods fall behind when a test says so.

use std::sync::Arc;

use bytes::Bytes;
use client::{Api, Body, BoxFuture, Transport, TransportError};
use futures_util::StreamExt;
use http::{Request, Response};
use testkit::FakeCluster;
use tokio::sync::watch;

use crate::{Settings, stories::Story};

/// Starts the controllers; watches of pods are held back while `true` was sent last.
pub(crate) fn start(cluster: FakeCluster) -> (Story, watch::Sender<bool>) {
    let (hold, held) = watch::channel(false);
    let api = Api::new(Arc::new(Lagging { cluster: cluster.clone(), held }), "test");
    (Story::start_through(api, cluster, Settings::default()), hold)
}

#[derive(Debug)]
struct Lagging {
    cluster: FakeCluster,
    held: watch::Receiver<bool>,
}

impl Transport for Lagging {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<Result<Response<Body>, TransportError>> {
        let uri = request.uri().to_string();
        let answer = self.cluster.send(request);
        if !uri.contains("/pods?") || !uri.contains("watch=true") {
            return answer;
        }
        let held = self.held.clone();
        Box::pin(async move {
            let (head, body) = answer.await?.into_parts();
            let Body::Stream(events) = body else { return Ok(Response::from_parts(head, body)) };
            let events = events.then(move |event| {
                let mut held = held.clone();
                async move {
                    held.wait_for(|held| !held).await.expect("the test holds it back");
                    event
                }
            });
            Ok(Response::from_parts(head, Body::Stream(Box::pin(events))))
        })
    }
}

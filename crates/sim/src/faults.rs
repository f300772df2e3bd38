//! What goes wrong between a client and the server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use client::{Body, BoxFuture, Transport, TransportError};
use futures_util::{StreamExt as _, stream};
use http::{Method, Request, Response};

use crate::Random;

/// Of a thousand requests.
const LOST: u64 = 20;
const ANSWER_LOST: u64 = 20;
const SLOW: u64 = 200;
/// Of a thousand watches, and of a thousand of their chunks.
const EXPIRED: u64 = 30;
const CUT: u64 = 15;
const REPEATED: u64 = 30;
const LAGGING: u64 = 150;

/// Every request takes some time: in none at all, a client whose cache lags
/// could ask without end before the cache hears.
const DELAY_MIN: Duration = Duration::from_millis(1);
const DELAY_MAX: Duration = Duration::from_millis(400);
const LAG_MAX: Duration = Duration::from_secs(4);

/// Whether there are faults, and what they did. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Faults(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    on: AtomicBool,
    random: Random,
    lost_creations: AtomicU64,
}

impl Faults {
    pub(crate) fn new(random: Random) -> Self {
        Self(Arc::new(Inner {
            on: AtomicBool::new(false),
            random,
            lost_creations: AtomicU64::new(0),
        }))
    }

    /// From now on, or from now on no more.
    pub(crate) fn set(&self, on: bool) {
        self.0.on.store(on, Ordering::Relaxed);
    }

    /// Whether there are.
    pub(crate) fn are_on(&self) -> bool {
        self.0.on.load(Ordering::Relaxed)
    }

    /// Pods whose creator does not know that they were made, so far. One with a
    /// generated name is then made twice by anybody's client.
    pub(crate) fn lost_creations(&self) -> u64 {
        self.0.lost_creations.load(Ordering::Relaxed)
    }

    /// True in so many of a thousand cases, while there are faults.
    fn hit(&self, per_mille: u64) -> bool {
        self.are_on() && self.0.random.chance(per_mille)
    }

    async fn pause(&self, per_mille: u64, max: Duration) {
        if self.hit(per_mille) {
            tokio::time::sleep(self.0.random.pause(max)).await;
        }
    }
}

/// A transport with faults.
pub(crate) struct Faulty {
    pub(crate) inner: Arc<dyn Transport>,
    pub(crate) faults: Faults,
}

impl Transport for Faulty {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<Result<Response<Body>, TransportError>> {
        let (inner, faults) = (self.inner.clone(), self.faults.clone());
        Box::pin(async move {
            let creation =
                request.method() == Method::POST && request.uri().path().ends_with("/pods");
            let query = request.uri().query().unwrap_or_default();
            let resumed = query.contains("watch=true") && query.contains("resourceVersion=");
            tokio::time::sleep(DELAY_MIN).await;
            faults.pause(SLOW, DELAY_MAX).await;
            if faults.hit(LOST) {
                return Err(TransportError("the request was lost".into()));
            }
            if resumed && faults.hit(EXPIRED) {
                return Ok(expired());
            }
            let response = inner.send(request).await?;
            faults.pause(SLOW, DELAY_MAX).await;
            let (head, body) = response.into_parts();
            let body = match body {
                Body::Full(_) if faults.hit(ANSWER_LOST) => {
                    if creation && head.status.is_success() {
                        faults.0.lost_creations.fetch_add(1, Ordering::Relaxed);
                    }
                    return Err(TransportError("the answer was lost".into()));
                }
                Body::Full(bytes) => Body::Full(bytes),
                Body::Stream(chunks) => Body::Stream(Box::pin(watched(chunks, faults))),
            };
            Ok(Response::from_parts(head, body))
        })
    }
}

type Chunks =
    std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<Bytes, TransportError>> + Send>>;

/// A watch that lags, repeats itself, and breaks.
fn watched(
    chunks: Chunks,
    faults: Faults,
) -> impl futures_util::Stream<Item = Result<Bytes, TransportError>> + Send {
    let state = (Some(chunks), faults, None::<Bytes>);
    stream::unfold(state, |(chunks, faults, again)| async move {
        if let Some(chunk) = again {
            return Some((Ok(chunk), (chunks, faults, None)));
        }
        let mut chunks = chunks?;
        let next = chunks.next().await?;
        faults.pause(LAGGING, LAG_MAX).await;
        if faults.hit(CUT) {
            let cut = TransportError("the connection broke".into());
            return Some((Err(cut), (None, faults, None)));
        }
        let whole_lines = next.as_ref().ok().filter(|chunk| chunk.ends_with(b"\n"));
        let again = whole_lines.filter(|_| faults.hit(REPEATED)).cloned();
        Some((next, (Some(chunks), faults, again)))
    })
}

fn expired() -> Response<Body> {
    let status = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version","reason":"Expired","code":410}"#;
    let mut response = Response::new(Body::Full(status.into()));
    *response.status_mut() = http::StatusCode::GONE;
    response
}

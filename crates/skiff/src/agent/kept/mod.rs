//! What the node was told last, so that it starts its pods where no server is in
//! reach.
//!
//! [`Kept`] stands between an identity of the node and the network. While a
//! server answers it passes everything on, and keeps what is read ([`file`],
//! [`record`]). While none does, it answers what is read from what it kept, and
//! whatever else is asked fails at once; a watch it answered ends with "expired"
//! once a server is there again, so that its informer reads all of it anew.

mod file;
mod record;
mod request;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use client::{Ambient, Backoff, Body, BoxFuture, Transport, TransportError};
use futures_util::StreamExt as _;
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{debug, info, warn};

pub(super) use self::file::Files;
use self::{record::Recorder, request::Kind};

/// How long an answer is waited for where there is a kept one.
const ANSWER_MAX: Duration = Duration::from_secs(4);
/// How long servers are left alone at most before they are looked for again.
const PROBE_MAX: Duration = Duration::from_secs(5);
/// How long a kept token counts as fresh: nobody can verify it meanwhile.
const TOKEN_FRESH_SECONDS: i64 = 60;

/// One identity's transport, with what was kept behind it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Kept {
    below: Arc<dyn Transport>,
    shared: Arc<Shared>,
}

/// What the identities of a node have in common.
pub(super) struct Shared {
    files: Arc<Files>,
    ambient: Ambient,
    /// Finds out whether a server answers.
    probe: Arc<dyn Transport>,
    /// Whether one does, as far as is known.
    online: watch::Sender<bool>,
    probing: AtomicBool,
}

impl Shared {
    /// `probe` is the transport of any of the identities.
    pub(super) fn new(files: Arc<Files>, probe: Arc<dyn Transport>, ambient: Ambient) -> Arc<Self> {
        let online = watch::Sender::new(true);
        Arc::new(Self { files, ambient, probe, online, probing: AtomicBool::new(false) })
    }

    /// The same for another identity.
    pub(super) fn before(self: &Arc<Self>, below: Arc<dyn Transport>) -> Kept {
        Kept { below, shared: self.clone() }
    }

    fn is_online(&self) -> bool {
        *self.online.borrow()
    }

    /// No server has answered: looks for one until there is.
    fn lost(self: &Arc<Self>) {
        if self.online.send_replace(false) {
            warn!("no server is in reach: this node goes on with what it was told before");
        }
        if !self.probing.swap(true, Ordering::SeqCst) {
            tokio::spawn(self.clone().look());
        }
    }

    async fn look(self: Arc<Self>) {
        let mut failures = 0;
        loop {
            let mut request = Request::new(Bytes::new());
            *request.uri_mut() = http::Uri::from_static("/readyz");
            match self.probe.send(request).await {
                Ok(answer) if answer.status().is_success() => break,
                Ok(answer) => debug!(status = %answer.status(), "the server is not ready"),
                Err(error) => debug!(%error, "no server yet"),
            }
            failures += 1;
            let pause = self.ambient.jittered(Backoff::CONNECT.delay(failures)).min(PROBE_MAX);
            tokio::time::sleep(pause).await;
        }
        self.probing.store(false, Ordering::SeqCst);
        self.online.send_replace(true);
        info!("a server is in reach again");
    }
}

impl Transport for Kept {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<Result<Response<Body>, TransportError>> {
        let kept = self.clone();
        Box::pin(async move {
            match request::kind(&request) {
                Kind::Other => kept.pass(request).await,
                Kind::Resume(key) => {
                    let answer = kept.pass(request).await?;
                    Ok(kept.record(answer, Recorder::resumed(&key)))
                }
                Kind::Watch(key) => kept.watch(&key, request).await,
                Kind::Read(key) => kept.read(&key, request).await,
                Kind::Token { pod, key } => kept.token(&pod, &key, request).await,
            }
        })
    }
}

impl Kept {
    async fn pass(&self, request: Request<Bytes>) -> Result<Response<Body>, TransportError> {
        match self.shared.is_online() {
            true => self.below.send(request).await,
            false => Err(TransportError("no server is in reach".into())),
        }
    }

    /// A server's answer; `None` where what was kept is to do.
    async fn ask(
        &self,
        request: Request<Bytes>,
        is_kept: bool,
    ) -> Result<Option<Response<Body>>, TransportError> {
        if !is_kept {
            return self.pass(request).await.map(Some).inspect_err(|_| self.shared.lost());
        }
        if !self.shared.is_online() {
            return Ok(None);
        }
        match tokio::time::timeout(ANSWER_MAX, self.below.send(request)).await {
            // Without a leader a server knows no more than this node.
            Ok(Ok(answer)) if !away(answer.status()) => return Ok(Some(answer)),
            Ok(Ok(answer)) => debug!(status = %answer.status(), "the server has no answer"),
            Ok(Err(error)) => debug!(%error, "no server answers"),
            Err(_) => debug!("no server answers in time"),
        }
        self.shared.lost();
        Ok(None)
    }

    fn record(&self, answer: Response<Body>, mut recorder: Recorder) -> Response<Body> {
        if !answer.status().is_success() {
            return answer;
        }
        let files = self.shared.files.clone();
        answer.map(|body| match body {
            Body::Full(bytes) => {
                recorder.take(&bytes, &files);
                Body::Full(bytes)
            }
            Body::Stream(stream) => Body::Stream(Box::pin(stream.inspect(move |chunk| {
                if let Ok(chunk) = chunk {
                    recorder.take(chunk, &files);
                }
            }))),
        })
    }

    async fn watch(
        &self,
        key: &str,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, TransportError> {
        let files = self.shared.files.clone();
        match self.ask(request, files.has_selection(key)).await? {
            Some(answer) => Ok(self.record(answer, Recorder::from_start(key))),
            None => {
                let key = key.to_owned();
                let objects = tokio::task::spawn_blocking(move || files.selection(&key)).await;
                let objects = objects.map_err(|error| TransportError(error.to_string()))?;
                Ok(self.told_before(objects))
            }
        }
    }

    /// The kept objects as a watch-list that ends when there is a server.
    fn told_before(&self, objects: Vec<Value>) -> Response<Body> {
        let mut lines = BytesMut::new();
        for object in objects {
            line(&mut lines, "ADDED", &object);
        }
        // What was written last may be older than what runs.
        let bookmark = json!({"kind": "Bookmark", "apiVersion": "v1", "metadata": {
            "resourceVersion": ::node::TOLD_BEFORE,
            "annotations": {"k8s.io/initial-events-end": "true"},
        }});
        line(&mut lines, "BOOKMARK", &bookmark);
        let mut online = self.shared.online.subscribe();
        let end = futures_util::stream::once(async move {
            // The sender goes with the node.
            let _ = online.wait_for(|online| *online).await;
            let mut lines = BytesMut::new();
            let expired = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                "reason": "Expired", "code": 410, "message": "a server is in reach again"});
            line(&mut lines, "ERROR", &expired);
            Ok(lines.freeze())
        });
        let all = futures_util::stream::iter([Ok(lines.freeze())]).chain(end);
        Response::new(Body::Stream(Box::pin(all)))
    }

    async fn read(
        &self,
        key: &str,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, TransportError> {
        let files = self.shared.files.clone();
        let Some(answer) = self.ask(request, files.has_answer(key)).await? else {
            return load(files, file::answer_name(key)).await;
        };
        if !matches!(answer.status(), StatusCode::OK | StatusCode::NOT_FOUND) {
            return Ok(answer);
        }
        let (head, body) = answer.into_parts();
        let body = body.collect().await?;
        self.shared.files.keep_answer(file::answer_name(key), head.status.as_u16(), &body);
        Ok(Response::from_parts(head, Body::Full(body)))
    }

    async fn token(
        &self,
        pod: &str,
        key: &str,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, TransportError> {
        let files = self.shared.files.clone();
        let name = file::token_name(pod, key);
        let Some(answer) = self.ask(request, files.has(&name)).await? else {
            let (head, body) = load(files, name).await?.into_parts();
            let mut told: Value = serde_json::from_slice(&body.collect().await?)
                .map_err(|error| TransportError(error.to_string()))?;
            let fresh =
                self.shared.ambient.now() + jiff::SignedDuration::from_secs(TOKEN_FRESH_SECONDS);
            let fresh = api_object::time::format_seconds(fresh);
            told["status"]["expirationTimestamp"] = fresh.into();
            return Ok(Response::from_parts(head, Body::Full(told.to_string().into())));
        };
        if !answer.status().is_success() || files.has(&name) {
            // One is as good as another once nobody verifies it.
            return Ok(answer);
        }
        let (head, body) = answer.into_parts();
        let body = body.collect().await?;
        files.keep_answer(name, head.status.as_u16(), &body);
        Ok(Response::from_parts(head, Body::Full(body)))
    }
}

/// Whether a server that answers so is as good as none.
fn away(status: StatusCode) -> bool {
    matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

async fn load(files: Arc<Files>, name: String) -> Result<Response<Body>, TransportError> {
    let found = tokio::task::spawn_blocking(move || files.answer(&name)).await;
    let found = found.map_err(|error| TransportError(error.to_string()))?;
    let (status, body) = found.ok_or_else(|| {
        TransportError("no server is in reach, and what was kept does not read back".into())
    })?;
    let mut response = Response::new(Body::Full(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    Ok(response)
}

fn line(lines: &mut BytesMut, kind: &str, object: &Value) {
    let event = json!({"type": kind, "object": object});
    lines.extend_from_slice(event.to_string().as_bytes());
    lines.extend_from_slice(b"\n");
}

#[cfg(test)]
mod tests;

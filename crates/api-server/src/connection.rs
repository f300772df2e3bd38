//! HTTP/1.1 and HTTP/2 over one connection, and what one client may cost.
//!
//! Every limit is written here, also where it is the library's own, since each
//! is what stands between one client and everybody's memory.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, header::CONTENT_LENGTH};
use http_body::Body as _;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::timeout,
};

use crate::{
    ApiServer,
    body::{Body, RequestBody},
    opening::{self, Version},
    respond::Reply,
    server::{Caller, Peer},
};

/// How long a client may take to send a request's head, the first one included.
const HEADERS_MAX: Duration = Duration::from_secs(30);
/// A dead client's HTTP/2 connection is found by pings, which are to be answered
/// in time.
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_MAX: Duration = Duration::from_secs(20);
/// Requests at once, of which most are watches: clients of many kinds have one
/// for each.
pub(crate) const STREAMS_MAX: u32 = 1000;
/// A request's head. Tokens and selectors are long; `http` refuses longer URLs.
pub(crate) const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// Of HTTP/1.1: what is read before it is parsed, and written before it is sent.
const BUFFER_BYTES_MAX: usize = 128 * 1024;
/// What a client may send of all bodies that nobody has read yet.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// The same for one body. Nearly all objects are smaller.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// What waits in each stream for a client that does not read.
const SEND_BYTES_MAX: usize = 64 * 1024;
/// Streams that a client has reset before they were looked at, and those that
/// were reset for its mistakes: more ends the connection ("rapid reset").
const RESET_UNSEEN_MAX: usize = 20;
const RESET_FOR_FAULTS_MAX: usize = 256;

impl ApiServer {
    /// Answers the requests of one connection until it ends, or until
    /// `draining` and its requests are answered.
    pub(crate) async fn connection(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        caller: Caller,
        peer: Peer,
        mut draining: watch::Receiver<bool>,
    ) {
        let opened = tokio::select! {
            opened = timeout(HEADERS_MAX, opening::opened(stream)) => opened,
            // Nothing was asked yet.
            () = drained(&mut draining) => return,
        };
        let opened = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let (version, stream) = match opened {
            Ok(opened) => opened,
            Err(error) => return tracing::debug!("a connection without a request: {error}"),
        };
        let service = service_fn(move |request: Request<Incoming>| {
            let (server, caller) = (self.clone(), caller.clone());
            async move {
                let mut request = request.map(RequestBody::Incoming);
                request.extensions_mut().insert(peer);
                let head = *request.method() == Method::HEAD;
                let reply = server.handle(request, caller).await;
                let reply = if head { headers_alone(reply) } else { reply };
                Ok::<Reply, std::convert::Infallible>(reply)
            }
        });
        let connection = builder(version)
            .serve_connection_with_upgrades(TokioIo::new(stream), service)
            .into_owned();
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = drained(&mut draining) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!("a connection ended: {error}");
        }
    }
}

/// What a HEAD is answered with: HTTP/2 would send the body too.
fn headers_alone(mut reply: Reply) -> Reply {
    let body = std::mem::replace(reply.body_mut(), Body::Full(Bytes::new()));
    if let Some(len) = body.size_hint().exact() {
        reply.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| len.into());
    }
    reply
}

async fn drained(draining: &mut watch::Receiver<bool>) {
    // Without a sender the server is gone, which is an end too.
    let _ = draining.wait_for(|draining| *draining).await;
}

fn builder(version: Version) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .max_send_buf_size(SEND_BYTES_MAX)
        .max_pending_accept_reset_streams(RESET_UNSEEN_MAX)
        .max_local_error_reset_streams(RESET_FOR_FAULTS_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_MAX);
    match version {
        Version::One => builder.http1_only(),
        Version::Two => builder.http2_only(),
    }
}

//! The calling end.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Request, Response, uri::PathAndQuery};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::{body::Body, client::Grpc};

use crate::{
    BoxFuture, MESSAGE_BYTES_MAX, Messages, Settings, Status, WINDOW_BYTES, once, raw::Raw,
    status::from_tonic,
};

const SETTINGS: Settings = Settings {
    stream_window_bytes: WINDOW_BYTES,
    connection_window_bytes: 2 * WINDOW_BYTES,
    ping_every: Duration::from_secs(2),
    pong_max: Duration::from_secs(5),
};

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The other end has not seen the call.
    #[error("{0}")]
    NotSent(String),
    /// The other end answered with this, or may have seen the call before the
    /// connection broke ([`crate::Code::Unavailable`]).
    #[error(transparent)]
    Failed(#[from] Status),
}

/// A connection on which calls are made; clones share it.
#[derive(Clone)]
pub struct Client {
    requests: SendRequest<Body>,
}

impl Client {
    /// Speaks HTTP/2 on a fresh connection. Must be called in a tokio runtime,
    /// which runs the connection until the last clone is gone or it breaks.
    ///
    /// # Errors
    /// Where the other end does not speak it.
    pub async fn start(
        connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Self, CallError> {
        Self::start_with(connection, SETTINGS).await
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// Where the other end does not speak it.
    pub async fn start_with(
        connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        settings: Settings,
    ) -> Result<Self, CallError> {
        let made = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(settings.stream_window_bytes)
            .initial_connection_window_size(settings.connection_window_bytes)
            .keep_alive_interval(settings.ping_every)
            .keep_alive_timeout(settings.pong_max)
            .handshake(TokioIo::new(connection))
            .await;
        let (requests, running) =
            made.map_err(|error| CallError::NotSent(format!("no HTTP/2: {error}")))?;
        // Its end is seen by every call on it.
        tokio::spawn(async move { drop(running.await) });
        Ok(Self { requests })
    }

    /// Whether calls can still be made.
    pub fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Makes a call; returns once the other end begins to answer. An error
    /// among the messages ends them early.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&mut self, path: &str, messages: Messages) -> Result<Messages, CallError> {
        let path = PathAndQuery::try_from(path)
            .map_err(|error| CallError::NotSent(format!("{path}: {error}")))?;
        let messages = messages
            .take_while(|one| std::future::ready(one.is_ok()))
            .filter_map(|one| std::future::ready(one.ok()));
        let mut grpc = Grpc::with_origin(Requests(self.requests.clone()), origin())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        grpc.ready().await.map_err(|error| not_sent(&error))?;
        match grpc.streaming(tonic::Request::new(messages), path, Raw).await {
            Ok(answer) => Ok(from_tonic(answer.into_inner())),
            Err(status) => Err(failed(status)),
        }
    }

    /// A call with one message each way.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn unary(&mut self, path: &str, message: Bytes) -> Result<Bytes, CallError> {
        debug_assert!(message.len() <= MESSAGE_BYTES_MAX);
        self.only(path, once(message)).await
    }

    /// A call with any number of messages that has one for an answer.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn only(&mut self, path: &str, messages: Messages) -> Result<Bytes, CallError> {
        use crate::Code::Internal;
        let mut answers = self.call(path, messages).await?;
        let nothing = || Status::new(Internal, "an answer without a message");
        let answer = answers.next().await.ok_or_else(nothing)??;
        // The status comes behind it.
        match answers.next().await {
            None => Ok(answer),
            Some(Ok(_)) => Err(Status::new(Internal, "more messages than one").into()),
            Some(Err(status)) => Err(status.into()),
        }
    }
}

/// What requests are sent to in name: the connection is made already.
fn origin() -> http::Uri {
    http::Uri::from_static("https://skiff")
}

fn not_sent(error: &hyper::Error) -> CallError {
    CallError::NotSent(format!("the connection has ended: {error}"))
}

/// hyper says of a request that it cancelled that nothing of it was sent.
fn failed(status: tonic::Status) -> CallError {
    let cause = std::error::Error::source(&status).and_then(|error| error.downcast_ref());
    match cause {
        Some(error) if hyper::Error::is_canceled(error) => not_sent(error),
        _ => CallError::Failed(status.into()),
    }
}

/// hyper's end of a connection as the service that tonic calls.
struct Requests(SendRequest<Body>);

impl tower_service::Service<Request<Body>> for Requests {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<Result<Response<Incoming>, hyper::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

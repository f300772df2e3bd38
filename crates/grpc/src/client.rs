//! The calling end.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Method, Request, StatusCode, header};
use http_body_util::StreamBody;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    Code, MESSAGE_BYTES_MAX, Messages, Status,
    frame::{self, Outgoing},
    once,
};

/// Pings go out while calls are open; without an answer the connection ends.
const PING_EVERY: Duration = Duration::from_secs(2);
const PONG_MAX: Duration = Duration::from_secs(3);
/// What may be on its way in one direction before somebody has read it.
const WINDOW_BYTES: u32 = 4 << 20;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The other end has not seen the call.
    #[error("{0}")]
    NotSent(String),
    /// The other end answered with this, or may have seen the call before the
    /// connection broke ([`Code::Unavailable`]).
    #[error(transparent)]
    Failed(#[from] Status),
}

/// A connection on which calls are made; clones share it.
#[derive(Clone)]
pub struct Client {
    requests: SendRequest<StreamBody<Outgoing>>,
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
        let made = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(2 * WINDOW_BYTES)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PONG_MAX)
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

    /// Makes a call; returns once the other end begins to answer.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&mut self, path: &str, messages: Messages) -> Result<Messages, CallError> {
        let request = Request::builder()
            .method(Method::POST)
            .version(http::Version::HTTP_2)
            .uri(format!("https://skiff{path}"))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(StreamBody::new(frame::plain(messages)))
            .map_err(|error| CallError::NotSent(error.to_string()))?;
        if let Err(error) = self.requests.ready().await {
            return Err(CallError::NotSent(format!("the connection has ended: {error}")));
        }
        let broke = |error: hyper::Error| match error.is_canceled() {
            true => CallError::NotSent(format!("the connection has ended: {error}")),
            false => {
                let text = format!("the connection broke: {error}");
                CallError::Failed(Status::new(Code::Unavailable, text))
            }
        };
        let answer = self.requests.send_request(request).await.map_err(broke)?;
        if answer.status() != StatusCode::OK {
            let text = format!("the other end answered HTTP {}, no gRPC", answer.status());
            return Err(Status::new(Code::Unknown, text).into());
        }
        match Status::from_trailers(answer.headers()) {
            Some(Err(status)) => Err(status.into()),
            Some(Ok(())) => Ok(Box::pin(futures_util::stream::empty())),
            None => Ok(frame::messages(answer.into_body(), true)),
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
        let mut answers = self.call(path, messages).await?;
        let nothing = || Status::new(Code::Internal, "an answer without a message");
        let answer = answers.next().await.ok_or_else(nothing)??;
        // The status comes behind it.
        match answers.next().await {
            None => Ok(answer),
            Some(Ok(_)) => Err(Status::new(Code::Internal, "more messages than one").into()),
            Some(Err(status)) => Err(status.into()),
        }
    }
}

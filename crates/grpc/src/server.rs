//! The answering end.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::{
    Streaming,
    body::Body,
    server::{Grpc, StreamingService},
};

use crate::{
    BoxFuture, MESSAGE_BYTES_MAX, Messages, Settings, Status, WINDOW_BYTES, raw::Raw,
    status::from_tonic,
};

const SETTINGS: Settings = Settings {
    stream_window_bytes: WINDOW_BYTES,
    connection_window_bytes: 2 * WINDOW_BYTES,
    ping_every: Duration::from_secs(10),
    pong_max: Duration::from_secs(10),
};

/// A call as it comes in.
pub struct Call {
    /// `/package.Service/Method`.
    pub path: String,
    /// What the caller sends.
    pub messages: Messages,
}

/// Who answers calls.
pub trait Service: Send + Sync + 'static {
    /// Answers one call. Unknown paths get [`crate::Code::Unimplemented`].
    fn call(&self, call: Call) -> BoxFuture<Result<Messages, Status>>;
}

/// Answers the calls of one connection until it ends, or until `stop` completes
/// and the calls under way are answered.
pub async fn serve(
    connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: Arc<dyn Service>,
    stop: impl Future<Output = ()>,
) {
    serve_with(connection, service, SETTINGS, stop).await;
}

/// The same with other limits.
pub async fn serve_with(
    connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: Arc<dyn Service>,
    settings: Settings,
    stop: impl Future<Output = ()>,
) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(answer(service, request).await) }
    });
    let running = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(settings.stream_window_bytes)
        .initial_connection_window_size(settings.connection_window_bytes)
        .keep_alive_interval(settings.ping_every)
        .keep_alive_timeout(settings.pong_max)
        .serve_connection(TokioIo::new(connection), answer);
    tokio::pin!(running, stop);
    // How a connection ends is the calling end's concern.
    tokio::select! {
        _ = running.as_mut() => {}
        () = stop => {
            running.as_mut().graceful_shutdown();
            let _ = running.await;
        }
    }
}

async fn answer(service: Arc<dyn Service>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    Grpc::new(Raw)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
        .streaming(Answering { service, path }, request)
        .await
}

/// One call, as tonic asks for its answer.
struct Answering {
    service: Arc<dyn Service>,
    path: String,
}

type Answers = futures_util::stream::BoxStream<'static, Result<bytes::Bytes, tonic::Status>>;

impl StreamingService<bytes::Bytes> for Answering {
    type Response = bytes::Bytes;
    type ResponseStream = Answers;
    type Future = BoxFuture<Result<tonic::Response<Answers>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<bytes::Bytes>>) -> Self::Future {
        let messages = from_tonic(request.into_inner());
        let answers = self.service.call(Call { path: self.path.clone(), messages });
        Box::pin(async move {
            let answers = answers.await?.map(|one| one.map_err(tonic::Status::from));
            Ok(tonic::Response::new(answers.boxed()))
        })
    }
}

//! The answering end.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Request, Response, header};
use http_body_util::StreamBody;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    BoxFuture, Code, Messages, Status,
    frame::{self, Outgoing},
};

const PING_EVERY: Duration = Duration::from_secs(10);
const PONG_MAX: Duration = Duration::from_secs(10);
/// See the client's.
const WINDOW_BYTES: u32 = 4 << 20;

/// A call as it comes in.
pub struct Call {
    /// `/package.Service/Method`.
    pub path: String,
    /// What the caller sends.
    pub messages: Messages,
}

/// Who answers calls.
pub trait Service: Send + Sync + 'static {
    /// Answers one call. Unknown paths get [`Code::Unimplemented`].
    fn call(&self, call: Call) -> BoxFuture<Result<Messages, Status>>;
}

/// Answers the calls of one connection until it ends, or until `stop` completes
/// and the calls under way are answered.
pub async fn serve(
    connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: Arc<dyn Service>,
    stop: impl Future<Output = ()>,
) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(answer(&*service, request).await) }
    });
    let running = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_MAX)
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

async fn answer(
    service: &dyn Service,
    request: Request<Incoming>,
) -> Response<StreamBody<Outgoing>> {
    let path = request.uri().path().to_owned();
    let messages = frame::messages(request.into_body(), false);
    let answers: Messages = match service.call(Call { path, messages }).await {
        Ok(answers) => answers,
        Err(status) => Box::pin(futures_util::stream::once(async move { Err(status) })),
    };
    let mut response = Response::new(StreamBody::new(frame::with_status(answers)));
    let media = header::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response
}

impl Status {
    /// What a path that is not known gets.
    pub fn unimplemented(path: &str) -> Self {
        Self::new(Code::Unimplemented, format!("{path} is not known here"))
    }
}

//! HTTP/1.1: a request over a connection of its own.

use std::fmt::Display;

use bytes::Bytes;
use client::{Body, TransportError};
use futures_util::StreamExt as _;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::Duplex;

pub(super) fn broken(error: impl Display) -> TransportError {
    TransportError(error.to_string())
}

/// Sends a request to a host over a stream that ends with the answer.
pub(super) async fn send(
    stream: impl Duplex + 'static,
    host: &str,
    request: Request<Bytes>,
) -> Result<Response<Body>, TransportError> {
    let mut request = request.map(Full::new);
    request.headers_mut().insert(header::HOST, host.parse().map_err(broken)?);
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Ends with the body; its error is the body's too.
    tokio::spawn(async move {
        let _ = driver.await;
    });
    let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
    let chunks = body.into_data_stream().map(|chunk| chunk.map_err(broken));
    Ok(Response::from_parts(head, Body::Stream(Box::pin(chunks))))
}

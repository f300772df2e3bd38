//! Bodies of answers, as they come: pieces, and the events of a watch.

use std::future::Future;

use bytes::{Bytes, BytesMut};
use client::Body;
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::time::Instant;

use super::refusal;
use crate::failure::{Failure, Outcome, failed};

/// A body as it comes.
#[derive(Debug)]
pub(crate) struct Chunks {
    body: Body,
    until: Option<Instant>,
}

/// What comes of it, where it comes in time.
pub(super) async fn within<T>(
    until: Option<Instant>,
    waited: impl Future<Output = T>,
) -> Option<T> {
    match until {
        Some(until) => tokio::time::timeout_at(until, waited).await.ok(),
        None => Some(waited.await),
    }
}

impl Chunks {
    /// A body, and until when it may come.
    pub(super) fn new(body: Body, until: Option<Instant>) -> Self {
        Self { body, until }
    }

    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Outcome<Bytes>> {
        match &mut self.body {
            Body::Full(bytes) if bytes.is_empty() => None,
            Body::Full(bytes) => Some(Ok(std::mem::take(bytes))),
            Body::Stream(stream) => match within(self.until, stream.next()).await {
                Some(chunk) => Some(chunk?.map_err(|error| Failure::Message(error.0))),
                None => Some(failed(
                    "net/http: request canceled (Client.Timeout exceeded while reading body)",
                )),
            },
        }
    }

    /// Whether the time of the request is over.
    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    /// All that is left.
    ///
    /// # Errors
    /// Where the connection breaks.
    pub(crate) async fn all(&mut self) -> Outcome<Bytes> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.next().await {
            all.extend_from_slice(&chunk?);
        }
        Ok(all.freeze())
    }
}

/// A body of JSON documents, one a line: a watch.
#[derive(Debug)]
pub(crate) struct Events {
    chunks: Chunks,
    rest: BytesMut,
}

impl Events {
    /// Cuts a body at its lines.
    pub(crate) fn new(chunks: Chunks) -> Self {
        Self { chunks, rest: BytesMut::new() }
    }

    /// The type of the next event and its object; `None` at the end.
    ///
    /// # Errors
    /// A Status in place of an object; a broken connection.
    pub(crate) async fn next(&mut self) -> Outcome<Option<(String, Value)>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end + 1);
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                let mut event: Value = serde_json::from_slice(&line).map_err(|error| {
                    Failure::Message(format!("a watch event is no JSON: {error}"))
                })?;
                let object = event["object"].take();
                let kind = event["type"].as_str().unwrap_or_default().to_owned();
                if kind == "ERROR" {
                    let code = object["code"].as_u64().unwrap_or(500) as u16;
                    return Err(refusal(code, object.to_string().as_bytes()).into());
                }
                return Ok(Some((kind, object)));
            }
            match self.chunks.next().await {
                Some(Err(_)) if self.chunks.is_over() => return Ok(None),
                Some(chunk) => self.rest.extend_from_slice(&chunk?),
                None => return Ok(None),
            }
        }
    }
}

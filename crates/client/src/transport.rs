//! How a request reaches an API server.

use std::{fmt, future::Future, pin::Pin};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};

/// A boxed future, so that [`Transport`] is usable as an object.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A response's body.
pub enum Body {
    /// All of it.
    Full(Bytes),
    /// As it comes: a watch. Chunks need not end at event boundaries.
    Stream(Pin<Box<dyn Stream<Item = Result<Bytes, TransportError>> + Send>>),
}

impl Body {
    /// All of it, waited for.
    ///
    /// # Errors
    /// The connection ended before the body did.
    pub async fn collect(self) -> Result<Bytes, TransportError> {
        match self {
            Self::Full(bytes) => Ok(bytes),
            Self::Stream(mut stream) => {
                let mut all = BytesMut::new();
                while let Some(chunk) = stream.next().await {
                    all.extend_from_slice(&chunk?);
                }
                Ok(all.freeze())
            }
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// The request did not reach a server, or its answer got lost on the way.
/// A write may or may not have happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportError(pub String);

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TransportError {}

/// Sends requests as one identity. The URI is a path with a query and no
/// authority; a transport that crosses a network knows its servers.
pub trait Transport: Send + Sync + 'static {
    /// One request, one response; HTTP errors are responses.
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<Result<http::Response<Body>, TransportError>>;
}

//! Bodies of requests and responses.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use api_object::{Reason, Status};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::spliced::Spliced;

/// Upstream's limit for one request.
pub(crate) const REQUEST_BYTES_MAX: usize = 3 * 1024 * 1024;

/// A request's body, from a connection or from this process.
#[derive(Debug)]
pub(crate) enum RequestBody {
    Full(Bytes),
    Incoming(Incoming),
}

impl RequestBody {
    /// All of it.
    pub(crate) async fn read(self) -> Result<Bytes, Status> {
        let too_large = || {
            Status::failure(
                Reason::RequestEntityTooLarge,
                format!("Request entity too large: limit is {REQUEST_BYTES_MAX}"),
            )
        };
        let mut incoming = match self {
            Self::Full(bytes) if bytes.len() > REQUEST_BYTES_MAX => return Err(too_large()),
            Self::Full(bytes) => return Ok(bytes),
            Self::Incoming(incoming) => incoming,
        };
        // What says that it is too long is not waited for.
        let declared = http_body::Body::size_hint(&incoming).lower();
        if declared > REQUEST_BYTES_MAX as u64 {
            return Err(too_large());
        }
        let mut all = BytesMut::new();
        while let Some(frame) = incoming.frame().await {
            let frame = frame
                .map_err(|error| Status::bad_request(format!("reading the request: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if all.len() + data.len() > REQUEST_BYTES_MAX {
                return Err(too_large());
            }
            all.extend_from_slice(&data);
        }
        Ok(all.freeze())
    }
}

/// A response's body.
pub enum Body {
    /// All of it.
    Full(Bytes),
    /// A long list.
    Spliced(Spliced),
    /// A watch or a log.
    Chunks(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
    /// What somebody else answers, who may break off.
    Relayed(Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Self::Spliced(list) => write!(f, "Spliced({} bytes)", list.len()),
            Self::Chunks(_) => f.write_str("Chunks"),
            Self::Relayed(_) => f.write_str("Relayed"),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Spliced(list) => Poll::Ready(list.chunk().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Chunks(chunks) => {
                chunks.as_mut().poll_next(cx).map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::Relayed(chunks) => chunks
                .as_mut()
                .poll_next(cx)
                .map(|chunk| chunk.map(|result| result.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Spliced(list) => list.len() == 0,
            Self::Chunks(_) | Self::Relayed(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Spliced(list) => SizeHint::with_exact(list.len() as u64),
            Self::Chunks(_) | Self::Relayed(_) => SizeHint::default(),
        }
    }
}

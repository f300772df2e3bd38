//! gRPC over HTTP/2: both ends, on a connection that somebody else made.
//!
//! What servers of a cluster and its nodes tell each other is in `proto/`; this
//! is how it gets across: a request is a path and a stream of messages, the
//! answer a stream of messages and a [`Status`]. A message is bytes here; whoever
//! calls encodes and decodes. Messages, statuses and trailers are tonic's,
//! connections hyper's.
//!
//! This crate makes no connection and knows no TLS. Start at [`Client`] and
//! [`serve`].

#![warn(missing_docs)]

mod client;
mod raw;
mod server;
mod status;
#[cfg(test)]
mod tests;

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::Stream;

pub use client::{CallError, Client};
pub use server::{Call, Service, serve, serve_with};
pub use status::{Code, Status};

/// A future on the heap.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Messages of one direction of a call; ends after the first error.
pub type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// One message as a stream.
pub fn once(message: Bytes) -> Messages {
    Box::pin(futures_util::stream::once(async move { Ok(message) }))
}

/// No message is longer.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// What one end of a connection allows the other, and how it looks whether that
/// is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What may be on its way in one call before somebody has read it.
    pub stream_window_bytes: u32,
    /// The same of all calls together.
    pub connection_window_bytes: u32,
    /// While calls are open.
    pub ping_every: Duration,
    /// Without an answer in that time the connection ends.
    pub pong_max: Duration,
}

/// What may be on its way in one direction before somebody has read it.
const WINDOW_BYTES: u32 = 4 << 20;

//! Sessions in containers as clients speak them: exec, attach and port-forward, over the
//! channels of a WebSocket or the streams of SPDY. The API server has them behind its
//! `pods/exec`, a node on its own port; what is behind is `tunnel`'s frames either way.
//!
//! What can be refused before the connection changes is a `Status`; what is found out
//! afterwards goes over the session's error channel.

pub mod forward;
pub mod remote;
mod tunneled;
pub mod upgrade;
pub mod websocket;

use api_object::{Reason, Status};
use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::upgrade::OnUpgrade;
use tunnel::{BoxFuture, Open, OpenError, ServerEnd};

/// An answer without the body of a kind of server.
pub type Reply = Response<Bytes>;

/// A request whose connection is to become a session.
#[derive(Debug)]
pub struct Asked {
    /// All of the request's.
    pub headers: HeaderMap,
    /// The connection, once the client has the answer.
    pub upgrade: OnUpgrade,
}

/// Where a session is opened, and what it lives in.
pub trait Host: Send + Sync + 'static {
    /// Opens the side of the node.
    fn open(&self, open: Open) -> BoxFuture<Result<ServerEnd, OpenError>>;

    /// Runs a session until its end, or until the host's own.
    fn run(&self, session: BoxFuture<()>);
}

/// What a node's refusal is to a client.
pub fn refused(error: &OpenError) -> Status {
    match error {
        OpenError::NotFound(text) => Status::failure(Reason::NotFound, text.clone()),
        OpenError::BadRequest(text) => Status::bad_request(text.clone()),
        OpenError::NodeUnreachable(text) | OpenError::Failed(text) => Status::internal(text),
    }
}

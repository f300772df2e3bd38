//! Calls to plugins over their unix sockets: one connection a call, since they
//! restart as they like.

use std::{path::Path, time::Duration};

use prost::Message;
use tokio::{net::UnixStream, time::timeout};

/// Upstream's `csiTimeout`.
const CALL_MAX: Duration = Duration::from_secs(120);

/// As elsewhere, but for the pings: gRPC's Go servers end a connection that pings
/// more often than every five minutes, and a socket of this machine that nobody
/// listens at any more says so itself.
const SETTINGS: grpc::Settings = grpc::Settings {
    stream_window_bytes: 1 << 20,
    connection_window_bytes: 1 << 20,
    ping_every: Duration::from_secs(24 * 3600),
    pong_max: Duration::from_secs(60),
};

/// A connection to who listens at the socket.
///
/// # Errors
/// Where nobody does, in words for an event.
pub(crate) async fn connect(socket: &Path) -> Result<grpc::Client, String> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| format!("connection to {}: {error}", socket.display()))?;
    grpc::Client::start_with(stream, SETTINGS).await.map_err(told)
}

/// One question, one answer.
///
/// # Errors
/// What the plugin or the connection says, as upstream's events tell it.
pub(crate) async fn unary<Q: Message, A: Message + Default>(
    socket: &Path,
    method: &str,
    request: &Q,
) -> Result<A, String> {
    let call = async {
        let mut client = connect(socket).await?;
        let answer = client.unary(method, request.encode_to_vec().into()).await;
        A::decode(answer.map_err(told)?)
            .map_err(|error| format!("{method} answered what is not understood: {error}"))
    };
    match timeout(CALL_MAX, call).await {
        Ok(answer) => answer,
        Err(_) => Err("rpc error: code = DeadlineExceeded desc = context deadline exceeded".into()),
    }
}

/// A failed call in the words of Go's client.
pub(crate) fn told(error: grpc::CallError) -> String {
    match error {
        grpc::CallError::NotSent(text) => text,
        grpc::CallError::Failed(status) => {
            format!("rpc error: code = {:?} desc = {}", status.code, status.message)
        }
    }
}

/// SHA-256 of a text, in hexadecimal.
pub(crate) fn digest(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

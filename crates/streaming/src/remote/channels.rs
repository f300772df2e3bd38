//! Exec and attach over a WebSocket: one channel for each stream.

use std::{sync::Arc, time::Duration};

use api_object::Status;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{self, Message};
use tunnel::{Input, Open, Output, ServerEnd};

use super::{ended, failed, resized, told};
use crate::{
    Asked, Host, Reply,
    websocket::{self, Protocol, REMOTE, Said, Socket},
};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

/// How long the client may take to agree that the stream is over.
const CLOSE_MAX: Duration = Duration::from_secs(5);

pub(super) fn serve(host: Arc<dyn Host>, open: Open, asked: Asked) -> Result<Reply, Status> {
    let (reply, protocol) = websocket::handshake(&asked.headers, &REMOTE)?;
    let behind = host.clone();
    host.run(Box::pin(async move {
        let Some(mut socket) = websocket::socket(asked.upgrade).await else { return };
        // Older clients learn from an empty message that the connection is
        // there; those of version 5 complain of it.
        let (exec, first) = match &open {
            Open::Exec(_, _, stdio) => (true, first_channel(stdio)),
            Open::Attach(_, stdio) => (false, first_channel(stdio)),
            _ => (false, ERROR),
        };
        let greets = protocol != REMOTE[0];
        if greets && socket.send(protocol.message(first, b"")).await.is_err() {
            return;
        }
        match behind.open(open).await {
            Ok(stream) => relay(socket, stream, protocol, exec).await,
            Err(error) => finish(socket, protocol, &failed(error)).await,
        }
    }));
    Ok(reply)
}

/// The lowest channel that the client reads.
fn first_channel(stdio: &tunnel::Stdio) -> u8 {
    match (stdio.stdout, stdio.stderr) {
        (true, _) => STDOUT,
        (false, true) => STDERR,
        (false, false) => ERROR,
    }
}

/// Carries bytes both ways until the process ends or the client goes.
async fn relay(socket: Socket, stream: ServerEnd, protocol: Protocol, exec: bool) {
    let ServerEnd { input, mut output } = stream;
    let (mut sink, mut source) = socket.split();
    let reading = async {
        // No stdin yet is different from no stdin any more, so the sender stays
        // until the client is gone.
        while let Some(Ok(message)) = source.next().await {
            match message {
                Message::Close(_) => return,
                message => take(&input, protocol.read(&message)).await,
            }
        }
    };
    let writing = async {
        while let Some(frame) = output.recv().await {
            let (channel, bytes) = match frame {
                Output::Stdout(bytes) => (STDOUT, bytes),
                Output::Stderr(bytes) => (STDERR, bytes),
                Output::End(end) => return Some(ended(&end, exec)),
            };
            if sink.send(protocol.message(channel, &bytes)).await.is_err() {
                return None;
            }
        }
        Some(failed("the node ended the stream without an outcome"))
    };
    let outcome = tokio::select! {
        () = reading => None,
        outcome = writing => outcome,
    };
    let Some(status) = outcome else { return };
    if let Ok(socket) = sink.reunite(source) {
        finish(socket, protocol, &status).await;
    }
}

/// One message of the client.
async fn take(input: &mpsc::Sender<Input>, said: Said) {
    let frame = match said {
        Said::Data(STDIN, bytes) if !bytes.is_empty() => Some(Input::Data(bytes)),
        Said::Close(STDIN) => Some(Input::Close),
        Said::Data(RESIZE, bytes) => {
            serde_json::from_slice(&bytes).ok().and_then(|size| resized(&size))
        }
        Said::Data(..) | Said::Close(_) | Said::Empty => None,
    };
    if let Some(frame) = frame {
        // A node that no longer listens has already sent its outcome.
        let _ = input.send(frame).await;
    }
}

/// Tells the outcome and closes the socket.
async fn finish(mut socket: Socket, protocol: Protocol, status: &Value) {
    let told = told(status, protocol.outcome);
    let ending = async {
        if !told.is_empty() {
            socket.send(protocol.message(ERROR, &told)).await?;
        }
        socket.close(Some(websocket::normal_end())).await?;
        // The client's own close frame, so that nothing it still sends resets
        // the connection before it has read the outcome.
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() {
                break;
            }
        }
        Ok::<(), tungstenite::Error>(())
    };
    let _ = tokio::time::timeout(CLOSE_MAX, ending).await;
}

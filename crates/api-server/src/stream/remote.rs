//! `pods/exec` and `pods/attach`: stdin, stdout, stderr, the outcome and the
//! terminal's size, each on a channel of one WebSocket.

use std::{sync::Arc, time::Duration};

use api_object::Status;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};
use tunnel::{End, Input, Open, Output, ServerEnd, Stdio};

use super::{
    pod,
    websocket::{self, CHANNELS, Protocol, Said},
};
use crate::{ApiServer, chain::Asked, counts::Label, path::flag, respond::Reply};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

/// How long the client may take to agree that the stream is over.
const CLOSE_MAX: Duration = Duration::from_secs(5);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

pub(super) async fn serve(
    server: &Arc<ApiServer>,
    object: &Value,
    asked: Asked,
    label: &Label,
    exec: bool,
) -> Result<Reply, Status> {
    let query = &asked.query;
    let tty = flag(query, "tty");
    let stdio = Stdio {
        stdin: flag(query, "stdin"),
        stdout: flag(query, "stdout"),
        // A terminal has one output.
        stderr: flag(query, "stderr") && !tty,
        tty,
    };
    if !(stdio.stdin || stdio.stdout || stdio.stderr) {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    let command: Vec<String> =
        query.iter().filter(|(key, _)| key == "command").map(|(_, value)| value.clone()).collect();
    if exec && command.is_empty() {
        return Err(Status::bad_request("you must specify a command to run"));
    }
    let container = pod::container(object, asked.parameter("container"))?;
    let (node, target) = pod::target(object, container)?;
    let (reply, protocol) = websocket::handshake(&asked.head.headers, &CHANNELS)?;
    let open = match exec {
        true => Open::Exec(target, command, stdio),
        false => Open::Attach(target, stdio),
    };
    let (server, counted) = (server.clone(), server.counts.longrunning(label));
    tokio::spawn(async move {
        let _counted = counted;
        let socket = match websocket::socket(asked.upgrade).await {
            Ok(socket) => socket,
            Err(error) => return tracing::debug!("a client left before its stream: {error}"),
        };
        let closing = server.closing();
        match server.parts.nodes.open(&node, open).await {
            Ok(stream) => {
                tokio::select! {
                    () = relay(socket, stream, protocol, exec) => {}
                    () = closing => {}
                }
            }
            Err(error) => finish(socket, &failed(error)).await,
        }
    });
    Ok(reply)
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
                Message::Binary(bytes) => take(&input, &bytes, protocol).await,
                Message::Text(text) => take(&input, &Bytes::from(text), protocol).await,
                Message::Close(_) => return,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    };
    let writing = async {
        while let Some(frame) = output.recv().await {
            let (channel, bytes) = match frame {
                Output::Stdout(bytes) => (STDOUT, bytes),
                Output::Stderr(bytes) => (STDERR, bytes),
                Output::End(end) => return Some(outcome(&end, exec)),
            };
            if sink.send(Message::Binary(websocket::message(channel, &bytes))).await.is_err() {
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
        finish(socket, &status).await;
    }
}

/// One message of the client.
async fn take(input: &mpsc::Sender<Input>, bytes: &Bytes, protocol: Protocol) {
    let frame = match websocket::split(bytes, protocol) {
        Said::Data(STDIN, bytes) if !bytes.is_empty() => Input::Data(bytes),
        Said::Close(STDIN) => Input::Close,
        Said::Data(RESIZE, bytes) => match size(&bytes) {
            Some((width, height)) => Input::Resize { width, height },
            None => return,
        },
        Said::Data(..) | Said::Close(_) | Said::Empty => return,
    };
    // A node that no longer listens has already sent its outcome.
    let _ = input.send(frame).await;
}

/// `{"Width":80,"Height":24}`.
fn size(bytes: &[u8]) -> Option<(u16, u16)> {
    let size: Value = serde_json::from_slice(bytes).ok()?;
    let number = |key: &str| size.get(key)?.as_u64().and_then(|n| u16::try_from(n).ok());
    Some((number("Width")?, number("Height")?))
}

/// What the error channel says at the end; not quite an ordinary Status.
fn outcome(end: &End, exec: bool) -> Value {
    match end {
        End::Exited(code) if *code != 0 && exec => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        End::Exited(_) => json!({"metadata": {}, "status": "Success"}),
        End::Failed(why) => failed(why),
    }
}

/// The Status of a stream that broke.
fn failed(why: impl std::fmt::Display) -> Value {
    serde_json::to_value(Status::internal(why)).unwrap_or_default()
}

/// Tells the outcome and closes the socket.
async fn finish(mut socket: Socket, status: &Value) {
    let told = async {
        socket
            .send(Message::Binary(websocket::message(ERROR, status.to_string().as_bytes())))
            .await?;
        socket.close(Some(websocket::normal_end())).await?;
        // The client's own close frame, so that nothing it still sends resets
        // the connection before it has read the outcome.
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() {
                break;
            }
        }
        Ok::<(), tokio_tungstenite::tungstenite::Error>(())
    };
    let _ = tokio::time::timeout(CLOSE_MAX, told).await;
}

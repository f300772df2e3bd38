//! Port-forward over the channels of a WebSocket: two channels a port, one for
//! bytes and one for errors, each opened with the port's number.

use std::collections::BTreeMap;

use api_object::Status;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tunnel::{End, Input, Output};

use super::streams::To;
use crate::{
    Asked, Reply,
    websocket::{self, FORWARD, Protocol, Said},
};

/// Ports of one connection: their channels are one character, also as text.
const PORTS_MAX: usize = 39;

pub(super) fn serve(to: To, key: &str, given: &[&str], asked: Asked) -> Result<Reply, Status> {
    let (reply, protocol) = websocket::handshake(&asked.headers, &FORWARD)?;
    let ports = ports(key, given)?;
    let host = to.host.clone();
    host.run(Box::pin(async move {
        let Some(socket) = websocket::socket(asked.upgrade).await else { return };
        relay(socket, protocol, &to, &ports).await;
    }));
    Ok(reply)
}

async fn relay(socket: websocket::Socket, protocol: Protocol, to: &To, ports: &[u16]) {
    let (mut sink, mut source) = socket.split();
    let (messages, mut queue) = mpsc::channel::<Message>(tunnel::FRAMES_IN_FLIGHT_MAX);
    let mut pumps = tokio::task::JoinSet::new();
    let reading = async {
        let mut inputs: BTreeMap<u8, mpsc::Sender<Input>> = BTreeMap::new();
        for (index, port) in (0u8..).zip(ports) {
            let (data, error) = (index * 2, index * 2 + 1);
            // Both channels begin with the port, lowest byte first.
            for channel in [data, error] {
                let _ = messages.send(protocol.message(channel, &port.to_le_bytes())).await;
            }
            match to.open(*port).await {
                Ok(stream) => {
                    inputs.insert(data, stream.input);
                    let (to, port, messages) = (to.clone(), *port, messages.clone());
                    pumps.spawn(async move {
                        let failed = |why: &str| to.failed(port, why);
                        pump(stream.output, messages, protocol, (data, error), failed).await;
                    });
                }
                Err(why) => {
                    let _ = messages.send(protocol.message(error, why.as_bytes())).await;
                }
            }
        }
        drop(messages);
        while let Some(Ok(message)) = source.next().await {
            if message.is_close() {
                return;
            }
            let (channel, frame) = match protocol.read(&message) {
                Said::Data(channel, bytes) if !bytes.is_empty() => (channel, Input::Data(bytes)),
                Said::Close(channel) => (channel, Input::Close),
                Said::Data(..) | Said::Empty => continue,
            };
            if let Some(input) = inputs.get(&channel) {
                // A port whose connection has ended takes no more.
                let _ = input.send(frame).await;
            }
        }
    };
    let writing = async {
        while let Some(message) = queue.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let _ = sink.close().await;
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}

async fn pump(
    mut output: mpsc::Receiver<Output>,
    messages: mpsc::Sender<Message>,
    protocol: Protocol,
    (data, error): (u8, u8),
    failed: impl Fn(&str) -> String,
) {
    while let Some(frame) = output.recv().await {
        let message = match frame {
            Output::Stdout(bytes) => protocol.message(data, &bytes),
            Output::End(End::Failed(why)) => protocol.message(error, failed(&why).as_bytes()),
            Output::Stderr(_) | Output::End(End::Exited(_)) => continue,
        };
        if messages.send(message).await.is_err() {
            return;
        }
    }
}

/// Reads `ports=80&ports=443` or `ports=80,443`.
fn ports(key: &str, given: &[&str]) -> Result<Vec<u16>, Status> {
    let ports: Result<Vec<u16>, Status> = given
        .iter()
        .flat_map(|value| value.split(','))
        .map(|text| match text.trim().parse() {
            Ok(0) => Err(Status::bad_request("port must be > 0")),
            Ok(port) => Ok(port),
            Err(_) => Err(Status::bad_request(format!("unable to parse port \"{text}\""))),
        })
        .collect();
    match ports?.as_slice() {
        [] => Err(Status::bad_request(format!("query parameter \"{key}\" is required"))),
        many if many.len() > PORTS_MAX => Err(Status::bad_request("too many ports")),
        ports => Ok(ports.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_or_refused() {
        assert_eq!(ports("ports", &["80", "443,8080"]), Ok(vec![80, 443, 8080]));
        for given in [&[][..], &[""], &["0"], &["70000"], &["x"], &["80,"]] {
            assert_eq!(ports("port", given).expect_err("no port").code, 400);
        }
        let none = ports("port", &[]).expect_err("none");
        assert_eq!(none.message, "query parameter \"port\" is required");
    }
}

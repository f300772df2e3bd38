//! `pods/portforward` over `v4.channel.k8s.io`: two channels a port, one for
//! bytes and one for errors, each opened with the port's number.
//!
//! kubectl tunnels SPDY through a WebSocket instead; that is another protocol.

use std::{collections::BTreeMap, sync::Arc};

use api_object::Status;
use api_schema::tree;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tunnel::{Input, Open, Output};

use super::{
    pod,
    websocket::{self, CHANNELS, Said, Wish},
};
use crate::{ApiServer, chain::Asked, counts::Label, respond::Reply};

/// Ports of one connection; channels are one byte.
const PORTS_MAX: usize = 100;

pub(super) async fn serve(
    server: &Arc<ApiServer>,
    object: &Value,
    asked: Asked,
    label: &Label,
) -> Result<Reply, Status> {
    let containers = tree::list(object, "spec.containers");
    let container = containers.first().map_or("", |first| tree::text(first, "name"));
    let (node, target) = pod::target(object, container.to_owned())?;
    if websocket::wish(&asked.head.headers) == Wish::Spdy {
        return Err(Status::bad_request(
            "kubectl port-forward speaks SPDY, which is not served yet",
        ));
    }
    // First, since clients that tunnel SPDY name their ports inside of it.
    let (reply, protocol) = websocket::handshake(&asked.head.headers, &CHANNELS)?;
    let ports = ports(&asked.query)?;
    let (server, counted) = (server.clone(), server.counts.longrunning(label));
    tokio::spawn(async move {
        let _counted = counted;
        let Ok(socket) = websocket::socket(asked.upgrade).await else { return };
        let (mut sink, mut source) = socket.split();
        let (messages, mut queue) = mpsc::channel::<Bytes>(tunnel::FRAMES_IN_FLIGHT_MAX);
        let mut inputs: BTreeMap<u8, mpsc::Sender<Input>> = BTreeMap::new();
        let mut pumps = tokio::task::JoinSet::new();
        for (index, port) in (0u8..).zip(&ports) {
            let (data, error) = (index * 2, index * 2 + 1);
            let opened = server.parts.nodes.open(&node, Open::PortForward(target.clone(), *port));
            let opened = opened.await;
            // Both channels begin with the port, lowest byte first.
            for channel in [data, error] {
                let _ = messages.send(websocket::message(channel, &port.to_le_bytes())).await;
            }
            match opened {
                Ok(stream) => {
                    inputs.insert(data, stream.input);
                    pumps.spawn(pump(stream.output, messages.clone(), data, error));
                }
                Err(why) => {
                    let text = format!("error forwarding port {port} to pod: {why}");
                    let _ = messages.send(websocket::message(error, text.as_bytes())).await;
                }
            }
        }
        drop(messages);
        let reading = async {
            while let Some(Ok(message)) = source.next().await {
                let bytes = match message {
                    Message::Binary(bytes) => bytes,
                    Message::Close(_) => return,
                    _ => continue,
                };
                match websocket::split(&bytes, protocol) {
                    Said::Data(channel, bytes) if !bytes.is_empty() => {
                        if let Some(input) = inputs.get(&channel) {
                            let _ = input.send(Input::Data(bytes)).await;
                        }
                    }
                    Said::Close(channel) => {
                        if let Some(input) = inputs.get(&channel) {
                            let _ = input.send(Input::Close).await;
                        }
                    }
                    Said::Data(..) | Said::Empty => {}
                }
            }
        };
        let writing = async {
            while let Some(message) = queue.recv().await {
                if sink.send(Message::Binary(message)).await.is_err() {
                    return;
                }
            }
            let _ = sink.close().await;
        };
        tokio::select! {
            () = reading => {}
            () = writing => {}
            () = server.closing() => {}
        }
    });
    Ok(reply)
}

async fn pump(
    mut output: mpsc::Receiver<Output>,
    messages: mpsc::Sender<Bytes>,
    data: u8,
    error: u8,
) {
    while let Some(frame) = output.recv().await {
        let message = match frame {
            Output::Stdout(bytes) => websocket::message(data, &bytes),
            Output::Stderr(bytes) => websocket::message(error, &bytes),
            Output::End(tunnel::End::Failed(why)) => websocket::message(error, why.as_bytes()),
            Output::End(tunnel::End::Exited(_)) => return,
        };
        if messages.send(message).await.is_err() {
            return;
        }
    }
}

/// Reads `ports=80&ports=443` or `ports=80,443`.
fn ports(query: &[(String, String)]) -> Result<Vec<u16>, Status> {
    let given = query.iter().filter(|(key, _)| key == "ports");
    let ports: Result<Vec<u16>, Status> = given
        .flat_map(|(_, value)| value.split(','))
        .map(|text| match text.trim().parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(Status::bad_request(format!("invalid port {text:?}"))),
        })
        .collect();
    match ports?.as_slice() {
        [] => Err(Status::bad_request("query parameter \"ports\" is required")),
        many if many.len() > PORTS_MAX => Err(Status::bad_request("too many ports")),
        ports => Ok(ports.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::parse_query;

    #[test]
    fn ports_are_read_or_refused() {
        assert_eq!(ports(&parse_query("ports=80&ports=443,8080")), Ok(vec![80, 443, 8080]));
        for query in ["", "ports=", "ports=0", "ports=70000", "ports=x"] {
            assert_eq!(ports(&parse_query(query)).expect_err(query).code, 400);
        }
    }
}

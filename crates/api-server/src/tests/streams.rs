//! Logs and exec over a real connection, with a node made of channels.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};
use tunnel::{End, Input, NodeStreams, Open, OpenError, Output, ServerEnd};

use super::harness::{Cluster, PODS, cluster, pod};

/// Echoes stdin in upper case and exits with 3; logs a line; forwards to an
/// echo, but port 9 where nobody listens.
pub(super) struct Echo;

impl NodeStreams for Echo {
    fn open(&self, open: Open) -> tunnel::BoxFuture<Result<ServerEnd, OpenError>> {
        let (server, mut node) = tunnel::pair();
        if let Open::Exec(_, command, _) = &open
            && command == &["missing"]
        {
            return Box::pin(async {
                Err(OpenError::Failed("container not found (\"c\")".into()))
            });
        }
        tokio::spawn(async move {
            let connection = matches!(open, Open::PortForward(..) | Open::Connect(..));
            if matches!(open, Open::PortForward(_, 9)) {
                let refused = End::Failed("connect: connection refused".into());
                let _ = node.output.send(Output::End(refused)).await;
                return;
            }
            if let Open::Logs(_, options) = open {
                let _ = node.output.send(Output::Stdout("one\n".into())).await;
                if options.follow {
                    // Ends when the client goes.
                    while node.input.recv().await.is_some() {}
                }
                return;
            }
            while let Some(input) = node.input.recv().await {
                match input {
                    Input::Data(bytes) => {
                        let _ = node
                            .output
                            .send(Output::Stdout(bytes.to_ascii_uppercase().into()))
                            .await;
                    }
                    Input::Resize { width, height } => {
                        let text = format!("{width}x{height}");
                        let _ = node.output.send(Output::Stderr(text.into())).await;
                    }
                    Input::Close => break,
                }
            }
            if !connection {
                let _ = node.output.send(Output::End(End::Exited(3))).await;
            }
        });
        Box::pin(async { Ok(server) })
    }
}

pub(super) async fn listening() -> (Cluster, std::net::SocketAddr) {
    let cluster = cluster();
    cluster.server.parts.nodes.insert("n", Arc::new(Echo));
    cluster.create(PODS, pod("p", "n")).await;
    cluster.create(PODS, pod("pending", "")).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(cluster.server.clone().serve(listener, None, std::future::pending()));
    (cluster, address)
}

/// The answer's head and the connection after it.
async fn ask(address: std::net::SocketAddr, path: &str, protocol: &str) -> (String, TcpStream) {
    let upgrade = match protocol {
        "" => String::new(),
        protocol => format!(
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\nSec-WebSocket-Protocol: {protocol}\r\n",
            STANDARD.encode([7; 16])
        ),
    };
    request(address, "GET", path, &upgrade).await
}

/// The same with any method and headers.
pub(super) async fn request(
    address: std::net::SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(address).await.expect("listening");
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\n{headers}\r\n"
    );
    stream.write_all(text.as_bytes()).await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a head"));
    }
    (String::from_utf8(head).expect("text"), stream)
}

pub(super) async fn socket(
    address: std::net::SocketAddr,
    path: &str,
    protocol: &str,
) -> WebSocketStream<TcpStream> {
    let (head, stream) = ask(address, path, protocol).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(
        head.to_ascii_lowercase()
            .contains(&format!("sec-websocket-protocol: {protocol}").to_ascii_lowercase())
    );
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}

async fn binary(socket: &mut WebSocketStream<TcpStream>) -> Vec<u8> {
    loop {
        match socket.next().await.expect("open").expect("whole") {
            // One byte is a channel's number: the connection is there.
            Message::Binary(bytes) if bytes.len() == 1 => {}
            Message::Binary(bytes) => return bytes.to_vec(),
            Message::Text(text) => return text.as_bytes().to_vec(),
            Message::Close(_) => return Vec::new(),
            _ => {}
        }
    }
}

const EXEC: &str = "/api/v1/namespaces/default/pods/p/exec?command=cat&stdin=1&stdout=1&stderr=1";

#[tokio::test]
async fn exec_ends_its_input_and_tells_the_exit_code() {
    let (_cluster, address) = listening().await;
    let mut socket = socket(address, EXEC, "v5.channel.k8s.io").await;
    let send = |bytes: &[u8]| Message::Binary(bytes.to_vec().into());
    socket.send(send(b"\0hello")).await.expect("open");
    assert_eq!(binary(&mut socket).await, b"\x01HELLO");
    socket.send(send(b"\x04{\"Width\":80,\"Height\":24}")).await.expect("open");
    assert_eq!(binary(&mut socket).await, b"\x0280x24");
    socket.send(send(&[255, 0])).await.expect("open");
    let end = binary(&mut socket).await;
    assert_eq!(end[0], 3);
    let status: Value = serde_json::from_slice(&end[1..]).expect("a Status");
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"], json!([{"reason": "ExitCode", "message": "3"}]));
    assert_eq!(binary(&mut socket).await, b"", "closed");
}

#[tokio::test]
async fn older_protocols_of_exec() {
    let (_cluster, address) = listening().await;
    for (protocol, typed, echoed) in [
        ("v4.channel.k8s.io", &b"\0hello"[..], &b"\x01HELLO"[..]),
        ("v4.base64.channel.k8s.io", b"0aGVsbG8=", b"1SEVMTE8="),
        ("channel.k8s.io", b"\0hello", b"\x01HELLO"),
        ("base64.channel.k8s.io", b"0aGVsbG8=", b"1SEVMTE8="),
    ] {
        let mut socket = socket(address, EXEC, protocol).await;
        let first = socket.next().await.expect("open").expect("whole");
        assert_eq!(first.len(), 1, "{protocol} begins with an empty message");
        let message = match protocol.contains("base64") {
            true => Message::text(String::from_utf8(typed.to_vec()).expect("text")),
            false => Message::binary(typed.to_vec()),
        };
        socket.send(message).await.expect("open");
        assert_eq!(binary(&mut socket).await, echoed, "{protocol}");
        socket.close(None).await.expect("open");
    }
}

#[tokio::test]
async fn logs_over_a_websocket() {
    let (_cluster, address) = listening().await;
    let log = "/api/v1/namespaces/default/pods/p/log";
    for (protocol, text) in
        [("binary.k8s.io", &b"one\n"[..]), ("base64.binary.k8s.io", b"b25lCg==")]
    {
        let mut socket = socket(address, log, protocol).await;
        let first = socket.next().await.expect("open").expect("whole");
        assert!(first.is_empty(), "{protocol} begins with an empty message");
        assert_eq!(binary(&mut socket).await, text, "{protocol}");
        assert_eq!(binary(&mut socket).await, b"", "{protocol} is closed");
    }
}

#[tokio::test]
async fn what_the_node_refuses_comes_over_the_error_channel() {
    let (_cluster, address) = listening().await;
    let path = "/api/v1/namespaces/default/pods/p/exec?command=missing&stdout=1";
    let mut socket = socket(address, path, "v4.channel.k8s.io").await;
    let end = binary(&mut socket).await;
    let status: Value = serde_json::from_slice(&end[1..]).expect("a Status");
    assert_eq!(status["message"], "Internal error occurred: container not found (\"c\")");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_the_stream() {
    let (cluster, address) = listening().await;
    for (path, message) in [
        ("p/exec?command=a", "you must specify at least 1 of stdin, stdout, stderr"),
        ("p/exec?stdout=1", "you must specify a command to run"),
        ("p/exec?command=a&stdout=1&container=x", "container x is not valid for pod p"),
        ("pending/exec?command=a&stdout=1", "pod pending does not have a host assigned"),
        ("p/exec?command=a&stdout=1", "Upgrade request required"),
        ("p/portforward", "Upgrade request required"),
        ("none/exec?command=a&stdout=1", "pods \"none\" not found"),
    ] {
        let answer = cluster.get(&format!("{PODS}/{path}")).await;
        assert_eq!(answer.message(), message, "{path}");
    }
    let forward = "/api/v1/namespaces/default/pods/p/portforward";
    let (head, _) = ask(address, forward, "v4.channel.k8s.io").await;
    assert!(head.starts_with("HTTP/1.1 400"), "ports are missing: {head}");
    let (head, _) = ask(address, EXEC, "chat").await;
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
}

#[tokio::test]
async fn logs_are_text() {
    let (cluster, address) = listening().await;
    let log = "/api/v1/namespaces/default/pods/p/log";
    let (head, mut stream) = ask(address, log, "").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain"), "{head}");
    let mut body = vec![0; 64];
    let count = stream.read(&mut body).await.expect("a chunk");
    assert!(String::from_utf8_lossy(&body[..count]).contains("one\n"));
    let pending = cluster.get(&format!("{PODS}/pending/log")).await;
    assert_eq!((pending.code, pending.body), (200, json!("")));
    assert_eq!(cluster.get(&format!("{log}?tailLines=-1")).await.code, 422);
}

#[tokio::test]
async fn ports_are_forwarded() {
    let (_cluster, address) = listening().await;
    let path = "/api/v1/namespaces/default/pods/p/portforward?ports=80";
    let mut socket = socket(address, path, "v4.channel.k8s.io").await;
    assert_eq!(binary(&mut socket).await, [0, 80, 0]);
    assert_eq!(binary(&mut socket).await, [1, 80, 0]);
    socket.send(Message::Binary(b"\0abc".to_vec().into())).await.expect("open");
    assert_eq!(binary(&mut socket).await, b"\0ABC");
}

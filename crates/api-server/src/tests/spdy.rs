//! Exec and port-forward over SPDY, as client-go speaks it.

use std::net::SocketAddr;

use serde_json::{Value, json};
use spdy::{Limits, Session, Side, Stream};
use streaming::upgrade::{IDLE_MAX, PING_EVERY};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio_tungstenite::tungstenite::Message;

use super::streams::{listening, request, socket};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn wish(protocols: &[&str]) -> String {
    let lines = protocols.iter().map(|name| format!("X-Stream-Protocol-Version: {name}\r\n"));
    format!("Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n{}", lines.collect::<String>())
}

fn client(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Session {
    let (session, driver) = spdy::session(io, Side::Client, Limits::default());
    tokio::spawn(driver.run(PING_EVERY, IDLE_MAX));
    session
}

async fn connected(address: SocketAddr, method: &str, path: &str, protocol: &str) -> Session {
    let path = format!("{PODS}/{path}");
    let (head, stream) = request(address, method, &path, &wish(&["v9", protocol])).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let agreed = format!("x-stream-protocol-version: {protocol}\r\n");
    assert!(head.to_ascii_lowercase().contains(&agreed), "{head}");
    client(stream)
}

fn open(session: &Session, headers: &[(&str, &str)]) -> Stream {
    session.open(headers.iter().copied().collect()).expect("room")
}

async fn all(mut stream: impl AsyncRead + Unpin) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("whole");
    text
}

#[tokio::test]
async fn exec_ends_its_input_and_tells_the_exit_code() {
    let (_cluster, address) = listening().await;
    let text = "command terminated with non-zero exit code: exit status 3";
    for (method, protocol) in [
        ("POST", "v4.channel.k8s.io"),
        ("GET", "v4.channel.k8s.io"),
        ("POST", "v3.channel.k8s.io"),
        ("POST", "v2.channel.k8s.io"),
    ] {
        let path = "p/exec?command=cat&stdin=1&stdout=1&stderr=1";
        let session = connected(address, method, path, protocol).await;
        let [error, mut stdin, stdout, stderr] = ["error", "stdin", "stdout", "stderr"]
            .map(|name| open(&session, &[("streamtype", name)]));
        stdin.write_all(b"hello").await.expect("open");
        stdin.shutdown().await.expect("open");
        assert_eq!((all(stdout).await, all(stderr).await), ("HELLO".into(), String::new()));
        let outcome = all(error).await;
        if protocol != "v4.channel.k8s.io" {
            assert_eq!(outcome, text);
            continue;
        }
        let status: Value = serde_json::from_str(&outcome).expect("a Status");
        assert_eq!(
            (&status["reason"], &status["message"]),
            (&json!("NonZeroExitCode"), &json!(text))
        );
        let causes = json!([{"reason": "ExitCode", "message": "3"}]);
        assert_eq!(status["details"]["causes"], causes);
    }
}

#[tokio::test]
async fn a_terminal_changes_its_size() {
    let (_cluster, address) = listening().await;
    let path = "p/attach?stdin=1&stdout=1&stderr=1&tty=1";
    let session = connected(address, "POST", path, "v4.channel.k8s.io").await;
    let [_error, mut stdin, mut stdout, mut resize] =
        ["error", "stdin", "stdout", "resize"].map(|name| open(&session, &[("streamtype", name)]));
    // A terminal has one output, so what the node says of its size is not heard.
    let sizes = b"{\"Width\":80,\"Height\":24}{\"Width\":8";
    resize.write_all(sizes).await.expect("open");
    resize.write_all(b"1,\"Height\":25}\n").await.expect("open");
    stdin.write_all(b"x").await.expect("open");
    assert_eq!(stdout.read_u8().await.expect("open"), b'X');
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_the_connection_changes() {
    let (_cluster, address) = listening().await;
    let exec = format!("{PODS}/p/exec?command=cat&stdout=1");
    let (head, _) = request(address, "POST", &exec, &wish(&["channel.k8s.io"])).await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert!(head.contains("x-accepted-stream-protocol-versions: v4.channel.k8s.io\r\n"), "{head}");
    let missing = format!("{PODS}/p/exec?command=missing&stdout=1");
    let (head, _) = request(address, "POST", &missing, &wish(&["v4.channel.k8s.io"])).await;
    assert!(head.starts_with("HTTP/1.1 500"), "{head}");
    let ports = format!("{PODS}/p/portforward");
    let (head, _) = request(address, "POST", &ports, &wish(&["v4.channel.k8s.io"])).await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
}

/// Sixty connections, one to a port where nobody is, and a half-closed one.
async fn ports_are_forwarded(session: Session) {
    let pair = |request: usize, port: &str| {
        ["error", "data"].map(|part| {
            let request = request.to_string();
            let headers = [("streamtype", part), ("port", port), ("requestid", request.as_str())];
            open(&session, &headers)
        })
    };
    let mut connections = Vec::new();
    for request in 0..60 {
        let [mut error, data] = pair(request, "80");
        error.shutdown().await.expect("open");
        connections.push((error, data));
    }
    for (_, data) in &mut connections {
        data.write_all(b"hello").await.expect("open");
    }
    for (error, mut data) in connections {
        let mut echoed = [0; 5];
        data.read_exact(&mut echoed).await.expect("open");
        assert_eq!(&echoed, b"HELLO");
        // The echo ends with its input and still says what it has.
        data.write_all(b"more").await.expect("open");
        data.shutdown().await.expect("open");
        assert_eq!((all(data).await, all(error).await), ("MORE".into(), String::new()));
    }
    let [error, data] = pair(99, "9");
    let why = all(error).await;
    assert!(why.starts_with("error forwarding port 9 to pod p, uid "), "{why}");
    assert!(why.ends_with(": connect: connection refused"), "{why}");
    assert_eq!(all(data).await, "");
    let mut odd = open(&session, &[("streamtype", "data"), ("port", "x")]);
    assert!(odd.read_u8().await.is_err(), "a port that is none");
}

#[tokio::test]
async fn ports_are_forwarded_over_spdy() {
    let (_cluster, address) = listening().await;
    let session = connected(address, "POST", "p/portforward", "portforward.k8s.io").await;
    ports_are_forwarded(session).await;
}

#[tokio::test]
async fn ports_are_forwarded_over_spdy_in_a_websocket() {
    let (_cluster, address) = listening().await;
    let path = format!("{PODS}/p/portforward");
    let socket = socket(address, &path, "SPDY/3.1+portforward.k8s.io").await;
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(tunnel(socket, far));
    ports_are_forwarded(client(near)).await;
}

/// The client's side of the tunnel, message by message.
async fn tunnel(
    socket: tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>,
    io: DuplexStream,
) {
    use futures_util::{SinkExt, StreamExt};
    let (mut sink, mut source) = socket.split();
    let (mut read, mut write) = tokio::io::split(io);
    let out = async {
        let mut buffer = vec![0; 700];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            let message = Message::binary(buffer[..count].to_vec());
            if sink.send(message).await.is_err() {
                return;
            }
        }
    };
    let back = async {
        while let Some(Ok(Message::Binary(bytes))) = source.next().await {
            if write.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = out => {}, () = back => {} }
}

//! A server behind its real listener, TLS included, and clients that write
//! every byte themselves.

use std::{io, net::SocketAddr, sync::Arc};

use pki::{CertificateName, Names, Pki};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};

use super::harness::{Cluster, cluster};
use crate::opening::PREFACE;

pub(super) type Stream = TlsStream<TcpStream>;

/// A listening server.
pub(super) struct Listening {
    pub(super) cluster: Cluster,
    pub(super) address: SocketAddr,
    pki: Pki,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Listening {
    pub(super) async fn start() -> Self {
        let cluster = cluster();
        let dir = tempfile::tempdir().expect("a directory");
        let names = Names {
            node_name: "n".into(),
            node_ips: vec!["127.0.0.1".parse().expect("an address")],
            cluster_domain: "cluster.local".into(),
            service_ips: Vec::new(),
            tls_sans: Vec::new(),
        };
        let (pki, _) = Pki::open(dir.path(), &names, jiff::Timestamp::now()).expect("a new one");
        let tls = pki.server_config(&[b"h2", b"http/1.1"]).expect("our own CA");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel();
        let serving =
            tokio::spawn(cluster.server.clone().serve(listener, Some(tls.into()), async {
                let _ = stopped.await;
            }));
        Self { cluster, address, pki, stop, serving }
    }

    pub(super) async fn connect(&self, protocol: &[u8]) -> Stream {
        let config = self.pki.client_config(CertificateName::Admin, &[protocol]);
        let connector = TlsConnector::from(Arc::new(config.expect("our own CA")));
        let stream = TcpStream::connect(self.address).await.expect("listening");
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        connector.connect(name, stream).await.expect("a handshake")
    }

    /// A connection of HTTP/1.1.
    pub(super) async fn plain(&self) -> Stream {
        self.connect(b"http/1.1").await
    }

    /// A connection of HTTP/2 with these settings of the client's.
    pub(super) async fn frames(&self, settings: &[(u16, u32)]) -> Frames {
        let mut frames = Frames { stream: self.connect(b"h2").await };
        frames.stream.write_all(PREFACE).await.expect("is read");
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend_from_slice(&name.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        frames.send(&[Frame::new(SETTINGS, 0, 0, payload)]).await.expect("is read");
        frames
    }

    /// One request on a connection of its own: the answer's code and text.
    pub(super) async fn ask(&self, head: &str, body: &[u8]) -> (u16, String) {
        let mut stream = self.plain().await;
        let head = format!(
            "{head}\r\nHost: x\r\nAuthorization: Bearer admin\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).await.expect("is read");
        answer(&mut stream).await
    }

    /// Another client is answered.
    pub(super) async fn answers(&self) {
        let (code, text) = self.ask("GET /version HTTP/1.1", b"").await;
        assert_eq!(code, 200, "{text}");
    }

    /// How many watches are served.
    pub(super) fn watches(&self) -> u64 {
        let text = self.cluster.server.parts.metrics.text();
        let lines = text.lines().filter(|line| line.starts_with("apiserver_longrunning_requests{"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// The end of the server, which waits for its connections.
    pub(super) async fn end(self) {
        self.stop.send(()).expect("still serving");
        self.serving.await.expect("without a panic");
    }
}

/// Reads to the end of the connection: the code and the text after the head.
pub(super) async fn answer(stream: &mut Stream) -> (u16, String) {
    let text = rest(stream).await;
    let code = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    (code, body.unwrap_or_default())
}

/// All that the server still says.
pub(super) async fn rest(stream: &mut Stream) -> String {
    let mut all = Vec::new();
    // A server that refuses does not read to the end, which resets connections.
    let _ = stream.read_to_end(&mut all).await;
    String::from_utf8_lossy(&all).into_owned()
}

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// Names of settings.
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;

/// RFC 9113, section 4.1.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// A request without a body.
    pub(super) fn get(stream: u32, path: &str) -> Self {
        Self::new(HEADERS, END_STREAM | END_HEADERS, stream, head("GET", path, &[]))
    }

    pub(super) fn reset(stream: u32) -> Self {
        Self::new(RST_STREAM, 0, stream, 8_u32.to_be_bytes())
    }

    /// The error code of `RST_STREAM`.
    pub(super) fn code(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().expect("a code"))
    }
}

/// A request's head in HPACK that needs no table: every field a literal.
pub(super) fn head(method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let all = [
        (":method", method),
        (":scheme", "https"),
        (":authority", "x"),
        (":path", path),
        ("authorization", "Bearer admin"),
    ];
    let mut out = Vec::new();
    for (name, value) in all.iter().chain(fields) {
        out.push(0);
        for text in [name, value] {
            let mut len = text.len();
            if len < 127 {
                out.push(len as u8);
            } else {
                out.push(127);
                len -= 127;
                while len >= 128 {
                    out.push((len % 128 + 128) as u8);
                    len /= 128;
                }
                out.push(len as u8);
            }
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// A connection of HTTP/2.
pub(super) struct Frames {
    pub(super) stream: Stream,
}

impl Frames {
    /// # Errors
    /// Where the server has ended the connection.
    pub(super) async fn send(&mut self, frames: &[Frame]) -> io::Result<()> {
        let mut out = Vec::new();
        for frame in frames {
            out.extend_from_slice(&(frame.payload.len() as u32).to_be_bytes()[1..]);
            out.extend_from_slice(&[frame.kind, frame.flags]);
            out.extend_from_slice(&frame.stream.to_be_bytes());
            out.extend_from_slice(&frame.payload);
        }
        self.stream.write_all(&out).await?;
        self.stream.flush().await
    }

    /// The next frame; `None` at the connection's end.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let [_, l2, l1, l0] = [0, head[0], head[1], head[2]];
        let mut payload = vec![0; u32::from_be_bytes([0, l2, l1, l0]) as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of a kind.
    pub(super) async fn next_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().await.expect("the connection goes on");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// The text of one stream, to its end.
    pub(super) async fn body(&mut self, stream: u32) -> String {
        let mut all = Vec::new();
        loop {
            let frame = self.next().await.expect("the connection goes on");
            if frame.stream != stream || !matches!(frame.kind, DATA | HEADERS) {
                continue;
            }
            if frame.kind == DATA {
                all.extend_from_slice(&frame.payload);
            }
            if frame.flags & END_STREAM != 0 {
                return String::from_utf8_lossy(&all).into_owned();
            }
        }
    }

    /// The server gives the connection up: why, if it says so.
    pub(super) async fn given_up(&mut self) -> Option<u32> {
        let mut why = None;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                why = Some(u32::from_be_bytes(frame.payload[4..8].try_into().expect("a code")));
            }
        }
        why
    }
}

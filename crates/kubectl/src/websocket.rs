//! Streams to containers: Kubernetes' channels over a WebSocket (RFC 6455), whose
//! handshake is said here because a refusal is a Status to be shown.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream::SplitSink, stream::SplitStream};
use ring::{
    digest,
    rand::{SecureRandom as _, SystemRandom},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use crate::{
    connection::{Connection, Duplex, refusal},
    failure::{Failure, Outcome, failed},
};

/// Exec and attach: the fifth version says when stdin ends.
pub(crate) const REMOTE: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// Port-forward: two channels, data and errors.
pub(crate) const FORWARD: &[&str] = &["v4.channel.k8s.io"];

/// RFC 6455, section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const HEAD_BYTES_MAX: usize = 64 * 1024;

type Socket = WebSocketStream<Box<dyn Duplex>>;

/// The half that sends.
#[derive(Debug)]
pub(crate) struct Sender {
    sink: SplitSink<Socket, Message>,
    /// Whether a channel can be closed by itself.
    half_close: bool,
}

/// The half that receives.
#[derive(Debug)]
pub(crate) struct Receiver(SplitStream<Socket>);

/// Opens a stream.
///
/// # Errors
/// The server's Status; a broken connection.
pub(crate) async fn open(
    connection: &Connection,
    path: &str,
    protocols: &[&str],
) -> Outcome<(Sender, Receiver)> {
    let (mut stream, headers, prefix) = connection.dial().await?;
    let mut nonce = [0; 16];
    SystemRandom::new()
        .fill(&mut nonce)
        .map_err(|_| Failure::Message("the machine has no randomness".into()))?;
    let key = STANDARD.encode(nonce);
    let mut request = format!(
        "GET {prefix}{path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\
         Sec-WebSocket-Protocol: {}\r\n",
        connection.authority,
        crate::USER_AGENT,
        protocols.join(", ")
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes())));
    }
    request.push_str("\r\n");
    let broken = |error: std::io::Error| Failure::Message(format!("{path}: {error}"));
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let (head, mut rest) = head(&mut stream).await?;
    if head.code != 101 {
        let length = head.value("content-length").and_then(|n| n.parse().ok());
        // Without a length the body ends with the connection.
        while length.is_none_or(|length: usize| rest.len() < length) {
            if stream.read_buf(&mut rest).await.map_err(broken)? == 0 {
                break;
            }
        }
        return Err(refusal(head.code, &rest).into());
    }
    let digest =
        digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    if head.value("sec-websocket-accept") != Some(&STANDARD.encode(digest)) {
        return failed("the server's answer to the WebSocket handshake is not to our question");
    }
    let agreed = head.value("sec-websocket-protocol").unwrap_or_default();
    if !protocols.contains(&agreed) {
        return failed(format!("the server speaks {agreed:?}, not one of {protocols:?}"));
    }
    let half_close = agreed == "v5.channel.k8s.io";
    let socket = WebSocketStream::from_partially_read(stream, rest, Role::Client, None).await;
    let (sink, source) = socket.split();
    Ok((Sender { sink, half_close }, Receiver(source)))
}

struct Head {
    code: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    fn value(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The head of an answer, and what was read behind it.
async fn head(stream: &mut Box<dyn Duplex>) -> Outcome<(Head, Vec<u8>)> {
    let mut buffer = Vec::new();
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = buffer.split_off(end + 4);
            return parse(&String::from_utf8_lossy(&buffer)).map(|head| (head, rest));
        }
        if buffer.len() > HEAD_BYTES_MAX {
            return failed("the server's answer has no end");
        }
        let read = stream.read_buf(&mut buffer).await;
        if read.map_err(|error| Failure::Message(error.to_string()))? == 0 {
            return failed("the server closed the connection");
        }
    }
}

fn parse(text: &str) -> Outcome<Head> {
    let mut lines = text.split("\r\n");
    let code =
        lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let Some(code) = code else { return failed("the server's answer is no HTTP") };
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    Ok(Head { code, headers: headers.collect() })
}

impl Sender {
    /// Bytes on a channel.
    ///
    /// # Errors
    /// A broken connection.
    pub(crate) async fn send(&mut self, channel: u8, bytes: &[u8]) -> Outcome {
        let mut message = Vec::with_capacity(bytes.len() + 1);
        message.push(channel);
        message.extend_from_slice(bytes);
        self.message(Message::Binary(message.into())).await
    }

    /// No more on this channel; without a way to say so, nothing.
    ///
    /// # Errors
    /// A broken connection.
    pub(crate) async fn end(&mut self, channel: u8) -> Outcome {
        match self.half_close {
            true => self.message(Message::Binary(vec![255, channel].into())).await,
            false => Ok(()),
        }
    }

    /// No more at all.
    pub(crate) async fn close(&mut self) {
        // The other side may be gone already.
        let _ = self.sink.close().await;
    }

    async fn message(&mut self, message: Message) -> Outcome {
        let sent = self.sink.send(message).await;
        sent.map_err(|error| Failure::Message(format!("connection to the server: {error}")))
    }
}

impl Receiver {
    /// The next bytes and their channel; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Outcome<(u8, Bytes)>> {
        loop {
            match self.0.next().await? {
                Ok(Message::Binary(bytes)) if !bytes.is_empty() => {
                    return Some(Ok((bytes[0], bytes.slice(1..))));
                }
                Ok(Message::Close(_)) => return None,
                Ok(_) => {}
                Err(error) => {
                    let text = format!("connection to the server: {error}");
                    return Some(Err(Failure::Message(text)));
                }
            }
        }
    }
}

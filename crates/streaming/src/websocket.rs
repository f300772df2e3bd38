//! The WebSocket handshake (RFC 6455), answered by us because of its
//! subprotocols, and Kubernetes' channels over its messages.

use api_object::Status;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use hyper::upgrade::OnUpgrade;
use ring::digest;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::{
    Reply,
    upgrade::{self, Io, Wish},
};

/// A client's WebSocket.
pub type Socket = WebSocketStream<Io>;

/// Larger messages end the stream; clients cut their input far below this.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// RFC 6455, section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Exec and attach, best first. Version 5 adds the half-close signal; before 4
/// the outcome is text. No name at all means `channel.k8s.io`.
pub const REMOTE: [Protocol; 6] = [
    Protocol { half_close: true, ..channels("v5.channel.k8s.io") },
    channels("v4.channel.k8s.io"),
    Protocol { base64: true, ..channels("v4.base64.channel.k8s.io") },
    Protocol { outcome: Outcome::Text, ..channels("channel.k8s.io") },
    Protocol { outcome: Outcome::Text, base64: true, ..channels("base64.channel.k8s.io") },
    Protocol { outcome: Outcome::Text, ..channels("") },
];

/// Port-forward, where each port has two channels.
pub const FORWARD: [Protocol; 3] = [
    channels("v4.channel.k8s.io"),
    Protocol { base64: true, ..channels("v4.base64.channel.k8s.io") },
    channels(""),
];

/// Port-forward as kubectl since 1.31 has it: SPDY in binary messages.
pub const TUNNEL: [Protocol; 1] = [channels("SPDY/3.1+portforward.k8s.io")];

/// Logs: one stream of bytes, without channels.
pub const BYTES: [Protocol; 3] = [
    channels("binary.k8s.io"),
    Protocol { base64: true, ..channels("base64.binary.k8s.io") },
    channels(""),
];

const fn channels(name: &'static str) -> Protocol {
    Protocol { name, half_close: false, base64: false, outcome: Outcome::Status }
}

/// A subprotocol that both ends speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Empty for clients that name none.
    pub name: &'static str,
    /// `[255, channel]` closes one channel of the client.
    half_close: bool,
    /// Messages are text: the channel counted from the digit 0, and base64.
    base64: bool,
    /// What the error channel says at the end.
    pub outcome: Outcome,
}

/// How the outcome of a command is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A `Status` as JSON, also of success.
    Status,
    /// The message of a failure.
    Text,
}

/// Whether a client names one of these protocols.
pub fn offers(headers: &HeaderMap, known: &[Protocol]) -> bool {
    let mut offered = upgrade::words(headers, &header::SEC_WEBSOCKET_PROTOCOL);
    offered.any(|name| known.iter().any(|protocol| protocol.name == name))
}

/// Answers the handshake: the response that changes protocols, and which was
/// agreed upon.
///
/// # Errors
/// 400 where the request is no handshake or offers no protocol known here.
pub fn handshake(headers: &HeaderMap, known: &[Protocol]) -> Result<(Reply, Protocol), Status> {
    if upgrade::wish(headers) != Wish::WebSocket {
        return Err(upgrade::required());
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if text("sec-websocket-version") != Some("13") {
        return Err(Status::bad_request("WebSocket version 13 (RFC 6455) is required"));
    }
    let key = text("sec-websocket-key")
        .filter(|key| !key.is_empty())
        .ok_or_else(|| Status::bad_request("Sec-WebSocket-Key is missing"))?;
    let offered: Vec<&str> = upgrade::words(headers, &header::SEC_WEBSOCKET_PROTOCOL).collect();
    let named = |protocol: &&Protocol| match protocol.name {
        "" => offered.is_empty(),
        name => offered.contains(&name),
    };
    let agreed = known.iter().find(named).ok_or_else(|| {
        let known: Vec<&str> = known.iter().map(|protocol| protocol.name).collect();
        Status::bad_request(format!(
            "none of the offered WebSocket protocols is served: offered {offered:?}, served {known:?}"
        ))
    })?;
    let mut answer = HeaderMap::from_iter([
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (
            header::SEC_WEBSOCKET_ACCEPT,
            HeaderValue::from_str(&accept_key(key)).map_err(Status::internal)?,
        ),
    ]);
    if !agreed.name.is_empty() {
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(agreed.name));
    }
    Ok((upgrade::switching(answer), *agreed))
}

fn accept_key(key: &str) -> String {
    let text = format!("{key}{GUID}");
    // SHA-1 is what the RFC asks for; it protects nothing here.
    STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// The socket, once the client has the response. `None` where the client went
/// away meanwhile.
pub async fn socket(upgrade: OnUpgrade) -> Option<Socket> {
    let io = upgrade::connection(upgrade).await?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    Some(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await)
}

/// The close frame of a stream that is over: kubectl takes one without a code
/// for a broken connection.
pub fn normal_end() -> CloseFrame {
    CloseFrame { code: CloseCode::Normal, reason: "".into() }
}

/// What a client's message means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Bytes for a channel.
    Data(u8, Bytes),
    /// The client closes a channel.
    Close(u8),
    /// Nothing.
    Empty,
}

impl Protocol {
    /// What a client's message means. Text that is no base64 says nothing, as
    /// does a message about the WebSocket itself.
    pub fn read(self, message: &Message) -> Said {
        let bytes = match message {
            Message::Binary(bytes) => bytes.clone(),
            Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            _ => return Said::Empty,
        };
        match bytes.as_ref() {
            [digit @ b'0'..=b'~', text @ ..] if self.base64 => match STANDARD.decode(text) {
                Ok(bytes) => Said::Data(digit - b'0', bytes.into()),
                Err(_) => Said::Empty,
            },
            [] => Said::Empty,
            [..] if self.base64 => Said::Empty,
            [255, channel] if self.half_close => Said::Close(*channel),
            [channel, ..] => Said::Data(*channel, bytes.slice(1..)),
        }
    }

    /// A message for a channel.
    pub fn message(self, channel: u8, bytes: &[u8]) -> Message {
        if self.base64 {
            let mut text = String::from(char::from(b'0'.saturating_add(channel).min(b'~')));
            STANDARD.encode_string(bytes, &mut text);
            return Message::text(text);
        }
        let mut out = BytesMut::with_capacity(bytes.len() + 1);
        out.put_u8(channel);
        out.put_slice(bytes);
        Message::Binary(out.freeze())
    }

    /// A message of a protocol that has no channels.
    pub fn plain(self, bytes: Bytes) -> Message {
        match self.base64 {
            true => Message::text(STANDARD.encode(bytes)),
            false => Message::Binary(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(protocols: &str) -> HeaderMap {
        let pairs = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", protocols),
        ];
        pairs
            .into_iter()
            .map(|(name, value)| {
                let name: http::HeaderName = name.parse().expect("a name");
                (name, value.parse().expect("a value"))
            })
            .collect()
    }

    #[test]
    fn the_handshake_is_the_rfcs() {
        let offered = headers("v4.channel.k8s.io, v5.channel.k8s.io");
        let (reply, protocol) = handshake(&offered, &REMOTE).expect("a handshake");
        assert_eq!(reply.status(), 101);
        assert_eq!(protocol.name, "v5.channel.k8s.io");
        assert_eq!(reply.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(reply.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    }

    #[test]
    fn what_is_no_handshake_is_told_so() {
        assert_eq!(handshake(&headers("chat"), &REMOTE).expect_err("unknown").code, 400);
        assert_eq!(handshake(&HeaderMap::new(), &REMOTE).expect_err("none").code, 400);
        let mut spdy = headers("");
        spdy.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        let status = handshake(&spdy, &REMOTE).expect_err("another protocol");
        assert_eq!(status.message, "Upgrade request required");
    }

    #[test]
    fn a_client_may_name_no_protocol() {
        let mut offered = headers("");
        offered.remove("sec-websocket-protocol");
        let (reply, protocol) = handshake(&offered, &REMOTE).expect("a handshake");
        assert!(!reply.headers().contains_key("sec-websocket-protocol"));
        assert_eq!((protocol.outcome, protocol.base64), (Outcome::Text, false));
    }

    #[test]
    fn only_version_5_closes_halves() {
        let close = Message::binary(vec![255, 0]);
        assert_eq!(REMOTE[0].read(&close), Said::Close(0));
        assert_eq!(REMOTE[1].read(&close), Said::Data(255, Bytes::from_static(&[0])));
    }

    #[test]
    fn base64_is_text_with_a_digit_before_it() {
        let message = REMOTE[2].message(1, b"hello");
        assert_eq!(message, Message::text("1aGVsbG8="));
        assert_eq!(REMOTE[2].read(&message), Said::Data(1, "hello".into()));
        for text in ["", "1*", "aGVsbG8="] {
            assert_eq!(REMOTE[2].read(&Message::text(text)), Said::Empty);
        }
        assert_eq!(BYTES[1].plain("hello".into()), Message::text("aGVsbG8="));
    }

    proptest! {
        #[test]
        fn messages_come_back(protocol in 0..REMOTE.len(), channel in 0u8..=4, bytes: Vec<u8>) {
            let protocol = REMOTE[protocol];
            let said = protocol.read(&protocol.message(channel, &bytes));
            prop_assert_eq!(said, Said::Data(channel, Bytes::from(bytes)));
        }

        #[test]
        fn no_message_panics(protocol in 0..REMOTE.len(), bytes: Vec<u8>) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let _ = REMOTE[protocol].read(&Message::text(text));
            let _ = REMOTE[protocol].read(&Message::binary(bytes));
        }
    }
}

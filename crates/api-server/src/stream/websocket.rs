//! The WebSocket handshake (RFC 6455), answered by us because of its
//! subprotocols, and Kubernetes' channels over binary messages.

use api_object::Status;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use ring::digest;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
};

use crate::{
    body::Body,
    respond::{self, Reply},
};

/// Larger messages end the stream; clients cut their input far below this.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// RFC 6455, section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// `{channel}` messages, newest first. Version 5 adds the half-close signal.
pub(super) const CHANNELS: [Protocol; 2] = [
    Protocol { name: "v5.channel.k8s.io", half_close: true },
    Protocol { name: "v4.channel.k8s.io", half_close: false },
];

/// A subprotocol that both ends speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Protocol {
    pub(super) name: &'static str,
    /// `[255, channel]` closes one channel of the client.
    pub(super) half_close: bool,
}

/// A request's wish to change protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    WebSocket,
    Spdy,
    Nothing,
}

pub(super) fn wish(headers: &HeaderMap) -> Wish {
    let has = |name, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().to_ascii_lowercase().starts_with(word))
    };
    match has(header::CONNECTION, "upgrade") {
        true if has(header::UPGRADE, "websocket") => Wish::WebSocket,
        true if has(header::UPGRADE, "spdy/") => Wish::Spdy,
        _ => Wish::Nothing,
    }
}

/// Answers the handshake: the response that changes protocols, and which was
/// agreed upon.
///
/// # Errors
/// 400 where the request is no handshake or offers no protocol known here.
pub(super) fn handshake(
    headers: &HeaderMap,
    known: &[Protocol],
) -> Result<(Reply, Protocol), Status> {
    match wish(headers) {
        Wish::WebSocket => {}
        Wish::Spdy => {
            return Err(Status::bad_request(
                "streams over SPDY/3.1 are not served yet; use WebSockets: kubectl 1.31 and later does, 1.29 and 1.30 with KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true",
            ));
        }
        Wish::Nothing => return Err(Status::bad_request("Upgrade request required")),
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if text("sec-websocket-version") != Some("13") {
        return Err(Status::bad_request("WebSocket version 13 (RFC 6455) is required"));
    }
    let key = text("sec-websocket-key")
        .filter(|key| !key.is_empty())
        .ok_or_else(|| Status::bad_request("Sec-WebSocket-Key is missing"))?;
    let offered: Vec<&str> = headers
        .get_all("sec-websocket-protocol")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    if offered.iter().any(|name| name.starts_with("SPDY/")) {
        return Err(Status::bad_request(
            "SPDY through a WebSocket, which kubectl port-forward speaks, is not served yet",
        ));
    }
    let agreed = known.iter().find(|protocol| offered.contains(&protocol.name)).ok_or_else(|| {
        let known: Vec<&str> = known.iter().map(|protocol| protocol.name).collect();
        Status::bad_request(format!(
            "none of the offered WebSocket protocols is served: offered {offered:?}, served {known:?}"
        ))
    })?;
    let mut reply = respond::reply(101, "", "");
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = HeaderMap::from_iter([
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (
            header::SEC_WEBSOCKET_ACCEPT,
            HeaderValue::from_str(&accept_key(key)).map_err(Status::internal)?,
        ),
        (header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(agreed.name)),
    ]);
    *reply.headers_mut() = answer;
    *reply.body_mut() = Body::Full(Bytes::new());
    Ok((reply, *agreed))
}

fn accept_key(key: &str) -> String {
    let text = format!("{key}{GUID}");
    // SHA-1 is what the RFC asks for; it protects nothing here.
    STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// The socket, once the client has the response.
///
/// # Errors
/// Where the client went away meanwhile.
pub(super) async fn socket(
    upgrade: OnUpgrade,
) -> Result<WebSocketStream<TokioIo<Upgraded>>, hyper::Error> {
    let io = TokioIo::new(upgrade.await?);
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    Ok(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await)
}

/// The close frame of a stream that is over: kubectl takes one without a code
/// for a broken connection.
pub(super) fn normal_end() -> CloseFrame {
    CloseFrame { code: CloseCode::Normal, reason: "".into() }
}

/// What a client's message means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Bytes for a channel.
    Data(u8, Bytes),
    /// The client closes a channel.
    Close(u8),
    /// Nothing.
    Empty,
}

/// Splits a message into its channel and its bytes.
pub(super) fn split(message: &Bytes, protocol: Protocol) -> Said {
    match message.as_ref() {
        [] => Said::Empty,
        [255, channel] if protocol.half_close => Said::Close(*channel),
        [channel, ..] => Said::Data(*channel, message.slice(1..)),
    }
}

/// A message for a channel.
pub(super) fn message(channel: u8, bytes: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(bytes.len() + 1);
    out.put_u8(channel);
    out.put_slice(bytes);
    out.freeze()
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
        let (reply, protocol) = handshake(&offered, &CHANNELS).expect("a handshake");
        assert_eq!(reply.status(), 101);
        assert_eq!(protocol.name, "v5.channel.k8s.io");
        assert_eq!(reply.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(reply.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    }

    #[test]
    fn what_is_no_handshake_is_told_so() {
        assert_eq!(handshake(&headers("chat"), &CHANNELS).expect_err("unknown").code, 400);
        assert_eq!(handshake(&HeaderMap::new(), &CHANNELS).expect_err("none").code, 400);
        let mut spdy = headers("");
        spdy.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        let status = handshake(&spdy, &CHANNELS).expect_err("not served");
        assert!(status.message.contains("KUBECTL_REMOTE_COMMAND_WEBSOCKETS"), "{status}");
    }

    #[test]
    fn only_version_5_closes_halves() {
        let close = Bytes::from_static(&[255, 0]);
        assert_eq!(split(&close, CHANNELS[0]), Said::Close(0));
        assert_eq!(split(&close, CHANNELS[1]), Said::Data(255, Bytes::from_static(&[0])));
    }

    proptest! {
        #[test]
        fn messages_split_back(channel in 0u8..=4, bytes: Vec<u8>) {
            let said = split(&message(channel, &bytes), CHANNELS[0]);
            prop_assert_eq!(said, Said::Data(channel, Bytes::from(bytes)));
        }

        #[test]
        fn no_message_panics(bytes: Vec<u8>) {
            let _ = split(&Bytes::from(bytes), CHANNELS[0]);
        }
    }
}

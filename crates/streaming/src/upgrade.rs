//! What a request wants its connection to become, and the handshake of SPDY.
//! The WebSocket's is in `websocket.rs`.

use std::time::Duration;

use api_object::Status;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use crate::Reply;

/// The protocol inside of SPDY that the client speaks, and the one agreed upon.
const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// What would have been agreed upon, one header each.
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// How often a SPDY client is asked whether it is there.
pub const PING_EVERY: Duration = Duration::from_secs(30);
/// Upstream's `--streaming-connection-idle-timeout`.
pub const IDLE_MAX: Duration = Duration::from_secs(4 * 3600);
/// How long a client may take to open the streams that belong together;
/// upstream's figure.
pub const STREAMS_MAX: Duration = Duration::from_secs(30);

/// A connection that is ours after the response.
pub type Io = TokioIo<Upgraded>;

/// A request's wish to change protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A WebSocket (RFC 6455).
    WebSocket,
    /// SPDY/3.1.
    Spdy,
    /// To stay as it is.
    Nothing,
}

/// Reads the wish of a request from its headers.
pub fn wish(headers: &HeaderMap) -> Wish {
    let has = |name, word: &str| {
        words(headers, name).any(|value| value.to_ascii_lowercase().starts_with(word))
    };
    match has(&header::CONNECTION, "upgrade") {
        true if has(&header::UPGRADE, "websocket") => Wish::WebSocket,
        true if has(&header::UPGRADE, "spdy/3.1") => Wish::Spdy,
        _ => Wish::Nothing,
    }
}

/// The parts of a header that is a list, over all its lines.
pub fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// 400 in upstream's words.
pub fn required() -> Status {
    Status::bad_request("Upgrade request required")
}

/// Agrees on one of `known` protocols, the first that the client names too: the
/// response that changes protocols, and which one it is.
///
/// # Errors
/// The response of a refusal: 403, with what is known.
pub fn spdy(
    headers: &HeaderMap,
    known: &[&'static str],
) -> Result<(Reply, &'static str), Box<Reply>> {
    let offered: Vec<&str> = words(headers, &PROTOCOL).collect();
    let agreed = known.iter().find(|name| offered.contains(name));
    let Some(agreed) = agreed else {
        let why = format!(
            "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]\n",
            offered.join(" "),
            known.join(" ")
        );
        let mut reply = Response::new(why.into());
        *reply.status_mut() = StatusCode::FORBIDDEN;
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        reply.headers_mut().insert(header::CONTENT_TYPE, text);
        let nosniff = HeaderValue::from_static("nosniff");
        reply.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        for name in known {
            reply.headers_mut().append(ACCEPTED, HeaderValue::from_static(name));
        }
        return Err(Box::new(reply));
    };
    let answer = HeaderMap::from_iter([
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("SPDY/3.1")),
        (PROTOCOL, HeaderValue::from_static(agreed)),
    ]);
    Ok((switching(answer), agreed))
}

/// The response after which the connection is another one.
pub fn switching(headers: HeaderMap) -> Reply {
    let mut reply = Response::default();
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *reply.headers_mut() = headers;
    reply
}

/// The connection, once the client has the response. `None` where the client
/// went away meanwhile.
pub async fn connection(upgrade: OnUpgrade) -> Option<Io> {
    match upgrade.await {
        Ok(upgraded) => Some(TokioIo::new(upgraded)),
        Err(error) => {
            tracing::debug!("a client left before its stream: {error}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 2] = ["v4.channel.k8s.io", "v3.channel.k8s.io"];

    fn offer(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (PROTOCOL, HeaderValue::from_static(line))).collect()
    }

    #[test]
    fn the_best_protocol_that_both_know_is_agreed_upon() {
        for (lines, agreed) in [
            (&["v3.channel.k8s.io", "v4.channel.k8s.io"][..], "v4.channel.k8s.io"),
            (&["v5.channel.k8s.io,v3.channel.k8s.io"], "v3.channel.k8s.io"),
        ] {
            let (reply, protocol) = spdy(&offer(lines), &KNOWN).expect("agreed");
            assert_eq!((reply.status().as_u16(), protocol), (101, agreed));
            assert_eq!(reply.headers()[PROTOCOL], agreed);
            assert_eq!(reply.headers()[header::UPGRADE], "SPDY/3.1");
        }
    }

    #[test]
    fn other_protocols_are_refused_with_what_is_known() {
        for lines in [&["channel.k8s.io"][..], &[]] {
            let reply = spdy(&offer(lines), &KNOWN).expect_err("refused");
            assert_eq!(reply.status(), 403);
            let accepted: Vec<_> = reply.headers().get_all(ACCEPTED).iter().collect();
            assert_eq!(accepted, KNOWN);
        }
    }

    #[test]
    fn wishes_are_read_from_lists() {
        for (connection, upgrade, expected) in [
            ("keep-alive, Upgrade", "WebSocket", Wish::WebSocket),
            ("Upgrade", "SPDY/3.1", Wish::Spdy),
            ("keep-alive", "websocket", Wish::Nothing),
            ("upgrade", "h2c", Wish::Nothing),
        ] {
            let headers = HeaderMap::from_iter([
                (header::CONNECTION, HeaderValue::from_static(connection)),
                (header::UPGRADE, HeaderValue::from_static(upgrade)),
            ]);
            assert_eq!(wish(&headers), expected);
        }
    }
}

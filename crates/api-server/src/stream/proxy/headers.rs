//! Headers of requests and responses that are passed on.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use streaming::upgrade::words;

/// About one connection, never about what is behind it (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Who somebody is, to this server alone.
const CREDENTIALS: [&str; 3] = ["authorization", "impersonate-", "x-remote-"];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A page of this server's origin must not open it to other origins.
const CORS: &str = "access-control-";

fn remove(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn remove_hops(headers: &mut HeaderMap) {
    let named: Vec<String> =
        words(headers, &header::CONNECTION).map(str::to_ascii_lowercase).collect();
    remove(headers, |name| {
        named.iter().any(|named| named == name) || HOP_BY_HOP.iter().any(|hop| hop == name)
    });
}

/// What the backend gets to see. `upgrade` is kept where the connection is to
/// change; `uri` is the path as the client asked for it.
pub(crate) fn request(
    headers: &HeaderMap,
    upgrade: Option<HeaderValue>,
    uri: &str,
    client: Option<IpAddr>,
) -> HeaderMap {
    let mut out = headers.clone();
    remove_hops(&mut out);
    remove(&mut out, |name| CREDENTIALS.iter().any(|prefix| name.starts_with(prefix)));
    if words(headers, &header::ACCEPT).any(|part| part.starts_with("text/html")) {
        // A page for a browser must be readable here, for its links.
        out.remove(header::ACCEPT_ENCODING);
    }
    if let Some(protocol) = upgrade {
        out.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        out.insert(header::UPGRADE, protocol);
    }
    if let Ok(uri) = HeaderValue::try_from(uri) {
        out.insert("x-forwarded-uri", uri);
    }
    if let Some(client) = client {
        let mut all: Vec<String> = words(headers, &FORWARDED_FOR).map(str::to_owned).collect();
        all.push(client.to_string());
        if let Ok(all) = HeaderValue::try_from(all.join(", ")) {
            out.insert(FORWARDED_FOR, all);
        }
    }
    out
}

/// What the client gets to see.
pub(crate) fn response(headers: &mut HeaderMap) {
    remove_hops(headers);
    remove(headers, |name| name.starts_with(CORS));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn requests_lose_what_is_for_this_server() {
        let headers = map(&[
            ("host", "api"),
            ("connection", "keep-alive, X-Mine"),
            ("x-mine", "1"),
            ("transfer-encoding", "chunked"),
            ("authorization", "Bearer secret"),
            ("impersonate-user", "somebody"),
            ("impersonate-extra-scopes", "x"),
            ("x-remote-user", "somebody"),
            ("accept", "text/html,*/*"),
            ("accept-encoding", "gzip"),
            ("x-forwarded-for", "192.0.2.1"),
            ("cookie", "a=b"),
        ]);
        let client = Some(IpAddr::from([192, 0, 2, 2]));
        let out = request(&headers, None, "/api/v1/x", client);
        let kept = ["accept", "cookie", "host", "x-forwarded-for", "x-forwarded-uri"];
        assert_eq!(names(&out), kept);
        assert_eq!(out["x-forwarded-for"], "192.0.2.1, 192.0.2.2");
        let upgrade = Some(HeaderValue::from_static("websocket"));
        let out = request(&headers, upgrade, "/", None);
        assert_eq!(
            (&out["connection"], &out["upgrade"]),
            (&HeaderValue::from_static("Upgrade"), &HeaderValue::from_static("websocket"))
        );
    }

    #[test]
    fn responses_do_not_open_this_origin_to_others() {
        let mut headers = map(&[
            ("access-control-allow-origin", "*"),
            ("content-type", "text/plain"),
            ("keep-alive", "timeout=5"),
            ("set-cookie", "a=b"),
        ]);
        response(&mut headers);
        assert_eq!(names(&headers), ["content-type", "set-cookie"]);
    }
}

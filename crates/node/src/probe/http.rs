//! An HTTP GET that wants nothing but the status: for probes and hooks.

use std::net::{IpAddr, SocketAddr};

use api_types::core::HttpGetAction;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use super::{check::words, tls};

/// Most of an answer's head that is read, bytes.
const HEAD_MAX: usize = 16 * 1024;
/// Redirects that are followed, on the same host only.
const REDIRECTS_MAX: usize = 10;

/// Why there is no status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct HttpError(String);

/// `http://10.42.0.2:8080/healthz`.
pub(crate) fn url(action: &HttpGetAction, ip: IpAddr, port: u16) -> String {
    let host = match action.host.as_str() {
        "" => SocketAddr::new(ip, port).to_string(),
        host => format!("{host}:{port}"),
    };
    let scheme =
        if action.scheme.is_empty() { "http".into() } else { action.scheme.to_lowercase() };
    format!("{scheme}://{host}{}", path(&action.path))
}

fn path(path: &str) -> String {
    match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    }
}

/// The status of a GET; redirects to other hosts are answers in themselves.
pub(crate) async fn get(action: &HttpGetAction, ip: IpAddr, port: u16) -> Result<u16, HttpError> {
    let target = address(&action.host, ip).await.map_err(HttpError)?;
    let mut path = path(&action.path);
    for _ in 0..REDIRECTS_MAX {
        let (code, location) = once(action, SocketAddr::new(target, port), &path).await?;
        match location {
            Some(location) if (301..=308).contains(&code) && location.starts_with('/') => {
                path = location;
            }
            _ => return Ok(code),
        }
    }
    Err(HttpError(format!("stopped after {REDIRECTS_MAX} redirects")))
}

/// The address of a probe's host: the pod's own where it names none.
pub(crate) async fn address(host: &str, own: IpAddr) -> Result<IpAddr, String> {
    if host.is_empty() {
        return Ok(own);
    }
    if let Ok(ip) = host.parse() {
        return Ok(ip);
    }
    let mut found = tokio::net::lookup_host((host, 0))
        .await
        .map_err(|error| format!("dial tcp: lookup {host}: {}", words(&error)))?;
    found.next().map(|a| a.ip()).ok_or_else(|| format!("dial tcp: lookup {host}: no such host"))
}

async fn once(
    action: &HttpGetAction,
    address: SocketAddr,
    path: &str,
) -> Result<(u16, Option<String>), HttpError> {
    let failed = |error: std::io::Error| HttpError(words(&error));
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| HttpError(format!("dial tcp {address}: connect: {}", words(&error))))?;
    match action.scheme.as_str() {
        "HTTPS" => {
            let stream = tls::connect(stream, address.ip()).await.map_err(failed)?;
            exchange(stream, &request(action, address, path)).await
        }
        _ => exchange(stream, &request(action, address, path)).await,
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> Result<(u16, Option<String>), HttpError> {
    let failed = |error: std::io::Error| HttpError(words(&error));
    stream.write_all(request).await.map_err(failed)?;
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|w| w == b"\r\n\r\n") && head.len() < HEAD_MAX {
        match stream.read(&mut chunk).await.map_err(failed)? {
            0 => break,
            n => head.extend_from_slice(&chunk[..n]),
        }
    }
    parse(&head).ok_or_else(|| match head.is_empty() {
        true => HttpError("EOF".into()),
        false => HttpError("malformed HTTP response".into()),
    })
}

fn request(action: &HttpGetAction, address: SocketAddr, path: &str) -> Vec<u8> {
    let mut text = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n");
    let given = |name: &str| action.http_headers.iter().any(|h| h.name.eq_ignore_ascii_case(name));
    for (name, value) in [
        ("Host", address.to_string()),
        ("User-Agent", "kube-probe/1.37".to_owned()),
        ("Accept", "*/*".to_owned()),
    ] {
        if !given(name) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    for header in &action.http_headers {
        // The API server refuses control characters; a line break here would
        // be a second request.
        let clean = |text: &str| text.replace(['\r', '\n'], " ");
        text.push_str(&format!("{}: {}\r\n", clean(&header.name), clean(&header.value)));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// Status and `Location` of an answer's head.
fn parse(head: &[u8]) -> Option<(u16, Option<String>)> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let (version, rest) = lines.next()?.split_once(' ')?;
    if !version.starts_with("HTTP/1.") {
        return None;
    }
    let code = rest.split(' ').next()?.parse().ok().filter(|code| (100..1000).contains(code))?;
    let location = lines.filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
    });
    Some((code, location))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use tokio::net::TcpListener;

    #[test]
    fn heads() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\n"), Some((200, None)));
        assert_eq!(parse(b"HTTP/1.0 302\r\nLOCATION:  /x\r\n"), Some((302, Some("/x".into()))));
        for bad in
            [&b""[..], b"HTTP/2 200", b"SSH-2.0-x\r\n", b"HTTP/1.1 abc\r\n", b"HTTP/1.1 99999 x"]
        {
            assert_eq!(parse(bad), None);
        }
    }

    proptest! {
        #[test]
        fn any_head_is_survived(head in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&head);
        }
    }

    #[tokio::test]
    async fn redirects_are_followed_on_the_same_host() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("address");
        let server = tokio::spawn(async move {
            for answer in ["HTTP/1.1 302 Found\r\nLocation: /b\r\n\r\n", "HTTP/1.1 503 No\r\n\r\n"]
            {
                let (mut stream, _) = listener.accept().await.expect("accepted");
                let mut buffer = [0; 1024];
                let n = stream.read(&mut buffer).await.expect("read");
                assert!(String::from_utf8_lossy(&buffer[..n]).contains("X-A: 1\r\n"));
                stream.write_all(answer.as_bytes()).await.expect("written");
            }
        });
        let action: HttpGetAction = serde_json::from_value(
            json!({"path": "a", "httpHeaders": [{"name": "X-A", "value": "1"}]}),
        )
        .expect("an action");
        assert_eq!(get(&action, address.ip(), address.port()).await, Ok(503));
        server.await.expect("served");
        let error = get(&action, address.ip(), address.port()).await.expect_err("closed");
        assert!(error.0.contains("connection refused"), "{error}");
    }
}

//! One file over HTTP, with the same addresses, proxies and authorities as
//! images: for what a machine gets beside them.

use std::{io::Write, time::Duration};

use http_body_util::BodyExt as _;

use crate::{
    ImageError,
    registry::{Proxies, Trust, plain_get, unavailable},
};

/// How long nothing may come before the connection counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Writes what a URL has into `into`, and answers with its length in bytes.
///
/// # Errors
/// What the server said, or that it fell silent, or `limit_bytes` is passed; part of it may be
/// written.
pub async fn download(
    url: &str,
    proxies: &Proxies,
    limit_bytes: u64,
    into: &mut (dyn Write + Send),
) -> Result<u64, ImageError> {
    let response = plain_get(url, proxies, &Trust::default()).await?;
    let mut body = response.into_body();
    let mut length = 0;
    let lost = |_| unavailable(url, &"nothing came for a minute");
    while let Some(frame) = tokio::time::timeout(SILENCE_MAX, body.frame()).await.map_err(lost)? {
        let frame = frame.map_err(|error| unavailable(url, &error))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len() as u64;
        if length > limit_bytes {
            let text = format!("it sends more than {limit_bytes} bytes");
            return Err(ImageError::Registry { url: url.into(), text });
        }
        into.write_all(&data).map_err(|error| unavailable(url, &error))?;
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// Answers each connection with one text; the request heads it saw.
    async fn server(answer: &'static str) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let (tell, told) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = vec![0; 4096];
                let n = stream.read(&mut buffer).await.unwrap_or(0);
                let _ = tell.send(String::from_utf8_lossy(&buffer[..n]).into_owned());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (port, told)
    }

    #[tokio::test]
    async fn files_come_directly_and_through_a_proxy() {
        const ANSWER: &str =
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
        let (port, mut told) = server(ANSWER).await;
        let mut bytes = Vec::new();
        let url = format!("http://127.0.0.1:{port}/a/b");
        let length = download(&url, &Proxies::default(), 10, &mut bytes).await.expect("it comes");
        assert_eq!((length, bytes.as_slice()), (5, &b"hello"[..]));
        assert!(told.recv().await.expect("asked").starts_with("GET /a/b HTTP/1.1\r\n"));
        let error = download(&url, &Proxies::default(), 4, &mut Vec::new()).await;
        assert!(error.expect_err("too long").to_string().contains("more than 4 bytes"));

        let proxy = format!("http://me:secret@127.0.0.1:{port}");
        let proxies = Proxies::from_variables(|name| {
            ["http_proxy", "https_proxy"].contains(&name).then(|| proxy.clone())
        })
        .expect("valid");
        told.recv().await.expect("asked before");
        let mut bytes = Vec::new();
        download("http://far.example/c", &proxies, 10, &mut bytes).await.expect("it comes");
        assert_eq!(bytes, b"hello");
        let head = told.recv().await.expect("the proxy was asked");
        assert!(head.starts_with("GET http://far.example/c HTTP/1.1\r\n"), "{head}");
        assert!(head.to_lowercase().contains("proxy-authorization: basic "), "{head}");
        // Behind the tunnel there is no TLS here, which shows that it was asked for one.
        let error = download("https://far.example/d", &proxies, 10, &mut Vec::new()).await;
        assert!(error.is_err());
        let head = told.recv().await.expect("the proxy was asked");
        assert!(head.starts_with("CONNECT far.example:443 HTTP/1.1\r\n"), "{head}");
    }

    #[tokio::test]
    async fn a_server_that_has_it_not_is_told() {
        let (port, _told) = server("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
        let url = format!("http://127.0.0.1:{port}/x");
        let error = download(&url, &Proxies::default(), 10, &mut Vec::new()).await;
        let error = error.expect_err("there is none").to_string();
        assert!(error.contains("404") && error.contains(&url), "{error}");
    }
}

//! Manifests from the web, for `-f https://…`.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    failure::{Failure, Outcome, failed},
    route::{Proxy, Route},
};

/// More is no manifest.
const BYTES_MAX: usize = 64 * 1024 * 1024;
const REDIRECTS_MAX: usize = 10;

/// The text behind an URL; redirects are followed.
///
/// # Errors
/// Where it is not there, or no text.
pub(crate) async fn get(url: &str) -> Outcome<String> {
    let mut url = url.to_owned();
    for _ in 0..REDIRECTS_MAX {
        let uri: Uri = url.parse().map_err(|error| Failure::Message(format!("{url}: {error}")))?;
        let answer =
            ask(&uri).await.map_err(|why| Failure::Message(format!("Get \"{url}\": {why}")))?;
        if answer.status().is_redirection()
            && let Some(to) = answer.headers().get(header::LOCATION)
        {
            url = joined(&uri, &String::from_utf8_lossy(to.as_bytes()));
            continue;
        }
        if !answer.status().is_success() {
            return failed(format!(
                "unable to read URL {url:?}, server reported {}, status code={}",
                answer.status(),
                answer.status().as_u16()
            ));
        }
        let bytes = Limited::new(answer.into_body(), BYTES_MAX).collect().await;
        let bytes = bytes.map_err(|error| Failure::Message(format!("{url}: {error}")))?.to_bytes();
        return String::from_utf8(bytes.to_vec())
            .map_err(|_| Failure::Message(format!("{url}: the answer is no text")));
    }
    failed(format!("{url}: stopped after {REDIRECTS_MAX} redirects"))
}

fn joined(from: &Uri, to: &str) -> String {
    if to.contains("://") {
        return to.to_owned();
    }
    let (scheme, authority) = (from.scheme_str().unwrap_or("https"), from.authority());
    let authority = authority.map_or("", |authority| authority.as_str());
    match to.starts_with('/') {
        true => format!("{scheme}://{authority}{to}"),
        false => {
            let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{to}")
        }
    }
}

async fn ask(uri: &Uri) -> Result<http::Response<hyper::body::Incoming>, String> {
    let host = uri.host().ok_or("no host")?;
    let tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let server = format!("{host}:{port}");
    let env = |name: &str| std::env::var(name).ok();
    let scheme = uri.scheme_str().unwrap_or_default();
    let route = Route::find(None, (scheme, &server), &env).map_err(|why| why.message())?;
    // A proxy is told what is wanted of whom, without TLS.
    if let Some(proxy) = route.forwarder().filter(|_| !tls) {
        let tcp = proxy.connect().await.map_err(|error| error.0)?;
        return exchange(tcp, uri, Some(proxy)).await;
    }
    let tcp = route.connect(&server).await.map_err(|error| error.0)?;
    if !tls {
        return exchange(tcp, uri, None).await;
    }
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(bare.to_owned()).map_err(|error| error.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, tcp).await.map_err(|error| error.to_string())?;
    exchange(stream, uri, None).await
}

async fn exchange<S>(
    stream: S,
    uri: &Uri,
    by: Option<&Proxy>,
) -> Result<http::Response<hyper::body::Incoming>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, driver) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Ends with the body; its error is the body's too.
    tokio::spawn(async move {
        let _ = driver.await;
    });
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let asked = match by {
        Some(_) => format!("http://{authority}{path}"),
        None => path.to_owned(),
    };
    let mut request = Request::get(asked)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, crate::USER_AGENT);
    if let Some(who) = by.and_then(Proxy::authorization) {
        request = request.header(header::PROXY_AUTHORIZATION, who);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    sender.send_request(request).await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn redirects_are_followed_and_failures_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 1024];
                let n = stream.read(&mut buffer).await.unwrap_or(0);
                let asked = String::from_utf8_lossy(&buffer[..n]).into_owned();
                let answer = match asked.split(' ').nth(1) {
                    Some("/a") => "HTTP/1.1 302 Found\r\nlocation: b\r\ncontent-length: 0\r\n\r\n",
                    Some("/b") => "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\na: b",
                    _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        assert_eq!(get(&format!("http://{address}/a")).await.expect("there"), "a: b");
        let error = get(&format!("http://{address}/c")).await.expect_err("not there");
        assert!(error.message().contains("status code=404"), "{}", error.message());
    }
}

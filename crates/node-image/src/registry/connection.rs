//! One request on one connection. Pulls are few and large: a pool would keep
//! sockets open for nobody.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    endpoint::Trust,
    proxy::{Proxies, Proxy},
    resolve::Resolver,
    unavailable,
};
use crate::ImageError;

/// How servers are reached and known.
pub(super) struct Tls {
    connector: TlsConnector,
    proxies: Proxies,
}

/// To connect and to shake hands. An answer may take longer than this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// For each address but as long as the whole lasts: one that swallows packets
/// must not keep the next from being tried.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

impl Tls {
    /// # Errors
    /// Where a certificate cannot be read.
    pub(super) fn new(trust: &Trust, proxies: &Proxies) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring offers what TLS 1.2 and 1.3 need")
            .with_root_certificates(trust.roots()?);
        let config = match trust.client()? {
            None => config.with_no_client_auth(),
            Some((chain, key)) => config
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("cert_file and key_file: {error}"))?,
        };
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), proxies: proxies.clone() })
    }
}

pub(super) async fn get(
    uri: &Uri,
    headers: &[(header::HeaderName, String)],
    tls: &Tls,
) -> Result<Response<Incoming>, ImageError> {
    let url = uri.to_string();
    let failed = |error: &dyn std::fmt::Display| unavailable(&url, &error);
    let host = uri.host().unwrap_or("").trim_start_matches('[').trim_end_matches(']');
    let secure = uri.scheme_str() != Some("http");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let proxy = tls.proxies.of(uri);
    let (to, to_port) = proxy.map_or((host, port), |proxy| (proxy.host.as_str(), proxy.port));
    let connecting = timeout(CONNECT_TIMEOUT, connect(to, to_port));
    let mut stream = connecting
        .await
        .map_err(|_| failed(&format_args!("dial tcp {to}:{to_port}: i/o timeout")))?
        .map_err(|error| failed(&format_args!("dial tcp {to}:{to_port}: {error}")))?;
    if let Some(proxy) = proxy.filter(|_| secure) {
        timeout(CONNECT_TIMEOUT, tunnel(&mut stream, proxy, uri, port))
            .await
            .map_err(|_| failed(&format_args!("proxyconnect tcp {to}:{to_port}: i/o timeout")))?
            .map_err(|error| failed(&format_args!("proxyconnect tcp {to}:{to_port}: {error}")))?;
    }
    let request = request(uri, headers, proxy.filter(|_| !secure))
        .ok_or_else(|| ImageError::Registry { url: url.clone(), text: "it is no URL".into() })?;
    let response = if secure {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(&error))?;
        let shaking = timeout(CONNECT_TIMEOUT, tls.connector.connect(name, stream));
        let stream = shaking
            .await
            .map_err(|_| failed(&"net/http: TLS handshake timeout"))?
            .map_err(|error| failed(&error))?;
        timeout(ANSWER_TIMEOUT, send(stream, request)).await
    } else {
        timeout(ANSWER_TIMEOUT, send(stream, request)).await
    };
    response
        .map_err(|_| failed(&"net/http: timeout awaiting response headers"))?
        .map_err(|error| failed(&error))
}

/// Tries the addresses of a host one after the other.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = None;
    for address in Resolver::from_system().resolve(host).await? {
        match timeout(ADDRESS_TIMEOUT, TcpStream::connect((address, port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = Some(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("the host has no address")))
}

/// Asks a proxy for a way through to a server (RFC 9110, section 9.3.6).
async fn tunnel(stream: &mut TcpStream, proxy: &Proxy, uri: &Uri, port: u16) -> io::Result<()> {
    const HEAD_BYTES_MAX: usize = 8192;
    // With its brackets, where it is an IPv6 address.
    let host = uri.host().unwrap_or_default();
    let mut ask = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some(authorization) = &proxy.authorization {
        ask.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
    }
    ask.push_str("\r\n");
    stream.write_all(ask.as_bytes()).await?;
    let mut head = Vec::new();
    // A byte at a time: what follows the head is the server's.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_BYTES_MAX {
            return Err(io::Error::other("the proxy's answer has no end"));
        }
        head.push(stream.read_u8().await?);
    }
    let line = String::from_utf8_lossy(&head);
    let line = line.lines().next().unwrap_or_default().to_owned();
    match line.split_whitespace().nth(1) {
        Some("200") => Ok(()),
        _ => Err(io::Error::other(line)),
    }
}

/// Through a proxy without a tunnel it names the whole URL.
fn request(
    uri: &Uri,
    headers: &[(header::HeaderName, String)],
    proxy: Option<&Proxy>,
) -> Option<Request<Empty<Bytes>>> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let target = match proxy {
        Some(_) => uri.to_string(),
        None => path.to_owned(),
    };
    let mut request = Request::get(target)
        .header(header::HOST, uri.authority()?.as_str())
        .header(header::USER_AGENT, concat!("skiff/", env!("CARGO_PKG_VERSION")));
    if let Some(authorization) = proxy.and_then(|proxy| proxy.authorization.as_ref()) {
        request = request.header(header::PROXY_AUTHORIZATION, authorization);
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.body(Empty::new()).ok()
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, hyper::Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends by itself once the body was read or dropped.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("a registry's connection: {error}");
        }
    });
    sender.send_request(request).await
}

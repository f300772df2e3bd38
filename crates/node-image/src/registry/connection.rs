//! One request on one connection. Pulls are few and large: a pool would keep
//! sockets open for nobody.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{resolve::Resolver, unavailable};
use crate::ImageError;

/// The authorities that registries are trusted by.
pub(super) struct Tls(TlsConnector);

/// To connect and to shake hands. An answer may take longer than this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// For each address but as long as the whole lasts: one that swallows packets
/// must not keep the next from being tried.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

impl Tls {
    pub(super) fn new() -> Self {
        // Built in: a small machine may have no certificates of its own.
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring offers what TLS 1.2 and 1.3 need")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self(TlsConnector::from(Arc::new(config)))
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
    let connecting = timeout(CONNECT_TIMEOUT, connect(host, port));
    let stream = connecting
        .await
        .map_err(|_| failed(&format_args!("dial tcp {host}:{port}: i/o timeout")))?
        .map_err(|error| failed(&format_args!("dial tcp {host}:{port}: {error}")))?;
    let request = request(uri, headers)
        .ok_or_else(|| ImageError::Registry { url: url.clone(), text: "it is no URL".into() })?;
    let response = if secure {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(&error))?;
        let shaking = timeout(CONNECT_TIMEOUT, tls.0.connect(name, stream));
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

fn request(uri: &Uri, headers: &[(header::HeaderName, String)]) -> Option<Request<Empty<Bytes>>> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::get(path)
        .header(header::HOST, uri.authority()?.as_str())
        .header(header::USER_AGENT, concat!("skiff/", env!("CARGO_PKG_VERSION")));
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

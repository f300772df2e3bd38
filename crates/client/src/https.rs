//! The transport over a network: one HTTP/2 connection over TLS, to one of
//! several servers of a cluster, with failover.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    client::conn::http2::{self, SendRequest},
    rt::Executor as _,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    time_provider::TimeProvider,
};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{Body, BoxFuture, Transport, TransportError};

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Where there is no other server to try: a small machine that has just booted may need longer
/// for a handshake.
const CONNECT_ALONE_MAX: Duration = Duration::from_secs(15);
/// Pings go out only while requests or watches are open; without them a
/// server that lost power would hold its watchers for ever.
/// A node must find another server well within the 40 s after which it is
/// taken for dead.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long a token is used before its file is read again; client-go's figure.
const TOKEN_FRESH: Duration = Duration::from_secs(60);

/// Who asks. Files are read when they are needed, so renewed ones are found:
/// certificates at each connection, tokens once a minute.
#[derive(Clone)]
pub enum Credentials {
    /// Nobody.
    Anonymous,
    /// A client certificate (chain) and its key, as PEM.
    Pem {
        /// Leaf first.
        cert: Vec<u8>,
        /// PKCS#8, SEC1 or PKCS#1.
        key: Vec<u8>,
    },
    /// The same from files.
    CertFiles {
        /// Leaf first.
        cert: PathBuf,
        /// PKCS#8, SEC1 or PKCS#1.
        key: PathBuf,
    },
    /// A bearer token.
    Token(String),
    /// A bearer token from a file that somebody renews.
    TokenFile(PathBuf),
}

impl fmt::Debug for Credentials {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Pem { .. } => f.write_str("Pem"),
            Self::CertFiles { cert, .. } => write!(f, "CertFiles({})", cert.display()),
            Self::Token(_) => f.write_str("Token"),
            Self::TokenFile(path) => write!(f, "TokenFile({})", path.display()),
        }
    }
}

/// Where the servers are and how both sides know each other.
#[derive(Clone, Debug)]
pub struct HttpsConfig {
    /// `host:port` or `[v6]:port` of each server of the cluster; the first is
    /// tried first.
    pub servers: Vec<String>,
    /// The CA that signed the servers' certificates, as PEM.
    pub ca_pem: Vec<u8>,
    /// Who asks.
    pub credentials: Credentials,
    /// By what certificates are judged; the machine's clock where unset.
    pub clock: Option<Arc<dyn TimeProvider>>,
}

/// How a server proves who it is, where that is not by its address and the CA.
#[derive(Clone, Debug, Default)]
pub struct ServerIdentity {
    /// The name in its certificate, in place of the address it is reached by.
    pub name: Option<String>,
    /// Any certificate will do: whoever is in between can read and change all. Only
    /// for a person who asked for just that.
    pub unverified: bool,
}

/// How a connection to a server is made, where something may be between.
pub trait Way: Send + Sync + 'static {
    /// Bytes to and from `host:port` of a server, which nobody has sent any on yet.
    fn open(&self, server: &str) -> BoxFuture<Result<TcpStream, TransportError>>;
}

/// The way with nothing between.
struct Straight;

impl Way for Straight {
    fn open(&self, server: &str) -> BoxFuture<Result<TcpStream, TransportError>> {
        let server = server.to_owned();
        Box::pin(async move { TcpStream::connect(server).await.map_err(failed) })
    }
}

/// A transport over HTTPS. Connects when first used; a connection that ends
/// is replaced at the next request, at the next server where one is away.
/// Cheap to clone.
#[derive(Clone)]
pub struct Https(Arc<Inner>);

struct Inner {
    servers: RwLock<Vec<String>>,
    clock: Option<Arc<dyn TimeProvider>>,
    roots: Arc<RootCertStore>,
    identity: ServerIdentity,
    way: Arc<dyn Way>,
    credentials: Credentials,
    /// The server that answered last.
    server: AtomicUsize,
    connection: tokio::sync::Mutex<Option<Connection>>,
    token: Mutex<Option<(HeaderValue, Instant)>>,
}

#[derive(Clone)]
struct Connection {
    requests: SendRequest<Full<Bytes>>,
    authority: String,
    tasks: Tasks,
}

/// What moves a connection's bytes, until it is told to end. To drop what hyper calls the
/// connection is not enough: its streams keep the rest of it, and nobody pings any more.
#[derive(Clone)]
struct Tasks(Arc<watch::Sender<bool>>);

impl Tasks {
    fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    fn end(&self) {
        self.0.send_replace(true);
    }
}

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let mut ended = self.0.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                _ = task => {}
                // That nobody can tell any more is no reason to end.
                Ok(_) = ended.wait_for(|ended| *ended) => {}
            }
        });
    }
}

impl fmt::Debug for Https {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Https({})", self.servers().join(", "))
    }
}

fn failed(what: impl fmt::Display) -> TransportError {
    TransportError(what.to_string())
}

impl Https {
    /// Reads the configuration; connects later.
    ///
    /// # Errors
    /// Where there is no server, or the CA is no PEM certificate.
    pub fn new(config: HttpsConfig) -> Result<Self, TransportError> {
        Self::by_way(config, ServerIdentity::default(), Arc::new(Straight))
    }

    /// The same to a server that proves otherwise who it is, or is reached otherwise.
    ///
    /// # Errors
    /// Where there is no server, or the CA is no PEM certificate and one is needed.
    pub fn by_way(
        config: HttpsConfig,
        identity: ServerIdentity,
        way: Arc<dyn Way>,
    ) -> Result<Self, TransportError> {
        if config.servers.is_empty() {
            return Err(failed("no API server address given"));
        }
        let mut roots = RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(&config.ca_pem) {
            let cert = cert.map_err(|error| failed(format!("server CA: {error}")))?;
            roots.add(cert).map_err(|error| failed(format!("server CA: {error}")))?;
        }
        if roots.is_empty() && !identity.unverified {
            return Err(failed("server CA: no certificate found"));
        }
        Ok(Self(Arc::new(Inner {
            servers: RwLock::new(config.servers),
            clock: config.clock,
            roots: Arc::new(roots),
            identity,
            way,
            credentials: config.credentials,
            server: AtomicUsize::new(0),
            connection: tokio::sync::Mutex::new(None),
            token: Mutex::new(None),
        })))
    }

    /// The servers as they are known now.
    pub fn servers(&self) -> Vec<String> {
        self.0.servers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Other servers: those of a cluster come and go. A connection to one that
    /// is no longer among them lasts until it breaks; an empty list changes
    /// nothing.
    pub fn set_servers(&self, servers: Vec<String>) {
        if !servers.is_empty() {
            *self.0.servers.write().unwrap_or_else(PoisonError::into_inner) = servers;
        }
    }

    /// Begins with this server, counted around, so that clients spread.
    pub fn begin_with(&self, index: u64) {
        let count = self.servers().len().max(1) as u64;
        self.0.server.store((index % count) as usize, Ordering::Relaxed);
    }

    /// The next request makes a new connection, with credentials as they are
    /// then. What runs on the present one goes on.
    pub async fn reconnect(&self) {
        *self.0.connection.lock().await = None;
    }

    /// The same at once, also for what runs on the present connection: that fails, as where
    /// the server is gone. For when nothing comes through it any more, which otherwise only
    /// pings without an answer would show.
    pub async fn hang_up(&self) {
        if let Some(connection) = self.0.connection.lock().await.take() {
            connection.tasks.end();
        }
    }

    /// A connection of its own to a server, as the same identity, for another
    /// protocol (ALPN) than the API's.
    ///
    /// # Errors
    /// Where the server is not reached, is not who it should be, or does not
    /// speak the protocol.
    pub async fn dial(
        &self,
        server: &str,
        protocol: &[u8],
    ) -> Result<TlsStream<TcpStream>, TransportError> {
        let dialled = timeout(CONNECT_MAX, self.0.dial(server, protocol)).await;
        dialled.unwrap_or_else(|_| Err(failed("connect timed out")))
    }
}

fn open(slot: &Option<Connection>) -> Option<Connection> {
    slot.as_ref().filter(|connection| !connection.requests.is_closed()).cloned()
}

impl Inner {
    /// The open connection, or a new one to the first server that answers.
    async fn connection(self: &Arc<Self>) -> Result<Connection, TransportError> {
        if let Ok(slot) = self.connection.try_lock()
            && let Some(connection) = open(&slot)
        {
            return Ok(connection);
        }
        // A task of its own waits for its turn: a caller that is one arm of a select
        // would be given the turn and hold up all others while another arm runs,
        // for ever where that one asks too.
        let inner = self.clone();
        let made = tokio::spawn(async move { inner.connect_to_any().await }).await;
        made.unwrap_or_else(|error| Err(failed(error)))
    }

    async fn connect_to_any(&self) -> Result<Connection, TransportError> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = open(&slot) {
            return Ok(connection);
        }
        let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner).clone();
        let first = self.server.load(Ordering::Relaxed);
        let patience = if servers.len() == 1 { CONNECT_ALONE_MAX } else { CONNECT_MAX };
        let mut faults = Vec::new();
        for i in 0..servers.len() {
            let at = (first + i) % servers.len();
            let server = &servers[at];
            match timeout(patience, self.connect(server)).await {
                Ok(Ok(connection)) => {
                    self.server.store(at, Ordering::Relaxed);
                    *slot = Some(connection.clone());
                    return Ok(connection);
                }
                Ok(Err(error)) => faults.push(format!("{server}: {error}")),
                Err(_) => faults.push(format!("{server}: connect timed out")),
            }
        }
        Err(failed(faults.join("; ")))
    }

    async fn dial(
        &self,
        server: &str,
        protocol: &[u8],
    ) -> Result<TlsStream<TcpStream>, TransportError> {
        let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = self.identity.name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(failed)?;
        let tls = TlsConnector::from(Arc::new(self.tls_config(protocol).await?));
        let tcp = self.way.open(server).await?;
        tcp.set_nodelay(true).map_err(failed)?;
        let stream = tls.connect(name, tcp).await.map_err(failed)?;
        if stream.get_ref().1.alpn_protocol() != Some(protocol) {
            let name = String::from_utf8_lossy(protocol);
            return Err(failed(format!("the server does not speak {name}")));
        }
        Ok(stream)
    }

    async fn connect(&self, server: &str) -> Result<Connection, TransportError> {
        let stream = self.dial(server, b"h2").await?;
        let tasks = Tasks::new();
        let (requests, driver) = http2::Builder::new(tasks.clone())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_ANSWER_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        let name = server.to_owned();
        tasks.execute(async move {
            if let Err(error) = driver.await {
                tracing::debug!(server = name, %error, "connection to the API server ended");
            }
        });
        Ok(Connection { requests, authority: server.to_owned(), tasks })
    }

    async fn tls_config(&self, protocol: &[u8]) -> Result<ClientConfig, TransportError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = match &self.clock {
            Some(clock) => ClientConfig::builder_with_details(provider.clone(), clock.clone()),
            None => ClientConfig::builder_with_provider(provider.clone()),
        };
        let builder = builder.with_safe_default_protocol_versions().map_err(failed)?;
        let builder = match self.identity.unverified {
            false => builder.with_root_certificates(self.roots.clone()),
            true => builder
                .dangerous()
                .with_custom_certificate_verifier(pki::anybody::verifier(provider)),
        };
        let files = match &self.credentials {
            Credentials::Pem { cert, key } => Some((cert.clone(), key.clone())),
            Credentials::CertFiles { cert, key } => {
                let read = async |path: &PathBuf| {
                    let bytes = tokio::fs::read(path).await;
                    bytes.map_err(|error| failed(format!("{}: {error}", path.display())))
                };
                Some((read(cert).await?, read(key).await?))
            }
            Credentials::Anonymous | Credentials::Token(_) | Credentials::TokenFile(_) => None,
        };
        let mut config = match files {
            Some((cert, key)) => {
                let chain = CertificateDer::pem_slice_iter(&cert).collect::<Result<Vec<_>, _>>();
                let chain =
                    chain.map_err(|error| failed(format!("client certificate: {error}")))?;
                let key = PrivateKeyDer::from_pem_slice(&key);
                let key = key.map_err(|error| failed(format!("client key: {error}")))?;
                builder.with_client_auth_cert(chain, key).map_err(failed)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(config)
    }

    async fn authorization(&self) -> Result<Option<HeaderValue>, TransportError> {
        let path = match &self.credentials {
            Credentials::Token(token) => return bearer(token).map(Some),
            Credentials::TokenFile(path) => path,
            _ => return Ok(None),
        };
        let known = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known = match known {
            Some((token, read)) if read.elapsed() < TOKEN_FRESH => return Ok(Some(token)),
            known => known,
        };
        match tokio::fs::read_to_string(path).await {
            Ok(text) => {
                let token = bearer(text.trim())?;
                let mut slot = self.token.lock().unwrap_or_else(PoisonError::into_inner);
                *slot = Some((token.clone(), Instant::now()));
                Ok(Some(token))
            }
            // The file may be in the middle of its renewal; the old token is
            // good for a while.
            Err(error) => match known {
                Some((token, _)) => {
                    tracing::warn!(path = %path.display(), %error, "token file not readable");
                    Ok(Some(token))
                }
                None => Err(failed(format!("{}: {error}", path.display()))),
            },
        }
    }

    async fn send(
        self: &Arc<Self>,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, TransportError> {
        let (mut head, body) = request.into_parts();
        if let Some(authorization) = self.authorization().await? {
            head.headers.insert(header::AUTHORIZATION, authorization);
        }
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let mut retried = false;
        loop {
            let mut connection = self.connection().await?;
            let uri = format!("https://{}{path}", connection.authority);
            let mut request = Request::new(Full::new(body.clone()));
            *request.method_mut() = head.method.clone();
            *request.uri_mut() = uri.parse::<Uri>().map_err(failed)?;
            *request.headers_mut() = head.headers.clone();
            let sent = match connection.requests.ready().await {
                Ok(()) => connection.requests.send_request(request).await,
                Err(error) => Err(error),
            };
            match sent {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    let chunks = body.into_data_stream().map(|chunk| chunk.map_err(failed));
                    return Ok(Response::from_parts(head, Body::Stream(Box::pin(chunks))));
                }
                // The connection ended under us. What reads may be asked
                // again; of a write nobody knows whether it happened, unless
                // it was never sent.
                Err(error) if !retried && (head.method.is_safe() || error.is_canceled()) => {
                    tracing::debug!(%error, "asking again on a new connection");
                    retried = true;
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

fn bearer(token: &str) -> Result<HeaderValue, TransportError> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| failed("the token has characters that no header can carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Transport for Https {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<Result<Response<Body>, TransportError>> {
        let inner = self.0.clone();
        Box::pin(async move { inner.send(request).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_without_server_or_ca_is_refused() {
        let config = |servers: &[&str], ca: &str| HttpsConfig {
            servers: servers.iter().map(|s| (*s).to_owned()).collect(),
            ca_pem: ca.as_bytes().to_vec(),
            credentials: Credentials::Token("secret".into()),
            clock: None,
        };
        assert!(Https::new(config(&[], "")).is_err());
        let error = Https::new(config(&["a:1"], "no pem")).expect_err("no CA");
        assert_eq!(error.0, "server CA: no certificate found");
        assert!(!format!("{:?}", config(&["a:1"], "")).contains("secret"));
    }
}

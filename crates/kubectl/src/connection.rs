//! The way to the API server that a kubeconfig names, as its user.

mod body;
mod from_kubeconfig;
mod http1;
mod refusal;

use std::{
    collections::BTreeSet,
    fmt::Debug,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use client::{Body, Https, Transport as _, TransportError};
use http::{HeaderMap, Method, Request, Response, header};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use self::{body::within, refusal::named};
use crate::{
    failure::{Failure, Outcome},
    route::Route,
};

pub(crate) use self::{
    body::{Chunks, Events},
    refusal::refusal,
};

/// A server, and who asks it.
#[derive(Debug)]
pub(crate) struct Connection {
    wire: Wire,
    /// Whether the server has said that it speaks HTTP/1.1 alone.
    is_old: AtomicBool,
    /// `host:port`, or the host alone where the URL has no port.
    pub(crate) authority: String,
    /// `host:port`
    server: String,
    /// In front of every path; empty where the server has its address to itself.
    prefix: String,
    /// Authorization and impersonation.
    headers: HeaderMap,
    timeout: Option<Duration>,
    warned: Mutex<BTreeSet<String>>,
}

/// What requests go over.
#[derive(Debug)]
enum Wire {
    Tls(Https),
    /// For a server that is asked without TLS, such as another's `kubectl proxy`.
    Plain(Route),
}

/// Bytes both ways.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Unpin> Duplex for T {}

/// A request of somebody else's.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) method: Method,
    /// With its query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A request's body: what it is, and it.
pub(crate) type Payload = Option<(&'static str, Bytes)>;

/// JSON as a request's body.
pub(crate) fn json(value: &Value) -> Payload {
    Some(("application/json", Bytes::from(value.to_string())))
}

impl Connection {
    /// Sends a request; the answer may be of any status.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        payload: Payload,
    ) -> Outcome<(http::response::Parts, Chunks)> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(header::USER_AGENT, crate::USER_AGENT)
            .header(header::ACCEPT, accept);
        let body = match payload {
            Some((kind, bytes)) => {
                request = request.header(header::CONTENT_TYPE, kind);
                bytes
            }
            None => Bytes::new(),
        };
        let mut request =
            request.body(body).map_err(|error| Failure::Message(format!("{path}: {error}")))?;
        for (name, value) in &self.headers {
            request.headers_mut().append(name, value.clone());
        }
        let until = self.timeout.map(|timeout| Instant::now() + timeout);
        let answer = self.send(request);
        let answer = within(until, answer).await.unwrap_or_else(|| {
            Err(TransportError(
                "net/http: request canceled (Client.Timeout exceeded while awaiting headers)"
                    .into(),
            ))
        });
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        for warning in answer.headers().get_all("warning") {
            self.warn(warning.to_str().unwrap_or_default());
        }
        let (head, body) = answer.into_parts();
        Ok((head, Chunks::new(body, until)))
    }

    /// Sends somebody else's request as the kubeconfig's user; the answer may be of
    /// any status.
    ///
    /// # Errors
    /// Where the server is not reached.
    pub(crate) async fn pass(&self, passed: Passed) -> Outcome<(http::response::Parts, Chunks)> {
        let Passed { method, path, headers, body } = passed;
        let request = Request::builder().method(method).uri(format!("{}{path}", self.prefix));
        let mut request =
            request.body(body).map_err(|error| Failure::Message(format!("{path}: {error}")))?;
        *request.headers_mut() = headers.clone();
        for (name, value) in self.headers.iter().filter(|(name, _)| !headers.contains_key(*name)) {
            request.headers_mut().append(name, value.clone());
        }
        let answer = self.send(request).await.map_err(|error| self.unreachable(&error))?;
        let (head, body) = answer.into_parts();
        Ok((head, Chunks::new(body, None)))
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, TransportError> {
        match &self.wire {
            Wire::Tls(https) => self.send_securely(https, request).await,
            Wire::Plain(route) => self.send_plainly(route, request).await,
        }
    }

    /// By HTTP/2, and to a server that has none by HTTP/1.1.
    async fn send_securely(
        &self,
        https: &Https,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, TransportError> {
        if !self.is_old.load(Ordering::Relaxed) {
            match https.send(request.clone()).await {
                // Nothing was asked yet: it is the handshake that says so.
                Err(error) if is_without_http2(&error) => {
                    self.is_old.store(true, Ordering::Relaxed)
                }
                answer => return answer,
            }
        }
        let stream = https.dial(&self.server, b"http/1.1").await?;
        http1::send(stream, &self.authority, request).await
    }

    /// By HTTP/1.1, over a connection of its own: a watch would hold up all others.
    async fn send_plainly(
        &self,
        route: &Route,
        mut request: Request<Bytes>,
    ) -> Result<Response<Body>, TransportError> {
        let stream = match route.forwarder() {
            // It is told what is wanted of whom.
            Some(proxy) => {
                let uri = format!("http://{}{}", self.authority, request.uri()).parse();
                *request.uri_mut() = uri.map_err(http1::broken)?;
                if let Some(who) = proxy.authorization() {
                    let who = who.parse().map_err(http1::broken)?;
                    request.headers_mut().insert(header::PROXY_AUTHORIZATION, who);
                }
                proxy.connect().await?
            }
            None => route.connect(&self.server).await?,
        };
        http1::send(stream, &self.authority, request).await
    }

    /// Each of the server's warnings once.
    fn warn(&self, header: &str) {
        let text = header.splitn(3, ' ').nth(2).unwrap_or(header);
        let text: String =
            serde_json::from_str(text).unwrap_or_else(|_| text.trim_matches('"').to_owned());
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.insert(text.clone()) {
            eprintln!("Warning: {text}");
        }
    }

    fn unreachable(&self, error: &TransportError) -> Failure {
        if error.0.contains("refused") {
            return Failure::Plain(format!(
                "The connection to the server {} was refused - did you specify the right host or port?",
                self.authority
            ));
        }
        // Which server is said already.
        let why = error.0.strip_prefix(&format!("{}: ", self.server)).unwrap_or(&error.0);
        Failure::Plain(format!("Unable to connect to the server: {why}"))
    }

    /// The body as it comes, of an answer that is no failure.
    ///
    /// # Errors
    /// The server's Status.
    pub(crate) async fn stream(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        payload: Payload,
    ) -> Outcome<Chunks> {
        let (head, mut chunks) = self.ask(method, path, accept, payload).await?;
        if head.status.is_success() {
            return Ok(chunks);
        }
        let bytes = chunks.all().await?;
        Err(refusal(head.status.as_u16(), &bytes).into())
    }

    /// The whole body.
    ///
    /// # Errors
    /// The server's Status.
    pub(crate) async fn bytes(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        payload: Payload,
    ) -> Outcome<Bytes> {
        self.stream(method, path, accept, payload).await?.all().await
    }

    /// The whole body as JSON.
    ///
    /// # Errors
    /// The server's Status.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        payload: Payload,
    ) -> Outcome<Value> {
        self.request_as(method, path, "application/json", payload).await
    }

    /// The same in another form of JSON.
    ///
    /// # Errors
    /// The server's Status.
    pub(crate) async fn request_as(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        payload: Payload,
    ) -> Outcome<Value> {
        let answer = self.bytes(method.clone(), path, accept, payload).await;
        let bytes = answer.map_err(|error| named(error, &method, path))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::Message(format!("{path}: the server's answer is no JSON: {error}"))
        })
    }

    /// `GET`.
    ///
    /// # Errors
    /// The server's Status.
    pub(crate) async fn get(&self, path: &str) -> Outcome<Value> {
        self.request(Method::GET, path, None).await
    }

    /// A connection for a protocol that takes over HTTP/1.1, and the headers that say
    /// who asks.
    ///
    /// # Errors
    /// Where the server is not reached.
    pub(crate) async fn dial(&self) -> Outcome<(Box<dyn Duplex>, &HeaderMap, &str)> {
        let dialled: Result<Box<dyn Duplex>, TransportError> = match &self.wire {
            Wire::Tls(https) => {
                https.dial(&self.server, b"http/1.1").await.map(|stream| Box::new(stream) as _)
            }
            Wire::Plain(route) => {
                route.connect(&self.server).await.map(|stream| Box::new(stream) as _)
            }
        };
        let stream = dialled.map_err(|error| self.unreachable(&error))?;
        Ok((stream, &self.headers, &self.prefix))
    }
}

/// Whether a server agrees to other protocols than HTTP/2: by an alert, or in silence.
fn is_without_http2(error: &TransportError) -> bool {
    ["NoApplicationProtocol", "the server does not speak h2"]
        .iter()
        .any(|said| error.0.ends_with(said))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::kubeconfig::{Names, Resolved};

    /// To a cluster, as somebody with a token.
    fn connection(cluster: Value) -> Connection {
        let map = |value: Value| value.as_object().cloned().unwrap_or_default();
        let resolved = Resolved {
            cluster: map(cluster),
            user: map(serde_json::json!({"token": "secret", "as": "joe"})),
            names: Names::default(),
            namespace: String::new(),
            namespace_given: false,
            timeout: None,
        };
        Connection::new(&resolved).expect("valid")
    }

    #[tokio::test]
    async fn a_server_without_tls_is_shown_no_credentials() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let server = format!("http://{}/pre", listener.local_addr().expect("bound"));
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut asked = vec![0; 4096];
            let read = stream.read(&mut asked).await.expect("a question");
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
            stream.write_all(answer).await.expect("a client");
            String::from_utf8_lossy(&asked[..read]).into_owned()
        });
        let connection = connection(serde_json::json!({"server": server}));
        assert_eq!(connection.get("/version").await.expect("an answer"), serde_json::json!({}));
        let asked = asked.await.expect("asked");
        assert!(asked.starts_with("GET /pre/version HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("impersonate-user: joe") && !asked.contains("secret"), "{asked}");
    }

    /// A server that agrees to HTTP/1.1 alone, and answers each connection once; with what
    /// it was asked.
    async fn old_server(agrees: bool) -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let cert = params.self_signed(&key).expect("a certificate").der().clone();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows them")
            .with_no_client_auth()
            .with_single_cert(vec![cert], key.into())
            .expect("our certificate");
        config.alpn_protocols = vec![if agrees { b"http/1.1".to_vec() } else { b"other".to_vec() }];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let server = format!("https://{}/pre", listener.local_addr().expect("bound"));
        let (asked, heard) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
                let mut question = vec![0; 4096];
                let read = stream.read(&mut question).await.unwrap_or(0);
                let _ = asked.send(String::from_utf8_lossy(&question[..read]).into_owned());
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
                let _ = stream.write_all(answer).await;
            }
        });
        (server, heard)
    }

    #[tokio::test]
    async fn a_server_without_http2_is_asked_by_http1() {
        let (server, mut heard) = old_server(true).await;
        let cluster = serde_json::json!({"server": server, "insecure-skip-tls-verify": true});
        let old = connection(cluster);
        for path in ["/version", "/api"] {
            assert_eq!(old.get(path).await.expect("an answer"), serde_json::json!({}));
            let asked = heard.recv().await.expect("asked");
            assert!(asked.starts_with(&format!("GET /pre{path} HTTP/1.1\r\n")), "{asked}");
            assert!(asked.contains("authorization: Bearer secret\r\n"), "{asked}");
        }
        let (server, _heard) = old_server(false).await;
        let cluster = serde_json::json!({"server": server, "insecure-skip-tls-verify": true});
        let told = connection(cluster).get("/version").await.expect_err("no HTTP");
        assert!(told.message().contains("NoApplicationProtocol"), "{}", told.message());
    }
}

//! The way to the API server that a kubeconfig names, as its user.

use std::{
    collections::BTreeSet,
    fmt::{Debug, Display},
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api_object::Status;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use client::{
    Body, Credentials, Https, HttpsConfig, ServerIdentity, Transport as _, TransportError,
};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use crate::{
    exec_plugin,
    failure::{Failure, Outcome, failed},
    kubeconfig::Resolved,
    route::{Route, with_port},
};

/// Where the machine keeps the CAs that everybody trusts.
const SYSTEM_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// A server, and who asks it.
#[derive(Debug)]
pub(crate) struct Connection {
    wire: Wire,
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

/// A text of letters, digits and signs that a header's name may have, the others in
/// `%XX`.
fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
    let byte = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// JSON as a request's body.
pub(crate) fn json(value: &Value) -> Payload {
    Some(("application/json", Bytes::from(value.to_string())))
}

impl Connection {
    /// From what the kubeconfig says. Connects later.
    ///
    /// # Errors
    /// Where files are missing, or the server's URL is none.
    pub(crate) fn new(resolved: &Resolved) -> Outcome<Self> {
        let (cluster, user) = (&resolved.cluster, &resolved.user);
        let url = cluster.get("server").and_then(Value::as_str).unwrap_or_default();
        let (scheme, authority, prefix) = address(url)?;
        let text = |map: &Map<String, Value>, key: &str| {
            map.get(key).and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned)
        };
        let plain = scheme == "http";
        let server = with_port(&authority, if plain { 80 } else { 443 });
        let proxy = text(cluster, "proxy-url");
        let proxy = proxy.as_deref().map(|url| (url, resolved.names.cluster.as_str()));
        let env = |name: &str| std::env::var(name).ok();
        let route = Route::find(proxy, (scheme, &server), &env)?;
        let unverified = cluster.get("insecure-skip-tls-verify").and_then(Value::as_bool);
        let identity = ServerIdentity {
            name: text(cluster, "tls-server-name"),
            unverified: unverified.unwrap_or(false),
        };
        let names = &resolved.names;
        readable(&[
            (user, "client-certificate", "client-cert", &names.user),
            (user, "client-key", "client-key", &names.user),
            (cluster, "certificate-authority", "certificate-authority", &names.cluster),
        ])?;
        let has_ca = ["certificate-authority", "certificate-authority-data"]
            .iter()
            .any(|key| text(cluster, key).is_some());
        if identity.unverified && has_ca {
            return failed(
                "specifying a root certificates file with the insecure flag is not allowed",
            );
        }
        // Without TLS anybody could read what proves who asks, so it stays here.
        let said: Map<String, Value>;
        let user = match plain {
            true => {
                let mut other = user.clone();
                other.retain(|key, _| key.starts_with("as"));
                said = other;
                &said
            }
            false => user,
        };
        let ca = data_or_file(cluster, "certificate-authority")?;
        let ca_pem = match ca {
            _ if identity.unverified || plain => Vec::new(),
            Some(pem) => pem,
            None => SYSTEM_ROOTS
                .iter()
                .find_map(|path| std::fs::read(path).ok())
                .ok_or_else(|| Failure::Message("the kubeconfig has no certificate-authority, and this machine no list of CAs".into()))?,
        };
        let mut cert = data_or_file(user, "client-certificate")?;
        let mut key = data_or_file(user, "client-key")?;
        let mut token = text(user, "token");
        if let Some(path) = text(user, "tokenFile") {
            let read = std::fs::read_to_string(&path).map_err(|error| {
                Failure::Message(crate::manifest::os_error("open", &path, &error))
            })?;
            token = Some(read.trim().to_owned());
        }
        if let Some(plugin) = user.get("exec") {
            let credential = exec_plugin::run(plugin, cluster)?;
            token = credential.token.or(token);
            cert = credential.certificate.or(cert);
            key = credential.key.or(key);
        }
        if user.contains_key("auth-provider") {
            return failed(
                "auth-provider of the kubeconfig was removed from Kubernetes in 1.26: use an exec plugin",
            );
        }
        let mut headers = HeaderMap::new();
        let mut put = |name: &str, value: &str| -> Outcome {
            let name = HeaderName::from_bytes(name.as_bytes());
            match (name, HeaderValue::from_str(value)) {
                (Ok(name), Ok(value)) => {
                    headers.append(name, value);
                    Ok(())
                }
                _ => failed(format!("{value:?} cannot be sent in a header")),
            }
        };
        if let Some(token) = token {
            put("authorization", &format!("Bearer {token}"))?;
        } else if let Some(name) = text(user, "username") {
            let password = text(user, "password").unwrap_or_default();
            put(
                "authorization",
                &format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))),
            )?;
        }
        if let Some(name) = text(user, "as") {
            put("impersonate-user", &name)?;
        }
        if let Some(uid) = text(user, "as-uid") {
            put("impersonate-uid", &uid)?;
        }
        for group in user.get("as-groups").and_then(Value::as_array).into_iter().flatten() {
            put("impersonate-group", group.as_str().unwrap_or_default())?;
        }
        for (key, values) in
            user.get("as-user-extra").and_then(Value::as_object).into_iter().flatten()
        {
            // In a header's name some signs cannot stand as they are.
            let name = format!("impersonate-extra-{}", percent_encoded(key));
            for value in values.as_array().into_iter().flatten() {
                put(&name, value.as_str().unwrap_or_default())?;
            }
        }
        let credentials = match (cert, key) {
            (Some(cert), Some(key)) => Credentials::Pem { cert, key },
            _ => Credentials::Anonymous,
        };
        let wire = match plain {
            true => Wire::Plain(route),
            false => {
                let servers = vec![server.clone()];
                let config = HttpsConfig { servers, ca_pem, credentials, clock: None };
                Wire::Tls(Https::by_way(config, identity, Arc::new(route))?)
            }
        };
        Ok(Self {
            wire,
            authority,
            server,
            prefix,
            headers,
            timeout: resolved.timeout,
            warned: Mutex::default(),
        })
    }

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
        Ok((head, Chunks { body, until }))
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
        Ok((head, Chunks { body, until: None }))
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, TransportError> {
        match &self.wire {
            Wire::Tls(https) => https.send(request).await,
            Wire::Plain(route) => self.send_plainly(route, request).await,
        }
    }

    /// By HTTP/1.1, over a connection of its own: a watch would hold up all others.
    async fn send_plainly(
        &self,
        route: &Route,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, TransportError> {
        fn broken(error: impl Display) -> TransportError {
            TransportError(error.to_string())
        }
        let mut request = request.map(Full::new);
        request.headers_mut().insert(header::HOST, self.authority.parse().map_err(broken)?);
        let stream = match route.forwarder() {
            // It is told what is wanted of whom.
            Some(proxy) => {
                let uri = format!("http://{}{}", self.authority, request.uri()).parse();
                *request.uri_mut() = uri.map_err(broken)?;
                if let Some(who) = proxy.authorization() {
                    let who = who.parse().map_err(broken)?;
                    request.headers_mut().insert(header::PROXY_AUTHORIZATION, who);
                }
                proxy.connect().await?
            }
            None => route.connect(&self.server).await?,
        };
        let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with the body; its error is the body's too.
        tokio::spawn(async move {
            let _ = driver.await;
        });
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let chunks = body.into_data_stream().map(|chunk| chunk.map_err(broken));
        Ok(Response::from_parts(head, Body::Stream(Box::pin(chunks))))
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

/// Names what was asked for where the server knows of no such place.
fn named(error: Failure, method: &Method, path: &str) -> Failure {
    match (error, subject(path)) {
        (Failure::Status(mut status), Some(subject)) if status.message == NO_SUCH => {
            let verb = method.as_str().to_lowercase();
            status.message = format!("{NO_SUCH} ({verb} {subject})");
            Failure::Status(status)
        }
        (error, _) => error,
    }
}

/// `deployments.apps web` of the path of a resource.
fn subject(path: &str) -> Option<String> {
    let path = path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", _, rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let (resource, name) = match rest {
        ["namespaces", _, resource, rest @ ..] => (resource, rest.first()),
        [resource, rest @ ..] => (resource, rest.first()),
        [] => return None,
    };
    let resource = match group {
        "" => (*resource).to_owned(),
        group => format!("{resource}.{group}"),
    };
    Some(name.map_or(resource.clone(), |name| format!("{resource} {name}")))
}

/// What is made of an answer that is no Status.
const NO_SUCH: &str = "the server could not find the requested resource";

/// A failed answer as a Status.
pub(crate) fn refusal(code: u16, bytes: &[u8]) -> Status {
    let parsed = serde_json::from_slice::<Status>(bytes).ok();
    let mut status = parsed.filter(|status| !status.kind.is_empty()).unwrap_or_else(|| Status {
        message: match code {
            404 => NO_SUCH.to_owned(),
            _ => String::from_utf8_lossy(bytes).trim().to_owned(),
        },
        reason: if code == 404 {
            api_object::Reason::NotFound
        } else {
            api_object::Reason::default()
        },
        ..Status::internal("")
    });
    status.code = code;
    status
}

/// A body as it comes.
#[derive(Debug)]
pub(crate) struct Chunks {
    body: Body,
    until: Option<Instant>,
}

/// What comes of it, where it comes in time.
async fn within<T>(until: Option<Instant>, waited: impl Future<Output = T>) -> Option<T> {
    match until {
        Some(until) => tokio::time::timeout_at(until, waited).await.ok(),
        None => Some(waited.await),
    }
}

impl Chunks {
    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Outcome<Bytes>> {
        match &mut self.body {
            Body::Full(bytes) if bytes.is_empty() => None,
            Body::Full(bytes) => Some(Ok(std::mem::take(bytes))),
            Body::Stream(stream) => match within(self.until, stream.next()).await {
                Some(chunk) => Some(chunk?.map_err(|error| Failure::Message(error.0))),
                None => Some(failed(
                    "net/http: request canceled (Client.Timeout exceeded while reading body)",
                )),
            },
        }
    }

    /// Whether the time of the request is over.
    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    /// All that is left.
    ///
    /// # Errors
    /// Where the connection breaks.
    pub(crate) async fn all(&mut self) -> Outcome<Bytes> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.next().await {
            all.extend_from_slice(&chunk?);
        }
        Ok(all.freeze())
    }
}

/// A body of JSON documents, one a line: a watch.
#[derive(Debug)]
pub(crate) struct Events {
    chunks: Chunks,
    rest: BytesMut,
}

impl Events {
    /// Cuts a body at its lines.
    pub(crate) fn new(chunks: Chunks) -> Self {
        Self { chunks, rest: BytesMut::new() }
    }

    /// The type of the next event and its object; `None` at the end.
    ///
    /// # Errors
    /// A Status in place of an object; a broken connection.
    pub(crate) async fn next(&mut self) -> Outcome<Option<(String, Value)>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end + 1);
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                let mut event: Value = serde_json::from_slice(&line).map_err(|error| {
                    Failure::Message(format!("a watch event is no JSON: {error}"))
                })?;
                let object = event["object"].take();
                let kind = event["type"].as_str().unwrap_or_default().to_owned();
                if kind == "ERROR" {
                    let code = object["code"].as_u64().unwrap_or(500) as u16;
                    return Err(refusal(code, object.to_string().as_bytes()).into());
                }
                return Ok(Some((kind, object)));
            }
            match self.chunks.next().await {
                Some(Err(_)) if self.chunks.is_over() => return Ok(None),
                Some(chunk) => self.rest.extend_from_slice(&chunk?),
                None => return Ok(None),
            }
        }
    }
}

/// The scheme, the authority and the path of a server's URL. Without a scheme it is plain
/// HTTP that is spoken, and without an URL it is to this machine.
fn address(url: &str) -> Outcome<(&str, String, String)> {
    let url = if url.is_empty() { "localhost:8080" } else { url };
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    if !matches!(scheme, "http" | "https") {
        return Err(Failure::Plain(format!(
            "Unable to connect to the server: unsupported protocol scheme {scheme:?}"
        )));
    }
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, format!("/{path}").trim_end_matches('/').to_owned()),
        None => (rest, String::new()),
    };
    Ok((scheme, authority.to_owned(), path))
}

/// Looks whether the files that are named can be read: what holds them, under which key,
/// what they are called, and whose they are.
fn readable(files: &[(&Map<String, Value>, &str, &str, &str)]) -> Outcome {
    let mut wrong = Vec::new();
    for (map, key, called, owner) in files {
        let data = map.get(&format!("{key}-data")).and_then(Value::as_str).unwrap_or_default();
        let path = map.get(*key).and_then(Value::as_str).unwrap_or_default();
        if path.is_empty() || !data.is_empty() {
            continue;
        }
        if let Err(error) = std::fs::File::open(path) {
            wrong.push(format!(
                "unable to read {called} {path} for {owner} due to {}",
                crate::manifest::os_error("open", path, &error)
            ));
        }
    }
    match wrong.as_slice() {
        [] => Ok(()),
        [one] => failed(one),
        many => Err(Failure::Plain(format!("Error in configuration: \n* {}", many.join("\n* ")))),
    }
}

/// `NAME-data` in base64, or the file `NAME`.
fn data_or_file(map: &Map<String, Value>, name: &str) -> Outcome<Option<Vec<u8>>> {
    if let Some(data) = map.get(&format!("{name}-data")).and_then(Value::as_str)
        && !data.is_empty()
    {
        let decoded = STANDARD.decode(data.trim());
        return decoded
            .map(Some)
            .map_err(|error| Failure::Message(format!("{name}-data of the kubeconfig: {error}")));
    }
    match map.get(name).and_then(Value::as_str).filter(|path| !path.is_empty()) {
        None => Ok(None),
        Some(path) => std::fs::read(path).map(Some).map_err(|error| {
            Failure::Message(format!(
                "unable to read {name} {path} due to {}",
                crate::manifest::os_error("open", path, &error)
            ))
        }),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn servers_are_read_from_urls() {
        for (url, scheme, authority, path) in [
            ("https://a:6443", "https", "a:6443", ""),
            ("https://a", "https", "a", ""),
            ("https://[::1]:1/k8s/x/", "https", "[::1]:1", "/k8s/x"),
            ("http://a", "http", "a", ""),
            ("a:1/x", "http", "a:1", "/x"),
            ("", "http", "localhost:8080", ""),
        ] {
            let found = address(url).expect(url);
            assert_eq!(found, (scheme, authority.to_owned(), path.to_owned()), "{url}");
        }
        assert!(address("ftp://a").is_err());
        for (authority, server) in [("a", "a:443"), ("[::1]", "[::1]:443"), ("a:1", "a:1")] {
            assert_eq!(with_port(authority, 443), server);
        }
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
        let map = |value: Value| value.as_object().cloned().unwrap_or_default();
        let resolved = Resolved {
            cluster: map(serde_json::json!({"server": server})),
            user: map(serde_json::json!({"token": "secret", "as": "joe"})),
            names: crate::kubeconfig::Names::default(),
            namespace: String::new(),
            namespace_given: false,
            timeout: None,
        };
        let connection = Connection::new(&resolved).expect("valid");
        assert_eq!(connection.get("/version").await.expect("an answer"), serde_json::json!({}));
        let asked = asked.await.expect("asked");
        assert!(asked.starts_with("GET /pre/version HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("impersonate-user: joe") && !asked.contains("secret"), "{asked}");
    }

    #[test]
    fn files_that_are_not_there_are_all_named() {
        let map = |text: Value| text.as_object().cloned().unwrap_or_default();
        let gone = "for u due to open /no/such: no such file or directory";
        for (user, said) in [
            (serde_json::json!({"client-key": "/dev/null"}), None),
            (serde_json::json!({"client-key": "/no/such", "client-key-data": "YQ=="}), None),
            (
                serde_json::json!({"client-certificate": "/no/such"}),
                Some(format!("error: unable to read client-cert /no/such {gone}\n")),
            ),
            (
                serde_json::json!({"client-certificate": "/no/such", "client-key": "/no/such"}),
                Some(format!(
                    "Error in configuration: \n* unable to read client-cert /no/such {gone}\n* unable to read client-key /no/such {gone}\n"
                )),
            ),
        ] {
            let user = map(user);
            let read = readable(&[
                (&user, "client-certificate", "client-cert", "u"),
                (&user, "client-key", "client-key", "u"),
            ]);
            assert_eq!(read.err().map(|error| error.text("get")), said, "{user:?}");
        }
    }

    #[test]
    fn answers_that_are_no_status_become_one() {
        for (path, subject) in [
            ("/api/v1/namespaces/a/configmaps/b/scale?x=y", Some("configmaps b")),
            ("/apis/apps/v1/namespaces/a/deployments", Some("deployments.apps")),
            ("/api/v1/namespaces/a", Some("namespaces a")),
            ("/healthz", None),
        ] {
            assert_eq!(super::subject(path).as_deref(), subject, "{path}");
        }
        let status = refusal(404, b"404 page not found");
        assert_eq!(status.message, "the server could not find the requested resource");
        assert_eq!(refusal(502, b"bad gateway\n").message, "bad gateway");
    }
}

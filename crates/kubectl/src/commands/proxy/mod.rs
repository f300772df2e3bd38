//! `kubectl proxy`: the API server on a port of this machine, as the kubeconfig's
//! user, and files of a folder beside it.

mod files;
mod filter;

use std::{convert::Infallible, path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};

use crate::{
    connection::{Connection, Passed},
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    session::Session,
};

use filter::Filter;

pub(super) static FLAGS: &[Flag] = &[
    value(
        "www",
        "DIR",
        "Also serve static files from the given directory under the specified prefix",
    )
    .short('w'),
    value("www-prefix", "PATH", "Prefix to serve static files under").or("/static/").short('P'),
    value("api-prefix", "PATH", "Prefix to serve the proxied API under").or("/"),
    value(
        "accept-paths",
        "EXPRESSIONS",
        "Regular expressions for paths that the proxy should accept",
    )
    .or("^.*"),
    value(
        "reject-paths",
        "EXPRESSIONS",
        "Regular expressions for paths that the proxy should reject",
    )
    .or("^/api/.*/pods/.*/exec,^/api/.*/pods/.*/attach"),
    value(
        "accept-hosts",
        "EXPRESSIONS",
        "Regular expressions for hosts that the proxy should accept",
    )
    .or(r"^localhost$,^127\.0\.0\.1$,^\[::1\]$"),
    value(
        "reject-methods",
        "EXPRESSIONS",
        "Regular expressions for HTTP methods that the proxy should reject",
    )
    .or("^$"),
    value("port", "N", "The port on which to run the proxy. Set to 0 to pick a random port")
        .or("8001")
        .short('p'),
    value("address", "IP", "The IP address on which to serve on").or("127.0.0.1"),
    switch(
        "disable-filter",
        "If true, disable request filtering in the proxy: any page that a browser here shows can then use it",
    ),
    value("unix-socket", "PATH", "Unix socket on which to run the proxy").short('u'),
    value("keepalive", "TIME", "Taken for compatibility: connections are kept").or("0s"),
    switch(
        "append-server-path",
        "Taken for compatibility: the path of the kubeconfig's server is always in front",
    ),
];

/// More is asked of no API.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

type Answer = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

/// What the proxy serves.
struct Proxy {
    connection: Arc<Connection>,
    /// None lets everything through.
    filter: Option<Filter>,
    api_prefix: String,
    /// Below which path, and from which folder.
    files: Option<(String, PathBuf)>,
}

fn with_slash(prefix: &str) -> String {
    if prefix.ends_with('/') { prefix.to_owned() } else { format!("{prefix}/") }
}

pub(super) async fn run(session: &Session) -> Outcome {
    let flags = &session.flags;
    if flags.is_set("port") && flags.one("port") != "8001" && flags.is_set("unix-socket") {
        return failed("cannot set --unix-socket and --port at the same time");
    }
    let filter = match flags.on("disable-filter") {
        true => {
            if !flags.is_set("unix-socket") {
                session.say("Warning: Request filter disabled, your proxy is vulnerable to XSRF attacks, please be cautious");
            }
            None
        }
        false => Some(
            Filter::new([
                flags.one("accept-paths"),
                flags.one("reject-paths"),
                flags.one("accept-hosts"),
                flags.one("reject-methods"),
            ])
            .map_err(Failure::Message)?,
        ),
    };
    let proxy = Arc::new(Proxy {
        connection: session.shared().await?.clone(),
        filter,
        api_prefix: with_slash(flags.one("api-prefix")),
        files: flags
            .is_set("www")
            .then(|| (with_slash(flags.one("www-prefix")), flags.one("www").into())),
    });
    let told = |at: &str| session.out(&format!("Starting to serve on {at}\n"));
    let broken = |error: std::io::Error| Failure::Message(error.to_string());
    if flags.is_set("unix-socket") {
        let path = flags.one("unix-socket");
        let listener = socket(path)
            .map_err(|error| Failure::Message(format!("listen unix {path}: bind: {error}")))?;
        told(path)?;
        loop {
            let (stream, _) = listener.accept().await.map_err(broken)?;
            tokio::spawn(serve(stream, proxy.clone()));
        }
    }
    let (address, port) = (flags.one("address"), flags.one("port"));
    let number: u16 = port
        .parse()
        .map_err(|_| Failure::Message(format!("listen tcp: address {port}: invalid port")))?;
    let listener = TcpListener::bind((address, number)).await.map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::AddrInUse => "address already in use".to_owned(),
            std::io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
            _ => error.to_string(),
        };
        Failure::Message(format!("listen tcp {address}:{port}: bind: {why}"))
    })?;
    told(&listener.local_addr().map_err(broken)?.to_string())?;
    loop {
        let (stream, _) = listener.accept().await.map_err(broken)?;
        tokio::spawn(serve(stream, proxy.clone()));
    }
}

/// A socket for this user alone; one that is left from before goes.
fn socket(path: &str) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::FileTypeExt as _;
    if std::fs::metadata(path).is_ok_and(|about| about.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    listener
}

async fn serve<S>(stream: S, proxy: Arc<Proxy>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let proxy = proxy.clone();
        async move { Ok::<_, Infallible>(proxy.answer(request).await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // Of a client that went there is nobody to tell.
    let _ = connection.with_upgrades().await;
}

fn text(status: StatusCode, text: &str) -> Answer {
    let body = Full::new(Bytes::from(format!("{text}\n"))).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, plain);
    answer
}

/// The path at the server of one that is asked for here; `None` for what is not the
/// API's. A prefix that begins like the API's own paths stays.
fn api_path(prefix: &str, path: &str) -> Option<String> {
    let rest = path.strip_prefix(prefix)?;
    match prefix.starts_with("/api") {
        true => Some(path.to_owned()),
        false => Some(format!("/{}", rest.trim_start_matches('/'))),
    }
}

/// Headers that are about one connection (RFC 9110, section 7.6.1), and its length.
const OF_THE_CONNECTION: &[HeaderName] = &[
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::CONTENT_LENGTH,
    header::HOST,
];

fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    for name in OF_THE_CONNECTION {
        kept.remove(name);
    }
    kept.remove("keep-alive");
    kept
}

impl Proxy {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        if let Some((prefix, folder)) = &self.files
            && let Some(rest) = path.strip_prefix(prefix.as_str())
        {
            return files::answer(folder, rest);
        }
        let Some(at) = api_path(&self.api_prefix, &path) else {
            return text(StatusCode::NOT_FOUND, "404 page not found");
        };
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        if let Some(filter) = &self.filter
            && !filter.accepts(request.method().as_str(), &at, host.unwrap_or_default())
        {
            return text(StatusCode::FORBIDDEN, "Forbidden");
        }
        let at = match request.uri().query() {
            Some(query) => format!("{at}?{query}"),
            None => at,
        };
        let upgrades = request.headers().contains_key(header::UPGRADE);
        let outcome = match upgrades {
            true => self.switch(request, &at).await,
            false => self.pass(request, at).await,
        };
        outcome.unwrap_or_else(|error| {
            let why = error.message();
            eprintln!("error: Error while proxying request: {why}");
            text(StatusCode::INTERNAL_SERVER_ERROR, &why)
        })
    }

    async fn pass(&self, request: Request<Incoming>, at: String) -> Outcome<Answer> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| Failure::Message(error.to_string()))?.to_bytes();
        let passed =
            Passed { method: head.method, path: at, headers: passed_on(&head.headers), body };
        let (head, chunks) = self.connection.pass(passed).await?;
        let chunks = futures_util::stream::unfold(chunks, |mut chunks| async move {
            let chunk = chunks.next().await?;
            let chunk = chunk.map(Frame::data);
            Some((chunk.map_err(|error| std::io::Error::other(error.message())), chunks))
        });
        let mut answer = Response::new(StreamBody::new(chunks.boxed()).boxed_unsync());
        *answer.status_mut() = head.status;
        *answer.headers_mut() = passed_on(&head.headers);
        Ok(answer)
    }

    /// A request that changes protocols: its connection to the server is its own, and
    /// bytes go both ways as they are.
    async fn switch(&self, mut request: Request<Incoming>, at: &str) -> Outcome<Answer> {
        let (stream, headers, prefix) = self.connection.dial().await?;
        let broken = |error: hyper::Error| Failure::Message(error.to_string());
        let (mut sender, driver) =
            conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(driver.with_upgrades());
        let mut asked = Request::new(Empty::<Bytes>::new());
        *asked.method_mut() = request.method().clone();
        let uri = format!("{prefix}{at}").parse();
        *asked.uri_mut() = uri.map_err(|error| Failure::Message(format!("{at}: {error}")))?;
        let all = asked.headers_mut();
        *all = request.headers().clone();
        all.remove(header::CONTENT_LENGTH);
        let host = self.connection.authority.parse();
        all.insert(header::HOST, host.map_err(|_| Failure::Message("no host".into()))?);
        for (name, value) in headers {
            if !request.headers().contains_key(name) {
                all.append(name, value.clone());
            }
        }
        let mut answer = sender.send_request(asked).await.map_err(broken)?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer.map(|body| body.map_err(std::io::Error::other).boxed_unsync()));
        }
        let (here, there) = (hyper::upgrade::on(&mut request), hyper::upgrade::on(&mut answer));
        tokio::spawn(async move {
            if let (Ok(here), Ok(there)) = tokio::join!(here, there) {
                let (mut here, mut there) = (TokioIo::new(here), TokioIo::new(there));
                // It ends when either side goes.
                let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
            }
        });
        Ok(answer.map(|_| Empty::new().map_err(|never| match never {}).boxed_unsync()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_taken_off_but_for_the_apis_own() {
        for (prefix, path, at) in [
            ("/", "/api/v1/pods", Some("/api/v1/pods")),
            ("/", "/", Some("/")),
            ("/custom/", "/custom/api/v1", Some("/api/v1")),
            ("/custom/", "/other", None),
            ("/api/", "/api/v1", Some("/api/v1")),
            ("/api/", "/apis/apps", None),
        ] {
            assert_eq!(api_path(prefix, path).as_deref(), at, "{prefix} {path}");
        }
    }
}

//! The HTTPS transport against servers on real sockets.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::Pending};
use http::{Request, Response, StatusCode, header};
use http_body_util::{Either, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

use crate::{Api, Body, Credentials, Error, Https, HttpsConfig, Resource, Transport as _};

const PODS: Resource = Resource::namespaced("", "v1", "pods");

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a CA"))
    }

    fn leaf(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        (params.signed_by(&key, &self.0).expect("a certificate"), key)
    }
}

/// A server that answers with a Pod named after whom it saw.
async fn serve(authority: &Authority) -> (String, JoinHandle<()>) {
    serve_but(authority, Arc::default()).await
}

/// The same, which tells when it is asked for what it never ends: `never` the answer, and
/// `begun` what it has begun to answer.
async fn serve_but(authority: &Authority, asked: Arc<Notify>) -> (String, JoinHandle<()>) {
    let (cert, key) = authority.leaf("127.0.0.1");
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).expect("our CA");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .expect("our CA");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows them")
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("our certificate");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it listens").to_string();
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (tcp, _) = listener.accept().await.expect("a connection");
            let (acceptor, asked) = (acceptor.clone(), asked.clone());
            connections.spawn(async move {
                let Ok(stream) = acceptor.accept(tcp).await else { return };
                let cert = stream.get_ref().1.peer_certificates().is_some();
                let service = service_fn(move |request: Request<Incoming>| {
                    let asked = asked.clone();
                    async move {
                        if request.uri().path().ends_with("/never") {
                            asked.notify_one();
                            std::future::pending::<()>().await;
                        }
                        if request.uri().path().ends_with("/begun") {
                            asked.notify_one();
                            let body = StreamBody::new(futures_util::stream::pending());
                            return Ok(Response::new(Either::Right(body)));
                        }
                        Ok::<Response<Answer>, Infallible>(answer(&request, cert).map(Either::Left))
                    }
                });
                let connection = http2::Builder::new(TokioExecutor::new());
                drop(connection.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    (address, task)
}

/// A body that is whole, or one of which nothing more comes.
type Answer = Either<Full<Bytes>, StreamBody<Pending<Result<Frame<Bytes>, Infallible>>>>;

fn answer(request: &Request<Incoming>, cert: bool) -> Response<Full<Bytes>> {
    let token = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let who = match (cert, token) {
        (true, _) => "certificate",
        (_, Some(token)) => token,
        (false, None) => {
            let mut response = Response::new(Full::new(Bytes::from_static(b"who are you")));
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            return response;
        }
    };
    Response::new(Full::new(format!(r#"{{"metadata":{{"name":"{who}"}}}}"#).into()))
}

fn api(authority: &Authority, servers: &[&str], credentials: Credentials) -> Api {
    Api::new(Arc::new(https(authority, servers, credentials)), "test")
}

fn https(authority: &Authority, servers: &[&str], credentials: Credentials) -> Https {
    let config = HttpsConfig {
        servers: servers.iter().map(|server| (*server).to_owned()).collect(),
        ca_pem: authority.0.pem().into_bytes(),
        clock: None,
        credentials,
    };
    Https::new(config).expect("valid")
}

async fn who(api: &Api) -> String {
    api.get(PODS, "ns", "x").await.expect("an answer").meta.name
}

#[tokio::test]
async fn each_credential_is_shown() {
    let authority = Authority::new();
    let (server, _task) = serve(&authority).await;
    let (cert, key) = authority.leaf("client");
    let (cert, key) = (cert.pem().into_bytes(), key.serialize_pem().into_bytes());
    let folder = std::env::temp_dir().join(format!("skiff-client-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = |name: &str| folder.join(name);
    for (name, bytes) in [("cert", &cert), ("key", &key), ("token", &b"from-file\n".to_vec())] {
        std::fs::write(path(name), bytes).expect("a file");
    }
    let table = [
        (Credentials::Pem { cert, key }, "certificate"),
        (Credentials::CertFiles { cert: path("cert"), key: path("key") }, "certificate"),
        (Credentials::Token("abc".into()), "Bearer abc"),
        (Credentials::TokenFile(path("token")), "Bearer from-file"),
    ];
    for (credentials, wanted) in table {
        let shown = format!("{credentials:?}");
        assert_eq!(who(&api(&authority, &[&server], credentials)).await, wanted, "{shown}");
    }
    std::fs::remove_dir_all(&folder).expect("it is ours");
    let error = api(&authority, &[&server], Credentials::Anonymous).get(PODS, "ns", "x").await;
    assert_eq!(error.expect_err("refused").code(), Some(401));
}

#[tokio::test]
async fn a_server_that_is_away_is_passed_over() {
    let authority = Authority::new();
    let (first, first_task) = serve(&authority).await;
    let (second, _task) = serve(&authority).await;
    // Nobody listens on the discard port of this loopback address.
    let api = api(&authority, &["127.0.0.9:9", &first, &second], Credentials::Token("t".into()));
    assert_eq!(who(&api).await, "Bearer t");
    first_task.abort();
    drop(first_task.await);
    assert_eq!(who(&api).await, "Bearer t", "the second took over");
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_trusted() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (server, _task) = serve(&theirs).await;
    let api = api(&ours, &[&server], Credentials::Token("secret".into()));
    let asked = tokio::time::timeout(Duration::from_secs(10), api.get(PODS, "ns", "x"));
    let error = asked.await.expect("refused at once").expect_err("not trusted");
    assert!(
        matches!(error, Error::Transport(ref error) if error.0.contains("certificate")),
        "{error}"
    );
}

#[tokio::test]
async fn a_request_that_nobody_polls_holds_up_no_other() {
    let authority = Authority::new();
    let (server, _task) = serve(&authority).await;
    let api = api(&authority, &[&server], Credentials::Token("t".into()));
    let mut left = std::pin::pin!(who(&api));
    // It has begun to connect, and its caller does something else.
    std::future::poll_fn(|context| {
        assert!(left.as_mut().poll(context).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    let other = tokio::time::timeout(Duration::from_secs(30), who(&api)).await;
    assert_eq!(other.expect("answered"), left.await);
}

#[tokio::test]
async fn what_runs_when_it_is_hung_up_ends() {
    let authority = Authority::new();
    let asked = Arc::new(Notify::new());
    let (server, _task) = serve_but(&authority, asked.clone()).await;
    let https = https(&authority, &[&server], Credentials::Token("t".into()));
    let api = Api::new(Arc::new(https.clone()), "test");
    let waiting = tokio::spawn(async move { api.get(PODS, "ns", "never").await });
    // What is not answered yet is asked once more by itself.
    for _ in 0..2 {
        asked.notified().await;
        https.hang_up().await;
    }
    let ended = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    let ended = ended.expect("no ping was waited for").expect("no panic");
    assert!(matches!(ended, Err(Error::Transport(_))), "{ended:?}");

    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = http::Uri::from_static("/begun");
    let Body::Stream(mut chunks) = https.send(request).await.expect("its head").into_body() else {
        panic!("it is whole")
    };
    https.hang_up().await;
    let next = tokio::time::timeout(Duration::from_secs(30), chunks.next()).await;
    assert!(matches!(next.expect("no ping was waited for"), Some(Err(_))));
    let api = Api::new(Arc::new(https), "test");
    assert_eq!(who(&api).await, "Bearer t", "the next asks on another connection");
}

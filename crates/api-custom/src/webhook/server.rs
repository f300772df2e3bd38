//! A conversion webhook on a real socket: `spec.address` (`host:port`) in v1 is
//! `spec.host` and `spec.port` in v2.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

/// What the webhook does with an answer that is right, before it is sent.
pub(super) type Spoil = fn(&mut Value);

/// A running webhook, gone when dropped.
pub(super) struct Server {
    pub(super) ca_pem: String,
    pub(super) port: u16,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

struct State {
    spoil: Spoil,
    status: StatusCode,
    /// The objects of each call.
    calls: Vec<usize>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(super) async fn start() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("a CA");
        let key = KeyPair::generate().expect("a key");
        let names = ["127.0.0.1", "localhost", "hook.default.svc"].map(str::to_owned);
        let params = CertificateParams::new(names).expect("names");
        let cert = params.signed_by(&key, &authority).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows them")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("our certificate");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("it listens").port();
        let state = State { spoil: |_| {}, status: StatusCode::OK, calls: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let task = tokio::spawn(serve(listener, acceptor, state.clone()));
        Self { ca_pem: authority.pem(), port, state, task }
    }

    /// From now on answers go through this.
    pub(super) fn spoil(&self, spoil: Spoil) {
        self.state.lock().expect("no panic").spoil = spoil;
    }

    /// From now on answers have this status.
    pub(super) fn answer_with(&self, status: StatusCode) {
        self.state.lock().expect("no panic").status = status;
    }

    /// The numbers of objects of the calls since the last look.
    pub(super) fn calls(&self) -> Vec<usize> {
        std::mem::take(&mut self.state.lock().expect("no panic").calls)
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<Mutex<State>>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await.expect("a connection");
        let (acceptor, state) = (acceptor.clone(), state.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(tcp).await else { return };
            let service = service_fn(move |request| answer(request, state.clone()));
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.uri(), "/convert?timeout=30s");
    let body = request.into_body().collect().await.expect("a whole request").to_bytes();
    let review: Value = serde_json::from_slice(&body).expect("JSON");
    let request = &review["request"];
    let wanted = request["desiredAPIVersion"].as_str().expect("a version");
    let objects = request["objects"].as_array().expect("objects");
    let mut state = state.lock().expect("no panic");
    state.calls.push(objects.len());
    let mut answer = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
        "response": {
            "uid": request["uid"], "result": {"status": "Success"},
            "convertedObjects": objects.iter().map(|object| convert(object, wanted)).collect::<Vec<_>>(),
        },
    });
    (state.spoil)(&mut answer["response"]);
    let mut response = Response::new(Full::new(answer.to_string().into()));
    *response.status_mut() = state.status;
    Ok(response)
}

fn convert(object: &Value, wanted: &str) -> Value {
    let mut object = object.clone();
    assert_ne!(object["apiVersion"], wanted, "nobody asks for nothing");
    object["apiVersion"] = wanted.into();
    let Some(spec) = object["spec"].as_object_mut() else { return object };
    if wanted.ends_with("/v2") {
        let address = spec.remove("address");
        if let Some((host, port)) =
            address.as_ref().and_then(Value::as_str).and_then(|a| a.split_once(':'))
        {
            spec.insert("host".into(), host.into());
            spec.insert("port".into(), port.into());
        }
    } else if let (Some(host), Some(port)) = (spec.remove("host"), spec.remove("port")) {
        let text = |value: Value| value.as_str().expect("text").to_owned();
        spec.insert("address".into(), format!("{}:{}", text(host), text(port)).into());
    }
    object
}

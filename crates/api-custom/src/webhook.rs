//! Calls of conversion webhooks: HTTPS to a URL or to a service of the cluster.

use std::{
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use api_registry::{BoxFuture, Converter};
use api_schema::{Webhook, WebhookService, tree};
use bytes::Bytes;
use client::Api;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::review;

/// Upstream's limit for one call.
const CALL_MAX: Duration = Duration::from_secs(30);
/// An answer may be a whole list of objects.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Connections that wait for the next call, for each webhook.
const IDLE_MAX: usize = 4;

/// Calls conversion webhooks; keeps connections for the next call.
#[derive(Default)]
pub struct Webhooks {
    /// For services' addresses; set once the server that needs this converter
    /// is there to be asked.
    api: OnceLock<Api>,
    /// A number for each call, which the answer repeats.
    calls: AtomicU64,
    idle: Mutex<HashMap<u64, Vec<SendRequest<Full<Bytes>>>>>,
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Webhooks")
    }
}

/// Where a webhook is and by which name its certificate knows it.
struct Place {
    host: String,
    port: u16,
    server_name: String,
    path: String,
}

impl Webhooks {
    /// From now on, webhooks that are services are found through `api`, which
    /// must be allowed to read services. Only the first call counts.
    pub fn find_services_with(&self, api: Api) {
        let _ = self.api.set(api);
    }

    async fn call(&self, webhook: &Webhook, body: &Value) -> Result<Value, String> {
        let body = Bytes::from(body.to_string());
        let place = self.place(webhook).await?;
        let mut hasher = DefaultHasher::new();
        (&place.host, place.port, &place.server_name, &webhook.ca_bundle).hash(&mut hasher);
        let key = hasher.finish();
        let kept = self.idle(|idle| idle.get_mut(&key).and_then(Vec::pop));
        if let Some(mut connection) = kept.filter(|connection| !connection.is_closed()) {
            // It may have ended meanwhile; converting twice does no harm.
            if let Ok(answer) = post(&mut connection, &place, body.clone()).await {
                self.keep(key, connection);
                return answer;
            }
        }
        let mut connection = connect(&place, webhook).await?;
        let answer = post(&mut connection, &place, body).await?;
        self.keep(key, connection);
        answer
    }

    fn idle<T>(
        &self,
        with: impl FnOnce(&mut HashMap<u64, Vec<SendRequest<Full<Bytes>>>>) -> T,
    ) -> T {
        with(&mut self.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn keep(&self, key: u64, connection: SendRequest<Full<Bytes>>) {
        self.idle(|idle| {
            // Those of webhooks that nobody asks any more end by themselves.
            idle.retain(|_, kept| {
                kept.retain(|connection| !connection.is_closed());
                !kept.is_empty()
            });
            let kept = idle.entry(key).or_default();
            if kept.len() < IDLE_MAX {
                kept.push(connection);
            }
        });
    }

    async fn place(&self, webhook: &Webhook) -> Result<Place, String> {
        if let Some(service) = &webhook.service {
            return self.service(service).await;
        }
        let uri: Uri = webhook.url.parse().map_err(|error| format!("{}: {error}", webhook.url))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Place {
            port: uri.port_u16().unwrap_or(443),
            server_name: host.clone(),
            path: path.to_owned(),
            host,
        })
    }

    async fn service(&self, service: &WebhookService) -> Result<Place, String> {
        let WebhookService { namespace, name, path, port } = service;
        let url = format!("/api/v1/namespaces/{namespace}/services/{name}");
        let api = self.api.get().ok_or("services cannot be looked up yet")?;
        let found = api.request(Method::GET, &url, None, Bytes::new()).await;
        let found: Value = serde_json::from_slice(&found.map_err(|error| error.to_string())?)
            .map_err(|error| error.to_string())?;
        let host = match tree::text(&found, "spec.type") {
            "ExternalName" => tree::text(&found, "spec.externalName"),
            _ => tree::text(&found, "spec.clusterIP"),
        };
        if matches!(host, "" | "None") {
            return Err(format!("service {namespace}/{name} has no cluster IP"));
        }
        let path = if path.starts_with('/') { path.clone() } else { format!("/{path}") };
        let server_name = format!("{name}.{namespace}.svc");
        Ok(Place { host: host.to_owned(), port: *port, server_name, path })
    }
}

impl Converter for Webhooks {
    fn convert<'a>(
        &'a self,
        webhook: &'a Webhook,
        api_version: &'a str,
        objects: Vec<Value>,
    ) -> BoxFuture<'a, Result<Vec<Value>, String>> {
        Box::pin(async move {
            if !webhook.review_versions.iter().any(|version| version == "v1") {
                return Err("no known version of ConversionReview is accepted".into());
            }
            let uid = self.calls.fetch_add(1, Ordering::Relaxed);
            let uid = format!("00000000-0000-4000-8000-{uid:012x}");
            let request = review::request(&uid, api_version, &objects);
            let answer = timeout(CALL_MAX, self.call(webhook, &request))
                .await
                .map_err(|_| "context deadline exceeded".to_owned())??;
            review::read(&answer, &uid, api_version, &objects)
        })
    }
}

async fn connect(place: &Place, webhook: &Webhook) -> Result<SendRequest<Full<Bytes>>, String> {
    let Place { host, port, server_name, .. } = place;
    let name = ServerName::try_from(server_name.clone()).map_err(|error| error.to_string())?;
    let tls = TlsConnector::from(Arc::new(tls_config(&webhook.ca_bundle)?));
    let tcp = TcpStream::connect((host.as_str(), *port))
        .await
        .map_err(|error| format!("dial tcp {host}:{port}: connect: {error}"))?;
    let stream = tls.connect(name, tcp).await.map_err(|error| format!("tls: {error}"))?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a conversion webhook's connection ended");
        }
    });
    Ok(sender)
}

fn tls_config(ca_bundle: &[u8]) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(ca_bundle) {
        let cert = cert.map_err(|error| format!("caBundle: {error}"))?;
        roots.add(cert).map_err(|error| format!("caBundle: {error}"))?;
    }
    if ca_bundle.is_empty() {
        roots.roots = webpki_roots::TLS_SERVER_ROOTS.to_vec();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// One request and its answer. The outer error is a connection that did not
/// carry it, the inner one an answer that is none.
async fn post(
    connection: &mut SendRequest<Full<Bytes>>,
    place: &Place,
    body: Bytes,
) -> Result<Result<Value, String>, String> {
    let host = match place.server_name.contains(':') {
        true => format!("[{}]:{}", place.server_name, place.port),
        false => format!("{}:{}", place.server_name, place.port),
    };
    let request = Request::post(&place.path)
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, "skiff/conversion")
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    connection.ready().await.map_err(|error| error.to_string())?;
    let (head, body) =
        connection.send_request(request).await.map_err(|error| error.to_string())?.into_parts();
    let bytes = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let bytes = bytes.map_err(|error| error.to_string())?.to_bytes();
    if !head.status.is_success() {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(256)]).into_owned();
        return Ok(Err(format!("the server answered {}: {text}", head.status)));
    }
    Ok(serde_json::from_slice(&bytes).map_err(|error| error.to_string()))
}

//! Calls of webhooks: HTTPS to a URL or to a service of the cluster.

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

use api_registry::{BoxFuture, Caller, Connection, Converter};
use api_schema::{Webhook, WebhookService};
use bytes::Bytes;
use client::Api;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use serde_json::Value;
use tokio::time::timeout;
use tunnel::Nodes;

use crate::{review, service};

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;

/// Upstream's limit for one conversion, in seconds.
const CONVERSION_SECONDS: u32 = 30;
/// An answer may be a whole list of objects.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Of a page that says why not.
const REFUSAL_BYTES_MAX: usize = 256;
/// Connections that wait for the next call, for each webhook.
const IDLE_MAX: usize = 4;

/// Calls webhooks; keeps connections for the next call.
#[derive(Default)]
pub struct Webhooks {
    /// For services' addresses; set once the server that needs this converter
    /// is there to be asked.
    api: OnceLock<Api>,
    /// The way to services' pods where the network leads to none.
    nodes: Arc<Nodes>,
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
    /// Where it is one of the cluster.
    service: Option<service::Port>,
    server_name: String,
    /// With the query.
    path: String,
}

impl Place {
    /// The webhook is told how long it may take.
    fn url_of(webhook: &Webhook, seconds: u32) -> String {
        let Some(WebhookService { namespace, name, path, port }) = &webhook.service else {
            return format!("{}?timeout={seconds}s", webhook.url);
        };
        let slash = if path.starts_with('/') { "" } else { "/" };
        format!("https://{name}.{namespace}.svc:{port}{slash}{path}?timeout={seconds}s")
    }
}

impl Webhooks {
    /// Those that may be asked through the tunnels of these nodes.
    pub fn new(nodes: Arc<Nodes>) -> Self {
        Self { nodes, ..Self::default() }
    }

    /// From now on, webhooks that are services are found through `api`, which
    /// must be allowed to read services and endpoints. Only the first call counts.
    pub fn find_services_with(&self, api: Api) {
        let _ = self.api.set(api);
    }

    /// One call within its time.
    async fn ask(&self, webhook: &Webhook, body: &Value, seconds: u32) -> Result<Value, String> {
        match timeout(Duration::from_secs(seconds.into()), self.post(webhook, body, seconds)).await
        {
            Ok(answer) => answer,
            Err(_) => {
                let url = Place::url_of(webhook, seconds);
                Err(format!("Post {url:?}: context deadline exceeded"))
            }
        }
    }

    async fn post(&self, webhook: &Webhook, body: &Value, seconds: u32) -> Result<Value, String> {
        let body = Bytes::from(body.to_string());
        let url = Place::url_of(webhook, seconds);
        let undelivered = |why: String| format!("Post {url:?}: {why}");
        let place = self.place(webhook, &url).await.map_err(undelivered)?;
        let mut hasher = DefaultHasher::new();
        (&place.host, place.port, &place.server_name, &webhook.ca_bundle).hash(&mut hasher);
        let key = hasher.finish();
        let kept = self.idle(|idle| idle.get_mut(&key).and_then(Vec::pop));
        if let Some(mut connection) = kept.filter(|connection| !connection.is_closed()) {
            // It may have ended meanwhile; asking twice does no harm.
            if let Ok(answer) = post(&mut connection, &place, body.clone()).await {
                self.keep(key, connection);
                return answer;
            }
        }
        let mut connection = self.connect(&place, webhook).await.map_err(undelivered)?;
        let answer = post(&mut connection, &place, body).await.map_err(undelivered)?;
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

    async fn place(&self, webhook: &Webhook, url: &str) -> Result<Place, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        let server_name = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(443);
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let service = match &webhook.service {
            Some(WebhookService { namespace, name, port, .. }) => {
                let api = self.api.get().ok_or("services cannot be looked up yet")?;
                Some(service::Port::find(api, namespace, name, *port).await?)
            }
            None => None,
        };
        let host = service.as_ref().map_or(&*server_name, service::Port::host).to_owned();
        Ok(Place { host, port, service, server_name, path })
    }

    async fn connect(
        &self,
        place: &Place,
        webhook: &Webhook,
    ) -> Result<SendRequest<Full<Bytes>>, String> {
        let config = Arc::new(tls_config(&webhook.ca_bundle)?);
        let dialed = match (&place.service, self.api.get()) {
            (Some(port), Some(api)) => port.connect(api, &self.nodes).await?,
            _ => service::Dialed::Direct(service::dial(&place.host, place.port).await?),
        };
        let connection: Box<dyn Connection> = dialed.into();
        let stream = service::secure(config, connection, &place.server_name).await?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a webhook's connection ended");
            }
        });
        Ok(sender)
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
            let version = review::Version::choose(&webhook.review_versions)
                .ok_or("failed: no known version of ConversionReview is accepted")?;
            let uid = self.calls.fetch_add(1, Ordering::Relaxed);
            let uid = format!("00000000-0000-4000-8000-{uid:012x}");
            let request = review::request(version, &uid, api_version, &objects);
            let answer = self.ask(webhook, &request, CONVERSION_SECONDS).await;
            let answer = answer.map_err(|why| format!("failed: {why}"))?;
            review::read(&answer, version, &uid, api_version, &objects)
        })
    }
}

impl Caller for Webhooks {
    fn call<'a>(
        &'a self,
        webhook: &'a Webhook,
        review: &'a Value,
        seconds: u32,
    ) -> BoxFuture<'a, Result<Value, String>> {
        Box::pin(self.ask(webhook, review, seconds))
    }
}

fn tls_config(ca_bundle: &[u8]) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(service::roots(ca_bundle)?).with_no_client_auth())
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
        .header(header::USER_AGENT, "kube-apiserver-admission")
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    connection.ready().await.map_err(|error| error.to_string())?;
    let (head, body) =
        connection.send_request(request).await.map_err(|error| error.to_string())?.into_parts();
    let bytes = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let bytes = bytes.map_err(|error| error.to_string())?.to_bytes();
    if !head.status.is_success() {
        return Ok(Err(refusal(head.status, &bytes)));
    }
    Ok(serde_json::from_slice(&bytes).map_err(|error| error.to_string()))
}

/// What an HTTP status other than success is told as.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(REFUSAL_BYTES_MAX)]);
    match status {
        StatusCode::NOT_FOUND => "the server could not find the requested resource".into(),
        _ if status.is_server_error() => format!(
            "an error on the server ({:?}) has prevented the request from succeeding",
            text.trim()
        ),
        _ => format!("the server rejected our request with {status}: {}", text.trim()),
    }
}

//! What other servers say that they serve. They are asked when somebody asks here,
//! and not again for a while; nobody is asked while nobody wants to know.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api_registry::Extension;
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Either, Full, Limited};
use serde_json::Value;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{aggregator, discovery, host, identity, openapi};
use crate::ApiServer;

/// So old may an answer be; upstream asks every minute.
const FRESH: Duration = Duration::from_secs(30);
/// Upstream's time for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// The resources of the version, as aggregated discovery lists them.
    Resources,
    /// Where its OpenAPI document is, with the hash in it; null where it has none.
    OpenApi,
    /// Its part of an OpenAPI document of version 2; null where it has none.
    OpenApiV2,
}

/// What one of them said.
pub(crate) struct Told {
    pub(crate) of: Arc<Extension>,
    /// `None` where it never answered.
    pub(crate) value: Option<Value>,
    /// It would say the same now, as far as is known.
    pub(crate) current: bool,
}

struct Kept {
    of: Arc<Extension>,
    at: Instant,
    value: Option<Value>,
    current: bool,
}

/// The last answers, by version and question.
#[derive(Default)]
pub(crate) struct Learned(Mutex<BTreeMap<(String, What), Kept>>);

impl ApiServer {
    /// What the others say. Who does not answer in time is told of by what it said
    /// before.
    pub(crate) async fn learn(&self, what: What) -> Vec<Told> {
        let registered = self.parts.extensions.registered();
        // Who comes meanwhile waits for the same answers.
        let mut kept = self.learned.0.lock().await;
        let now = Instant::now();
        let others = &registered.others;
        kept.retain(|(version, _), _| others.iter().any(|of| of.group_version() == *version));
        let fresh = |of: &Extension| {
            let known = kept.get(&(of.group_version(), what));
            known.is_some_and(|known| *known.of == *of && now.duration_since(known.at) < FRESH)
        };
        let due = others.iter().filter(|of| of.available && !fresh(of));
        let asked = due.map(|of| async move { (of.clone(), self.ask(of, what).await) });
        for (of, answer) in join_all(asked).await {
            let key = (of.group_version(), what);
            let (value, current) = match answer {
                Ok(value) => (Some(value), true),
                Err(why) => {
                    tracing::warn!(version = key.0, "what it serves could not be learned: {why}");
                    (kept.remove(&key).and_then(|before| before.value), false)
                }
            };
            kept.insert(key, Kept { of, at: now, value, current });
        }
        let told = |of: &Arc<Extension>| {
            let known = kept.get(&(of.group_version(), what));
            Told {
                of: of.clone(),
                value: known.and_then(|known| known.value.clone()),
                current: of.available && known.is_some_and(|known| known.current),
            }
        };
        others.iter().map(told).collect()
    }

    async fn ask(&self, of: &Arc<Extension>, what: What) -> Result<Value, String> {
        let (group, version) = (&of.priority.group, &of.priority.version);
        let own = format!("apis/{group}/{version}");
        let path = match what {
            What::Resources => format!("/{own}"),
            What::OpenApi => "/openapi/v3".to_owned(),
            What::OpenApiV2 => "/openapi/v2".to_owned(),
        };
        let (status, bytes) = self.fetch(of, &path).await?;
        if what != What::Resources && status == StatusCode::NOT_FOUND {
            return Ok(Value::Null);
        }
        if status != StatusCode::OK {
            return Err(format!("{path}: {status}"));
        }
        let said: Value =
            serde_json::from_slice(&bytes).map_err(|error| format!("{path}: {error}"))?;
        Ok(match what {
            What::Resources => discovery::resources(&said, group, version).into(),
            What::OpenApi => said["paths"][&own]["serverRelativeURL"].clone(),
            What::OpenApiV2 => openapi::part(said, &own),
        })
    }

    /// One document of another server, asked for in this server's own name.
    async fn fetch(&self, of: &Arc<Extension>, path: &str) -> Result<(StatusCode, Bytes), String> {
        let asking = async {
            let mut request = Request::get(path)
                .header(header::ACCEPT, "application/json")
                .header(header::USER_AGENT, "kube-aggregator")
                .body(Either::Left(Full::default()))
                .map_err(|error| error.to_string())?;
            let headers = request.headers_mut();
            headers.insert(header::HOST, host(of).map_err(|status| status.message)?);
            identity::put(headers, &aggregator()).map_err(|status| status.message)?;
            let response = self.exchange(of, request).await?;
            let status = response.status();
            let bytes = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            Ok((status, bytes.map_err(|error| error.to_string())?.to_bytes()))
        };
        let late = |_| Err(format!("{path}: context deadline exceeded"));
        timeout(ANSWER_MAX, asking).await.unwrap_or_else(late)
    }
}

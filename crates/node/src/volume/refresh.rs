//! Fills payload volumes, and keeps them filled: objects change, tokens age.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use api_types::core::{Pod, Volume};
use client::{Ambient, Api};
use futures_util::future::select_all;
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    Kind, VolumeError, atomic, fs_group, kind,
    objects::{Followed, Known, Objects},
    payload::{self, Contents, TokenKey},
    pod_certificate,
    trust::Bundles,
    volume_dir,
};
use crate::{
    container::fields::Surroundings,
    resources::{CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS},
};

/// No token is kept longer, however long it is valid.
const TOKEN_AGE_MAX: SignedDuration = SignedDuration::from_hours(24);
/// However short their lives are.
const RENEWALS_APART: Duration = Duration::from_secs(1);

/// What one pod's volumes hold on to.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    config_maps: BTreeMap<String, Held>,
    secrets: BTreeMap<String, Held>,
    tokens: BTreeMap<TokenKey, Token>,
    bundles: Option<(Arc<Bundles>, watch::Receiver<u64>)>,
    certificates: BTreeMap<pod_certificate::Key, pod_certificate::Held>,
}

/// An object in use, and how far its changes have been written.
#[derive(Debug)]
struct Held {
    followed: Arc<Followed>,
    seen: watch::Receiver<Known>,
}

impl Held {
    fn new(followed: Arc<Followed>) -> Self {
        Self { seen: followed.changes(), followed }
    }

    async fn read<T: DeserializeOwned>(
        &mut self,
        patience: Duration,
    ) -> Result<Option<T>, VolumeError> {
        parse(self.followed.current(&mut self.seen, patience).await?)
    }
}

#[derive(Debug)]
struct Token {
    text: String,
    asked_at: Timestamp,
    refresh_at: Timestamp,
}

impl Token {
    /// Whether it is to be used as of `now`. One that was made while the clock was
    /// ahead is not valid yet.
    fn is_good(&self, now: Timestamp) -> bool {
        (self.asked_at..self.refresh_at).contains(&now)
    }
}

/// What filling needs besides the pod.
pub(crate) struct Sources<'a> {
    pub(crate) api: &'a Api,
    pub(crate) objects: &'a Objects,
    pub(crate) ambient: &'a Ambient,
    pub(crate) around: &'a Surroundings,
    pub(crate) pod_dir: &'a Path,
    /// How long an object is waited for that the pod needs and that is not there.
    pub(crate) patience: Duration,
}

/// Writes every payload volume of the pod whose content has changed. The error
/// names the volume.
pub(crate) async fn fill(
    sources: &Sources<'_>,
    pod: &Pod,
    holdings: &mut Holdings,
) -> Result<(), (String, VolumeError)> {
    let payloads: Vec<&Volume> =
        pod.spec.volumes.iter().filter(|v| matches!(kind(v), Kind::Payload { .. })).collect();
    let Some(first) = payloads.first() else { return Ok(()) };
    let contents = contents(sources, pod, holdings).await.map_err(|e| (first.name.clone(), e))?;
    for volume in payloads {
        let failed = |error| (volume.name.clone(), error);
        let Kind::Payload { plugin, .. } = kind(volume) else { continue };
        let files = payload::files(pod, volume, sources.around, &contents).map_err(failed)?;
        let dir = volume_dir(sources.pod_dir, plugin, &volume.name);
        let gid = fs_group(pod);
        let written = tokio::task::spawn_blocking(move || atomic::write(&dir, &files, gid)).await;
        written.unwrap_or_else(|e| Err(VolumeError(e.to_string()))).map_err(failed)?;
    }
    Ok(())
}

async fn contents(
    sources: &Sources<'_>,
    pod: &Pod,
    holdings: &mut Holdings,
) -> Result<Contents, VolumeError> {
    let references = payload::references(pod);
    let namespace = &pod.metadata.namespace;
    let mut contents = Contents::default();
    let patience = |is_needed: bool| if is_needed { sources.patience } else { Duration::ZERO };
    for (name, is_needed) in &references.config_maps {
        let follow = || Held::new(sources.objects.follow(CONFIG_MAPS, namespace, name));
        let held = holdings.config_maps.entry(name.clone()).or_insert_with(follow);
        contents.config_maps.insert(name.clone(), held.read(patience(*is_needed)).await?);
    }
    for (name, is_needed) in &references.secrets {
        let follow = || Held::new(sources.objects.follow(SECRETS, namespace, name));
        let held = holdings.secrets.entry(name.clone()).or_insert_with(follow);
        contents.secrets.insert(name.clone(), held.read(patience(*is_needed)).await?);
    }
    if references.bundles {
        let (bundles, seen) = holdings.bundles.get_or_insert_with(|| {
            let bundles = sources.objects.trust_bundles();
            let seen = bundles.changes();
            (bundles, seen)
        });
        // What comes after this list is a change.
        seen.mark_unchanged();
        contents.bundles = bundles.list().await?;
    }
    for key in references.tokens {
        let now = sources.ambient.now();
        let text = match holdings.tokens.get(&key) {
            Some(token) if token.is_good(now) => token.text.clone(),
            _ => {
                let token = request_token(sources.api, pod, &key, now).await?;
                let text = token.text.clone();
                holdings.tokens.insert(key.clone(), token);
                text
            }
        };
        contents.tokens.insert(key, text);
    }
    for (key, source) in pod_certificate::sources_of(pod) {
        let held = holdings.certificates.entry(key.clone()).or_default();
        contents.certificates.insert(key, held.current(sources, pod, source).await?);
    }
    Ok(contents)
}

fn parse<T: DeserializeOwned>(
    object: Option<Arc<api_object::Object>>,
) -> Result<Option<T>, VolumeError> {
    object
        .map(|object| {
            serde_json::from_slice(&object.bytes)
                .map_err(|error| VolumeError(format!("{}: {error}", object.meta.name)))
        })
        .transpose()
}

/// A token of the pod's ServiceAccount that is valid only while the pod is.
async fn request_token(
    api: &Api,
    pod: &Pod,
    key: &TokenKey,
    now: Timestamp,
) -> Result<Token, VolumeError> {
    let meta = &pod.metadata;
    let account = match pod.spec.service_account_name.as_str() {
        "" => "default",
        name => name,
    };
    let audiences: Vec<&str> =
        Some(key.audience.as_str()).filter(|a| !a.is_empty()).into_iter().collect();
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "audiences": audiences,
            "expirationSeconds": key.expiration_seconds,
            "boundObjectRef":
                {"apiVersion": "v1", "kind": "Pod", "name": meta.name, "uid": meta.uid},
        },
    });
    let answer = api
        .create_sub(SERVICE_ACCOUNTS, &meta.namespace, account, "token", &request)
        .await
        .map_err(|error| VolumeError(format!("failed to fetch token: {error}")))?;
    let answer: Value = serde_json::from_slice(&answer.bytes)
        .map_err(|error| VolumeError(format!("failed to fetch token: {error}")))?;
    let text = answer["status"]["token"].as_str().unwrap_or_default().to_owned();
    if text.is_empty() {
        return Err(VolumeError("failed to fetch token: the answer holds none".into()));
    }
    let expires =
        answer["status"]["expirationTimestamp"].as_str().and_then(api_object::time::parse);
    let life = match expires {
        Some(expires) => expires.duration_since(now),
        None => SignedDuration::from_secs(key.expiration_seconds),
    };
    // Renewed with a fifth of its life left, so that a server that is away for
    // a while does not leave the pod without one.
    let refresh_at = now + (life * 4 / 5).min(TOKEN_AGE_MAX);
    Ok(Token { text, asked_at: now, refresh_at })
}

impl Holdings {
    /// Waits until a volume may need other content: an object changed, a token or a
    /// certificate is due, or the clock was set, by which they may be too old or too
    /// new. Never returns for a pod that uses none of these.
    pub(crate) fn stale(&self, ambient: &Ambient) -> impl Future<Output = ()> + Send + 'static {
        let held = self.config_maps.values().chain(self.secrets.values());
        let asked = self.certificates.values().filter_map(pod_certificate::Held::changes);
        let receivers: Vec<_> = held.map(|held| held.seen.clone()).chain(asked).collect();
        let bundles = self.bundles.as_ref().map(|(_, seen)| seen.clone());
        let due = self.tokens.values().map(|token| token.refresh_at);
        let due = due.chain(self.certificates.values().filter_map(|held| held.due())).min();
        let (ambient, mut sets) = (ambient.clone(), ambient.clock_sets());
        async move {
            let changed = async {
                if receivers.is_empty() {
                    std::future::pending::<()>().await;
                }
                let waits = receivers.into_iter().map(|mut receiver| {
                    Box::pin(async move {
                        if receiver.changed().await.is_err() {
                            std::future::pending::<()>().await;
                        }
                    })
                });
                select_all(waits).await;
            };
            let trusted = async {
                match bundles {
                    // The sender lives in the cache, which ends with the pod.
                    Some(mut seen) => drop(seen.changed().await),
                    None => std::future::pending().await,
                }
            };
            let aged = async {
                match due {
                    Some(due) => tokio::select! {
                        () = sets.next() => {}
                        () = async {
                            tokio::time::sleep(RENEWALS_APART).await;
                            ambient.sleep_until(due).await;
                        } => {}
                    },
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed => {}
                () = trusted => {}
                () = aged => {}
            }
        }
    }
}

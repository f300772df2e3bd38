//! The static pods of a node and their mirrors in the API: the manager's part
//! for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use api_object::Object;
use client::{Backoff, DeleteOptions};
use serde_json::Map;
use tokio::task::{JoinError, JoinSet};

use super::{
    manager::Manager,
    static_pods::{MIRROR, Mirror, MirrorAction, StaticPod, mirror_action},
    tended::status_of,
    trouble::{Attempt, Troubles},
    worker::Message,
};
use crate::{
    node::Deps,
    resources::{NODES, PODS},
};

/// Between attempts at a mirror that the API refused.
const RETRY: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(60) };
/// The watch tells what came of an attempt before another one is due.
const TOLD: Duration = Duration::from_secs(10);

/// What the manager knows of static pods.
#[derive(Default)]
pub(super) struct Statics {
    /// By UID: what the files say.
    wanted: BTreeMap<String, StaticPod>,
    /// By UID: the keys of those that have a worker.
    pub(super) running: BTreeMap<String, String>,
    /// By key.
    mirrors: BTreeMap<String, Mirror>,
    /// The mirrors are all that the API has.
    pub(super) is_synced: bool,
    /// Keys whose mirrors are being made or deleted, with the attempt's number.
    busy: BTreeMap<String, u64>,
    attempts: u64,
    /// By key: in a row.
    failures: BTreeMap<String, u32>,
    troubles: Troubles,
    pub(super) ops: JoinSet<Tried>,
}

/// An attempt at a mirror, by its key and number.
pub(super) struct Tried {
    key: String,
    number: u64,
    /// `None` once its pause is over too.
    result: Option<Result<(), client::Error>>,
}

impl Statics {
    /// The API's list comes anew.
    pub(super) fn forget_mirrors(&mut self) {
        self.is_synced = false;
        self.mirrors.clear();
    }

    /// A mirror is as it should be.
    fn is_settled(&mut self, key: &str) {
        if self.troubles.is_over(&Attempt::Mirror(key.to_owned())) {
            tracing::info!(pod = key, "its mirror pod is as it should be at last");
        }
    }
}

impl Mirror {
    /// The mirror that an object of the API is, if it is one.
    pub(super) fn of(object: &Object) -> Option<Self> {
        let hash = object.meta.annotations.get(MIRROR)?.clone();
        Some(Self {
            uid: object.meta.uid.clone(),
            hash,
            deleting: object.meta.deletion_timestamp.is_some(),
            status: status_of(&object.bytes),
        })
    }
}

impl Manager {
    /// Reads the files and makes the workers follow.
    pub(super) fn load_statics(&mut self) {
        let Some(statics) = &self.deps.config.static_pods else { return };
        self.statics.wanted = statics.load(&self.deps.config.name, self.deps.ambient.now());
        self.settle_statics();
    }

    /// Ends what has no file any more, and starts what has one: not before
    /// another pod of its name has ended.
    pub(super) fn settle_statics(&mut self) {
        let tended = &self.tended;
        self.statics.running.retain(|uid, _| tended.contains_key(uid));
        let running = self.statics.running.keys();
        let gone = running.filter(|uid| !self.statics.wanted.contains_key(*uid));
        for uid in gone.cloned().collect::<Vec<_>>() {
            self.tell(&uid, Message::Gone(None));
        }
        let wanted: Vec<StaticPod> = self.statics.wanted.values().cloned().collect();
        for pod in wanted {
            if !self.statics.running.values().any(|key| *key == pod.key()) {
                self.statics.running.insert(pod.pod.metadata.uid.clone(), pod.key());
                self.start(pod.pod.clone(), Map::new(), true);
                self.remind(&pod.pod.metadata.uid);
            }
        }
        self.settle_mirrors();
    }

    /// Tells a static pod's new worker of its mirror, which was there before it.
    pub(super) fn remind(&mut self, uid: &str) {
        let Some(key) = self.statics.running.get(uid).cloned() else { return };
        if let Some(mirror) = self.statics.mirrors.get(&key).cloned() {
            self.mirror(key, Some(mirror));
        }
    }

    /// The API has, or has no longer, a mirror of this key.
    pub(super) fn mirror(&mut self, key: String, mirror: Option<Mirror>) {
        self.statics.busy.remove(&key);
        self.statics.failures.remove(&key);
        match mirror {
            Some(mirror) => {
                if mirror_action(self.hash(&key).as_deref(), Some(&mirror)) == MirrorAction::Keep {
                    self.tell(&mirror.hash, Message::Mirror(mirror.clone()));
                    self.statics.is_settled(&key);
                }
                self.statics.mirrors.insert(key, mirror);
            }
            None => {
                self.statics.is_settled(&key);
                self.statics.mirrors.remove(&key);
            }
        }
        self.settle_mirrors();
    }

    /// A mirror was deleted, if it is the one that is known.
    pub(super) fn unmirror(&mut self, key: &str, uid: &str) {
        if self.statics.mirrors.get(key).is_some_and(|mirror| mirror.uid == uid) {
            self.mirror(key.to_owned(), None);
        }
    }

    /// An attempt at a mirror has ended, or its pause has; what came of it is seen in
    /// the API.
    pub(super) fn mirrored(&mut self, ended: Result<Tried, JoinError>) {
        match ended {
            Ok(tried) if self.statics.busy.get(&tried.key) != Some(&tried.number) => {}
            Ok(Tried { key, result: None, .. }) => drop(self.statics.busy.remove(&key)),
            Ok(Tried { key, number, result: Some(result) }) => {
                let pause = match result {
                    Ok(()) => TOLD,
                    Err(error) => {
                        let attempt = Attempt::Mirror(key.clone());
                        if self.statics.troubles.failed(attempt, &error.to_string()) {
                            tracing::warn!(pod = key, %error, "its mirror pod is not as it should be");
                        }
                        RETRY.delay(self.statics.failures.get(&key).copied().unwrap_or(1))
                    }
                };
                self.statics.ops.spawn(async move {
                    tokio::time::sleep(pause).await;
                    Tried { key, number, result: None }
                });
            }
            Err(error) => {
                tracing::error!(%error, "a mirror pod's attempt broke off");
                self.statics.busy.clear();
            }
        }
        self.settle_mirrors();
    }

    /// The hash of the file's pod of this key.
    fn hash(&self, key: &str) -> Option<String> {
        let mut wanted = self.statics.wanted.iter();
        wanted.find(|(_, pod)| pod.key() == key).map(|(uid, _)| uid.clone())
    }

    /// Makes the API's mirrors what they should be.
    pub(super) fn settle_mirrors(&mut self) {
        if !self.statics.is_synced {
            return;
        }
        let files = self.statics.wanted.values().map(StaticPod::key);
        let keys: BTreeSet<String> = files.chain(self.statics.mirrors.keys().cloned()).collect();
        for key in keys {
            if self.statics.busy.contains_key(&key) {
                continue;
            }
            let hash = self.hash(&key);
            let pod = hash.as_ref().and_then(|hash| self.statics.wanted.get(hash)).cloned();
            let deps = self.deps.clone();
            match mirror_action(hash.as_deref(), self.statics.mirrors.get(&key)) {
                MirrorAction::Keep => continue,
                MirrorAction::Create => {
                    let Some(pod) = pod else { continue };
                    self.attempt(key, async move { create(&deps, &pod).await });
                }
                MirrorAction::Delete { uid } => {
                    let name = key.clone();
                    self.attempt(key, async move { delete(&deps, &name, &uid).await });
                }
            }
        }
    }

    fn attempt(
        &mut self,
        key: String,
        attempt: impl Future<Output = Result<(), client::Error>> + Send + 'static,
    ) {
        self.statics.attempts += 1;
        let number = self.statics.attempts;
        self.statics.busy.insert(key.clone(), number);
        // Counted until the watch shows that it was none.
        let failures = self.statics.failures.entry(key.clone()).or_default();
        *failures = failures.saturating_add(1);
        self.statics.ops.spawn(async move { Tried { key, number, result: Some(attempt.await) } });
    }
}

async fn create(deps: &Arc<Deps>, pod: &StaticPod) -> Result<(), client::Error> {
    let node = &deps.config.name;
    let object = deps.api.get(NODES, "", node).await?;
    let mirror = pod.mirror(node, &object.meta.uid);
    deps.api.create(PODS, &pod.pod.metadata.namespace, &mirror).await.map(drop)
}

async fn delete(deps: &Arc<Deps>, key: &str, uid: &str) -> Result<(), client::Error> {
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::uid(uid) };
    match deps.api.delete(PODS, namespace, name, &options).await {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        result => result,
    }
}

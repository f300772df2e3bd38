//! One worker a pod: follows the API's pods of this node and the runtime's
//! events, and hands each to the worker it concerns.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Arc,
};

use api_object::Object;
use api_types::core::{Container, Pod};
use client::{ListOptions, Reflected, reflect};
use node_runtime::{Event, Sandbox, SandboxId};
use serde_json::Map;
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    task::JoinSet,
};

use super::{
    mirror::Statics,
    missing,
    setup::ips_of,
    static_pods::Mirror,
    tended::{Ended, Tended, status_of},
    worker::Message,
};
use crate::{
    container::spec::label,
    node::Deps,
    resources::{PODS, TOLD_BEFORE},
    supervised::RESTART,
    volume,
};

/// Runs the pods of this node. Never returns; dropping it ends the workers
/// and leaves the pods running.
pub(crate) async fn run(deps: Arc<Deps>) {
    let mut events = deps.runtime.subscribe();
    let mut manager = Manager {
        deps: deps.clone(),
        tended: BTreeMap::new(),
        workers: JoinSet::new(),
        uids: BTreeMap::new(),
        listed: None,
        statics: Statics::default(),
    };
    manager.adopt_addresses().await;
    // Before the API's list says what is an orphan.
    manager.load_statics();
    let (sender, mut pods) = mpsc::unbounded_channel();
    let follow = async {
        let options = ListOptions {
            field_selector: format!("spec.nodeName={}", deps.config.name),
            ..ListOptions::default()
        };
        reflect(&deps.api, PODS, "", &options, &deps.ambient, |event| {
            // The receiver lives as long as this future.
            let _ = sender.send(event);
        })
        .await;
    };
    let (files, mut changed_files) = mpsc::unbounded_channel();
    let follow_files = async {
        let Some(statics) = &deps.config.static_pods else { return std::future::pending().await };
        // The receiver lives as long as this future.
        let told = statics
            .follow(|| {
                let _ = files.send(());
            })
            .await;
        if let Err(error) = told {
            let path = statics.dir.display();
            tracing::error!(%path, %error, "static pods are not followed any more");
        }
        std::future::pending().await
    };
    tokio::pin!(follow, follow_files);
    let mut is_telling = true;
    loop {
        tokio::select! {
            () = &mut follow => {}
            () = &mut follow_files => {}
            Some(()) = changed_files.recv() => manager.load_statics(),
            Some(key) = manager.statics.ops.join_next() => manager.mirrored(key),
            Some(event) = pods.recv() => manager.api(event).await,
            event = events.recv(), if is_telling => match event {
                Ok(event) => manager.runtime(event).await,
                Err(RecvError::Lagged(_)) => manager.tell_all(),
                Err(RecvError::Closed) => {
                    tracing::error!("the runtime tells nothing any more");
                    is_telling = false;
                }
            },
            Some(ended) = manager.workers.join_next() => match ended {
                Ok(ended) => manager.ended(ended),
                Err(error) => tracing::error!(%error, "a pod is not looked after any more"),
            },
        }
    }
}

pub(super) struct Manager {
    pub(super) deps: Arc<Deps>,
    /// By uid.
    pub(super) tended: BTreeMap<String, Tended>,
    pub(super) workers: JoinSet<Ended>,
    /// Whose sandbox it is.
    pub(super) uids: BTreeMap<SandboxId, String>,
    /// The uids told since a restart of the watch; the others are gone.
    listed: Option<BTreeSet<String>>,
    pub(super) statics: Statics,
}

impl Manager {
    /// What runs keeps its addresses and users, before anybody gets new ones.
    async fn adopt_addresses(&mut self) {
        let mut failures = 0;
        let sandboxes = loop {
            match self.list().await {
                Ok(sandboxes) => break sandboxes,
                Err(error) => {
                    tracing::error!(%error, "what runs is not known: no pod is looked after yet");
                }
            }
            failures += 1;
            tokio::time::sleep(RESTART.delay(failures)).await;
        };
        for sandbox in sandboxes {
            let ips = ips_of(&sandbox);
            if !ips.is_empty() {
                self.deps.addresses.adopt(&sandbox.spec.pod_uid, ips);
            }
            if let Some(ids) = sandbox.spec.ids {
                self.deps.users.adopt(&sandbox.spec.pod_uid, ids);
            }
        }
    }

    async fn list(&mut self) -> Result<Vec<Sandbox>, node_runtime::Error> {
        let sandboxes = self.deps.runtime.list().await?;
        self.uids = sandboxes.iter().map(|s| (s.id.clone(), s.spec.pod_uid.clone())).collect();
        Ok(sandboxes)
    }

    async fn api(&mut self, event: Reflected) {
        match event {
            Reflected::Restart => {
                self.listed = Some(BTreeSet::new());
                self.statics.forget_mirrors();
            }
            Reflected::Upsert(object) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(object.meta.uid.clone());
                }
                match Mirror::of(&object) {
                    Some(mirror) => self.mirror(object.meta.key(), Some(mirror)),
                    None => self.upsert(&object),
                }
            }
            Reflected::Delete(object) if Mirror::of(&object).is_some() => {
                self.unmirror(&object.meta.key(), &object.meta.uid);
            }
            Reflected::Delete(object) => {
                let last = serde_json::from_slice(&object.bytes).ok().map(Arc::new);
                self.tell(&object.meta.uid, Message::Gone(last));
            }
            Reflected::Synced(revision) => {
                let Some(listed) = self.listed.take() else { return };
                self.deps.granted.settle();
                // What a node was told before may be older than what runs on it: who is
                // missing there is judged once a server has told its pods.
                if revision != TOLD_BEFORE {
                    self.end_missing(&listed).await;
                }
                self.statics.is_synced = true;
                self.settle_mirrors();
            }
            Reflected::Progress(_) => {}
        }
    }

    fn upsert(&mut self, object: &Object) {
        let pod: Pod = match serde_json::from_slice(&object.bytes) {
            Ok(pod) => pod,
            Err(error) => {
                tracing::error!(pod = object.meta.key(), %error, "a pod of a shape that is not understood");
                return;
            }
        };
        let pod = Arc::new(pod);
        if self.tell(&object.meta.uid, Message::Pod(pod.clone())) {
            return;
        }
        self.start(pod, status_of(&object.bytes), false);
    }

    fn tell_all(&self) {
        for tended in self.tended.values() {
            // A worker that has just ended needs no news.
            let _ = tended.inbox.send(Message::Runtime);
        }
    }

    async fn runtime(&mut self, event: Event) {
        let sandbox = match &event {
            Event::ContainerStarted { sandbox, .. }
            | Event::ContainerExited { sandbox, .. }
            | Event::ShimDied { sandbox } => sandbox,
        };
        if !self.uids.contains_key(sandbox)
            && let Err(error) = self.list().await
        {
            tracing::error!(%error, "the runtime does not list");
        }
        match self.uids.get(sandbox).cloned() {
            Some(uid) => drop(self.tell(&uid, Message::Runtime)),
            None => self.tell_all(),
        }
    }

    /// Ends what the API's list does not have.
    async fn end_missing(&mut self, listed: &BTreeSet<String>) {
        let is_gone =
            |uid: &&String| !listed.contains(*uid) && !self.statics.running.contains_key(*uid);
        let gone: Vec<String> = self.tended.keys().filter(is_gone).cloned().collect();
        for uid in gone {
            self.tell(&uid, Message::Gone(None));
        }
        let sandboxes = match self.list().await {
            Ok(sandboxes) => sandboxes,
            Err(error) => {
                return tracing::error!(%error, "the runtime does not list: what nobody knows stays");
            }
        };
        let running: BTreeSet<String> =
            sandboxes.iter().map(|sandbox| sandbox.spec.pod_uid.clone()).collect();
        for (uid, sandboxes) in missing::orphans(sandboxes, listed, &self.tended) {
            tracing::info!(uid, "a pod was deleted while nobody watched: ending it");
            self.start(Arc::new(pod_of(&sandboxes)), Map::new(), false);
            self.tell(&uid, Message::Gone(None));
        }
        let known = missing::Known { listed, running: &running, tended: &self.tended };
        self.remove_strays(&known).await;
        self.deps.devices.retain(|uid| known.has(uid));
    }

    /// Removes directories of pods that neither the API nor the runtime knows:
    /// what a crash left between two steps.
    async fn remove_strays(&self, known: &missing::Known<'_, Tended>) {
        let pods = self.deps.config.kubelet_dir.join("pods");
        let entries = match fs::read_dir(&pods) {
            Ok(entries) => entries,
            Err(error) => {
                return tracing::warn!(path = %pods.display(), %error, "pods cannot be listed");
            }
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(uid) = name.to_str().filter(|uid| !known.has(uid)) else {
                continue;
            };
            if let Err(error) = volume::ready::tear_down(&self.deps, uid, true).await {
                tracing::warn!(error, "a stray pod directory stays");
            }
        }
    }
}

/// A pod as far as the runtime remembers it: enough to end it.
fn pod_of(sandboxes: &[Sandbox]) -> Pod {
    let mut pod = Pod::default();
    for sandbox in sandboxes {
        pod.metadata.name = sandbox.spec.pod_name.clone();
        pod.metadata.namespace = sandbox.spec.pod_namespace.clone();
        pod.metadata.uid = sandbox.spec.pod_uid.clone();
        pod.spec.host_network = sandbox.spec.network == node_runtime::spec::Namespace::Host;
        let grace = sandbox.spec.labels.get(label::GRACE);
        pod.spec.termination_grace_period_seconds = grace.and_then(|s| s.parse().ok());
        for container in &sandbox.containers {
            if !pod.spec.containers.iter().any(|c| c.name == container.spec.name) {
                let name = container.spec.name.clone();
                pod.spec.containers.push(Container { name, ..Container::default() });
            }
        }
    }
    pod
}

//! The loop: caches in, bindings out.

use std::{
    collections::BTreeSet,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api_object::time;
use client::{
    Ambient, Api, Cached, Informer, PatchKind, Recorder, Reference, Resource, Selection,
    SharedInformers,
};
use serde_json::json;
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{Decision, FitError, Pod, decide, node::Offer, queue::Queue, state::State};

const NODES: Resource = Resource::cluster("", "v1", "nodes");
const PODS: Resource = Resource::namespaced("", "v1", "pods");
const NAME: &str = "default-scheduler";
/// How many bindings are under way at once; decisions do not wait for them.
const BINDINGS_MAX: usize = 16;

/// Schedules pods until `shutdown`. The server calls this while it leads.
pub async fn run(api: Api, ambient: Ambient, shutdown: impl Future<Output = ()>) {
    let informers = SharedInformers::new(api.named("kube-scheduler"), ambient.clone());
    let recorder = Recorder::new(api.named("kube-scheduler"), NAME, "", ambient.clone());
    let scheduler = Arc::new(Scheduler {
        api: api.named("kube-scheduler"),
        ambient,
        // Those that have ended take up nothing, and there may be many.
        pods: informers
            .get(Selection::all(PODS).fields("status.phase!=Succeeded,status.phase!=Failed")),
        nodes: informers.get(Selection::all(NODES)),
        recorder,
        shared: Mutex::default(),
        wake: Notify::new(),
    });
    tokio::select! {
        biased;
        () = shutdown => {}
        () = scheduler.run() => {}
    }
}

struct Scheduler {
    api: Api,
    ambient: Ambient,
    pods: Informer<Pod>,
    nodes: Informer<Offer>,
    recorder: Recorder,
    shared: Mutex<Shared>,
    wake: Notify,
}

#[derive(Default)]
struct Shared {
    state: State,
    queue: Queue,
}

impl Scheduler {
    async fn run(self: &Arc<Self>) {
        // The handlers must not keep the caches alive that keep them.
        let weak = Arc::downgrade(self);
        self.nodes.on_change(move |change| {
            if let Some(scheduler) = weak.upgrade() {
                let mut shared = scheduler.lock();
                let hints = shared.state.node_changed(change);
                shared.queue.hint(&hints, Instant::now());
                drop(shared);
                scheduler.wake.notify_one();
            }
        });
        let weak = Arc::downgrade(self);
        self.pods.on_change(move |change| {
            if let Some(scheduler) = weak.upgrade() {
                scheduler.pod_changed(change);
                scheduler.wake.notify_one();
            }
        });
        self.nodes.wait_synced().await;
        self.pods.wait_synced().await;
        let bindings = Arc::new(Semaphore::new(BINDINGS_MAX));
        let mut tasks = JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            let permit = bindings.clone().acquire_owned().await;
            let permit = permit.expect("the semaphore is never closed");
            let (key, due) = {
                let mut shared = self.lock();
                (shared.queue.pop(Instant::now()), shared.queue.next_due())
            };
            match (key, due) {
                (Some(key), _) => {
                    if let Some((pod, node)) = self.decide(&key).await {
                        let scheduler = self.clone();
                        tasks.spawn(async move {
                            scheduler.bind(&pod, &node).await;
                            drop(permit);
                        });
                    }
                }
                (None, Some(due)) => tokio::select! {
                    biased;
                    () = self.wake.notified() => {}
                    () = sleep_until(due) => {}
                },
                (None, None) => self.wake.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pod_changed(&self, change: &client::Change<Pod>) {
        let mut shared = self.lock();
        let now = Instant::now();
        let hints = shared.state.pod_changed(change);
        shared.queue.hint(&hints, now);
        let key = change.object().key();
        let waiting = change.new.as_ref().filter(|pod| is_ours(pod));
        match waiting {
            Some(pod) if !shared.state.is_placed(pod) => {
                let priority = pod.view.waiting.as_ref().map_or(0, |waiting| waiting.priority);
                // What we wrote into the status ourselves is no news.
                let replaced = change.old.as_ref().is_none_or(|old| old.meta.uid != pod.meta.uid);
                if replaced {
                    shared.queue.remove(&key);
                }
                if replaced || is_news(change) {
                    shared.queue.add(&key, priority, now);
                }
            }
            _ => shared.queue.remove(&key),
        }
    }

    /// Decides for one pod, and takes its place on the node.
    async fn decide(&self, key: &str) -> Option<(Arc<Cached<Pod>>, String)> {
        let pod = self.pods.get(key).filter(|pod| is_ours(pod));
        let Some(pod) = pod else {
            self.lock().queue.remove(key);
            return None;
        };
        let gates = pod.view.waiting.as_ref().map_or(0, |waiting| waiting.gates.len());
        if gates > 0 {
            // Lifting the gate changes the pod, and that brings it back.
            self.lock().queue.remove(key);
            let message = "Scheduling is blocked due to non-empty scheduling gates";
            self.note(&pod, "SchedulingGated", message).await;
            return None;
        }
        let decision = {
            let mut shared = self.lock();
            let decision = decide(&pod.view, shared.state.nodes(), self.ambient.random());
            match &decision {
                Decision::Bind(node) => shared.state.assume(&pod, node),
                Decision::Unschedulable(FitError { plugins, .. }) => {
                    shared.queue.failed(key, plugins.clone(), Instant::now());
                }
            }
            decision
        };
        match decision {
            Decision::Bind(node) => Some((pod, node)),
            Decision::Unschedulable(error) => {
                self.recorder.warning(&reference(&pod), "FailedScheduling", error.message.clone());
                self.note(&pod, "Unschedulable", &error.message).await;
                None
            }
        }
    }

    async fn bind(&self, pod: &Cached<Pod>, node: &str) {
        let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": pod.meta.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        match self.api.create_sub(PODS, namespace, name, "binding", &binding).await {
            Ok(_) => {
                self.lock().queue.remove(&pod.key());
                let message = format!("Successfully assigned {namespace}/{name} to {node}");
                self.recorder.normal(&reference(pod), "Scheduled", message);
            }
            Err(error) => {
                {
                    let mut shared = self.lock();
                    shared.state.forget(pod);
                    let (key, now) = (pod.key(), Instant::now());
                    if error.is_not_found() {
                        shared.queue.remove(&key);
                    } else {
                        // A change of the pod may have taken it out meanwhile.
                        let waiting = pod.view.waiting.as_ref();
                        shared.queue.add(&key, waiting.map_or(0, |w| w.priority), now);
                        shared.queue.failed(&key, BTreeSet::new(), now);
                    }
                }
                self.wake.notify_one();
                if !error.is_not_found() && !error.is_conflict() {
                    tracing::warn!(pod = pod.key(), node, %error, "binding failed");
                    let message = format!("binding rejected: {error}");
                    self.recorder.warning(&reference(pod), "FailedScheduling", message.clone());
                    self.note(pod, "SchedulerError", &message).await;
                }
            }
        }
    }

    /// Puts into the pod's status why it has no node, unless it says so
    /// already.
    async fn note(&self, pod: &Cached<Pod>, reason: &str, message: &str) {
        let known = pod.view.waiting.as_ref().and_then(|waiting| waiting.condition.as_ref());
        let next = ("False".to_owned(), reason.to_owned(), message.to_owned());
        if known == Some(&next) {
            return;
        }
        let mut condition = json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
        });
        if known.is_none_or(|(status, _, _)| status != "False") {
            condition["lastTransitionTime"] = json!(time::format_seconds(self.ambient.now()));
        }
        let patch =
            json!({"metadata": {"uid": pod.meta.uid}, "status": {"conditions": [condition]}});
        let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
        let written =
            self.api.patch(PODS, namespace, name, "status", PatchKind::Strategic, &patch).await;
        match written {
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                tracing::warn!(pod = pod.key(), %error, "status not written");
            }
            _ => {}
        }
    }
}

/// Whether it waits for this scheduler.
fn is_ours(pod: &Cached<Pod>) -> bool {
    pod.meta.deletion_timestamp.is_none()
        && !pod.view.is_terminal
        && pod
            .view
            .waiting
            .as_ref()
            .is_some_and(|waiting| matches!(waiting.scheduler_name.as_str(), "" | NAME))
}

/// Whether more than the condition that we write changed.
fn is_news(change: &client::Change<Pod>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    let without_condition = |pod: &Cached<Pod>| {
        let mut view = pod.view.clone();
        if let Some(waiting) = &mut view.waiting {
            waiting.condition = None;
        }
        (view, pod.meta.labels.clone())
    };
    without_condition(old) != without_condition(new)
}

fn reference(pod: &Cached<Pod>) -> Reference {
    Reference::new("v1", "Pod", &pod.meta)
}

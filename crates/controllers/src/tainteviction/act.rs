//! Evicts pods when they have to leave.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api_object::time;
use api_types::core::Taint;
use client::{
    Api, Cached, DeleteOptions, Error, Informer, Outcome, PatchKind, Recorder, Reference,
    Selection, reconcile_loop,
};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use super::plan::leaves_at;
use crate::{
    Context,
    cached::{self, BY_NODE, NODES, Node, PODS, Pod},
    status::ignore_gone,
};

struct Evictions {
    api: Api,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    recorder: Recorder,
    context: Context,
    /// The taints that make pods leave, by node and key.
    seen: Mutex<BTreeMap<(String, String), Seen>>,
    /// Uids of pods that are to leave when their patience ends.
    leaving: Mutex<BTreeSet<String>>,
}

/// When a taint was first seen, on the clock that nobody sets: patience is so many
/// seconds, and no moment.
#[derive(Clone, Debug)]
struct Seen {
    time_added: Option<String>,
    at: Instant,
    /// How old it was then, as far as it tells.
    age: Duration,
}

/// The controller. Never returns. Its keys are those of pods.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Evictions {
        api: context.api.clone(),
        pods: cached::pods(&context.informers),
        nodes: context.informers.get(Selection::all(NODES)),
        recorder: context.recorder("taint-eviction-controller"),
        context,
        seen: Mutex::default(),
        leaving: Mutex::default(),
    });
    let queue = controller.context.queue();
    let (keys, weak) = (queue.clone(), Arc::downgrade(&controller));
    controller.nodes.on_change(move |change| {
        let Some(controller) = weak.upgrade() else { return };
        let taints = |side: &Option<Arc<Cached<Node>>>| {
            side.as_ref().map(|node| node.view.spec.taints.clone()).unwrap_or_default()
        };
        let (old, new) = (taints(&change.old), taints(&change.new));
        if old == new {
            return;
        }
        let name = &change.object().meta.name;
        controller.note(name, &new);
        for pod in controller.pods.by_index(BY_NODE, name) {
            keys.add(pod.key());
        }
    });
    let (keys, nodes, weak) =
        (queue.clone(), controller.nodes.clone(), Arc::downgrade(&controller));
    controller.pods.on_change(move |change| {
        let Some(pod) = &change.new else {
            if let Some(controller) = weak.upgrade() {
                controller.stays(&change.object().meta.uid);
            }
            return;
        };
        let node = nodes.get(&pod.view.spec.node_name);
        let executes = |taint: &Taint| taint.effect == "NoExecute";
        if node.is_some_and(|node| node.view.spec.taints.iter().any(executes)) {
            keys.add(pod.key());
        }
    });
    controller.nodes.wait_synced().await;
    controller.pods.wait_synced().await;
    reconcile_loop("taint-eviction", queue, 1, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

impl Evictions {
    /// Remembers when taints came, and forgets those that went.
    fn note(&self, node: &str, taints: &[Taint]) {
        let executes = |taint: &&Taint| taint.effect == "NoExecute";
        let now = self.context.ambient.now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|(of, key), seen| {
            let is_it = |taint: &Taint| taint.key == *key && taint.time_added == seen.time_added;
            of != node || taints.iter().filter(executes).any(is_it)
        });
        for taint in taints.iter().filter(executes) {
            let told = taint.time_added.as_deref().and_then(time::parse);
            let age = told.and_then(|at| Duration::try_from(now.duration_since(at)).ok());
            seen.entry((node.to_owned(), taint.key.clone())).or_insert_with(|| Seen {
                time_added: taint.time_added.clone(),
                at: Instant::now(),
                age: age.unwrap_or_default(),
            });
        }
    }

    /// Since when a taint counts for a pod that was created then, seen from now.
    fn since(&self, node: &str, taint: &Taint, pod: Option<Timestamp>) -> Timestamp {
        let now = self.context.ambient.now();
        let age = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let seen = seen.get(&(node.to_owned(), taint.key.clone()));
            seen.map_or(Duration::ZERO, |seen| seen.age + seen.at.elapsed())
        };
        let since = now.checked_sub(age).unwrap_or(Timestamp::MIN);
        let added = taint.time_added.as_deref().and_then(time::parse).unwrap_or(since);
        match pod {
            // It came after the taint and has its whole patience before it.
            Some(created) if created > added => created.min(now),
            _ => since,
        }
    }

    async fn reconcile(&self, key: &str) -> Outcome {
        let Some(pod) = self.pods.get(key) else { return Ok(None) };
        let name = &pod.view.spec.node_name;
        let Some(node) = self.nodes.get(name) else { return Ok(None) };
        if pod.meta.deletion_timestamp.is_some() || pod.view.is_terminal() {
            return Ok(None);
        }
        let created = pod.meta.creation_timestamp.as_deref().and_then(time::parse);
        let since = |taint: &Taint| self.since(name, taint, created);
        let due = leaves_at(&node.view.spec.taints, &pod.view.spec.tolerations, since);
        let Some(due) = due else {
            if self.stays(&pod.meta.uid) {
                let about = Reference::new("v1", "Pod", &pod.meta);
                let message = format!("Cancelling deletion of Pod {key}");
                self.recorder.normal(&about, "TaintManagerEviction", message);
            }
            return Ok(None);
        };
        let left = due.duration_since(self.context.ambient.now());
        match Duration::try_from(left) {
            Ok(left) if !left.is_zero() => {
                self.lock_leaving().insert(pod.meta.uid.clone());
                Ok(Some(left))
            }
            _ => {
                self.evict(&pod).await?;
                self.stays(&pod.meta.uid);
                Ok(None)
            }
        }
    }

    fn lock_leaving(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is to be waited for with a pod any more; whether something was.
    fn stays(&self, uid: &str) -> bool {
        self.lock_leaving().remove(uid)
    }

    async fn evict(&self, pod: &Cached<Pod>) -> Result<(), Error> {
        let about = Reference::new("v1", "Pod", &pod.meta);
        let message = format!("Marking for deletion Pod {}", pod.key());
        self.recorder.normal(&about, "TaintManagerEviction", message);
        let patch = json!({
            "metadata": {"uid": pod.meta.uid},
            "status": {"conditions": [{
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "DeletionByTaintManager",
                "message": "Taint manager: deleting due to NoExecute taint",
                "lastTransitionTime": time::format_seconds(self.context.ambient.now()),
            }]},
        });
        let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
        let patched =
            self.api.patch(PODS, namespace, name, "status", PatchKind::Strategic, &patch).await;
        ignore_gone(patched.map(drop))?;
        let options = DeleteOptions::uid(&pod.meta.uid);
        ignore_gone(self.api.delete(PODS, namespace, name, &options).await)
    }
}

//! Watches leases and nodes, and writes conditions and taints.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api_object::time;
use api_types::core::Condition;
use client::{
    Api, Cached, Error, Informer, MetaOnly, Outcome, OwnWrites, PatchKind, Recorder, Reference,
    Selection, WorkQueue, reconcile_loop,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    plan::{GRACE, are_leaving, silence, taints},
    zones::{Pace, Zones, zone},
};
use crate::{
    Context,
    cached::{self, BY_NODE, LEASES, NODES, PODS, Pod},
};

/// An index: nodes that are down, by their zone.
const BY_ZONE_DOWN: &str = "zone-down";

/// Taints as they are written, so that none loses a field.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Node {
    spec: Spec,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    taints: Vec<Value>,
    unschedulable: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Vec<Condition>,
}

struct Nodes {
    api: Api,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    recorder: Recorder,
    context: Context,
    writes: OwnWrites,
    /// When each node was last heard of, on our own clock: theirs may be off.
    heard: Mutex<BTreeMap<String, Instant>>,
    zones: Mutex<Zones>,
    /// By zone: when pods were last told to leave a node of it.
    left: Mutex<BTreeMap<String, Instant>>,
}

/// The controller. Never returns.
pub(crate) async fn run(context: Context) {
    let leases: Informer<MetaOnly> =
        context.informers.get(Selection::all(LEASES).namespace("kube-node-lease"));
    let controller = Arc::new(Nodes {
        api: context.api.clone(),
        nodes: context.informers.get(Selection::all(NODES)),
        pods: cached::pods(&context.informers),
        recorder: context.recorder("node-controller"),
        context,
        writes: OwnWrites::default(),
        heard: Mutex::default(),
        zones: Mutex::default(),
        left: Mutex::default(),
    });
    controller.nodes.add_index(BY_ZONE_DOWN, |node| match is_down(node) {
        true => vec![zone(&node.meta)],
        false => Vec::new(),
    });
    let queue = Arc::new(WorkQueue::default());
    let (keys, weak) = (queue.clone(), Arc::downgrade(&controller));
    leases.on_change(move |change| {
        let Some(controller) = weak.upgrade() else { return };
        let name = &change.object().meta.name;
        if change.new.is_some() {
            controller.hear(name);
            keys.add_after(name.clone(), GRACE);
        }
    });
    let (keys, weak) = (queue.clone(), Arc::downgrade(&controller));
    controller.nodes.on_change(move |change| {
        let Some(controller) = weak.upgrade() else { return };
        let name = &change.object().meta.name;
        controller.tell(change);
        match &change.new {
            None => controller.forget(name),
            Some(new) if change.old.as_ref().is_none_or(|old| spoke(old, new)) => {
                controller.hear(name);
            }
            Some(_) => {}
        }
        keys.add(name.clone());
        for zone in controller.count(change) {
            let down = controller.nodes.by_index(BY_ZONE_DOWN, &zone);
            down.iter().for_each(|node| keys.add(node.key()));
        }
    });
    controller.nodes.wait_synced().await;
    controller.pods.wait_synced().await;
    leases.wait_synced().await;
    reconcile_loop("node-lifecycle", queue, 1, move |name| {
        let controller = controller.clone();
        async move { controller.reconcile(&name).await }
    })
    .await;
}

impl Nodes {
    fn hear(&self, name: &str) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.insert(name.to_owned(), Instant::now());
    }

    /// Nodes come and go. Those that were there when the controller began are no news.
    fn tell(&self, change: &client::Change<Node>) {
        let node = change.object();
        let name = &node.meta.name;
        let (reason, message) = match (&change.old, &change.new) {
            (None, Some(_)) if self.nodes.is_synced() => {
                ("RegisteredNode", format!("Registered Node {name} in Controller"))
            }
            (Some(_), None) => ("RemovingNode", format!("Removing Node {name} from Controller")),
            _ => return,
        };
        let message = format!("Node {name} event: {message}");
        self.recorder.normal(&Reference::new("v1", "Node", &node.meta), reason, message);
    }

    fn forget(&self, name: &str) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Counts the nodes of zones. Those whose nodes that are down may do
    /// something else from now on.
    fn count(&self, change: &client::Change<Node>) -> Vec<String> {
        let of = |node: &Arc<Cached<Node>>| (zone(&node.meta), is_down(node));
        let (old, new) = (change.old.as_ref().map(of), change.new.as_ref().map(of));
        if old == new {
            return Vec::new();
        }
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        zones.moved(old, new)
    }

    /// Whether pods are to leave a node if it is down, and when to ask again
    /// where it is not its turn.
    fn leave(&self, node: &Cached<Node>) -> (bool, Option<Duration>) {
        if !is_down(node) {
            return (true, None);
        }
        let zone = zone(&node.meta);
        let pace = self.zones.lock().unwrap_or_else(PoisonError::into_inner).pace(&zone);
        let pause = match pace {
            Pace::Halt => return (false, None),
            _ if are_leaving(&node.view.spec.taints) => return (true, None),
            Pace::Wait => return (false, None),
            Pace::Every(pause) => pause,
        };
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = left.get(&zone).and_then(|last| pause.checked_sub(last.elapsed()));
        match wait.filter(|wait| !wait.is_zero()) {
            Some(wait) => (false, Some(wait)),
            None => {
                left.insert(zone, Instant::now());
                (true, None)
            }
        }
    }

    /// How much longer a node may stay silent.
    fn grace_left(&self, name: &str) -> Duration {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(name).map_or(Duration::ZERO, |at| GRACE.saturating_sub(at.elapsed()))
    }

    async fn reconcile(&self, name: &str) -> Outcome {
        self.writes.settle(name, &self.nodes).await?;
        let Some(node) = self.nodes.get(name) else { return Ok(None) };
        let now = time::format_seconds(self.context.ambient.now());
        let left = self.grace_left(name);
        let conditions = &node.view.status.conditions;
        if left.is_zero() {
            let changed = silence(conditions, &now);
            if !changed.is_empty() {
                let was_ready = ready(conditions) == Some("True");
                self.write_silence(&node, changed).await?;
                if was_ready {
                    let message = format!("Node {name} status is now: NodeNotReady");
                    self.recorder.normal(&reference(&node), "NodeNotReady", message);
                }
                // The changed node brings us back, for its taints and pods.
                return Ok(None);
            }
        }
        let (leave, wait) = self.leave(&node);
        let spec = &node.view.spec;
        if let Some(taints) = taints(&spec.taints, conditions, spec.unschedulable, leave, &now) {
            let patch = json!({
                "metadata": {
                    "uid": node.meta.uid,
                    "resourceVersion": node.meta.resource_version,
                },
                "spec": {"taints": if taints.is_empty() { Value::Null } else { json!(taints) }},
            });
            self.patch(&node, "", PatchKind::Merge, &patch).await?;
        }
        if matches!(ready(conditions), Some("False" | "Unknown")) {
            self.mark_pods(name, &now).await?;
        }
        Ok((!left.is_zero()).then_some(left).into_iter().chain(wait).min())
    }

    async fn write_silence(&self, node: &Cached<Node>, changed: Vec<Value>) -> Result<(), Error> {
        let patch = json!({"metadata": {"uid": node.meta.uid}, "status": {"conditions": changed}});
        self.patch(node, "status", PatchKind::Strategic, &patch).await
    }

    /// Nobody can say of these pods that they answer: Services leave them out.
    async fn mark_pods(&self, node: &str, now: &str) -> Result<(), Error> {
        for pod in self.pods.by_index(BY_NODE, node) {
            if pod.view.ready().is_none() || pod.meta.deletion_timestamp.is_some() {
                continue;
            }
            let condition = json!({"type": "Ready", "status": "False", "lastTransitionTime": now});
            let patch = json!({
                "metadata": {"uid": pod.meta.uid},
                "status": {"conditions": [condition]},
            });
            let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
            let patched =
                self.api.patch(PODS, namespace, name, "status", PatchKind::Strategic, &patch);
            match patched.await {
                Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error),
                _ => {}
            }
            let about = Reference::new("v1", "Pod", &pod.meta);
            self.recorder.warning(&about, "NodeNotReady", "Node is not ready");
        }
        Ok(())
    }

    async fn patch(
        &self,
        node: &Cached<Node>,
        subresource: &str,
        kind: PatchKind,
        patch: &Value,
    ) -> Result<(), Error> {
        let name = &node.meta.name;
        match self.api.patch(NODES, "", name, subresource, kind, patch).await {
            Ok(written) => {
                self.writes.record(name, &written);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn is_down(node: &Cached<Node>) -> bool {
    ready(&node.view.status.conditions) != Some("True")
}

fn ready(conditions: &[Condition]) -> Option<&str> {
    let ready = conditions.iter().find(|condition| condition.r#type == "Ready")?;
    Some(ready.status.as_str())
}

/// Whether it is the node that changed its status, and not we.
fn spoke(old: &Cached<Node>, new: &Cached<Node>) -> bool {
    let beat = |node: &Cached<Node>| {
        let mut conditions = node.view.status.conditions.iter();
        let ready = conditions.find(|condition| condition.r#type == "Ready");
        ready.map(|ready| (ready.last_heartbeat_time.clone(), ready.status.clone()))
    };
    let (old, new) = (beat(old), beat(new));
    old != new && new.is_some_and(|(_, status)| status != "Unknown")
}

fn reference(node: &Cached<Node>) -> Reference {
    // Upstream names nodes by their name in events, where kubectl looks.
    Reference { uid: node.meta.name.clone(), ..Reference::new("v1", "Node", &node.meta) }
}

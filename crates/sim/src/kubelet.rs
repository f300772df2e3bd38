//! A node that only reports: its pods start, fail, succeed and stop after a
//! while. What its pods do is said by their label `sim/fate`: `run` (also
//! where it is absent), `succeed`, `slow` (succeeds after minutes), `fail`, or
//! `either`, which succeeds once there are no faults any more. Those
//! that fail exit with 1, or now and then with [`SPECIAL`]. While the node is
//! cut off ([`World::cut_off`]) its pods run on, but it hears and tells
//! nothing.

use std::time::Duration;

use client::{Api, Cached, Change, DeleteOptions, Informer, PatchKind, Resource, Selection};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{World, random::Random};

const PODS: Resource = Resource::namespaced("", "v1", "pods");
const NODES: Resource = Resource::cluster("", "v1", "nodes");
const LEASES: Resource = Resource::namespaced("coordination.k8s.io", "v1", "leases");

const START_MAX: Duration = Duration::from_secs(3);
const WORK_MAX: Duration = Duration::from_secs(30);
const SLOW_WORK_MAX: Duration = Duration::from_secs(4 * 60);
const STOP_MAX: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Where nothing is lost any more every fourth is enough, and most of what a
/// long silence costs is heartbeats.
const HEARTBEAT_AT_REST: Duration = Duration::from_secs(35);
/// An exit code that policies of Jobs have rules for.
pub(crate) const SPECIAL: u64 = 42;

#[derive(Debug, serde::Deserialize)]
struct Pod {
    spec: Spec,
}

#[derive(Debug, serde::Deserialize)]
struct Spec {
    #[serde(default, rename = "restartPolicy")]
    restart_policy: String,
}

/// Registers the node, says that it lives, and looks after its pods.
pub(crate) async fn run(world: World, name: String) {
    let api = world.reliable("kubelet");
    register(&world, &api, &name).await;
    let ours = Selection::all(PODS).fields(&format!("spec.nodeName={name}"));
    let pods = Informer::<Pod>::new(ours);
    let (sender, mut changed) = mpsc::unbounded_channel();
    pods.on_change(move |change: &Change<Pod>| {
        // Nobody reads once the node is gone.
        let _ = sender.send(change.clone());
    });
    let (random, own) = (world.random().fork(), name.clone());
    let node = Node { world: world.clone(), api: api.clone(), random, name: own };
    let heard = node.clone();
    let look_after = async {
        while let Some(change) = changed.recv().await {
            world.connected(&name).await;
            heard.heard(&change);
        }
    };
    let ambient = world.ambient();
    tokio::select! {
        biased;
        () = pods.run(&api, &ambient) => {}
        () = look_after => {}
        () = heartbeat(&world, &api, &name) => {}
        () = node.come_back() => {}
    }
}

async fn register(world: &World, api: &Api, name: &str) {
    let time = jiff::Timestamp::to_string(&world.ambient().now());
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {
            "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "KubeletReady",
                "lastHeartbeatTime": time, "lastTransitionTime": time,
            }],
        },
    });
    retried(async || api.create(NODES, "", &node).await.map(drop)).await;
}

async fn heartbeat(world: &World, api: &Api, name: &str) {
    const NAMESPACE: &str = "kube-node-lease";
    let lease = |time: String| {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": time},
        })
    };
    let now = || format!("{:.6}", world.ambient().now());
    retried(async || api.create(LEASES, NAMESPACE, &lease(now())).await.map(drop)).await;
    loop {
        let at_rest = !world.faults().are_on();
        tokio::time::sleep(if at_rest { HEARTBEAT_AT_REST } else { HEARTBEAT }).await;
        world.connected(name).await;
        let renewal = json!({"spec": {"renewTime": now()}});
        retried(async || {
            api.patch(LEASES, NAMESPACE, name, "", PatchKind::Merge, &renewal).await.map(drop)
        })
        .await;
    }
}

/// Until it works: the namespace may come later.
async fn retried<F>(request: impl Fn() -> F)
where
    F: Future<Output = Result<(), client::Error>>,
{
    while request().await.is_err() {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[derive(Clone)]
struct Node {
    world: World,
    api: Api,
    random: Random,
    name: String,
}

impl Node {
    fn heard(&self, change: &Change<Pod>) {
        match (&change.old, &change.new) {
            (None, Some(pod)) => {
                self.world.running().entry(pod.key()).or_default().push(pod.meta.uid.to_string());
                tokio::spawn(self.clone().live(pod.clone()));
            }
            // Taken away before it was stopped, by force: it runs on for a while.
            (Some(pod), None) => drop(tokio::spawn(self.clone().kill(pod.clone()))),
            _ => {}
        }
        let deleting = |pod: &Cached<Pod>| pod.meta.deletion_timestamp.is_some();
        if let Some(new) = &change.new
            && deleting(new)
            && !change.old.as_ref().is_some_and(|old| deleting(old))
        {
            tokio::spawn(self.clone().stop(new.clone()));
        }
    }

    /// Tells what was not believed of the node and its pods while it was cut off.
    async fn come_back(&self) {
        loop {
            self.world.cut_off_once(&self.name).await;
            self.world.connected(&self.name).await;
            // The node first: else its pods would be said not to be ready again.
            retried(async || {
                let time = self.world.ambient().now().to_string();
                let ready = json!({"status": {"conditions": [{
                    "type": "Ready", "status": "True", "reason": "KubeletReady",
                    "lastHeartbeatTime": time, "lastTransitionTime": time,
                }]}});
                let kind = PatchKind::Strategic;
                self.api.patch(NODES, "", &self.name, "status", kind, &ready).await.map(drop)
            })
            .await;
            let pods: Vec<(String, Value)> = {
                let cluster = self.world.cluster();
                let pods = cluster.all("/pods").filter(|(_, pod)| {
                    pod["spec"]["nodeName"] == *self.name && pod["status"]["phase"] == "Running"
                });
                pods.map(|(key, pod)| (key.to_owned(), pod["metadata"]["uid"].clone())).collect()
            };
            for (key, uid) in pods {
                let (namespace, name) = crate::world::split(&key);
                let conditions =
                    ["ContainersReady", "Ready"].map(|name| self.condition(name, true));
                let status =
                    json!({"metadata": {"uid": uid}, "status": {"conditions": conditions}});
                let kind = PatchKind::Strategic;
                // Gone meanwhile: there is nothing to report of it.
                let _ = self.api.patch(PODS, namespace, name, "status", kind, &status).await;
            }
        }
    }

    fn condition(&self, name: &str, status: bool) -> Value {
        let status = if status { "True" } else { "False" };
        let time = self.world.ambient().now().to_string();
        json!({"type": name, "status": status, "lastTransitionTime": time})
    }

    fn stopped(&self, pod: &Cached<Pod>) {
        if let Some(uids) = self.world.running().get_mut(&pod.key()) {
            uids.retain(|uid| *uid != *pod.meta.uid);
        }
    }

    /// Starts a pod; some end by themselves.
    async fn live(self, pod: std::sync::Arc<Cached<Pod>>) {
        tokio::time::sleep(self.random.pause(START_MAX)).await;
        self.report(&pod, "Running", true).await;
        let fate = pod.meta.labels.get("sim/fate").map(|fate| fate.to_string());
        let phase = match fate.as_deref() {
            Some("succeed" | "slow") => "Succeeded",
            Some("fail") => "Failed",
            // Not at rest: eight in a row, and the backoff is longer than what may settle.
            Some("either") if self.world.faults().are_on() && self.random.chance(400) => "Failed",
            Some("either") => "Succeeded",
            _ => return,
        };
        let work_max = if fate.as_deref() == Some("slow") { SLOW_WORK_MAX } else { WORK_MAX };
        tokio::time::sleep(self.random.pause(work_max)).await;
        self.report(&pod, phase, false).await;
    }

    /// Stops a pod and says so, then lets its object go.
    async fn stop(self, pod: std::sync::Arc<Cached<Pod>>) {
        tokio::time::sleep(self.random.pause(STOP_MAX)).await;
        // What a cut-off node stops it does not tell; it may as well run on.
        self.world.connected(&self.name).await;
        if pod.view.spec.restart_policy != "Always" {
            self.report(&pod, "Failed", false).await;
        }
        self.stopped(&pod);
        let options =
            DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::uid(&pod.meta.uid) };
        let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
        // Gone, or one of the same name: either way not ours any more.
        let _ = self.api.delete(PODS, namespace, name, &options).await;
    }

    /// Stops a pod whose object is gone.
    async fn kill(self, pod: std::sync::Arc<Cached<Pod>>) {
        tokio::time::sleep(self.random.pause(STOP_MAX)).await;
        self.stopped(&pod);
    }

    /// Writes a status, unless the pod has ended before or is gone.
    async fn report(&self, pod: &Cached<Pod>, phase: &str, ready: bool) {
        self.world.connected(&self.name).await;
        let key = pod.key();
        {
            let cluster = self.world.cluster();
            let Some(now) = cluster.get("/pods", &key) else { return };
            let ended = matches!(now["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
            if ended || now["metadata"]["uid"] != *pod.meta.uid {
                return;
            }
        }
        let time = self.world.ambient().now().to_string();
        let conditions =
            ["Initialized", "ContainersReady", "Ready"].map(|name| self.condition(name, ready));
        let ip = format!("10.42.0.{}", 1 + self.random.below(250));
        let exit_code = match phase {
            "Failed" if self.random.chance(200) => SPECIAL,
            phase => u64::from(phase == "Failed"),
        };
        let state = match phase {
            "Running" => json!({"running": {"startedAt": time}}),
            _ => json!({"terminated": {"exitCode": exit_code, "finishedAt": time}}),
        };
        let container = json!({"name": "main", "image": "x", "imageID": "x", "ready": ready,
                               "restartCount": 0, "state": state});
        // These merge by address: one of before must be said to be replaced.
        let ips = json!([{"$patch": "replace"}, {"ip": ip}]);
        let status = json!({
            "metadata": {"uid": pod.meta.uid},
            "status": {"phase": phase, "podIP": ip, "podIPs": ips, "startTime": time,
                       "conditions": conditions, "containerStatuses": [container]},
        });
        let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
        // Gone meanwhile, or another one: there is nothing to report of it.
        let _ =
            self.api.patch(PODS, namespace, name, "status", PatchKind::Strategic, &status).await;
    }
}

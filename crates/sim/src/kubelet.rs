//! A node that only reports: its pods start, fail, succeed and stop after a
//! while. What its pods do is said by their label `sim/fate`: `run` (also
//! where it is absent), `succeed`, `fail`, or `either` of these two.

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
const STOP_MAX: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(10);

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
    let node = Node { world: world.clone(), api: api.clone(), random: world.random().fork() };
    let look_after = async {
        while let Some(change) = changed.recv().await {
            node.heard(&change);
        }
    };
    let ambient = world.ambient();
    tokio::select! {
        biased;
        () = pods.run(&api, &ambient) => {}
        () = look_after => {}
        () = heartbeat(&world, &api, &name) => {}
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
        tokio::time::sleep(HEARTBEAT).await;
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
}

impl Node {
    fn heard(&self, change: &Change<Pod>) {
        match (&change.old, &change.new) {
            (None, Some(pod)) => {
                self.world.running().entry(pod.key()).or_default().push(pod.meta.uid.to_string());
                tokio::spawn(self.clone().live(pod.clone()));
            }
            // Taken away before it was stopped: by force.
            (Some(pod), None) => self.stopped(pod),
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
            Some("succeed") => "Succeeded",
            Some("fail") => "Failed",
            Some("either") if self.random.chance(300) => "Failed",
            Some("either") => "Succeeded",
            _ => return,
        };
        tokio::time::sleep(self.random.pause(WORK_MAX)).await;
        self.report(&pod, phase, false).await;
    }

    /// Stops a pod and says so, then lets its object go.
    async fn stop(self, pod: std::sync::Arc<Cached<Pod>>) {
        tokio::time::sleep(self.random.pause(STOP_MAX)).await;
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

    /// Writes a status, unless the pod has ended before or is gone.
    async fn report(&self, pod: &Cached<Pod>, phase: &str, ready: bool) {
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
        let condition = |name: &str, status: bool| {
            let status = if status { "True" } else { "False" };
            json!({"type": name, "status": status, "lastTransitionTime": time})
        };
        let conditions: Vec<Value> =
            ["Initialized", "ContainersReady", "Ready"].map(|name| condition(name, ready)).into();
        let ip = format!("10.42.0.{}", 1 + self.random.below(250));
        let status = json!({
            "metadata": {"uid": pod.meta.uid},
            "status": {"phase": phase, "podIP": ip, "podIPs": [{"ip": ip}], "startTime": time,
                       "conditions": conditions},
        });
        let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
        // Gone meanwhile, or another one: there is nothing to report of it.
        let _ =
            self.api.patch(PODS, namespace, name, "status", PatchKind::Strategic, &status).await;
    }
}

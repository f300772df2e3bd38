//! The load on nodes that nobody runs: pods to be bound, a rollout in which
//! this program reports for the kubelets, Deployments of no pods.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use client::{Api, DeleteOptions, Error, ListOptions, PatchKind, Resource, Watch, WatchEvent};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{child::ready, objects::NAMESPACE};

const PODS: Resource = Resource::namespaced("", "v1", "pods");
const NODES: Resource = Resource::cluster("", "v1", "nodes");
const DEPLOYMENTS: Resource = Resource::namespaced("apps", "v1", "deployments");
/// How many connections make objects.
pub(crate) const MAKERS: usize = 16;
pub(crate) const VERBS: &[&str] = &[
    "schedule-plain",
    "schedule-affinity",
    "schedule-spread",
    "clear",
    "rollout",
    "deployments",
    "changes",
];

/// One verb with its numbers.
pub(crate) struct Load<'a> {
    pub(crate) verb: &'a str,
    /// Nodes; for `deployments`, the number of the first.
    pub(crate) nodes: usize,
    pub(crate) count: usize,
    pub(crate) makers: Vec<Api>,
}

impl Load<'_> {
    pub(crate) async fn run(self) -> Value {
        match self.verb {
            "clear" => self.clear().await,
            "rollout" => self.rollout().await,
            "deployments" => self.deployments().await,
            "changes" => self.changes().await,
            verb => self.schedule(verb.trim_start_matches("schedule-")).await,
        }
    }

    fn api(&self) -> &Api {
        &self.makers[0]
    }

    fn make(
        &self,
        resource: Resource,
        namespace: &'static str,
        objects: Vec<Value>,
    ) -> JoinSet<()> {
        let mut shares: Vec<Vec<Value>> = vec![Vec::new(); MAKERS];
        objects.into_iter().enumerate().for_each(|(n, o)| shares[n % MAKERS].push(o));
        let mut tasks = JoinSet::new();
        for (api, share) in self.makers.iter().cloned().zip(shares) {
            tasks.spawn(async move {
                for object in share {
                    api.create(resource, namespace, &object).await.expect("created");
                }
            });
        }
        tasks
    }

    /// From what there is now on.
    async fn watch(&self, resource: Resource) -> Watch {
        let list = self.api().list(resource, NAMESPACE, &ListOptions::default()).await;
        let resource_version = list.expect("a list").resource_version;
        let options = ListOptions { resource_version, ..Default::default() };
        self.api().watch(resource, NAMESPACE, &options).await.expect("a watch")
    }

    async fn schedule(&self, workload: &str) -> Value {
        let pods = (0..self.count).map(|n| scheduled_pod(workload, n)).collect();
        self.make(PODS, NAMESPACE, pods).join_all().await;
        let mut watch = self.watch(PODS).await;
        ready();
        let began = Instant::now();
        let making = self.make(NODES, "", (0..self.nodes).map(bare_node).collect());
        let mut bound = BTreeSet::new();
        while bound.len() < self.count {
            if let (WatchEvent::Modified(_), name, pod) = next(&mut watch).await
                && pod["spec"]["nodeName"].is_string()
            {
                bound.insert(name);
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        making.join_all().await;
        json!({"rate": self.count as f64 / seconds, "seconds": seconds})
    }

    /// Takes the nodes and pods away.
    async fn clear(&self) -> Value {
        ready();
        let at_once = DeleteOptions { grace_period_seconds: Some(0), ..Default::default() };
        let all = ListOptions::default();
        self.api().delete_collection(PODS, NAMESPACE, &all, &at_once).await.expect("deleted");
        let bare = ListOptions { label_selector: "bare=yes".into(), ..Default::default() };
        self.api().delete_collection(NODES, "", &bare, &at_once).await.expect("deleted");
        json!({})
    }

    async fn rollout(&self) -> Value {
        self.make(NODES, "", (0..self.nodes).map(bare_node).collect()).join_all().await;
        let mut kubelets = Kubelets { watch: self.watch(PODS).await, ready: BTreeMap::new() };
        let deployment = deployment("web", self.count);
        self.api().create(DEPLOYMENTS, NAMESPACE, &deployment).await.expect("created");
        kubelets.until_ready(&self.makers, "web:0", self.count).await;
        ready();
        let began = Instant::now();
        let containers = json!([{"name": "c", "image": "web:1"}]);
        let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
        let kind = PatchKind::Strategic;
        let patched = self.api().patch(DEPLOYMENTS, NAMESPACE, "web", "", kind, &patch).await;
        patched.expect("patched");
        kubelets.until_ready(&self.makers, "web:1", self.count).await;
        json!({"seconds": began.elapsed().as_secs_f64()})
    }

    /// Deployments that want no pod, until each has been looked at.
    async fn deployments(&self) -> Value {
        let mut watch = self.watch(DEPLOYMENTS).await;
        ready();
        let all = (self.nodes..self.nodes + self.count).map(|n| deployment(&format!("d-{n}"), 0));
        let making = self.make(DEPLOYMENTS, NAMESPACE, all.collect());
        let mut observed = BTreeSet::new();
        while observed.len() < self.count {
            let (_, name, deployment) = next(&mut watch).await;
            if is_observed(&deployment) {
                observed.insert(name);
            }
        }
        making.join_all().await;
        json!({})
    }

    /// One Deployment, changed again and again, each time until its controller
    /// says that it has seen it.
    async fn changes(&self) -> Value {
        let mut watch = self.watch(DEPLOYMENTS).await;
        ready();
        for n in 1..=self.count {
            let patch = json!({"spec": {"minReadySeconds": n % 2 + 1}});
            let kind = PatchKind::Merge;
            let changed = self.api().patch(DEPLOYMENTS, NAMESPACE, "d-0", "", kind, &patch).await;
            let generation = changed.expect("changed").meta.generation;
            loop {
                let (_, name, deployment) = next(&mut watch).await;
                let newest = deployment["metadata"]["generation"].as_i64() == Some(generation);
                if name == "d-0" && newest && is_observed(&deployment) {
                    break;
                }
            }
        }
        json!({})
    }
}

/// Reports what kubelets would.
struct Kubelets {
    watch: Watch,
    /// Pods that were said to be ready, with their image.
    ready: BTreeMap<String, String>,
}

impl Kubelets {
    /// Until so many pods with the image are ready, and none with another.
    async fn until_ready(&mut self, makers: &[Api], image: &str, count: usize) {
        let mut reports = JoinSet::new();
        let mut turn = 0;
        while self.ready.len() != count || self.ready.values().any(|other| other != image) {
            let (event, name, pod) = next(&mut self.watch).await;
            if matches!(event, WatchEvent::Deleted(_)) {
                self.ready.remove(&name);
                continue;
            }
            if !pod["spec"]["nodeName"].is_string() {
                continue;
            }
            turn += 1;
            let api = makers[turn % MAKERS].clone();
            if pod["metadata"]["deletionTimestamp"].is_string() {
                self.ready.remove(&name);
                reports.spawn(async move { stop(&api, &name).await });
            } else if !self.ready.contains_key(&name) {
                let of = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
                self.ready.insert(name.clone(), of.to_owned());
                reports.spawn(async move { start(&api, &name).await });
            }
            while reports.try_join_next().is_some() {}
        }
        reports.join_all().await;
    }
}

async fn start(api: &Api, name: &str) {
    let now = jiff::Timestamp::now().to_string();
    let conditions = ["Initialized", "ContainersReady", "Ready"]
        .map(|name| json!({"type": name, "status": "True", "lastTransitionTime": now}));
    let status =
        json!({"status": {"phase": "Running", "startTime": now, "conditions": conditions}});
    let kind = PatchKind::Strategic;
    expect_or_gone(api.patch(PODS, NAMESPACE, name, "status", kind, &status).await.map(drop));
}

async fn stop(api: &Api, name: &str) {
    let at_once = DeleteOptions { grace_period_seconds: Some(0), ..Default::default() };
    expect_or_gone(api.delete(PODS, NAMESPACE, name, &at_once).await);
}

fn expect_or_gone(result: Result<(), Error>) {
    match result {
        Err(error) if !error.is_not_found() => panic!("{error}"),
        _ => {}
    }
}

async fn next(watch: &mut Watch) -> (WatchEvent, String, Value) {
    loop {
        let event = watch.next().await.expect("the watch goes on").expect("an event");
        let (WatchEvent::Added(object)
        | WatchEvent::Modified(object)
        | WatchEvent::Deleted(object)) = &event
        else {
            continue;
        };
        let value = serde_json::from_slice(&object.bytes).expect("JSON");
        let name = object.meta.name.clone();
        return (event, name, value);
    }
}

fn is_observed(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

fn deployment(name: &str, replicas: usize) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "nodeSelector": {"bare": "yes"},
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [{"name": "c", "image": "web:0"}],
                },
            },
        },
    })
}

/// A Node of one of ten zones, that nobody runs.
fn bare_node(n: usize) -> Value {
    let capacity = json!({"cpu": "32", "memory": "64Gi", "pods": "110"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("bare-{n}"), "labels": {
            "bare": "yes",
            "kubernetes.io/hostname": format!("bare-{n}"),
            "topology.kubernetes.io/zone": format!("zone-{}", n % 10),
        }},
        "status": {"capacity": capacity, "allocatable": capacity},
    })
}

/// A pod for such nodes, ten of a kind.
fn scheduled_pod(workload: &str, n: usize) -> Value {
    let kind = format!("kind-{}", n / 10);
    let like = json!({"matchLabels": {"app": kind}});
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("{workload}-{n}"), "labels": {"app": kind}},
        "spec": {
            "nodeSelector": {"bare": "yes"},
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "c", "image": "skiff.local/toolbox",
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
            }],
        },
    });
    match workload {
        "plain" => {}
        "affinity" => {
            let term = json!([{"topologyKey": "kubernetes.io/hostname", "labelSelector": like}]);
            let required = "requiredDuringSchedulingIgnoredDuringExecution";
            pod["spec"]["affinity"]["podAntiAffinity"][required] = term;
        }
        "spread" => {
            pod["spec"]["topologySpreadConstraints"] = json!([{
                "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "DoNotSchedule", "labelSelector": like,
            }]);
        }
        _ => panic!("no workload is called {workload:?}"),
    }
    pod
}

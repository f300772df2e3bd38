//! Decisions as a table, and the whole scheduler on a cluster in memory.

use std::{collections::BTreeMap, time::Duration};

use client::{Cached, Resource};
use serde_json::{Value, json};
use testkit::{Build, FakeCluster, node, pod};

use crate::{Decision, Node, Pod, decide};

const NODES: Resource = Resource::cluster("", "v1", "nodes");
const PODS: Resource = Resource::namespaced("", "v1", "pods");

/// Where the pod goes, or why nowhere. `others` are pods that are there.
fn check(incoming: Build, nodes: &[Build], others: &[Build]) -> String {
    let mut all: BTreeMap<String, Node> = BTreeMap::new();
    for node in nodes {
        let node = Node::new(&Cached::read(node.object(), false).expect("a node"));
        all.insert(node.name.clone(), node);
    }
    for other in others {
        let other: Cached<Pod> = Cached::read(other.object(), false).expect("a pod");
        let node = all.get_mut(&other.view.node_name).expect("its node is there");
        node.pods += 1;
        node.used.add(&other.view.requests);
        node.host_ports.extend(other.view.host_ports.clone());
    }
    let incoming: Cached<Pod> = Cached::read(incoming.object(), false).expect("a pod");
    match decide(&incoming.view, &all, 0) {
        Decision::Bind(node) => node,
        Decision::Unschedulable(error) => error.message,
    }
}

fn affinity(pod: Build, how: &str, value: Value) -> Build {
    pod.set(&format!("/spec/affinity/nodeAffinity/{how}"), value)
}

fn zone_in(values: &[&str]) -> Value {
    json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": values}]})
}

#[test]
fn where_pods_go() {
    let p = || pod("default/p");
    let big = || node("big").label("zone", "a");
    let small = || {
        node("small")
            .label("zone", "b")
            .set("/status/allocatable", json!({"cpu": "1", "memory": "1Gi", "pods": "2"}))
    };
    let tainted = |effect: &str| {
        big().set("/spec/taints", json!([{"key": "gpu", "value": "yes", "effect": effect}]))
    };
    let tolerating = |toleration: Value| p().set("/spec/tolerations", json!([toleration]));
    let required = "requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let port = |pod: Build, ip: &str| {
        pod.set(
            "/spec/containers/0/ports",
            json!([{"containerPort": 80, "hostPort": 80, "hostIP": ip}]),
        )
    };
    let nodes = [big(), small()];
    let never = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    let victims =
        "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    let table: Vec<(Build, Vec<Build>, Vec<Build>, String)> = vec![
        (p(), vec![], vec![], "no nodes available to schedule pods".into()),
        (p(), vec![small()], vec![], "small".into()),
        // More is left on the big one.
        (p().requests("500m", "100Mi"), nodes.to_vec(), vec![], "big".into()),
        (
            p().requests("500m", "100Mi"),
            nodes.to_vec(),
            vec![pod("default/q").on("big").requests("3800m", "1Gi")],
            "small".into(),
        ),
        (
            p().requests("2", "100Mi"),
            vec![small()],
            vec![],
            format!("0/1 nodes are available: 1 Insufficient cpu. {never}"),
        ),
        (
            p().requests("600m", "100Mi"),
            vec![small()],
            vec![pod("default/q").on("small").requests("500m", "1Gi")],
            format!("0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. {victims}"),
        ),
        (
            p(),
            vec![small()],
            vec![pod("default/q").on("small"), pod("default/r").on("small")],
            format!("0/1 nodes are available: 1 Too many pods. {victims}"),
        ),
        (
            p().set("/spec/containers/0/resources/requests", json!({"example.com/gpu": "1"})),
            vec![small()],
            vec![],
            format!("0/1 nodes are available: 1 Insufficient example.com/gpu. {never}"),
        ),
        (p().set("/spec/nodeSelector", json!({"zone": "b"})), nodes.to_vec(), vec![], "small".into()),
        (
            p().set("/spec/nodeSelector", json!({"zone": "c"})),
            vec![small()],
            vec![],
            format!("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. {never}"),
        ),
        (affinity(p(), required, json!([zone_in(&["c"]), zone_in(&["b"])])), nodes.to_vec(), vec![], "small".into()),
        (
            affinity(p(), preferred, json!([{"weight": 50, "preference": zone_in(&["b"])}])),
            nodes.to_vec(),
            vec![],
            "small".into(),
        ),
        (
            p(),
            vec![tainted("NoSchedule")],
            vec![],
            format!("0/1 nodes are available: 1 node(s) had untolerated taint {{gpu: yes}}. {never}"),
        ),
        (p(), vec![tainted("PreferNoSchedule"), small()], vec![], "small".into()),
        (tolerating(json!({"key": "gpu", "operator": "Exists"})), vec![tainted("NoSchedule")], vec![], "big".into()),
        (tolerating(json!({"key": "gpu", "value": "yes"})), vec![tainted("NoExecute")], vec![], "big".into()),
        (tolerating(json!({"operator": "Exists"})), vec![tainted("NoExecute")], vec![], "big".into()),
        (
            tolerating(json!({"key": "gpu", "value": "no"})),
            vec![tainted("NoSchedule"), small().set("/spec/unschedulable", json!(true))],
            vec![],
            "0/2 nodes are available: 1 node(s) had untolerated taint {gpu: yes}, 1 node(s) were unschedulable. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.".into(),
        ),
        (
            port(p(), ""),
            vec![small()],
            vec![port(pod("default/q").on("small"), "10.0.0.1")],
            format!("0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. {victims}"),
        ),
        (port(p(), "10.0.0.2"), vec![small()], vec![port(pod("default/q").on("small"), "10.0.0.1")], "small".into()),
        (
            p().set("/spec/containers/0/image", json!("registry/web")),
            vec![big(), node("cached").set("/status/images", json!([{"names": ["registry/web:latest"], "sizeBytes": 2_000_000_000}]))],
            vec![],
            "cached".into(),
        ),
    ];
    for (incoming, nodes, others, wanted) in table {
        assert_eq!(check(incoming.clone(), &nodes, &others), wanted, "{:?}", incoming.json());
    }
}

struct Story {
    cluster: FakeCluster,
    task: tokio::task::JoinHandle<()>,
}

impl Story {
    fn start() -> Self {
        let cluster = FakeCluster::new();
        let run = crate::run(cluster.api(), cluster.ambient(), std::future::pending());
        Self { task: tokio::spawn(run), cluster }
    }

    async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(20)).await;
    }

    fn node_of(&self, key: &str) -> Value {
        self.cluster.get(PODS, key).expect("it is there")["spec"]["nodeName"].clone()
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_bound_and_told_so() {
    let story = Story::start();
    story.cluster.create(NODES, &node("n1"));
    story.cluster.create(PODS, &pod("default/p"));
    story.settle().await;
    assert_eq!(story.node_of("default/p"), "n1");
    assert_eq!(story.cluster.events(), ["Scheduled: Successfully assigned default/p to n1"]);
}

#[tokio::test(start_paused = true)]
async fn an_impossible_pod_waits_for_what_helps_it() {
    let story = Story::start();
    story.cluster.create(NODES, &node("n1"));
    story.cluster.create(PODS, &pod("default/first").requests("3", "1Gi"));
    story.settle().await;
    story.cluster.create(PODS, &pod("default/second").requests("3", "1Gi"));
    story.settle().await;
    let message = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    let second = story.cluster.get(PODS, "default/second").expect("there");
    let condition = &second["status"]["conditions"][0];
    assert_eq!(
        (&condition["type"], &condition["status"], &condition["reason"], &condition["message"]),
        (&json!("PodScheduled"), &json!("False"), &json!("Unschedulable"), &json!(message))
    );
    assert!(story.cluster.events().contains(&format!("FailedScheduling: {message}")));
    // Nothing happens, so nothing is tried, nor written.
    let revision = story.cluster.revision();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(story.cluster.revision(), revision);
    // A heartbeat of the node helps nobody.
    story
        .cluster
        .edit(NODES, "n1", |n| n["status"]["conditions"][0]["lastHeartbeatTime"] = json!("x"));
    story.settle().await;
    assert_eq!(story.cluster.revision(), revision + 1);
    story.cluster.edit(PODS, "default/first", |p| p["status"]["phase"] = json!("Succeeded"));
    story.settle().await;
    assert_eq!(story.node_of("default/second"), "n1");
}

#[tokio::test(start_paused = true)]
async fn gates_and_other_schedulers_are_respected() {
    let story = Story::start();
    story.cluster.create(NODES, &node("n1"));
    let gated = pod("default/gated").set("/spec/schedulingGates", json!([{"name": "x"}]));
    story.cluster.create(PODS, &gated);
    let other = pod("default/other").set("/spec/schedulerName", json!("mine"));
    story.cluster.create(PODS, &other);
    story.settle().await;
    assert_eq!(story.node_of("default/gated"), Value::Null);
    assert_eq!(story.node_of("default/other"), Value::Null);
    let status = &story.cluster.get(PODS, "default/gated").expect("there")["status"];
    assert_eq!(status["conditions"][0]["reason"], "SchedulingGated");
    story.cluster.edit(PODS, "default/gated", |p| p["spec"]["schedulingGates"] = json!([]));
    story.settle().await;
    assert_eq!(story.node_of("default/gated"), "n1");
}

#[tokio::test(start_paused = true)]
async fn many_pods_spread_and_never_overfill() {
    let story = Story::start();
    for name in ["a", "b", "c"] {
        story.cluster.create(NODES, &node(name));
    }
    for i in 0..15 {
        story.cluster.create(PODS, &pod(&format!("default/p{i}")).requests("1", "100Mi"));
    }
    story.settle().await;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for pod in story.cluster.list(PODS) {
        *counts.entry(pod["spec"]["nodeName"].as_str().unwrap_or("-").into()).or_default() += 1;
    }
    let wanted = [("-", 3), ("a", 4), ("b", 4), ("c", 4)];
    assert_eq!(counts, wanted.map(|(name, n)| (name.to_owned(), n)).into());
    // A new node takes the rest.
    story.cluster.create(NODES, &node("d"));
    story.settle().await;
    assert!(story.cluster.list(PODS).iter().all(|pod| !pod["spec"]["nodeName"].is_null()));
}

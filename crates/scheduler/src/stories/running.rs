//! The whole scheduler on a cluster in memory.

use std::{collections::BTreeMap, time::Duration};

use client::Resource;
use serde_json::{Value, json};
use testkit::{FakeCluster, node, pod};

use crate::Configuration;

const NODES: Resource = Resource::cluster("", "v1", "nodes");
const EVENTS: Resource = Resource::namespaced("", "v1", "events");
const PODS: Resource = Resource::namespaced("", "v1", "pods");

struct Story {
    cluster: FakeCluster,
    task: tokio::task::JoinHandle<()>,
}

impl Story {
    fn start() -> Self {
        let cluster = FakeCluster::new();
        let run = crate::run(
            cluster.api(),
            cluster.ambient(),
            Configuration { host: "here".into(), ..Configuration::default() },
            std::future::pending(),
        );
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
    let event = &story.cluster.list(EVENTS)[0];
    assert_eq!(
        [&event["action"], &event["reportingComponent"], &event["reportingInstance"]],
        ["Binding", "default-scheduler", "default-scheduler-here"]
    );
    assert!(event["eventTime"].is_string() && event["source"].is_null(), "{event}");
}

#[tokio::test(start_paused = true)]
async fn an_impossible_pod_waits_for_what_helps_it() {
    let story = Story::start();
    story.cluster.create(NODES, &node("n1"));
    story.cluster.create(PODS, &pod("default/first").requests("3", "1Gi"));
    story.settle().await;
    story.cluster.create(PODS, &pod("default/second").requests("3", "1Gi"));
    story.settle().await;
    let message = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    let second = story.cluster.get(PODS, "default/second").expect("there");
    let condition = &second["status"]["conditions"][0];
    assert_eq!(
        (&condition["type"], &condition["status"], &condition["reason"], &condition["message"]),
        (&json!("PodScheduled"), &json!("False"), &json!("Unschedulable"), &json!(message))
    );
    assert_eq!(condition["observedGeneration"], second["metadata"]["generation"]);
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

#[tokio::test(start_paused = true)]
async fn a_more_important_pod_gets_the_place() {
    let story = Story::start();
    story.cluster.create(NODES, &node("n1"));
    for name in ["low", "lower"] {
        let priority = if name == "low" { 5 } else { 1 };
        let pod = pod(&format!("default/{name}")).requests("2", "1Mi");
        story.cluster.create(PODS, &pod.set("/spec/priority", json!(priority)));
    }
    story.settle().await;
    let urgent = pod("default/urgent").requests("2", "1Mi").set("/spec/priority", json!(10));
    let uid = story.cluster.create(PODS, &urgent)["metadata"]["uid"].clone();
    story.settle().await;
    // It goes in its own time; its place is kept meanwhile.
    let victim = story.cluster.get(PODS, "default/lower").expect("being deleted");
    assert!(!victim["metadata"]["deletionTimestamp"].is_null());
    let condition = &victim["status"]["conditions"][0];
    assert_eq!(condition["type"], "DisruptionTarget");
    assert_eq!(condition["reason"], "PreemptionByScheduler");
    let said = "default-scheduler: preempting to accommodate a higher priority pod";
    assert_eq!(condition["message"], said);
    let urgent = story.cluster.get(PODS, "default/urgent").expect("there");
    assert_eq!(urgent["status"]["nominatedNodeName"], "n1");
    assert_eq!(story.node_of("default/urgent"), Value::Null);
    assert!(story.node_of("default/low") == "n1");
    let small = pod("default/late").requests("1", "1Mi").set("/spec/priority", json!(1));
    story.cluster.create(PODS, &small);
    story.settle().await;
    assert_eq!(story.node_of("default/late"), Value::Null);
    story.cluster.remove(PODS, "default/lower");
    story.settle().await;
    assert_eq!(story.node_of("default/urgent"), "n1");
    let events = story.cluster.events();
    let preempted =
        format!("Preempted: Preempted by pod {} on node n1", uid.as_str().expect("a uid"));
    assert!(events.contains(&preempted), "{events:?}");
    let failed = "FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu.";
    assert!(events.contains(&failed.to_owned()), "{events:?}");
    let revision = story.cluster.revision();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(story.cluster.revision(), revision);
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_its_volumes() {
    const CLASSES: Resource = Resource::cluster("storage.k8s.io", "v1", "storageclasses");
    const CLAIMS: Resource = Resource::namespaced("", "v1", "persistentvolumeclaims");
    let story = Story::start();
    story.cluster.create(NODES, &node("n1"));
    let object = super::world::object;
    let class = object("storage.k8s.io/v1", "StorageClass", "late")
        .set("/metadata/namespace", Value::Null)
        .set("/provisioner", json!("x"))
        .set("/volumeBindingMode", json!("WaitForFirstConsumer"));
    story.cluster.create(CLASSES, &class);
    let claim = |name: &str| {
        object("v1", "PersistentVolumeClaim", &format!("default/{name}")).set(
            "/spec",
            json!({"storageClassName": "late", "resources": {"requests": {"storage": "1Gi"}}}),
        )
    };
    let using = |pod_name: &str, claim: &str| {
        pod(&format!("default/{pod_name}")).set(
            "/spec/volumes",
            json!([{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]),
        )
    };
    story.cluster.create(PODS, &using("p", "c"));
    story.settle().await;
    let message = "0/1 nodes are available: persistentvolumeclaim \"c\" not found. not found";
    assert_eq!(story.cluster.events(), [format!("FailedScheduling: {message}")]);
    story.cluster.create(CLAIMS, &claim("c"));
    story.settle().await;
    let known = story.cluster.get(CLAIMS, "default/c").expect("there");
    assert_eq!(known["metadata"]["annotations"]["volume.kubernetes.io/selected-node"], "n1");
    assert_eq!(story.node_of("default/p"), Value::Null, "not before the volume is there");
    story.cluster.edit(CLAIMS, "default/c", |claim| {
        claim["spec"]["volumeName"] = json!("v");
        claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = json!("yes");
    });
    story.cluster.create(
        Resource::cluster("", "v1", "persistentvolumes"),
        &object("v1", "PersistentVolume", "v").set("/metadata/namespace", Value::Null),
    );
    story.settle().await;
    assert_eq!(story.node_of("default/p"), "n1");
    // A provisioner that gives up takes the node's name away again.
    story.cluster.create(CLAIMS, &claim("d"));
    story.cluster.create(PODS, &using("q", "d"));
    story.settle().await;
    story.cluster.edit(CLAIMS, "default/d", |claim| claim["metadata"]["annotations"] = json!({}));
    story.settle().await;
    let said = "FailedScheduling: running PreBind plugin \"VolumeBinding\": provisioning failed for PVC \"d\"";
    let events = story.cluster.events();
    assert!(events.contains(&said.to_owned()), "{events:?}");
    let known = story.cluster.get(CLAIMS, "default/d").expect("there");
    let again = &known["metadata"]["annotations"]["volume.kubernetes.io/selected-node"];
    assert_eq!(again, "n1", "it is tried again");
    // One that made the volume where the pod cannot have it.
    story.cluster.edit(CLAIMS, "default/d", |claim| {
        claim["spec"]["volumeName"] = json!("w");
        claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = json!("yes");
    });
    story.settle().await;
    assert_eq!(story.node_of("default/q"), Value::Null, "not before the volume is seen");
    let elsewhere = json!([{"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n9"]},
    ]}]);
    story.cluster.create(
        Resource::cluster("", "v1", "persistentvolumes"),
        &object("v1", "PersistentVolume", "w")
            .set("/metadata/namespace", Value::Null)
            .set("/spec/nodeAffinity/required/nodeSelectorTerms", elsewhere),
    );
    story.settle().await;
    assert_eq!(story.node_of("default/q"), Value::Null);
    let events = story.cluster.events();
    let said = "FailedScheduling: running PreBind plugin \"VolumeBinding\": pv \"w\" node affinity doesn't match node \"n1\": no matching NodeSelectorTerms";
    assert!(events.contains(&said.to_owned()), "{events:?}");
}

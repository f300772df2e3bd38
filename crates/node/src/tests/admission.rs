//! Pods that are bound to the node and do not belong there: the node says which of
//! its predicates they fail, and never runs them.

use std::fs;

use client::PatchKind;
use serde_json::{Value, json};

use super::{
    SERVE,
    bed::{Bed, inside},
    container,
};
use crate::resources::NODES;

const AFFINITY: &str =
    "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
const PORTS: &str =
    "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
const TAINTS: &str =
    "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate";

/// A pod that serves, with this beside its container.
fn pod(more: Value) -> Value {
    let mut main = container(SERVE);
    let mut pod = json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 1});
    for (key, value) in more.as_object().expect("a map") {
        match key.as_str() {
            "ports" => main["ports"] = value.clone(),
            key => pod[key] = value.clone(),
        }
    }
    pod["containers"] = json!([main]);
    pod
}

fn on(host_port: u16, host_ip: &str, protocol: &str) -> Value {
    pod(json!({"ports": [{"containerPort": 80, "hostPort": host_port, "hostIP": host_ip,
        "protocol": protocol}]}))
}

async fn refused(bed: &Bed, name: &str, spec: Value, reason: &str, message: &str) {
    bed.bind(name, spec).await;
    bed.until(name, "refused", |pod| pod.is_some_and(|p| p["status"]["phase"] == "Failed")).await;
    let status = bed.pod(name).expect("there")["status"].clone();
    assert_eq!(status["reason"], reason, "{name}: {status:#}");
    assert_eq!(status["message"], format!("Pod was rejected: {message}"), "{name}");
    assert_eq!(status.get("containerStatuses"), None, "{name}: {status:#}");
    bed.until_event(name, &format!("{reason}: {message}$")).await;
}

async fn change_node(bed: &Bed, patch: Value) {
    let api = bed.cluster.api();
    api.patch(NODES, "", "n1", "", PatchKind::Merge, &patch).await.expect("changed");
}

/// Bytes of this machine's huge pages of 2 MiB, which most have none of.
fn huge_pages() -> u64 {
    let count = fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
    count.map_or(0, |count| count.trim().parse::<u64>().expect("a number") << 21)
}

/// A pod that asks for this much of the CPU.
fn asks(cpu: &str, more: Value) -> Value {
    let mut pod = pod(more);
    pod["containers"][0]["image"] = "busybox".into();
    pod["containers"][0]["resources"] = json!({"requests": {"cpu": cpu}});
    pod
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_make_room_for_a_pod_that_the_system_needs() {
    if !inside("admission::others_make_room_for_a_pod_that_the_system_needs") {
        return;
    }
    let bed = Bed::tuned(|config| {
        config.reserved = Some(crate::Reserved {
            cpu_millis: 1000 * (std::thread::available_parallelism().map_or(1, |n| n.get()) as i64)
                - 1000,
            memory_bytes: 0,
            storage_bytes: 0,
        });
    });
    let manifests = bed.dir.path().join("manifests");
    fs::create_dir(&manifests).expect("made");
    let node = bed.start().await;
    // The node has one CPU for pods.
    for (name, spec) in [
        ("small", asks("200m", json!({}))),
        ("large", asks("600m", json!({}))),
        ("needed", asks("200m", json!({"priority": 2_000_000_000}))),
    ] {
        bed.bind(name, spec).await;
        bed.until_ready(name).await;
    }
    let short = "OutOfcpu: Node didn't have enough resource: cpu, requested: 300, used: 1000, capacity: 1000$";
    bed.bind("other", asks("300m", json!({}))).await;
    bed.until_event("other", short).await;

    let file = json!({"metadata": {"name": "file"}, "spec": asks("300m", json!({}))});
    fs::write(manifests.join("file.json"), file.to_string()).expect("written");
    bed.until_ready("file-n1").await;
    const WHY: &str = "Preempted in order to admit critical pod";
    bed.until_event("large", &format!("Preempting: {WHY}$")).await;
    bed.until("large", "ended", |pod| pod.is_some_and(|p| p["status"]["phase"] == "Failed")).await;
    let status = bed.pod("large").expect("there")["status"].clone();
    assert_eq!((&status["reason"], &status["message"]), (&json!("Preempting"), &json!(WHY)));
    let conditions = status["conditions"].as_array().expect("told");
    let disrupted = conditions.iter().find(|c| c["type"] == "DisruptionTarget").expect("told");
    assert_eq!(disrupted["reason"], "TerminationByKubelet", "{disrupted}");
    for name in ["small", "needed"] {
        assert_eq!(bed.pod(name).expect("there")["status"]["phase"], "Running", "{name}");
    }

    // Who is as much needed does not go, and nobody goes for nothing.
    let why = "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to preempt: no set of running pods found to reclaim resources: [(res: cpu, q: 300), ]";
    let critical = asks("800m", json!({"priority": 2_000_000_000}));
    refused(&bed, "too-large", critical, "UnexpectedAdmissionError", why).await;
    assert_eq!(bed.pod("small").expect("there")["status"]["phase"], "Running");
    drop(node);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_do_not_belong_here_are_refused() {
    if !inside("admission::pods_that_do_not_belong_here_are_refused") {
        return;
    }
    let bed = Bed::new();
    let manifests = bed.dir.path().join("manifests");
    fs::create_dir(&manifests).expect("made");
    let node = bed.start().await;

    let elsewhere = pod(json!({"nodeSelector": {"disk": "ssd"}}));
    refused(&bed, "elsewhere", elsewhere.clone(), "NodeAffinity", AFFINITY).await;
    let other_name = pod(json!({"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields":
            [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}]}}}}));
    refused(&bed, "other-name", other_name, "NodeAffinity", AFFINITY).await;
    let windows = pod(json!({"os": {"name": "windows"}}));
    let why = "Failed to admit pod as the OS field doesn't match node OS";
    refused(&bed, "windows", windows, "PodOSNotSupported", why).await;

    let (all, more) = (huge_pages(), huge_pages() + (2 << 20));
    let mut huge = pod(json!({}));
    huge["containers"][0]["resources"]["limits"] =
        json!({"hugepages-2Mi": more.to_string(), "memory": "16Mi"});
    let why = format!(
        "Node didn't have enough resource: hugepages-2Mi, requested: {more}, used: 0, capacity: {all}"
    );
    refused(&bed, "huge", huge, "OutOfhugepages-2Mi", &why).await;

    // A port of the node is one pod's alone, till that has ended.
    bed.bind("first", on(8080, "", "TCP")).await;
    bed.until_ready("first").await;
    refused(&bed, "second", on(8080, "", "TCP"), "NodePorts", PORTS).await;
    refused(&bed, "own-address", on(8080, "10.99.0.1", "TCP"), "NodePorts", PORTS).await;
    bed.bind("other-protocol", on(8080, "", "UDP")).await;
    bed.until_ready("other-protocol").await;
    // Also where another agent has let it in.
    node.shutdown();
    drop(node);
    let node = bed.start().await;
    bed.until_ready("first").await;
    refused(&bed, "third", on(8080, "", "TCP"), "NodePorts", PORTS).await;
    bed.cluster.delete_with(
        crate::resources::PODS,
        "default/first",
        json!({"gracePeriodSeconds": 1}),
    );
    bed.until("first", "gone", |pod| pod.is_none()).await;
    bed.bind("fourth", on(8080, "", "TCP")).await;
    bed.until_ready("fourth").await;

    // A label that was given a moment ago counts; so does a taint that ends pods, but
    // not for those that are there, nor for files.
    change_node(&bed, json!({"metadata": {"labels": {"disk": "ssd"}}})).await;
    bed.bind("here", elsewhere).await;
    bed.until_ready("here").await;
    let taints = json!([{"key": "gone", "effect": "NoExecute"},
        {"key": "full", "effect": "NoSchedule"}]);
    change_node(&bed, json!({"spec": {"taints": taints, "unschedulable": true}})).await;
    // The Node's watch is of another stream than the pods': the cordon is told of as it
    // is heard.
    let cordoned = "NodeNotSchedulable: Node n1 status is now: NodeNotSchedulable";
    bed.until_event("n1", cordoned).await;
    refused(&bed, "tainted", pod(json!({})), "TaintToleration", TAINTS).await;
    let bears = pod(json!({"tolerations": [{"key": "gone", "operator": "Exists"}]}));
    bed.bind("bears", bears).await;
    bed.until_ready("bears").await;
    let mut file = pod(json!({}));
    file["containers"][0]["image"] = "busybox".into();
    let file = json!({"metadata": {"name": "file"}, "spec": file});
    fs::write(manifests.join("file.json"), file.to_string()).expect("written");
    bed.until_ready("file-n1").await;
    for name in ["here", "fourth", "other-protocol"] {
        assert_eq!(bed.pod(name).expect("there")["status"]["phase"], "Running", "{name}");
    }
    drop(node);
}

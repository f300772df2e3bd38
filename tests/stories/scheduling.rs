//! Where pods go and why not, told by stock kubectl; with a real node and a
//! few that are Node objects only.
//!
//! The nodes without a machine run nothing, so what is looked at of pods on
//! them is where they were bound. Nobody speaks for them, and a node that was
//! never heard of is left alone for its grace period, longer than this takes.

use serde_json::{Value, json};

use crate::{cluster::Cluster, harness::until};

/// Node objects of two zones, beside the real `node-1`.
fn nodes() -> String {
    let node = |name: &str, zone: &str| {
        let mut capacity = json!({"cpu": "2", "memory": "2Gi", "pods": "10"});
        if name == "f3" {
            capacity["example.com/gpu"] = json!("2");
        }
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {
                "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone, "fake": "yes",
            }},
            "status": {"capacity": capacity, "allocatable": capacity},
        })
    };
    let list = [node("f1", "a"), node("f2", "a"), node("f3", "b")];
    json!({"apiVersion": "v1", "kind": "List", "items": list}).to_string()
}

/// A pod that no real node is asked to run.
fn pod(name: &str, cpu: &str, more: Value) -> String {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeSelector": {"fake": "yes"},
            "tolerations": [{"operator": "Exists"}],
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "skiff.local/toolbox", "resources": {"requests": {"cpu": cpu}}}],
        },
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod.to_string()
}

fn goes_to(cluster: &Cluster, name: &str, node: &str) {
    let bound = format!("wait --for=jsonpath={{.spec.nodeName}}={node} pod/{name} --timeout=180s");
    cluster.kubectl(&bound).ok();
}

/// The condition and the event both say it.
fn stays(cluster: &Cluster, name: &str, why: &str) {
    let waits = "jsonpath={.status.conditions[?(@.type==\"PodScheduled\")].reason}=Unschedulable";
    cluster.kubectl_args(&["wait", "--for", waits, &format!("pod/{name}"), "--timeout=180s"]).ok();
    cluster.kubectl(&format!("get pod {name} -o jsonpath={{.status.conditions}}")).prints(why);
    let of_pod = format!("involvedObject.name={name},reason=FailedScheduling");
    let said = "jsonpath={.items[0].message}";
    // The event is written beside the condition.
    let found = "jsonpath={.reason}=FailedScheduling";
    cluster
        .kubectl_args(&[
            "wait",
            "event",
            "--field-selector",
            &of_pod,
            "--for",
            found,
            "--timeout=180s",
        ])
        .ok();
    cluster.kubectl_args(&["get", "events", "--field-selector", &of_pod, "-o", said]).prints(why);
}

fn gone(cluster: &Cluster, names: &str) {
    cluster
        .kubectl(&format!("delete pod --force --grace-period=0 --ignore-not-found {names}"))
        .ok();
}

#[test]
pub(super) fn pods_go_where_they_may_and_say_why_not() {
    let config = tempfile::NamedTempFile::new().expect("a temporary file");
    let packing = json!({"profiles": [
        {"schedulerName": "default-scheduler"},
        {
            "schedulerName": "packing",
            "plugins": {"score": {"disabled": [{"name": "*"}], "enabled": [{"name": "NodeResourcesFit"}]}},
            "pluginConfig": [{"name": "NodeResourcesFit", "args": {"scoringStrategy": {"type": "MostAllocated"}}}],
        },
    ]});
    std::fs::write(config.path(), packing.to_string()).expect("our own file");
    let path = config.path().to_string_lossy().into_owned();
    let Some(cluster) = Cluster::start_with(&["--kube-scheduler-config", &path]) else { return };
    cluster.wait_node_ready();
    cluster.apply(&nodes()).ok();
    selectors_taints_and_ports(&cluster);
    resources_and_packing(&cluster);
    neighbours_and_zones(&cluster);
    gates(&cluster);
    preemption(&cluster);
    preemption_among_sets(&cluster);
    cluster.kubectl("delete node f1 f2 f3").ok();
    // What was told of the real node holds for it as well.
    cluster.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: real}\nspec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: skiff.local/toolbox, args: [sleep, infinity]}]}").ok();
    cluster.kubectl("wait --for=condition=Ready pod/real --timeout=180s").ok();
    cluster.kubectl("get pod real -o jsonpath={.spec.nodeName}").prints("node-1");
    room_is_made(&cluster);
    cluster
        .kubectl("get events --field-selector reason=Scheduled,involvedObject.name=real")
        .prints("Successfully assigned default/real to node-1");
}

fn selectors_taints_and_ports(cluster: &Cluster) {
    // SchedulerPredicates: NodeSelector matching and not matching.
    cluster
        .apply(&pod("there", "10m", json!({"nodeSelector": {"kubernetes.io/hostname": "f2"}})))
        .ok();
    goes_to(cluster, "there", "f2");
    cluster.apply(&pod("nowhere", "10m", json!({"nodeSelector": {"label": "nonempty"}}))).ok();
    stays(
        cluster,
        "nowhere",
        "0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling.",
    );
    cluster.kubectl("label node f1 label=nonempty").ok();
    goes_to(cluster, "nowhere", "f1");
    cluster.kubectl("label node f1 label-").ok();
    // Taints and cordons, and what helps.
    cluster.kubectl("taint node f1 f2 team=x:NoSchedule").ok();
    cluster.kubectl("cordon f3").ok();
    cluster.apply(&pod("kept-away", "10m", json!({"tolerations": []}))).ok();
    stays(cluster, "kept-away", "node(s) had untolerated taint(s)");
    cluster.kubectl("uncordon f3").ok();
    cluster.kubectl("taint node f3 node.kubernetes.io/not-ready-").ok();
    goes_to(cluster, "kept-away", "f3");
    cluster.kubectl("taint node f1 f2 team-").ok();
    // SchedulerPredicates: hostPort with 0.0.0.0 conflicts with each address.
    let port = |ip: &str, protocol: &str| {
        json!({"nodeSelector": {"kubernetes.io/hostname": "f1"}, "containers": [{
            "name": "c", "image": "skiff.local/toolbox",
            "ports": [{"containerPort": 80, "hostPort": 54322, "hostIP": ip, "protocol": protocol}],
        }]})
    };
    for (name, ip, protocol) in
        [("p1", "127.0.0.1", "TCP"), ("p2", "127.0.0.2", "TCP"), ("p3", "127.0.0.1", "UDP")]
    {
        cluster.apply(&pod(name, "10m", port(ip, protocol))).ok();
        goes_to(cluster, name, "f1");
    }
    cluster.apply(&pod("p4", "10m", port("", "TCP"))).ok();
    stays(
        cluster,
        "p4",
        "1 node(s) didn't have free ports for the requested pod ports, 3 node(s) didn't match Pod's node affinity/selector.",
    );
    gone(cluster, "there nowhere kept-away p1 p2 p3 p4");
}

fn resources_and_packing(cluster: &Cluster) {
    // SchedulerPredicates: limits of pods that are allowed to run.
    for (name, node) in [("a", "f1"), ("b", "f2"), ("c", "f3")] {
        cluster
            .apply(&pod(name, "1500m", json!({"nodeSelector": {"kubernetes.io/hostname": node}})))
            .ok();
        goes_to(cluster, name, node);
    }
    cluster.apply(&pod("more", "1", json!({}))).ok();
    stays(
        cluster,
        "more",
        "0/4 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 3 Insufficient cpu. no new claims to deallocate, preemption: 0/4 nodes are available: 1 Preemption is not helpful for scheduling, 3 No preemption victims found for incoming pod.",
    );
    gone(cluster, "b");
    goes_to(cluster, "more", "f2");
    gone(cluster, "more c");
    let gpu = json!({"containers": [{"name": "c", "image": "skiff.local/toolbox", "resources": {"limits": {"example.com/gpu": "2"}}}]});
    cluster.apply(&pod("gpu", "1", gpu)).ok();
    goes_to(cluster, "gpu", "f3");
    // Least allocated by default, most allocated by the other profile.
    cluster.apply(&pod("packed", "100m", json!({"schedulerName": "packing"}))).ok();
    goes_to(cluster, "packed", "f1");
    cluster
        .apply(&pod(
            "spread",
            "100m",
            json!({"nodeSelector": {"topology.kubernetes.io/zone": "a"}}),
        ))
        .ok();
    goes_to(cluster, "spread", "f2");
    let events = "get events --field-selector involvedObject.name=packed";
    cluster.comes_to_print(events, "Scheduled");
    cluster.apply(&pod("nobodys", "10m", json!({"schedulerName": "nobody"}))).ok();
    gone(cluster, "a gpu packed spread nobodys");
}

fn neighbours_and_zones(cluster: &Cluster) {
    let term = |app: &str, key: &str| json!([{"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key}]);
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    cluster
        .apply(&pod("db", "10m", json!({"nodeSelector": {"kubernetes.io/hostname": "f3"}})))
        .ok();
    goes_to(cluster, "db", "f3");
    cluster.apply(&pod("near", "10m", json!({"affinity": {"podAffinity": {required: term("db", "topology.kubernetes.io/zone")}}}))).ok();
    goes_to(cluster, "near", "f3");
    cluster
        .apply(&pod(
            "apart",
            "10m",
            json!({
                "affinity": {"podAntiAffinity": {required: term("db", "kubernetes.io/hostname")}},
                "nodeSelector": {"topology.kubernetes.io/zone": "b"},
            }),
        ))
        .ok();
    stays(cluster, "apart", "1 node(s) didn't match pod anti-affinity rules");
    gone(cluster, "db near");
    goes_to(cluster, "apart", "f3");
    // Four of a kind over two zones: two each.
    let spread = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "even"}, "spec": {
        "replicas": 4,
        "selector": {"matchLabels": {"app": "even"}},
        "template": {"metadata": {"labels": {"app": "even"}}, "spec": {
            "nodeSelector": {"fake": "yes"},
            "tolerations": [{"operator": "Exists"}],
            "topologySpreadConstraints": [{
                "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"app": "even"}}, "matchLabelKeys": ["pod-template-hash"],
            }],
            "containers": [{"name": "c", "image": "skiff.local/toolbox"}],
        }},
    }});
    cluster.apply(&spread.to_string()).ok();
    let began = std::time::Instant::now();
    loop {
        let pods = cluster.get("pods -l app=even");
        let of = |node: &str| {
            let items = pods["items"].as_array().expect("a list").iter();
            items.filter(|pod| pod["spec"]["nodeName"] == node).count()
        };
        if of("f1") + of("f2") + of("f3") == 4 {
            assert_eq!((of("f1") + of("f2"), of("f3")), (2, 2));
            break;
        }
        assert!(began.elapsed().as_secs() < 60, "four are bound: {pods}");
    }
    cluster.kubectl("delete deployment even").ok();
    cluster.kubectl("delete pod --force --grace-period=0 -l app=even").ok();
    gone(cluster, "apart");
}

fn gates(cluster: &Cluster) {
    cluster
        .apply(&pod("gated", "10m", json!({"schedulingGates": [{"name": "example.com/wait"}]})))
        .ok();
    let gated = "jsonpath={.status.conditions[?(@.type==\"PodScheduled\")].reason}=SchedulingGated";
    cluster.kubectl_args(&["wait", "--for", gated, "pod/gated", "--timeout=180s"]).ok();
    cluster.kubectl("get pod gated").prints("SchedulingGated");
    cluster
        .kubectl_args(&[
            "patch",
            "pod",
            "gated",
            "--type=json",
            "-p",
            r#"[{"op":"remove","path":"/spec/schedulingGates"}]"#,
        ])
        .ok();
    cluster
        .kubectl_args(&["wait", "--for=condition=PodScheduled", "pod/gated", "--timeout=180s"])
        .ok();
    gone(cluster, "gated");
}

/// Who makes room on a real node gets it: the node counts nobody who has ended.
fn room_is_made(cluster: &Cluster) {
    let told = cluster.kubectl("get node node-1 -o jsonpath={.status.allocatable.cpu}").ok().stdout;
    let told = told.trim();
    let millis = match told.strip_suffix('m') {
        Some(millis) => millis.parse::<u64>(),
        None => told.parse::<u64>().map(|cpus| cpus * 1000),
    };
    let most = format!("{}m", millis.expect("a number") * 6 / 10);
    let sleeps = |name: &str, class: &str| {
        let limits = json!({"requests": {"cpu": most}});
        let container = json!({"name": "c", "image": "skiff.local/toolbox", "args": ["sleep", "infinity"], "resources": limits});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "priorityClassName": class, "terminationGracePeriodSeconds": 1, "containers": [container]}})
    };
    cluster.apply(&sleeps("gives-way", "low").to_string()).ok();
    cluster.kubectl("wait --for=condition=Ready pod/gives-way --timeout=180s").ok();
    cluster.apply(&sleeps("takes-over", "high").to_string()).ok();
    cluster.kubectl("wait --for=condition=Ready pod/takes-over --timeout=180s").ok();
    cluster.kubectl("get pods takes-over -o jsonpath=[{.status.nominatedNodeName}]").prints("[]");
    cluster.kubectl("wait --for=delete pod/gives-way --timeout=180s").ok();
}

fn preemption(cluster: &Cluster) {
    // SchedulerPreemption: PriorityClasses, basic preemption, the condition of
    // the victim, and a critical pod.
    for (name, value) in [("low", 1), ("high", 1000)] {
        cluster.kubectl(&format!("create priorityclass {name} --value={value}")).ok();
    }
    cluster.kubectl("get priorityclass high -o jsonpath={.value}").prints("1000");
    cluster.kubectl("get priorityclass").prints("system-node-critical");
    let on = |class: &str, node: &str| json!({"priorityClassName": class, "nodeSelector": {"kubernetes.io/hostname": node}});
    let held = |name: &str, class: &str| {
        let mut held: Value =
            serde_json::from_str(&pod(name, "1500m", on(class, "f1"))).expect("JSON");
        held["metadata"]["finalizers"] = json!(["example.com/held"]);
        held.to_string()
    };
    cluster.apply(&held("victim", "low")).ok();
    goes_to(cluster, "victim", "f1");
    cluster.apply(&pod("urgent", "1", on("high", "f1"))).ok();
    let nominated = "wait --for=jsonpath={.status.nominatedNodeName}=f1 pod/urgent --timeout=180s";
    cluster.kubectl(nominated).ok();
    cluster
        .kubectl("wait --for=jsonpath={.metadata.deletionTimestamp} pod/victim --timeout=180s")
        .ok();
    cluster
        .kubectl("get pod victim -o jsonpath={.status.conditions[?(@.type==\"DisruptionTarget\")]}")
        .prints("PreemptionByScheduler")
        .prints("default-scheduler: preempting to accommodate a higher priority pod");
    let told = [
        "wait",
        "event",
        "--field-selector",
        "involvedObject.name=victim,reason=Preempted",
        "--for",
        "jsonpath={.reason}=Preempted",
        "--timeout=180s",
    ];
    cluster.kubectl_args(&told).ok();
    cluster.kubectl("get events --field-selector reason=Preempted").prints("on node f1");
    // Who comes later and matters less does not get the place.
    cluster.apply(&pod("late", "1", on("low", "f1"))).ok();
    stays(cluster, "late", "1 Insufficient cpu");
    cluster
        .kubectl_args(&[
            "patch",
            "pod",
            "victim",
            "--type=merge",
            "-p",
            r#"{"metadata":{"finalizers":null}}"#,
        ])
        .ok();
    cluster.kubectl("delete pod victim --force --grace-period=0 --ignore-not-found").ok();
    goes_to(cluster, "urgent", "f1");
    let critical = json!({"priorityClassName": "system-cluster-critical", "nodeSelector": {"kubernetes.io/hostname": "f1"}});
    cluster.apply(&pod("critical", "1500m", critical)).ok();
    // Its victim is gone at once, and with its place it has no nomination any more.
    cluster.kubectl("delete pod urgent --force --grace-period=0 --ignore-not-found").ok();
    goes_to(cluster, "critical", "f1");
    gone(cluster, "late critical");
}

/// SchedulerPreemption: a set of higher priority takes the places of others' pods, and
/// only as many as it needs; those come back as pods that wait.
fn preemption_among_sets(cluster: &Cluster) {
    let set = |name: &str, class: &str, replicas: u32| {
        let on =
            json!({"priorityClassName": class, "nodeSelector": {"kubernetes.io/hostname": "f2"}});
        let pod: Value = serde_json::from_str(&pod(name, "600m", on)).expect("JSON");
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name}, "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod["spec"]},
        }})
        .to_string()
    };
    let bound = |name: &str| {
        let pods = cluster.get(&format!("pods -l app={name}"));
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        pods.iter().filter(|pod| pod["spec"]["nodeName"] == "f2").count()
    };
    let settles = |wanted: [usize; 2]| {
        let began = std::time::Instant::now();
        while [bound("lesser"), bound("greater")] != wanted {
            let found = [bound("lesser"), bound("greater")];
            assert!(began.elapsed().as_secs() < 60, "{found:?} and not {wanted:?}");
        }
    };
    cluster.apply(&set("lesser", "low", 3)).ok();
    settles([3, 0]);
    cluster.apply(&set("greater", "high", 2)).ok();
    settles([1, 2]);
    until("two of the lesser wait", || {
        let pods = cluster.get("pods -l app=lesser");
        pods["items"].as_array().map(Vec::len) == Some(3)
    });
    cluster.kubectl("delete replicaset greater --timeout=180s").ok();
    settles([3, 0]);
    cluster.kubectl("delete replicaset lesser --timeout=180s").ok();
}

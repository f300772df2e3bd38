//! What nodes and pods use, and what follows from it: `kubectl top`, the node's
//! pages.

use serde_json::{Value, json};

use crate::{cluster::Cluster, harness::until};

/// A pod that computes and holds memory, and beside it one that idles.
const BUSY: &str = r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: claimed}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: busy, labels: {app: busy}}
spec:
  terminationGracePeriodSeconds: 0
  volumes:
  - {name: scratch, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory}}
  - {name: data, persistentVolumeClaim: {claimName: claimed}}
  containers:
  - name: stress
    image: skiff.local/toolbox
    args: [stress, --cpu, "1", --mem, "48"]
    resources: {limits: {cpu: 300m, memory: 96Mi}}
    volumeMounts: [{name: scratch, mountPath: /scratch}, {name: memory, mountPath: /memory}]
    livenessProbe: {exec: {command: [toolbox, "true"]}, periodSeconds: 1, timeoutSeconds: 10}
  - name: idle
    image: skiff.local/toolbox
    args: [sleep, infinity]
"#;

fn raw(cluster: &Cluster, path: &str) -> String {
    cluster.kubectl(&format!("get --raw {path}")).ok().stdout
}

fn json(cluster: &Cluster, path: &str) -> Value {
    serde_json::from_str(&raw(cluster, path)).expect("JSON")
}

/// The number of a quantity such as `48Mi`, in its unit.
fn number(cell: &str) -> u64 {
    let digits: String = cell.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{cell} is no amount"))
}

#[test]
fn what_nodes_and_pods_use_is_told() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    cluster.apply(BUSY).ok();
    cluster.kubectl("wait --for=condition=Ready pod/busy --timeout=180s").ok();
    // It takes its memory once it runs, and what it uses is measured over a while.
    until("it holds its memory and computes", || {
        let summary = json(&cluster, SUMMARY);
        let stress = container(busy(&summary), "stress");
        megabytes(stress) >= 48 && stress["cpu"]["usageNanoCores"].as_u64() > Some(1_000_000)
    });
    the_summary(&cluster);
    every_page(&cluster);
    what_alerts_are_made_of(&cluster);
    kubectl_top(&cluster);
    the_api(&cluster);
}

const SUMMARY: &str = "/api/v1/nodes/node-1/proxy/stats/summary";

/// The pod that computes, in a node's summary.
fn busy(summary: &Value) -> &Value {
    let mut pods = summary["pods"].as_array().expect("a list").iter();
    pods.find(|pod| pod["podRef"]["name"] == "busy").expect("it runs")
}

fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let mut all = pod["containers"].as_array().expect("a list").iter();
    all.find(|container| container["name"] == name).expect("it runs")
}

fn megabytes(container: &Value) -> u64 {
    container["memory"]["workingSetBytes"].as_u64().expect("a number") >> 20
}

fn the_summary(cluster: &Cluster) {
    let summary = json(cluster, SUMMARY);
    let number = |path: &str| summary.pointer(path).and_then(Value::as_u64);
    for path in [
        "/node/cpu/usageNanoCores",
        "/node/memory/workingSetBytes",
        "/node/memory/availableBytes",
        "/node/fs/capacityBytes",
        "/node/fs/inodes",
        "/node/runtime/imageFs/usedBytes",
        "/node/rlimit/maxpid",
        "/node/network/rxBytes",
    ] {
        assert!(number(path).is_some_and(|n| n > 0), "{path}: {summary:#}");
    }
    let pod = busy(&summary);
    let (stress, idle) = (container(pod, "stress"), container(pod, "idle"));
    assert!((48..96).contains(&megabytes(stress)), "{stress:#}");
    assert!(megabytes(idle) < 8, "{idle:#}");
    let nano = |container: &Value| container["cpu"]["usageNanoCores"].as_u64().expect("measured");
    assert!((1_000_000..400_000_000).contains(&nano(stress)), "{stress:#}");
    assert!(nano(idle) < 50_000_000, "{idle:#}");
    for path in ["/network/rxBytes", "/ephemeral-storage/usedBytes", "/process_stats/process_count"]
    {
        assert!(pod.pointer(path).is_some_and(Value::is_u64), "{path}: {pod:#}");
    }

    // What a container writes shows in its own layer and in its volume.
    let used = |pod: &Value| pod["ephemeral-storage"]["usedBytes"].as_u64().expect("measured");
    let names: Vec<&str> = pod["volume"]
        .as_array()
        .expect("volumes")
        .iter()
        .filter_map(|volume| volume["name"].as_str())
        .collect();
    assert!(names.contains(&"scratch") && names.contains(&"memory"), "{names:?}");
    assert!(used(pod) > 0);
    let data = pod["volume"].as_array().expect("volumes").iter().find(|v| v["name"] == "data");
    assert_eq!(data.expect("a claim's")["pvcRef"]["name"], "claimed", "{pod:#}");
}

/// What the rules and dashboards of kube-prometheus ask a node for, as far as there is
/// something to measure here.
fn what_alerts_are_made_of(cluster: &Cluster) {
    cluster.apply(REFUSED).ok();
    cluster.kubectl("wait --for=jsonpath={.status.reason}=NodeAffinity pod/elsewhere").ok();
    let told = raw(cluster, "/api/v1/nodes/node-1/proxy/metrics");
    let value = |start: &str| {
        let line = told.lines().find(|line| line.starts_with(start));
        let line = line.unwrap_or_else(|| panic!("no {start} in\n{told}"));
        let number = line.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok());
        number.unwrap_or_else(|| panic!("{line}"))
    };
    let claim = "{namespace=\"default\",persistentvolumeclaim=\"claimed\"}";
    for name in ["capacity_bytes", "available_bytes", "used_bytes", "inodes", "inodes_free"] {
        assert!(value(&format!("kubelet_volume_stats_{name}{claim}")) > 0.0, "{name}");
    }
    for start in [
        "kubelet_running_pods ",
        "kubelet_running_containers{container_state=\"running\"} ",
        "kubelet_pod_start_duration_seconds_count ",
        "kubelet_pod_worker_duration_seconds_count{operation_type=\"create\"} ",
        "kubelet_pleg_relist_duration_seconds_count ",
        "kubelet_runtime_operations_total{operation_type=\"start_container\"} ",
        "kubelet_runtime_operations_duration_seconds_sum{operation_type=\"run_podsandbox\"} ",
        "kubelet_started_containers_total{container_type=\"container\"} ",
        "kubelet_admission_rejections_total{reason=\"NodeAffinity\"} ",
        "storage_operation_duration_seconds_count{migrated=\"false\",operation_name=\"volume_mount\",status=\"success\",volume_plugin=\"kubernetes.io/local-volume\"} ",
        "volume_manager_total_volumes{plugin_name=\"kubernetes.io/empty-dir\",state=\"actual_state_of_world\"} ",
        "kubelet_certificate_manager_server_ttl_seconds ",
        "kubernetes_build_info{",
        "process_cpu_seconds_total ",
        "process_resident_memory_bytes ",
    ] {
        assert!(value(start) > 0.0, "{start}");
    }
}

/// The pod that the node does not take.
const REFUSED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: elsewhere}
spec:
  nodeName: node-1
  nodeSelector: {disk: tape}
  containers: [{name: main, image: skiff.local/toolbox, args: [sleep, infinity]}]
"#;

fn every_page(cluster: &Cluster) {
    for (page, text) in [
        ("metrics", "kubelet_running_pods "),
        ("metrics", "kubelet_node_name{node=\"node-1\"} 1"),
        (
            "metrics/resource",
            "container_memory_working_set_bytes{container=\"stress\",namespace=\"default\",pod=\"busy\"}",
        ),
        ("metrics/resource", "node_cpu_usage_seconds_total "),
        ("metrics/cadvisor", "container_cpu_usage_seconds_total{container=\"stress\","),
        ("metrics/cadvisor", "container_network_receive_bytes_total{"),
        ("metrics/probes", "probe_type=\"Liveness\",result=\"successful\"}"),
        ("configz", "\"clusterDomain\":\"cluster.local\""),
    ] {
        cluster.comes_to_print(&format!("get --raw /api/v1/nodes/node-1/proxy/{page}"), text);
    }
    cluster.kubectl("get --raw /api/v1/nodes/node-1/proxy/nonsense").fails_with("/stats/summary");
    // As upstream's server asks: of `nodes/proxy`.
    let pages = "get --raw /api/v1/nodes/node-1/proxy/metrics/resource";
    cluster.kubectl(&format!("{pages} --as=jane")).fails_with("nodes/proxy");
    cluster.kubectl("create clusterrole pages --verb=get --resource=nodes/proxy").ok();
    cluster.kubectl("create clusterrolebinding pages --clusterrole=pages --user=jane").ok();
    cluster.kubectl(&format!("{pages} --as=jane")).prints("node_memory_working_set_bytes");
}

fn kubectl_top(cluster: &Cluster) {
    let top = cluster.kubectl("top node").ok().stdout;
    let mut lines = top.lines();
    let head: Vec<&str> = lines.next().expect("a head").split_whitespace().collect();
    assert_eq!(head[..2], ["NAME", "CPU(cores)"], "{top}");
    let cells: Vec<&str> = lines.next().expect("a node").split_whitespace().collect();
    assert_eq!(cells[0], "node-1");
    assert!(number(cells[1]) > 0 && number(cells[3]) > 0, "{top}");

    let top = cluster.kubectl("top pod --containers -A --sort-by=memory --no-headers").ok().stdout;
    let rows: Vec<Vec<&str>> = top.lines().map(|l| l.split_whitespace().collect()).collect();
    let row = |container: &str| {
        let at = rows.iter().position(|row| row[2] == container);
        at.unwrap_or_else(|| panic!("{container} is not among\n{top}"))
    };
    assert!(row("stress") < row("idle"), "sorted by memory:\n{top}");
    let stress = &rows[row("stress")];
    assert_eq!(stress[..2], ["default", "busy"]);
    assert!(number(stress[3]) > 0 && (48..96).contains(&number(stress[4])), "{top}");
    cluster.kubectl("top pod -l app=busy --sum").prints("busy");
    cluster.kubectl("top pod busy --no-headers").prints("busy");
    cluster.kubectl("top pod nobody").fails_with("\"nobody\" not found");
}

fn the_api(cluster: &Cluster) {
    let list = json(cluster, "/apis/metrics.k8s.io/v1beta1/pods?labelSelector=app%3Dbusy");
    assert_eq!(
        (&list["kind"], &list["items"][0]["kind"], &list["items"][0]["apiVersion"]),
        (&"PodMetricsList".into(), &serde_json::Value::Null, &serde_json::Value::Null),
        "{list:#}"
    );
    assert_eq!(list["items"][0]["metadata"]["labels"]["app"], "busy");
    assert!(list["items"][0]["window"].as_str().is_some_and(|window| window.ends_with('s')));
    let none = json(
        cluster,
        "/apis/metrics.k8s.io/v1beta1/namespaces/kube-system/pods?labelSelector=app%3Dbusy",
    );
    assert_eq!(none["items"], serde_json::json!([]));
    for (line, text) in [
        ("get podmetrics", "busy"),
        ("get nodemetrics", "node-1"),
        ("get apiservice v1beta1.metrics.k8s.io", "Local"),
        ("api-resources --api-group=metrics.k8s.io", "PodMetrics"),
        ("explain podmetrics.containers", "usage"),
    ] {
        cluster.kubectl(line).prints(text);
    }
    cluster.kubectl("delete podmetrics busy").fails_with("does not allow this method");

    // Who may look at a namespace may look at what its pods use.
    cluster.kubectl("create namespace team").ok();
    cluster.kubectl("create rolebinding view --clusterrole=view --user=kim -n team").ok();
    for (line, allowed) in [
        ("auth can-i list pods.metrics.k8s.io --as=kim -n team", true),
        ("auth can-i list pods.metrics.k8s.io --as=kim -n default", false),
        ("auth can-i list nodes.metrics.k8s.io --as=kim", false),
    ] {
        assert_eq!(cluster.kubectl(line).success, allowed, "{line}");
    }
    cluster.kubectl("top pod -n team --as=kim").ok();
    cluster.kubectl("top pod --as=kim").fails_with("forbidden");
}

/// Asks the Service from many connections until it is deleted.
const LOAD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: load}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: a, image: skiff.local/toolbox, args: [get, --loop, "100000000", "http://scale-on-load/"]}
  - {name: b, image: skiff.local/toolbox, args: [get, --loop, "100000000", "http://scale-on-load/"]}
"#;

#[test]
fn a_deployment_follows_its_load() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    cluster.apply(include_str!("../../docs/examples/scale-on-load.yaml")).ok();
    cluster.kubectl("rollout status deployment/scale-on-load --timeout=180s").ok();
    what_cannot_be_scaled(&cluster);
    cluster.kubectl("wait --for=condition=ScalingActive hpa/scale-on-load --timeout=180s").ok();
    cluster.apply(LOAD).ok();
    let grown = "wait --for=jsonpath={.spec.replicas}=5 deployment/scale-on-load --timeout=180s";
    cluster.kubectl(grown).ok();
    cluster.comes_to_print(
        "events --for hpa/scale-on-load",
        "cpu resource utilization (percentage of request) above target",
    );
    cluster.kubectl("delete pod load").ok();
    let shrunk = "wait --for=jsonpath={.spec.replicas}=1 deployment/scale-on-load --timeout=180s";
    cluster.kubectl(shrunk).ok();
    cluster.comes_to_print("events --for hpa/scale-on-load", "All metrics below target");
    what_else_is_scaled_by(&cluster);
}

/// One container's use, and memory, which is shown as memory.
fn what_else_is_scaled_by(cluster: &Cluster) {
    let by = |metric: Value| {
        let patch = json!({"spec": {"metrics": [metric]}}).to_string();
        cluster.kubectl_args(&["patch", "hpa", "scale-on-load", "--type=merge", "-p", &patch]).ok();
    };
    by(json!({"type": "ContainerResource", "containerResource": {
        "name": "cpu", "container": "web",
        "target": {"type": "Utilization", "averageUtilization": 50},
    }}));
    let message = "get hpa scale-on-load -o jsonpath={.status.conditions[?(@.type==\"ScalingActive\")].message}";
    cluster.comes_to_print(message, "cpu container resource utilization (percentage of request)");
    by(json!({"type": "Resource", "resource": {
        "name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"},
    }}));
    cluster.comes_to_print(message, "from memory resource");
    let value = "{.status.currentMetrics[0].resource.current.averageValue}";
    let value = cluster.kubectl(&format!("get hpa scale-on-load -o jsonpath={value}")).ok().stdout;
    assert!(value.ends_with("Ki") || value.ends_with("Mi"), "{value}");
}

/// Autoscalers that have nothing to go by say what is missing.
fn what_cannot_be_scaled(cluster: &Cluster) {
    cluster
        .kubectl(
            "create deployment no-requests --image=skiff.local/toolbox -- toolbox sleep infinity",
        )
        .ok();
    cluster.kubectl("create deployment no-pods --replicas=0 --image=skiff.local/toolbox -- toolbox sleep infinity").ok();
    cluster.kubectl("rollout status deployment/no-requests --timeout=180s").ok();
    for name in ["no-requests", "no-pods"] {
        cluster
            .kubectl(&format!("autoscale deployment {name} --min=1 --max=3 --cpu-percent=50"))
            .ok();
        cluster
            .kubectl(&format!("wait --for=condition=ScalingActive=false hpa/{name} --timeout=180s"))
            .ok();
    }
    let reason =
        "get hpa no-pods -o jsonpath={.status.conditions[?(@.type==\"ScalingActive\")].reason}";
    cluster.kubectl(reason).prints("ScalingDisabled");
    let missing = "wait --for=jsonpath={.status.conditions[?(@.type==\"ScalingActive\")].reason}=FailedGetResourceMetric hpa/no-requests --timeout=180s";
    cluster.kubectl(missing).ok();
    cluster.comes_to_print("describe hpa no-requests", "missing request for cpu");
    cluster.comes_to_print("events --for hpa/no-requests", "FailedGetResourceMetric");
}

fn pod(name: &str, args: &str, more: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  nodeName: node-1
  terminationGracePeriodSeconds: 30
  containers:
  - name: c
    image: skiff.local/toolbox
    args: {args}
{more}---
"#
    )
}

fn wait_failed(cluster: &Cluster, name: &str) -> Value {
    cluster
        .kubectl(&format!("wait --for=jsonpath={{.status.phase}}=Failed pod/{name} --timeout=180s"))
        .ok();
    let pod = cluster.get(&format!("pod {name}"));
    assert_eq!(pod["status"]["reason"], "Evicted", "{:#}", pod["status"]);
    pod
}

fn disrupted_at(pod: &Value) -> String {
    let mut conditions = pod["status"]["conditions"].as_array().expect("a list").iter();
    let condition = conditions.find(|c| c["type"] == "DisruptionTarget").expect("it is told");
    assert_eq!(condition["reason"], "TerminationByKubelet");
    condition["lastTransitionTime"].as_str().expect("a time").to_owned()
}

#[test]
fn a_node_short_of_memory_ends_who_exceeds_its_request_first() {
    // More than any machine has: from the start it is short, and twenty seconds later
    // it acts.
    let Some(cluster) = Cluster::start_with(&[
        "--eviction-soft=memory.available<64Ti",
        "--eviction-soft-grace-period=memory.available=20s",
        "--eviction-max-pod-grace-period=1",
    ]) else {
        return;
    };
    cluster.wait_node_ready();
    let short = "wait --for=condition=MemoryPressure node/node-1 --timeout=180s";
    cluster.kubectl(short).ok();
    let requests = |memory: &str| format!("    resources: {{requests: {{memory: {memory}}}}}\n");
    let critical = requests("1Mi") + "  priorityClassName: system-node-critical\n";
    let pods = pod("within", "[stress, --mem, '8']", &requests("64Mi"))
        + &pod("over", "[stress, --mem, '24']", &requests("1Mi"));
    cluster.apply(&pods).ok();
    let critical = pod("critical", "[stress, --mem, '24']", &critical);
    cluster.kubectl_with_input("apply -n kube-system -f -", &critical).ok();
    cluster.apply(&pod("best-effort", "[sleep, infinity]", "")).ok();

    let refused = wait_failed(&cluster, "best-effort");
    let message = refused["status"]["message"].as_str().unwrap_or_default();
    assert_eq!(message, "Pod was rejected: The node had condition: [MemoryPressure]. ");
    let over = wait_failed(&cluster, "over");
    let message = over["status"]["message"].as_str().unwrap_or_default();
    assert!(
        message.starts_with(
            "The node was low on resource: memory. Threshold quantity: 64Ti, available: "
        ),
        "{message}"
    );
    assert!(
        message.contains("Container c was using ")
            && message.ends_with("request is 1Mi, has larger consumption of memory. "),
        "{message}"
    );
    let within = wait_failed(&cluster, "within");
    assert!(disrupted_at(&over) <= disrupted_at(&within));
    cluster.comes_to_print("events --for pod/over --types=Warning", "Evicted");
    cluster.comes_to_print("events --for node/node-1", "EvictionThresholdMet");
    let phase = cluster.get("pod critical -n kube-system")["status"]["phase"].clone();
    assert_eq!(phase, "Running", "what the system needs stays");
    cluster
        .kubectl("wait --for=jsonpath={.spec.taints[?(@.key==\"node.kubernetes.io/memory-pressure\")].effect}=NoSchedule node/node-1 --timeout=180s")
        .ok();
    let page = "get --raw /api/v1/nodes/node-1/proxy/metrics";
    cluster.comes_to_print(page, "kubelet_evictions{eviction_signal=\"memory.available\"} 2");
}

#[test]
fn pods_that_store_more_than_they_may_are_ended() {
    let Some(cluster) =
        Cluster::start_with(&["--system-reserved=memory=1Gi,cpu=100m", "--kube-reserved=cpu=50m"])
    else {
        return;
    };
    cluster.wait_node_ready();
    let volume = "    volumeMounts: [{name: v, mountPath: /v}]\n  volumes: [{name: v, emptyDir: {sizeLimit: 1Mi}}]\n";
    let limit = "    resources: {limits: {ephemeral-storage: 256Ki}}\n";
    let pods = pod("volume", "[sleep, infinity]", volume)
        + &pod(
            "logs",
            "[count, --every, '1', --text, 'a line of some length, which is there to fill the log']",
            limit,
        )
        + &pod("other", "[sleep, infinity]", limit);
    cluster.apply(&pods).ok();
    cluster.kubectl("wait --for=condition=Ready pod/volume pod/other --timeout=180s").ok();
    let file = cluster.path("large");
    std::fs::write(&file, vec![7; 3 << 20]).expect("our own folder");
    let copied = cluster.kubectl(&format!("cp {} volume:/v/large", file.display()));
    if !copied.success {
        // The node may look while it is written, and ends who writes with its pod.
        eprintln!("the copy was cut off: {}{}", copied.stdout, copied.stderr);
    }
    for (name, message) in [
        ("volume", "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "),
        ("logs", "Pod ephemeral local storage usage exceeds the total limit of containers 256Ki. "),
    ] {
        let pod = wait_failed(&cluster, name);
        assert_eq!(pod["status"]["message"], message);
        disrupted_at(&pod);
    }
    cluster.kubectl("wait --for=condition=Ready pod/other --timeout=5s").ok();

    // What is kept back shows in what the node has to give: reservations and the hard
    // threshold of memory.
    let node = cluster.get("node node-1");
    let amount = |list: &str, name: &str| {
        node["status"][list][name].as_str().map(number).expect("an amount")
    };
    let kept = amount("capacity", "memory") - amount("allocatable", "memory");
    assert_eq!(kept, (1024 + 100) * 1024, "Ki");
    let cpu = node["status"]["allocatable"]["cpu"].as_str().expect("an amount");
    assert_eq!(number(cpu) % 1000, 850, "{cpu}");
}

//! Databases and daemons with real pods: order, canary, update, undo; a drain that
//! a budget holds up; a namespace with a quota.

use super::yaml::{service, toolbox, workload};
use crate::{cluster::Cluster, harness::until};

fn database() -> String {
    let set = "serviceName: db\nreplicas: 2\n";
    service("db", "clusterIP: None, ports: [{port: 80}]")
        + &workload(
            "StatefulSet",
            "db",
            set,
            &toolbox("[http-echo, --port, \"8080\", --text, first]"),
        )
}

fn guarded(replicas: u32) -> String {
    let replicas = format!("replicas: {replicas}");
    workload("Deployment", "guarded", &replicas, &toolbox("[sleep, infinity]"))
}

fn arguments(cluster: &Cluster, selector: &str) -> Vec<String> {
    let pods = cluster.get(&format!("pods -l {selector}"));
    let pods = pods["items"].as_array().expect("a list").iter();
    let last = |pod: &serde_json::Value| {
        let args = pod["spec"]["containers"][0]["args"].as_array().expect("a list");
        args.last().and_then(|arg| arg.as_str()).unwrap_or_default().to_owned()
    };
    pods.map(last).collect()
}

const BUDGET: &str = r#"---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: guarded}
spec: {maxUnavailable: "50%", selector: {matchLabels: {app: guarded}}}
"#;

const TEAM: &str = r#"
apiVersion: v1
kind: LimitRange
metadata: {name: defaults, namespace: team}
spec:
  limits:
  - {type: Container, default: {cpu: 200m, memory: 64Mi}, defaultRequest: {cpu: 10m, memory: 16Mi}, max: {cpu: "1"}}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: all, namespace: team}
spec: {hard: {pods: "2", requests.cpu: 100m, limits.memory: 1Gi, count/configmaps: "3", services.nodeports: "0"}}
"#;

#[test]
pub(super) fn workloads_roll_out_and_keep_to_their_limits() {
    let Some(cluster) = Cluster::start() else { return };
    // Where there is no node a daemon is rolled out at once.
    cluster.wait_node_ready();
    roll_out_and_back(&cluster);
    cluster.kubectl("taint node node-1 maintenance-").ok();
    cluster.kubectl("uncordon node-1").ok();
    drain_within_a_budget(&cluster);
    cluster.kubectl("uncordon node-1").ok();
    fill_a_quota(&cluster);
}

fn drain_within_a_budget(cluster: &Cluster) {
    cluster.apply(&(guarded(2) + BUDGET)).ok();
    cluster.kubectl("rollout status deployment/guarded --timeout=180s").ok();
    let allowed = "--for=jsonpath={.status.disruptionsAllowed}=1";
    cluster.kubectl(&format!("wait {allowed} pdb/guarded --timeout=180s")).ok();
    let pods = cluster.get("pods -l app=guarded");
    let name = pods["items"][0]["metadata"]["name"].as_str().expect("a name").to_owned();
    let evict = |dry: &str| {
        let path = format!("/api/v1/namespaces/default/pods/{name}/eviction{dry}");
        let body = format!(
            r#"{{"apiVersion":"policy/v1","kind":"Eviction","metadata":{{"name":"{name}"}}}}"#
        );
        cluster.kubectl_with_input(&format!("create --raw {path} -f -"), &body)
    };
    evict("?dryRun=All").ok();
    let budget = cluster.get("pdb guarded");
    assert_eq!(budget["status"]["disruptionsAllowed"], 1, "a dry run takes nothing: {budget}");
    // Whatever leaves can come back nowhere: the first goes, the second stays.
    cluster
        .kubectl("drain node-1 --ignore-daemonsets --pod-selector=app=guarded --timeout=5s")
        .fails_with("Cannot evict pod as it would violate the pod's disruption budget.");
    until("one goes and one stays", || {
        let running = cluster.get("pods -l app=guarded --field-selector=status.phase=Running");
        running["items"].as_array().map(Vec::len) == Some(1)
    });
    cluster.comes_to_print("describe pdb guarded", "Allowed disruptions:  0");
    cluster.kubectl("delete pdb guarded").ok();
    cluster
        .kubectl("drain node-1 --ignore-daemonsets --pod-selector=app=guarded --timeout=180s")
        .prints("drained");
    cluster.kubectl("delete deployment guarded").ok();
}

fn fill_a_quota(cluster: &Cluster) {
    cluster.kubectl("create namespace team").ok();
    cluster.apply(TEAM).ok();
    cluster
        .kubectl("wait --for=jsonpath={.status.used.pods}=0 quota/all -n team --timeout=180s")
        .ok();
    cluster.kubectl_with_input("apply -n team -f -", &guarded(3)).ok();
    let available = "--for=jsonpath={.status.availableReplicas}";
    cluster.kubectl(&format!("wait {available}=2 deployment/guarded -n team --timeout=180s")).ok();
    cluster.comes_to_print(
        "get replicaset -n team -o jsonpath={.items[0].status.conditions[0].message}",
        "exceeded quota: all, requested: pods=1, used: pods=2, limited: pods=2",
    );
    cluster.kubectl("describe quota -n team").prints("requests.cpu");
    let quota = cluster.get("quota all -n team");
    assert_eq!(quota["status"]["used"]["requests.cpu"], "20m", "by default: {quota}");
    assert_eq!(quota["status"]["used"]["limits.memory"], "128Mi");
    cluster
        .kubectl("create service nodeport web --tcp=80 -n team")
        .fails_with("exceeded quota: all, requested: services.nodeports=1");
    let big = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"big"},"spec":{"containers":[{"name":"c","image":"x","resources":{"limits":{"cpu":"2"}}}]}}"#;
    cluster
        .kubectl_with_input("create -n team -f -", big)
        .fails_with("maximum cpu usage per Container is 1, but limit is 2");
    // Room for one more is used at once, and what goes is given back.
    let more = r#"{"spec":{"hard":{"pods":"3"}}}"#;
    cluster.kubectl_args(&["patch", "quota", "all", "-n", "team", "--type=merge", "-p", more]).ok();
    cluster.kubectl(&format!("wait {available}=3 deployment/guarded -n team --timeout=180s")).ok();
    // What a pod gets more in place is charged as well, and within its range.
    let pod = "get pods -n team -l app=guarded -o jsonpath={.items[0].metadata.name}";
    let pod = cluster.kubectl(pod).ok().stdout;
    let resize = |resources: &str| {
        let patch =
            format!(r#"{{"spec":{{"containers":[{{"name":"main","resources":{resources}}}]}}}}"#);
        let args = ["patch", "pod", &pod, "-n", "team", "--subresource=resize", "-p", &patch];
        cluster.kubectl_args(&args)
    };
    resize(r#"{"requests":{"cpu":"90m"}}"#)
        .fails_with("exceeded quota: all, requested: requests.cpu=80m, used: requests.cpu=30m, limited: requests.cpu=100m");
    resize(r#"{"limits":{"cpu":"2"}}"#)
        .fails_with("maximum cpu usage per Container is 1, but limit is 2");
    resize(r#"{"requests":{"cpu":"40m"}}"#).ok();
    let used = "--for=jsonpath={.status.used.requests\\.cpu}";
    cluster.kubectl(&format!("wait {used}=60m quota/all -n team --timeout=180s")).ok();
    cluster.kubectl("delete deployment guarded -n team").ok();
    cluster
        .kubectl("wait --for=jsonpath={.status.used.pods}=0 quota/all -n team --timeout=180s")
        .ok();
}

fn roll_out_and_back(cluster: &Cluster) {
    cluster.apply(&database()).ok();
    cluster.apply(&workload("DaemonSet", "agent", "", &toolbox("[sleep, infinity]"))).ok();
    cluster.kubectl("rollout status statefulset/db --timeout=180s").ok();
    cluster.kubectl("rollout status daemonset/agent --timeout=180s").ok();
    // Names come a moment after their pods are ready.
    cluster.comes_to_print("exec db-0 -- toolbox get http://db-1.db:8080/", "first");

    // A canary: only the last pod is of the new template.
    let partition = r#"{"spec":{"updateStrategy":{"rollingUpdate":{"partition":1}}}}"#;
    cluster.kubectl_args(&["patch", "statefulset", "db", "-p", partition]).ok();
    let text = |text: &str| {
        let path = "/spec/template/spec/containers/0/args/4";
        let patch = format!(r#"[{{"op":"replace","path":"{path}","value":"{text}"}}]"#);
        cluster.kubectl_args(&["patch", "statefulset", "db", "--type=json", "-p", &patch]).ok();
    };
    text("second");
    cluster
        .kubectl("rollout status statefulset/db --timeout=180s")
        .prints("partitioned roll out complete: 1 new pods");
    assert_eq!(arguments(cluster, "app=db"), ["first", "second"]);
    let partition = partition.replace('1', "0");
    cluster.kubectl_args(&["patch", "statefulset", "db", "-p", &partition]).ok();
    cluster.kubectl("rollout status statefulset/db --timeout=180s").prints("complete");
    assert_eq!(arguments(cluster, "app=db"), ["second", "second"]);
    cluster.kubectl("rollout history statefulset/db").prints("2");
    cluster.kubectl("rollout undo statefulset/db").prints("rolled back");
    cluster.kubectl("rollout status statefulset/db --timeout=180s").ok();
    assert_eq!(arguments(cluster, "app=db"), ["first", "first"]);
    cluster.kubectl("scale statefulset/db --replicas=1").ok();
    cluster.kubectl("wait --for=delete pod/db-1 --timeout=180s").ok();
    cluster.kubectl("get controllerrevisions").prints("statefulset.apps/db");

    let patch =
        r#"[{"op":"replace","path":"/spec/template/spec/containers/0/args/1","value":"100000"}]"#;
    cluster.kubectl_args(&["patch", "daemonset", "agent", "--type=json", "-p", patch]).ok();
    cluster.kubectl("rollout status daemonset/agent --timeout=180s").ok();
    assert_eq!(arguments(cluster, "app=agent"), ["100000"]);
    cluster.kubectl("rollout history daemonset/agent --revision=2").prints("100000");
    cluster.kubectl("rollout undo daemonset/agent").prints("rolled back");
    cluster.kubectl("rollout status daemonset/agent --timeout=180s").ok();
    assert_eq!(arguments(cluster, "app=agent"), ["infinity"]);
    // It stays while other pods are kept off the node, and goes when told to.
    cluster.kubectl("cordon node-1").ok();
    cluster.kubectl("delete pod -l app=agent").ok();
    cluster.kubectl("rollout status daemonset/agent --timeout=180s").ok();
    cluster.kubectl("taint node node-1 maintenance=now:NoExecute").ok();
    cluster.kubectl("wait --for=delete pod -l app=agent --timeout=180s").ok();
    let desired = "get daemonset agent -o jsonpath={.status.desiredNumberScheduled}";
    until("no node is to have one", || cluster.kubectl(desired).stdout == "0");
}

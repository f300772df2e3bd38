//! `kubectl apply --server-side`, and who manages what.

use serde_json::{Value, json};

use crate::cluster::Cluster;

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: skiff.local/toolbox, args: [sleep, infinity], env: [{name: A, value: "1"}]}
"#;

const MAP: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: m}
data: {one: "1", two: "1"}
"#;

/// The names of the managers of an object, with how they write.
fn managers(cluster: &Cluster, what: &str) -> Vec<String> {
    let object: Value = serde_json::from_str(
        &cluster.kubectl(&format!("get {what} -o json --show-managed-fields")).ok().stdout,
    )
    .expect("JSON");
    let list = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    list.iter().map(|entry| text(entry, "manager") + " " + &text(entry, "operation")).collect()
}

const APPLY: &str = "apply --server-side -f -";

#[test]
fn an_object_is_applied_changed_and_fought_over() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.kubectl_with_input(APPLY, MAP).prints("configmap/m serverside-applied");
    assert_eq!(managers(&cluster, "configmap m"), ["kubectl Apply"]);
    // Hidden unless asked for.
    assert!(!cluster.kubectl("get configmap m -o yaml").ok().stdout.contains("managedFields"));
    let fewer = MAP.replace(r#", two: "1""#, "");
    cluster.kubectl_with_input(APPLY, &fewer).ok();
    assert_eq!(cluster.get("configmap m")["data"], json!({"one": "1"}), "what is not applied goes");
    let other = MAP.replace(r#"one: "1""#, r#"one: "2""#);
    let as_other = format!("{APPLY} --field-manager=other");
    cluster
        .kubectl_with_input(&as_other, &other)
        .fails_with(r#"Apply failed with 1 conflict: conflict with "kubectl": .data.one"#);
    let forced = format!("{as_other} --force-conflicts");
    cluster.kubectl_with_input(&forced, &other).prints("serverside-applied");
    assert_eq!(managers(&cluster, "configmap m"), ["other Apply"]);
    cluster.kubectl("label configmap m a=b").ok();
    assert_eq!(managers(&cluster, "configmap m"), ["other Apply", "kubectl-label Update"]);
    // What is the same is managed by both.
    cluster.kubectl_with_input(APPLY, &other).prints("serverside-applied");
    assert_eq!(managers(&cluster, "configmap m").len(), 3);
    cluster
        .kubectl_with_input(&format!("{APPLY} --dry-run=server"), MAP)
        .fails_with("conflict with \"other\"");
    cluster
        .kubectl_with_input(&format!("{forced} --dry-run=server"), &MAP.replace("one:", "three:"))
        .prints("serverside-applied (server dry run)");
    assert_eq!(cluster.get("configmap m")["data"], json!({"one": "2", "two": "1"}));
}

#[test]
fn a_list_and_replicas_have_several_managers() {
    let Some(cluster) = Cluster::start() else { return };
    // A pod that no node is there for is written to by the scheduler as well.
    cluster.wait_node_ready();
    cluster.kubectl_with_input(APPLY, WEB).prints("deployment.apps/web serverside-applied");
    let sidecar = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      containers:
      - {name: c, env: [{name: B, value: "2"}]}
      - {name: s, image: skiff.local/toolbox, args: [sleep, infinity]}
"#;
    let as_other = format!("{APPLY} --field-manager=sidecars");
    cluster.kubectl_with_input(&as_other, sidecar).ok();
    let containers = |cluster: &Cluster| {
        cluster.get("deployment web").pointer("/spec/template/spec/containers").cloned()
    };
    let both = containers(&cluster).expect("a list");
    assert_eq!((&both[0]["name"], &both[1]["name"]), (&json!("c"), &json!("s")));
    assert_eq!(both[0]["env"], json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]));
    // Each takes its own part away.
    let bare = sidecar.split("      - {name: s").next().expect("text");
    cluster.kubectl_with_input(&as_other, &bare.replace("name: B", "name: C")).ok();
    let one = containers(&cluster).expect("a list");
    assert_eq!(one.as_array().map(Vec::len), Some(1));
    assert_eq!(one[0]["env"], json!([{"name": "A", "value": "1"}, {"name": "C", "value": "2"}]));
    cluster.kubectl("scale deployment web --replicas=1").ok();
    cluster.kubectl_with_input(APPLY, WEB).fails_with(
        r#"conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas"#,
    );
    let without = WEB.replace("  replicas: 0\n", "");
    cluster.kubectl_with_input(APPLY, &without).ok();
    assert_eq!(cluster.get("deployment web")["spec"]["replicas"], 1);
    cluster.kubectl("rollout status deployment/web --timeout=180s").ok();
    let names = managers(&cluster, "deployment web");
    assert!(names.contains(&"kube-controller-manager Update".to_owned()), "{names:?}");
    let pod = cluster.kubectl("get pod -l app=web -o name").ok().stdout;
    let names = managers(&cluster, pod.trim());
    assert_eq!(names, ["kube-controller-manager Update", "kubelet Update"]);
}

#[test]
fn client_side_apply_becomes_server_side_apply() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.apply(WEB).prints("deployment.apps/web created");
    let by_client = "kubectl-client-side-apply Update".to_owned();
    assert!(managers(&cluster, "deployment web").contains(&by_client));
    let changed = WEB.replace(r#"value: "1""#, r#"value: "2""#);
    cluster.kubectl_with_input(APPLY, &changed).prints("serverside-applied");
    let names = managers(&cluster, "deployment web");
    // The one that kept the annotation up comes first where a second lies in between.
    assert!(names.contains(&"kubectl Apply".to_owned()), "{names:?}");
    assert!(!names.contains(&by_client), "{names:?}");
    // What was applied by the client is taken away by the server.
    let without = changed.replace(r#", env: [{name: A, value: "2"}]"#, "");
    cluster.kubectl_with_input(APPLY, &without).ok();
    let container =
        cluster.get("deployment web")["spec"]["template"]["spec"]["containers"][0].clone();
    assert_eq!(container["env"], Value::Null);
    // And back: client-side apply still works, since its annotation was kept up.
    cluster.apply(&without).prints("deployment.apps/web");
}

#[test]
fn a_difference_is_shown_before_it_is_made() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.kubectl_with_input(APPLY, MAP).ok();
    let same = cluster.kubectl_with_input("diff --server-side -f -", MAP).ok();
    assert_eq!(same.stdout, "");
    let changed = MAP.replace(r#"two: "1""#, r#"two: "2""#);
    let differs = cluster.kubectl_with_input("diff --server-side -f -", &changed);
    assert!(differs.stdout.contains("+  two: \"2\""), "{}", differs.stdout);
    assert_eq!(cluster.get("configmap m")["data"]["two"], "1");
    cluster
        .kubectl_with_input(APPLY, &MAP.replace("\ndata:", "\ndat:"))
        .fails_with(".dat: field not declared in schema");
}

//! What people type all day: every form of kubectl against the API.

use crate::cluster::{Cluster, comes_to_print};

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: skiff.local/toolbox, args: [sleep, infinity]}]}
"#;

#[test]
fn get_in_every_form_describe_edit_label_and_delete() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.apply(WEB).prints("deployment.apps/web created");
    cluster.apply(WEB).prints("deployment.apps/web unchanged");
    cluster
        .apply(&WEB.replace("replicas: 0", "replicas: 1"))
        .prints("deployment.apps/web configured");
    cluster.kubectl("get deploy").prints("UP-TO-DATE");
    cluster.kubectl("get deploy web -o wide").prints("SELECTOR");
    cluster.kubectl("get deploy web -o yaml").prints("apiVersion: apps/v1");
    cluster.kubectl("get deploy web -o name").prints("deployment.apps/web");
    cluster.kubectl("get deploy web -o jsonpath={.spec.replicas}").prints("1");
    cluster.kubectl("get deploy -o custom-columns=N:.metadata.name,R:.spec.replicas").prints("web");
    cluster.kubectl("get deploy -l app=web -o name").prints("deployment.apps/web");
    assert_eq!(cluster.kubectl("get deploy -l app=other -o name").ok().stdout, "");
    cluster.comes_to_print("get all", "service/kubernetes");
    cluster.kubectl("get nodes,namespaces -A").prints("namespace/kube-system");
    cluster.kubectl("describe deployment web").prints("Pod Template:");
    cluster.kubectl("label deployment web tier=front").prints("labeled");
    cluster.kubectl("annotate deployment web note=hello").prints("annotated");
    cluster.kubectl("scale deployment web --replicas=0").prints("scaled");
    cluster.kubectl("rollout status deployment/web --timeout=180s").ok();
    let mut edit = cluster.kubectl_command(&["edit", "deployment", "web"]);
    let done = edit.env("KUBE_EDITOR", "sed -i s/front/back/").output().expect("kubectl runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    cluster.kubectl("get deployment web -o jsonpath={.metadata.labels.tier}").prints("back");
    cluster
        .kubectl_args(&[
            "patch",
            "deployment",
            "web",
            "--type=json",
            "-p",
            r#"[{"op":"add","path":"/metadata/labels/x","value":"y"}]"#,
        ])
        .ok();
    cluster
        .kubectl_args(&[
            "patch",
            "deployment",
            "web",
            "--type=merge",
            "-p",
            r#"{"metadata":{"labels":{"x":null}}}"#,
        ])
        .ok();
    cluster.kubectl_args(&["patch", "deployment", "web", "-p", r#"{"spec":{"template":{"spec":{"containers":[{"name":"c","env":[{"name":"A","value":"b"}]}]}}}}"#]).ok();
    let web = cluster.get("deployment web");
    assert_eq!(web["metadata"]["labels"]["x"], serde_json::Value::Null);
    let container = &web["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        (container["image"].as_str(), container["env"][0]["value"].as_str()),
        (Some("skiff.local/toolbox"), Some("b"))
    );
    cluster
        .kubectl("create configmap c --from-literal=a=b --dry-run=server")
        .prints("created (server dry run)");
    cluster.kubectl("get configmap c").fails_with("NotFound");
    cluster.kubectl("api-resources").prints("deployments");
    cluster.kubectl("api-versions").prints("apps/v1");
    cluster.kubectl("version").prints("v1.37");
    cluster.kubectl("cluster-info").prints("Kubernetes control plane");
    cluster.kubectl("auth can-i create pods").prints("yes");
    cluster.kubectl("explain pod.spec").prints("containers");
    cluster.kubectl("delete deployment web").prints("deleted");
    cluster.kubectl("get deployment web").fails_with(r#"deployments.apps "web" not found"#);
}

#[test]
fn a_node_is_drained_and_taken_back() {
    let Some(cluster) = Cluster::start() else { return };
    let web = WEB.replace("replicas: 0", "replicas: 1");
    cluster
        .apply(
            &web.replace(
                "spec: {containers",
                "spec: {terminationGracePeriodSeconds: 1, containers",
            ),
        )
        .ok();
    cluster.kubectl("rollout status deployment/web --timeout=180s").ok();
    cluster.kubectl("run alone --image=skiff.local/toolbox -- sleep infinity").ok();
    cluster.kubectl("wait --for=condition=Ready pod/alone --timeout=180s").ok();
    cluster.kubectl("drain node-1").fails_with("Pods that declare no controller");
    cluster.kubectl("drain node-1 --force --grace-period=1 --timeout=180s").ok();
    cluster.kubectl("get pod alone").fails_with("NotFound");
    cluster.kubectl("get nodes").prints("SchedulingDisabled");
    cluster
        .kubectl("wait --for=condition=PodScheduled=false pod -l app=web --timeout=180s")
        .prints("condition met");
    cluster.comes_to_print("describe pod -l app=web", "1 node(s) were unschedulable");
    cluster.kubectl("uncordon node-1").ok();
    cluster.kubectl("wait --for=condition=Available deployment/web --timeout=180s").ok();
}

#[test]
fn namespaces_take_their_contents_with_them() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.kubectl("create namespace team").ok();
    cluster.kubectl("create configmap a --from-literal=a=b -n team").ok();
    cluster.kubectl("create secret generic s --from-literal=a=b -n team").ok();
    cluster.kubectl("wait --for=jsonpath={.metadata.name}=default serviceaccount/default -n team --timeout=180s").ok();
    cluster.kubectl("delete namespace team --timeout=180s").ok();
    cluster.kubectl("get namespace team").fails_with("NotFound");
    cluster
        .kubectl("create configmap a --from-literal=a=b -n team")
        .fails_with(r#"namespaces "team" not found"#);
}

#[test]
fn rbac_lets_in_who_may_and_nobody_else() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.kubectl("create serviceaccount reader").ok();
    cluster.kubectl("create role reader --verb=get,list --resource=configmaps").ok();
    cluster.kubectl("create rolebinding reader --role=reader --serviceaccount=default:reader").ok();
    let token = cluster.kubectl("create token reader").ok().stdout;
    let server =
        cluster.kubectl("config view --raw -o jsonpath={.clusters[0].cluster.server}").ok().stdout;
    let with_token = |args: &str| {
        let line = format!(
            "--kubeconfig=/dev/null --insecure-skip-tls-verify --server={server} --token={} {args}",
            token.trim()
        );
        cluster.kubectl(&line)
    };
    comes_to_print(|| with_token("get configmaps -n default"), "kube-root-ca.crt");
    with_token("get secrets -n default").fails_with(
        r#"User "system:serviceaccount:default:reader" cannot list resource "secrets" in API group "" in the namespace "default""#,
    );
    let anonymous = |path: &str| {
        let output = cluster
            .command("curl")
            .args(["-sk", "-o", "/dev/null", "-w", "%{http_code}"])
            .arg(format!("{server}{path}"))
            .output()
            .expect("curl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for path in ["/livez", "/readyz", "/healthz", "/version"] {
        assert_eq!(anonymous(path), "200", "{path}");
    }
    for path in [
        "/api",
        "/apis",
        "/metrics",
        "/api/v1/namespaces",
        "/api/v1/namespaces/kube-system/secrets",
    ] {
        assert_eq!(anonymous(path), "403", "{path}");
    }
}

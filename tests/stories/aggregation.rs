//! An API server beside the cluster's own, in a pod behind a Service: its kinds, its
//! metrics, who it is told asks, and what becomes of it when it goes and comes back.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::conversion;
use crate::cluster::Cluster;

const WARDLE: &str = "apiservice/v1alpha1.wardle.example.com";
const METRICS: &str = "apiservice/v1beta1.metrics.k8s.io";

/// How long a node may take to learn of a Service.
const SERVICE_TIMEOUT: Duration = Duration::from_secs(30);

/// The machine's own Python runs in the pod.
const PYTHON: &str = "/usr/bin/python3";

const API: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: api, namespace: wardle}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: wardle-reads-whom-to-believe, namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: extension-apiserver-authentication-reader}
subjects: [{kind: ServiceAccount, name: api, namespace: wardle}]
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: wardle}
spec: {selector: {app: api}, ports: [{port: 443, targetPort: 9443}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: wardle}
spec:
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      serviceAccountName: api
      terminationGracePeriodSeconds: 0
      volumes:
      - {name: usr, hostPath: {path: /usr}}
      - {name: scripts, hostPath: {path: SCRIPTS}}
      - {name: tls, secret: {secretName: api}}
      containers:
      - name: api
        image: skiff.local/toolbox
        command: [/usr/bin/python3, -B, /scripts/extension.py, "9443", /tls/tls.crt, /tls/tls.key]
        readinessProbe: {httpGet: {scheme: HTTPS, path: /healthz, port: 9443}, periodSeconds: 1}
        volumeMounts:
        - {name: usr, mountPath: /usr, readOnly: true}
        - {name: usr, mountPath: /lib, subPath: lib, readOnly: true}
LIB64        - {name: scripts, mountPath: /scripts, readOnly: true}
        - {name: tls, mountPath: /tls}
"#;
const LIB64: &str = "        - {name: usr, mountPath: /lib64, subPath: lib64, readOnly: true}\n";

/// What the pod needs, and it.
pub(super) fn objects() -> String {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients");
    let scripts = scripts.canonicalize().expect("the repository's own");
    let lib64 = if Path::new("/usr/lib64").exists() { LIB64 } else { "" };
    API.replace("SCRIPTS", &scripts.to_string_lossy()).replace("LIB64", lib64)
}

/// Whether this machine has what runs in the pod.
pub(super) fn has_python() -> bool {
    let has = Path::new(PYTHON).exists();
    if !has {
        eprintln!("skipped: needs {PYTHON}");
    }
    has
}

/// A version that the pod serves.
pub(super) fn registered(group: &str, version: &str, ca: &str) -> String {
    format!(
        r#"
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {{name: {version}.{group}}}
spec:
  group: {group}
  version: {version}
  groupPriorityMinimum: 2000
  versionPriority: 200
  caBundle: {ca}
  service: {{name: api, namespace: wardle}}
---
"#
    )
}

fn flunder(name: &str, value: &str) -> String {
    format!(
        "apiVersion: wardle.example.com/v1alpha1\nkind: Flunder\nmetadata: {{name: {name}}}\nspec: {{value: '{value}'}}\n"
    )
}

/// A cluster with certificates for the pod, and their CA as an APIService says it.
fn cluster() -> Option<(Cluster, String)> {
    if !has_python() {
        return None;
    }
    let cluster = Cluster::start()?;
    conversion::certificates(&cluster.path("."), "api.wardle.svc")?;
    let ca = STANDARD.encode(std::fs::read(cluster.path("ca.crt")).expect("openssl wrote it"));
    cluster.wait_node_ready();
    Some((cluster, ca))
}

#[test]
fn every_server_passes_requests_on() {
    let Some((first, ca)) = cluster() else { return };
    not_there_yet(&first, &ca);
    started(&first);
    let token = std::fs::read_to_string(first.path("data/server/token")).expect("it is printed");
    let mut second = first.beside(2, &["--server", &first.url(), "--token", token.trim()]);
    second.start_server();
    // Its node has the Service's address, and the way to the other node's pods, a
    // moment later.
    let began = Instant::now();
    while !second.kubectl("get flunders").success && began.elapsed() < SERVICE_TIMEOUT {}
    second.kubectl_with_input("create -f -", &flunder("a", "1")).prints("created");
    first.kubectl("get flunder a").prints("a");
    second.kubectl("api-resources --api-group=wardle.example.com").prints("flunders");
}

#[test]
pub(super) fn an_api_server_in_a_pod_serves_its_kinds() {
    let Some((cluster, ca)) = cluster() else { return };
    not_there_yet(&cluster, &ca);
    started(&cluster);
    discovered(&cluster);
    kept_and_watched(&cluster);
    told_who_asks(&cluster);
    scaled_by_its_metrics(&cluster, &ca);
    in_place_of_our_own(&cluster, &ca);
    gone_and_back(&cluster);
    whose_certificate(&cluster, &ca);
    cluster.kubectl(&format!("delete {WARDLE}")).ok();
    cluster
        .kubectl("get --raw /apis/wardle.example.com/v1alpha1/flunders")
        .fails_with("could not find the requested resource");
    let groups = cluster.kubectl("get --raw /apis").ok().stdout;
    assert!(!groups.contains("wardle"), "{groups}");
}

fn available(cluster: &Cluster, what: &str) {
    cluster.kubectl(&format!("wait --for=condition=Available {what} --timeout=180s")).ok();
}

/// Waits until it is not available for this reason.
fn unavailable(cluster: &Cluster, what: &str, reason: &str) {
    let path = r#"{.status.conditions[?(@.type=="Available")].reason}"#;
    let wait = format!("wait --for=jsonpath={path}={reason} {what} --timeout=180s");
    cluster.kubectl(&wait).ok();
    cluster.kubectl(&format!("get {what}")).prints(&format!("False ({reason})"));
}

fn not_there_yet(cluster: &Cluster, ca: &str) {
    cluster.kubectl("create namespace wardle").ok();
    cluster.apply(&registered("wardle.example.com", "v1alpha1", ca)).ok();
    unavailable(cluster, WARDLE, "ServiceNotFound");
    cluster
        .kubectl("get --raw /apis/wardle.example.com/v1alpha1/flunders")
        .fails_with("the server is currently unable to handle the request");
}

fn started(cluster: &Cluster) {
    let (cert, key) = (cluster.path("tls.crt"), cluster.path("tls.key"));
    let (cert, key) = (cert.to_string_lossy(), key.to_string_lossy());
    let secret = format!("create secret tls api -n wardle --cert={cert} --key={key}");
    cluster.kubectl(&secret).ok();
    cluster.apply(&objects()).ok();
    let status = cluster.kubectl("rollout status deployment/api -n wardle --timeout=180s");
    if !status.success {
        let log = cluster.kubectl("logs -n wardle deployment/api");
        panic!("{}\n{}\n{}", status.stderr, log.stdout, log.stderr);
    }
    available(cluster, WARDLE);
    cluster.kubectl(&format!("get {WARDLE}")).prints("wardle/api");
    let reason = r#"{.status.conditions[?(@.type=="Available")].reason}"#;
    cluster.kubectl(&format!("get {WARDLE} -o jsonpath={reason}")).prints("Passed");
}

fn discovered(cluster: &Cluster) {
    cluster.kubectl("api-versions").prints("wardle.example.com/v1alpha1");
    cluster.kubectl("api-resources --api-group=wardle.example.com").prints("flunders");
    cluster.kubectl("explain flunders.spec").prints("What it is worth.");
    let url = "/openapi/v3/apis/wardle.example.com/v1alpha1";
    cluster.kubectl("get --raw /openapi/v3").prints(url);
    cluster.kubectl("get --raw /openapi/v2").prints("com.example.wardle.v1alpha1.Flunder");
    cluster.kubectl(&format!("get --raw {url}")).prints("Flunder is a thing of another API server");
}

fn kept_and_watched(cluster: &Cluster) {
    let mut watch = cluster
        .kubectl_command(&["get", "flunders", "--watch", "-o", "name"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl");
    cluster.apply(&flunder("a", "1")).prints("flunder.wardle.example.com/a created");
    cluster.kubectl("get fl a -o jsonpath={.spec.value}").prints("1");
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    let line = lines.next().expect("the watch ended").expect("text");
    assert_eq!(line, "flunder.wardle.example.com/a");
    cluster.kubectl_with_input("replace -f -", &flunder("a", "2")).prints("replaced");
    assert!(lines.next().is_some(), "the watch ended");
    watch.kill().expect("our own child");
    watch.wait().expect("our own child");
    cluster.kubectl("get flunders -A").prints("default");
    cluster.kubectl("delete flunder a").prints("deleted");
    cluster.kubectl("get flunder a").fails_with("\"a\" not found");
}

fn told_who_asks(cluster: &Cluster) {
    cluster.kubectl("get flunders --as=jane").fails_with(
        "User \"jane\" cannot list resource \"flunders\" in API group \"wardle.example.com\"",
    );
    cluster
        .kubectl("create role flunders --verb=get,create --resource=flunders.wardle.example.com")
        .ok();
    cluster.kubectl("create rolebinding jane --role=flunders --user=jane").ok();
    // kubectl would look for a definition of the kind, which is not for jane to read.
    let jane =
        "create -f - --validate=false --as=jane --as-group=a --as-group=system:authenticated";
    cluster.kubectl_with_input(jane, &flunder("janes", "1")).prints("created");
    let annotations = "-o jsonpath={.metadata.annotations}";
    cluster
        .kubectl(&format!("get flunder janes --as=jane {annotations}"))
        .prints(r#""wardle/groups":"a,system:authenticated","wardle/user":"jane""#);

    // Who says to be somebody else is nobody else.
    for (file, field) in [
        ("admin.crt", "users[0].user.client-certificate-data"),
        ("admin.key", "users[0].user.client-key-data"),
        ("server.crt", "clusters[0].cluster.certificate-authority-data"),
    ] {
        let line = format!("config view --raw -o jsonpath={{.{field}}}");
        let data = STANDARD.decode(cluster.kubectl(&line).ok().stdout.trim()).expect("base64");
        std::fs::write(cluster.path(file), data).expect("ours");
    }
    let body = r#"{"apiVersion":"wardle.example.com/v1alpha1","kind":"Flunder","metadata":{"name":"spoofed"},"spec":{"value":"1"}}"#;
    let url =
        format!("{}/apis/wardle.example.com/v1alpha1/namespaces/default/flunders", cluster.url());
    let mut curl = cluster.command("curl");
    curl.args(["-sS", "--fail", "--cacert"]).arg(cluster.path("server.crt"));
    curl.arg("--cert").arg(cluster.path("admin.crt"));
    curl.arg("--key").arg(cluster.path("admin.key"));
    curl.args(["-H", "Content-Type: application/json", "-H", "X-Remote-User: root"]);
    curl.args(["-H", "X-Remote-Group: roots", "-d", body, &url]);
    let told = curl.output().expect("curl");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let spoofed = cluster.kubectl(&format!("get flunder spoofed {annotations}")).ok().stdout;
    assert!(spoofed.contains("system:masters") && !spoofed.contains("root"), "{spoofed}");

    // Without the front proxy's certificate the same headers are nobody's.
    let address = cluster.get("service api -n wardle")["spec"]["clusterIP"].clone();
    let address = address.as_str().expect("an address").to_owned();
    let mut curl = cluster.command("curl");
    curl.args(["-sS", "-k", "-H", "X-Remote-User: root"]);
    curl.arg(format!("https://{address}/apis/wardle.example.com/v1alpha1/flunders"));
    let told = String::from_utf8(curl.output().expect("curl").stdout).expect("text");
    assert!(told.contains("Unauthorized"), "{told}");
    cluster.kubectl("delete flunder janes spoofed").ok();
}

/// Autoscalers go by what flunders of the metrics' names are worth.
const SCALED: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: WHAT}
spec:
  selector: {matchLabels: {app: WHAT}}
  template:
    metadata: {labels: {app: WHAT}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: c, image: skiff.local/toolbox, args: [sleep, infinity]}]
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: WHAT}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: WHAT}
  maxReplicas: 5
  behavior: {scaleDown: {stabilizationWindowSeconds: 0}}
  metrics: [METRIC]
---
"#;
const OBJECT: &str = "{type: Object, object: {describedObject: {apiVersion: v1, kind: Service, name: web}, metric: {name: requests}, target: {type: AverageValue, averageValue: '5'}}}";
const OUTSIDE: &str = "{type: External, external: {metric: {name: queue}, target: {type: AverageValue, averageValue: '2'}}}";

fn scaled_by_its_metrics(cluster: &Cluster, ca: &str) {
    cluster.apply(&registered("custom.metrics.k8s.io", "v1beta2", ca)).ok();
    cluster.apply(&registered("external.metrics.k8s.io", "v1beta1", ca)).ok();
    available(cluster, "apiservice/v1beta2.custom.metrics.k8s.io");
    available(cluster, "apiservice/v1beta1.external.metrics.k8s.io");
    cluster.apply(&flunder("requests", "10")).ok();
    cluster.apply(&flunder("queue", "6")).ok();
    let of = |what: &str, metric: &str| SCALED.replace("WHAT", what).replace("METRIC", metric);
    cluster.apply(&(of("by-object", OBJECT) + &of("by-queue", OUTSIDE))).ok();
    let replicas = |what: &str, count: u32| {
        let wait = format!("wait --for=jsonpath={{.status.replicas}}={count} deployment/{what}");
        cluster.kubectl(&format!("{wait} --timeout=180s")).ok();
    };
    replicas("by-object", 2);
    replicas("by-queue", 3);
    cluster.kubectl_with_input("replace -f -", &flunder("queue", "2")).ok();
    replicas("by-queue", 1);
    // Nothing to do is nothing that runs, until there is something again.
    cluster.kubectl_with_input("replace -f -", &flunder("queue", "0")).ok();
    let idle = r#"{"spec":{"minReplicas":0}}"#;
    cluster.kubectl_args(&["patch", "hpa", "by-queue", "-p", idle]).ok();
    cluster.kubectl("wait hpa/by-queue --for=condition=ScaledToZero --timeout=180s").ok();
    // A status that counts none says nothing.
    cluster.kubectl("get deployment by-queue -o jsonpath={.spec.replicas}").prints("0");
    cluster.kubectl_with_input("replace -f -", &flunder("queue", "4")).ok();
    replicas("by-queue", 2);
    cluster.kubectl("wait hpa/by-queue --for=condition=ScaledToZero=false --timeout=180s").ok();
    cluster.kubectl("delete hpa,deployment by-object by-queue").ok();
    cluster
        .kubectl("delete apiservice v1beta2.custom.metrics.k8s.io v1beta1.external.metrics.k8s.io")
        .ok();
}

/// Another metrics server takes the place of the built-in one for as long as it is
/// registered.
fn in_place_of_our_own(cluster: &Cluster, ca: &str) {
    let nodes = "get --raw /apis/metrics.k8s.io/v1beta1/nodes";
    cluster.kubectl(nodes).prints("node-1");
    cluster.apply(&registered("metrics.k8s.io", "v1beta1", ca)).ok();
    available(cluster, METRICS);
    cluster.kubectl(&format!("get {METRICS}")).prints("wardle/api");
    cluster.kubectl(nodes).prints("told-by-another");
    cluster.kubectl(&format!("delete {METRICS}")).ok();
    cluster.kubectl(&format!("wait --for=create {METRICS} --timeout=180s")).ok();
    cluster.kubectl(&format!("get {METRICS}")).prints("Local");
    cluster.kubectl(nodes).prints("node-1");
    cluster.kubectl("top node").prints("node-1");
}

fn gone_and_back(cluster: &Cluster) {
    cluster.kubectl("scale deployment/api -n wardle --replicas=0").ok();
    unavailable(cluster, WARDLE, "MissingEndpoints");
    cluster
        .kubectl("get flunders")
        .fails_with("the server is currently unable to handle the request");
    // Others' kinds are served as before, and known to be incomplete.
    cluster.kubectl("get deployments -A").prints("api");
    cluster.kubectl("create namespace doomed").ok();
    cluster.kubectl("delete namespace doomed --wait=false").ok();
    let condition = "condition=NamespaceDeletionDiscoveryFailure";
    cluster.kubectl(&format!("wait --for={condition} namespace/doomed --timeout=180s")).ok();
    let message = r#"{.status.conditions[?(@.type=="NamespaceDeletionDiscoveryFailure")].message}"#;
    cluster.kubectl(&format!("get namespace doomed -o jsonpath={message}")).prints(
        "wardle.example.com/v1alpha1: the server is currently unable to handle the request",
    );
    cluster.kubectl("scale deployment/api -n wardle --replicas=1").ok();
    available(cluster, WARDLE);
    cluster.kubectl("wait --for=delete namespace/doomed --timeout=180s").ok();
    cluster.apply(&flunder("again", "1")).prints("created");
}

/// Who has a certificate of nobody's is not told anything.
fn whose_certificate(cluster: &Cluster, ca: &str) {
    let bundle = std::fs::read(cluster.path("server.crt")).expect("written before");
    let patch = |spec: String| {
        let patch = format!(r#"{{"spec": {spec}}}"#);
        cluster.kubectl_args(&["patch", WARDLE, "--type=merge", "-p", &patch]).ok();
    };
    patch(format!(r#"{{"caBundle": "{}"}}"#, STANDARD.encode(bundle)));
    unavailable(cluster, WARDLE, "FailedDiscoveryCheck");
    cluster
        .kubectl(&format!("get {WARDLE} -o jsonpath={{.status.conditions[0].message}}"))
        .prints("x509: certificate signed by unknown authority");
    patch(r#"{"caBundle": null, "insecureSkipTLSVerify": true}"#.to_owned());
    available(cluster, WARDLE);
    cluster.kubectl("get flunders").prints("again");
    patch(format!(r#"{{"caBundle": "{ca}", "insecureSkipTLSVerify": false}}"#));
    available(cluster, WARDLE);
}

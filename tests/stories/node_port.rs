//! The port of a node, as metrics-server, Prometheus and an administrator use a
//! kubelet's: who may read what, and by which certificate the node is known.

use std::{fs, process::Command};

use crate::cluster::{Cluster, Run, run};

/// What metrics-server's own manifest gives it (`nodes/metrics`), what the fine-grained
/// rights are for, and somebody without either.
const READERS: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: scraper}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: lister}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: nobody}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: scraper}
rules: [{apiGroups: [""], resources: [nodes/metrics], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: lister}
rules: [{apiGroups: [""], resources: [nodes/pods, nodes/healthz, nodes/configz], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: scraper}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: scraper}
subjects: [{kind: ServiceAccount, name: scraper, namespace: default}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: lister}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: lister}
subjects: [{kind: ServiceAccount, name: lister, namespace: default}]
"#;

fn web(node: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: web-{node}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  containers: [{{name: c, image: skiff.local/toolbox, args: [http-echo, --port, "8080"]}}]
"#
    )
}

struct Story<'a> {
    server: &'a Cluster,
    /// The CA that pods get as `ca.crt`.
    ca: String,
}

/// A status and a body, as curl gets them.
struct Got(u16, String);

impl Got {
    #[track_caller]
    fn is(&self, status: u16, text: &str) {
        assert!(self.0 == status && self.1.contains(text), "{}: {}", self.0, self.1);
    }
}

impl Story<'_> {
    fn curl(&self, more: &[&str], token: Option<&str>, url: &str) -> Got {
        let mut command: Command = self.server.command("curl");
        command.args(["-sS", "--max-time", "20", "--cacert", &self.ca, "-w", "\n%{http_code}"]);
        // Each node has its certificate a moment after it is ready.
        command.args(["--retry", "30", "--retry-connrefused", "--retry-delay", "1"]);
        if let Some(token) = token {
            command.arg("-H").arg(format!("Authorization: Bearer {token}"));
        }
        let said = run(command.args(more).arg(url), None).ok().stdout;
        let (body, status) = said.rsplit_once('\n').expect("the status comes last");
        Got(status.parse().expect("a number"), body.to_owned())
    }

    fn get(&self, node: u8, path: &str, token: Option<&str>) -> Got {
        self.curl(&[], token, &format!("https://192.168.77.{node}:10250{path}"))
    }

    fn token(&self, account: &str) -> String {
        self.server.kubectl(&format!("create token {account}")).ok().stdout.trim().to_owned()
    }

    /// As the administrator, whose kubeconfig has a certificate and the cluster's CA.
    fn raw(&self, node: u8, path: &str) -> Run {
        let server = format!("--server=https://192.168.77.{node}:10250");
        self.server.kubectl_args(&[&server, "get", "--raw", path])
    }
}

#[test]
fn a_node_answers_on_its_port_who_may_ask() {
    let Some((server, agent)) = Cluster::start_with_agent() else { return };
    server.apply(READERS).ok();
    for node in [server.name(), agent.name()] {
        server.apply(&web(&node)).ok();
        let port = format!("get node {node} -o jsonpath={{.status.daemonEndpoints..Port}}");
        server.kubectl(&port).prints("10250");
    }
    server.kubectl("wait --for=condition=Ready pod --all --timeout=90s").ok();
    let ca = server.path("ca.crt");
    let bundle = "get configmap kube-root-ca.crt -o jsonpath={.data.ca\\.crt}";
    fs::write(&ca, server.kubectl(bundle).ok().stdout).expect("our own folder");
    let story = Story { server: &server, ca: ca.to_string_lossy().into_owned() };
    for node in [1, 2] {
        a_scraper_scrapes(&story, node);
        rights_are_what_the_api_says(&story, node);
        the_administrator_reads_all(&story, node);
    }
    pods_reach_it(&story);
    nobody_serves_under_the_name_of_another(&story, &agent);
}

fn a_scraper_scrapes(story: &Story<'_>, node: u8) {
    let scraper = story.token("scraper");
    for (page, text) in [
        ("/metrics/resource", "node_cpu_usage_seconds_total "),
        ("/metrics/cadvisor", "container_cpu_usage_seconds_total{"),
        ("/metrics/probes", ""),
        ("/metrics", "kubelet_running_pods "),
    ] {
        story.get(node, page, Some(&scraper)).is(200, text);
    }
    // By its name, and by HTTP/1.1.
    let resolve = format!("node-{node}:10250:192.168.77.{node}");
    let url = format!("https://node-{node}:10250/metrics/resource");
    story.curl(&["--http1.1", "--resolve", &resolve], Some(&scraper), &url).is(200, "pod=");
}

fn rights_are_what_the_api_says(story: &Story<'_>, node: u8) {
    story.get(node, "/metrics/resource", None).is(401, "Unauthorized");
    story.get(node, "/metrics/resource", Some("nonsense")).is(401, "Unauthorized");
    story.get(node, "/nonsense", None).is(401, "Unauthorized");
    let (scraper, lister, nobody) =
        (story.token("scraper"), story.token("lister"), story.token("nobody"));
    story.get(node, "/metrics/resource", Some(&nobody)).is(
        403,
        "Forbidden (user=system:serviceaccount:default:nobody, verb=get, resource=nodes, \
         subresource(s)=[metrics])",
    );
    let log = format!("/containerLogs/default/web-node-{node}/c");
    for (path, asked) in [
        ("/pods", "[pods proxy]"),
        ("/runningpods/", "[pods proxy]"),
        ("/stats/summary", "[stats]"),
        ("/configz", "[configz proxy]"),
        ("/logs/", "[log]"),
        (&*log, "[proxy]"),
        ("/exec/default/web/c?command=id&output=1", "[proxy]"),
        ("//metrics/resource", "[proxy]"),
    ] {
        story.get(node, path, Some(&scraper)).is(403, asked);
    }
    let up = format!("https://192.168.77.{node}:10250/metrics/../pods");
    story.curl(&["--path-as-is"], Some(&scraper), &up).is(404, "is not served");
    let post = format!("https://192.168.77.{node}:10250/run/default/web/c");
    story.curl(&["-X", "POST"], Some(&lister), &post).is(403, "verb=create");
    story.get(node, "/pods", Some(&lister)).is(200, &format!("\"web-node-{node}\""));
    story.get(node, "/runningpods/", Some(&lister)).is(200, "skiff.local/toolbox");
    story.get(node, "/healthz", Some(&lister)).is(200, "ok");
    story.get(node, "/configz", Some(&lister)).is(200, "cluster.local");
    story.get(node, "/metrics", Some(&lister)).is(403, "[metrics]");
}

fn the_administrator_reads_all(story: &Story<'_>, node: u8) {
    for (path, text) in [
        ("/pods", "\"PodList\""),
        ("/stats/summary", "usageNanoCores"),
        ("/healthz", "ok"),
        ("/metrics/resource", "container_memory_working_set_bytes"),
    ] {
        story.raw(node, path).prints(text);
    }
    let web = format!("/containerLogs/default/web-node-{node}");
    let log = story.raw(node, &format!("{web}/c")).ok().stdout;
    let last = story.raw(node, &format!("{web}/c?tailLines=1")).ok().stdout;
    assert!(log.ends_with(&last) && last.lines().count() <= 1, "{log}\n---\n{last}");
    story.raw(node, &format!("{web}/x")).fails_with("NotFound");
    story.raw(node, "/containerLogs/default/none/c").fails_with("NotFound");
    story.raw(node, "/exec/default/web/c").fails_with("NotFound");
    // The same by way of the API server.
    let proxied = format!("get --raw /api/v1/nodes/node-{node}/proxy/runningpods/");
    story.server.kubectl(&proxied).prints(&format!("\"web-node-{node}\""));
}

/// Both ways between the nodes. Who says nothing is let go.
fn pods_reach_it(story: &Story<'_>) {
    for (pod, node) in [("web-node-1", 1), ("web-node-1", 2), ("web-node-2", 1)] {
        let dial = format!("exec {pod} -- toolbox tcp 192.168.77.{node}:10250");
        story.server.kubectl(&dial).ok();
    }
}

/// The agent's certificate was asked for and approved; what it asks beyond its own names
/// and addresses is not.
fn nobody_serves_under_the_name_of_another(story: &Story<'_>, agent: &Cluster) {
    let server = story.server;
    server
        .kubectl("get csr --field-selector=spec.signerName=kubernetes.io/kubelet-serving")
        .prints("Approved,Issued");
    let state = agent.data_dir().join("agent");
    let file = |name: &str| state.join(name).to_string_lossy().into_owned();
    let url = format!("--server={}", server.url());
    let as_agent = [
        "--kubeconfig=/dev/null",
        &url,
        &format!("--certificate-authority={}", story.ca),
        &format!("--client-certificate={}", file("client-kubelet.crt")),
        &format!("--client-key={}", file("client-kubelet.key")),
    ];
    for (name, san, why) in [
        ("server", "IP:192.168.77.1", "is not among the addresses"),
        ("service", "DNS:kubernetes.default.svc", "is not the name of node"),
        ("both", "DNS:node-2,IP:10.43.0.1", "is not among the addresses"),
    ] {
        let mut command = server.command("openssl");
        command.args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        command.args(["-nodes", "-keyout", "/dev/null", "-subj"]);
        command.args(["/O=system:nodes/CN=system:node:node-2", "-addext"]);
        let pem = run(command.arg(format!("subjectAltName={san}")), None).ok().stdout;
        let request = serde_json::json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": name},
            "spec": {
                "request": base64(&pem), "signerName": "kubernetes.io/kubelet-serving",
                "usages": ["digital signature", "server auth"],
            },
        });
        let made = [&as_agent[..], &["create", "-f", "-"]].concat();
        run(&mut server.kubectl_command(&made), Some(&request.to_string())).ok();
        server.kubectl(&format!("wait --for=condition=Denied csr/{name} --timeout=60s")).ok();
        server.kubectl(&format!("get csr {name} -o jsonpath={{.status}}")).prints(why);
    }
}

fn base64(text: &str) -> String {
    let done = run(Command::new("base64").arg("-w0"), Some(text));
    done.ok().stdout
}

#[test]
fn a_port_that_is_taken_is_waited_for() {
    let Some(mut cluster) = Cluster::prepare(&["--kubelet-port", "10251"]) else { return };
    let taken = cluster.in_network(|| std::net::TcpListener::bind("0.0.0.0:10251"));
    let taken = taken.expect("nobody else is here");
    cluster.start_server();
    cluster.wait_node_ready();
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let began = std::time::Instant::now();
        while !is_so() {
            assert!(began.elapsed().as_secs() < 60, "{what}:\n{}", cluster.log());
        }
    };
    let why = "choose another with --kubelet-port";
    until("nobody is told", &|| cluster.kubectl("events").ok().stdout.contains(why));
    drop(taken);
    let ready = ["--server=https://192.168.77.1:10251", "get", "--raw", "/healthz"];
    until("the port is free", &|| cluster.kubectl_args(&ready).success);
}

#[test]
fn a_node_without_a_port_has_none() {
    let Some(cluster) = Cluster::start_with(&["--kubelet-port", "0"]) else { return };
    cluster.wait_node_ready();
    let port = "get node node-1 -o jsonpath={.status.daemonEndpoints..Port}";
    cluster.kubectl(port).prints("0");
    let other = ["--server=https://192.168.77.1:10250", "get", "--raw", "/healthz"];
    cluster.kubectl_args(&other).fails_with("refused");
}

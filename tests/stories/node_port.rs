//! The port of a node, as metrics-server, Prometheus and an administrator use a
//! kubelet's: who may read what, what is run in containers, and by which certificate the
//! node is known.

use std::{fs, process::Command, time::Duration};

use futures_util::{SinkExt, StreamExt};
use http::Request;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use kube::{Client, Config, client::Body};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use spdy::{Limits, Session, Side, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

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
apiVersion: v1
kind: ServiceAccount
metadata: {name: looker}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: operator}
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
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: looker}
rules: [{apiGroups: [""], resources: [nodes/proxy], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: operator}
rules: [{apiGroups: [""], resources: [nodes/proxy], verbs: [get, create]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: looker}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: looker}
subjects: [{kind: ServiceAccount, name: looker, namespace: default}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: operator}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: operator}
subjects: [{kind: ServiceAccount, name: operator, namespace: default}]
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
    server.kubectl("wait --for=condition=Ready pod --all --timeout=180s").ok();
    let ca = server.path("ca.crt");
    let bundle = "get configmap kube-root-ca.crt -o jsonpath={.data.ca\\.crt}";
    fs::write(&ca, server.kubectl(bundle).ok().stdout).expect("our own folder");
    let story = Story { server: &server, ca: ca.to_string_lossy().into_owned() };
    for node in [1, 2] {
        a_scraper_scrapes(&story, node);
        rights_are_what_the_api_says(&story, node);
        the_administrator_reads_all(&story, node);
        sessions_are_a_kubelets(&story, node);
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
    story.raw(node, "/nonsense").fails_with("NotFound");
    // The same by way of the API server.
    let proxied = format!("get --raw /api/v1/nodes/node-{node}/proxy/runningpods/");
    story.server.kubectl(&proxied).prints(&format!("\"web-node-{node}\""));
}

/// The client of the port, as who brings his own credentials has it.
async fn client(ca: Vec<u8>, node: u8, token: &str) -> Client {
    let ca: CertificateDer<'_> = CertificateDer::from_pem_slice(&ca).expect("a certificate");
    let url = format!("https://192.168.77.{node}:10250").parse().expect("a URL");
    let mut config = Config::new(url);
    config.root_cert = Some(vec![ca.to_vec()]);
    config.auth_info.token = Some(token.to_owned().into());
    Client::try_from(config).expect("a client")
}

/// The status and the text of an answer.
async fn answered(client: &Client, method: &str, path: &str) -> (u16, String) {
    let request = Request::builder().method(method).uri(path).body(Body::empty());
    let answer = client.send(request.expect("well formed")).await.expect("an answer");
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("whole").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

/// A connection that has become one of SPDY.
async fn spdy_session(client: &Client, path: &str, protocol: &str) -> Session {
    let request = Request::post(path)
        .header("Connection", "Upgrade")
        .header("Upgrade", "SPDY/3.1")
        .header("X-Stream-Protocol-Version", protocol)
        .body(Body::empty());
    let mut answer = client.send(request.expect("well formed")).await.expect("an answer");
    assert_eq!(answer.status(), 101, "{path}");
    let io = hyper::upgrade::on(&mut answer).await.expect("upgraded");
    let (session, driver) = spdy::session(TokioIo::new(io), Side::Client, Limits::default());
    const LONG: Duration = Duration::from_secs(600);
    tokio::spawn(driver.run(LONG, LONG));
    session
}

fn opened(session: &Session, headers: &[(&str, &str)]) -> Stream {
    session.open(headers.iter().copied().collect()).expect("there is room")
}

async fn whole(mut stream: Stream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("text to its end");
    text
}

/// What is run in containers and what is forwarded to pods, in every way that clients of
/// kubelets ask for it, and not by who may only look.
fn sessions_are_a_kubelets(story: &Story<'_>, node: u8) {
    let (operator, looker) = (story.token("operator"), story.token("looker"));
    let ca = fs::read(&story.ca).expect("written above");
    let uid = format!("get pod web-node-{node} -o jsonpath={{.metadata.uid}}");
    let uid = story.server.kubectl(&uid).ok().stdout;
    story.server.in_network(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let looker = client(ca.clone(), node, &looker).await;
            let operator = client(ca, node, &operator).await;
            let web = format!("default/web-node-{node}");
            who_looks_gets_no_shell(&looker, &web).await;
            commands_are_run(&operator, &web, &uid).await;
            commands_have_sessions(&operator, &web, &uid).await;
            ports_are_forwarded(&operator, &web).await;
        });
    });
}

async fn who_looks_gets_no_shell(looker: &Client, web: &str) {
    let command = "command=toolbox&command=cat&input=1&output=1";
    let exec = Request::get(format!("/exec/{web}/c?{command}")).body(Vec::new());
    let refused = looker.connect(exec.expect("well formed")).await;
    assert!(refused.is_err(), "a WebSocket is asked for by GET, which is no reason");
    let (status, why) = answered(looker, "GET", &format!("/exec/{web}/c?{command}")).await;
    assert!(status == 403 && why.contains("verb=create"), "{status} {why}");
    let (status, _) = answered(looker, "GET", &format!("/containerLogs/{web}/c")).await;
    assert_eq!(status, 200, "what is looked at");
}

async fn commands_are_run(operator: &Client, web: &str, uid: &str) {
    for path in [format!("/run/{web}/c"), format!("/run/{web}/{uid}/c")] {
        let said = answered(operator, "POST", &format!("{path}?cmd=toolbox+hostname")).await;
        assert_eq!(said, (200, format!("{}\n", web.trim_start_matches("default/"))), "{path}");
    }
    for (method, path, status, why) in [
        ("GET", format!("/run/{web}/c?cmd=x"), 405, "Not Allowed"),
        ("POST", format!("/run/{web}/c?cmd=/no/such"), 500, "/no/such"),
        ("POST", format!("/run/{web}/none?cmd=x"), 400, "container none is not valid"),
        ("POST", format!("/run/{web}/other-uid/c?cmd=x"), 404, "does not exist"),
        ("POST", "/exec/default/none/c?output=1&command=x".to_owned(), 404, "does not exist"),
        ("POST", format!("/exec/{web}/c?output=1&command=x"), 400, "Upgrade request required"),
        ("POST", format!("/exec/{web}/c?command=x"), 400, "at least 1 of stdin"),
        ("POST", format!("/exec/{web}/c?output=1"), 400, "a command to run"),
    ] {
        let said = answered(operator, method, &path).await;
        assert!(said.0 == status && said.1.contains(why), "{method} {path}: {said:?}");
    }
}

async fn commands_have_sessions(operator: &Client, web: &str, uid: &str) {
    const CAT: &str = "command=toolbox&command=cat&input=1&output=1";
    // By a WebSocket, whose channels are the first bytes.
    for path in [format!("/exec/{web}/c?{CAT}"), format!("/exec/{web}/{uid}/c?{CAT}")] {
        let request = Request::get(&path).body(Vec::new()).expect("well formed");
        let mut socket = operator.connect(request).await.expect("a session").into_stream();
        socket.send(Message::binary(b"\0hello\n".to_vec())).await.expect("open");
        socket.send(Message::binary(vec![255, 0])).await.expect("open");
        let mut channels = [const { String::new() }; 4];
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Binary(bytes) = message {
                channels[usize::from(bytes[0])].push_str(&String::from_utf8_lossy(&bytes[1..]));
            }
        }
        assert_eq!(channels[1], "hello\n", "{path}");
        assert!(channels[3].contains("Success"), "{channels:?}");
    }
    // By SPDY.
    let session =
        spdy_session(operator, &format!("/exec/{web}/c?{CAT}"), "v4.channel.k8s.io").await;
    let stream = |kind| opened(&session, &[("streamtype", kind)]);
    let (error, mut stdin, stdout) = (stream("error"), stream("stdin"), stream("stdout"));
    stdin.write_all(b"typed\n").await.expect("open");
    stdin.shutdown().await.expect("open");
    assert_eq!(whole(stdout).await, "typed\n");
    assert!(whole(error).await.contains("Success"));
    // The container that was there before.
    let path = format!("/attach/{web}/c?output=1");
    let request = Request::get(&path).body(Vec::new()).expect("well formed");
    operator.connect(request).await.expect("attached");
}

async fn ports_are_forwarded(operator: &Client, web: &str) {
    let session =
        spdy_session(operator, &format!("/portForward/{web}"), "portforward.k8s.io").await;
    let part =
        |kind| opened(&session, &[("streamtype", kind), ("port", "8080"), ("requestid", "0")]);
    let (error, mut data) = (part("error"), part("data"));
    data.write_all(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n").await.expect("open");
    let page = whole(data).await;
    assert!(page.starts_with("HTTP/1.") && page.contains(" 200 "), "{page}");
    assert_eq!(whole(error).await, "");
    // Of a WebSocket that names its ports, each has a channel for bytes and one for errors.
    let request = Request::get(format!("/portForward/{web}?port=8080"))
        .header("Sec-WebSocket-Protocol", "v4.channel.k8s.io")
        .body(Vec::new())
        .expect("well formed");
    let mut socket = operator.connect(request).await.expect("a session").into_stream();
    let asked = b"\0GET / HTTP/1.0\r\nHost: web\r\n\r\n";
    socket.send(Message::binary(asked.to_vec())).await.expect("open");
    let mut page = Vec::new();
    while !String::from_utf8_lossy(&page).contains(" 200 ") {
        let message = socket.next().await.expect("open").expect("whole");
        if let Message::Binary(bytes) = message
            && bytes[0] == 0
        {
            page.extend_from_slice(&bytes[1..]);
        }
    }
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
        server.kubectl(&format!("wait --for=condition=Denied csr/{name} --timeout=180s")).ok();
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

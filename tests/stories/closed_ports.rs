//! A node that nobody can open a connection to, behind a firewall or a router that
//! translates: all that servers want of it goes over the connection that it opened, and
//! pods' packets as UDP.

use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{aggregation, conversion};
use crate::{
    cluster::{Run, comes_to_print, run},
    harness::{Segment, Session, World, until},
};

const SERVER: &str = "server-1";
const OPEN: &str = "agent-1";
const CLOSED: &str = "agent-2";
const NODES: [&str; 3] = [SERVER, OPEN, CLOSED];

fn web(name: &str, node: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: web}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: skiff.local/toolbox
    args: [http-echo, --port, "8080"]
    readinessProbe: {{httpGet: {{port: 8080}}, periodSeconds: 1}}
---"#
    )
}

const SERVICE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {trafficDistribution: PreferSameNode, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"#;

fn kubectl(world: &World, line: &str) -> Run {
    world.kubectl(SERVER, line)
}

fn apply(world: &World, objects: &str) {
    world.host(SERVER).kubectl(&["apply", "-f", "-"], Some(objects)).ok();
}

fn ready(world: &World, node: &str) {
    kubectl(world, &format!("wait --for=create node/{node} --timeout=180s")).ok();
    kubectl(world, &format!("wait --for=condition=Ready node/{node} --timeout=180s")).ok();
}

/// A server, and what an agent is started with.
fn server(world: &mut World) -> Vec<String> {
    world.add(SERVER, Segment::A);
    world.host_mut(SERVER).start(&["server"]);
    let url = format!("https://{}:6443", world.host(SERVER).address());
    let kubeconfig = world.host(SERVER).path("admin.yaml").to_string_lossy().into_owned();
    let token = world.host(SERVER).skiff(&["token", "create", "--kubeconfig", &kubeconfig]).ok();
    ["agent", "--server", &url, "--token", token.stdout.trim()].map(str::to_owned).to_vec()
}

fn words(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}

/// That the fault is one: a listener on the host is not reached by TCP and is by UDP, and
/// the host reaches others.
fn is_closed(world: &World) {
    const LONGEST: Duration = Duration::from_secs(2);
    const PORT: u16 = 9999;
    let address = |host: &str| -> SocketAddr {
        format!("{}:{PORT}", world.host(host).address()).parse().expect("an address")
    };
    let listen = |host: &str| {
        let all = ("0.0.0.0", PORT);
        world.host(host).network().within(|| {
            let udp = UdpSocket::bind(all).expect("free");
            udp.set_read_timeout(Some(Duration::from_secs(20))).expect("a valid time-out");
            (TcpListener::bind(all).expect("free"), udp)
        })
    };
    let connect = |from: &str, to: &str| {
        let to = address(to);
        world.host(from).network().within(move || TcpStream::connect_timeout(&to, LONGEST))
    };
    let (_tcp, udp) = listen(CLOSED);
    let _open = listen(OPEN);
    connect(OPEN, CLOSED).expect_err("nobody opens a connection to it");
    connect(CLOSED, OPEN).expect("its own are answered");
    let to = address(CLOSED);
    world.host(OPEN).network().within(move || {
        let sender = UdpSocket::bind("0.0.0.0:0").expect("any port");
        sender.send_to(b"passes", to).expect("there is a route");
    });
    let mut got = [0; 6];
    udp.recv(&mut got).expect("UDP passes");
    assert_eq!(&got, b"passes");
}

/// `kubectl port-forward` that runs, and its local port.
struct Forward(Child, String);

impl Forward {
    fn start(world: &World, to: &str, port: u16) -> Self {
        let mut command = world.host(SERVER).kubectl_command();
        let started = command.args(["port-forward", to, &format!(":{port}")]);
        let started = started.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut kubectl = started.expect("kubectl runs");
        let mut line = String::new();
        let stdout = kubectl.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("our own child");
        let port = line.split_once("127.0.0.1:").and_then(|(_, rest)| rest.split_once(' '));
        let port = port.unwrap_or_else(|| panic!("kubectl port-forward {to} says {line:?}")).0;
        let port = port.to_owned();
        Self(kubectl, port)
    }

    fn get(&self, world: &World) -> Run {
        let url = format!("http://127.0.0.1:{}/", self.1);
        let mut curl: Command = world.host(SERVER).command("curl");
        run(curl.args(["-sS", "--max-time", "20", &url]), None)
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says what it is told.
fn parrot(node: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: parrot-{node}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: c, image: skiff.local/toolbox, args: [cat], stdin: true}}
---"#
    )
}

fn is_attached_to(world: &World, pod: &str) {
    let mut kubectl = world.host(SERVER).kubectl_command();
    let mut session = Session::start(kubectl.args(["attach", "-i", "--quiet", pod]));
    for word in ["through", "the", "tunnel"] {
        session.echoes(word);
    }
}

/// What an administrator does with a pod, and with its node.
fn is_served(world: &World, pod: &str, node: &str) {
    comes_to_print(|| kubectl(world, &format!("logs {pod}")), "");
    kubectl(world, &format!("exec {pod} -- toolbox hostname")).prints(pod);
    let line = ["exec", "-i", pod, "--", "toolbox", "cat"];
    world.host(SERVER).kubectl(&line, Some("through the tunnel")).prints("through the tunnel");
    let code = kubectl(world, &format!("exec {pod} -- toolbox exit 7")).code;
    assert_eq!(code, Some(7), "{pod}");
    let forward = Forward::start(world, &format!("pod/{pod}"), 8080);
    for _ in 0..3 {
        forward.get(world).prints(pod);
    }
    let proxy = format!("get --raw /api/v1/namespaces/default/pods/{pod}:8080/proxy/");
    kubectl(world, &proxy).prints(pod);
    kubectl(world, &format!("get --raw /api/v1/nodes/{node}/proxy/healthz")).prints("ok");
    // A node measures nothing until it is asked, and a pod's use is between two looks.
    comes_to_print(|| kubectl(world, &format!("top node {node}")), node);
    comes_to_print(|| kubectl(world, &format!("top pod {pod}")), pod);
}

#[test]
fn a_node_with_every_port_closed_is_served_through_its_tunnel() {
    let Some(mut world) = World::new() else { return };
    let agent = server(&mut world);
    world.add_all(&[OPEN, CLOSED], Segment::A);
    world.close(CLOSED);
    is_closed(&world);
    for node in [OPEN, CLOSED] {
        world.host_mut(node).start(&words(&agent));
    }
    NODES.iter().for_each(|node| ready(&world, node));
    let pods: String = NODES.iter().map(|node| web(&format!("web-{node}"), node)).collect();
    apply(&world, &(pods + &parrot(CLOSED) + SERVICE));
    kubectl(&world, "wait --for=condition=Ready pod --all --timeout=180s").ok();
    for node in [CLOSED, OPEN] {
        is_served(&world, &format!("web-{node}"), node);
    }
    is_attached_to(&world, &format!("parrot-{CLOSED}"));
    // From each node, and so from the closed one, the endpoint there answers.
    for node in NODES {
        let line = format!("exec web-{node} -- toolbox get --timeout 5 http://web/");
        let nearest = format!("web-{node}");
        comes_to_print(|| kubectl(&world, &line), &nearest);
        for _ in 0..5 {
            kubectl(&world, &line).prints(&nearest);
        }
    }
    // A server's Service leads there by no port of the node's either.
    let proxy = "get --raw /api/v1/namespaces/default/services/web:80/proxy/";
    comes_to_print(|| kubectl(&world, proxy), &format!("web-{CLOSED}"));
    servers_ask_pods_there(&world);
}

/// Refuses ConfigMaps with an unwanted key.
const HOOK: &str = r#"
---
apiVersion: v1
kind: Service
metadata: {name: hook, namespace: wardle}
spec: {selector: {app: api}, ports: [{port: 443, targetPort: 9444}]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: hook}
webhooks:
- name: hook.example.com
  rules: [{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [configmaps]}]
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}
  sideEffects: None
  admissionReviewVersions: [v1]
  clientConfig: {caBundle: CA, service: {name: hook, namespace: wardle, path: /configmaps}}
"#;

/// An aggregated API and a webhook, in containers of one pod on the closed node.
fn servers_ask_pods_there(world: &World) {
    if !aggregation::has_python() {
        return;
    }
    let dir = world.host(SERVER).path(".");
    let names = "api.wardle.svc,DNS:hook.wardle.svc";
    let Some(()) = conversion::certificates(&dir, names) else { return };
    kubectl(world, "create namespace wardle").ok();
    let (cert, key) = (dir.join("tls.crt"), dir.join("tls.key"));
    let (cert, key) = (cert.to_string_lossy(), key.to_string_lossy());
    let secret = format!("create secret tls api -n wardle --cert={cert} --key={key}");
    kubectl(world, &secret).ok();
    let ca = std::fs::read(dir.join("ca.crt")).expect("openssl wrote it");
    let ca = STANDARD.encode(ca);
    let objects = aggregation::objects();
    let (head, api) = objects.split_once("      - name: api\n").expect("a container");
    let hook = api
        .replace("extension.py, \"9443\"", "hooks.py, \"0.0.0.0\", \"9444\"")
        .replace("path: /healthz, port: 9443", "path: /, port: 9444");
    let head = head.replace(
        "      serviceAccountName",
        &format!("      nodeName: {CLOSED}\n      serviceAccountName"),
    );
    let both = format!("{head}      - name: hook\n{hook}      - name: api\n{api}");
    apply(world, &both);
    kubectl(world, "rollout status deployment/api -n wardle --timeout=180s").ok();
    kubectl(world, "get pods -n wardle -l app=api -o wide").prints(CLOSED);

    let version = aggregation::registered("wardle.example.com", "v1alpha1", &ca);
    apply(world, &version);
    let available = "wait --for=condition=Available apiservice/v1alpha1.wardle.example.com";
    kubectl(world, &format!("{available} --timeout=180s")).ok();
    let flunder = "apiVersion: wardle.example.com/v1alpha1\nkind: Flunder\nmetadata: {name: far}\nspec: {value: '1'}\n";
    apply(world, flunder);
    kubectl(world, "get flunder far -o jsonpath={.spec.value}").prints("1");

    apply(world, &HOOK.replace("CA", &ca));
    let refused = "create configmap unwanted --from-literal=webhook-e2e-test=a --dry-run=server";
    until("the webhook is asked", || {
        let run = kubectl(world, refused);
        run.stderr.contains("the configmap contains unwanted key and value")
    });
    kubectl(world, "create configmap wanted --from-literal=a=1").prints("created");
}

#[test]
fn a_machine_that_was_installed_anew_gets_its_name_back() {
    let Some(mut world) = World::new() else { return };
    let agent = server(&mut world);
    world.add(CLOSED, Segment::A);
    world.close(CLOSED);
    world.host_mut(CLOSED).start(&words(&agent));
    ready(&world, CLOSED);
    apply(&world, &web("before", CLOSED));
    kubectl(&world, "wait --for=condition=Ready pod/before --timeout=180s").ok();

    world.reinstall(CLOSED);
    world.close(CLOSED);
    let refused = world.host(CLOSED).refused(&words(&agent));
    refused.fails_with(&format!(
        "if it is the same machine, installed anew, or if it replaces the old one, \
         remove the old node first: kubectl delete node {CLOSED}"
    ));
    kubectl(&world, &format!("delete node {CLOSED}")).ok();
    world.host_mut(CLOSED).start(&words(&agent));
    ready(&world, CLOSED);
    apply(&world, &web("after", CLOSED));
    kubectl(&world, "wait --for=condition=Ready pod/after --timeout=180s").ok();
    is_served(&world, "after", CLOSED);
    // A pod is bound to a name: that of before runs anew on the machine that has it now.
    comes_to_print(|| kubectl(&world, "exec before -- toolbox hostname"), "before");
}

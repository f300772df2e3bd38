//! Machines that join, and pods that talk across them: a server and an agent on
//! one segment, another agent behind a router.

use serde_json::Value;

use crate::{
    cluster::{Run, comes_to_print, run},
    harness::{Segment, World},
};

const SERVER: &str = "server-1";
const NEAR: &str = "agent-1";
const FAR: &str = "agent-2";
const NODES: [&str; 3] = [SERVER, NEAR, FAR];

/// One pod a node, behind one Service; the pod's name says which node it is on.
fn web() -> String {
    let pod = |node: &str| {
        format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: web-{node}, labels: {{app: web}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: skiff.local/toolbox
    args: [http-echo, --port, "8080"]
    readinessProbe: {{httpGet: {{port: 8080}}, periodSeconds: 1}}
---"#
        )
    };
    NODES.iter().map(|node| pod(node)).collect::<String>()
        + r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
---
apiVersion: v1
kind: Service
metadata: {name: balanced}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: web}, ports: [{port: 8088, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: pods}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 8080}]}
"#
}

fn kubectl(world: &World, line: &str) -> Run {
    world.kubectl(SERVER, line)
}

fn token(world: &World, flags: &[&str]) -> String {
    let kubeconfig = world.host(SERVER).path("admin.yaml");
    let kubeconfig = kubeconfig.to_string_lossy();
    let args = [&["token", "create", "--kubeconfig", &kubeconfig][..], flags].concat();
    world.host(SERVER).skiff(&args).ok().stdout.trim().to_owned()
}

fn url(world: &World) -> String {
    format!("https://{}:6443", world.host(SERVER).address())
}

fn get(world: &World, what: &str) -> Value {
    let run = kubectl(world, &format!("get {what} -o json")).ok();
    serde_json::from_str(&run.stdout).expect("kubectl prints JSON")
}

fn ready(world: &World, node: &str) {
    kubectl(world, &format!("wait --for=create node/{node} --timeout=180s")).ok();
    kubectl(world, &format!("wait --for=condition=Ready node/{node} --timeout=180s")).ok();
}

fn pod_ip(world: &World, pod: &str) -> String {
    get(world, &format!("pod {pod}"))["status"]["podIP"].as_str().expect("it has one").to_owned()
}

/// What a pod gets from an address.
fn ask(world: &World, from: &str, url: &str) -> Run {
    kubectl(world, &format!("exec web-{from} -- toolbox get --timeout 5 {url}"))
}

/// Every pod asks every pod, and the Service by name. Nodes learn of each other and of
/// what is ready a moment after it is told.
fn everybody_talks(world: &World) {
    for from in NODES {
        for to in NODES {
            let ip = pod_ip(world, &format!("web-{to}"));
            let url = format!("http://{ip}:8080/");
            comes_to_print(|| ask(world, from, &url), &format!("web-{to}"));
        }
        let service = "http://web.default.svc.cluster.local/";
        comes_to_print(|| ask(world, from, service), "web-");
    }
}

#[test]
fn machines_join_and_their_pods_talk() {
    let Some(mut world) = World::new() else { return };
    world.add(SERVER, Segment::A);
    world.add(NEAR, Segment::A);
    world.add(FAR, Segment::B);
    world.host_mut(SERVER).start(&["server"]);
    let url = url(&world);
    let good = token(&world, &["--description", "rack one"]);
    wrong_tokens(&world, &url, &good);

    for agent in [NEAR, FAR] {
        world.host_mut(agent).start(&["agent", "--server", &url, "--token", &good]);
    }
    for node in NODES {
        ready(&world, node);
    }
    let nodes = get(&world, "nodes");
    let shares: std::collections::BTreeSet<&str> = nodes["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| node["spec"]["podCIDR"].as_str())
        .collect();
    assert_eq!(shares.len(), 3, "a share each: {shares:?}");
    two_machines_of_one_name(&mut world, &url, &good);

    let applied = world.host(SERVER).kubectl(&["apply", "-f", "-"], Some(&web()));
    applied.ok();
    kubectl(&world, "wait --for=condition=Ready pod -l app=web --timeout=180s").ok();
    everybody_talks(&world);
    services(&world);
    streams(&world);

    // The agents remember: no token, no server's address, the same containers.
    let containers = |world: &World| {
        let line =
            "get pods -l app=web -o jsonpath={.items[*].status.containerStatuses[*].containerID}";
        kubectl(world, line).ok().stdout
    };
    let before = containers(&world);
    world.host_mut(NEAR).kill();
    world.host_mut(NEAR).start(&["agent"]);
    assert_eq!(containers(&world), before);
    // Its tunnel is made anew a moment after it runs.
    wait_for(&world, "logs web-agent-1 --tail=1", |run| run.success);
    everybody_talks(&world);

    world.change_address(NEAR, 40);
    wait_for(&world, "get node agent-1 -o jsonpath={.status.addresses[0].address}", |run| {
        run.stdout == "192.168.77.40"
    });
    wait_for(&world, "exec web-agent-2 -- toolbox get --timeout 2 http://web/", |run| run.success);
    wait_for(&world, "logs web-agent-1 --tail=1", |run| run.success);
    everybody_talks(&world);
    tokens_are_listed_and_revoked(&world, &good);
}

/// Asks again until it is so; the story's time limit is the runner's.
fn wait_for(world: &World, line: &str, done: impl Fn(&Run) -> bool) {
    let began = std::time::Instant::now();
    loop {
        let run = kubectl(world, line);
        if done(&run) {
            return;
        }
        assert!(began.elapsed().as_secs() < 60, "{line}:\n{}{}", run.stdout, run.stderr);
    }
}

fn wrong_tokens(world: &World, url: &str, good: &str) {
    let near = world.host(NEAR);
    let join =
        |server: &str, token: &str| near.refused(&["agent", "--server", server, "--token", token]);
    let (hash, secret) = (good.split('.').nth(1).expect("a hash"), &good[good.len() - 16..]);
    let create = "skiff token create";
    join(url, "secret").fails_with(create);
    join(url, &good.replace(secret, "0123456789abcdef")).fails_with("does not accept the token");
    join(url, &good.replace(hash, &"ab".repeat(32))).fails_with("of another cluster");
    let expired = token(world, &["--ttl", "1s"]);
    let listed = |world: &World| {
        let kubeconfig = world.host(SERVER).path("admin.yaml");
        let args = ["token", "list", "--kubeconfig", &kubeconfig.to_string_lossy()];
        world.host(SERVER).skiff(&args).ok().stdout
    };
    // It is cleaned away once it has expired.
    let id = expired.split('.').nth(2).expect("an ID").to_owned();
    let began = std::time::Instant::now();
    while listed(world).contains(&id) {
        assert!(began.elapsed().as_secs() < 60, "an expired token is deleted");
    }
    join(url, &expired).fails_with(create);
    join("192.168.77.1:6443", good).fails_with("is not a URL");
    let refused = near.refused(&["agent"]);
    refused.fails_with("skiff agent --server https://SERVER:6443 --token TOKEN");
    assert!(!near.path("data/agent/client-kubelet.crt").exists(), "nothing was given out");
}

fn two_machines_of_one_name(world: &mut World, url: &str, good: &str) {
    world.add("impostor", Segment::A);
    let impostor = world.host("impostor");
    for name in [NEAR, SERVER] {
        let refused =
            impostor.refused(&["agent", "--server", url, "--token", good, "--node-name", name]);
        refused.fails_with(&format!("kubectl delete node {name}"));
    }
}

fn services(world: &World) {
    // The nodes balance: each serves its own pod, and says that it has one.
    let ingress = "get service balanced -o jsonpath={.status.loadBalancer.ingress[*].ip}";
    wait_for(world, ingress, |run| run.stdout.split_whitespace().count() == NODES.len());
    let health = get(world, "service balanced")["spec"]["healthCheckNodePort"].clone();
    for node in NODES {
        let address = world.host(node).address();
        // From outside: a node would take the short way to a pod of its own.
        let curl = |url: &str| {
            let mut command = world.host("impostor").command("curl");
            run(command.args(["-sS", "--max-time", "5", url]), None)
        };
        let balanced = format!("http://{address}:8088/");
        comes_to_print(|| curl(&balanced), &format!("web-{node}"));
        let health = format!("http://{address}:{health}/");
        comes_to_print(|| curl(&health), "\"localEndpoints\":1");
    }
    // From each node itself, by the Service's address and by a node port of each.
    let ip = get(world, "service web")["spec"]["clusterIP"].as_str().expect("one").to_owned();
    for node in NODES {
        let host = world.host(node);
        let mut addresses = vec![format!("http://{ip}/")];
        addresses
            .extend(NODES.map(|other| format!("http://{}:30080/", world.host(other).address())));
        for address in addresses {
            let curl =
                || run(host.command("curl").args(["-sS", "--max-time", "5", &address]), None);
            comes_to_print(curl, "web-");
        }
        let dns = format!("exec web-{node} -- toolbox dns --short pods.default.svc.cluster.local");
        comes_to_print(|| kubectl(world, &dns), "10.42.");
    }
}

/// Through the tunnel: servers need no port of the agents.
fn streams(world: &World) {
    for node in [NEAR, FAR] {
        kubectl(world, &format!("exec web-{node} -- toolbox hostname"))
            .prints(&format!("web-{node}"));
        let run = world.host(SERVER).kubectl(
            &["exec", "-i", &format!("web-{node}"), "--", "toolbox", "cat"],
            Some("through the tunnel"),
        );
        run.prints("through the tunnel");
        let run = kubectl(world, &format!("exec web-{node} -- toolbox exit 7"));
        assert_eq!(run.code, Some(7), "{}", run.stderr);
        kubectl(world, &format!("logs web-{node}")).ok();
        kubectl(
            world,
            &format!("get --raw /api/v1/namespaces/default/pods/web-{node}:8080/proxy/"),
        )
        .prints(&format!("web-{node}"));
    }
}

fn tokens_are_listed_and_revoked(world: &World, good: &str) {
    let server = world.host(SERVER);
    let kubeconfig = server.path("admin.yaml").to_string_lossy().into_owned();
    let skiff = |words: &[&str]| {
        server.skiff(&[&["token"][..], words, &["--kubeconfig", &kubeconfig]].concat())
    };
    let id = good.split('.').nth(2).expect("an ID");
    skiff(&["list"]).prints("rack one");
    let new = skiff(&["rotate", id]).ok().stdout;
    assert!(new.starts_with("skiff1.") && !new.contains(id), "{new}");
    skiff(&["delete", id]).fails_with("there is no token");
    skiff(&["delete", new.trim()]).prints("deleted");
    assert!(!skiff(&["list"]).ok().stdout.contains("rack one"));
    // The server's own is in a file, which has the new one.
    let file = server.path("data/server/token");
    let read = || std::fs::read_to_string(&file).expect("a server has it");
    let own = read();
    let run = skiff(&["rotate", own.split('.').nth(2).expect("an ID")]).ok();
    assert!(run.stderr.contains("has the new one") && run.stdout != own, "{}", run.stderr);
    assert_eq!(read(), run.stdout);
}

#[test]
fn a_silent_node_loses_its_pods_and_comes_back() {
    let Some(mut world) = World::new() else { return };
    world.add(SERVER, Segment::A);
    world.add(NEAR, Segment::A);
    world.host_mut(SERVER).start(&["server"]);
    let (url, good) = (url(&world), token(&world, &[]));
    world.host_mut(NEAR).start(&["agent", "--server", &url, "--token", &good]);
    ready(&world, NEAR);
    let spread = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        nodeAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - weight: 100
            preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [agent-1]}]}
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
      containers: [{name: web, image: skiff.local/toolbox, args: [http-echo, --port, "8080"]}]
"#;
    world.host(SERVER).kubectl(&["apply", "-f", "-"], Some(spread)).ok();
    kubectl(&world, "rollout status deployment/web --timeout=180s").ok();
    let on = |world: &World| {
        kubectl(
            world,
            "get pods -l app=web -o jsonpath={range.items[*]}{.spec.nodeName}{.status.phase}{end}",
        )
        .ok()
        .stdout
    };
    assert!(on(&world).contains("agent-1"), "{}", on(&world));
    world.power_off(NEAR);
    kubectl(&world, "wait --for=condition=Ready=Unknown node/agent-1 --timeout=180s").ok();
    wait_for(&world, "get pods -l app=web -o wide", |run| run.stdout.contains(SERVER));
    kubectl(&world, "rollout status deployment/web --timeout=180s").ok();
    world.power_on(NEAR);
    world.host_mut(NEAR).wait_ready();
    ready(&world, NEAR);
    // What was evicted meanwhile goes, and the node takes pods again.
    wait_for(&world, "get pods -l app=web -o name", |run| run.stdout.lines().count() == 1);
    kubectl(&world, "delete pod -l app=web --wait=false").ok();
    kubectl(&world, "rollout status deployment/web --timeout=180s").ok();
}

//! The cluster's CAs and token keys are replaced while three servers and two agents
//! run: no pod notices, who knows the old CA only is served until it is dropped.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{
    cluster::Run,
    harness::{Segment, World},
};

const SERVERS: [&str; 3] = ["server-1", "server-2", "server-3"];
const FIRST: &str = SERVERS[0];
const AGENT: &str = "agent-1";

const WORKLOAD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  nodeName: agent-1
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: skiff.local/toolbox
    args: [http-echo, --port, "8080"]
    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  nodeName: server-2
  terminationGracePeriodSeconds: 1
  containers:
  - {name: ask, image: skiff.local/toolbox, args: [get, --loop, "100000000", --every, "20", "http://10.43.0.77/"]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.43.0.77, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"#;

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(90), "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn rotate(world: &World, server: &str, words: &[&str]) -> Run {
    let host = world.host(server);
    let (data, kubeconfig) = (host.path("data"), host.path("admin.yaml"));
    let flags =
        ["--data-dir", &data.to_string_lossy(), "--kubeconfig", &kubeconfig.to_string_lossy()]
            .map(str::to_owned);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    host.skiff(&[&["certificate", "rotate-ca"], words, &flags].concat())
}

/// What the asking pod could not get, on its host's disk.
fn failures(world: &World) -> Vec<String> {
    let pods = world.host(SERVERS[1]).path("data/log/pods");
    let folders = fs::read_dir(pods).into_iter().flatten().flatten();
    let client = folders
        .filter(|folder| folder.file_name().to_string_lossy().starts_with("default_client_"));
    let logs =
        client.flat_map(|folder| fs::read_dir(folder.path().join("ask")).into_iter().flatten());
    let texts = logs.flatten().filter_map(|log| fs::read_to_string(log.path()).ok());
    texts
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| line.contains(" stderr "))
        .collect()
}

fn containers(world: &World) -> String {
    let line =
        "get pods web client -o jsonpath={.items[*].status.containerStatuses[*].containerID}";
    world.kubectl(FIRST, line).ok().stdout
}

fn data(world: &World, host: &str, file: &str) -> String {
    fs::read_to_string(world.host(host).path("data").join(file)).expect(file)
}

/// How many CAs a pod trusts.
fn told(world: &World) -> usize {
    let bundle = world.kubectl(FIRST, "get configmap kube-root-ca.crt -o jsonpath={.data}");
    bundle.stdout.matches("BEGIN CERTIFICATE").count()
}

/// Every server answers, and reaches the pods of every node.
fn all_works(world: &World) {
    for server in SERVERS {
        for pod in ["web", "client"] {
            let line = format!("exec {pod} -- toolbox hostname");
            until(&format!("{server} reaches {pod}"), || {
                world.kubectl(server, &line).stdout.contains(pod)
            });
        }
        world.kubectl(server, &format!("label pod web by={server} --overwrite")).ok();
    }
    world.kubectl(FIRST, "wait --for=condition=Ready node --all --timeout=60s").ok();
}

#[test]
fn the_cas_are_replaced_while_all_runs() {
    let Some(mut world) = World::new() else { return };
    for host in SERVERS.iter().chain(&[AGENT, "agent-2", "agent-3"]) {
        world.add(host, Segment::A);
    }
    world.host_mut(FIRST).start(&["server"]);
    let first = data(&world, FIRST, "server/token").trim().to_owned();
    let url = format!("https://{}:6443", world.host(FIRST).address());
    for host in &SERVERS[1..] {
        world.host_mut(host).start(&["server", "--server", &url, "--token", &first]);
    }
    world.host_mut(AGENT).start(&["agent", "--server", &url, "--token", &first]);
    for node in SERVERS.iter().chain(&[AGENT]) {
        world.kubectl(FIRST, &format!("wait --for=create node/{node} --timeout=90s")).ok();
    }
    world.kubectl(FIRST, "wait --for=condition=Ready node --all --timeout=90s").ok();
    world.host(FIRST).kubectl(&["apply", "-f", "-"], Some(WORKLOAD)).ok();
    world.kubectl(FIRST, "wait --for=condition=Ready pod --all --timeout=60s").ok();
    let (before, unserved) = (containers(&world), failures(&world).len());
    let admin = world.host(FIRST).path("admin.yaml");
    let old = world.host(FIRST).path("old.yaml");
    fs::copy(&admin, &old).expect("our own folder");
    let as_before = format!("--kubeconfig {} get nodes", old.display());

    rotate(&world, FIRST, &["status"]).prints("no rotation of the CAs is under way");
    rotate(&world, FIRST, &["finish"]).fails_with("begin one with");
    rotate(&world, FIRST, &["now"]).fails_with("say `rotate-ca`");
    rotate(&world, FIRST, &[])
        .prints("all servers and agents are there")
        .prints("/sign: all servers")
        .prints("skiff certificate rotate-ca finish");
    rotate(&world, SERVERS[2], &["status"])
        .prints("the new CAs sign; the old ones are trusted")
        .prints("all agents are there");
    all_works(&world);
    let signing = data(&world, FIRST, "server/tls/server-ca.key");
    for server in &SERVERS[1..] {
        assert_eq!(data(&world, server, "server/tls/server-ca.key"), signing, "{server}");
    }
    // Who has nothing but what there was before: a kubeconfig, a join token.
    world.kubectl(FIRST, &as_before).prints(AGENT);
    assert_ne!(fs::read(&admin).expect("there"), fs::read(&old).expect("there"));
    until("pods are told of both", || told(&world) == 2);
    world.host_mut("agent-2").start(&["agent", "--server", &url, "--token", &first]);
    world.kubectl(FIRST, "wait --for=create node/agent-2 --timeout=60s").ok();
    rotate(&world, FIRST, &["finish"]).fails_with("are renewed within an hour");

    // From another server than it was begun on.
    rotate(&world, SERVERS[1], &["finish", "now"]).prints("trusted by nobody any more");
    all_works(&world);
    until("pods are told of the new one", || told(&world) == 1);
    world.kubectl(FIRST, &as_before).fails_with("x509");
    assert_eq!(data(&world, FIRST, "server/tls/server-ca.key"), signing);
    assert_eq!(
        data(&world, AGENT, "agent/server-ca.crt"),
        data(&world, FIRST, "server/tls/server-ca.crt")
    );
    // The folder of a new machine shows that the token of before is of no use, and an
    // agent whose service still has it starts all the same.
    world
        .host("agent-3")
        .refused(&["agent", "--server", &url, "--token", &first])
        .fails_with("has another CA than the token says");
    let second = data(&world, FIRST, "server/token").trim().to_owned();
    assert_ne!(first, second);
    world.host_mut("agent-3").start(&["agent", "--server", &url, "--token", &second]);
    world.kubectl(FIRST, "wait --for=create node/agent-3 --timeout=60s").ok();
    let agent = world.host_mut(AGENT);
    agent.kill();
    agent.start_again();
    agent.wait_ready();
    all_works(&world);
    assert_eq!(containers(&world), before, "the same containers");
    let failed = failures(&world);
    assert_eq!(failed.len(), unserved, "{:#?}", &failed[unserved..]);
    rotate(&world, FIRST, &["status"]).prints("no rotation of the CAs is under way");
}

//! Bytes to and from containers with every kubectl on the machine: until 1.28
//! they speak SPDY, since 1.31 WebSockets, and in between a mixture. And
//! requests that are passed on to pods.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, Stdio},
    sync::{Condvar, Mutex},
};

use crate::{
    cluster::{Cluster, comes_to_print, kubectls},
    harness::Session,
};

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: c, image: skiff.local/toolbox, args: [http-echo, --port, '8080', --text, hi], readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"#;

fn start() -> Option<Cluster> {
    let cluster = Cluster::start()?;
    cluster.apply(WEB).ok();
    cluster.kubectl("rollout status deployment/web --timeout=180s").ok();
    Some(cluster)
}

/// `kubectl port-forward` that runs, and the local port it has taken.
struct Forward {
    kubectl: Child,
    port: String,
}

impl Forward {
    fn start(cluster: &Cluster, kubectl: &Path, to: &str, port: u16) -> Self {
        let ports = format!(":{port}");
        let mut command = cluster.command_of(kubectl, &["port-forward", to, &ports]);
        let started = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut kubectl = started.expect("kubectl runs");
        let mut line = String::new();
        let stdout = kubectl.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("our own child");
        let port = line
            .split_once("127.0.0.1:")
            .and_then(|(_, rest)| rest.split_once(' '))
            .map(|(port, _)| port.to_owned());
        let Some(port) = port else {
            let mut why = String::new();
            let stderr = kubectl.stderr.as_mut().expect("piped");
            stderr.read_to_string(&mut why).expect("our own child");
            panic!("kubectl port-forward {to} says {line}{why}");
        };
        Self { kubectl, port }
    }

    /// What HTTP answers through it; empty where nobody does.
    fn get(&self, cluster: &Cluster) -> String {
        let url = format!("http://127.0.0.1:{}/", self.port);
        let output = cluster.command("curl").args(["-s", &url]).output().expect("curl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Ends it, and tells what it complained of.
    fn end(mut self) -> String {
        self.kubectl.kill().expect("our own child");
        let mut said = String::new();
        let stderr = self.kubectl.stderr.as_mut().expect("piped");
        stderr.read_to_string(&mut said).expect("our own child");
        said
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}

#[test]
fn every_kubectl_runs_commands_and_copies_files() {
    let Some(cluster) = start() else { return };
    let file = cluster.path("file");
    let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    std::fs::write(&file, &bytes).expect("our own folder");
    let pod = cluster.kubectl("get pod -l app=web -o jsonpath={.items[0].metadata.name}");
    let pod = pod.ok().stdout;
    for kubectl in kubectls() {
        let run = |line: &str, input| cluster.run_of(&kubectl, line, input);
        run("exec deployment/web -- toolbox echo one two", None).prints("one two");
        run("exec -i deployment/web -- toolbox cat", Some("through stdin")).prints("through stdin");
        let seven = run("exec deployment/web -- toolbox exit 7", None);
        assert_eq!(seven.code, Some(7), "{seven:?}");
        run("exec deployment/web -- nope", None).fails_with("executable file not found");
        run(&format!("cp {} {pod}:/tmp/file", file.display()), None).ok();
        let back = cluster.path("back");
        run(&format!("cp {pod}:/tmp/file {}", back.display()), None).ok();
        let copied = std::fs::read(&back).expect("copied back");
        assert!(copied == bytes, "{} bytes came back", copied.len());
        run("logs deployment/web", None).ok();
    }
}

#[test]
fn every_kubectl_attaches_to_a_container() {
    let Some(cluster) = Cluster::start() else { return };
    for (i, kubectl) in kubectls().iter().enumerate() {
        let line = format!(
            "run cat{i} -i --quiet --rm --restart=Never --image=skiff.local/toolbox -- cat"
        );
        cluster.run_of(kubectl, &line, Some("typed\n")).prints("typed");
    }
}

#[test]
fn every_kubectl_forwards_ports() {
    let Some(cluster) = start() else { return };
    let pod = cluster.kubectl("get pod -l app=web -o name").ok().stdout;
    for kubectl in kubectls() {
        for (to, port) in [(pod.trim(), 8080), ("deployment/web", 8080), ("service/web", 80)] {
            let forward = Forward::start(&cluster, &kubectl, to, port);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| assert!(forward.get(&cluster).contains("hi"), "{to}"));
                }
            });
            assert_eq!(forward.end(), "", "{kubectl:?} {to}");
        }
        let forward = Forward::start(&cluster, &kubectl, "deployment/web", 9);
        assert_eq!(forward.get(&cluster), "");
        let said = forward.end();
        assert!(said.contains("connect: connection refused"), "{kubectl:?} says {said}");
    }
}

#[test]
fn requests_are_passed_on_to_pods_and_services() {
    let Some(cluster) = start() else { return };
    let pod = cluster.kubectl("get pod -l app=web -o jsonpath={.items[0].metadata.name}");
    let pod = pod.ok().stdout;
    let raw = |path: &str| cluster.kubectl(&format!("get --raw /api/v1/namespaces/default/{path}"));
    // The Service has its endpoints a moment after its pods are ready.
    comes_to_print(|| raw("services/web:80/proxy/"), "hi");
    raw("services/http:web:80/proxy/").prints("hi");
    raw(&format!("pods/{pod}:8080/proxy/")).prints("hi");
    raw(&format!("pods/{pod}:9/proxy/")).fails_with("connect: connection refused");
    raw("services/web:81/proxy/").fails_with("no service port 81 found for service");
    cluster.kubectl("get --raw /api/v1/nodes/node-1/proxy/healthz").prints("ok");
    cluster.kubectl("cluster-info").prints("Kubernetes control plane");
    // TLS that the pod speaks itself: the API server behind its own Service.
    raw("services/https:kubernetes:443/proxy/version").prints("gitVersion");

    let mut command = cluster.kubectl_command(&["proxy", "--port=0"]);
    let mut proxy = command.stdout(Stdio::piped()).spawn().expect("kubectl runs");
    let mut line = String::new();
    BufReader::new(proxy.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
    let (_, address) = line.trim().rsplit_once(' ').expect("where it serves");
    let url = format!("http://{address}/api/v1/namespaces/default/services/web:80/proxy");
    let output = cluster.command("curl").args(["-sL", &url]).output().expect("curl");
    proxy.kill().expect("our own child");
    proxy.wait().expect("our own child");
    let body = String::from_utf8_lossy(&output.stdout);
    assert!(body.contains("hi"), "the redirect to a slash is followed: {body}");
}

#[test]
fn clients_that_do_not_read_cost_no_memory() {
    let Some(cluster) = start() else { return };
    let resident_kb = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.server_pid()));
        let status = status.expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    let before = resident_kb();
    let mut clients: Vec<Child> = kubectls()
        .iter()
        .map(|kubectl| {
            let args = ["exec", "deployment/web", "--", "toolbox", "cat", "/dev/zero"];
            let started = cluster.command_of(kubectl, &args).stdout(Stdio::piped()).spawn();
            started.expect("kubectl runs")
        })
        .collect();
    for client in &mut clients {
        // It runs, and from then on nobody reads.
        let mut some = vec![0; 1 << 20];
        client.stdout.as_mut().expect("piped").read_exact(&mut some).expect("zeros");
    }
    for _ in 0..10 {
        // Meanwhile others are answered.
        cluster.kubectl("get pods -A").ok();
    }
    let grown_kb = resident_kb().saturating_sub(before);
    for client in &mut clients {
        client.kill().expect("our own child");
        client.wait().expect("our own child");
    }
    let max_kb = 2048 * clients.len() as u64 + 16_384;
    assert!(grown_kb < max_kb, "{} clients cost {grown_kb} kB", clients.len());
}

/// Says again what it is told, by its log too.
const PARROT: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: parrot}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: skiff.local/toolbox, args: [cat], stdin: true, stdinOnce: true}
"#;

/// How far a reader is: whoever writes keeps near, since files that are rotated away
/// are not kept for ever.
#[derive(Default)]
struct Progress(Mutex<usize>, Condvar);

impl Progress {
    fn reached(&self, line: usize) {
        *self.0.lock().expect("no panic") = line;
        self.1.notify_all();
    }

    fn wait_for(&self, line: usize) {
        let read = self.0.lock().expect("no panic");
        drop(self.1.wait_while(read, |read| *read < line).expect("no panic"));
    }
}

/// `SKIFF_LOG_BYTES=1000000000` for more than fits into all files that are kept.
#[test]
fn a_log_is_followed_through_rotations_and_no_line_is_lost_or_doubled() {
    const LINE: usize = 1000;
    /// Less than a file, so that the beginning is there when the reader comes.
    const AHEAD: usize = 8000;
    let bytes = std::env::var("SKIFF_LOG_BYTES");
    let bytes: usize = bytes.map_or(50_000_000, |text| text.parse().expect("a number of bytes"));
    let lines = bytes / LINE;
    let Some(cluster) = Cluster::start() else { return };
    cluster.apply(PARROT).ok();
    cluster.kubectl("wait --for=condition=Ready pod/parrot --timeout=180s").ok();
    let mut command = cluster.kubectl_command(&["logs", "-f", "parrot"]);
    let mut reader = command.stdout(Stdio::piped()).spawn().expect("kubectl runs");
    let mut command = cluster.kubectl_command(&["attach", "-i", "parrot"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut writer = command.spawn().expect("kubectl runs");
    let (mut input, mut echo) =
        (writer.stdin.take().expect("piped"), writer.stdout.take().expect("piped"));
    let progress = Progress::default();
    std::thread::scope(|scope| {
        scope.spawn(|| std::io::copy(&mut echo, &mut std::io::sink()).expect("our own child"));
        scope.spawn(|| {
            for number in 0..lines {
                if number % 1000 == 0 {
                    progress.wait_for(number.saturating_sub(AHEAD));
                }
                writeln!(input, "{number:0width$}", width = LINE - 1).expect("kubectl takes it");
            }
            drop(input);
        });
        let log = BufReader::with_capacity(1 << 20, reader.stdout.take().expect("piped"));
        let mut read = 0;
        for line in log.lines() {
            let line = line.expect("text");
            if line.parse() != Ok(read) {
                // Who writes must not wait for ever.
                progress.reached(usize::MAX);
                panic!("line {read} is {}", line.trim_start_matches('0'));
            }
            read += 1;
            progress.reached(read);
        }
        progress.reached(usize::MAX);
        assert_eq!(read, lines);
    });
    for child in [&mut reader, &mut writer] {
        assert!(child.wait().expect("our own child").success());
    }
    cluster.kubectl("wait --for=jsonpath={.status.phase}=Succeeded pod/parrot --timeout=180s").ok();
    let uid = cluster.kubectl("get pod parrot -o jsonpath={.metadata.uid}").ok().stdout;
    let dir = cluster.data_dir().join(format!("log/pods/default_parrot_{uid}/c"));
    let files = std::fs::read_dir(dir).expect("the pod's logs").count();
    assert!(files > 3, "it was rotated: {files} files");
}

#[test]
fn ten_sessions_and_ten_followers_at_once() {
    const LINES: usize = 200;
    let Some(cluster) = Cluster::start() else { return };
    let talker = PARROT.replace("[cat]", "[count, --every, '5']").replace("parrot", "talker");
    cluster.apply(&talker).ok();
    cluster.kubectl("wait --for=condition=Ready pod/talker --timeout=180s").ok();
    let follow = || {
        let mut command = cluster.kubectl_command(&["logs", "-f", "talker"]);
        let mut kubectl = command.stdout(Stdio::piped()).spawn().expect("kubectl runs");
        let log = BufReader::new(kubectl.stdout.take().expect("piped"));
        let lines: Vec<String> = log.lines().take(LINES).map(|line| line.expect("text")).collect();
        kubectl.kill().expect("our own child");
        kubectl.wait().expect("our own child");
        assert!(
            lines.iter().enumerate().all(|(n, line)| *line == (n + 1).to_string()),
            "{lines:?}"
        );
    };
    let talk = |session: usize| {
        let args = ["exec", "-i", "talker", "--", "toolbox", "cat"];
        let mut exec = Session::start(&mut cluster.kubectl_command(&args));
        (0..LINES).for_each(|number| exec.echoes(&format!("{session} {number}")));
        exec.end();
    };
    std::thread::scope(|scope| {
        for session in 0..10 {
            let talk = &talk;
            scope.spawn(follow);
            scope.spawn(move || talk(session));
        }
    });
}

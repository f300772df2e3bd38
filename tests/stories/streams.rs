//! Bytes to and from containers with every kubectl on the machine: until 1.28
//! they speak SPDY, since 1.31 WebSockets, and in between a mixture.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Stdio},
};

use crate::cluster::{Cluster, kubectls};

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
      - {name: c, image: skiff.local/toolbox, args: [http-echo, --port, '8080', --text, hi]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"#;

fn start() -> Option<Cluster> {
    let cluster = Cluster::start()?;
    cluster.apply(WEB).ok();
    cluster.kubectl("rollout status deployment/web --timeout=60s").ok();
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

//! What stories do things to: a pod that answers, a Service before it, and a pod that
//! asks it all the time and writes down what it got and what not.

use std::fs;

use jiff::Timestamp;

use crate::harness::{World, until};

/// By which [`asks`] can ask without DNS, in clusters of the usual service network.
pub(super) const SERVICE_IP: &str = "10.43.0.77";

/// The Service of pods that have the label `app: web`.
pub(super) fn service() -> String {
    format!(
        r#"
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{clusterIP: {SERVICE_IP}, selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
"#
    )
}

/// A pod that answers there with its name, on that node.
pub(super) fn web(node: &str) -> String {
    format!(
        r#"
---
apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: skiff.local/toolbox
    args: [http-echo, --port, "8080"]
    readinessProbe: {{httpGet: {{port: 8080}}, periodSeconds: 1}}
"#
    )
}

/// How many answers the asking pod counts before it says so.
const REPORTED: usize = 10;

/// A pod on a node that asks a URL fifty times a second.
pub(super) fn asks(node: &str, url: &str) -> String {
    format!(
        r#"
---
apiVersion: v1
kind: Pod
metadata: {{name: client}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: ask, image: skiff.local/toolbox, args: [get, --loop, "100000000", --every, "20", --report, "{REPORTED}", "{url}"]}}
"#
    )
}

/// Waits until the asking pod is answered, as it is a moment after what it asks is ready,
/// and gives how often it was not until then. Of what it asked before nothing is on its way
/// any more once a later question has its answer.
pub(super) fn unserved(world: &World, server: &str, host: &str, url: &str) -> usize {
    let line = format!("exec client -- toolbox get --timeout 5 {url}");
    until("the asking pod is answered", || {
        let before = failures(world, host).len();
        world.kubectl(server, &line).success && failures(world, host).len() == before
    });
    failures(world, host).len()
}

/// What the asking pod could not get.
pub(super) fn failures(world: &World, host: &str) -> Vec<String> {
    said(world, host).into_iter().filter(|line| line.contains(" stderr ")).collect()
}

/// How often the asking pod was answered from one moment to another.
pub(super) fn answers(world: &World, host: &str, from: Timestamp, to: Timestamp) -> usize {
    let at = |line: &String| line.split(' ').next()?.parse::<Timestamp>().ok();
    let reports = said(world, host).into_iter().filter(|line| line.ends_with(" answered"));
    let within = reports.filter(|line| at(line).is_some_and(|at| (from..to).contains(&at)));
    within.count() * REPORTED
}

/// What the asking pod has written, from its host's disk: nothing needs to be up for that.
fn said(world: &World, host: &str) -> Vec<String> {
    let pods = world.host(host).path("data/log/pods");
    let folders = fs::read_dir(pods).into_iter().flatten().flatten();
    let client = folders
        .filter(|folder| folder.file_name().to_string_lossy().starts_with("default_client_"));
    let logs =
        client.flat_map(|folder| fs::read_dir(folder.path().join("ask")).into_iter().flatten());
    let texts = logs.flatten().filter_map(|log| fs::read_to_string(log.path()).ok());
    texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

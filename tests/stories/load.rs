//! What stories do things to: a pod that answers, a Service before it, and a pod that
//! asks it all the time and writes down what it did not get.

use std::fs;

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
  - {{name: ask, image: skiff.local/toolbox, args: [get, --loop, "100000000", --every, "20", "{url}"]}}
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

/// What the asking pod could not get, from its host's disk: nothing needs to be up
/// for that.
pub(super) fn failures(world: &World, host: &str) -> Vec<String> {
    let pods = world.host(host).path("data/log/pods");
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

//! The first thing anybody does: apply a Deployment, a ConfigMap and a
//! Service, and have it answer by name, whatever happens to the server.

use crate::cluster::Cluster;

const HELLO: &str = include_str!("../../docs/examples/hello.yaml");

/// The answer names its pod. A node learns of pods that are ready, and knows its own again
/// after a restart, a moment later.
fn answers(cluster: &Cluster) {
    let pod =
        cluster.kubectl("get pods -l app=hello -o jsonpath={.items[0].metadata.name}").ok().stdout;
    let url = "http://hello.default.svc.cluster.local/";
    cluster.comes_to_print(&format!("exec {pod} -- toolbox get {url}"), "hello-");
}

#[test]
fn a_workload_answers_by_name_and_survives_kill_9() {
    let Some(mut cluster) = Cluster::start() else { return };
    cluster.wait_node_ready();
    cluster.apply(HELLO).ok();
    cluster.kubectl("rollout status deployment/hello --timeout=180s").ok();
    answers(&cluster);

    let containers = |cluster: &Cluster| {
        cluster.kubectl("get pods -l app=hello -o jsonpath={.items[*].status.containerStatuses[*].containerID}").ok().stdout
    };
    let before = containers(&cluster);
    assert!(!before.is_empty());
    cluster.kubectl("create configmap kept --from-literal=a=b").ok();
    cluster.kill_server();
    cluster.start_server();
    cluster.kubectl("get configmap kept -o jsonpath={.data.a}").prints("b");
    cluster.wait_node_ready();
    assert_eq!(containers(&cluster), before, "the same containers run on");
    cluster.kubectl("rollout status deployment/hello --timeout=180s").ok();
    answers(&cluster);

    assert!(cluster.stop_server().success(), "SIGTERM ends the server in order");
    cluster.start_server();
    cluster.wait_node_ready();
    assert_eq!(containers(&cluster), before, "and again");
}

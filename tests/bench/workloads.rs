//! Figures of the scheduler and the controllers, on nodes without machines.

use crate::{
    child,
    cluster::Cluster,
    process::Process,
    requests::Cost,
    rows::Rows,
    system::{Idle, look_at_idle, serve},
};

/// Pods that are bound, made before the nodes are.
pub(crate) fn scheduling(cluster: &mut Cluster, rows: &mut Rows) {
    const PODS: usize = 10_000;
    let server = serve(cluster);
    for nodes in [100, 1000, 5000] {
        for workload in ["plain", "affinity", "spread"] {
            let (verb, nodes_text) = (format!("schedule-{workload}"), nodes.to_string());
            let pods = PODS.to_string();
            let cost = Cost::of(cluster, &server, &[&verb, &nodes_text, &pods]);
            rows.add(
                format!("10,000 pods bound, {nodes} nodes, {workload}"),
                "680/s",
                format!(
                    "{:.0}/s, {:.0} µs CPU each",
                    cost.answer.number("rate"),
                    cost.cpu_us(PODS)
                ),
            );
            child::run(cluster, &["clear", "0", "0"]);
        }
    }
}

/// A Deployment whose every pod is replaced; the load stands in for kubelets.
pub(crate) fn rollout(cluster: &mut Cluster, rows: &mut Rows) {
    const REPLICAS: usize = 1000;
    let server = serve(cluster);
    let cost = Cost::of(cluster, &server, &["rollout", "20", &REPLICAS.to_string()]);
    rows.add(
        "1,000 replicas rolled out: time; CPU of the server",
        "–",
        format!(
            "{:.1} s; {:.1} s, {:.1} ms a pod",
            cost.answer.number("seconds"),
            cost.cpu.as_secs_f64(),
            cost.cpu_us(REPLICAS) / 1000.0
        ),
    );
}

/// What controllers take where nothing changes, and where one object does.
pub(crate) fn controllers(cluster: &mut Cluster, rows: &mut Rows) {
    const CHANGES: usize = 200;
    let server = serve(cluster);
    let mut there = 0;
    // A Deployment and its ReplicaSet are two objects.
    for (deployments, text) in [(5, "10"), (5000, "10,000")] {
        let more = deployments - there;
        child::run(cluster, &["deployments", &there.to_string(), &more.to_string()]);
        there = deployments;
        let Idle { cpu_percent, .. } = look_at_idle(&server);
        rows.add(
            format!("idle CPU; resident with {text} objects that controllers watch"),
            "0.2 %; –",
            format!("{cpu_percent:.2} %; {:.1} MB", server.resident_mb()),
        );
        let cost = change(cluster, &server, CHANGES);
        rows.add(
            format!("a Deployment's change, until it is observed, beside {text} objects"),
            "the same",
            format!("{:.0} µs CPU", cost.cpu_us(CHANGES)),
        );
    }
}

fn change(cluster: &Cluster, server: &Process, changes: usize) -> Cost {
    Cost::of(cluster, server, &["changes", "1", &changes.to_string()])
}

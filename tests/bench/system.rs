//! Figures of the whole: starting, idling, running pods.

use std::time::{Duration, Instant};

use crate::{
    child,
    cluster::Cluster,
    process::{self, Process},
    rows::Rows,
};

/// How long an idle server is looked at.
const IDLE: Duration = Duration::from_secs(60);

/// Starts a cluster's server, and returns once its node is Ready.
pub(crate) fn serve(cluster: &mut Cluster) -> Process {
    cluster.start_server();
    cluster.wait_node_ready();
    Process::new(cluster.server_pid())
}

pub(crate) fn start(cluster: &mut Cluster, rows: &mut Rows) {
    let size = std::fs::metadata(env!("CARGO_BIN_EXE_skiff")).map_or(0, |file| file.len());
    rows.add(
        "binary, this build (not stripped)",
        "20 MB (dist build)",
        format!("{:.1} MB", size as f64 / 1e6),
    );
    let began = Instant::now();
    cluster.start_server();
    let ready = began.elapsed();
    cluster.wait_node_ready();
    rows.add(
        "first start to ready; node Ready",
        "0.5 s; 1.5 s",
        format!("{:.2} s; {:.2} s", ready.as_secs_f64(), began.elapsed().as_secs_f64()),
    );
    cluster.kill_server();
    let began = Instant::now();
    cluster.start_server();
    rows.add("restart to ready", "0.2 s", format!("{:.2} s", began.elapsed().as_secs_f64()));
}

pub(crate) fn idle(cluster: &mut Cluster, rows: &mut Rows) {
    // Not its first start, which makes what later ones find.
    serve(cluster);
    cluster.kill_server();
    let server = serve(cluster);
    let Idle { cpu_percent, written_bytes } = look_at_idle(&server);
    rows.add("server + node, idle, resident", "32 MB", format!("{:.1} MB", server.resident_mb()));
    rows.add("idle CPU, one node, no pods", "0.2 %", format!("{cpu_percent:.2} %"));
    rows.add("idle disk writes, one minute", "0 bytes", format!("{written_bytes} bytes"));
}

pub(crate) fn pods(cluster: &mut Cluster, rows: &mut Rows) {
    let server = serve(cluster);
    let created = child::run(cluster, &["pods", "1", "20"]);
    rows.add(
        "pod create to Running, image present, p50",
        "0.1 s",
        format!("{:.3} s", created.number("p50_ms") / 1000.0),
    );
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: many}\nspec:\n  replicas: 50\n  selector: {matchLabels: {app: many}}\n  template:\n    metadata: {labels: {app: many}}\n    spec: {containers: [{name: c, image: skiff.local/toolbox, args: [sleep, infinity]}]}";
    let began = Instant::now();
    cluster.apply(deployment).ok();
    cluster.kubectl("rollout status deployment/many --timeout=120s").ok();
    rows.add(
        "50-pod Deployment all ready",
        "3 s",
        format!("{:.1} s", began.elapsed().as_secs_f64()),
    );
    let shims = process::children_pss_mb(&cluster.data_dir());
    rows.add("per running pod, its shim (PSS)", "0.5 MB", format!("{shims:.2} MB"));
    let Idle { cpu_percent, .. } = look_at_idle(&server);
    rows.add("idle CPU, 50 pods", "0.3 %", format!("{cpu_percent:.2} %"));
}

pub(crate) struct Idle {
    pub(crate) cpu_percent: f64,
    written_bytes: u64,
}

pub(crate) fn look_at_idle(server: &Process) -> Idle {
    // What the start left to do is not idleness.
    std::thread::sleep(Duration::from_secs(15));
    let before = server.usage();
    std::thread::sleep(IDLE);
    let after = server.usage();
    Idle {
        cpu_percent: (after.cpu - before.cpu).as_secs_f64() / IDLE.as_secs_f64() * 100.0,
        written_bytes: after.written_bytes - before.written_bytes,
    }
}

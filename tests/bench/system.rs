//! Figures of the whole: starting, idling, running pods.

use std::time::{Duration, Instant};

use crate::{
    child,
    cluster::{Cluster, program},
    load::share,
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
    let size = std::fs::metadata(program()).map_or(0, |file| file.len());
    rows.add(
        "binary, the one that is run",
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
    let Idle { cpu_percent, written_bytes, wakeups } = look_at_idle(&server);
    rows.add("server + node, idle, resident", "32 MB", format!("{:.1} MB", server.resident_mb()));
    rows.add("idle CPU, one node, no pods", "0.2 %", format!("{cpu_percent:.2} %"));
    rows.add("idle, wake-ups a second", "–", format!("{wakeups:.1}"));
    rows.add("idle disk writes, one minute", "0 bytes", format!("{written_bytes} bytes"));
}

pub(crate) fn pods(cluster: &mut Cluster, rows: &mut Rows) {
    let server = serve(cluster);
    let created = child::run(cluster, &["pods", "1", "20"]);
    rows.add(
        "pod create to Running, image present, p50 / p99",
        "0.1 s",
        format!(
            "{:.3} / {:.3} s",
            created.number("p50_ms") / 1000.0,
            created.number("p99_ms") / 1000.0
        ),
    );
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: many}\nspec:\n  replicas: 0\n  selector: {matchLabels: {app: many}}\n  template:\n    metadata: {labels: {app: many}}\n    spec: {containers: [{name: c, image: skiff.local/toolbox, args: [sleep, infinity]}]}";
    cluster.apply(deployment).ok();
    for (pods, time, cpu) in [(10, "–", "–"), (50, "3 s", "0.3 %"), (110, "–", "–")] {
        cluster.kubectl("scale deployment/many --replicas=0").ok();
        cluster.kubectl("wait --for=delete pod -l app=many --timeout=120s").ok();
        let began = Instant::now();
        cluster.kubectl(&format!("scale deployment/many --replicas={pods}")).ok();
        cluster.kubectl("rollout status deployment/many --timeout=120s").ok();
        rows.add(
            format!("{pods} pods of a Deployment all ready"),
            time,
            format!("{:.1} s", began.elapsed().as_secs_f64()),
        );
        if pods == 10 {
            exec(cluster, rows);
        }
        let Idle { cpu_percent, wakeups, .. } = look_at_idle(&server);
        rows.add(
            format!("server + node with {pods} idle pods: CPU"),
            cpu,
            format!("{cpu_percent:.2} %, {wakeups:.1} wake-ups/s"),
        );
        rows.add(
            format!("server + node with {pods} idle pods: resident"),
            "–",
            format!("{:.1} MB", server.resident_mb()),
        );
    }
    let shims = process::children_pss_mb(&cluster.data_dir());
    rows.add("per running pod, its shim (PSS)", "0.5 MB", format!("{shims:.2} MB"));
}

/// A command in a running container, by kubectl; what kubectl takes for any one
/// request is taken off.
fn exec(cluster: &Cluster, rows: &mut Rows) {
    let p50 = |line: &str| {
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..20 {
            let began = Instant::now();
            cluster.kubectl(line).ok();
            times.push(began.elapsed());
        }
        share(&mut times, 0.5)
    };
    let with = p50("exec deployment/many -- toolbox true");
    let without = p50("get deployment/many");
    rows.add(
        "kubectl exec of a command that ends at once, above a kubectl get, p50",
        "–",
        format!("{:.0} ms", with - without),
    );
}

pub(crate) struct Idle {
    pub(crate) cpu_percent: f64,
    written_bytes: u64,
    /// A second.
    wakeups: f64,
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
        wakeups: after.wakeups_since(&before) as f64 / IDLE.as_secs_f64(),
    }
}

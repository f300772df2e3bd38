//! The figures of `docs/performance.md`: a real server of the release build,
//! looked at from outside. `./x bench` runs it and prints the table.
//!
//! The server runs in namespaces of its own; the load comes from this same
//! program, started again inside them (`load`). Both share the machine's
//! cores, so CPU is counted for each process and rates are what two cores give.

#[path = "../cluster.rs"]
#[allow(dead_code, reason = "the stories use more of it")]
mod cluster;
mod load;
mod process;

use std::time::{Duration, Instant};

use cluster::Cluster;
use process::Process;

/// One printed row.
struct Row {
    what: &'static str,
    target: &'static str,
    measured: String,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == "load") {
        load::run(&args[at + 1..]);
        return;
    }
    let Some(mut cluster) = Cluster::prepare(&[]) else { return };
    let mut rows = Vec::new();
    let mut row = |what, target, measured: String| {
        eprintln!("{what}: {measured}");
        rows.push(Row { what, target, measured });
    };

    let size = std::fs::metadata(env!("CARGO_BIN_EXE_skiff")).map_or(0, |file| file.len());
    row(
        "binary, this build (not stripped)",
        "20 MB (dist build)",
        format!("{:.1} MB", size as f64 / 1e6),
    );

    let began = Instant::now();
    cluster.start_server();
    let ready = began.elapsed();
    cluster.wait_node_ready();
    row(
        "first start to ready; node Ready",
        "0.5 s; 1.5 s",
        format!("{:.2} s; {:.2} s", ready.as_secs_f64(), began.elapsed().as_secs_f64()),
    );
    cluster.kill_server();
    let began = Instant::now();
    cluster.start_server();
    row("restart to ready", "0.2 s", format!("{:.2} s", began.elapsed().as_secs_f64()));
    cluster.wait_node_ready();

    idle(&cluster, "one node, no pods", Duration::from_secs(60), &mut row);
    requests(&cluster, &mut row);
    pods(&cluster, &mut row);

    println!("\nMachine: {}\n", process::machine());
    println!("| what | target | measured |\n|---|---|---|");
    for Row { what, target, measured } in &rows {
        println!("| {what} | {target} | {measured} |");
    }
}

type Print<'a> = dyn FnMut(&'static str, &'static str, String) + 'a;

fn idle(cluster: &Cluster, what: &str, time: Duration, row: &mut Print<'_>) {
    let server = Process::new(cluster.server_pid());
    // What the start left to do is not idleness.
    std::thread::sleep(Duration::from_secs(15));
    let before = server.usage();
    std::thread::sleep(time);
    let after = server.usage();
    let cpu = (after.cpu - before.cpu).as_secs_f64() / time.as_secs_f64() * 100.0;
    let written = after.written_bytes - before.written_bytes;
    if what.contains("no pods") {
        row("server + node, idle, resident", "32 MB", format!("{:.1} MB", server.resident_mb()));
        row("idle CPU, one node, no pods", "0.2 %", format!("{cpu:.2} %"));
        row("idle disk writes, one minute", "0 bytes", format!("{written} bytes"));
    } else {
        row("idle CPU, 50 pods", "0.3 %", format!("{cpu:.2} %"));
    }
}

/// This program again, inside the server's namespaces.
fn load(cluster: &Cluster, args: &[&str]) -> serde_json::Value {
    let program = std::env::current_exe().expect("this program");
    let output = cluster
        .command(&program.to_string_lossy())
        .arg("load")
        .arg(cluster.path("admin.yaml"))
        .args(args)
        .output()
        .expect("this program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap_or("")).unwrap_or_else(|error| {
        panic!("load {args:?}: {error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    })
}

fn requests(cluster: &Cluster, row: &mut Print<'_>) {
    let server = Process::new(cluster.server_pid());
    let per_request = |args: &[&str], n: f64| {
        let before = server.usage().cpu;
        load(cluster, args);
        (server.usage().cpu - before).as_secs_f64() / n * 1e6
    };
    let create = per_request(&["create", "1", "2000"], 2000.0);
    let get = per_request(&["get", "1", "5000"], 5000.0);
    let patch = per_request(&["patch", "1", "2000"], 2000.0);
    row(
        "server CPU a GET / create / patch, one at a time",
        "45 / 107 / 114 µs",
        format!("{get:.0} / {create:.0} / {patch:.0} µs"),
    );
    // One after the other, each write wakes every thread and waits for the disk
    // alone; a busy server shares both.
    let get = per_request(&["get", "64", "20000"], 20_000.0);
    let before = server.usage();
    let wide = load(cluster, &["create", "64", "20000"]);
    let after = server.usage();
    let written = after.written_bytes - before.written_bytes;
    let create = (after.cpu - before.cpu).as_secs_f64() / 20_000.0 * 1e6;
    let patch = per_request(&["patch", "64", "5000"], 5000.0);
    row(
        "the same at 64 connections",
        "45 / 107 / 114 µs",
        format!("{get:.0} / {create:.0} / {patch:.0} µs"),
    );
    row(
        "ConfigMap creates/s at 64 connections, durable",
        "5,750–7,150",
        format!("{:.0}", wide["rate"].as_f64().unwrap_or(0.0)),
    );
    row(
        "bytes written to disk per byte committed",
        "3",
        format!("{:.1}", written as f64 / wide["bytes"].as_f64().unwrap_or(1.0)),
    );
    cluster.kubectl("delete --raw /api/v1/namespaces/bench/configmaps").ok();
    let _ = load(cluster, &["fill", "8", "5000"]);
    row(
        "resident after 5,000 ConfigMaps (and the 24,000 before)",
        "70 MB",
        format!("{:.1} MB", server.resident_mb()),
    );
    let list = load(cluster, &["list", "1", "20"]);
    row(
        "LIST of 5,000 (p50)",
        "7.5–13 ms",
        format!(
            "{:.1} ms of {:.1} MB",
            list["p50_ms"].as_f64().unwrap_or(0.0),
            list["bytes"].as_f64().unwrap_or(0.0) / 1e6
        ),
    );
    let fan = load(cluster, &["watch", "1000", "20"]);
    row(
        "watch fan-out to 1,000 watchers, ack to last (p50)",
        "a tenth of upstream's",
        format!("{:.1} ms", fan["p50_ms"].as_f64().unwrap_or(0.0)),
    );
    load(cluster, &["get", "8", "120000"]);
    row("resident after 150,000 requests", "70 MB", format!("{:.1} MB", server.resident_mb()));
    cluster.kubectl("delete --raw /api/v1/namespaces/bench/configmaps").ok();
    cluster.kubectl("delete namespace bench --timeout=120s").ok();
}

fn pods(cluster: &Cluster, row: &mut Print<'_>) {
    let created = load(cluster, &["pods", "1", "20"]);
    row(
        "pod create to Running, image present, p50",
        "0.1 s",
        format!("{:.3} s", created["p50_ms"].as_f64().unwrap_or(0.0) / 1000.0),
    );
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: many}\nspec:\n  replicas: 50\n  selector: {matchLabels: {app: many}}\n  template:\n    metadata: {labels: {app: many}}\n    spec: {containers: [{name: c, image: skiff.local/toolbox, args: [sleep, infinity]}]}";
    let began = Instant::now();
    cluster.apply(deployment).ok();
    cluster.kubectl("rollout status deployment/many --timeout=120s").ok();
    row("50-pod Deployment all ready", "3 s", format!("{:.1} s", began.elapsed().as_secs_f64()));
    let shims = process::children_pss_mb(&cluster.data_dir());
    row("per running pod, its shim (PSS)", "0.5 MB", format!("{shims:.2} MB"));
    idle(cluster, "50 pods", Duration::from_secs(60), row);
}

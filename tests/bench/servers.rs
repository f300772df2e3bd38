//! Figures of several servers: what a write costs more, and how long none is
//! possible after the leader died.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{child, cluster::Cluster, rows::Rows};

/// How often the leader is killed.
const KILLS: usize = 20;

/// Further servers beside the first.
pub(crate) fn join(first: &Cluster, servers: u8) -> Vec<Cluster> {
    let token = std::fs::read_to_string(first.path("data/server/token")).expect("it is printed");
    let url = first.url();
    (2..=servers)
        .map(|number| {
            let mut next = first.beside(number, &["--server", &url, "--token", token.trim()]);
            next.start_server();
            next
        })
        .collect()
}

fn leader(server: &Cluster) -> Option<String> {
    let data = server.data_dir();
    let args = ["cluster", "status", "-o", "json", "--data-dir", &data.to_string_lossy()];
    let rows: Vec<Value> = serde_json::from_str(&server.skiff(&args).ok().stdout).ok()?;
    let leads = rows.iter().find(|row| row["role"] == "leader" && row["health"] == "ok")?;
    Some(leads["name"].as_str()?.to_owned())
}

/// One server, then three, then five.
pub(crate) fn writes(first: &mut Cluster, rows: &mut Rows) {
    first.start_server();
    first.wait_node_ready();
    let mut others: Vec<Cluster> = Vec::new();
    for servers in [1, 3, 5] {
        // Removed while they live: two of three that die take the majority with them.
        for server in others.drain(..) {
            let data = first.data_dir();
            let args = ["cluster", "remove", &server.name(), "--data-dir", &data.to_string_lossy()];
            first.skiff(&args).ok();
        }
        others = join(first, servers);
        let one = child::run(first, &["create", "1", "500"]);
        let many = child::run(first, &["create", "64", "5000"]);
        rows.add(
            format!("ConfigMap creates, {servers} server(s) on one machine: one at a time, and rate at 64"),
            "–",
            format!("{:.2} ms, {:.0}/s", 1000.0 / one.number("rate"), many.number("rate")),
        );
        first.kubectl("delete --raw /api/v1/namespaces/bench/configmaps").ok();
    }
    // Machines beside the first go before its network does.
    drop(others);
}

/// Kills the leader of three, again and again, and asks another for a write.
pub(crate) fn failover(first: &mut Cluster, rows: &mut Rows) {
    first.start_server();
    first.wait_node_ready();
    let mut others = join(first, 3);
    let mut times = Vec::new();
    for round in 0..KILLS {
        let lead = loop {
            if let Some(lead) = leader(first) {
                break lead;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let at = others.iter().position(|server| server.name() == lead);
        let killed = match at {
            None => &mut *first,
            Some(at) => &mut others[at],
        };
        killed.kill_server();
        let began = Instant::now();
        let other = match at {
            None => &others[round % 2],
            Some(_) => &*first,
        };
        other.kubectl(&format!("create configmap after-{round}")).ok();
        times.push(began.elapsed());
        match at {
            None => first.start_server(),
            Some(at) => others[at].start_server(),
        }
    }
    times.sort();
    // By nearest rank: of twenty the slowest is the 99th percentile.
    let at = |part: usize| times[(times.len() * part).div_ceil(100) - 1].as_secs_f64();
    rows.add(
        format!("leader of three killed to the next write through kubectl, p50 / p99 of {KILLS}"),
        "2 s (p99)",
        format!("{:.2} / {:.2} s", at(50), at(99)),
    );
    others.clear();
}

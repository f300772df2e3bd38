//! Figures of a cluster that nobody asks for anything: what its machines send each other
//! and write to their disks.

use std::time::Duration;

use serde_json::Value;

use crate::{cluster::Cluster, process::Process, rows::Rows, servers};

/// What a start leaves to do is not idleness.
const SETTLED: Duration = Duration::from_secs(20);
const MINUTE: Duration = Duration::from_secs(60);
/// What is done once in some minutes is among it.
const LONG: Duration = Duration::from_secs(600);
/// So many seconds instead, to try it.
const SECONDS: &str = "SKIFF_BENCH_IDLE_SECONDS";
const SERVERS: u8 = 3;
const AGENTS: u8 = 2;

/// What a machine did in a while.
struct Done {
    machine: String,
    sent_bytes: u64,
    sent_packets: u64,
    written_bytes: u64,
}

impl Done {
    /// Since its start.
    fn by(machine: &Cluster) -> Self {
        let show = machine.command("ip").args(["-s", "-j", "link", "show", "eth0"]).output();
        let links: Value =
            serde_json::from_slice(&show.expect("iproute2").stdout).expect("JSON of ip");
        let count = |what: &str| links[0]["stats64"]["tx"][what].as_u64().expect("a number");
        Self {
            machine: machine.name(),
            sent_bytes: count("bytes"),
            sent_packets: count("packets"),
            written_bytes: Process::new(machine.server_pid()).usage().written_bytes,
        }
    }

    fn since(self, before: &Self) -> Self {
        Self {
            sent_bytes: self.sent_bytes - before.sent_bytes,
            sent_packets: self.sent_packets - before.sent_packets,
            written_bytes: self.written_bytes - before.written_bytes,
            ..self
        }
    }
}

/// Servers first, then agents.
fn looked_at(first: &mut Cluster, long: Duration) -> Vec<Done> {
    first.start_server();
    first.wait_node_ready();
    let mut machines = servers::join(first, SERVERS);
    machines.extend((1..=AGENTS).map(|agent| first.agent_beside(SERVERS + agent)));
    first.kubectl("wait --for=condition=Ready node --all --timeout=60s").ok();
    std::thread::sleep(SETTLED);
    let all = || -> Vec<Done> { [&*first].into_iter().chain(&machines).map(Done::by).collect() };
    let before = all();
    std::thread::sleep(long);
    let done = all().into_iter().zip(&before).map(|(after, before)| after.since(before)).collect();
    // Machines beside the first go before its network does.
    drop(machines);
    done
}

/// All of them together, for a minute.
pub(crate) fn together(first: &mut Cluster, rows: &mut Rows) {
    let done = looked_at(first, MINUTE);
    let all = |what: fn(&Done) -> u64| done.iter().map(what).sum::<u64>();
    let seconds = MINUTE.as_secs_f64();
    rows.add(
        "an idle cluster of three servers and two agents sends, all together",
        "–",
        format!(
            "{:.1} kB/s, {:.0} packets/s",
            all(|done| done.sent_bytes) as f64 / seconds / 1000.0,
            all(|done| done.sent_packets) as f64 / seconds
        ),
    );
    rows.add(
        "an idle cluster of three servers and two agents writes to disks, all together",
        "–",
        format!("{} bytes in {seconds:.0} s", all(|done| done.written_bytes)),
    );
}

/// Each of them, for ten minutes.
pub(crate) fn each(first: &mut Cluster, rows: &mut Rows) {
    let asked = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok());
    let long = asked.map_or(LONG, Duration::from_secs);
    let seconds = long.as_secs_f64();
    for (at, done) in looked_at(first, long).iter().enumerate() {
        let role = if at < usize::from(SERVERS) { "server" } else { "agent" };
        rows.add(
            format!("idle cluster, {role} {}: sent, and written to disk", done.machine),
            "–",
            format!(
                "{} bytes in {} packets ({:.2} kB/s), {} bytes, in {seconds:.0} s",
                done.sent_bytes,
                done.sent_packets,
                done.sent_bytes as f64 / seconds / 1000.0,
                done.written_bytes
            ),
        );
    }
}

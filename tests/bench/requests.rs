//! Figures of the API: what requests cost the server.

use std::time::Duration;

use crate::{
    child::{self, Answer},
    cluster::Cluster,
    objects::WIDGETS_DEFINITION,
    process::Process,
    rows::Rows,
    system::serve,
};

/// A verb, and how often it is asked: one request after the other, and by
/// [`MANY`] connections. With both encodings the counts come to 150,000.
struct Verb {
    name: &'static str,
    /// A tenth of what upstream's server takes.
    target: &'static str,
    one: usize,
    many: usize,
}

const MANY: &str = "64";
const VERBS: &[Verb] = &[
    Verb { name: "get", target: "45 µs", one: 5000, many: 20_000 },
    Verb { name: "create", target: "107 µs", one: 2000, many: 20_000 },
    Verb { name: "update", target: "107 µs", one: 2000, many: 5000 },
    Verb { name: "merge-patch", target: "114 µs", one: 2000, many: 5000 },
    Verb { name: "strategic-patch", target: "114 µs", one: 2000, many: 5000 },
    Verb { name: "apply", target: "114 µs", one: 2000, many: 5000 },
];
/// How often a list is asked.
const LISTS: &str = "50";
const ENCODINGS: [&str; 2] = ["json", "protobuf"];

/// What a load answered, and what it cost the server.
pub(crate) struct Cost {
    pub(crate) answer: Answer,
    pub(crate) cpu: Duration,
    written_bytes: u64,
}

impl Cost {
    pub(crate) fn of(cluster: &Cluster, server: &Process, args: &[&str]) -> Self {
        let load = child::prepare(cluster, args);
        let before = server.usage();
        let answer = load.go();
        let after = server.usage();
        Self {
            answer,
            cpu: after.cpu - before.cpu,
            written_bytes: after.written_bytes - before.written_bytes,
        }
    }

    pub(crate) fn cpu_us(&self, requests: usize) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / requests as f64
    }
}

pub(crate) fn requests(cluster: &mut Cluster, rows: &mut Rows) {
    let server = serve(cluster);
    let cost = |verb: &str, connections: &str, count: usize, encoding: &str| {
        let count = count.to_string();
        Cost::of(cluster, &server, &[verb, connections, &count, "configmaps", encoding])
    };
    let mut sent = 0;
    for Verb { name, target, one, .. } in VERBS {
        let [json, protobuf] =
            ENCODINGS.map(|encoding| cost(name, "1", *one, encoding).cpu_us(*one));
        sent += 2 * one;
        rows.add(
            format!("server CPU, {name}, one at a time, JSON / protobuf"),
            target,
            format!("{json:.0} / {protobuf:.0} µs"),
        );
    }
    // One after the other, each write wakes every thread and waits for the disk
    // alone; a busy server shares both.
    for Verb { name, target, many, .. } in VERBS {
        let costs = ENCODINGS.map(|encoding| cost(name, MANY, *many, encoding));
        let [json, protobuf] = &costs;
        sent += 2 * many;
        rows.add(
            format!("server CPU, {name}, 64 connections, JSON / protobuf"),
            target,
            format!("{:.0} / {:.0} µs", json.cpu_us(*many), protobuf.cpu_us(*many)),
        );
        if *name == "create" {
            rows.add(
                "ConfigMap creates/s at 64 connections, durable, JSON / protobuf",
                "5,750–7,150",
                format!(
                    "{:.0} / {:.0}",
                    json.answer.number("rate"),
                    protobuf.answer.number("rate")
                ),
            );
            rows.add(
                "bytes written to disk per byte committed",
                "3",
                format!("{:.1}", json.written_bytes as f64 / json.answer.number("bytes")),
            );
        }
    }
    cluster.kubectl("delete --raw /api/v1/namespaces/bench/configmaps").ok();
    child::run(cluster, &["create", "8", "5000"]);
    rows.add(
        format!("resident with 5,000 ConfigMaps after {},000 requests", sent / 1000),
        "70 MB",
        format!("{:.1} MB", server.resident_mb()),
    );
}

pub(crate) fn lists(cluster: &mut Cluster, rows: &mut Rows) {
    let server = serve(cluster);
    child::run(cluster, &["create", "8", "5000"]);
    rows.add(
        "resident with 5,000 ConfigMaps, a fresh server",
        "70 MB",
        format!("{:.1} MB", server.resident_mb()),
    );
    for (verb, what) in [("list", "LIST of 5,000"), ("pages", "LIST of 5,000 in pages of 500")] {
        for (encoding, name) in ENCODINGS.into_iter().zip(["JSON", "protobuf"]) {
            let cost = Cost::of(cluster, &server, &[verb, "1", LISTS, "configmaps", encoding]);
            rows.add(format!("{what}, {name}, p50"), "7.5–13 ms", list_text(&cost));
        }
    }
}

/// The time that a list took, the server's part of it, and its size.
fn list_text(cost: &Cost) -> String {
    let count: f64 = LISTS.parse().expect("a number");
    format!(
        "{:.1} ms ({:.1} ms CPU) of {:.1} MB",
        cost.answer.number("p50_ms"),
        cost.cpu.as_secs_f64() * 1000.0 / count,
        cost.answer.number("bytes") / 1e6
    )
}

pub(crate) fn watches(cluster: &mut Cluster, rows: &mut Rows) {
    serve(cluster);
    let fan = child::run(cluster, &["watch", "1000", "20"]);
    rows.add(
        "watch fan-out to 1,000 watchers, ack to last, p50",
        "a tenth of upstream's",
        format!("{:.1} ms", fan.number("p50_ms")),
    );
    rows.add(
        "the same, request sent to last, p50",
        "–",
        format!("{:.1} ms", fan.number("sent_p50_ms")),
    );
}

/// A custom kind beside a built-in one of the same size.
pub(crate) fn custom(cluster: &mut Cluster, rows: &mut Rows) {
    const SUBJECTS: [&str; 2] = ["widgets", "configmaps"];
    let server = serve(cluster);
    cluster.apply(WIDGETS_DEFINITION).ok();
    cluster
        .kubectl("wait --for=condition=Established crd/widgets.bench.example --timeout=60s")
        .ok();
    let lists = SUBJECTS.map(|subject| {
        child::run(cluster, &["create", "8", "1000", subject]);
        let cost = Cost::of(cluster, &server, &["list", "1", LISTS, subject]);
        list_text(&cost)
    });
    rows.add("LIST of 1,000, a custom kind / ConfigMap, p50", "as ConfigMap", lists.join(" / "));
    for (connections, what) in [("1", "one at a time"), (MANY, "64 connections")] {
        for Verb { name, one, many, .. } in &VERBS[..2] {
            let count = if connections == "1" { *one } else { *many };
            let [custom, config_map] = SUBJECTS.map(|subject| {
                let args = [*name, connections, &count.to_string(), subject];
                Cost::of(cluster, &server, &args).cpu_us(count)
            });
            rows.add(
                format!("server CPU, {name}, {what}, a custom kind / ConfigMap"),
                "as ConfigMap",
                format!("{custom:.0} / {config_map:.0} µs"),
            );
        }
    }
}

pub(crate) fn memory(cluster: &mut Cluster, rows: &mut Rows) {
    let server = serve(cluster);
    let mut there = 0;
    for (objects, text) in [(1000, "1,000"), (10_000, "10,000"), (100_000, "100,000")] {
        let more: usize = objects - there;
        child::run(cluster, &["create", "8", &more.to_string(), "small"]);
        there = objects;
        rows.add(
            format!("resident with {text} ConfigMaps of 200 bytes"),
            "–",
            format!("{:.1} MB", server.resident_mb()),
        );
    }
}

/// Documents are made when somebody asks for them; so is what they take.
pub(crate) fn openapi(cluster: &mut Cluster, rows: &mut Rows) {
    let server = serve(cluster);
    let resident = server.resident_mb();
    for (verb, what) in [
        ("openapi-v2", "`/openapi/v2`, first asked / again"),
        ("openapi-v3", "`/openapi/v3` and each document it names, first asked / again"),
    ] {
        let answer = child::run(cluster, &[verb, "1", "1"]);
        rows.add(
            what,
            "–",
            format!(
                "{:.0} / {:.0} ms of {:.1} MB",
                answer.number("first_ms"),
                answer.number("again_ms"),
                answer.number("bytes") / 1e6
            ),
        );
    }
    rows.add(
        "resident before / after the documents were asked",
        "–",
        format!("{resident:.1} / {:.1} MB", server.resident_mb()),
    );
}

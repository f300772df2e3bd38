//! The figures of `docs/performance.md`: a real server of the release build,
//! looked at from outside. `./x bench` runs it and prints the table;
//! `./x bench lists custom` runs these parts of it.
//!
//! Each part has a server of its own, so its figures depend on no other part.
//! Servers run in namespaces of their own; the load comes from this same
//! program, started again inside them (`load`). Both share the machine's
//! cores, so CPU is counted for the server's process alone and rates are what
//! the cores give to both.

mod bare;
mod child;
#[path = "../cluster.rs"]
#[allow(dead_code, reason = "the stories use more of it")]
mod cluster;
mod connection;
mod idle_cluster;
mod load;
mod network;
mod objects;
mod process;
mod requests;
mod rows;
mod servers;
mod system;
mod workloads;

use cluster::Cluster;
use rows::Rows;

/// Rows that are measured together.
struct Part {
    name: &'static str,
    /// Gets a cluster whose server is not started yet.
    measure: fn(&mut Cluster, &mut Rows),
}

const PARTS: &[Part] = &[
    Part { name: "start", measure: system::start },
    Part { name: "idle", measure: system::idle },
    Part { name: "requests", measure: requests::requests },
    Part { name: "lists", measure: requests::lists },
    Part { name: "watches", measure: requests::watches },
    Part { name: "custom", measure: requests::custom },
    Part { name: "memory", measure: requests::memory },
    Part { name: "openapi", measure: requests::openapi },
    Part { name: "pods", measure: system::pods },
    Part { name: "scheduling", measure: workloads::scheduling },
    Part { name: "rollout", measure: workloads::rollout },
    Part { name: "controllers", measure: workloads::controllers },
    Part { name: "servers", measure: servers::writes },
    Part { name: "failover", measure: servers::failover },
    Part { name: "traffic", measure: idle_cluster::together },
    Part { name: "services", measure: network::services },
    Part { name: "throughput", measure: network::throughput },
    Part { name: "direct", measure: |first, rows| network::between_nodes(first, rows, "direct") },
    Part { name: "vxlan", measure: |first, rows| network::between_nodes(first, rows, "vxlan") },
    Part {
        name: "wireguard",
        measure: |first, rows| network::between_nodes(first, rows, "wireguard"),
    },
];

/// Those that take so long that they are measured only where they are named.
const LONG_PARTS: &[Part] = &[Part { name: "idle-cluster", measure: idle_cluster::each }];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "load") {
        load::run(&args[1..]);
        return;
    }
    // Cargo adds `--bench`; `--only NAME` says the same as NAME.
    let names: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let parts = || PARTS.iter().chain(LONG_PARTS);
    if let Some(name) = names.iter().find(|name| parts().all(|part| part.name != **name)) {
        let known: Vec<_> = parts().map(|part| part.name).collect();
        eprintln!("no part is called {name:?}; there are {}", known.join(", "));
        std::process::exit(2);
    }
    let mut rows = Rows::new();
    let asked = |part: &&Part| names.iter().any(|name| *name == part.name);
    let chosen: Vec<&Part> = match names.is_empty() {
        true => PARTS.iter().collect(),
        false => parts().filter(asked).collect(),
    };
    for Part { measure, .. } in chosen {
        let Some(mut cluster) = Cluster::prepare(&[]) else { return };
        measure(&mut cluster, &mut rows);
    }
    rows.print();
}

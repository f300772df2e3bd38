//! How many pods a second of CPU are decided upon, on clusters of several sizes
//! with 10,000 pods: `cargo bench -p scheduler`, and `-- spread` for the
//! workloads of which the name has that word. Nothing is written; see
//! `./x bench` for what the API server adds. CPU is counted, not the clock on the wall,
//! since machines are shared.

use std::sync::Arc;

use client::{Cached, Change, View};
use scheduler::{Cluster, Decision, Offer, Pod, Profile, decide};
use serde_json::{Value, json};
use testkit::{Build, node, pod};

const PODS: usize = 10_000;
const NODES: [usize; 3] = [100, 1_000, 5_000];

type Workload = (&'static str, fn(usize) -> Build);

/// What the pods ask for. Each has a thousand kinds of pods at most ten of a
/// kind, as in a cluster of many small services.
const WORKLOADS: [Workload; 5] = [
    ("plain", plain),
    ("apart from their like, by node", apart),
    ("near their like, by zone", near),
    ("spread over zones", spread),
    ("wishes for all three", wishes),
];

fn plain(n: usize) -> Build {
    pod(&format!("bench/p{n}")).label("app", &format!("a{}", n % 1000)).requests("10m", "16Mi")
}

fn term(n: usize, key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": format!("a{}", n % 1000)}}, "topologyKey": key})
}

const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn apart(n: usize) -> Build {
    plain(n).set(&format!("/spec/affinity/podAntiAffinity/{REQUIRED}"), json!([term(n, HOST)]))
}

fn near(n: usize) -> Build {
    plain(n).set(&format!("/spec/affinity/podAffinity/{REQUIRED}"), json!([term(n, ZONE)]))
}

fn constraint(n: usize, when: &str) -> Value {
    let mut constraint = term(n, ZONE);
    constraint["maxSkew"] = json!(1);
    constraint["whenUnsatisfiable"] = json!(when);
    json!([constraint])
}

fn spread(n: usize) -> Build {
    plain(n).set("/spec/topologySpreadConstraints", constraint(n, "DoNotSchedule"))
}

fn wishes(n: usize) -> Build {
    let wish = |key: &str| json!([{"weight": 10, "podAffinityTerm": term(n, key)}]);
    plain(n)
        .set("/spec/topologySpreadConstraints", constraint(n, "ScheduleAnyway"))
        .set(&format!("/spec/affinity/podAntiAffinity/{PREFERRED}"), wish(HOST))
        .set(&format!("/spec/affinity/podAffinity/{PREFERRED}"), wish(ZONE))
}

fn new<V: View>(object: &Build) -> Change<V> {
    let read = Cached::read(object.object(), false).expect("the builders build objects");
    Change { old: None, new: Some(Arc::new(read)) }
}

/// Nanoseconds that this thread has run.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has it");
    text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number comes first")
}

fn main() {
    let profile = Profile::default();
    let word = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    for (what, build) in WORKLOADS.into_iter().filter(|(what, _)| what.contains(&word)) {
        for nodes in NODES {
            let mut cluster = Cluster::default();
            for n in 0..nodes {
                let node = node(&format!("n{n}"))
                    .label(ZONE, &format!("z{}", n % 10))
                    .set("/status/allocatable/pods", json!("200"));
                cluster.node_changed(&new::<Offer>(&node));
            }
            let pods: Vec<Arc<Cached<Pod>>> =
                (0..PODS).map(|n| new(&build(n)).new.expect("just made")).collect();
            let began = cpu_ns();
            for (n, pod) in pods.iter().enumerate() {
                match decide(&cluster, pod, &profile, n as u64) {
                    Decision::Bind { node, .. } => drop(cluster.assume(pod, &node)),
                    Decision::Unschedulable(why) => panic!("{what}, {nodes}: {}", why.message),
                }
            }
            let seconds = (cpu_ns() - began) as f64 / 1e9;
            println!(
                "{what}, {nodes} nodes: {:.0} pods/s, {:.0} µs each",
                PODS as f64 / seconds,
                seconds / PODS as f64 * 1e6,
            );
        }
    }
}

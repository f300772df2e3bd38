//! How many pods a second are decided upon, on clusters of several sizes with
//! 10,000 pods: `cargo bench -p scheduler`. Nothing is written; see `./x
//! bench` for what the API server adds.

use std::{sync::Arc, time::Instant};

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

fn main() {
    let profile = Profile::default();
    for (what, build) in WORKLOADS {
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
            let began = Instant::now();
            let mut worst = std::time::Duration::ZERO;
            for (n, pod) in pods.iter().enumerate() {
                let began = Instant::now();
                match decide(&cluster, pod, &profile, n as u64) {
                    Decision::Bind { node, .. } => drop(cluster.assume(pod, &node)),
                    Decision::Unschedulable(why) => panic!("{what}, {nodes}: {}", why.message),
                }
                worst = worst.max(began.elapsed());
            }
            let seconds = began.elapsed().as_secs_f64();
            println!(
                "{what}, {nodes} nodes: {:.0} pods/s, {:.0} µs each, {:.1} ms at worst",
                PODS as f64 / seconds,
                seconds / PODS as f64 * 1e6,
                worst.as_secs_f64() * 1e3,
            );
        }
    }
}

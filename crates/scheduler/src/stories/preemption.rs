//! Who goes, so that a more important pod has a place.

use proptest::prelude::*;
use serde_json::{Value, json};
use testkit::{Build, node, pod};

use super::world::{check, cluster, decision, object, waiting};
use crate::{Decision, Profile, decide};

fn of(priority: i32, pod: Build) -> Build {
    pod.set("/spec/priority", json!(priority))
}

fn there(name: &str, priority: i32, node: &str, cpu: &str) -> Build {
    of(priority, pod(&format!("default/{name}")).on(node).requests(cpu, "1Mi"))
}

fn p(priority: i32, cpu: &str) -> Build {
    of(priority, pod("default/p").requests(cpu, "1Mi"))
}

fn started(pod: Build, at: &str) -> Build {
    pod.set("/status/startTime", json!(at))
}

fn budget(name: &str, app: &str, allowed: i32) -> Build {
    object("policy/v1", "PodDisruptionBudget", &format!("default/{name}"))
        .set("/spec/selector", json!({"matchLabels": {"app": app}}))
        .set("/status/disruptionsAllowed", json!(allowed))
}

#[test]
fn who_has_to_go() {
    let victims = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    let one = |pods: Vec<Build>| [vec![node("n1")], pods].concat();
    let two = |pods: Vec<Build>| [vec![node("n1"), node("n2")], pods].concat();
    let app = |pod: Build| pod.label("app", "web");
    let never = |pod: Build| pod.set("/spec/preemptionPolicy", json!("Never"));
    let on = |node: &str, pod: Build| pod.set("/status/nominatedNodeName", json!(node));
    let preempted = |pod: Build| {
        pod.deleting().set("/status/conditions", json!([{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]))
    };
    let anti = |value: Value| json!([{"labelSelector": {"matchLabels": {"app": value}}, "topologyKey": "kubernetes.io/hostname"}]);
    let apart = of(
        10,
        pod("default/p").set(
            "/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution",
            anti(json!("web")),
        ),
    );
    let port = |pod: Build| {
        pod.set("/spec/containers/0/ports", json!([{"containerPort": 80, "hostPort": 80}]))
    };
    check(vec![
        ("a lower one", p(10, "3"), one(vec![there("a", 1, "n1", "2")]), "n1 instead of a"),
        ("never an equal one", p(10, "3"), one(vec![there("a", 10, "n1", "2")]), victims),
        ("never a higher one", p(10, "3"), one(vec![there("a", 11, "n1", "2")]), victims),
        (
            "no more than needed",
            p(10, "2"),
            one(vec![there("a", 1, "n1", "2"), there("b", 2, "n1", "2")]),
            "n1 instead of a",
        ),
        (
            "all that is needed",
            p(10, "4"),
            one(vec![there("a", 1, "n1", "2"), there("b", 2, "n1", "2")]),
            "n1 instead of b a",
        ),
        (
            "the younger of equals",
            p(10, "2"),
            one(vec![
                started(there("a", 1, "n1", "2"), "2023-01-01T00:00:00Z"),
                started(there("b", 1, "n1", "2"), "2024-01-01T00:00:00Z"),
            ]),
            "n1 instead of b",
        ),
        (
            "where the least important go",
            p(10, "4"),
            two(vec![there("a", 5, "n1", "2"), there("b", 4, "n2", "2")]),
            "n2 instead of b",
        ),
        (
            "where the fewest go",
            p(10, "4"),
            two(vec![there("a", 5, "n1", "2"), there("b", 5, "n1", "2"), there("c", 5, "n2", "2")]),
            "n2 instead of c",
        ),
        (
            "where it ran the shortest",
            p(10, "4"),
            two(vec![
                started(there("a", 5, "n1", "2"), "2023-01-01T00:00:00Z"),
                started(there("b", 5, "n2", "2"), "2024-01-01T00:00:00Z"),
            ]),
            "n2 instead of b",
        ),
        (
            "where no promise is broken",
            p(10, "4"),
            two(vec![
                app(there("a", 1, "n1", "2")),
                there("b", 5, "n2", "2"),
                budget("w", "web", 0),
            ]),
            "n2 instead of b",
        ),
        (
            "the unprotected first",
            p(10, "2"),
            one(vec![
                app(there("a", 1, "n1", "2")),
                there("b", 5, "n1", "2"),
                budget("w", "web", 0),
            ]),
            "n1 instead of b",
        ),
        (
            "a promise is no wall",
            p(10, "4"),
            one(vec![app(there("a", 1, "n1", "2")), budget("w", "web", 0)]),
            "n1 instead of a",
        ),
        (
            "as far as the promise goes",
            p(10, "2"),
            one(vec![
                app(there("a", 1, "n1", "2")),
                there("b", 5, "n1", "2"),
                budget("w", "web", 1),
            ]),
            "n1 instead of a",
        ),
        (
            "it does not want to",
            never(p(10, "3")),
            one(vec![there("a", 1, "n1", "2")]),
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never.",
        ),
        (
            "it would not help",
            p(10, "5"),
            one(vec![there("a", 1, "n1", "2")]),
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
        ),
        (
            "even without them",
            p(10, "3"),
            one(vec![there("a", 1, "n1", "1"), there("b", 10, "n1", "2")]),
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Insufficient cpu.",
        ),
        (
            "they are going already",
            on("n1", p(10, "3")),
            one(vec![preempted(there("a", 1, "n1", "2")), on("n1", p(10, "3"))]),
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: not eligible due to a terminating pod on the nominated node.",
        ),
        (
            "room made for another is taken",
            p(10, "3"),
            one(vec![on("n1", of(10, pod("default/other").requests("3", "1Mi")))]),
            victims,
        ),
        (
            "but not from a more important one",
            p(10, "3"),
            one(vec![on("n1", of(9, pod("default/other").requests("3", "1Mi")))]),
            "n1",
        ),
        (
            "who keeps it away",
            apart,
            one(vec![app(there("a", 1, "n1", "1")), there("b", 1, "n1", "1")]),
            "n1 instead of a",
        ),
        (
            "who has its port",
            port(of(10, pod("default/p"))),
            one(vec![port(there("a", 1, "n1", "1")), there("b", 1, "n1", "1")]),
            "n1 instead of a",
        ),
    ]);
}

/// One node has room for four such pods each.
fn cases() -> impl Strategy<Value = (Vec<Build>, Build)> {
    let pods = prop::collection::vec((0..4usize, 0..5i32, 1..5u32, any::<bool>()), 0..16);
    (1..4usize, pods, 1..6i32, 1..5u32, 0..3i32).prop_map(
        |(nodes, pods, priority, size, allowed)| {
            let mut objects: Vec<Build> = (0..nodes).map(|n| node(&format!("n{n}"))).collect();
            objects.push(budget("w", "web", allowed));
            let mut left = vec![4u32; nodes];
            for (i, (at, priority, size, protected)) in pods.into_iter().enumerate() {
                let at = at % nodes;
                if left[at] >= size {
                    left[at] -= size;
                    let pod =
                        there(&format!("v{i}"), priority, &format!("n{at}"), &size.to_string());
                    objects.push(if protected { pod.label("app", "web") } else { pod });
                }
            }
            (objects, p(priority, &size.to_string()))
        },
    )
}

proptest! {
    /// Never one of equal or higher priority, enough, and none without need;
    /// where there is a way, one is found.
    #[test]
    fn no_more_goes_than_must((objects, incoming) in cases()) {
        let pod = waiting(&incoming);
        let profile = Profile::default();
        let cluster = cluster(&objects);
        match decision(&incoming, &objects, &profile) {
            Decision::Bind { .. } => {}
            Decision::Unschedulable(why) => match why.preemption {
                Some(room) => {
                    let fits_without = |victims: &[usize]| {
                        let gone = |object: &Build| victims.iter().any(|v| object.json()["metadata"]["uid"] == room.victims[*v].meta.uid.as_str());
                        let rest: Vec<Build> = objects.iter().filter(|object| {
                            let json = object.json();
                            !gone(object) && (json["kind"] != "Node" || json["metadata"]["name"] == room.node.as_str())
                                && (json["kind"] != "Pod" || json["spec"]["nodeName"] == room.node.as_str())
                        }).cloned().collect();
                        matches!(decide(&super::world::cluster(&rest), &pod, &profile, 0), Decision::Bind { .. })
                    };
                    prop_assert!(room.victims.iter().all(|victim| victim.view.priority < pod.view.priority));
                    let all: Vec<usize> = (0..room.victims.len()).collect();
                    prop_assert!(fits_without(&all));
                    for spared in &all {
                        let others: Vec<usize> = all.iter().copied().filter(|v| v != spared).collect();
                        prop_assert!(!fits_without(&others), "{} need not go", room.victims[*spared].meta.name);
                    }
                }
                None => {
                    for node in cluster.nodes() {
                        let kept = node.pods.iter().filter(|other| other.view.priority >= pod.view.priority);
                        let used: i64 = kept.map(|other| other.view.requests.cpu_milli).sum();
                        prop_assert!(used + pod.view.requests.cpu_milli > 4000, "{} could be freed", node.name());
                    }
                }
            },
        }
    }
}

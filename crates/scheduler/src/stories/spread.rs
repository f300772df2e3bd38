//! Pods of a kind, evenly over domains.

use serde_json::{Value, json};
use testkit::{Build, node, pod, replica_set, service};

use super::world::{check, outcome_by, profile, zone};
use crate::{Cluster, Profile, decide};

const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

fn web(key: &str) -> Build {
    pod(key).label("app", "web")
}

fn constraint(key: &str, max_skew: i32, hard: bool, more: Value) -> Value {
    let mut constraint = json!({
        "maxSkew": max_skew,
        "topologyKey": key,
        "whenUnsatisfiable": if hard { "DoNotSchedule" } else { "ScheduleAnyway" },
        "labelSelector": {"matchLabels": {"app": "web"}},
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        constraint[field] = value.clone();
    }
    constraint
}

fn spread(constraints: &[Value]) -> Build {
    web("default/p").set("/spec/topologySpreadConstraints", json!(constraints))
}

fn hard(key: &str, more: Value) -> Build {
    spread(&[constraint(key, 1, true, more)])
}

fn soft(key: &str) -> Build {
    spread(&[constraint(key, 1, false, json!({}))])
}

/// Two zones of one node each, with so many pods.
fn zones(a: usize, b: usize) -> Vec<Build> {
    let mut all = vec![zone(node("na"), "a"), zone(node("nb"), "b")];
    all.extend((0..a).map(|i| web(&format!("default/a{i}")).on("na")));
    all.extend((0..b).map(|i| web(&format!("default/b{i}")).on("nb")));
    all
}

fn with(objects: Vec<Build>, more: Vec<Build>) -> Vec<Build> {
    [objects, more].concat()
}

#[test]
fn what_is_required() {
    let none = json!({});
    let third = || zone(node("nc"), "c");
    let tainted = || third().set("/spec/taints", json!([{"key": "k", "effect": "NoSchedule"}]));
    let only_b = |pod: Build| pod.set("/spec/nodeSelector", json!({ZONE: "b"}));
    let going = |pod: Build| pod.deleting();
    check(vec![
        ("the emptier zone", hard(ZONE, none.clone()), zones(2, 1), "nb"),
        (
            "the fuller one is not possible",
            hard(ZONE, none.clone())
                .set("/spec/nodeSelector", json!({HOST: "na"}))
                .set("/spec/topologySpreadConstraints/0/nodeAffinityPolicy", json!("Ignore")),
            zones(2, 1),
            "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) didn't match pod topology spread constraints.",
        ),
        (
            "two more are allowed",
            spread(&[constraint(ZONE, 3, true, none.clone())])
                .set("/spec/nodeSelector", json!({HOST: "na"})),
            zones(2, 0),
            "na",
        ),
        (
            "without the label",
            hard("rack", none.clone()),
            zones(0, 0),
            "0/2 nodes are available: 2 node(s) didn't match pod topology spread constraints (missing required label).",
        ),
        ("only the zones it may go to count", only_b(hard(ZONE, none.clone())), zones(0, 5), "nb"),
        (
            "unless all shall count",
            only_b(hard(ZONE, json!({"nodeAffinityPolicy": "Ignore"}))),
            zones(0, 1),
            "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) didn't match pod topology spread constraints.",
        ),
        (
            "a tainted zone counts as empty",
            hard(ZONE, none.clone()),
            with(zones(1, 1), vec![tainted()]),
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) didn't match pod topology spread constraints.",
        ),
        (
            "unless taints are honoured",
            hard(ZONE, json!({"nodeTaintsPolicy": "Honor"})),
            with(zones(2, 1), vec![tainted()]),
            "nb",
        ),
        (
            "too few domains",
            hard(ZONE, json!({"minDomains": 3})),
            zones(1, 1),
            "0/2 nodes are available: 2 node(s) didn't match pod topology spread constraints.",
        ),
        ("enough domains", hard(ZONE, json!({"minDomains": 2})), zones(2, 1), "nb"),
        (
            "those that go do not count",
            hard(ZONE, none.clone()),
            with(
                zones(1, 0),
                vec![going(web("default/x").on("nb")), going(web("default/y").on("nb"))],
            ),
            "nb",
        ),
        (
            "other namespaces do not count",
            hard(ZONE, none.clone()),
            with(zones(1, 0), vec![web("other/x").on("nb"), web("other/y").on("nb")]),
            "nb",
        ),
        (
            "of one revision",
            hard(ZONE, json!({"matchLabelKeys": ["rev"]})).label("rev", "2"),
            with(zones(0, 3), vec![web("default/n").label("rev", "2").on("na")]),
            "nb",
        ),
        (
            "both zone and host",
            spread(&[
                constraint(ZONE, 1, true, none.clone()),
                constraint(HOST, 1, true, none.clone()),
            ]),
            vec![
                zone(node("a1"), "a"),
                zone(node("a2"), "a"),
                zone(node("b1"), "b"),
                web("default/x").on("a1"),
                web("default/y").on("b1"),
            ],
            "a2",
        ),
    ]);
}

#[test]
fn what_is_wished_for() {
    let rs = || replica_set("default/web", 3);
    let owned = |key: &str| web(key).owned_by(&rs());
    let three = |pods: Vec<Build>| {
        with(vec![zone(node("na"), "a"), zone(node("nb"), "b"), zone(node("nc"), "c")], pods)
    };
    // Fuller nodes are worse too, so that only the spread speaks for one.
    let heavy = |on: &str| pod(&format!("default/heavy-{on}")).on(on).requests("1", "2Gi");
    let rest = || vec![heavy("nc")];
    check(vec![
        (
            "by zone",
            soft(ZONE),
            with(three(rest()), vec![owned("default/x").on("na"), owned("default/y").on("nb")]),
            "nc",
        ),
        (
            "a node without the label is last",
            soft(ZONE),
            vec![
                zone(node("na"), "a"),
                node("bare"),
                pod("default/h").on("na").requests("1", "2Gi"),
            ],
            "na",
        ),
        (
            "a Service's pods, without being asked",
            web("default/p"),
            with(
                three(rest()),
                vec![service("default/web"), web("default/x").on("na"), web("default/y").on("nb")],
            ),
            "nc",
        ),
        (
            "a ReplicaSet's pods, without being asked",
            owned("default/p"),
            with(
                three(rest()),
                vec![rs(), owned("default/x").on("na"), owned("default/y").on("nb")],
            ),
            "nc",
        ),
    ]);
    let hosts = || vec![node("n1"), node("n2"), service("default/web"), web("default/x").on("n1")];
    let listed = profile(
        "PodTopologySpread",
        json!({"defaultConstraints": [{"maxSkew": 1, "topologyKey": HOST, "whenUnsatisfiable": "DoNotSchedule"}]}),
    );
    assert_eq!(outcome_by(&web("default/p"), &hosts(), &listed), "n2");
    let crowded = [hosts(), vec![pod("default/h").on("n2").requests("4", "1Mi")]].concat();
    let said = outcome_by(&web("default/p").requests("1", "1Mi"), &crowded, &listed);
    assert!(said.starts_with("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod topology spread constraints."), "{said}");
}

/// Counters are kept up change by change: what was decided before must not
/// change what is decided now.
#[test]
fn many_of_a_kind_end_up_even() {
    let mut cluster: Cluster = super::world::cluster(&zones(0, 0));
    let profile = Profile::default();
    for i in 0..10 {
        let pod = super::world::waiting(
            &hard(ZONE, json!({}))
                .set("/metadata/name", json!(format!("p{i}")))
                .set("/metadata/uid", json!(format!("u{i}"))),
        );
        let crate::Decision::Bind { node, .. } = decide(&cluster, &pod, &profile, 0) else {
            panic!("there is room")
        };
        cluster.assume(&pod, &node);
        let count = |name: &str| cluster.node(name).expect("there").pods.len();
        assert!(count("na").abs_diff(count("nb")) <= 1);
    }
}

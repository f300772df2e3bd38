//! Pods near each other, and apart.

use serde_json::{Value, json};
use testkit::{Build, namespace, node, pod};

use super::world::{check, outcome_by, profile, zone};

const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

fn web(key: &str) -> Build {
    pod(key).label("app", "web")
}

fn db(key: &str) -> Build {
    pod(key).label("app", "db")
}

fn term(app: &str, key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key})
}

fn near(pod: Build, terms: Value) -> Build {
    pod.set("/spec/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution", terms)
}

fn apart(pod: Build, terms: Value) -> Build {
    pod.set("/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution", terms)
}

fn wish(pod: Build, side: &str, weight: i32, term: Value) -> Build {
    pod.set(
        &format!("/spec/affinity/{side}/preferredDuringSchedulingIgnoredDuringExecution"),
        json!([{"weight": weight, "podAffinityTerm": term}]),
    )
}

/// Two zones of two nodes.
fn four() -> Vec<Build> {
    vec![zone(node("a1"), "a"), zone(node("a2"), "a"), zone(node("b1"), "b"), zone(node("b2"), "b")]
}

fn with(more: Vec<Build>) -> Vec<Build> {
    [four(), more].concat()
}

fn only(node: &str, pod: Build) -> Build {
    pod.set("/spec/nodeSelector", json!({HOST: node}))
}

#[test]
fn what_is_required() {
    let with_keys = |mut term: Value, field: &str| {
        term[field] = json!(["rev"]);
        term
    };
    let no_rules = "0/4 nodes are available: 4 node(s) didn't match pod affinity rules.";
    let team = |name: &str, team: &str| namespace(name).label("team", team);
    let mut anywhere = term("db", HOST);
    anywhere["namespaceSelector"] = json!({"matchLabels": {"team": "x"}});
    let mut named = term("db", HOST);
    named["namespaces"] = json!(["other"]);
    let mut all = term("db", HOST);
    all["namespaceSelector"] = json!({});
    let labelled = |operator: &str, values: &[&str]| {
        let wanted = match values {
            [] => json!({"key": "app", "operator": operator}),
            values => json!({"key": "app", "operator": operator, "values": values}),
        };
        json!([{"labelSelector": {"matchExpressions": [wanted]}, "topologyKey": HOST}])
    };
    check(vec![
        (
            "near one of two kinds",
            near(web("default/p"), labelled("In", &["cache", "db"])),
            with(vec![web("default/q").on("a1"), db("default/d").on("b1")]),
            "b1",
        ),
        (
            "near one without the label",
            near(web("default/p"), labelled("DoesNotExist", &[])),
            with(vec![pod("default/x").on("a2"), db("default/d").on("b1")]),
            "a2",
        ),
        (
            "those that are there want nobody of any kind",
            web("default/p"),
            with(["a1", "a2", "b1"].map(|n| apart(db(&format!("default/{n}")).on(n), labelled("Exists", &[]))).into()),
            "b2",
        ),
        ("near one", near(web("default/p"), json!([term("db", HOST)])), with(vec![db("default/d").on("b1")]), "b1"),
        ("near nobody", near(web("default/p"), json!([term("db", HOST)])), four(), no_rules),
        ("in another namespace", near(web("default/p"), json!([term("db", HOST)])), with(vec![db("other/d").on("b1")]), no_rules),
        ("in a namespace by name", near(web("default/p"), json!([named])), with(vec![db("other/d").on("b1")]), "b1"),
        ("in all namespaces", near(web("default/p"), json!([all])), with(vec![db("other/d").on("b1")]), "b1"),
        (
            "in a namespace by label",
            near(web("default/p"), json!([anywhere])),
            with(vec![team("other", "y"), team("third", "x"), db("other/d").on("b1"), db("third/d").on("a2")]),
            "a2",
        ),
        ("the first of a group", near(only("a2", web("default/p")), json!([term("web", ZONE)])), four(), "a2"),
        (
            "the second of a group",
            near(only("b1", web("default/p")), json!([term("web", ZONE)])),
            with(vec![web("default/q").on("a1")]),
            "0/4 nodes are available: 1 node(s) didn't match pod affinity rules, 3 node(s) didn't match Pod's node affinity/selector.",
        ),
        (
            "a node without the label",
            near(only("none", web("default/p")), json!([term("web", "rack")])),
            with(vec![node("none")]),
            "0/5 nodes are available: 1 node(s) didn't match pod affinity rules, 4 node(s) didn't match Pod's node affinity/selector.",
        ),
        (
            "one pod must match all terms",
            near(web("default/p"), json!([term("db", HOST), {"labelSelector": {"matchLabels": {"tier": "x"}}, "topologyKey": HOST}])),
            with(vec![db("default/d").on("a1"), pod("default/x").label("tier", "x").on("a1"), db("default/e").label("tier", "x").on("b2")]),
            "b2",
        ),
        (
            "apart by host",
            apart(web("default/p"), json!([term("web", HOST)])),
            with(["a1", "a2", "b2"].map(|n| web(&format!("default/{n}")).on(n)).into()),
            "b1",
        ),
        (
            "apart by zone",
            apart(web("default/p"), json!([term("web", ZONE)])),
            with(vec![web("default/q").on("a1"), web("default/r").on("b1")]),
            "0/4 nodes are available: 4 node(s) didn't match pod anti-affinity rules. no new claims to deallocate, preemption: 0/4 nodes are available: 4 No preemption victims found for incoming pod.",
        ),
        (
            "those that are there say no",
            web("default/p"),
            with(vec![apart(db("default/d").on("a1"), json!([term("web", ZONE)])), apart(db("default/e").on("b1"), json!([term("web", ZONE)]))]),
            "0/4 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules, 2 node(s) didn't satisfy existing pods anti-affinity rules.",
        ),
        (
            "a selector that matches nothing",
            near(web("default/p"), json!([{"topologyKey": HOST}])),
            with(vec![db("default/d").on("a1")]),
            no_rules,
        ),
        (
            "of the same revision",
            near(web("default/p").label("rev", "2"), json!([with_keys(term("web", HOST), "matchLabelKeys")])),
            with(vec![web("default/q").label("rev", "1").on("a1"), web("default/r").label("rev", "2").on("b2")]),
            "b2",
        ),
        (
            "of other revisions",
            near(web("default/p").label("rev", "2"), json!([with_keys(term("web", HOST), "mismatchLabelKeys")])),
            with(vec![web("default/q").label("rev", "1").on("a1"), web("default/r").label("rev", "2").on("b2")]),
            "a1",
        ),
    ].into_iter().map(|(what, pod, objects, wanted)| {
        // The same reason twice is one reason: as upstream counts.
        let wanted = match what {
            "those that are there say no" => "0/4 nodes are available: 4 node(s) didn't satisfy existing pods anti-affinity rules.",
            _ => wanted,
        };
        (what, pod, objects, wanted)
    }).collect());
}

#[test]
fn what_is_wished_for() {
    let there = || with(vec![db("default/d").on("b1")]);
    check(vec![
        ("near", wish(web("default/p"), "podAffinity", 100, term("db", HOST)), there(), "b1"),
        (
            "not near",
            wish(web("default/p"), "podAntiAffinity", 100, term("db", HOST)),
            vec![node("a1"), node("b1"), db("default/d").on("b1")],
            "a1",
        ),
        (
            "they wish to be near us",
            web("default/p"),
            with(vec![wish(db("default/d").on("b2"), "podAffinity", 100, term("web", HOST))]),
            "b2",
        ),
        (
            "they wish to be left alone",
            web("default/p"),
            vec![
                node("a1"),
                node("b1"),
                wish(db("default/d").on("b1"), "podAntiAffinity", 100, term("web", HOST)),
            ],
            "a1",
        ),
        (
            "they require us",
            web("default/p"),
            with(vec![
                web("default/w").on("a2"),
                near(db("default/d").on("a2"), json!([term("web", HOST)])),
            ]),
            "a2",
        ),
    ]);
    let one_sided = profile(
        "InterPodAffinity",
        json!({"ignorePreferredTermsOfExistingPods": true, "hardPodAffinityWeight": 0}),
    );
    let full = pod("default/f").on("b1").requests("2", "4Gi");
    let theirs = wish(db("default/d").on("b1"), "podAffinity", 100, term("web", HOST));
    let nodes = [node("a1"), node("b1"), full, theirs];
    assert_eq!(outcome_by(&web("default/p"), &nodes, &one_sided), "a1");
}

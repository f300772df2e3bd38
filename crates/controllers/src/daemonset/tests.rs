//! DaemonSet plans as a table, and its life among the other controllers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use api_object::LabelSelector;
use client::Cached;
use serde_json::{Value, json};
use testkit::{Build, FakeCluster, daemon_set, node, pod};

use super::{
    fit::Fit,
    plan::{Plan, plan},
    view::View,
};
use crate::{
    cached::*,
    revisions::{self, POD_LABEL},
    stories::Story,
};

pub(super) fn seen(set: &Build, nodes: &[Build], pods: &[Build], revisions: &[Build]) -> View {
    let set: Arc<Cached<DaemonSet>> = Arc::new(Cached::read(set.object(), false).expect("a set"));
    let template = set.view.spec.template.value();
    View {
        selector: LabelSelector::from_object(&set.view.spec.selector).expect("a selector"),
        fit: Fit::of(&template).expect("a pod"),
        template,
        nodes: nodes
            .iter()
            .map(|node| Arc::new(Cached::read(node.object(), false).expect("a node")))
            .collect(),
        pods: pods
            .iter()
            .map(|pod| Arc::new(Cached::read(pod.object(), false).expect("a pod")))
            .collect(),
        revisions: revisions
            .iter()
            .map(|r| Arc::new(Cached::read(r.object(), false).expect("a revision")))
            .collect(),
        deleted: BTreeSet::new(),
        waiting: BTreeMap::new(),
        set,
        now: jiff::Timestamp::from_second(1_700_000_000).expect("in range"),
    }
}

pub(super) fn template(image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "agent"}},
        "spec": {"containers": [{"name": "main", "image": image}]},
    })
}

pub(super) fn revision(set: &Build, hash: &str, number: i64, template: &Value) -> Build {
    pod(&format!("default/agent-{hash}"))
        .owned_by(set)
        .label("app", "agent")
        .label(POD_LABEL, hash)
        .set("/data", revisions::data(template))
        .set("/revision", json!(number))
}

/// `+n1` for a pod created, `-a` for one deleted.
pub(super) fn words(plan: &Plan) -> Vec<String> {
    let created = plan.create.iter().map(|node| format!("+{node}"));
    created
        .chain(plan.delete.iter().chain(&plan.broken).map(|pod| format!("-{}", pod.meta.name)))
        .collect()
}

/// `a n1 ready`, `b n2 pending old`, `c n1 failed`.
fn pods(set: &Build, lines: &[&str]) -> Vec<Build> {
    let one = |(i, line): (usize, &&str)| {
        let mut words = line.split(' ');
        let name = words.next().expect("a name");
        let mut pod = pod(&format!("default/{name}"))
            .owned_by(set)
            .label("app", "agent")
            .label(POD_LABEL, "new")
            .set("/metadata/creationTimestamp", json!(format!("2023-11-14T22:13:{i:02}Z")))
            .on(words.next().expect("a node"));
        for word in words {
            pod = match word {
                "ready" => pod.ready("10.0.0.1"),
                "pending" => pod,
                "failed" => pod.set("/status/phase", json!("Failed")),
                "succeeded" => pod.set("/status/phase", json!("Succeeded")),
                "old" => pod.label(POD_LABEL, "old"),
                "ending" => pod.deleting(),
                "unbound" => {
                    let node = pod.json()["spec"]["nodeName"].clone();
                    pod.set("/spec/nodeName", Value::Null).set(
                        "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution",
                        json!({"nodeSelectorTerms": [{"matchFields": [
                            {"key": "metadata.name", "operator": "In", "values": [node]},
                        ]}]}),
                    )
                }
                other => panic!("{other}?"),
            };
        }
        pod
    };
    lines.iter().enumerate().map(one).collect()
}

#[test]
fn each_node_has_its_pod_and_rollouts_keep_their_bounds() {
    let set = || daemon_set("default/agent").set("/spec/template", template("new"));
    let rolling = |unavailable: Value, surge: Value| {
        set().set(
            "/spec/updateStrategy/rollingUpdate",
            json!({"maxUnavailable": unavailable, "maxSurge": surge}),
        )
    };
    let surge = || rolling(json!(0), json!(1));
    type Row<'a> = (&'a str, Build, &'a [&'a str], &'a [&'a str]);
    let table: &[Row<'_>] = &[
        ("all", set(), &[], &["+n1", "+n2", "+n3"]),
        ("the rest", set(), &["a n1 ready", "b n2 pending"], &["+n3"]),
        ("bound or not", set(), &["a n1 ready", "b n2 pending unbound", "c n3 ready"], &[]),
        ("two of them", set(), &["a n1 ready", "b n1 ready", "c n2 ready", "d n3 ready"], &["-b"]),
        (
            "no such node",
            set(),
            &["a n1 ready", "b n2 ready", "c n3 ready", "d n4 pending unbound", "e n5 ready"],
            &["-d"],
        ),
        ("one goes", set(), &["a n1 ready ending", "b n2 ready", "c n3 ready"], &[]),
        (
            "gone but for its name",
            set(),
            &["a n1 failed ending", "b n2 ready", "c n3 ready"],
            &["+n1"],
        ),
        ("failed", set(), &["a n1 failed", "b n2 ready", "c n3 succeeded"], &["-a", "-c"]),
        ("roll", set(), &["a n1 ready old", "b n2 ready old", "c n3 ready old"], &["-a"]),
        ("roll waits", set(), &["a n1 pending", "b n2 ready old", "c n3 ready old"], &[]),
        (
            "broken ones go",
            set(),
            &["a n1 pending old", "b n2 pending old", "c n3 ready old"],
            &["-a", "-b"],
        ),
        (
            "half, rounded up",
            rolling(json!("50%"), json!(0)),
            &["a n1 ready old", "b n2 ready old", "c n3 ready old"],
            &["-a", "-b"],
        ),
        (
            "on delete",
            set().set("/spec/updateStrategy", json!({"type": "OnDelete"})),
            &["a n1 ready old", "b n2 ready old", "c n3 ready old"],
            &[],
        ),
        ("surge", surge(), &["a n1 ready old", "b n2 ready old", "c n3 ready old"], &["+n1"]),
        (
            "surge waits",
            surge(),
            &["a n1 ready old", "d n1 pending", "b n2 ready old", "c n3 ready old"],
            &[],
        ),
        (
            "surged",
            surge(),
            &["a n1 ready old", "d n1 ready", "b n2 ready old", "c n3 ready old"],
            &["-a"],
        ),
        (
            "surge on",
            surge(),
            &["a n1 ready old ending", "d n1 ready", "b n2 ready old", "c n3 ready old"],
            &["+n2"],
        ),
        (
            "broken ones do not count",
            surge(),
            &["a n1 pending old", "b n2 ready old", "c n3 ready old"],
            &["+n1", "+n2"],
        ),
        (
            "the broken old one goes at once",
            surge(),
            &["a n1 pending old", "d n1 pending", "b n2 ready", "c n3 ready"],
            &["-a"],
        ),
    ];
    let nodes = [node("n1"), node("n2"), node("n3")];
    for (story, set, present, wanted) in table {
        let revisions =
            [revision(set, "old", 1, &template("old")), revision(set, "new", 2, &template("new"))];
        let plan = plan(&seen(set, &nodes, &pods(set, present), &revisions));
        assert_eq!(words(&plan), *wanted, "{story}");
    }
}

#[test]
fn where_a_pod_failed_the_next_waits() {
    let wait = Duration::from_secs(8);
    for surge in [0, 1] {
        let set = daemon_set("default/agent").set("/spec/template", template("new")).set(
            "/spec/updateStrategy/rollingUpdate",
            json!({"maxUnavailable": 1 - surge, "maxSurge": surge}),
        );
        let revisions = [revision(&set, "new", 1, &template("new"))];
        let nodes = [node("n1"), node("n2")];
        let check = |present: &[&str], waiting: bool, wanted: &[&str]| {
            let mut view = seen(&set, &nodes, &pods(&set, present), &revisions);
            view.waiting = waiting.then(|| ("n1".to_owned(), wait)).into_iter().collect();
            let plan = plan(&view);
            assert_eq!(words(&plan), wanted, "{surge} {present:?} {waiting}");
            plan.look_again
        };
        let failed = ["a n1 failed", "b n2 ready"];
        assert_eq!(check(&failed, true, &[]), Some(wait));
        // Without surge the next comes when this one is gone.
        let due: &[&str] = if surge == 0 { &["-a"] } else { &["+n1", "-a"] };
        assert_eq!(check(&failed, false, due), None);
    }
}

#[test]
fn nodes_are_chosen() {
    let set = daemon_set("default/agent").set("/spec/template", template("new"));
    let taint = |key: &str, effect: &str| {
        node("n1").set("/spec/taints", json!([{"key": key, "effect": effect}]))
    };
    let affinity = |term: Value| {
        set.clone().set(
            "/spec/template/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution",
            json!({"nodeSelectorTerms": [term]}),
        )
    };
    let select = |key: &str| set.clone().set("/spec/template/spec/nodeSelector", json!({key: "1"}));
    let not_ready = "node.kubernetes.io/not-ready";
    let network = "node.kubernetes.io/network-unavailable";
    // The set, the node, whether it gets a pod, and whether one there stays.
    let table: Vec<(Build, Build, bool, bool)> = vec![
        (set.clone(), node("n1"), true, true),
        (select("a"), node("n1"), false, false),
        (select("a"), node("n1").label("a", "1"), true, true),
        (set.clone(), taint("x", "NoSchedule"), false, true),
        (set.clone(), taint("x", "NoExecute"), false, false),
        (set.clone(), taint("x", "PreferNoSchedule"), true, true),
        (set.clone(), taint(not_ready, "NoExecute"), true, true),
        (set.clone(), taint("node.kubernetes.io/unschedulable", "NoSchedule"), true, true),
        (set.clone(), taint(network, "NoSchedule"), false, true),
        (
            set.clone().set("/spec/template/spec/hostNetwork", json!(true)),
            taint(network, "NoSchedule"),
            true,
            true,
        ),
        (
            set.clone().set("/spec/template/spec/tolerations", json!([{"operator": "Exists"}])),
            taint("x", "NoExecute"),
            true,
            true,
        ),
        (
            affinity(
                json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}),
            ),
            node("n1"),
            false,
            false,
        ),
        (
            affinity(json!({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]})),
            node("n1"),
            true,
            true,
        ),
        (set.clone().set("/spec/template/spec/nodeName", json!("n2")), node("n1"), false, false),
    ];
    for (set, node, gets, keeps) in table {
        let template = set.json()["spec"]["template"].clone();
        let revisions = [revision(&set, "new", 1, &template)];
        let nodes = [node];
        let created = plan(&seen(&set, &nodes, &[], &revisions));
        assert_eq!(!created.create.is_empty(), gets, "{nodes:?} {template}");
        let kept = plan(&seen(&set, &nodes, &pods(&set, &["a n1 ready"]), &revisions));
        assert_eq!(kept.delete.is_empty(), keeps, "{nodes:?} {template}");
        let status = &kept.status;
        assert_eq!(status.desired_number_scheduled, i32::from(gets));
        assert_eq!(status.number_misscheduled, i32::from(!gets));
    }
}

#[test]
fn of_one_second_the_ready_one_stands_for_the_node() {
    const SECOND: &str = "2023-11-14T22:13:20Z";
    let set = daemon_set("default/agent");
    let template = set.json()["spec"]["template"].clone();
    let revisions = [revision(&set, "new", 1, &template)];
    for lines in [["a n1", "b n1 ready"], ["a n1 ready", "b n1"]] {
        let pods = pods(&set, &lines).into_iter();
        let at_once = |pod: Build| pod.set("/metadata/creationTimestamp", json!(SECOND));
        let pods: Vec<Build> = pods.map(at_once).collect();
        let plan = plan(&seen(&set, &[node("n1")], &pods, &revisions));
        assert_eq!(plan.status.number_ready, 1, "{lines:?}");
    }
}

fn three_nodes() -> FakeCluster {
    let cluster = FakeCluster::new().with_kubelet().with_node("n1").with_running_clock();
    for name in ["n1", "n2", "n3"] {
        cluster.create(NODES, &node(name));
    }
    cluster
}

#[tokio::test(start_paused = true)]
async fn a_daemon_set_lives() {
    let story = Story::start(three_nodes());
    story.cluster.create(DAEMON_SETS, &daemon_set("default/agent"));
    story.moment().await;
    let on = || {
        let pods = story.cluster.list(PODS);
        let mut nodes: Vec<_> = pods.iter().map(|p| p["spec"]["nodeName"].clone()).collect();
        nodes.sort_by_key(ToString::to_string);
        nodes
    };
    assert_eq!(on(), ["n1", "n2", "n3"]);
    let status =
        || story.cluster.get(DAEMON_SETS, "default/agent").expect("there")["status"].clone();
    for count in [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "numberAvailable",
        "updatedNumberScheduled",
    ] {
        assert_eq!(status()[count], 3, "{count}");
    }
    // A node comes, and one gets a taint.
    story.cluster.create(NODES, &node("n4"));
    story.cluster.edit(NODES, "n2", |node| {
        node["spec"]["taints"] = json!([{"key": "x", "effect": "NoExecute"}]);
    });
    story.moment().await;
    assert_eq!(on(), ["n1", "n3", "n4"]);
    story.cluster.edit(DAEMON_SETS, "default/agent", |set| {
        set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
    });
    story.moment().await;
    let pods = story.cluster.list(PODS);
    assert!(pods.iter().all(|pod| pod["spec"]["containers"][0]["image"] == "web:2"));
    let revisions = story.cluster.list(CONTROLLER_REVISIONS);
    assert_eq!(revisions.len(), 2);
    // `kubectl rollout undo` applies the data of a revision.
    let first = revisions.iter().find(|r| r["revision"] == 1).expect("there").clone();
    story.cluster.edit(DAEMON_SETS, "default/agent", |set| {
        set["spec"]["template"] = first["data"]["spec"]["template"].clone();
        set["spec"]["template"].as_object_mut().expect("a map").remove("$patch");
    });
    story.moment().await;
    let pods = story.cluster.list(PODS);
    assert!(pods.iter().all(|pod| pod["spec"]["containers"][0]["image"] == "web"));
    assert_eq!(story.cluster.list(CONTROLLER_REVISIONS).len(), 2, "the first is used again");
    // A pod that fails is replaced, ever more slowly.
    let name = story.names(PODS)[0].clone();
    story
        .cluster
        .edit(PODS, &format!("default/{name}"), |pod| pod["status"]["phase"] = json!("Failed"));
    story.moment().await;
    assert!(!story.names(PODS).contains(&name));
    assert_eq!(on(), ["n1", "n3", "n4"]);
    let events = story.cluster.events();
    let told = format!("FailedDaemonPod: Found failed daemon pod default/{name} on node");
    assert!(events.iter().any(|event| event.starts_with(&told)), "{events:?}");
    // The silence of a fake node is told within a minute.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let revision = story.cluster.revision();
    story.moment().await;
    assert_eq!(story.cluster.revision(), revision, "silent");
}

//! ReplicaSet plans as a table.

use std::{collections::BTreeMap, sync::Arc};

use api_object::LabelSelector;
use client::Cached;
use serde_json::json;
use testkit::{Build, pod, replica_set};

use super::{
    plan::{Plan, plan},
    row::REPLICA_SET,
    view::View,
};

const NOW: i64 = 1_700_000_000;

fn decide(set: &Build, pods: &[Build], deleted: &[&str]) -> Plan {
    let set = Arc::new(Cached::read(set.object(), false).expect("a set"));
    let pods = pods.iter().map(|pod| Arc::new(Cached::read(pod.object(), false).expect("a pod")));
    let pods: Vec<Arc<Cached<crate::cached::Pod>>> = pods.collect();
    let mut related_on_node = BTreeMap::new();
    for pod in &pods {
        *related_on_node.entry(pod.view.spec.node_name.clone()).or_default() += 1;
    }
    let set: Arc<Cached<crate::cached::ReplicaSet>> = set;
    plan(&View {
        row: &REPLICA_SET,
        selector: LabelSelector::from_object(&set.view.spec.selector).expect("a selector"),
        template: set.view.spec.template.value(),
        set,
        pods,
        related_on_node,
        deleted: deleted.iter().map(|name| format!("uid-default/{name}")).collect(),
        now: jiff::Timestamp::from_second(NOW).expect("in range"),
    })
}

fn own(set: &Build, name: &str) -> Build {
    pod(&format!("default/{name}")).label("app", "web").owned_by(set)
}

fn names(pods: &[Arc<Cached<crate::cached::Pod>>]) -> Vec<&str> {
    pods.iter().map(|pod| pod.meta.name.as_str()).collect()
}

#[test]
fn the_number_is_kept() {
    let set = |n| replica_set("default/web", n);
    let two = [own(&set(0), "a").ready("10.0.0.1"), own(&set(0), "b").ready("10.0.0.2")];
    let failed = own(&set(0), "f").set("/status/phase", json!("Failed"));
    let ending = own(&set(0), "e").running("10.0.0.3").deleting();
    // Wanted, what else is there, asked to be deleted → created, deleted.
    type Row<'a> = (i32, Vec<Build>, Vec<&'a str>, usize, usize);
    let table: Vec<Row<'_>> = vec![
        (2, vec![], vec![], 0, 0),
        (5, vec![], vec![], 3, 0),
        (1, vec![], vec![], 0, 1),
        (0, vec![], vec![], 0, 2),
        // Neither counts: the one has ended, the other is about to.
        (2, vec![failed, ending], vec![], 0, 0),
        // The cache does not show yet that one is going.
        (1, vec![], vec!["a"], 0, 0),
        (2, vec![], vec!["a"], 1, 0),
        (5000, vec![], vec![], 500, 0),
    ];
    for (wanted, more, deleted, create, delete) in table {
        let pods: Vec<Build> = two.iter().cloned().chain(more).collect();
        let plan = decide(&set(wanted), &pods, &deleted);
        assert_eq!((plan.create, plan.delete.len()), (create, delete), "{wanted} {deleted:?}");
    }
    let gone = decide(&set(5).deleting(), &two, &[]);
    assert_eq!((gone.create, gone.delete.len()), (0, 0), "a set on its way out does nothing");
}

#[test]
fn pods_are_adopted_and_released() {
    let set = replica_set("default/web", 1);
    let stranger = replica_set("default/other", 1);
    let orphan = pod("default/orphan").label("app", "web");
    let pods = [
        orphan.clone(),
        own(&set, "strayed").label("app", "else"),
        pod("default/other").label("app", "web").owned_by(&stranger),
        pod("default/finished").label("app", "web").set("/status/phase", json!("Succeeded")),
    ];
    let plan = decide(&set, &pods, &[]);
    assert_eq!(names(&plan.pods.adopt), ["orphan"]);
    assert_eq!(names(&plan.pods.release), ["strayed"]);
    assert_eq!(plan.create, 0, "the adopted one counts");
    assert!(decide(&set.deleting(), &[orphan], &[]).pods.adopt.is_empty());
}

#[test]
fn those_that_cost_least_go_first() {
    let set = replica_set("default/web", 0);
    let made = |name: &str| own(&set, name);
    let cost = "controller.kubernetes.io/pod-deletion-cost";
    let ready_since = |pod: Build, time: &str| {
        pod.running("10.0.0.9").set(
            "/status/conditions/-",
            json!({"type": "Ready", "status": "True", "lastTransitionTime": time}),
        )
    };
    let old = "2023-11-01T00:00:00Z";
    let pods = [
        ready_since(made("old").on("n1"), old),
        ready_since(made("young").on("n1"), "2023-11-14T22:13:00Z"),
        ready_since(made("dear").on("n1"), old).annotation(cost, "10"),
        ready_since(made("cheap").on("n1"), old).annotation(cost, "-10"),
        ready_since(made("alone").on("n2"), old),
        ready_since(made("restarted").on("n1"), old)
            .set("/status/containerStatuses", json!([{"restartCount": 3}])),
        made("unready").on("n1").running("10.0.0.8"),
        made("pending").on("n1"),
        made("unbound"),
    ];
    let plan = decide(&set, &pods, &[]);
    assert_eq!(
        names(&plan.delete),
        ["unbound", "pending", "unready", "cheap", "young", "restarted", "old", "alone", "dear"]
    );
}

#[test]
fn the_status_counts_what_is() {
    let set = replica_set("default/web", 3).set("/spec/minReadySeconds", json!(30));
    let ready = |name: &str, since: &str| {
        own(&set, name).running("10.0.0.1").set(
            "/status/conditions/-",
            json!({"type": "Ready", "status": "True", "lastTransitionTime": since}),
        )
    };
    let pods = [
        ready("a", "2023-11-14T22:00:00Z"),
        // Ready for 20 of 30 seconds.
        ready("b", "2023-11-14T22:13:00Z"),
        // Before the clock was set back.
        ready("ahead", "2026-01-01T00:00:00Z"),
        own(&set, "c"),
        own(&set, "d").running("10.0.0.2").deleting(),
    ];
    let plan = decide(&set, &pods, &[]);
    let status = &plan.status;
    assert_eq!((status.replicas, status.fully_labeled_replicas, status.ready_replicas), (4, 4, 3));
    assert_eq!((status.available_replicas, status.terminating_replicas), (2, Some(1)));
    assert_eq!(plan.look_again.map(|pause| pause.as_secs()), Some(10));
}

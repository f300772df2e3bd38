//! Budgets as a table, and among the other controllers.

use std::sync::Arc;

use client::Cached;
use serde_json::{Value, json};
use testkit::{Build, deployment, pod};

use super::plan::{Plan, Scale, View, plan};
use crate::{
    cached::*,
    stories::{Story, one_node},
};

pub(super) fn budget(spec: Value, status: Value) -> Build {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    pod("default/web")
        .set("/metadata/generation", json!(1))
        .set("/spec", spec)
        .set("/status", status)
}

pub(super) fn decide(budget: &Build, pods: &[Build], scale: Result<i64, String>) -> Plan {
    plan(&View {
        budget: Arc::new(Cached::read(budget.object(), false).expect("a budget")),
        pods: pods
            .iter()
            .map(|pod| Arc::new(Cached::read(pod.object(), false).expect("a pod")))
            .collect(),
        scale: scale.map(|sum| Scale { sum, some_unmanaged: false }),
        now: jiff::Timestamp::from_second(1_700_000_000).expect("in range"),
    })
}

#[test]
fn what_may_be_disrupted() {
    let ready = |name: &str| pod(&format!("default/{name}")).ready("10.0.0.1");
    let three = || vec![ready("a"), ready("b"), ready("c")];
    let with = |more: Build| three().into_iter().chain([more]).collect::<Vec<_>>();
    let min = |n: Value| budget(json!({"minAvailable": n}), json!({}));
    let max = |n: Value| budget(json!({"maxUnavailable": n}), json!({}));
    let told = |time: &str| {
        budget(json!({"minAvailable": 1}), json!({"disruptedPods": {"a": time, "gone": time}}))
    };
    // The budget, its pods, the controllers' size → healthy, wanted, expected, allowed.
    let table: Vec<(Build, Vec<Build>, i64, [i64; 4])> = vec![
        (min(json!(2)), three(), 0, [3, 2, 3, 1]),
        (min(json!(5)), three(), 0, [3, 5, 3, 0]),
        (min(json!(0)), vec![], 0, [0, 0, 0, 0]),
        (min(json!("50%")), three(), 3, [3, 2, 3, 1]),
        (min(json!("50%")), three(), 5, [3, 3, 5, 0]),
        (max(json!(1)), three(), 3, [3, 2, 3, 1]),
        (max(json!("34%")), three(), 3, [3, 1, 3, 2]),
        (max(json!(9)), three(), 3, [3, 0, 3, 3]),
        (min(json!(2)), with(pod("default/d")), 0, [3, 2, 4, 1]),
        (min(json!(2)), with(ready("d").deleting()), 0, [3, 2, 4, 1]),
        // 20 seconds ago, and long ago.
        (told("2023-11-14T22:13:00Z"), three(), 0, [2, 1, 3, 1]),
        (told("2023-11-14T22:11:00Z"), three(), 0, [3, 1, 3, 2]),
        (budget(json!({}), json!({})), three(), 0, [3, 0, 0, 0]),
    ];
    for (budget, pods, scale, wanted) in table {
        let plan = decide(&budget, &pods, Ok(scale));
        let status = &plan.status;
        let is = [
            status.current_healthy,
            status.desired_healthy,
            status.expected_pods,
            status.disruptions_allowed,
        ];
        assert_eq!(is, wanted, "{budget:?}");
        let condition = &status.conditions[0];
        let wanted = if wanted[3] > 0 { "SufficientPods" } else { "InsufficientPods" };
        assert_eq!((condition.reason.as_str(), condition.observed_generation), (wanted, 1));
    }
    // More than there will ever be is said once; more than there is as yet is not.
    let impossible = decide(&min(json!(5)), &three(), Ok(3));
    let why = impossible.impossible.expect("it is said");
    assert!(why.starts_with("minAvailable asks for 5 healthy pods, but"), "{why}");
    let conditions = &impossible.status.conditions;
    assert_eq!(conditions[0].message, why);
    let said =
        json!({"conditions": [{"type": "DisruptionAllowed", "status": "False", "message": why}]});
    let again = decide(&budget(json!({"minAvailable": 5}), said), &three(), Ok(3));
    assert_eq!((again.impossible, &again.status.conditions[0].message), (None, &why));
    assert_eq!(decide(&min(json!(5)), &three(), Ok(7)).impossible, None);
    let waits = decide(&told("2023-11-14T22:13:00Z"), &three(), Ok(0));
    assert_eq!(waits.look_again.map(|wait| wait.as_secs()), Some(100));
    assert_eq!(waits.status.disrupted_pods.keys().collect::<Vec<_>>(), ["a"]);
    let stayed = decide(&told("2023-11-14T22:11:00Z"), &three(), Ok(0));
    assert_eq!(stayed.not_deleted.len(), 1);
    let unknown = decide(&max(json!(1)), &three(), Err("found no controllers".into()));
    assert_eq!(unknown.status.disruptions_allowed, 0);
    let condition = &unknown.status.conditions[0];
    assert_eq!(
        (condition.reason.as_str(), condition.message.as_str()),
        ("SyncFailed", "found no controllers")
    );
}

#[tokio::test(start_paused = true)]
async fn budgets_follow_their_pods() {
    let story = Story::start(one_node().with_running_clock());
    story.cluster.create(DEPLOYMENTS, &deployment("default/web", 4));
    story
        .cluster
        .create(DISRUPTION_BUDGETS, &budget(json!({"maxUnavailable": "25%"}), Value::Null));
    story.moment().await;
    let status =
        || story.cluster.get(DISRUPTION_BUDGETS, "default/web").expect("there")["status"].clone();
    let numbers = || {
        let status = status();
        ["expectedPods", "currentHealthy", "desiredHealthy", "disruptionsAllowed"]
            .map(|field| status[field].as_i64().unwrap_or(-1))
    };
    assert_eq!(numbers(), [4, 4, 3, 1]);
    let first = story.names(PODS)[0].clone();
    story.cluster.edit(PODS, &format!("default/{first}"), |pod| {
        pod["status"]["conditions"][0]["status"] = json!("False");
    });
    story.moment().await;
    assert_eq!(numbers(), [4, 3, 3, 0]);
    assert_eq!(status()["conditions"][0]["reason"], "InsufficientPods");
    story.cluster.edit(DEPLOYMENTS, "default/web", |d| d["spec"]["replicas"] = json!(8));
    story.moment().await;
    assert_eq!(numbers(), [8, 7, 6, 1]);
    // An eviction that never comes.
    let name = story.names(PODS)[1].clone();
    story.cluster.edit(DISRUPTION_BUDGETS, "default/web", |budget| {
        budget["status"]["disruptedPods"] = json!({&name: "2023-11-14T22:13:26Z"});
        budget["status"]["disruptionsAllowed"] = json!(0);
    });
    story.moment().await;
    assert_eq!(numbers(), [8, 6, 6, 0]);
    tokio::time::sleep(std::time::Duration::from_secs(40)).await;
    let revision = story.cluster.revision();
    story.moment().await;
    assert_eq!(story.cluster.revision(), revision, "silent");
    story.cluster.delete(DEPLOYMENTS, "default/web");
    story.settle().await;
    assert_eq!(numbers(), [0, 0, 0, 0]);
}

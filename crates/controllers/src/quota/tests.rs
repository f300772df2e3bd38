use serde_json::{Value, json};
use testkit::{FakeCluster, deployment, pod, service};

use crate::{
    cached::*,
    stories::{Story, one_node},
};

#[tokio::test(start_paused = true)]
async fn quotas_count_what_there_is() {
    let story = Story::start(one_node().with_running_clock());
    let quota = pod("default/all").set(
        "/spec",
        json!({"hard": {"pods": "10", "requests.cpu": "2", "services": "5", "count/deployments.apps": "3", "count/nothing.example.com": "1"}}),
    );
    story.cluster.create(RESOURCE_QUOTAS, &quota.set("/status", Value::Null));
    story.cluster.create(
        DEPLOYMENTS,
        &deployment("default/web", 2).set(
            "/spec/template/spec/containers/0/resources",
            json!({"requests": {"cpu": "250m"}}),
        ),
    );
    story.cluster.create(DEPLOYMENTS, &deployment("other/web", 2));
    story.cluster.create(SERVICES, &service("default/web"));
    story.moment().await;
    let used = || {
        let quota = story.cluster.get(RESOURCE_QUOTAS, "default/all").expect("there");
        assert_eq!(quota["status"]["hard"], quota["spec"]["hard"]);
        let used = quota["status"]["used"].clone();
        ["pods", "requests.cpu", "services", "count/deployments.apps", "count/nothing.example.com"]
            .map(|name| used[name].as_str().unwrap_or("?").to_owned())
    };
    assert_eq!(used(), ["2", "500m", "1", "1", "0"]);
    // Gone pods, and those that have ended, are given back.
    story.cluster.edit(DEPLOYMENTS, "default/web", |d| d["spec"]["replicas"] = json!(1));
    story.moment().await;
    assert_eq!(used(), ["1", "250m", "1", "1", "0"]);
    let name = story.names(PODS)[0].clone();
    story.cluster.delete(DEPLOYMENTS, "default/web");
    story.moment().await;
    assert_eq!(used(), ["0", "0", "1", "0", "0"], "{name}");
    // What was charged for a write that failed.
    story.cluster.edit(RESOURCE_QUOTAS, "default/all", |quota| {
        quota["status"]["used"]["services"] = json!("3");
    });
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(used()[2], "3", "it may still come");
    story.moment().await;
    assert_eq!(used()[2], "1");
    story.cluster.edit(RESOURCE_QUOTAS, "default/all", |quota| {
        quota["spec"]["hard"].as_object_mut().expect("a map").remove("services");
    });
    story.moment().await;
    assert_eq!(used()[2], "?");
    let revision = story.cluster.revision();
    story.moment().await;
    assert_eq!(story.cluster.revision(), revision, "silent");
}

/// On a node that says nothing any more it would be there for ever.
#[tokio::test(start_paused = true)]
async fn a_pod_that_should_have_ended_is_given_back() {
    let cluster = FakeCluster::new().with_running_clock().with_node("n1");
    cluster.create(NODES, &testkit::node("n1"));
    let story = Story::start(cluster);
    let quota = pod("default/all").set("/spec", json!({"hard": {"pods": "10"}}));
    story.cluster.create(RESOURCE_QUOTAS, &quota.set("/status", Value::Null));
    story.cluster.create(PODS, &pod("default/stuck"));
    story.moment().await;
    let used = || {
        let quota = story.cluster.get(RESOURCE_QUOTAS, "default/all").expect("there");
        quota["status"]["used"]["pods"].clone()
    };
    assert_eq!(used(), "1");
    story.cluster.edit(PODS, "default/stuck", |pod| {
        pod["metadata"]["deletionTimestamp"] = json!("2023-11-14T22:13:40Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(10);
        pod["metadata"]["finalizers"] = json!(["example.com/stuck"]);
    });
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert_eq!(used(), "1", "it may still run");
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert_eq!(used(), "0");
}

/// Its use stays what it was, and whose it is changes.
#[tokio::test(start_paused = true)]
async fn a_pod_that_gets_a_deadline_changes_its_quota() {
    let story = Story::start(one_node().with_running_clock());
    for scope in ["Terminating", "NotTerminating"] {
        let spec = json!({"hard": {"pods": "10"}, "scopes": [scope]});
        let quota = pod(&format!("default/{}", scope.to_lowercase()));
        story
            .cluster
            .create(RESOURCE_QUOTAS, &quota.set("/spec", spec).set("/status", Value::Null));
    }
    story.cluster.create(PODS, &pod("default/work"));
    story.moment().await;
    let used = || {
        ["terminating", "notterminating"].map(|name| {
            let quota = story.cluster.get(RESOURCE_QUOTAS, &format!("default/{name}"));
            quota.expect("there")["status"]["used"]["pods"].clone()
        })
    };
    assert_eq!(used(), ["0", "1"]);
    story.cluster.edit(PODS, "default/work", |pod| pod["spec"]["activeDeadlineSeconds"] = json!(9));
    story.moment().await;
    assert_eq!(used(), ["1", "0"]);
}

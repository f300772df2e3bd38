//! Owners and what is theirs, in a cluster in memory.

use serde_json::json;
use testkit::FakeCluster;

use crate::{
    cached::*,
    stories::{Story, one_node},
};

#[tokio::test(start_paused = true)]
async fn dependents_go_with_their_owner() {
    let policies = [("Background", 0, 0), ("Foreground", 0, 0), ("Orphan", 1, 2)];
    for (policy, sets, pods) in policies {
        let story = Story::start(one_node());
        story.cluster.create(DEPLOYMENTS, &testkit::deployment("default/web", 2));
        story.settle().await;
        let options = json!({"propagationPolicy": policy});
        story.cluster.delete_with(DEPLOYMENTS, "default/web", options);
        story.settle().await;
        assert_eq!(story.cluster.list(DEPLOYMENTS).len(), 0, "{policy}");
        assert_eq!(story.cluster.list(REPLICA_SETS).len(), sets, "{policy}");
        assert_eq!(story.cluster.list(PODS).len(), pods, "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_owner_never_was_goes() {
    let story = Story::start(FakeCluster::new());
    let owner = testkit::deployment("default/gone", 1);
    let set = testkit::replica_set("default/left", 0).owned_by(&owner);
    story.cluster.create(REPLICA_SETS, &set);
    story.settle().await;
    assert_eq!(story.cluster.list(REPLICA_SETS).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_names_an_owner_of_another_namespace_is_told() {
    let story = Story::start(FakeCluster::new());
    let owner = testkit::deployment("other/owner", 0);
    let uid = story.cluster.create(DEPLOYMENTS, &owner)["metadata"]["uid"].clone();
    story.settle().await;
    let named = owner.set("/metadata/uid", uid.clone());
    let stray = testkit::replica_set("default/stray", 0).owned_by(&named);
    story.cluster.create(REPLICA_SETS, &stray);
    // What is of no namespace can be owned by nothing that is of one, and stays.
    story.cluster.create(NODES, &testkit::node("wide").owned_by(&named));
    story.settle().await;
    assert!(story.cluster.get(REPLICA_SETS, "default/stray").is_none(), "nobody owns it");
    assert!(story.cluster.get(NODES, "wide").is_some());
    let uid = uid.as_str().expect("a uid");
    let told = |namespace: &str| {
        format!(
            "OwnerRefInvalidNamespace: ownerRef [apps/v1/Deployment, namespace: {namespace}, name: owner, uid: {uid}] does not exist in namespace \"{namespace}\""
        )
    };
    assert_eq!(story.cluster.events_about("stray"), [told("default")]);
    let of_node = story.cluster.events_about("wide");
    assert_eq!(of_node.iter().filter(|event| **event == told("")).count(), 1, "{of_node:?}");
}

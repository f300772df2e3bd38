//! Pods that were to leave and may stay after all.

use serde_json::{Value, json};
use testkit::{FakeCluster, node, pod};

use crate::{
    cached::{NODES, PODS},
    stories::Story,
};

const KEY: &str = "example.com/broken";

fn taint(story: &Story, taints: Value) {
    story.cluster.edit(NODES, "n1", |node| node["spec"]["taints"] = taints);
}

/// How often it was told of each pod that it stays.
fn told(story: &Story) -> [usize; 3] {
    ["mended", "bears-more", "always"].map(|name| {
        let line = format!("TaintManagerEviction: Cancelling deletion of Pod default/{name}");
        story.cluster.events_about(name).iter().filter(|event| **event == line).count()
    })
}

#[tokio::test(start_paused = true)]
async fn who_may_stay_after_all_is_told() {
    let story = Story::start(FakeCluster::new().with_running_clock());
    story.cluster.create(NODES, &node("n1"));
    let bears =
        |seconds: Value| json!([{"key": KEY, "operator": "Exists", "tolerationSeconds": seconds}]);
    for (name, seconds) in
        [("mended", json!(30)), ("bears-more", json!(30)), ("always", Value::Null)]
    {
        let pod = pod(&format!("default/{name}")).on("n1");
        story.cluster.create(PODS, &pod.set("/spec/tolerations", bears(seconds)));
    }
    taint(&story, json!([{"key": KEY, "effect": "NoExecute"}]));
    story.moment().await;
    assert_eq!(told(&story), [0; 3]);
    story.cluster.edit(PODS, "default/bears-more", |pod| {
        pod["spec"]["tolerations"] = bears(Value::Null);
    });
    story.moment().await;
    assert_eq!(told(&story), [0, 1, 0]);
    taint(&story, Value::Null);
    tokio::time::sleep(std::time::Duration::from_secs(40)).await;
    assert_eq!(told(&story), [1, 1, 0], "once each, and nothing of whom nothing was wanted");
    let stays = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_null();
    assert_eq!(story.cluster.list(PODS).iter().filter(|pod| stays(pod)).count(), 3);
}

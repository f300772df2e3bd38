//! DaemonSets in a cluster in memory.

use serde_json::json;
use testkit::{FakeCluster, daemon_set, node};

use crate::{
    cached::{DAEMON_SETS, NODES, PODS},
    lagging,
};

#[tokio::test(start_paused = true)]
async fn who_works_by_now_is_not_replaced_as_one_that_does_not() {
    let (story, hold) = lagging::start(FakeCluster::new().with_node("n1"));
    for name in ["n1", "n2"] {
        story.cluster.create(NODES, &node(name));
    }
    story.cluster.create(DAEMON_SETS, &daemon_set("default/agent"));
    story.moment().await;
    let pods = story.names(PODS);
    assert_eq!(pods.len(), 2);
    // The cache still has both as starting when the template changes.
    hold.send_replace(true);
    for name in &pods {
        story.cluster.edit(PODS, &format!("default/{name}"), |pod| {
            pod["status"] = json!({
                "phase": "Running",
                "conditions": [{
                    "type": "Ready", "status": "True",
                    "lastTransitionTime": "2023-11-14T22:13:20Z",
                }],
            });
        });
    }
    story.cluster.edit(DAEMON_SETS, "default/agent", |set| {
        set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("agent:2");
    });
    story.moment().await;
    let left = || {
        let pods = story.cluster.list(PODS);
        let serves = |pod: &&serde_json::Value| {
            pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["phase"] == "Running"
        };
        pods.iter().filter(serves).count()
    };
    assert_eq!(left(), 2, "both serve, and one at a time may go");
    hold.send_replace(false);
    story.moment().await;
    assert_eq!(left(), 1);
}

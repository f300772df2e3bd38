//! watch: from now, from before, with selectors, with the state first.

use std::time::Duration;

use serde_json::{Value, json};

use store::{Limits, MemoryStore};

use super::harness::{CONFIG_MAPS, PODS, cluster, cluster_over, config_map, pod, told};

#[tokio::test]
async fn changes_are_told_in_order() {
    let cluster = cluster();
    let first = cluster.create(CONFIG_MAPS, config_map("a", json!({}))).await;
    let version = first["metadata"]["resourceVersion"].as_str().expect("a version");
    let mut events =
        cluster.watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion={version}")).await;
    let a = format!("{CONFIG_MAPS}/a");
    cluster.send("PATCH", &a, json!({"data": {"x": "1"}})).await;
    cluster.create(CONFIG_MAPS, config_map("b", json!({}))).await;
    cluster.send("DELETE", &a, Value::Null).await;
    assert_eq!(told(&mut events).await, "MODIFIED a");
    assert_eq!(told(&mut events).await, "ADDED b");
    let gone = events.recv().await.expect("an event");
    assert_eq!(gone["type"], "DELETED");
    let newer = cluster.get(CONFIG_MAPS).await;
    // The deletion's own version, so that the watch can go on from there.
    assert_eq!(
        gone["object"]["metadata"]["resourceVersion"],
        *newer.at("/metadata/resourceVersion")
    );
    // The same again, from the past.
    let mut again =
        cluster.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={version}")).await;
    for expected in ["MODIFIED a", "ADDED b", "DELETED a"] {
        assert_eq!(told(&mut again).await, expected);
    }
}

#[tokio::test]
async fn the_state_comes_first_where_no_version_is_given() {
    let cluster = cluster();
    cluster.create(CONFIG_MAPS, config_map("a", json!({}))).await;
    let mut events = cluster.watch(&format!("{CONFIG_MAPS}?watch=true")).await;
    assert_eq!(told(&mut events).await, "ADDED a");
    let list = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = cluster.watch(&format!("{CONFIG_MAPS}?{list}")).await;
    assert_eq!(told(&mut events).await, "ADDED a");
    let bookmark = events.recv().await.expect("a bookmark");
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["kind"], "ConfigMap");
    assert_eq!(bookmark["object"]["metadata"].get("creationTimestamp"), None);
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    cluster.create(CONFIG_MAPS, config_map("b", json!({}))).await;
    assert_eq!(told(&mut events).await, "ADDED b");
}

#[tokio::test]
async fn entering_and_leaving_a_selection_are_added_and_deleted() {
    let cluster = cluster();
    cluster.create(PODS, pod("p", "")).await;
    let mut by_label = cluster.watch(&format!("{PODS}?watch=1&labelSelector=in")).await;
    let mut by_field =
        cluster.watch(&format!("{PODS}?watch=1&fieldSelector=metadata.name%3Dp")).await;
    let p = format!("{PODS}/p");
    let label = |value: Value| json!({"metadata": {"labels": {"in": value}}});
    cluster.send("PATCH", &p, label("1".into())).await;
    cluster.send("PATCH", &p, label("2".into())).await;
    cluster.send("PATCH", &p, label(Value::Null)).await;
    cluster.create(PODS, pod("pp", "")).await;
    cluster.send("DELETE", &p, Value::Null).await;
    for expected in ["ADDED p", "MODIFIED p"] {
        assert_eq!(told(&mut by_label).await, expected);
    }
    let left = by_label.recv().await.expect("an event");
    assert_eq!(
        (&left["type"], &left["object"]["metadata"]["labels"]["in"]),
        (&json!("DELETED"), &json!("2"))
    );
    for expected in ["ADDED p", "MODIFIED p", "MODIFIED p", "MODIFIED p", "DELETED p"] {
        assert_eq!(told(&mut by_field).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn bookmarks_tell_how_far_it_is() {
    let cluster = cluster();
    let mut events = cluster
        .watch(&format!(
            "{CONFIG_MAPS}?watch=1&resourceVersion=0&allowWatchBookmarks=true&timeoutSeconds=90"
        ))
        .await;
    let pod = cluster.create(PODS, pod("p", "")).await;
    let bookmark = events.recv().await.expect("after a minute");
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(
        bookmark["object"]["metadata"]["resourceVersion"],
        pod["metadata"]["resourceVersion"]
    );
    assert_eq!(events.recv().await, None, "over after a minute and a half");
}

#[tokio::test]
async fn a_version_that_is_gone_is_told_as_an_event() {
    let limits = Limits { history_bytes: 1, history_age: Duration::from_secs(1) };
    let cluster = cluster_over(MemoryStore::new(limits));
    for name in ["a", "b"] {
        cluster.create(CONFIG_MAPS, config_map(name, json!({}))).await;
    }
    let mut events = cluster.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion=1")).await;
    let error = events.recv().await.expect("an event");
    assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(error["object"]["reason"], "Expired");
    assert!(
        error["object"]["message"]
            .as_str()
            .is_some_and(|m| m.starts_with("too old resource version: 1 ("))
    );
    assert_eq!(events.recv().await, None);
}

#[tokio::test]
async fn watches_end_with_the_server() {
    let cluster = cluster();
    let mut events = cluster.watch(&format!("{CONFIG_MAPS}?watch=1")).await;
    cluster.server.end_streams();
    assert_eq!(events.recv().await, None);
}

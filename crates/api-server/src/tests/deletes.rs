//! What deletions may ask for, and how they are refused.

use serde_json::{Value, json};

use super::harness::{CONFIG_MAPS, Cluster, cluster};

const A: &str = "/api/v1/namespaces/default/configmaps/a";

#[tokio::test]
async fn bad_delete_options_are_refused_in_upstreams_words() {
    const IGNORE: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";
    let cluster = cluster();
    cluster.config_maps(&["a"]).await;
    let beside = |other: &str| {
        format!("{IGNORE}: Invalid value: true: cannot be set together with .{other}")
    };
    for (body, fault) in [
        (json!({"propagationPolicy": "Sideways"}), "propagationPolicy: Unsupported value: \"Sideways\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"".to_owned()),
        (json!({"propagationPolicy": "Orphan", "orphanDependents": true}), "propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set".to_owned()),
        (json!({"dryRun": ["All", "Some"]}), "dryRun: Unsupported value: [\"All\",\"Some\"]: supported values: \"All\"".to_owned()),
        (json!({IGNORE: true, "dryRun": ["All"]}), beside("dryRun")),
        (json!({IGNORE: true, "propagationPolicy": "Orphan"}), beside("propagationPolicy")),
        (json!({IGNORE: true, "orphanDependents": false}), beside("orphanDependents")),
        (json!({IGNORE: true, "gracePeriodSeconds": 0}), beside("gracePeriodSeconds")),
        (json!({IGNORE: true, "preconditions": {}}), beside("preconditions")),
    ] {
        let answer = cluster.send("DELETE", A, body.clone()).await;
        let message = format!("DeleteOptions.meta.k8s.io \"\" is invalid: {fault}");
        assert_eq!((answer.code, answer.message()), (422, message.as_str()), "{body}");
    }
    let readable = cluster.send("DELETE", A, json!({IGNORE: true})).await;
    assert_eq!(
        (readable.code, readable.message()),
        (422, format!("ConfigMap \"a\" is invalid: {IGNORE}: Invalid value: true: is exclusively used to delete corrupt object(s), try again by removing this option").as_str())
    );
    let many = cluster.send("DELETE", CONFIG_MAPS, json!({IGNORE: true})).await;
    assert_eq!(
        (many.code, many.message()),
        (422, format!("DeleteOptions.meta.k8s.io \"\" is invalid: {IGNORE}: Invalid value: true: is not allowed with DELETECOLLECTION, try again after removing the option").as_str())
    );
    let wrong = cluster.send("DELETE", A, json!({"kind": "ConfigMap"})).await;
    assert_eq!(wrong.code, 400);
    assert_eq!(cluster.get(A).await.code, 200, "nothing was deleted");
}

#[tokio::test]
async fn what_cannot_be_read_can_be_removed_by_whoever_may() {
    use store::{Key, Put, Store, Txn};
    const IGNORE: &str = "?ignoreStoreReadErrorWithClusterBreakingPotential=true";
    let cluster = cluster();
    let value = store::Value { epoch: 1, data: "{".into() };
    let put = Put { key: Key::new("", "configmaps", "default", "a"), value, revision_at: None };
    let store: &std::sync::Arc<dyn Store> = cluster.server.parts.registry.store();
    store.commit(Txn::create(put)).await.expect("stored");
    assert_eq!(cluster.send("DELETE", A, Value::Null).await.code, 500);
    // May delete, but not that.
    let carol = Cluster {
        transport: cluster.server.transport(super::harness::named("carol")),
        server: cluster.server.clone(),
    };
    let refused = carol.send("DELETE", &format!("{A}{IGNORE}"), Value::Null).await;
    assert_eq!(refused.code, 403, "{}", refused.body);
    assert!(refused.message().contains("not permitted to do \"unsafe-delete-ignore-read-errors\""));
    let removed = cluster.send("DELETE", &format!("{A}{IGNORE}"), Value::Null).await;
    assert_eq!((removed.code, removed.at("/status")), (200, &json!("Success")));
    assert_eq!(cluster.get(A).await.code, 404);
}

#[tokio::test]
async fn preconditions_name_what_they_found() {
    let cluster = cluster();
    let version = cluster.config_maps(&["a"]).await.remove(0);
    let found = cluster.get(A).await;
    let uid = found.at("/metadata/uid").as_str().expect("a uid");
    for (preconditions, why) in [
        (
            json!({"uid": "x"}),
            format!(
                "the UID in the precondition (x) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
            ),
        ),
        (
            json!({"uid": uid, "resourceVersion": "1"}),
            format!(
                "the ResourceVersion in the precondition (1) does not match the ResourceVersion in record ({version}). The object might have been modified"
            ),
        ),
    ] {
        let answer = cluster.send("DELETE", A, json!({"preconditions": preconditions})).await;
        let message = format!("Operation cannot be fulfilled on ConfigMap \"a\": {why}");
        assert_eq!((answer.code, answer.message()), (409, message.as_str()));
    }
    let both = json!({"preconditions": {"uid": uid, "resourceVersion": version}});
    assert_eq!(cluster.send("DELETE", A, both).await.code, 200);
}

#[tokio::test]
async fn dependents_are_kept_dropped_or_waited_for() {
    let cluster = cluster();
    for (body, finalizers) in [
        (json!({"propagationPolicy": "Orphan"}), json!(["orphan"])),
        (json!({"propagationPolicy": "Foreground"}), json!(["foregroundDeletion"])),
        (json!({"orphanDependents": true}), json!(["orphan"])),
        (json!({"propagationPolicy": "Background"}), Value::Null),
        (json!({"orphanDependents": false}), Value::Null),
        (json!({}), Value::Null),
    ] {
        cluster.config_maps(&["a"]).await;
        let answer = cluster.send("DELETE", A, body.clone()).await;
        assert_eq!(answer.at("/metadata/finalizers"), &finalizers, "{body}");
        if finalizers.is_array() {
            assert!(answer.at("/metadata/deletionTimestamp").is_string(), "{body}");
            cluster.send("PATCH", A, json!({"metadata": {"finalizers": null}})).await;
        }
        assert_eq!(cluster.get(A).await.code, 404, "{body}");
    }
    cluster.config_maps(&["a"]).await;
    let path = format!("{A}?propagationPolicy=Foreground");
    let by_query = cluster.send("DELETE", &path, Value::Null);
    assert_eq!(by_query.await.at("/metadata/finalizers"), &json!(["foregroundDeletion"]));
}

#[tokio::test]
async fn a_collection_is_deleted_as_far_as_it_is_selected() {
    let cluster = cluster();
    cluster.config_maps(&["a", "b", "c", "d"]).await;
    for (query, deleted, left) in [
        ("dryRun=All", vec!["a", "b", "c", "d"], vec!["a", "b", "c", "d"]),
        ("fieldSelector=metadata.name%3Db", vec!["b"], vec!["a", "c", "d"]),
        ("limit=1", vec!["a"], vec!["c", "d"]),
        ("labelSelector=no", vec![], vec!["c", "d"]),
        ("", vec!["c", "d"], vec![]),
    ] {
        let answer = cluster.send("DELETE", &format!("{CONFIG_MAPS}?{query}"), Value::Null).await;
        assert_eq!((answer.code, answer.names()), (200, deleted), "{query}");
        assert_eq!(cluster.get(CONFIG_MAPS).await.names(), left, "{query}");
    }
    let path = format!("{CONFIG_MAPS}?resourceVersionMatch=Exact");
    let bad = cluster.send("DELETE", &path, Value::Null);
    assert_eq!(bad.await.code, 422);
}

#[tokio::test]
async fn some_kinds_answer_with_what_is_gone_and_others_that_it_is() {
    const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
    let cluster = cluster();
    cluster.config_maps(&["a"]).await;
    let gone = cluster.send("DELETE", A, Value::Null).await;
    assert_eq!((gone.at("/kind"), gone.at("/status")), (&json!("Status"), &json!("Success")));

    let created = cluster.send("POST", ACCOUNTS, json!({"metadata": {"name": "a"}})).await;
    let path = format!("{ACCOUNTS}/a");
    let dry = cluster.send("DELETE", &format!("{path}?dryRun=All"), Value::Null).await;
    assert_eq!(dry.body, created.body, "nothing happened to it");
    let gone = cluster.send("DELETE", &path, Value::Null).await;
    assert_eq!((gone.code, gone.at("/kind")), (200, &json!("ServiceAccount")));
    assert_eq!(gone.at("/metadata/uid"), created.at("/metadata/uid"));
    let revision = |answer: &super::harness::Answer| -> u64 {
        let text = answer.at("/metadata/resourceVersion").as_str().unwrap_or_default();
        text.parse().unwrap_or_default()
    };
    assert!(revision(&gone) > revision(&created), "it is that of the deletion");
    assert_eq!(cluster.get(&path).await.code, 404);
}

//! What lists and watches may ask for, and how they are refused.

use std::time::Duration;

use serde_json::{Value, json};
use store::{Limits, MemoryStore};

use super::harness::{CONFIG_MAPS, Cluster, cluster, cluster_over, config_map, told};

const A: &str = "/api/v1/namespaces/default/configmaps/a";

/// A cluster whose history is no longer than the last write.
fn forgetful() -> Cluster {
    let limits = Limits { history_bytes: 1, history_age: Duration::from_secs(1) };
    cluster_over(MemoryStore::new(limits))
}

#[tokio::test]
async fn combinations_that_make_no_sense_are_refused_in_upstreams_words() {
    const MATCH: &str = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden";
    const NEEDS: &str = "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
    let cluster = cluster();
    for (query, faults) in [
        ("resourceVersionMatch=Exact", vec![format!("{MATCH} unless resourceVersion is provided")]),
        ("resourceVersionMatch=NotOlderThan", vec![format!("{MATCH} unless resourceVersion is provided")]),
        (
            "resourceVersionMatch=Exact&resourceVersion=0",
            vec!["resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"".into()],
        ),
        (
            "resourceVersionMatch=Exact&resourceVersion=5&continue=x",
            vec![format!("{MATCH} when continue is provided")],
        ),
        (
            "resourceVersionMatch=Older&resourceVersion=5",
            vec!["resourceVersionMatch: Unsupported value: \"Older\": supported values: \"Exact\", \"NotOlderThan\", \"\"".into()],
        ),
        (
            "resourceVersionMatch=Older",
            vec![
                format!("{MATCH} unless resourceVersion is provided"),
                "resourceVersionMatch: Unsupported value: \"Older\": supported values: \"Exact\", \"NotOlderThan\", \"\"".into(),
            ],
        ),
        ("sendInitialEvents=true", vec!["sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list".into()]),
        ("sendInitialEvents=false", vec!["sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list".into()]),
        ("watch=1&sendInitialEvents=true", vec![NEEDS.into()]),
        ("watch=1&sendInitialEvents=false", vec![NEEDS.into()]),
        (
            "watch=1&sendInitialEvents=true&resourceVersionMatch=Exact",
            vec![NEEDS.into(), "resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"".into()],
        ),
        (
            "watch=1&resourceVersionMatch=NotOlderThan",
            vec![format!("{MATCH} for watch unless sendInitialEvents is provided")],
        ),
        (
            "watch=1&sendInitialEvents=1&resourceVersionMatch=NotOlderThan&continue=x",
            vec![format!("{MATCH} when continue is provided")],
        ),
    ] {
        let answer = cluster.get(&format!("{CONFIG_MAPS}?{query}")).await;
        let all = match faults.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {all}");
        assert_eq!((answer.code, answer.message()), (422, message.as_str()), "{query}");
    }
}

#[tokio::test]
async fn values_that_do_not_parse_are_bad_requests() {
    let cluster = cluster();
    let number = |value: &str| format!("strconv.ParseInt: parsing \"{value}\": invalid syntax");
    let version = "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax";
    for (query, message) in [
        ("limit=x", number("x")),
        ("timeoutSeconds=1.5", number("1.5")),
        ("resourceVersion=x", version.to_owned()),
        ("watch=true&resourceVersion=x", version.to_owned()),
        ("resourceVersion=-1", version.replace("\"x\"", "\"-1\"")),
        ("continue=Zm9v&resourceVersion=7", "specifying resource version is not allowed when using continue".to_owned()),
        ("fieldSelector=data.x%3D1", "\"data.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"".to_owned()),
    ] {
        let answer = cluster.get(&format!("{CONFIG_MAPS}?{query}")).await;
        assert_eq!((answer.code, answer.message()), (400, message.as_str()), "{query}");
    }
    let answer = cluster.get(&format!("{CONFIG_MAPS}?continue=Zm9v")).await;
    assert!(answer.message().starts_with("invalid continue token: continue key is not valid: "));
    // What does not say no, says yes; a page of no items is no limit.
    cluster.config_maps(&["a", "b"]).await;
    for query in ["watch=FALSE", "watch=0", "limit=0", "limit=-1", "timeoutSeconds=0"] {
        let answer = cluster.get(&format!("{CONFIG_MAPS}?{query}")).await;
        assert_eq!(answer.names(), ["a", "b"], "{query}");
    }
}

#[tokio::test]
async fn a_version_is_read_as_its_match_says() {
    let cluster = cluster();
    let [first, second, _] = &cluster.config_maps(&["a", "b", "c"]).await[..] else {
        panic!("three")
    };
    cluster.send("DELETE", A, Value::Null).await;
    for (query, found) in [
        (String::new(), vec!["b", "c"]),
        ("resourceVersion=0".into(), vec!["b", "c"]),
        (format!("resourceVersion={first}"), vec!["b", "c"]),
        ("resourceVersion=0&resourceVersionMatch=NotOlderThan".into(), vec!["b", "c"]),
        (format!("resourceVersion={second}&resourceVersionMatch=NotOlderThan"), vec!["b", "c"]),
        (format!("resourceVersion={second}&resourceVersionMatch=NotOlderThan&limit=1"), vec!["b"]),
        (format!("resourceVersion={second}&resourceVersionMatch=Exact"), vec!["a", "b"]),
        (format!("resourceVersion={second}&resourceVersionMatch=Exact&limit=1"), vec!["a"]),
        // A limit alone pins the page to the version.
        (format!("resourceVersion={second}&limit=5"), vec!["a", "b"]),
        (
            format!(
                "resourceVersion={second}&resourceVersionMatch=Exact&fieldSelector=metadata.name%3Da"
            ),
            vec!["a"],
        ),
        (
            format!(
                "resourceVersion={first}&resourceVersionMatch=Exact&fieldSelector=metadata.name%3Db"
            ),
            vec![],
        ),
    ] {
        let answer = cluster.get(&format!("{CONFIG_MAPS}?{query}")).await;
        assert_eq!(answer.names(), found, "{query}: {}", answer.body);
        if query.contains("Exact") {
            let at = if query.contains(&format!("={first}&")) { first } else { second };
            assert_eq!(answer.at("/metadata/resourceVersion"), at.as_str(), "{query}");
        }
    }
}

#[tokio::test]
async fn an_old_version_is_gone_and_a_token_goes_on_without_it() {
    let cluster = forgetful();
    let versions = cluster.config_maps(&["a", "b", "c", "d"]).await;
    let exact = format!("{CONFIG_MAPS}?resourceVersion={}&resourceVersionMatch=Exact", versions[0]);
    let answer = cluster.get(&exact).await;
    assert_eq!((answer.code, answer.at("/reason")), (410, &json!("Expired")), "{}", answer.body);
    let first = cluster.get(&format!("{CONFIG_MAPS}?limit=1")).await;
    let token = first.at("/metadata/continue").as_str().expect("a token").to_owned();
    cluster.config_maps(&["aa", "e"]).await;
    let expired = cluster.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await;
    assert_eq!((expired.code, expired.at("/reason")), (410, &json!("Expired")));
    assert!(expired.message().starts_with("The provided continue parameter is too old"));
    let token = expired.at("/metadata/continue").as_str().expect("a fresh token").to_owned();
    let rest = cluster.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await;
    assert_eq!(rest.names(), ["aa", "b"]);
    // From here on it is consistent with this page.
    let token = rest.at("/metadata/continue").as_str().expect("a token").to_owned();
    let last = cluster.get(&format!("{CONFIG_MAPS}?continue={token}")).await;
    assert_eq!(last.names(), ["c", "d", "e"]);
    assert_eq!(last.at("/metadata/resourceVersion"), rest.at("/metadata/resourceVersion"));
}

#[tokio::test]
async fn how_many_remain_is_only_known_without_selectors() {
    let cluster = cluster();
    cluster.config_maps(&["a", "b", "c"]).await;
    for (query, remaining) in [
        ("limit=1", json!(2)),
        ("limit=2", json!(1)),
        ("limit=3", Value::Null),
        ("limit=1&labelSelector=!x", Value::Null),
        ("limit=1&fieldSelector=metadata.namespace%3Ddefault", Value::Null),
    ] {
        let answer = cluster.get(&format!("{CONFIG_MAPS}?{query}")).await;
        assert_eq!(answer.at("/metadata/remainingItemCount"), &remaining, "{query}");
        let more = answer.at("/metadata/continue").is_string();
        assert_eq!(more, query != "limit=3", "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_from_the_future_is_told_when_to_come_back() {
    let cluster = cluster();
    let version = cluster.config_maps(&["a"]).await.remove(0);
    let future = u64::MAX >> 1;
    for path in [
        format!("{A}?resourceVersion={future}"),
        format!("{CONFIG_MAPS}?resourceVersion={future}"),
        format!("{CONFIG_MAPS}?resourceVersion={future}&resourceVersionMatch=Exact"),
        format!("{CONFIG_MAPS}?watch=1&resourceVersion={future}"),
    ] {
        let answer = cluster.get(&path).await;
        assert_eq!((answer.code, answer.at("/reason")), (504, &json!("Timeout")), "{path}");
        let message = format!("Timeout: Too large resource version: {future}, current: {version}");
        assert_eq!(answer.message(), message, "{path}");
        assert_eq!(
            answer.at("/details/causes"),
            &json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}])
        );
        assert_eq!(answer.at("/details/retryAfterSeconds"), 1);
        assert_eq!(answer.headers["retry-after"], "1", "{path}");
    }
}

#[tokio::test]
async fn a_watch_starts_as_it_is_asked_to() {
    let cluster = cluster();
    let version = cluster.config_maps(&["a", "b"]).await.remove(0);
    let list = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let no_list = "sendInitialEvents=false&resourceVersionMatch=NotOlderThan";
    let state = ["ADDED a", "ADDED b"];
    let mut expected: Vec<(String, Vec<&str>)> = vec![
        (String::new(), state.into()),
        ("&resourceVersion=0".into(), state.into()),
        (format!("&resourceVersion={version}"), vec!["ADDED b"]),
        (format!("&{list}&resourceVersion={version}"), state.into()),
        // Without bookmarks nobody says where the state ends.
        (format!("&{list}"), state.into()),
        (format!("&{list}&allowWatchBookmarks=1"), [&state[..], &["BOOKMARK "]].concat()),
        (
            format!("&{list}&allowWatchBookmarks=1&resourceVersion=0"),
            [&state[..], &["BOOKMARK "]].concat(),
        ),
        (
            format!("&{list}&allowWatchBookmarks=1&fieldSelector=metadata.name%3Db"),
            vec!["ADDED b", "BOOKMARK "],
        ),
        (format!("&{no_list}"), vec![]),
        (format!("&{no_list}&resourceVersion=0&allowWatchBookmarks=1"), vec![]),
        (format!("&{no_list}&resourceVersion={version}"), vec!["ADDED b"]),
    ];
    let mut watches = Vec::new();
    for (query, events) in expected.drain(..) {
        let watch = cluster.watch(&format!("{CONFIG_MAPS}?watch=1{query}")).await;
        watches.push((query, events, watch));
    }
    // The end of every story, so that nothing is missed in between.
    cluster.config_maps(&["z"]).await;
    for (query, events, mut watch) in watches {
        for event in events {
            assert_eq!(told(&mut watch).await, event, "{query}");
        }
        if !query.contains("fieldSelector") {
            assert_eq!(told(&mut watch).await, "ADDED z", "{query}");
        }
    }
}

#[tokio::test]
async fn one_object_is_watched_by_its_name() {
    let cluster = cluster();
    cluster.config_maps(&["a", "aa"]).await;
    for path in [
        "/api/v1/watch/namespaces/default/configmaps/a".to_owned(),
        format!("{CONFIG_MAPS}?watch=1&fieldSelector=metadata.name%3Da"),
        "/api/v1/configmaps?watch=1&fieldSelector=metadata.name%3Da,metadata.namespace%3Ddefault"
            .to_owned(),
    ] {
        let mut events = cluster.watch(&path).await;
        assert_eq!(told(&mut events).await, "ADDED a", "{path}");
        cluster.send("PATCH", &format!("{A}a"), json!({"data": {"x": path}})).await;
        cluster.send("PATCH", A, json!({"data": {"x": path}})).await;
        assert_eq!(told(&mut events).await, "MODIFIED a", "{path}");
    }
    let other = "/api/v1/watch/namespaces/default/configmaps/a?fieldSelector=metadata.name%3Db";
    let answer = cluster.get(other).await;
    assert_eq!(
        (answer.code, answer.message()),
        (400, "fieldSelector metadata.name doesn't match requested name")
    );
}

#[tokio::test]
async fn tables_and_metadata_are_watched_too() {
    let cluster = cluster();
    cluster.config_maps(&["a", "b"]).await;
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let path = format!(
        "{CONFIG_MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1"
    );
    let mut events = cluster.watch_as(&path, &table).await;
    let first = events.recv().await.expect("an event");
    assert_eq!(first["object"]["kind"], "Table");
    assert_eq!(first["object"]["columnDefinitions"][0]["name"], "Name");
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    let second = events.recv().await.expect("an event");
    assert_eq!(second["object"]["columnDefinitions"], Value::Null, "columns are told once");
    assert_eq!(second["object"]["rows"][0]["object"]["metadata"]["name"], "b");
    let end = events.recv().await.expect("an event");
    assert_eq!(end["type"], "BOOKMARK");
    assert_eq!(
        end["object"]["rows"][0]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    cluster.send("DELETE", A, Value::Null).await;
    let gone = events.recv().await.expect("an event");
    assert_eq!(
        (&gone["type"], &gone["object"]["rows"][0]["cells"][0]),
        (&json!("DELETED"), &json!("a"))
    );
    let metadata = [("accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")];
    let mut events = cluster.watch_as(&format!("{CONFIG_MAPS}?watch=1"), &metadata).await;
    let first = events.recv().await.expect("an event");
    assert_eq!(
        (&first["type"], &first["object"]["kind"]),
        (&json!("ADDED"), &json!("PartialObjectMetadata"))
    );
    assert_eq!(
        (&first["object"]["apiVersion"], first["object"].get("data")),
        (&json!("meta.k8s.io/v1"), None)
    );
}

#[tokio::test]
async fn writes_with_bad_options_are_refused() {
    let cluster = cluster();
    cluster.config_maps(&["a"]).await;
    for (method, path, kind) in [
        ("POST", CONFIG_MAPS, "CreateOptions"),
        ("PUT", A, "UpdateOptions"),
        ("PATCH", A, "PatchOptions"),
    ] {
        for (query, fault) in [
            ("dryRun=Some", "dryRun: Unsupported value: [\"Some\"]: supported values: \"All\""),
            (
                "fieldValidation=Lax",
                "fieldValidation: Unsupported value: \"Lax\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
            ),
        ] {
            let answer =
                cluster.send(method, &format!("{path}?{query}"), config_map("a", json!({}))).await;
            let message = format!("{kind}.meta.k8s.io \"\" is invalid: {fault}");
            assert_eq!(
                (answer.code, answer.message()),
                (422, message.as_str()),
                "{method} {query}"
            );
        }
    }
}

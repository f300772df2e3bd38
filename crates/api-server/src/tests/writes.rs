//! create, update, patch, delete.

use serde_json::{Value, json};

use super::harness::{CONFIG_MAPS, PODS, cluster, config_map, pod};

const A: &str = "/api/v1/namespaces/default/configmaps/a";
const P: &str = "/api/v1/namespaces/default/pods/p";

#[tokio::test]
async fn create_fills_in_what_is_the_servers() {
    let cluster = cluster();
    let made = cluster.create(CONFIG_MAPS, config_map("a", json!({"x": "1"}))).await;
    let metadata = &made["metadata"];
    assert_eq!(metadata["namespace"], "default");
    assert_eq!(metadata["creationTimestamp"], "2026-01-01T00:00:00Z");
    assert_eq!(metadata["uid"].as_str().map(str::len), Some(36));
    assert!(metadata["resourceVersion"].as_str().is_some_and(|version| !version.is_empty()));
    assert_eq!(cluster.get(A).await.body, made);
    let again = cluster.send("POST", CONFIG_MAPS, config_map("a", json!({}))).await;
    assert_eq!((again.code, again.message()), (409, "configmaps \"a\" already exists"));
}

#[tokio::test]
async fn names_are_made_up_until_one_is_free() {
    let cluster = cluster();
    let body = json!({"metadata": {"generateName": "web-"}});
    let mut names = Vec::new();
    for _ in 0..5 {
        let made = cluster.create(CONFIG_MAPS, body.clone()).await;
        let name = made["metadata"]["name"].as_str().expect("a name").to_owned();
        assert!(name.starts_with("web-") && name.len() == 9 && !names.contains(&name), "{name}");
        names.push(name);
    }
}

#[tokio::test]
async fn what_cannot_be_created_is_told_in_upstreams_words() {
    let cluster = cluster();
    for (body, code, message) in [
        (
            json!({"metadata": {}}),
            422,
            "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
        ),
        (
            json!({"metadata": {"name": "a", "namespace": "other"}}),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            json!({"metadata": {"name": "a", "resourceVersion": "1"}}),
            500,
            "resourceVersion should not be set on objects to be created",
        ),
        (
            json!({"apiVersion": "v2", "metadata": {"name": "a"}}),
            400,
            "ConfigMap in version \"v2\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for version \"v2\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
        ),
    ] {
        let answer = cluster.send("POST", CONFIG_MAPS, body).await;
        assert_eq!((answer.code, answer.message()), (code, message));
        assert_eq!(answer.body["status"], "Failure");
    }
    let large = config_map("a", json!({"x": "y".repeat(10)}));
    assert_eq!(
        cluster.send_as("POST", CONFIG_MAPS, &[("content-type", "text/html")], large).await.code,
        415
    );
}

#[tokio::test]
async fn unknown_fields_are_ignored_warned_of_or_refused() {
    let cluster = cluster();
    let body = |name: &str| json!({"metadata": {"name": name}, "dat": {}});
    let path = |mode: &str| format!("{CONFIG_MAPS}?fieldValidation={mode}");
    let answer = cluster.send("POST", &path("Ignore"), body("a")).await;
    assert_eq!((answer.code, answer.warnings()), (201, vec![]));
    let answer = cluster.send("POST", &path("Warn"), body("b")).await;
    assert_eq!(answer.warnings(), [r#"299 - "unknown field \"dat\"""#]);
    let answer = cluster.send("POST", &path("Strict"), body("c")).await;
    assert_eq!(answer.code, 400);
    assert!(answer.message().ends_with("strict decoding error: unknown field \"dat\""));
    assert_eq!(cluster.send("POST", &path("Lax"), body("d")).await.code, 422);
}

#[tokio::test]
async fn a_patch_that_makes_no_object_of_the_kind_is_shown_what_it_made() {
    let cluster = cluster();
    cluster.create(CONFIG_MAPS, config_map("a", json!({"x": "1"}))).await;
    for (media_type, patch) in [
        ("application/merge-patch+json", json!({"data": {"x": 5}})),
        ("application/strategic-merge-patch+json", json!({"data": {"x": 5}})),
        ("application/json-patch+json", json!([{"op": "replace", "path": "/data/x", "value": 5}])),
    ] {
        let answer = cluster.send_as("PATCH", A, &[("content-type", media_type)], patch).await;
        assert_eq!((answer.code, answer.at("/reason")), (422, &json!("Invalid")), "{media_type}");
        let message = answer.message();
        assert!(message.starts_with(" \"\" is invalid: patch: Invalid value: "), "{message}");
        // A strategic patch is shown itself, as it is never written out.
        let shown = match media_type.contains("strategic") {
            true => r#""map[data:map[x:5]]": unrecognized type: string"#,
            false => r#"\"data\":{\"x\":5}"#,
        };
        assert!(message.contains(shown), "{message}");
    }
    assert_eq!(cluster.get(A).await.at("/data/x"), "1");
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let cluster = cluster();
    let all = "?dryRun=All";
    let made = cluster.create(&format!("{CONFIG_MAPS}{all}"), config_map("a", json!({}))).await;
    assert_eq!(made["metadata"]["name"], "a");
    assert_eq!(made["metadata"].get("resourceVersion"), None, "it was never stored");
    assert_eq!(cluster.get(A).await.code, 404);
    cluster.create(CONFIG_MAPS, config_map("a", json!({"x": "1"}))).await;
    let patched = cluster.send("PATCH", &format!("{A}{all}"), json!({"data": {"x": "2"}})).await;
    assert_eq!(patched.at("/data/x"), "2");
    assert_eq!(cluster.send("DELETE", &format!("{A}{all}"), Value::Null).await.code, 200);
    assert_eq!(cluster.get(A).await.at("/data/x"), "1");
}

#[tokio::test]
async fn an_update_needs_the_current_version_or_none() {
    let cluster = cluster();
    let first = cluster.create(CONFIG_MAPS, config_map("a", json!({"x": "1"}))).await;
    let mut second = first.clone();
    second["data"]["x"] = "2".into();
    let updated = cluster.send("PUT", A, second.clone()).await;
    assert_eq!(updated.code, 200);
    assert_ne!(updated.at("/metadata/resourceVersion"), &first["metadata"]["resourceVersion"]);
    let mut no_number = second.clone();
    no_number["metadata"]["resourceVersion"] = "abc".into();
    let refused = cluster.send("PUT", A, no_number).await;
    assert_eq!(
        (refused.code, refused.message()),
        (500, "strconv.ParseUint: parsing \"abc\": invalid syntax")
    );
    let late = cluster.send("PUT", A, second).await;
    assert_eq!(
        (late.code, late.message()),
        (
            409,
            "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
        )
    );
    assert_eq!(cluster.send("PUT", A, config_map("a", json!({}))).await.code, 200);
    let mut other = config_map("a", json!({}));
    other["metadata"]["uid"] = "x".into();
    assert_eq!(cluster.send("PUT", A, other).await.code, 409);
    let named = cluster.send("PUT", A, config_map("b", json!({}))).await;
    assert_eq!(
        named.message(),
        "the name of the object (b) does not match the name on the URL (a)"
    );
    let none = format!("{CONFIG_MAPS}/none");
    assert_eq!(cluster.send("PUT", &none, config_map("none", json!({}))).await.code, 404);
}

#[tokio::test]
async fn a_write_that_changes_nothing_keeps_the_version() {
    let cluster = cluster();
    let first = cluster.create(CONFIG_MAPS, config_map("a", json!({"x": "1"}))).await;
    assert_eq!(cluster.send("PUT", A, first.clone()).await.body, first);
    assert_eq!(cluster.send("PATCH", A, json!({"data": {"x": "1"}})).await.body, first);
    let strategic = [("content-type", "application/strategic-merge-patch+json")];
    assert_eq!(cluster.send_as("PATCH", A, &strategic, json!({})).await.body, first);
}

#[tokio::test]
async fn patches_of_every_kind() {
    let cluster = cluster();
    let mut body = pod("p", "");
    body["metadata"]["labels"] = json!({"a": "1"});
    cluster.create(PODS, body).await;
    let label = |answer: &super::harness::Answer| answer.at("/metadata/labels").clone();
    let patch = json!([{"op": "test", "path": "/metadata/labels/a", "value": "1"}, {"op": "add", "path": "/metadata/labels/b", "value": "2"}]);
    assert_eq!(label(&cluster.send("PATCH", P, patch.clone()).await), json!({"a": "1", "b": "2"}));
    let merge = json!({"metadata": {"labels": {"a": null}}});
    assert_eq!(label(&cluster.send("PATCH", P, merge).await), json!({"b": "2"}));
    let failed = cluster.send("PATCH", P, patch).await;
    assert_eq!(
        (failed.code, failed.message()),
        (422, "the server rejected our request due to an error in our request")
    );
    let strategic = [("content-type", "application/strategic-merge-patch+json")];
    let image = json!({"spec": {"containers": [{"name": "c", "image": "j"}]}});
    let patched = cluster.send_as("PATCH", P, &strategic, image).await;
    assert_eq!(patched.at("/spec/containers/0/image"), "j");
    assert_eq!(patched.at("/spec/containers/1"), &Value::Null);
    let stale = json!({"metadata": {"resourceVersion": "1"}});
    assert_eq!(cluster.send("PATCH", P, stale).await.code, 409);
    let other = [("content-type", "application/apply-patch+cbor")];
    let refused = cluster.send_as("PATCH", P, &other, json!({})).await;
    assert_eq!(
        (refused.code, refused.message()),
        (
            415,
            "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml"
        )
    );
}

#[tokio::test]
async fn status_and_scale_are_parts_of_an_object() {
    let cluster = cluster();
    let all = "/apis/apps/v1/namespaces/default/deployments";
    let template = json!({
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    cluster
        .create(
            all,
            json!({
                "metadata": {"name": "web"},
                "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": template},
                "status": {"replicas": 9},
            }),
        )
        .await;
    let web = format!("{all}/web");
    assert_eq!(cluster.get(&web).await.at("/status/replicas"), &Value::Null);
    let status = json!({"status": {"replicas": 3}, "spec": {"replicas": 7}});
    let patched = cluster.send("PATCH", &format!("{web}/status"), status).await;
    assert_eq!(
        (patched.at("/status/replicas"), patched.at("/spec/replicas")),
        (&json!(3), &json!(2))
    );
    assert_eq!(patched.at("/metadata/generation"), 1);
    let scale = cluster.get(&format!("{web}/scale")).await;
    assert_eq!(scale.body["kind"], "Scale");
    assert_eq!((scale.at("/spec/replicas"), scale.at("/status/replicas")), (&json!(2), &json!(3)));
    assert_eq!(scale.at("/status/selector"), "a=b");
    // As upstream calls what is not there, which autoscalers repeat.
    let absent = cluster.get(&format!("{all}/nope/scale")).await;
    assert_eq!(absent.code, 404);
    assert_eq!(absent.body["message"], "deployments/scale.apps \"nope\" not found");
    let scaled =
        cluster.send("PATCH", &format!("{web}/scale"), json!({"spec": {"replicas": 5}})).await;
    assert_eq!(scaled.at("/spec/replicas"), 5);
    let mut put = scale.body.clone();
    put["spec"]["replicas"] = 6.into();
    assert_eq!(cluster.send("PUT", &format!("{web}/scale"), put.clone()).await.code, 409);
    put["metadata"]["resourceVersion"] = scaled.at("/metadata/resourceVersion").clone();
    assert_eq!(cluster.send("PUT", &format!("{web}/scale"), put).await.at("/spec/replicas"), 6);
    let after = cluster.get(&web).await;
    assert_eq!(
        (after.at("/spec/replicas"), after.at("/metadata/generation")),
        (&json!(6), &json!(3))
    );
    assert_eq!(cluster.get(&format!("{web}/nothing")).await.code, 404);
}

#[tokio::test]
async fn a_binding_puts_a_pod_on_a_node_once() {
    let cluster = cluster();
    cluster.create(PODS, pod("p", "")).await;
    let binding = json!({
        "kind": "Binding", "apiVersion": "v1", "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": "n"},
    });
    let path = format!("{P}/binding");
    let bound = cluster.send("POST", &path, binding.clone()).await;
    assert_eq!((bound.code, &bound.body["status"]), (201, &json!("Success")), "{}", bound.body);
    assert_eq!(cluster.get(P).await.at("/spec/nodeName"), "n");
    assert_eq!(cluster.send("POST", &path, binding.clone()).await.code, 409);
    let mut other = binding;
    other["metadata"]["name"] = json!("other");
    let refused = cluster.send("POST", &path, other).await;
    assert_eq!(
        (refused.code, refused.message()),
        (400, "name in URL does not match name in Binding object")
    );
    cluster.create(PODS, pod("q", "")).await;
    let nameless = json!({"target": {"kind": "Node", "name": "n"}});
    let bound = cluster.send("POST", &format!("{PODS}/q/binding"), nameless).await;
    assert_eq!(bound.code, 201, "{}", bound.body);
}

#[tokio::test]
async fn a_binding_alone_binds_the_pod_that_it_names() {
    let cluster = cluster();
    cluster.create(PODS, pod("p", "")).await;
    let path = PODS.replace("/pods", "/bindings");
    let binding = |name: &str| {
        json!({
            "kind": "Binding", "apiVersion": "v1", "metadata": {"name": name},
            "target": {"kind": "Node", "name": "n"},
        })
    };
    let dry = cluster.send("POST", &format!("{path}?dryRun=All"), binding("p")).await;
    assert_eq!((dry.code, dry.at("/status")), (201, &json!("Success")), "{}", dry.body);
    assert_eq!(cluster.get(P).await.at("/spec/nodeName"), &Value::Null);
    let bound = cluster.send("POST", &path, binding("p")).await;
    assert_eq!((bound.code, bound.at("/status")), (201, &json!("Success")), "{}", bound.body);
    assert_eq!(cluster.get(P).await.at("/spec/nodeName"), "n");
    assert_eq!(cluster.send("POST", &path, binding("p")).await.code, 409);
    let missing = cluster.send("POST", &path, binding("x")).await;
    assert_eq!((missing.code, missing.message()), (404, "pods \"x\" not found"));
    assert_eq!(cluster.send("POST", &path, binding("")).await.code, 400);
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_gone() {
    let cluster = cluster();
    let mut body = config_map("a", json!({}));
    body["metadata"]["finalizers"] = json!(["a/b"]);
    cluster.create(CONFIG_MAPS, body).await;
    let deleted = cluster.send("DELETE", A, Value::Null).await;
    assert_eq!((deleted.code, &deleted.body["kind"]), (200, &json!("ConfigMap")));
    assert_eq!(deleted.at("/metadata/deletionTimestamp"), "2026-01-01T00:00:00Z");
    let added = json!({"metadata": {"finalizers": ["a/b", "c/d"]}});
    assert_eq!(cluster.send("PATCH", A, added).await.code, 422);
    let let_go = json!({"metadata": {"finalizers": null}});
    assert_eq!(cluster.send("PATCH", A, let_go).await.code, 200);
    assert_eq!(cluster.get(A).await.code, 404);
}

#[tokio::test]
async fn a_pod_on_a_node_is_given_time() {
    let cluster = cluster();
    cluster.create(PODS, pod("p", "n")).await;
    let first = cluster.send("DELETE", P, Value::Null).await;
    assert_eq!(first.at("/metadata/deletionTimestamp"), "2026-01-01T00:00:30Z");
    assert_eq!(first.at("/metadata/deletionGracePeriodSeconds"), 30);
    let shorter = cluster.send("DELETE", &format!("{P}?gracePeriodSeconds=5"), Value::Null).await;
    assert_eq!(shorter.at("/metadata/deletionGracePeriodSeconds"), 5);
    let now = cluster.send("DELETE", P, json!({"gracePeriodSeconds": 0})).await;
    assert_eq!(now.at("/kind"), "Pod", "it is answered as it was");
    assert_eq!(cluster.get(P).await.code, 404);
    cluster.create(PODS, pod("p", "")).await;
    let unscheduled = cluster.send("DELETE", P, Value::Null).await;
    assert_eq!((unscheduled.at("/kind"), cluster.get(P).await.code), (&json!("Pod"), 404));
}

#[tokio::test]
async fn an_eviction_is_a_deletion() {
    let cluster = cluster();
    cluster.create(PODS, pod("p", "n")).await;
    let evict = |options: Value| {
        json!({
            "kind": "Eviction", "apiVersion": "policy/v1",
            "metadata": {"name": "p"}, "deleteOptions": options,
        })
    };
    let path = format!("{P}/eviction");
    let dry = cluster.send("POST", &path, evict(json!({"dryRun": ["All"]}))).await;
    assert_eq!((dry.code, dry.at("/status")), (201, &json!("Success")), "{}", dry.body);
    assert_eq!(cluster.get(P).await.at("/metadata/deletionTimestamp"), &Value::Null);
    cluster.send("POST", &path, evict(json!({"gracePeriodSeconds": 7}))).await;
    assert_eq!(cluster.get(P).await.at("/metadata/deletionGracePeriodSeconds"), 7);
    let gone = cluster
        .send("POST", &format!("{PODS}/x/eviction"), json!({"metadata": {"name": "x"}}))
        .await;
    assert_eq!(gone.code, 404);
    let other = json!({"metadata": {"name": "other"}});
    let refused = cluster.send("POST", &path, other).await;
    assert_eq!(
        (refused.code, refused.message()),
        (400, "name in URL does not match name in Eviction object")
    );
    let nameless = cluster.send("POST", &path, json!({})).await;
    assert_eq!(nameless.code, 201, "{}", nameless.body);
}

#[tokio::test]
async fn deletecollection_deletes_what_is_selected() {
    let cluster = cluster();
    for name in ["a", "b", "c"] {
        let mut body = config_map(name, json!({}));
        body["metadata"]["labels"] = json!({"name": name});
        cluster.create(CONFIG_MAPS, body).await;
    }
    let selected = format!("{CONFIG_MAPS}?labelSelector=name+in+(a,b)");
    let deleted = cluster.send("DELETE", &selected, Value::Null).await;
    assert_eq!((deleted.code, deleted.at("/items").as_array().map(Vec::len)), (200, Some(2)));
    assert_eq!(cluster.get(CONFIG_MAPS).await.at("/items/0/metadata/name"), "c");
}

#[tokio::test]
async fn a_lease_is_created_and_renewed_by_update() {
    let cluster = cluster();
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    let lease = |second: u8| {
        json!({
            "metadata": {"name": "l"},
            "spec": {"holderIdentity": "me", "renewTime": format!("2026-01-01T00:00:0{second}.000000Z")},
        })
    };
    let made = cluster.send("PUT", path, lease(1)).await;
    assert_eq!(made.code, 201, "{}", made.body);
    let mut newer = lease(2);
    newer["metadata"]["resourceVersion"] = made.at("/metadata/resourceVersion").clone();
    let renewed = cluster.send("PUT", path, newer).await;
    assert_eq!(renewed.code, 200, "{}", renewed.body);
    assert_eq!(cluster.get(path).await.body, renewed.body);
    assert_ne!(made.at("/metadata/resourceVersion"), renewed.at("/metadata/resourceVersion"));
}

#[tokio::test]
async fn both_groups_of_events_are_the_same_objects() {
    let cluster = cluster();
    let core = "/api/v1/namespaces/default/events";
    let event = json!({
        "metadata": {"name": "e"}, "reason": "Started", "type": "Normal", "message": "words",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
    });
    cluster.create(core, event).await;
    let new = cluster.get("/apis/events.k8s.io/v1/namespaces/default/events/e").await;
    assert_eq!(new.body["apiVersion"], "events.k8s.io/v1");
    assert_eq!((new.at("/note"), new.at("/regarding/name")), (&json!("words"), &json!("p")));
    let old = cluster.get(&format!("{core}/e")).await;
    assert_eq!(old.at("/metadata/resourceVersion"), new.at("/metadata/resourceVersion"));
}

#[tokio::test]
async fn a_node_registers_with_its_status_and_others_do_not() {
    let cluster = cluster();
    let status = json!({"capacity": {"cpu": "4"}});
    let node = json!({"metadata": {"name": "n"}, "status": status});
    let made = cluster.create("/api/v1/nodes", node).await;
    assert_eq!(made["status"]["capacity"]["cpu"], "4");
    let mut pod = pod("p", "n");
    pod["status"] = json!({"phase": "Running"});
    assert_eq!(cluster.create(PODS, pod).await["status"]["phase"], "Pending");
}

#[tokio::test]
async fn a_patch_gives_an_object_no_other_name_or_namespace() {
    let cluster = cluster();
    cluster.create(CONFIG_MAPS, config_map("a", json!({}))).await;
    for (metadata, message) in [
        (
            json!({"name": "zz"}),
            "the name of the object (zz) does not match the name on the URL (a)",
        ),
        (
            json!({"namespace": "zz"}),
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
    ] {
        for media_type in ["merge-patch", "strategic-merge-patch"] {
            let media_type = format!("application/{media_type}+json");
            let patch = json!({"metadata": metadata});
            let answer = cluster.send_as("PATCH", A, &[("content-type", &media_type)], patch).await;
            assert_eq!((answer.code, answer.message()), (400, message), "{media_type}");
        }
    }
}

/// Which operation failed is nothing that upstream tells.
#[tokio::test]
async fn a_json_patch_that_does_not_fit_is_refused_in_bare_words() {
    let cluster = cluster();
    cluster.create(CONFIG_MAPS, config_map("a", json!({"x": "1"}))).await;
    for operation in [
        json!({"op": "test", "path": "/data/x", "value": "2"}),
        json!({"op": "remove", "path": "/data/y"}),
        json!({"op": "add", "path": "/nothing/y", "value": "1"}),
        json!({"op": "jump", "path": "/data/x"}),
    ] {
        let json = [("content-type", "application/json-patch+json")];
        let answer = cluster.send_as("PATCH", A, &json, json!([operation])).await;
        assert_eq!((answer.code, answer.at("/reason")), (422, &json!("Invalid")), "{operation}");
        assert_eq!(
            answer.message(),
            "the server rejected our request due to an error in our request"
        );
        assert_eq!(answer.at("/details"), &json!({}), "{operation}");
    }
}

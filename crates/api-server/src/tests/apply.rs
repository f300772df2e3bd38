//! Server-side apply and who manages what, verb by verb.

use serde_json::{Value, json};

use super::harness::{Answer, CONFIG_MAPS, Cluster, PODS, cluster, config_map, pod};

const A: &str = "/api/v1/namespaces/default/configmaps/a";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const WEB: &str = "/apis/apps/v1/namespaces/default/deployments/web";

impl Cluster {
    async fn apply(&self, path: &str, query: &str, config: Value) -> Answer {
        let headers = [("content-type", "application/apply-patch+yaml")];
        self.send_as("PATCH", &format!("{path}?{query}"), &headers, config).await
    }

    /// Sends as a program.
    async fn send_from(&self, agent: &str, method: &str, path: &str, body: Value) -> Answer {
        let media_type = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let headers = [("content-type", media_type), ("user-agent", agent)];
        self.send_as(method, path, &headers, body).await
    }
}

/// `kubectl Update v1/status: {"f:data":{…}}`, an entry a line.
fn managers(object: &Value) -> Vec<String> {
    let list = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|entry| {
            let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
            assert_eq!(text("fieldsType"), "FieldsV1");
            assert_eq!(text("time"), "2026-01-01T00:00:00Z");
            let sub = match text("subresource").as_str() {
                "" => String::new(),
                sub => format!("/{sub}"),
            };
            let (name, operation, version) =
                (text("manager"), text("operation"), text("apiVersion"));
            format!("{name} {operation} {version}{sub}: {}", entry["fieldsV1"])
        })
        .collect()
}

fn applied(data: Value) -> Value {
    config_map("a", data)
}

#[tokio::test]
async fn every_write_is_managed_by_who_sent_it() {
    let cluster = cluster();
    let made = cluster
        .send_from("kubectl/v1.33.0 (linux)", "POST", CONFIG_MAPS, applied(json!({"x": "1"})))
        .await;
    assert_eq!(managers(&made.body), [r#"kubectl Update v1: {"f:data":{".":{},"f:x":{}}}"#]);
    let path = format!("{A}?fieldManager=me");
    let patched = cluster.send_from("curl", "PATCH", &path, json!({"data": {"y": "2"}})).await;
    assert_eq!(
        managers(&patched.body),
        [
            r#"kubectl Update v1: {"f:data":{".":{},"f:x":{}}}"#,
            r#"me Update v1: {"f:data":{"f:y":{}}}"#,
        ]
    );
    let mut put = patched.body.clone();
    put["data"] = json!({"x": "2", "y": "2"});
    let put = cluster.send_from("", "PUT", A, put).await;
    assert_eq!(
        managers(&put.body),
        [
            r#"kubectl Update v1: {"f:data":{}}"#,
            r#"me Update v1: {"f:data":{"f:y":{}}}"#,
            r#"unknown Update v1: {"f:data":{"f:x":{}}}"#,
        ]
    );
    assert_eq!(cluster.get(A).await.body, put.body);
    let without = cluster.send_from("x", "PUT", A, applied(json!({"x": "2"}))).await;
    assert_eq!(
        managers(&without.body),
        [r#"kubectl Update v1: {"f:data":{}}"#, r#"unknown Update v1: {"f:data":{"f:x":{}}}"#,],
        "a client that knows no managers takes none away"
    );
}

#[tokio::test]
async fn an_apply_creates_changes_and_takes_away() {
    let cluster = cluster();
    let made = cluster.apply(A, "fieldManager=a", applied(json!({"x": "1", "y": "1"}))).await;
    assert_eq!((made.code, made.at("/data")), (201, &json!({"x": "1", "y": "1"})), "{}", made.body);
    assert_eq!(managers(&made.body), [r#"a Apply v1: {"f:data":{"f:x":{},"f:y":{}}}"#]);
    let again = cluster.apply(A, "fieldManager=a", applied(json!({"x": "1", "y": "1"}))).await;
    assert_eq!((again.code, &again.body), (200, &made.body), "nothing changed");
    let less = cluster.apply(A, "fieldManager=a", applied(json!({"x": "2"}))).await;
    assert_eq!((less.code, less.at("/data")), (200, &json!({"x": "2"})));
    let dry = cluster.apply(A, "fieldManager=a&dryRun=All", applied(json!({"z": "2"}))).await;
    assert_eq!(dry.at("/data"), &json!({"z": "2"}));
    assert_eq!(cluster.get(A).await.body, less.body);
    let other = format!("{CONFIG_MAPS}/other");
    let dry =
        cluster.apply(&other, "fieldManager=a&dryRun=All", config_map("other", json!({}))).await;
    assert_eq!((dry.code, cluster.get(&other).await.code), (201, 404));
}

#[tokio::test]
async fn conflicts_are_told_and_forced() {
    let cluster = cluster();
    cluster.apply(A, "fieldManager=a", applied(json!({"x": "1"}))).await;
    let refused = cluster.apply(A, "fieldManager=b", applied(json!({"x": "2"}))).await;
    assert_eq!(
        (refused.code, refused.message(), refused.at("/reason")),
        (409, r#"Apply failed with 1 conflict: conflict with "a": .data.x"#, &json!("Conflict"))
    );
    assert_eq!(
        refused.at("/details/causes"),
        &json!([{"reason": "FieldManagerConflict", "message": "conflict with \"a\"", "field": ".data.x"}])
    );
    let forced = cluster.apply(A, "fieldManager=b&force=true", applied(json!({"x": "2"}))).await;
    assert_eq!(managers(&forced.body), [r#"b Apply v1: {"f:data":{"f:x":{}}}"#]);
    let updated = cluster.send_from("u", "PATCH", A, json!({"data": {"x": "3"}})).await;
    assert_eq!(managers(&updated.body), [r#"u Update v1: {"f:data":{"f:x":{}}}"#]);
    let refused = cluster.apply(A, "fieldManager=b", applied(json!({"x": "2"}))).await;
    assert_eq!(
        refused.message(),
        r#"Apply failed with 1 conflict: conflict with "u" using v1: .data.x"#
    );
}

#[tokio::test]
async fn applies_that_make_no_sense_are_refused_in_upstreams_words() {
    let cluster = cluster();
    cluster.create(CONFIG_MAPS, config_map("a", json!({}))).await;
    let long = format!("fieldManager={}", "x".repeat(129));
    for (query, config, code, message) in [
        (
            "",
            applied(json!({})),
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ),
        (
            long.as_str(),
            applied(json!({})),
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Too long: may not be more than 128 bytes",
        ),
        (
            "fieldManager=a",
            json!({"apiVersion": "v2", "kind": "ConfigMap"}),
            400,
            "Incorrect version specified in apply patch. Specified patch version: v2, expected: v1",
        ),
        (
            "fieldManager=a",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"managedFields": []}}),
            400,
            "metadata.managedFields must be nil",
        ),
        (
            "fieldManager=a",
            config_map("b", json!({})),
            400,
            "the name of the object (b) does not match the name on the URL (a)",
        ),
        (
            "fieldManager=a",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "dat": {}}),
            500,
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .dat: field not declared in schema",
        ),
        (
            "fieldManager=a",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "resourceVersion": "1"}}),
            409,
            "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again",
        ),
    ] {
        let refused = cluster.apply(A, query, config).await;
        assert_eq!((refused.code, refused.message()), (code, message));
    }
    let force = format!("{A}?force=true");
    assert_eq!(
        cluster.send("PATCH", &force, json!({})).await.message(),
        "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"
    );
    let status = format!("{WEB}/status");
    let absent = cluster
        .apply(&status, "fieldManager=a", json!({"apiVersion": "apps/v1", "kind": "Deployment"}))
        .await;
    assert_eq!(absent.code, 404, "a subresource creates nothing");
}

#[tokio::test]
async fn yaml_is_read_and_duplicates_are_told() {
    let cluster = cluster();
    let text =
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  x: \"1\"\n  x: \"2\"\n";
    let apply = |mode: &'static str| {
        let path = format!("{A}?fieldManager=a&fieldValidation={mode}");
        let cluster = &cluster;
        async move {
            let headers = [("content-type", "application/apply-patch+yaml")];
            let (code, headers, bytes) =
                cluster.send_bytes("PATCH", &path, &headers, text.as_bytes().into()).await;
            Answer { code, headers, body: serde_json::from_slice(&bytes).expect("JSON") }
        }
    };
    let strict = apply("Strict").await;
    let words = "error strict decoding patch: error converting YAML to JSON: yaml: unmarshal errors:\n  line 7: key \"x\" already set in map";
    assert_eq!((strict.code, strict.message()), (400, words));
    let warned = apply("Warn").await;
    assert_eq!((warned.code, warned.at("/data/x")), (201, &json!("2")));
    assert_eq!(warned.warnings().len(), 1);
    assert_eq!(apply("Ignore").await.warnings(), Vec::<String>::new());
}

#[tokio::test]
async fn clients_may_replace_the_managers() {
    let cluster = cluster();
    let made = cluster.apply(A, "fieldManager=a", applied(json!({"x": "1"}))).await;
    for nonsense in [json!([]), json!([{"manager": "x"}])] {
        let mut put = made.body.clone();
        put["metadata"]["managedFields"] = nonsense;
        assert_eq!(cluster.send("PUT", A, put).await.body, made.body);
    }
    let renamed =
        json!([{"op": "replace", "path": "/metadata/managedFields/0/manager", "value": "b"}]);
    let renamed = cluster.send("PATCH", A, renamed).await;
    assert_eq!(managers(&renamed.body), [r#"b Apply v1: {"f:data":{"f:x":{}}}"#]);
    let reset = json!({"metadata": {"managedFields": [{}]}});
    let reset = cluster.send("PATCH", A, reset).await;
    assert_eq!(reset.at("/metadata/managedFields"), &Value::Null);
    let later = cluster.send_from("u", "PATCH", A, json!({"data": {"x": "2"}})).await;
    assert_eq!(managers(&later.body), Vec::<String>::new(), "it stays so");
    let refused = cluster.apply(A, "fieldManager=a", applied(json!({"x": "3"}))).await;
    assert_eq!(
        refused.message(),
        r#"Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .data.x"#
    );
}

#[tokio::test]
async fn a_write_that_changes_nothing_keeps_times_and_version() {
    let cluster = cluster();
    let made = cluster.create(CONFIG_MAPS, applied(json!({"x": "1"}))).await;
    let patch = json!({"data": {"x": "1"}});
    assert_eq!(cluster.send_from("other", "PATCH", A, patch).await.body, made);
    let shared = cluster.apply(A, "fieldManager=b", applied(json!({"x": "1"}))).await;
    assert_ne!(shared.at("/metadata/resourceVersion"), &made["metadata"]["resourceVersion"]);
    assert_eq!(managers(&shared.body)[0], r#"b Apply v1: {"f:data":{"f:x":{}}}"#);
}

fn deployment(replicas: i64) -> Value {
    let template = json!({
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    });
    if replicas > 0 {
        object["spec"]["replicas"] = replicas.into();
    }
    object
}

#[tokio::test]
async fn defaults_belong_to_who_creates_and_not_to_who_applies() {
    let cluster = cluster();
    let made = cluster.send_from("c", "POST", DEPLOYMENTS, deployment(0)).await;
    assert_eq!(
        managers(&made.body),
        [
            r#"c Update apps/v1: {"f:spec":{"f:progressDeadlineSeconds":{},"f:replicas":{},"f:revisionHistoryLimit":{},"f:selector":{},"f:strategy":{"f:rollingUpdate":{".":{},"f:maxSurge":{},"f:maxUnavailable":{}},"f:type":{}},"f:template":{"f:metadata":{"f:labels":{".":{},"f:a":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:resources":{},"f:terminationMessagePath":{},"f:terminationMessagePolicy":{}}},"f:dnsPolicy":{},"f:restartPolicy":{},"f:schedulerName":{},"f:securityContext":{},"f:terminationGracePeriodSeconds":{}}}}}"#
        ]
    );
    cluster.send("DELETE", WEB, Value::Null).await;
    let made = cluster.apply(WEB, "fieldManager=a", deployment(0)).await;
    assert_eq!(
        managers(&made.body),
        [
            r#"a Apply apps/v1: {"f:spec":{"f:selector":{},"f:template":{"f:metadata":{"f:labels":{"f:a":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{}}}}}}}"#
        ]
    );
}

#[tokio::test]
async fn subresources_are_recorded() {
    let cluster = cluster();
    cluster.apply(WEB, "fieldManager=a", deployment(2)).await;
    let status = json!({"status": {"replicas": 2}, "spec": {"replicas": 9}});
    let path = format!("{WEB}/status");
    let patched = cluster.send_from("k", "PATCH", &path, status).await;
    assert_eq!(
        managers(&patched.body)[1],
        r#"k Update apps/v1/status: {"f:status":{"f:replicas":{}}}"#
    );
    let scale = format!("{WEB}/scale");
    let scaled = cluster.send_from("s", "PATCH", &scale, json!({"spec": {"replicas": 3}})).await;
    assert_eq!(scaled.at("/metadata/managedFields"), &Value::Null);
    let now = cluster.get(WEB).await;
    assert_eq!(managers(&now.body)[2], r#"s Update apps/v1/scale: {"f:spec":{"f:replicas":{}}}"#);
    let refused = cluster.apply(WEB, "fieldManager=a", deployment(2)).await;
    assert_eq!(
        refused.message(),
        r#"Apply failed with 1 conflict: conflict with "s" with subresource "scale" using apps/v1: .spec.replicas"#
    );
    let kept = cluster.apply(WEB, "fieldManager=a", deployment(0)).await;
    assert_eq!(kept.at("/spec/replicas"), 3, "whoever lets go of the replicas leaves them");
    let config = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 4}});
    let refused = cluster.apply(&scale, "fieldManager=h", config.clone()).await;
    assert_eq!(
        refused.message(),
        r#"Apply failed with 1 conflict: conflict with "s" with subresource "scale" using autoscaling/v1: .spec.replicas"#
    );
    let scaled = cluster.apply(&scale, "fieldManager=h&force=true", config).await;
    assert_eq!((scaled.code, scaled.at("/spec/replicas")), (200, &json!(4)), "{}", scaled.body);
    let now = cluster.get(WEB).await;
    assert!(
        managers(&now.body)
            .contains(&r#"h Apply apps/v1/scale: {"f:spec":{"f:replicas":{}}}"#.to_owned())
    );
    let config = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "status": {"readyReplicas": 1}, "spec": {"replicas": 8},
    });
    let ready = cluster.apply(&path, "fieldManager=r", config).await;
    assert_eq!(
        (ready.at("/status/readyReplicas"), ready.at("/spec/replicas")),
        (&json!(1), &json!(4))
    );
    assert!(
        managers(&ready.body)
            .contains(&r#"r Apply apps/v1/status: {"f:status":{"f:readyReplicas":{}}}"#.to_owned())
    );
}

#[tokio::test]
async fn deleting_and_binding_manage_nothing() {
    let cluster = cluster();
    let mut body = pod("p", "");
    body["metadata"]["finalizers"] = json!(["a/b"]);
    let before = managers(&cluster.create(PODS, body).await);
    let path = format!("{PODS}/p");
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(cluster.send("POST", &format!("{path}/binding"), binding).await.code, 201);
    cluster.send("DELETE", &path, Value::Null).await;
    let after = cluster.get(&path).await;
    assert_eq!((after.at("/spec/nodeName"), managers(&after.body)), (&json!("n"), before));
}

#[tokio::test]
async fn both_groups_of_events_have_the_same_managers() {
    let cluster = cluster();
    let event = json!({
        "metadata": {"name": "e"}, "reason": "R", "message": "m",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
    });
    cluster.send_from("c", "POST", "/api/v1/namespaces/default/events", event).await;
    let path = "/apis/events.k8s.io/v1/namespaces/default/events/e";
    let refused = cluster
        .apply(
            path,
            "fieldManager=a",
            json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "note": "other"}),
        )
        .await;
    assert_eq!(
        (refused.code, refused.message()),
        (409, r#"Apply failed with 1 conflict: conflict with "c" using v1: .message"#)
    );
}

#[tokio::test]
async fn a_renewed_lease_tells_when() {
    let cluster = cluster();
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    let lease = |second: u8| {
        json!({
            "metadata": {"name": "l"},
            "spec": {"holderIdentity": "me", "renewTime": format!("2026-01-01T00:00:0{second}.000000Z")},
        })
    };
    let made = cluster.send_from("node", "PUT", path, lease(1)).await;
    let fields = r#"node Update coordination.k8s.io/v1: {"f:spec":{"f:holderIdentity":{},"f:renewTime":{}}}"#;
    assert_eq!((made.code, managers(&made.body)), (201, vec![fields.to_owned()]), "{}", made.body);
    let mut newer = lease(2);
    newer["metadata"]["resourceVersion"] = made.at("/metadata/resourceVersion").clone();
    let renewed = cluster.send_from("node", "PUT", path, newer).await;
    assert_eq!((renewed.code, managers(&renewed.body)), (200, vec![fields.to_owned()]));
}

//! One suite over every row of the catalogue, through the server: what each
//! kind can do is the same for all, whatever the kind.

use api_schema::{ResourceSpec, tree};
use serde_json::{Value, json};

use super::harness::{Answer, Cluster, cluster};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../api-kinds/samples");

/// A kind on a server of its own.
struct Story {
    cluster: Cluster,
    spec: std::sync::Arc<ResourceSpec>,
    sample: Value,
    collection: String,
    path: String,
}

impl Story {
    async fn send(&self, method: &str, path: &str, body: Value) -> Answer {
        self.cluster.send(method, path, body).await
    }

    async fn create(&self) -> Value {
        self.cluster.create(&self.collection, self.sample.clone()).await
    }

    /// Sends, and expects that to work.
    async fn good(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.send(method, path, body).await;
        assert!(answer.code < 300, "{method} {path}: {}", answer.body);
        answer.body
    }

    async fn patch(&self, media_type: &str, path: &str, body: Value) -> Value {
        let answer =
            self.cluster.send_as("PATCH", path, &[("content-type", media_type)], body).await;
        assert!(answer.code < 300, "{media_type} {path}: {}", answer.body);
        answer.body
    }

    /// Whatever keeps the object is taken away, and it goes.
    async fn remove(&self) {
        self.send("DELETE", &format!("{}?gracePeriodSeconds=0", self.path), Value::Null).await;
        if self.cluster.get(&self.path).await.code == 404 {
            return;
        }
        self.good("PATCH", &self.path, json!({ "metadata": { "finalizers": null } })).await;
        let left = self.cluster.get(&self.path).await;
        if left.code == 200 && self.spec.subresource("finalize").is_some() {
            let mut object = left.body;
            object["spec"]["finalizers"] = json!([]);
            self.good("PUT", &format!("{}/finalize", self.path), object).await;
            self.send("DELETE", &self.path, Value::Null).await;
        }
        assert_eq!(self.cluster.get(&self.path).await.code, 404, "{}", self.path);
    }
}

/// Tells a story of each kind that is stored, one after the other.
async fn each<F: Future<Output = ()>>(story: impl Fn(Story) -> F) {
    let mut told = 0;
    for spec in api_kinds::catalogue().all() {
        if !spec.allows("create") || !spec.stored {
            continue;
        }
        let file = match &*spec.group {
            "" => format!("{SAMPLES}/{}.{}.json", spec.plural, spec.version),
            group => format!("{SAMPLES}/{}.{}.{group}.json", spec.plural, spec.version),
        };
        let sample = std::fs::read(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let sample: Value = serde_json::from_slice(&sample).expect("JSON");
        let root = match &*spec.group {
            "" => format!("/api/{}", spec.version),
            group => format!("/apis/{group}/{}", spec.version),
        };
        let collection = match spec.namespaced {
            true => format!("{root}/namespaces/default/{}", spec.plural),
            false => format!("{root}/{}", spec.plural),
        };
        let path = format!("{collection}/{}", tree::text(&sample, "metadata.name"));
        story(Story { cluster: cluster(), spec, sample, collection, path }).await;
        told += 1;
    }
    assert!(told > 50, "only {told} kinds");
}

/// `type` of each event, in order.
async fn events(
    watch: &mut tokio::sync::mpsc::UnboundedReceiver<Value>,
    count: usize,
) -> Vec<String> {
    let mut types = Vec::new();
    while types.len() < count {
        let event = watch.recv().await.expect("the watch goes on");
        types.push(tree::text(&event, "type").to_owned());
    }
    types
}

#[tokio::test]
async fn objects_are_created_once_and_read_back() {
    each(|story| async move {
        let made = story.create().await;
        for field in ["uid", "resourceVersion", "creationTimestamp"] {
            assert!(!tree::text(&made["metadata"], field).is_empty(), "{}: {field}", story.path);
        }
        assert_eq!(made["kind"], *story.spec.kind);
        assert_eq!(story.cluster.get(&story.path).await.body, made);
        let again = story.send("POST", &story.collection, story.sample.clone()).await;
        assert_eq!(again.code, 409, "{}", again.body);
        assert!(again.message().ends_with("already exists"), "{}", again.message());
        let list = story.cluster.get(&story.collection).await.body;
        assert_eq!(list["kind"], *story.spec.list_kind);
        assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{}", story.path);
    })
    .await;
}

#[tokio::test]
async fn fields_that_a_kind_does_not_have_are_refused_where_asked() {
    each(|story| async move {
        let mut object = story.sample.clone();
        object["nonsense"] = 1.into();
        let path = |mode: &str| format!("{}?fieldValidation={mode}", story.collection);
        let refused = story.send("POST", &path("Strict"), object.clone()).await;
        assert_eq!(refused.code, 400, "{}", story.path);
        assert!(
            refused.message().ends_with("strict decoding error: unknown field \"nonsense\""),
            "{}",
            refused.message()
        );
        let warned = story.send("POST", &path("Warn"), object).await;
        assert_eq!(warned.code, 201, "{}", warned.body);
        assert_eq!(warned.warnings()[0], r#"299 - "unknown field \"nonsense\"""#);
        assert!(warned.body.get("nonsense").is_none());
    })
    .await;
}

#[tokio::test]
async fn an_update_without_a_change_writes_nothing() {
    each(|story| async move {
        let made = story.create().await;
        assert_eq!(story.good("PUT", &story.path, made.clone()).await, made, "{}", story.path);
        let patched = story.good("PATCH", &story.path, json!({})).await;
        assert_eq!(patched, made, "{}", story.path);
        let mut dry = made.clone();
        dry["metadata"]["labels"] = json!({ "a": "b" });
        let dry = story.good("PUT", &format!("{}?dryRun=All", story.path), dry).await;
        assert_eq!(dry["metadata"]["labels"]["a"], "b", "{}", story.path);
        assert_eq!(story.cluster.get(&story.path).await.body, made, "{}", story.path);
    })
    .await;
}

#[tokio::test]
async fn labels_change_by_put_and_by_each_patch() {
    each(|story| async move {
        let made = story.create().await;
        let mut object = made.clone();
        object["metadata"]["labels"]["put"] = "1".into();
        let put = story.good("PUT", &story.path, object).await;
        assert_ne!(put["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
        assert_eq!(put["metadata"]["generation"], made["metadata"]["generation"], "{}", story.path);
        let label = |name: &str| json!({ "metadata": { "labels": { name: "1" } } });
        story.patch("application/merge-patch+json", &story.path, label("merge")).await;
        story
            .patch("application/strategic-merge-patch+json", &story.path, label("strategic"))
            .await;
        let add = json!([{ "op": "add", "path": "/metadata/labels/json", "value": "1" }]);
        let patched = story.patch("application/json-patch+json", &story.path, add).await;
        let labels = patched["metadata"]["labels"].as_object().expect("a map");
        for name in ["put", "merge", "strategic", "json"] {
            assert_eq!(labels.get(name), Some(&json!("1")), "{}: {name}", story.path);
        }
        for field in ["spec", "data"] {
            assert_eq!(patched[field], made[field], "{}", story.path);
        }
    })
    .await;
}

#[tokio::test]
async fn who_and_where_an_object_is_cannot_change() {
    each(|story| async move {
        let made = story.create().await;
        let mut object = made.clone();
        object["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000".into();
        assert_eq!(story.send("PUT", &story.path, object).await.code, 409, "{}", story.path);
        let mut object = made.clone();
        object["metadata"]["resourceVersion"] = "1".into();
        assert_eq!(story.send("PUT", &story.path, object).await.code, 409, "{}", story.path);
        let mut object = made.clone();
        object["metadata"]["name"] = "another".into();
        assert_eq!(story.send("PUT", &story.path, object).await.code, 400, "{}", story.path);
        let mut object = made.clone();
        tree::remove(&mut object, "metadata.resourceVersion");
        let code = story.send("PUT", &story.path, object).await.code;
        let allowed = story.spec.allow_unconditional_update;
        assert_eq!(code, if allowed { 200 } else { 422 }, "{}", story.path);
        let answer = story.send("PUT", &format!("{}x", story.path), story.sample.clone()).await;
        assert_eq!(answer.code, 400, "{}: {}", story.path, answer.body);
    })
    .await;
}

#[tokio::test]
async fn status_and_the_rest_are_written_apart() {
    each(|story| async move {
        if !story.spec.has_status() {
            let answer = story.cluster.get(&format!("{}/status", story.path)).await;
            assert_eq!(answer.code, 404, "{}", story.path);
            return;
        }
        let made = story.create().await;
        let mut object = made.clone();
        object["status"] = Value::Null;
        object["metadata"]["annotations"] = json!({ "a": "b" });
        let put = story.good("PUT", &story.path, object).await;
        assert_eq!(put["status"], made["status"], "{}", story.path);
        let path = format!("{}/status", story.path);
        let patch = json!({ "spec": null, "metadata": { "generation": 99 } });
        let patched = story.good("PATCH", &path, patch).await;
        assert_eq!(patched["spec"], put["spec"], "{}", story.path);
        assert_eq!(patched["metadata"]["generation"], put["metadata"]["generation"]);
        assert_eq!(story.cluster.get(&path).await.body, patched, "{}", story.path);
    })
    .await;
}

#[tokio::test]
async fn selectors_find_what_they_select() {
    each(|story| async move {
        let made = story.create().await;
        story.good("PATCH", &story.path, json!({ "metadata": { "labels": { "x": "y" } } })).await;
        let count = async |query: String| {
            let answer = story.cluster.get(&format!("{}?{query}", story.collection)).await;
            assert_eq!(answer.code, 200, "{}?{query}: {}", story.collection, answer.body);
            answer.body["items"].as_array().map(Vec::len).expect("a list")
        };
        assert_eq!(count("labelSelector=x%3Dy".into()).await, 1, "{}", story.path);
        assert_eq!(count("labelSelector=x%21%3Dy".into()).await, 0, "{}", story.path);
        for field in &story.spec.selectable {
            let value = field.read(&made);
            let select = |operator: &str, value: &str| {
                format!("fieldSelector={}{operator}{value}", field.name)
            };
            assert_eq!(count(select("%3D", &value)).await, 1, "{}: {}", story.path, field.name);
            assert_eq!(count(select("%21%3D", &value)).await, 0, "{}: {}", story.path, field.name);
        }
        let unknown = format!("{}?fieldSelector=spec.nonsense%3Da", story.collection);
        assert_eq!(story.cluster.get(&unknown).await.code, 400, "{}", story.path);
    })
    .await;
}

#[tokio::test]
async fn watches_see_objects_come_change_and_go() {
    each(|story| async move {
        let start = story.cluster.get(&story.collection).await;
        let version = start.at("/metadata/resourceVersion").as_str().expect("text").to_owned();
        let query = format!("watch=1&resourceVersion={version}");
        let mut all = story.cluster.watch(&format!("{}?{query}", story.collection)).await;
        let selected = format!("{}?{query}&labelSelector=x", story.collection);
        let mut selected = story.cluster.watch(&selected).await;
        story.create().await;
        let label = |value: Value| json!({ "metadata": { "labels": { "x": value } } });
        story.good("PATCH", &story.path, label("y".into())).await;
        assert_eq!(events(&mut all, 2).await, ["ADDED", "MODIFIED"], "{}", story.path);
        story.good("PATCH", &story.path, label(Value::Null)).await;
        assert_eq!(events(&mut selected, 2).await, ["ADDED", "DELETED"], "{}", story.path);
        story.remove().await;
        loop {
            let event = all.recv().await.expect("the watch goes on");
            if event["type"] == "DELETED" {
                break;
            }
            assert_eq!(event["type"], "MODIFIED", "{}", story.path);
        }
    })
    .await;
}

#[tokio::test]
async fn deletion_follows_its_policy() {
    each(|story| async move {
        for (policy, finalizer) in [
            ("Background", None),
            ("Foreground", Some("foregroundDeletion")),
            ("Orphan", Some("orphan")),
        ] {
            story.create().await;
            let body = json!({ "propagationPolicy": policy, "gracePeriodSeconds": 0 });
            let answer = story.send("DELETE", &story.path, body).await;
            assert!(answer.code < 300, "{policy} {}: {}", story.path, answer.body);
            let left = story.cluster.get(&story.path).await;
            if let Some(finalizer) = finalizer {
                assert_eq!(left.code, 200, "{policy} {}", story.path);
                let finalizers = tree::list(&left.body, "metadata.finalizers");
                assert!(finalizers.contains(&finalizer.into()), "{policy} {}", left.body);
            }
            if left.code == 200 {
                assert!(!left.at("/metadata/deletionTimestamp").is_null(), "{}", left.body);
            }
            story.remove().await;
        }
        story.create().await;
        let wrong = json!({ "preconditions": { "uid": "another" } });
        assert_eq!(story.send("DELETE", &story.path, wrong).await.code, 409, "{}", story.path);
        if story.spec.allows("deletecollection") {
            story.good("DELETE", &story.collection, Value::Null).await;
        }
        story.remove().await;
    })
    .await;
}

#[tokio::test]
async fn tables_have_the_columns_of_the_kind() {
    each(|story| async move {
        story.create().await;
        let accept = |what: &str| format!("application/json;as={what};v=v1;g=meta.k8s.io");
        for path in [&story.path, &story.collection] {
            let table = accept("Table");
            let table =
                story.cluster.send_as("GET", path, &[("accept", &table)], Value::Null).await;
            assert_eq!(table.at("/kind"), "Table", "{}", table.body);
            let columns = table.body["columnDefinitions"].as_array().expect("a list");
            let names: Vec<&str> =
                columns.iter().map(|column| tree::text(column, "name")).collect();
            let wanted = story.spec.table_columns();
            assert_eq!(names, wanted.iter().map(|column| &*column.name).collect::<Vec<_>>());
            let rows = table.body["rows"].as_array().expect("a list");
            assert_eq!(rows.len(), 1, "{path}");
            assert_eq!(rows[0]["cells"].as_array().map(Vec::len), Some(columns.len()), "{path}");
        }
        let partial = accept("PartialObjectMetadata");
        let headers = [("accept", partial.as_str())];
        let partial = story.cluster.send_as("GET", &story.path, &headers, Value::Null).await;
        assert_eq!(partial.at("/kind"), "PartialObjectMetadata", "{}", partial.body);
        assert_eq!(partial.at("/metadata/name"), &story.sample["metadata"]["name"]);
    })
    .await;
}

#[tokio::test]
async fn two_appliers_share_an_object_or_are_told() {
    each(|story| async move {
        let apply = async |manager: &str, mut object: Value, value: &str| {
            object["metadata"]["labels"] = json!({ "shared": value, manager: "1" });
            let path = format!("{}?fieldManager={manager}", story.path);
            let headers = [("content-type", "application/apply-patch+yaml")];
            story.cluster.send_as("PATCH", &path, &headers, object).await
        };
        let first = apply("a", story.sample.clone(), "1").await;
        assert_eq!(first.code, 201, "{}: {}", story.path, first.body);
        let labels = || {
            let mut object = story.sample.clone();
            tree::as_map(&mut object)
                .retain(|key, _| ["apiVersion", "kind", "metadata"].contains(&key.as_str()));
            object
        };
        let same = apply("b", labels(), "1").await;
        assert_eq!(same.code, 200, "{}: {}", story.path, same.body);
        let other = apply("b", labels(), "2").await;
        assert_eq!(other.code, 409, "{}: {}", story.path, other.body);
        let managers = tree::list(&same.body, "metadata.managedFields");
        let managers: Vec<&str> = managers.iter().map(|m| tree::text(m, "manager")).collect();
        assert_eq!(managers, ["a", "b"], "{}", story.path);
    })
    .await;
}

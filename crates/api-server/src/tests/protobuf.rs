//! Objects mean the same in protobuf and in JSON, and go out as upstream writes them.

use std::{collections::BTreeMap, io::Read, sync::Arc};

use api_schema::{ResourceSpec, Schema, ShapeRef};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use super::harness::{CONFIG_MAPS, Cluster, cluster, config_map, named};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// What answers are read by: as much of them as the stories look at.
const SHAPES: &str = "\
x.Object
 kind 0 string
 apiVersion 0 string
 metadata 1 x.Meta
 data 2 {}string
x.Meta
 name 1 string
 namespace 3 string
 resourceVersion 6 string
x.List
 kind 0 string
 apiVersion 0 string
 metadata 1 x.ListMeta
 items 2 []x.Object
x.ListMeta
 resourceVersion 2 string
 continue 3 string
 remainingItemCount 4 *int64
x.Event
 type 1 string
 object 2 x.Raw
x.Raw
 raw 1 bytes
";

fn read(shape: &str, body: &[u8]) -> Value {
    let schema = Arc::new(Schema::parse(SHAPES.into()).expect("valid"));
    let shape =
        ShapeRef::find(&schema, shape).or_else(|| ShapeRef::find(&api_kinds::schema(), shape));
    shape.expect("a shape").decode_protobuf(body).expect("protobuf")
}

fn media_type(headers: &HeaderMap) -> &str {
    headers["content-type"].to_str().expect("text")
}

/// Sends JSON as protobuf, and reads the answer.
async fn send(
    cluster: &Cluster,
    (method, path): (&str, &str),
    (accept, body): (&str, Bytes),
    shape: &str,
) -> (u16, Value) {
    let headers = [("accept", accept), ("content-type", PROTOBUF)];
    let (code, headers, bytes) = cluster.send_bytes(method, path, &headers, body).await;
    assert_eq!(media_type(&headers), PROTOBUF, "{method} {path}: {bytes:?}");
    (code, read(shape, &bytes))
}

fn written(shape: &str, body: &Value) -> Bytes {
    let shape = ShapeRef::find(&api_kinds::schema(), shape).expect("a shape");
    shape.encode_protobuf(body.to_string().as_bytes()).expect("of this shape").into()
}

#[tokio::test]
async fn a_client_that_knows_nothing_else_is_served() {
    let cluster = cluster();
    let a = format!("{CONFIG_MAPS}/a");
    let made = written("core/v1.ConfigMap", &config_map("a", json!({"x": "1"})));
    let (code, object) = send(&cluster, ("POST", CONFIG_MAPS), (PROTOBUF, made), "x.Object").await;
    assert_eq!(
        (code, &object["kind"], &object["data"]["x"]),
        (201, &json!("ConfigMap"), &json!("1"))
    );
    let mut changed = config_map("a", json!({"x": "2"}));
    changed["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
    let changed = written("core/v1.ConfigMap", &changed);
    let (code, object) = send(&cluster, ("PUT", &a), (PROTOBUF, changed), "x.Object").await;
    assert_eq!((code, &object["data"]["x"]), (200, &json!("2")));
    cluster.create(CONFIG_MAPS, config_map("b", json!({}))).await;
    let path = format!("{CONFIG_MAPS}?limit=1");
    let (code, list) = send(&cluster, ("GET", &path), (PROTOBUF, Bytes::new()), "x.List").await;
    assert_eq!(
        (code, &list["kind"], &list["apiVersion"]),
        (200, &json!("ConfigMapList"), &json!("v1"))
    );
    assert_eq!(list["metadata"]["remainingItemCount"], 1);
    assert!(list["metadata"]["continue"].as_str().is_some_and(|token| !token.is_empty()));
    assert_eq!(
        list["items"],
        json!([{
            "metadata": object["metadata"], "data": {"x": "2"},
        }])
    );
    let missing = format!("{CONFIG_MAPS}/z");
    let (code, status) =
        send(&cluster, ("GET", &missing), (PROTOBUF, Bytes::new()), "meta/v1.Status").await;
    assert_eq!((code, &status["reason"]), (404, &json!("NotFound")));
    assert_eq!((&status["code"], &status["details"]["name"]), (&json!(404), &json!("z")));
    let options =
        json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
    let options = written("meta/v1.DeleteOptions", &options);
    let (code, status) =
        send(&cluster, ("DELETE", &a), (PROTOBUF, options), "meta/v1.Status").await;
    assert_eq!((code, &status["status"]), (200, &json!("Success")));
    assert_eq!(status["details"]["name"], "a");
}

#[tokio::test]
async fn subresources_have_shapes_of_their_own() {
    let cluster = cluster();
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    cluster
        .create(
            deployments,
            json!({
                "metadata": {"name": "d"},
                "spec": {
                    "selector": {"matchLabels": {"a": "b"}},
                    "template": {
                        "metadata": {"labels": {"a": "b"}},
                        "spec": {"containers": [{"name": "c", "image": "i"}]},
                    },
                },
            }),
        )
        .await;
    let path = format!("{deployments}/d/scale");
    let scale = "autoscaling/v1.Scale";
    let (_, mut body) = send(&cluster, ("GET", &path), (PROTOBUF, Bytes::new()), scale).await;
    assert_eq!((&body["kind"], &body["spec"]["replicas"]), (&json!("Scale"), &json!(1)));
    body["spec"]["replicas"] = 3.into();
    let body = written(scale, &body);
    let (code, body) = send(&cluster, ("PUT", &path), (PROTOBUF, body), scale).await;
    assert_eq!((code, &body["spec"]["replicas"]), (200, &json!(3)));
    let path = format!("{deployments}/d/status");
    let (code, body) =
        send(&cluster, ("GET", &path), (PROTOBUF, Bytes::new()), "apps/v1.Deployment").await;
    assert_eq!((code, &body["spec"]["replicas"]), (200, &json!(3)));
    cluster.create(super::harness::PODS, super::harness::pod("p", "n")).await;
    let eviction =
        json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": "p"}});
    let path = format!("{}/p/eviction", super::harness::PODS);
    let eviction = written("policy/v1.Eviction", &eviction);
    let (code, status) =
        send(&cluster, ("POST", &path), (PROTOBUF, eviction), "meta/v1.Status").await;
    assert_eq!((code, &status["status"]), (201, &json!("Success")));
}

#[tokio::test]
async fn metadata_is_enough_for_some() {
    let cluster = cluster();
    cluster.create(CONFIG_MAPS, config_map("a", json!({"x": "1"}))).await;
    let list =
        format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json");
    let (_, body) = send(&cluster, ("GET", CONFIG_MAPS), (&list, Bytes::new()), "x.List").await;
    assert_eq!(body["kind"], "PartialObjectMetadataList");
    assert_eq!(body["apiVersion"], "meta.k8s.io/v1");
    assert_eq!(
        (&body["items"][0]["metadata"]["name"], body["items"][0].get("data")),
        (&json!("a"), None)
    );
    let one = format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    let a = format!("{CONFIG_MAPS}/a");
    let (_, body) = send(&cluster, ("GET", &a), (&one, Bytes::new()), "x.Object").await;
    assert_eq!((&body["kind"], body.get("data")), (&json!("PartialObjectMetadata"), None));
    for (path, accept, message) in [
        (
            CONFIG_MAPS,
            &one,
            "you requested PartialObjectMetadata, but the requested object is a list",
        ),
        (
            &*a,
            &list,
            "you requested PartialObjectMetadataList, but the requested object is not a list",
        ),
    ] {
        let answer = cluster.send_as("GET", path, &[("accept", accept)], Value::Null).await;
        assert_eq!(answer.code, 406, "{path}");
        let json = accept.replace(PROTOBUF, "application/json");
        let answer = cluster.send_as("GET", path, &[("accept", &json)], Value::Null).await;
        assert_eq!((answer.code, answer.message()), (406, message));
    }
}

#[tokio::test]
async fn a_watch_is_a_row_of_frames() {
    let cluster = cluster();
    cluster.create(CONFIG_MAPS, config_map("a", json!({"x": "1"}))).await;
    let path = format!(
        "{CONFIG_MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    for accept in [PROTOBUF, "application/vnd.kubernetes.protobuf;stream=watch"] {
        let (headers, mut chunks) = cluster.stream(&path, &[("accept", accept)]).await;
        assert_eq!(media_type(&headers), "application/vnd.kubernetes.protobuf;stream=watch");
        let mut bytes = chunks.recv().await.expect("the state").to_vec();
        let events = frames(&mut bytes);
        let kinds: Vec<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, ["ADDED", "BOOKMARK"]);
        assert_eq!(events[0].1["data"]["x"], "1");
        assert_eq!(events[1].1["kind"], "ConfigMap");
    }
    let compacted = super::harness::cluster_over(store::MemoryStore::new(store::Limits {
        history_bytes: 1,
        history_age: std::time::Duration::from_secs(1),
    }));
    compacted.create(CONFIG_MAPS, config_map("a", json!({}))).await;
    compacted.create(CONFIG_MAPS, config_map("b", json!({}))).await;
    let path = format!("{CONFIG_MAPS}?watch=1&resourceVersion=1");
    let (_, mut chunks) = compacted.stream(&path, &[("accept", PROTOBUF)]).await;
    let mut bytes = chunks.recv().await.expect("the error").to_vec();
    let (kind, status) = frames(&mut bytes).remove(0);
    assert_eq!((kind.as_str(), &status["reason"]), ("ERROR", &json!("Expired")));
}

/// The events in some frames, and the objects in them.
fn frames(bytes: &mut Vec<u8>) -> Vec<(String, Value)> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let len = u32::from_be_bytes(bytes[..4].try_into().expect("four")) as usize;
        let frame: Vec<u8> = bytes.drain(..4 + len).skip(4).collect();
        // Frames come without an envelope, their objects with one.
        let mut body = b"k8s\0\x12".to_vec();
        let mut left = frame.len();
        while left >= 0x80 {
            body.push(left as u8 | 0x80);
            left >>= 7;
        }
        body.push(left as u8);
        body.extend(frame);
        let event = read("x.Event", &body);
        let raw = event["object"]["raw"].as_str().expect("bytes");
        let kind = event["type"].as_str().expect("text").to_owned();
        let shape = if kind == "ERROR" { "meta/v1.Status" } else { "x.Object" };
        events.push((kind, read(shape, &STANDARD.decode(raw).expect("base64"))));
    }
    events
}

#[tokio::test]
async fn discovery_has_both_encodings() {
    let cluster = cluster();
    let aggregated = format!("{PROTOBUF};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    for (path, accept, shape) in [
        ("/api", PROTOBUF, "meta/v1.APIVersions"),
        ("/apis", PROTOBUF, "meta/v1.APIGroupList"),
        ("/apis/apps", PROTOBUF, "meta/v1.APIGroup"),
        ("/api/v1", PROTOBUF, "meta/v1.APIResourceList"),
        ("/apis", &aggregated, "apidiscovery/v2.APIGroupDiscoveryList"),
    ] {
        let json = accept.replace(PROTOBUF, "application/json");
        let answer = cluster.send_as("GET", path, &[("accept", &json)], Value::Null).await;
        let (_, headers, bytes) =
            cluster.send_bytes("GET", path, &[("accept", accept)], Bytes::new()).await;
        assert!(media_type(&headers).starts_with(PROTOBUF), "{path}");
        let shape = ShapeRef::find(&api_kinds::schema(), shape).expect("a shape");
        let tree = shape.decode_protobuf(&bytes).expect("protobuf");
        let (from_protobuf, _) = shape.conform(tree).expect("canonical");
        let (from_json, faults) = shape.conform(answer.body).expect("canonical");
        assert_eq!(faults, Vec::<String>::new(), "{path}");
        let mut differences = Vec::new();
        compare(&from_json, &from_protobuf, "", &mut differences);
        differences.retain(|difference| !difference.starts_with(".apiVersion: null"));
        assert_eq!(differences, Vec::<String>::new(), "{path}");
    }
    // What has no protobuf form is JSON whatever is asked.
    let answer = cluster.send_as("GET", "/version", &[("accept", PROTOBUF)], Value::Null).await;
    assert_eq!(answer.body["gitVersion"], "v1.37.0+skiff1");
}

#[tokio::test]
async fn custom_kinds_have_no_protobuf() {
    let cluster = cluster();
    let schema = "x.Custom\n kind 0 string\n apiVersion 0 string\n metadata 0 x.Meta\n size 0 int32\nx.Meta open\n";
    let schema = Arc::new(Schema::parse(schema.into()).expect("valid"));
    let like = cluster.server.parts.catalogue.find("", "v1", "configmaps").expect("served");
    cluster.server.parts.catalogue.insert(ResourceSpec {
        group: "x.io".into(),
        plural: "customs".into(),
        kind: "Custom".into(),
        list_kind: "CustomList".into(),
        shape: ShapeRef::find(&schema, "x.Custom").expect("there"),
        ..(*like).clone()
    });
    let path = "/apis/x.io/v1/namespaces/default/customs";
    let body =
        json!({"kind": "Custom", "apiVersion": "x.io/v1", "metadata": {"name": "a"}, "size": 1});
    cluster.create(path, body.clone()).await;
    let both = format!("{PROTOBUF},application/json");
    let answer = cluster.send_as("GET", path, &[("accept", &both)], Value::Null).await;
    assert_eq!((answer.code, answer.at("/items/0/size")), (200, &json!(1)));
    let (code, status) =
        send(&cluster, ("GET", path), (PROTOBUF, Bytes::new()), "meta/v1.Status").await;
    assert_eq!((code, &status["reason"]), (406, &json!("NotAcceptable")));
    let refused = cluster.send_as("POST", path, &[("content-type", PROTOBUF)], body).await;
    assert_eq!(
        (refused.code, refused.message()),
        (
            415,
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml"
        )
    );
    let list = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let (_, body) = send(&cluster, ("GET", path), (&list, Bytes::new()), "x.List").await;
    assert_eq!(body["items"][0]["metadata"]["name"], "a");
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
    let options = written("meta/v1.DeleteOptions", &options);
    let a = format!("{path}/a");
    let sends = [("content-type", PROTOBUF)];
    assert_eq!(cluster.send_bytes("DELETE", &a, &sends, options).await.0, 200);
    // A failure before anything is known of the kind is protobuf too.
    let nobody = Cluster {
        transport: cluster.server.transport(named("bob")),
        server: cluster.server.clone(),
    };
    let (code, _) = send(&nobody, ("GET", path), (PROTOBUF, Bytes::new()), "meta/v1.Status").await;
    assert_eq!(code, 403);
}

/// Upstream's samples of every field, in both encodings.
#[test]
fn samples_are_the_same_in_both_encodings() {
    let Some(files) = samples() else { return };
    let schema = api_kinds::schema();
    let (mut tried, mut unknown) = (0, Vec::new());
    for (path, json) in files.iter().filter(|(path, _)| path.ends_with(".json")) {
        let sample: Value = serde_json::from_slice(json).expect("JSON");
        let text = |key: &str| sample[key].as_str();
        let (Some(api_version), Some(kind)) = (text("apiVersion"), text("kind")) else {
            println!("skipped: {path}, whose kind is only in its envelope");
            continue;
        };
        let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
        let package = group.split('.').next().unwrap_or(group);
        // Options, Status and discovery belong to every group.
        let names = [package, "meta"].map(|package| format!("{package}/{version}.{kind}"));
        let Some(shape) = names.iter().find_map(|name| ShapeRef::find(&schema, name)) else {
            unknown.push(kind.to_owned());
            continue;
        };
        let protobuf = &files[&path.replace(".json", ".pb")];
        let tree = shape.decode_protobuf(protobuf).expect(path);
        let (from_protobuf, faults) = shape.conform(tree).expect("canonical");
        assert_eq!(faults, Vec::<String>::new(), "{path}");
        let (from_json, _) = shape.decode(json).expect("canonical");
        let mut differences = Vec::new();
        compare(&from_json, &from_protobuf, "", &mut differences);
        assert_eq!(differences, Vec::<String>::new(), "{path}");
        // What is stored goes out as upstream's bytes.
        let stored = from_json.to_string();
        let written = shape.encode_protobuf(stored.as_bytes()).expect(path);
        assert!(written == *protobuf, "{path}: {}", first_difference(&written, protobuf));
        // Cut short anywhere, it is refused or read, but nothing panics.
        for end in (0..protobuf.len()).step_by(protobuf.len() / 64 + 1) {
            let _ = shape.decode_protobuf(&protobuf[..end]);
        }
        tried += 1;
    }
    println!("{tried} samples; without a shape: {unknown:?}");
    assert!(tried >= 80, "only {tried} kinds were found");
}

/// The files of upstream's samples by name; `None` where they are not there.
fn samples() -> Option<BTreeMap<String, Vec<u8>>> {
    let Ok(file) = std::fs::File::open("../../../shared/kubernetes-api/roundtrip.tar.zst") else {
        println!("skipped: no ../shared/kubernetes-api beside the checkout");
        return None;
    };
    let stream = ruzstd::decoding::StreamingDecoder::new(file).expect("zstd");
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for entry in tar::Archive::new(stream).entries().expect("tar") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("bytes");
        files.insert(path, bytes);
    }
    Some(files)
}

fn first_difference(ours: &[u8], theirs: &[u8]) -> String {
    let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    let near = |bytes: &[u8]| {
        let from = at.saturating_sub(40);
        let to = bytes.len().min(at + 40);
        bytes[from..to].escape_ascii().to_string()
    };
    format!("at {at} of {} and {}:\n{}\n{}", ours.len(), theirs.len(), near(ours), near(theirs))
}

fn compare(a: &Value, b: &Value, path: &str, out: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let (a, b) = (a.get(key), b.get(key));
                let path = format!("{path}.{key}");
                compare(a.unwrap_or(&Value::Null), b.unwrap_or(&Value::Null), &path, out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(a, b, &format!("{path}[{index}]"), out);
            }
        }
        (a, b) if a == b => {}
        (a, b) => out.push(format!("{path}: {a} is not {b}")),
    }
}

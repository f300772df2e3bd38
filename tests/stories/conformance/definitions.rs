//! Custom kinds: their definitions made, listed, watched and changed, and what
//! follows from what they say.

use serde_json::{Value, json};

use super::{Place, registries::holds};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// A definition of one version that takes anything, in a group of the story's own.
pub(super) fn simple(place: &Place, singular: &str) -> Value {
    let group = format!("{}.{singular}.example.com", place.namespace);
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{singular}s.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {
                "plural": format!("{singular}s"), "singular": singular, "kind": singular,
                "listKind": format!("{singular}List"),
            },
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    })
}

fn path_of(definition: &Value) -> String {
    format!("{CRDS}/{}", definition["metadata"]["name"].as_str().expect("a name"))
}

pub(super) fn establish(place: &Place, definition: &Value) {
    place.post(CRDS, definition);
    let name = definition["metadata"]["name"].as_str().expect("a name");
    place.wait("condition=Established", &format!("crd/{name}"));
}

pub(super) fn remove(place: &Place, definition: &Value) {
    place.remove(&path_of(definition));
    let name = definition["metadata"]["name"].as_str().expect("a name");
    place.kubectl(&format!("wait --for=delete crd/{name} --timeout=180s")).ok();
}

/// Where objects of a definition's version are.
pub(super) fn objects(place: &Place, definition: &Value, version: &str) -> String {
    let spec = &definition["spec"];
    let group = spec["group"].as_str().expect("a group");
    let plural = spec["names"]["plural"].as_str().expect("a plural");
    match spec["scope"].as_str() {
        Some("Cluster") => format!("/apis/{group}/{version}/{plural}"),
        _ => place.path(&format!("apis/{group}/{version}"), plural),
    }
}

/// An object of a definition's version.
pub(super) fn object(definition: &Value, version: &str, name: &str, rest: &Value) -> Value {
    let spec = &definition["spec"];
    let mut object = rest.clone();
    object["apiVersion"] = json!(format!("{}/{version}", spec["group"].as_str().expect("a group")));
    object["kind"] = spec["names"]["kind"].clone();
    object["metadata"]["name"] = json!(name);
    object
}

pub(super) fn made_and_deleted(place: &Place) {
    let definition = simple(place, "simple");
    establish(place, &definition);
    place.read(&objects(place, &definition, "v1"));
    remove(place, &definition);
    place.send_with("GET", &path_of(&definition), &[], "").is(404);
    place.send_with("GET", &objects(place, &definition, "v1"), &[], "").is(404);
}

pub(super) fn listed(place: &Place) {
    let label = format!("listed={}", place.namespace);
    let definitions: Vec<Value> = (0..3)
        .map(|number| {
            let mut definition = simple(place, &format!("listed{number}"));
            definition["metadata"]["labels"] = json!({"listed": place.namespace});
            establish(place, &definition);
            definition
        })
        .collect();
    let selected = format!("{CRDS}?labelSelector={label}");
    let list = place.read(&selected);
    assert_eq!(list["items"].as_array().map(Vec::len), Some(definitions.len()), "{list}");
    for definition in &definitions {
        let items = list["items"].as_array().expect("items");
        let name = &definition["metadata"]["name"];
        let found = items.iter().find(|item| item["metadata"]["name"] == *name).expect("listed");
        assert!(holds(&found["spec"]["names"], &definition["spec"]["names"]), "{found}");
    }
    place.remove(&selected);
    place.until("a collection of definitions is deleted", || {
        place.read(&selected)["items"] == json!([])
    });
}

pub(super) fn status(place: &Place) {
    let definition = simple(place, "told");
    establish(place, &definition);
    let path = format!("{}/status", path_of(&definition));
    let read = place.read(&path);
    let holds_type = |object: &Value, wanted: &str| {
        let conditions = object["status"]["conditions"].as_array().expect("conditions");
        conditions.iter().any(|condition| condition["type"] == wanted)
    };
    assert!(holds_type(&read, "Established"), "{read}");
    let condition = |name: &str| {
        json!({"type": name, "status": "True", "reason": "E2E", "message": "Set from an e2e test",
            "lastTransitionTime": "2026-01-02T03:04:05Z"})
    };
    // Until nobody else writes in between.
    loop {
        let mut whole = place.read(&path);
        let conditions = whole["status"]["conditions"].as_array_mut().expect("conditions");
        conditions.push(condition("StatusUpdate"));
        let answer = place.send("PUT", &path, &whole);
        if answer.code != 409 {
            assert!(holds_type(&answer.ok(), "StatusUpdate"));
            break;
        }
    }
    let whole = place.read(&path);
    let mut conditions = whole["status"]["conditions"].as_array().expect("conditions").clone();
    conditions.push(condition("StatusPatched"));
    let patched = place.send("PATCH", &path, &json!({"status": {"conditions": conditions}})).ok();
    assert!(holds_type(&patched, "StatusPatched"), "{patched}");
    // The kind is served on.
    place.read(&objects(place, &definition, "v1"));
    remove(place, &definition);
}

pub(super) fn defaults(place: &Place) {
    let version = |name: &str, storage: bool, properties: &Value| {
        json!({"name": name, "served": true, "storage": storage,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}})
    };
    let plain = json!({"a": {"type": "string"}, "b": {"type": "string"}});
    let with = |field: &str, text: &str, properties: &Value| {
        let mut properties = properties.clone();
        properties[field]["default"] = json!(text);
        properties
    };
    let mut definition = simple(place, "defaulted");
    definition["spec"]["versions"] =
        json!([version("v1", true, &plain), version("v2", false, &plain)]);
    establish(place, &definition);
    let path = |version: &str| objects(place, &definition, version);
    let first = place.post(&path("v1"), &object(&definition, "v1", "old", &json!({})));
    assert_eq!((&first["a"], &first["b"]), (&Value::Null, &Value::Null));

    // A default: for requests, and for what is stored already.
    let of_a = with("a", "A", &plain);
    let change = |versions: Value| {
        place.send("PATCH", &path_of(&definition), &json!({"spec": {"versions": versions}})).ok();
    };
    change(json!([version("v1", true, &of_a), version("v2", false, &plain)]));
    place.until("the default of a request is known", || {
        let name = "new";
        let made = place.post(&path("v1"), &object(&definition, "v1", name, &json!({})));
        place.remove(&format!("{}/{name}", path("v1")));
        made["a"] == "A"
    });
    let read = |version: &str| place.read(&format!("{}/old", path(version)));
    assert_eq!(read("v1")["a"], "A");
    // By the schema of the version that is stored, whatever the version that is asked for.
    assert_eq!(read("v2")["a"], "A");
    let made = place.post(&path("v1"), &object(&definition, "v1", "kept", &json!({})));
    assert_eq!(made["a"], "A");

    // Another default; the first goes, and what was made under it keeps its value.
    let of_b = with("b", "B", &plain);
    change(json!([version("v1", true, &of_b), version("v2", false, &plain)]));
    place.until("the other default is known", || read("v1")["b"] == "B");
    assert_eq!(read("v1")["a"], Value::Null);
    let kept = place.read(&format!("{}/kept", path("v1")));
    assert_eq!((&kept["a"], &kept["b"]), (&json!("A"), &json!("B")));
    remove(place, &definition);
}

pub(super) fn watched(place: &Place) {
    let mut definition = simple(place, "watched");
    definition["spec"]["scope"] = json!("Cluster");
    establish(place, &definition);
    let path = objects(place, &definition, "v1");
    let follow = |name: &str| place.watch(&format!("{path}?fieldSelector=metadata.name={name}"));
    let (mut first, mut second) = (follow("name1"), follow("name2"));
    let of = |name: &str| object(&definition, "v1", name, &json!({"content": {"key": "value"}}));
    place.post(&path, &of("name1"));
    first.sees("ADDED", "name1");
    place.post(&path, &of("name2"));
    second.sees("ADDED", "name2");
    let patch = json!({"metadata": {"labels": {"changed": "yes"}}});
    for (watch, name) in [(&mut first, "name1"), (&mut second, "name2")] {
        place.send("PATCH", &format!("{path}/{name}"), &patch).ok();
        assert_eq!(watch.sees("MODIFIED", name)["metadata"]["labels"]["changed"], "yes");
    }
    for (watch, name) in [(&mut first, "name1"), (&mut second, "name2")] {
        place.remove(&format!("{path}/{name}"));
        watch.sees("DELETED", name);
    }
    remove(place, &definition);
}

pub(super) fn selected_by_field(place: &Place) {
    let mut definition = simple(place, "shirt");
    let schema = |fields: &str| {
        json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {
            fields: {"type": "string"}, "size": {"type": "string"}, "quantity": {"type": "integer"}}}}}})
    };
    let fields =
        |colour: &str| json!([{"jsonPath": format!(".spec.{colour}")}, {"jsonPath": ".spec.size"}]);
    definition["spec"]["versions"] = json!([
        {"name": "v1", "served": true, "storage": true, "schema": schema("color"),
            "selectableFields": fields("color")},
        {"name": "v2", "served": true, "storage": false, "schema": schema("color"),
            "selectableFields": [{"jsonPath": ".spec.size"}]},
    ]);
    establish(place, &definition);
    let path = objects(place, &definition, "v1");
    let list = |query: &str| -> Vec<String> {
        let list = place.read(&format!("{path}?fieldSelector={query}"));
        let items = list["items"].as_array().expect("items").iter();
        items.map(|item| item["metadata"]["name"].as_str().expect("a name").to_owned()).collect()
    };
    let mut watch = place.watch(&format!("{path}?fieldSelector=spec.color=blue,spec.size=S"));
    let shirt = |name: &str, color: &str, size: &str| {
        let rest = json!({"spec": {"color": color, "size": size}});
        place.post(&path, &object(&definition, "v1", name, &rest));
    };
    shirt("shirt1", "blue", "S");
    shirt("shirt2", "blue", "M");
    shirt("shirt3", "green", "M");
    assert_eq!(list("spec.color=blue"), ["shirt1", "shirt2"]);
    assert_eq!(list("spec.color=blue,spec.size=M"), ["shirt2"]);
    assert_eq!(list("spec.color!=blue"), ["shirt3"]);
    let by_v2 = objects(place, &definition, "v2");
    let of_v2 = place.read(&format!("{by_v2}?fieldSelector=spec.size=M"));
    assert_eq!(of_v2["items"].as_array().map(Vec::len), Some(2));
    place
        .send_with("GET", &format!("{by_v2}?fieldSelector=spec.color=blue"), &[], "")
        .refuses(400, "field label not supported: spec.color");
    watch.sees("ADDED", "shirt1");
    let paint = |name: &str, color: &str, size: &str| {
        let patch = json!({"spec": {"color": color, "size": size}});
        place.send("PATCH", &format!("{path}/{name}"), &patch).ok();
    };
    paint("shirt3", "blue", "S");
    watch.sees("ADDED", "shirt3");
    paint("shirt1", "green", "S");
    watch.sees("DELETED", "shirt1");
    place.remove(&format!("{path}?fieldSelector=spec.color=blue,spec.size=S"));
    watch.sees("DELETED", "shirt3");
    assert_eq!(list("spec.size=S"), ["shirt1"]);
    place
        .kubectl(&format!(
            "get shirts.v1.{} --field-selector spec.color=green -o name",
            definition["spec"]["group"].as_str().expect("a group")
        ))
        .prints("shirt1");
    remove(place, &definition);
}

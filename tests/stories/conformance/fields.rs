//! Fields that a kind does not have and fields that are there twice, told by the
//! server.

use serde_json::{Value, json};

use super::{Place, definitions};

const APPLY: &str = "Content-Type: application/apply-patch+yaml";

fn deployment(meta: &str, spec: &str) -> String {
    format!(
        r#"{{"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {{"name": "my-dep", {meta} "labels": {{"app": "nginx"}}}},
            "spec": {{{spec} "selector": {{"matchLabels": {{"app": "nginx"}}}},
                "template": {{"metadata": {{"labels": {{"app": "nginx"}}}},
                    "spec": {{"containers": [{{"name": "nginx", "image": "nginx:latest"}}]}}}}}}}}"#
    )
}

/// What each of the three ways of validation makes of a Deployment.
fn typed(place: &Place, body: &str, said: &[&str]) {
    let path = place.path("apis/apps/v1", "deployments");
    let post = |mode: &str| {
        let path =
            format!("{path}?fieldManager=field_validation_mgr&dryRun=All&fieldValidation={mode}");
        place.send_with("POST", &path, &["Content-Type: application/json"], body)
    };
    post("Strict").refuses(400, &format!("strict decoding error: {}", said.join(", ")));
    let warned = post("Warn").is(201).warnings();
    let expected: Vec<String> = said.iter().map(|said| format!("299 - \"{said}\"")).collect();
    assert_eq!(warned, expected);
    assert_eq!(post("Ignore").is(201).warnings(), Vec::<String>::new());
}

pub(super) fn of_a_typed_object(place: &Place) {
    let twice = deployment("", r#""unknownField": "foo", "replicas": 2, "replicas": 3,"#);
    typed(
        place,
        &twice,
        &[r#"unknown field "spec.unknownField""#, r#"duplicate field "spec.replicas""#],
    );
}

pub(super) fn of_typed_metadata(place: &Place) {
    let unknown = deployment(r#""unknownMeta": "foo","#, "");
    typed(place, &unknown, &[r#"unknown field "metadata.unknownMeta""#]);
}

/// A kind whose `spec` has a schema, with more keywords beside it.
fn kind(place: &Place, singular: &str, more: &Value) -> Value {
    let mut definition = definitions::simple(place, singular);
    let mut spec = json!({"type": "object", "properties": {
        "foo": {"type": "string"},
        "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
        "ports": {
            "type": "array", "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
            "items": {"type": "object", "required": ["containerPort", "protocol"], "properties": {
                "containerPort": {"type": "integer", "format": "int32"},
                "hostIP": {"type": "string"},
                "hostPort": {"type": "integer", "format": "int32"},
                "name": {"type": "string"},
                "protocol": {"type": "string"},
            }},
        },
    }});
    for (keyword, value) in more.as_object().expect("keywords") {
        match value {
            Value::Object(properties) => {
                let all = spec["properties"].as_object_mut().expect("properties");
                all.extend(properties.clone());
            }
            value => spec[keyword] = value.clone(),
        }
    }
    definition["spec"]["scope"] = json!("Cluster");
    definition["spec"]["versions"][0]["schema"] =
        json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
    definitions::establish(place, &definition);
    definition
}

/// Applies YAML that the lines follow which are the same for all.
fn apply(place: &Place, definition: &Value, head: &str, spec: &str) -> super::wire::Answer {
    let path = definitions::objects(place, definition, "v1");
    let group = definition["spec"]["group"].as_str().expect("a group");
    let kind = definition["spec"]["names"]["kind"].as_str().expect("a kind");
    let yaml = format!(
        "\napiVersion: {group}/v1\nkind: {kind}\nmetadata:\n  name: mytest\n{head}spec:\n{spec}  foo: foo1\n  cronSpec: \"* * * * */5\"\n  ports:\n  - name: x\n    containerPort: 80\n    protocol: TCP\n"
    );
    let path = format!("{path}/mytest?fieldManager=field_validation_mgr&fieldValidation=Strict");
    place.send_with("PATCH", &path, &[APPLY], &yaml)
}

pub(super) fn of_a_valid_custom_object(place: &Place) {
    let definition = kind(place, "valid", &json!({}));
    let made = apply(place, &definition, "", "").is(201).json();
    assert_eq!(made["spec"]["ports"][0]["containerPort"], 80);
    // With what the schema does not allow of a field that it has.
    let path = definitions::objects(place, &definition, "v1");
    let wrong = json!({"spec": {"cronSpec": "always"}});
    place.send("PATCH", &format!("{path}/mytest"), &wrong).refuses(422, "spec.cronSpec");
    definitions::remove(place, &definition);
}

pub(super) fn where_anything_goes(place: &Place) {
    let definition = definitions::simple(place, "anything");
    let mut definition = definition;
    definition["spec"]["scope"] = json!("Cluster");
    definitions::establish(place, &definition);
    let made = apply(place, &definition, "", "  unknown: uk1\n").is(201).json();
    assert_eq!(made["spec"]["unknown"], "uk1");
    definitions::remove(place, &definition);
}

pub(super) fn of_a_custom_object(place: &Place) {
    let definition = kind(place, "extra", &json!({}));
    apply(place, &definition, "unknownField: unknown\n", "")
        .refuses(500, ".unknownField: field not declared in schema");
    let path = definitions::objects(place, &definition, "v1");
    let strict = format!("{path}?fieldValidation=Strict");
    let object = |rest: Value| definitions::object(&definition, "v1", "posted", &rest);
    place.send("POST", &strict, &object(json!({"unknownField": "x", "spec": {"bar": 1}}))).refuses(
        400,
        r#"strict decoding error: unknown field "spec.bar", unknown field "unknownField""#,
    );
    definitions::remove(place, &definition);
}

pub(super) fn of_custom_metadata(place: &Place) {
    let embedded = json!({"template": {
    "type": "object", "x-kubernetes-embedded-resource": true,
    "properties": {
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
        "spec": {"type": "object"},
    }}});
    let more = json!({"x-kubernetes-preserve-unknown-fields": true, "embedded": embedded});
    let definition = kind(place, "metadata", &more);
    let spec = "  template:\n    apiversion: foo/v1\n    kind: Sub\n    metadata:\n      unknownSubMeta: unknown\n      name: subobject\n      namespace: somewhere\n";
    let answer = apply(place, &definition, "  unknownMeta: unknown\n", spec);
    assert!(answer.code >= 400, "{answer:?}");
    assert!(
        answer.body.contains(".metadata.unknownMeta: field not declared in schema")
            || answer
                .body
                .contains(".spec.template.metadata.unknownSubMeta: field not declared in schema"),
        "{answer:?}"
    );
    let path = definitions::objects(place, &definition, "v1");
    let mut object = definitions::object(
        &definition,
        "v1",
        "posted",
        &json!({"spec": {"template": {
        "apiVersion": "foo/v1", "kind": "Sub",
        "metadata": {"name": "subobject", "unknownSubMeta": "unknown"}}}}),
    );
    object["metadata"]["unknownMeta"] = json!("unknown");
    let status =
        place.send("POST", &format!("{path}?fieldValidation=Strict"), &object).is(400).json();
    let message = status["message"].as_str().expect("a message");
    for field in ["metadata.unknownMeta", "spec.template.metadata.unknownSubMeta"] {
        assert!(message.contains(&format!("unknown field {field:?}")), "{message}");
    }
    definitions::remove(place, &definition);
}

pub(super) fn twice_in_a_custom_object(place: &Place) {
    let definition = kind(place, "twice", &json!({"x-kubernetes-preserve-unknown-fields": true}));
    let answer = apply(
        place,
        &definition,
        "  finalizers:\n  - test-finalizer\n",
        "  unknown: uk1\n  foo: foo0\n",
    );
    answer.refuses(400, "line 11: key \"foo\" already set in map");
    definitions::remove(place, &definition);
}

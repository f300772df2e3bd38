//! Schemas of custom kinds in the server's OpenAPI documents, and what kubectl
//! makes of them.

use serde_json::{Value, json};

use super::{Place, definitions, registries::holds};

fn foo() -> Value {
    json!({"description": "Foo CRD for Testing", "type": "object", "properties": {
        "spec": {"type": "object", "description": "Specification of Foo", "properties": {
            "bars": {"description": "List of Bars and their specs.", "type": "array", "items": {
                "type": "object", "required": ["name"], "properties": {
                    "name": {"description": "Name of Bar.", "type": "string"},
                    "age": {"description": "Age of Bar.", "type": "string"},
                    "feeling": {"description": "Feeling of Bar.", "type": "string", "enum": ["Great", "Down"]},
                    "bazs": {"description": "List of Bazs.", "type": "array", "items": {"type": "string"}},
                }}},
        }},
        "status": {"type": "object", "description": "Status of Foo", "properties": {
            "bars": {"description": "List of Bars and their statuses.", "type": "array",
                "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
        }},
    }})
}

fn waldo() -> Value {
    json!({"description": "Waldo CRD for Testing", "type": "object", "properties": {
        "spec": {"type": "object", "description": "Specification of Waldo", "properties": {
            "dummy": {"description": "Dummy property.", "type": "string"}}}}})
}

/// Its definition in OpenAPI, with what the server adds taken away.
fn published(place: &Place, name: &str) -> Option<Value> {
    let document = place.read("/openapi/v2");
    let mut found = document["definitions"].get(name)?.clone();
    let map = found.as_object_mut().expect("an object");
    map.remove("x-kubernetes-group-version-kind").expect("whose it is");
    if let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) {
        for added in ["metadata", "apiVersion", "kind"] {
            assert!(properties.remove(added).is_some(), "{name} has no {added}");
        }
    }
    Some(found)
}

/// A kind in a group, and versions of one schema; published when this returns.
struct Published<'a, 'p> {
    place: &'a Place<'p>,
    definition: Value,
    schema: Value,
}

impl<'a, 'p> Published<'a, 'p> {
    fn new(
        place: &'a Place<'p>,
        singular: &str,
        group: &str,
        versions: &[&str],
        schema: &Value,
    ) -> Self {
        let mut definition = definitions::simple(place, singular);
        let group = format!("{}.{group}.example.com", place.namespace);
        definition["metadata"]["name"] = json!(format!("{singular}s.{group}"));
        definition["spec"]["group"] = json!(group);
        let of = |(number, name): (usize, &&str)| json!({"name": name, "served": true, "storage": number == 0, "schema": {"openAPIV3Schema": schema}});
        definition["spec"]["versions"] = versions.iter().enumerate().map(of).collect();
        definitions::establish(place, &definition);
        let published = Self { place, definition, schema: schema.clone() };
        versions.iter().for_each(|version| published.is(version));
        published
    }

    /// What it is called in OpenAPI: the group backwards, version and kind.
    fn name(&self, version: &str) -> String {
        let spec = &self.definition["spec"];
        let group = spec["group"].as_str().expect("a group");
        let parts: Vec<&str> = group.split('.').rev().collect();
        format!("{}.{version}.{}", parts.join("."), spec["names"]["kind"].as_str().expect("a kind"))
    }

    fn is(&self, version: &str) {
        let name = self.name(version);
        self.place.until("a schema is published", || published(self.place, &name).is_some());
        let found = published(self.place, &name).expect("published");
        // A schema that leaves all open is told by the type alone.
        let open = self.schema["x-kubernetes-preserve-unknown-fields"] == true;
        match self.schema.get("properties").filter(|_| !open) {
            Some(_) => {
                assert!(holds(&found, &without_extensions(&self.schema)), "{name}: {found:#}")
            }
            None => assert_eq!(found["type"], "object", "{found}"),
        }
        let group = self.definition["spec"]["group"].as_str().expect("a group");
        let third = self.place.read(&format!("/openapi/v3/apis/{group}/{version}"));
        let schemas = &third["components"]["schemas"];
        match open {
            false => assert!(holds(&schemas[&name], &self.schema), "{name}: {:#}", schemas[&name]),
            true => assert_eq!(schemas[&name]["type"], "object", "{schemas:#}"),
        }
    }

    fn is_not(&self, version: &str) {
        let name = self.name(version);
        self.place.until("a schema is withdrawn", || published(self.place, &name).is_none());
    }

    /// The resource as kubectl is told of it.
    fn resource(&self) -> String {
        self.definition["metadata"]["name"].as_str().expect("a name").to_owned()
    }

    fn object(&self, name: &str, rest: &Value) -> String {
        let version = self.definition["spec"]["versions"][0]["name"].as_str().expect("a version");
        definitions::object(&self.definition, version, name, rest).to_string()
    }

    /// Both ways of kubectl to make an object.
    fn takes(&self, rest: &Value) {
        let namespace = &self.place.namespace;
        for verb in ["create", "apply"] {
            let line = format!("{verb} -n {namespace} --validate=strict -f -");
            self.place.cluster.kubectl_with_input(&line, &self.object("taken", rest)).ok();
            self.place.kubectl(&format!("delete {} taken", self.resource())).ok();
        }
    }

    fn refuses(&self, rest: &Value, said: &str) {
        let namespace = &self.place.namespace;
        for verb in ["create", "apply"] {
            let line = format!("{verb} -n {namespace} --validate=strict -f -");
            self.place
                .cluster
                .kubectl_with_input(&line, &self.object("refused", rest))
                .fails_with(said);
        }
    }

    /// `kubectl explain` says all of this, in this order.
    fn explains(&self, path: &str, words: &[&str]) {
        let told = self.place.kubectl(&format!("explain {}{path}", self.resource())).ok().stdout;
        let mut rest = told.as_str();
        for word in words {
            let at =
                rest.find(word).unwrap_or_else(|| panic!("{path}: no {word:?} in order:\n{told}"));
            rest = &rest[at + word.len()..];
        }
    }

    fn end(self, versions: &[&str]) {
        definitions::remove(self.place, &self.definition);
        versions.iter().for_each(|version| self.is_not(version));
    }
}

/// The second version of OpenAPI has no word for what a schema leaves open below.
fn without_extensions(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => map
            .iter()
            .filter(|(name, _)| !name.starts_with("x-kubernetes-"))
            .map(|(name, value)| (name.clone(), without_extensions(value)))
            .collect(),
        other => other.clone(),
    }
}

pub(super) fn with_schema(place: &Place) {
    let kind = Published::new(place, "foo", "foo", &["v1"], &foo());
    kind.takes(&json!({"spec": {"bars": [{"name": "test-bar"}]}}));
    kind.refuses(
        &json!({"spec": {"bars": [{"name": "test-bar", "feeling": "NonExistentValue"}]}}),
        r#"Unsupported value: "NonExistentValue""#,
    );
    kind.refuses(&json!({"spec": {"foo": true}}), r#"unknown field "spec.foo""#);
    kind.refuses(&json!({"spec": {"bars": [{"age": "10"}]}}), "spec.bars[0].name: Required value");
    kind.explains(
        "",
        &[
            "DESCRIPTION:",
            "Foo CRD for Testing",
            "FIELDS:",
            "apiVersion",
            "<string>",
            "The group and version of the API",
            "spec",
            "<Object>",
            "Specification of Foo",
        ],
    );
    kind.explains(
        ".metadata",
        &[
            "DESCRIPTION:",
            "Name, labels, annotations and what the server keeps",
            "FIELDS:",
            "creationTimestamp",
            "<string>",
        ],
    );
    kind.explains(
        ".spec",
        &[
            "DESCRIPTION:",
            "Specification of Foo",
            "FIELDS:",
            "bars",
            "<[]Object>",
            "List of Bars and their specs",
        ],
    );
    kind.explains(
        ".spec.bars",
        &[
            "bars",
            "<[]Object>",
            "DESCRIPTION:",
            "List of Bars and their specs",
            "FIELDS:",
            "bazs",
            "<[]string>",
            "List of Bazs",
            "name",
            "<string>",
            "Name of Bar",
        ],
    );
    place
        .kubectl(&format!("explain {}.spec.bars2", kind.resource()))
        .fails_with(r#"field "bars2" does not exist"#);
    kind.end(&["v1"]);
}

pub(super) fn without_schema(place: &Place) {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let kind = Published::new(place, "empty", "empty", &["v1"], &open);
    kind.takes(&json!({"a": {"b": [{"c": "d"}]}}));
    kind.explains("", &["DESCRIPTION:", "<empty>"]);
    kind.end(&["v1"]);
}

pub(super) fn open_at_the_root(place: &Place) {
    let mut open = waldo();
    open["description"] = json!("preserve-unknown-properties at root for Testing");
    open["x-kubernetes-preserve-unknown-fields"] = json!(true);
    let kind = Published::new(place, "openroot", "root", &["v1"], &open);
    kind.takes(&json!({"a": {"b": [{"c": "d"}]}}));
    kind.explains("", &["KIND:", "openroot"]);
    kind.end(&["v1"]);
}

pub(super) fn open_inside(place: &Place) {
    let open = json!({"description": "preserve-unknown-properties in nested field for Testing", "type": "object",
    "properties": {
        "spec": {"description": "Specification of Waldo", "type": "object",
            "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"dummy": {"description": "Dummy property.", "type": "string"}}},
    }});
    let kind = Published::new(place, "openinside", "inside", &["v1"], &open);
    kind.takes(&json!({"spec": {"a": null, "b": [{"c": "d"}]}}));
    kind.explains("", &["DESCRIPTION:", "preserve-unknown-properties in nested field for Testing"]);
    kind.end(&["v1"]);
}

pub(super) fn of_several_groups(place: &Place) {
    let first = Published::new(place, "onefoo", "first", &["v1"], &foo());
    let second = Published::new(place, "onewaldo", "second", &["v1beta1"], &waldo());
    assert_ne!(first.definition["spec"]["group"], second.definition["spec"]["group"]);
    first.is("v1");
    first.end(&["v1"]);
    second.is("v1beta1");
    second.end(&["v1beta1"]);
}

pub(super) fn of_several_versions(place: &Place) {
    let both = Published::new(place, "multifoo", "versions", &["v2", "v3"], &foo());
    both.is("v2");
    both.end(&["v2", "v3"]);
    let first = Published::new(place, "fourfoo", "common", &["v4"], &foo());
    let second = Published::new(place, "fivewaldo", "common", &["v5"], &waldo());
    assert_eq!(first.definition["spec"]["group"], second.definition["spec"]["group"]);
    first.is("v4");
    first.end(&["v4"]);
    second.is("v5");
    second.end(&["v5"]);
}

pub(super) fn of_several_kinds(place: &Place) {
    let first = Published::new(place, "sixfoo", "kinds", &["v6"], &foo());
    let second = Published::new(place, "sixwaldo", "kinds", &["v6"], &waldo());
    first.is("v6");
    first.end(&["v6"]);
    second.is("v6");
    second.end(&["v6"]);
}

fn patch(place: &Place, kind: &Published, patch: &Value) {
    let path =
        format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}", kind.resource());
    let headers = ["Content-Type: application/json-patch+json"];
    place.send_with("PATCH", &path, &headers, &patch.to_string()).ok();
}

pub(super) fn renamed(place: &Place) {
    let kind = Published::new(place, "renamefoo", "rename", &["v2", "v3"], &foo());
    let rename = json!([
        {"op": "test", "path": "/spec/versions/1/name", "value": "v3"},
        {"op": "replace", "path": "/spec/versions/1/name", "value": "v4"},
    ]);
    patch(place, &kind, &rename);
    kind.is("v4");
    kind.is_not("v3");
    kind.is("v2");
    kind.end(&["v2", "v4"]);
}

pub(super) fn served_no_more(place: &Place) {
    let kind = Published::new(place, "endfoo", "end", &["v5", "v6alpha1"], &foo());
    patch(
        place,
        &kind,
        &json!([{"op": "replace", "path": "/spec/versions/1/served", "value": false}]),
    );
    kind.is_not("v6alpha1");
    kind.is("v5");
    kind.end(&["v5"]);
}

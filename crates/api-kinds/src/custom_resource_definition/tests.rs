//! Stories of definitions: what is refused and in which words, and which rows
//! become of those that are not.

use api_schema::{Role, tree};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{CLEANUP_FINALIZER, rows};
use crate::{
    catalogue,
    suite::{created, sample},
};

const SCHEMA: &str = "spec.validation.openAPIV3Schema";

fn definition() -> (std::sync::Arc<api_schema::ResourceSpec>, Value) {
    let spec = catalogue()
        .by_kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition")
        .expect("a row");
    let sample = sample(&spec);
    (spec, sample)
}

/// The faults of the sample with a change.
fn faults(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let (spec, mut object) = definition();
    change(&mut object);
    let object = created(&spec, &object);
    let told = |cause: api_object::status::Cause| format!("{}: {}", cause.field, cause.message);
    spec.validate_create(&object).into_iter().map(told).collect()
}

/// The faults of a schema whose only property is `a`.
fn schema_faults(a: &Value) -> Vec<String> {
    faults(|object| {
        let schema = json!({"type": "object", "properties": {"a": a}});
        let version = &mut object["spec"]["versions"][0];
        version["schema"]["openAPIV3Schema"] = schema;
        version.as_object_mut().expect("a version").remove("selectableFields");
    })
}

#[test]
fn names_versions_and_conversion() {
    for (path, value, expected) in [
        (
            "metadata.name",
            json!("x"),
            &["metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group"][..],
        ),
        (
            "spec.scope",
            json!("Here"),
            &[
                "spec.scope: Unsupported value: \"Here\": supported values: \"Cluster\", \"Namespaced\"",
            ],
        ),
        (
            "spec.preserveUnknownFields",
            json!(true),
            &[
                "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
            ],
        ),
        (
            "spec.names.listKind",
            json!("CronTab"),
            &[
                "spec.names.listKind: Invalid value: \"CronTab\": kind and listKind may not be the same",
            ],
        ),
        (
            "spec.conversion",
            json!({"strategy": "Webhook"}),
            &[
                "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
                "spec.conversion.conversionReviewVersions: Required value",
            ],
        ),
        (
            "spec.conversion",
            json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v9"], "clientConfig": {"url": "http://a"}}}),
            &[
                "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                "spec.conversion.conversionReviewVersions: Invalid value: [\"v9\"]: must include at least one of v1, v1beta1",
            ],
        ),
        (
            "spec.conversion",
            json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1beta1"], "clientConfig": {"url": "https://a"}}}),
            &[],
        ),
        (
            "status.storedVersions",
            json!(["v0"]),
            &[
                "status.storedVersions[0]: Invalid value: \"v0\": missing from spec.versions; v0 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v0 and removes v0 from status.storedVersions",
            ],
        ),
    ] {
        // What clients say of the status on creation does not count, so it is set after.
        let (spec, mut object) = definition();
        if !path.starts_with("status") {
            tree::set(&mut object, path, value.clone());
        }
        let mut object = created(&spec, &object);
        if path.starts_with("status") {
            tree::set(&mut object, path, json!(["v0", "v1"]));
        }
        let told = |cause: api_object::status::Cause| format!("{}: {}", cause.field, cause.message);
        let found: Vec<_> = spec.validate_create(&object).into_iter().map(told).collect();
        assert_eq!(found, expected, "{path} {value}");
    }
    let found = faults(|object| {
        object["spec"]["versions"][0]["storage"] = false.into();
    });
    assert!(
        found[0].ends_with("must have exactly one version marked as storage version"),
        "{found:?}"
    );
    let found = faults(|object| {
        object["metadata"]["name"] = "crontabs.example.k8s.io".into();
        object["spec"]["group"] = "example.k8s.io".into();
    });
    assert!(found[0].contains("protected groups must have approval annotation"), "{found:?}");
    let found = faults(|object| {
        let version = &mut object["spec"]["versions"][0];
        version["additionalPrinterColumns"] = json!([{"name": "A", "type": "x", "jsonPath": "a"}]);
        version["subresources"]["scale"]["specReplicasPath"] = ".status.x".into();
        version["selectableFields"] =
            json!([{"jsonPath": ".spec"}, {"jsonPath": ".metadata.name"}]);
    });
    assert_eq!(
        found,
        [
            "spec.subresources.scale.specReplicasPath: Invalid value: \".status.x\": should be a json path under .spec",
            "spec.additionalPrinterColumns[0].type: Invalid value: \"x\": must be one of boolean,date,integer,number,string",
            "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"a\": must be a simple json path starting with .",
            "spec.selectableFields[0].jsonPath: Invalid value: \".spec\": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            "spec.selectableFields[1].jsonPath: Invalid value: \".metadata.name\": must not point to fields in metadata",
        ]
    );
}

#[test]
fn schemas_are_structural() {
    let map = |keys: Value, items: Value| {
        json!({
            "type": "array", "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": keys, "items": items,
        })
    };
    let named =
        json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "string"}}});
    for (a, expected) in [
        (json!({}), &[".type: Required value: must not be empty for specified object fields"][..]),
        (
            json!({"type": "array", "items": {}}),
            &[".items.type: Required value: must not be empty for specified array items"],
        ),
        (
            json!({"type": "null"}),
            &[".type: Forbidden: type cannot be set to null, use nullable as an alternative"],
        ),
        (
            json!({"type": "text"}),
            &[
                ".type: Unsupported value: \"text\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
            ],
        ),
        (json!({"type": "string", "$ref": "x"}), &[".$ref: Forbidden: $ref is not supported"]),
        (
            json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true}),
            &[
                ".uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ],
        ),
        (
            json!({"type": "object", "properties": {"b": {"type": "string"}}, "additionalProperties": true}),
            &[
                ".additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
            ],
        ),
        (
            json!({"type": "string", "pattern": "("}),
            &[
                ".pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: unclosed group",
            ],
        ),
        (
            json!({"type": "object", "anyOf": [{"type": "object"}]}),
            &[".anyOf[0].type: Forbidden: must be empty to be structural"],
        ),
        (json!({"type": "object", "allOf": [{"properties": {"b": {"minimum": 1}}}]}), &[]),
        (
            json!({"x-kubernetes-preserve-unknown-fields": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
            &[],
        ),
        (
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
            &[],
        ),
        (json!({"x-kubernetes-int-or-string": true, "type": "integer"}), &[]),
        (json!({"x-kubernetes-preserve-unknown-fields": true, "type": "string"}), &[]),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {
                "metadata": {"type": "object", "properties": {"labels": {"type": "object"}}},
            }}),
            &[],
        ),
        (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false}),
            &[
                ".x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined",
            ],
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true}),
            &[
                ".properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            ],
        ),
        (
            json!({"type": "string", "x-kubernetes-list-type": "set"}),
            &[".type: Invalid value: \"string\": must be array if x-kubernetes-list-type is set"],
        ),
        (
            map(json!([]), named.clone()),
            &[
                ".x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
            ],
        ),
        (
            map(json!(["x"]), named.clone()),
            &[
                ".x-kubernetes-list-map-keys: Invalid value: [\"x\"]: entries must all be names of item properties",
            ],
        ),
        (
            map(json!(["n"]), json!({"type": "object", "properties": {"n": {"type": "string"}}})),
            &[
                ".items.properties[n].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ],
        ),
        (
            map(json!(["n"]), json!({"type": "string"})),
            &[
                ".items.type: Invalid value: \"string\": must be object if parent array's x-kubernetes-list-type is map",
            ],
        ),
        (map(json!(["n"]), named), &[]),
        (
            json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}}),
            &[
                ".items.x-kubernetes-map-type: Required value: must be atomic as item of a list with x-kubernetes-list-type=set",
            ],
        ),
        (
            json!({"type": "integer", "default": "x"}),
            &[
                ".default: Invalid value: \"string\": spec.validation.openAPIV3Schema.properties[a].default in body must be of type integer: \"string\"",
            ],
        ),
        (
            json!({"type": "object", "default": {"x": 1}}),
            &[".default: Invalid value: {\"x\":1}: must not have unknown fields: x"],
        ),
    ] {
        let expected: Vec<String> =
            expected.iter().map(|fault| format!("{SCHEMA}.properties[a]{fault}")).collect();
        assert_eq!(schema_faults(&a), expected, "{a}");
    }
    for (root, fault) in [
        (json!({"type": "string"}), ".type: Invalid value: \"string\": must be object at the root"),
        (
            json!({"type": "object", "nullable": true}),
            ".nullable: Forbidden: nullable cannot be true at the root",
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            ".properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
        ),
        (
            json!({"type": "object", "allOf": [{"properties": {"b": {"minimum": 1}}}]}),
            ".properties[b]: Required value: because it is defined in spec.validation.openAPIV3Schema.allOf[0].properties[b]",
        ),
        (
            json!({"type": "object", "properties": {"kind": {"type": "object"}}}),
            ".properties[kind].type: Invalid value: \"object\": must be string",
        ),
    ] {
        let found = faults(|object| {
            let version = &mut object["spec"]["versions"][0];
            version["schema"]["openAPIV3Schema"] = root;
            version.as_object_mut().expect("a version").remove("selectableFields");
        });
        assert_eq!(found, [format!("{SCHEMA}{fault}")]);
    }
}

#[test]
fn rules_stand_outside_of_junctors() {
    let rules = json!([{"rule": "self == 1"}]);
    for (a, path) in [
        (json!({"type": "integer", "allOf": [{"x-kubernetes-validations": rules}]}), "allOf[0]"),
        (json!({"type": "integer", "anyOf": [{"x-kubernetes-validations": rules}]}), "anyOf[0]"),
        (json!({"type": "integer", "oneOf": [{"x-kubernetes-validations": rules}]}), "oneOf[0]"),
        (json!({"type": "integer", "not": {"x-kubernetes-validations": rules}}), "not"),
        (
            json!({"type": "object", "properties": {"b": {"type": "integer"}}, "allOf": [
                {"properties": {"b": {"x-kubernetes-validations": rules}}},
            ]}),
            "allOf[0].properties[b]",
        ),
    ] {
        let path = format!("{SCHEMA}.properties[a].{path}.x-kubernetes-validations");
        assert_eq!(
            schema_faults(&a),
            [format!("{path}: Forbidden: must be empty to be structural")]
        );
    }
}

#[test]
fn a_schema_that_stays_may_cost_what_it_did() {
    let (spec, object) = definition();
    let mut old = created(&spec, &object);
    // Each pair of two lists without a bound: no new schema may have it.
    let list = json!({"type": "array", "items": {"type": "string"}});
    old["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = json!({
        "type": "object", "properties": {"a": list},
        "x-kubernetes-validations": [{"rule": "self.a.all(x, self.a.exists(y, x == y))"}],
    });
    old["spec"]["versions"][0].as_object_mut().expect("a version").remove("selectableFields");
    let costly = |causes: Vec<api_object::status::Cause>| {
        let rule = |cause: &&api_object::status::Cause| {
            cause.message.contains("estimated rule cost exceeds")
        };
        causes.iter().filter(rule).count()
    };
    assert_eq!(costly(spec.validate_create(&old)), 1);
    let mut new = old.clone();
    new["spec"]["names"]["categories"] = json!(["all"]);
    assert_eq!(costly(spec.validate_update(&new, &old)), 0);
    new["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["b"] =
        json!({"type": "string"});
    assert_eq!(costly(spec.validate_update(&new, &old)), 1);
}

#[test]
fn once_established_the_kind_stays_what_it_is() {
    let (spec, object) = definition();
    let mut old = created(&spec, &object);
    let mut new = old.clone();
    tree::set(&mut new, "spec.names.kind", "Cron");
    assert_eq!(spec.validate_update(&new, &old), []);
    let established = json!([{"type": "Established", "status": "True"}]);
    tree::set(&mut old, "status.conditions", established);
    let found = spec.validate_update(&new, &old);
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].field.as_str(), found[0].message.as_str()),
        ("spec.names.kind", "Invalid value: \"Cron\": field is immutable")
    );
}

#[test]
fn what_was_a_storage_version_is_remembered() {
    let (spec, object) = definition();
    let old = created(&spec, &object);
    assert_eq!(old["status"]["storedVersions"], json!(["v1"]));
    let mut new = old.clone();
    let mut second = old["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    new["spec"]["versions"][0]["storage"] = false.into();
    new["spec"]["versions"].as_array_mut().expect("versions").push(second);
    spec.prepare_update(&mut new, &old);
    assert_eq!(new["status"]["storedVersions"], json!(["v1", "v2"]));
    assert_eq!(new["metadata"]["generation"], 2);
    assert_eq!(spec.validate_update(&new, &old), []);
}

#[test]
fn a_deletion_first_asks_for_the_objects_to_go() {
    let (spec, object) = definition();
    let mut object = created(&spec, &object);
    (spec.hooks.begin_delete)(&mut object, Timestamp::UNIX_EPOCH);
    assert_eq!(object["metadata"]["finalizers"], json!([CLEANUP_FINALIZER]));
    let again = object.clone();
    (spec.hooks.begin_delete)(&mut object, Timestamp::UNIX_EPOCH);
    assert_eq!(object, again);
}

#[test]
fn a_row_is_all_that_the_definition_says() {
    let (spec, object) = definition();
    let mut object = created(&spec, &object);
    let names = object["spec"]["names"].clone();
    tree::set(&mut object, "status.acceptedNames", names);
    let mut old_version = object["spec"]["versions"][0].clone();
    old_version["name"] = "v1beta1".into();
    old_version["storage"] = false.into();
    old_version["deprecated"] = true.into();
    let versions = object["spec"]["versions"].as_array_mut().expect("versions");
    versions.insert(0, old_version);
    let rows = rows(&object).expect("rows");
    let versions: Vec<&str> = rows.iter().map(|row| &*row.version).collect();
    assert_eq!(versions, ["v1", "v1beta1"], "the best version first");
    let row = &rows[0];
    assert_eq!((&*row.kind, &*row.list_kind, row.namespaced), ("CronTab", "CronTabList", true));
    assert_eq!(row.short_names, ["ct"]);
    let columns: Vec<&str> = row.columns.iter().map(|column| &*column.name).collect();
    assert_eq!(columns, ["Name", "Spec", "Replicas", "Age"]);
    assert!(row.has_status());
    assert!(matches!(
        &row.subresource("scale").expect("there").role,
        Role::Scale(paths) if paths.replicas == "spec.replicas" && paths.selector == "status.labelSelector"
    ));
    let object = json!({
        "metadata": {"name": "a", "creationTimestamp": "1970-01-01T00:00:00Z"},
        "spec": {"cronSpec": "* * * * *", "replicas": 2, "image": "i"},
    });
    let now = Timestamp::from_second(90).expect("in range");
    assert_eq!(row.cells(&object, now), [json!("a"), json!("* * * * *"), json!(2), json!("90s")]);
    assert_eq!(row.select(&object, "spec.image").as_deref(), Some("i"));
    // Custom kinds take finalizers that built-in ones refuse, and warn.
    let mut held = object.clone();
    held["metadata"]["finalizers"] = json!(["a.example", "b.example/c"]);
    held["metadata"]["namespace"] = "default".into();
    assert_eq!(row.validate_create(&held), []);
    const WARNING: &str = "metadata.finalizers: \"a.example\": prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers";
    assert_eq!(row.warnings(&held, None), [WARNING]);
    assert_eq!(row.warnings(&held, Some(&object)), [WARNING]);
    assert_eq!(row.warnings(&held, Some(&held)), [""; 0]);
    assert_eq!(rows[0].deprecation, None);
    assert_eq!(
        rows[1].deprecation.as_deref(),
        Some("stable.example.com/v1beta1 CronTab is deprecated; use stable.example.com/v1 CronTab")
    );
}

#[test]
fn a_column_that_cannot_be_read_ends_the_table() {
    let (spec, object) = definition();
    let mut object = created(&spec, &object);
    let names = object["spec"]["names"].clone();
    tree::set(&mut object, "status.acceptedNames", names);
    let column = |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path});
    object["spec"]["versions"][0]["additionalPrinterColumns"] =
        json!([column("A", ".spec.hosts[]"), column("B", ".spec["), column("C", ".spec.c")]);
    assert_eq!(spec.validate_create(&object), []);
    let rows = rows(&object).expect("rows");
    let columns: Vec<&str> = rows[0].columns.iter().map(|column| &*column.name).collect();
    assert_eq!(columns, ["Name", "A"]);
}

#[test]
fn rules_wait_for_what_they_speak_of() {
    let (spec, object) = definition();
    let mut object = created(&spec, &object);
    let names = object["spec"]["names"].clone();
    tree::set(&mut object, "status.acceptedNames", names);
    object["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = json!({
        "type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.a > 1"}],
    });
    let rows = rows(&object).expect("rows");
    let object = json!({"metadata": {"name": "n", "namespace": "default"}});
    let told = |cause: api_object::status::Cause| format!("{}: {}", cause.field, cause.message);
    let found: Vec<_> = rows[0].validate_create(&object).into_iter().map(told).collect();
    assert_eq!(
        found,
        [
            "a: Required value",
            "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
        ]
    );
}

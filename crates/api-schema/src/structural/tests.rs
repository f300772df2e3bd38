//! Stories of custom objects: a schema, an object, and what becomes of it.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{Faults, Holds, Path, Schema, ShapeRef, Type};

fn node(schema: Value) -> Node {
    Node::parse(&schema).expect("a schema")
}

/// A schema of an object with one property `a`.
fn with(a: Value) -> Node {
    node(json!({"type": "object", "properties": {"a": a}}))
}

fn faults(node: &Node, new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut faults = Faults::default();
    node.validate(new, old, &Path::ROOT, &mut faults);
    node.validate_embedded(new, &Path::ROOT, &mut faults);
    node.validate_lists(new, &Path::ROOT, &mut faults);
    let told = |cause: api_object::status::Cause| format!("{}: {}", cause.field, cause.message);
    faults.into_causes().into_iter().map(told).collect()
}

#[test]
fn values_are_checked_in_upstreams_words() {
    let two = json!([{"required": ["b"]}, {"required": ["c"]}]);
    for (schema, value, expected) in [
        (
            json!({"type": "integer"}),
            json!("x"),
            &["a: Invalid value: \"string\": a in body must be of type integer: \"string\""][..],
        ),
        (
            json!({"type": "integer"}),
            json!(1.5),
            &["a: Invalid value: \"number\": a in body must be of type integer: \"number\""],
        ),
        (
            json!({"type": "integer"}),
            json!(null),
            &["a: Invalid value: \"null\": a in body must be of type integer: \"null\""],
        ),
        (json!({"type": "integer", "nullable": true}), json!(null), &[]),
        (json!({"type": "number"}), json!(1), &[]),
        (json!({"x-kubernetes-int-or-string": true}), json!("50%"), &[]),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            &[
                "a: Invalid value: \"boolean\": a in body must be of type integer,string: \"boolean\"",
            ],
        ),
        (json!({"x-kubernetes-int-or-string": true, "type": "integer"}), json!("50%"), &[]),
        (json!({"x-kubernetes-int-or-string": true, "type": "string"}), json!(50), &[]),
        (
            json!({"x-kubernetes-int-or-string": true, "type": "string"}),
            json!([]),
            &["a: Invalid value: \"array\": a in body must be of type integer,string: \"array\""],
        ),
        (
            json!({"x-kubernetes-preserve-unknown-fields": true, "type": "string"}),
            json!(1),
            &["a: Invalid value: \"integer\": a in body must be of type string: \"integer\""],
        ),
        (json!({"x-kubernetes-preserve-unknown-fields": true}), json!([{}]), &[]),
        (
            json!({"type": "integer", "minimum": 1}),
            json!(0),
            &["a: Invalid value: 0: a in body should be greater than or equal to 1"],
        ),
        (
            json!({"type": "integer", "minimum": 1, "exclusiveMinimum": true}),
            json!(1),
            &["a: Invalid value: 1: a in body should be greater than 1"],
        ),
        (
            json!({"type": "integer", "maximum": 10}),
            json!(15),
            &["a: Invalid value: 15: a in body should be less than or equal to 10"],
        ),
        (
            json!({"type": "number", "multipleOf": 0.5}),
            json!(0.75),
            &["a: Invalid value: 0.75: a in body should be a multiple of 0.5"],
        ),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(3_000_000_000i64),
            &[
                "<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in a",
            ],
        ),
        (
            json!({"type": "string", "maxLength": 2}),
            json!("äöü"),
            &["a: Too long: may not be more than 2 bytes"],
        ),
        (
            json!({"type": "string", "minLength": 1}),
            json!(""),
            &["a: Invalid value: \"\": a in body should be at least 1 chars long"],
        ),
        (
            json!({"type": "string", "pattern": "^[a-z]+$"}),
            json!("A"),
            &["a: Invalid value: \"A\": a in body should match '^[a-z]+$'"],
        ),
        (
            json!({"type": "string", "format": "date-time"}),
            json!("today"),
            &["a: Invalid value: \"today\": a in body must be of type date-time: \"today\""],
        ),
        (
            json!({"type": "string", "enum": ["b", "a"]}),
            json!("x"),
            &["a: Unsupported value: \"x\": supported values: \"b\", \"a\""],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "minItems": 1}),
            json!([]),
            &["a: Invalid value: 0: a in body should have at least 1 items"],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "maxItems": 1}),
            json!(["x", "y"]),
            &["a: Too many: 2: must have at most 1 items"],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            json!(["x", 1]),
            &["a[1]: Invalid value: \"integer\": a[1] in body must be of type string: \"integer\""],
        ),
        (json!({"type": "object", "required": ["b"]}), json!({}), &["a.b: Required value"]),
        (
            json!({"type": "object", "minProperties": 1}),
            json!({}),
            &["a: Invalid value: 0: a in body should have at least 1 properties"],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"k": 1}),
            &["a.k: Invalid value: \"integer\": a.k in body must be of type string: \"integer\""],
        ),
        (
            json!({"type": "object", "oneOf": two}),
            json!({"b": 1, "c": 1}),
            &[
                "<nil>: Invalid value: \"\": \"a\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
            ],
        ),
        (
            json!({"type": "object", "oneOf": two}),
            json!({}),
            &[
                "<nil>: Invalid value: \"\": \"a\" must validate one and only one schema (oneOf). Found none valid",
                "a.b: Required value",
            ],
        ),
        (
            json!({"type": "object", "anyOf": two}),
            json!({}),
            &[
                "<nil>: Invalid value: \"\": \"a\" must validate at least one schema (anyOf)",
                "a.b: Required value",
            ],
        ),
        (
            json!({"type": "object", "allOf": two}),
            json!({"b": 1}),
            &[
                "a.c: Required value",
                "<nil>: Invalid value: \"\": \"a\" must validate all the schemas (allOf)",
            ],
        ),
        (
            json!({"type": "object", "not": {"required": ["b"]}}),
            json!({"b": 1}),
            &["<nil>: Invalid value: \"\": \"a\" must not validate the schema (not)"],
        ),
        (
            json!({"type": "array", "items": {"type": "integer"}, "x-kubernetes-list-type": "set"}),
            json!([1, 2, 1, 1]),
            &["a[2]: Duplicate value: 1"],
        ),
        (
            json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"]}),
            json!([{"n": 1}, {"n": 1}]),
            &["a[1]: Duplicate value: {\"n\":1}"],
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true}),
            json!({"kind": "A", "metadata": {"labels": {"a": "b c"}}}),
            &[
                "a.apiVersion: Required value: must not be empty",
                "a.metadata.labels: Invalid value: \"b c\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ],
        ),
    ] {
        let found = faults(&with(schema.clone()), &json!({"a": value}), None);
        assert_eq!(found, expected, "{schema} on {value}");
    }
}

#[test]
fn what_was_wrong_before_is_borne_where_it_is_the_same() {
    let list = json!({
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
        "items": {"type": "object", "properties": {"n": {"type": "string"}, "v": {"type": "integer"}}},
    });
    let schema = node(json!({"type": "object", "properties": {
        "a": {"type": "integer"}, "b": {"type": "integer"}, "l": list,
    }}));
    let old = json!({"a": "x", "b": 1, "l": [{"n": "p", "v": "bad"}]});
    for (new, count) in [
        (json!({"a": "x", "b": 2, "l": [{"n": "p", "v": "bad"}]}), 0),
        (json!({"a": "y", "b": 2, "l": []}), 1),
        (json!({"a": "x", "l": [{"n": "q", "v": 1}, {"n": "p", "v": "bad"}]}), 0),
        (json!({"a": "x", "l": [{"n": "q", "v": "bad"}, {"n": "p", "v": "bad"}]}), 1),
    ] {
        assert_eq!(faults(&schema, &new, Some(&old)).len(), count, "{new}");
    }
}

#[test]
fn what_nobody_named_is_pruned_and_told() {
    for (schema, object, kept, gone) in [
        (json!({"type": "object"}), json!({"x": 1}), json!({}), &["a.x"][..]),
        (
            json!({"type": "object", "properties": {"b": {"type": "object"}}}),
            json!({"b": {"x": 1}, "y": 2}),
            json!({"b": {}}),
            &["a.b.x", "a.y"],
        ),
        (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"b": {"type": "object"}}}),
            json!({"b": {"x": 1}, "y": {"z": 1}}),
            json!({"b": {}, "y": {"z": 1}}),
            &["a.b.x"],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "object"}}),
            json!({"k": {"x": 1}}),
            json!({"k": {}}),
            &["a.k.x"],
        ),
        (
            json!({"type": "array", "items": {"type": "object"}}),
            json!([{"x": 1}]),
            json!([{}]),
            &["a[0].x"],
        ),
        (
            json!({"type": "array", "x-kubernetes-preserve-unknown-fields": true, "items": {
                "type": "object", "properties": {"b": {"type": "object"}},
            }}),
            json!([{"x": 1, "b": {"y": 1}}]),
            json!([{"x": 1, "b": {}}]),
            &["a[0].b.y"],
        ),
        (
            json!({"type": "string", "x-kubernetes-preserve-unknown-fields": true}),
            json!("x"),
            json!("x"),
            &[],
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true}),
            json!({"kind": "K", "apiVersion": "v1", "metadata": {}, "spec": 1}),
            json!({"kind": "K", "apiVersion": "v1", "metadata": {}}),
            &["a.spec"],
        ),
        (
            json!({"x-kubernetes-preserve-unknown-fields": true}),
            json!([[{"x": 1}]]),
            json!([[{"x": 1}]]),
            &[],
        ),
    ] {
        let schema = with(schema);
        let mut object = json!({"a": object, "metadata": {"name": "n"}, "kind": "K"});
        assert_eq!(schema.prune(&mut object), gone);
        assert_eq!(object, json!({"a": kept, "metadata": {"name": "n"}, "kind": "K"}));
    }
}

#[test]
fn what_is_not_said_takes_its_default() {
    let inner = json!({"type": "object", "default": {}, "properties": {"c": {"type": "string", "default": "x"}}});
    for (schema, object, expected) in [
        (json!({"type": "integer", "default": 1}), json!({}), json!({"a": 1})),
        (json!({"type": "integer", "default": 1}), json!({"a": 0}), json!({"a": 0})),
        (json!({"type": "integer", "default": 1}), json!({"a": null}), json!({"a": 1})),
        (
            json!({"type": "integer", "default": 1, "nullable": true}),
            json!({"a": null}),
            json!({"a": null}),
        ),
        (json!({"type": "integer"}), json!({"a": null}), json!({})),
        (inner.clone(), json!({}), json!({"a": {"c": "x"}})),
        (
            json!({"type": "array", "items": inner}),
            json!({"a": [{}, {"c": "y"}, null]}),
            json!({"a": [{"c": "x"}, {"c": "y"}, {"c": "x"}]}),
        ),
        (
            json!({"type": "object", "additionalProperties": inner}),
            json!({"a": {"k": {}}}),
            json!({"a": {"k": {"c": "x"}}}),
        ),
    ] {
        let mut object = object;
        with(schema).default(&mut object);
        assert_eq!(object, expected);
    }
}

#[test]
fn doubled_fields_are_found() {
    let (value, faults) =
        duplicates(br#"{"a": 1, "b": [{"c": 1, "c": 1.0}], "a": 2}"#).expect("JSON");
    assert_eq!(value, json!({"a": 2, "b": [{"c": 1}]}));
    assert_eq!(faults, ["duplicate field \"b[0].c\"", "duplicate field \"a\""]);
    assert!(duplicates(b"{} x").is_err());
}

#[test]
fn a_schema_is_an_arena_too() {
    let builtin = Schema::parse(
        "meta/v1.ObjectMeta\n name 1 string omit\nmeta/v1.DeleteOptions\n uid 1 string\n".into(),
    )
    .expect("valid");
    let root = node(json!({"type": "object", "properties": {
        "kind": {"type": "string"},
        "spec": {"type": "object", "required": ["ports"], "properties": {
            "ports": {
                "type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["port", "protocol"],
                "items": {"type": "object", "properties": {
                    "port": {"type": "integer"},
                    "protocol": {"type": "string", "default": "TCP"},
                }},
            },
            "labels": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
            "any": {"x-kubernetes-preserve-unknown-fields": true},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "grid": {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
        }},
    }}));
    let schema =
        Arc::new(Schema::structural("example.com.v1.Thing", &root, &builtin).expect("built"));
    let shape = ShapeRef::find(&schema, "example.com.v1.Thing").expect("there");
    let names: Vec<_> = schema.fields(shape.id).iter().map(|f| schema.field_name(f)).collect();
    assert_eq!(names, ["apiVersion", "kind", "metadata", "spec"]);
    let Some(Type::Struct(spec)) = schema.field(shape.id, "spec").map(|field| field.ty) else {
        panic!("spec is a struct");
    };
    let ports = schema.field(spec, "ports").expect("there");
    assert_eq!(ports.list_type, ListType::Map);
    assert!(ports.required);
    assert_eq!(schema.keys(ports).collect::<Vec<_>>(), ["port", "protocol"]);
    let Type::Struct(port) = ports.ty else { panic!("ports are structs") };
    let protocol = schema.field(port, "protocol").expect("there");
    assert_eq!(schema.default_text(protocol), "\"TCP\"");
    assert_eq!(schema.field(spec, "labels").expect("there").list_type, ListType::Atomic);
    assert_eq!(schema.field(spec, "any").expect("there").ty, Type::Any);
    let grid = schema.field(spec, "grid").expect("there");
    let Type::Nested(row) = grid.ty else { panic!("rows are lists") };
    assert_eq!(schema.nested(row).expect("a list").holds, Holds::List);
    let Some(Type::Struct(open)) = schema.field(spec, "open").map(|field| field.ty) else {
        panic!("open is a struct");
    };
    assert!(schema.shape(open).preserve_unknown);
}

/// Any JSON, of names that the schema below has too.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1000i32..1000).prop_map(|n| Value::from(f64::from(n) / 4.0)),
        "[a-c]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-e]|metadata|kind", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A schema with a bit of everything.
fn rich() -> Node {
    node(json!({"type": "object", "properties": {
        "a": {"type": "string", "default": "x", "pattern": "^[a-b]*$", "maxLength": 2},
        "b": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"],
              "items": {"type": "object", "default": {"c": 1}, "properties": {
                  "a": {"type": "string"}, "c": {"type": "integer", "default": 3, "minimum": 1}}}},
        "c": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "x-kubernetes-embedded-resource": true,
              "properties": {"a": {"type": "object", "additionalProperties": {"type": "number", "multipleOf": 3}}}},
        "d": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        "e": {"type": "array", "nullable": true, "x-kubernetes-list-type": "set", "items": {"type": "string", "enum": ["a", "b"]}},
    }}))
}

proptest! {
    #[test]
    fn pruning_and_defaulting_twice_is_once(mut value in json()) {
        let schema = rich();
        schema.prune(&mut value);
        let pruned = value.clone();
        prop_assert!(schema.prune(&mut value).is_empty());
        prop_assert_eq!(&value, &pruned);
        schema.default(&mut value);
        let defaulted = value.clone();
        schema.default(&mut value);
        prop_assert_eq!(&value, &defaulted);
        prop_assert!(schema.prune(&mut value).is_empty(), "a default is no unknown field");
    }

    #[test]
    fn validation_never_panics(new in json(), old in json()) {
        let schema = rich();
        faults(&schema, &new, Some(&old));
        prop_assert!(faults(&schema, &new, Some(&new)).len() <= faults(&schema, &new, None).len());
    }

    #[test]
    fn no_schema_panics(schema in json()) {
        let _ = Node::parse(&schema);
    }

    #[test]
    fn bytes_are_read_as_serde_reads_them(value in json()) {
        let mut expected = value.clone();
        canonical(&mut expected);
        let (read, faults) = duplicates(value.to_string().as_bytes()).expect("JSON");
        prop_assert_eq!(read, expected);
        prop_assert!(faults.is_empty());
    }
}

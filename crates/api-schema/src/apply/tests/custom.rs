//! Custom kinds are shared as their structural schemas say.

use super::*;
use crate::structural::Node as Structural;

/// The shape of a custom kind; all that it shares with others is `metadata`.
fn custom() -> ShapeRef {
    let builtin = "meta/v1.ObjectMeta\n name 1 string omit\n labels 11 {}string omit\n\
                   meta/v1.DeleteOptions\n dryRun 5 []string omit atomic\n";
    let builtin = Schema::parse(builtin.into()).expect("a table");
    let text = json!({"type": "string"});
    let root = Structural::parse(&json!({"type": "object", "properties": {"spec": {
        "type": "object",
        "properties": {
            "size": {"type": "integer"},
            "hosts": {"type": "array", "x-kubernetes-list-type": "set", "items": text},
            "words": {"type": "array", "items": text},
            "rules": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {"name": text, "a": text, "b": text}},
            },
            "labels": {"type": "object", "additionalProperties": text},
            "whole": {
                "type": "object",
                "x-kubernetes-map-type": "atomic",
                "properties": {"a": text, "b": text},
            },
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "zones": {"type": "object", "additionalProperties": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {"name": text, "a": text, "b": text}},
            }},
            "tags": {"type": "object", "additionalProperties": {
                "type": "object", "additionalProperties": text,
            }},
            "rows": {"type": "object", "additionalProperties": {
                "type": "array", "items": text,
            }},
        },
    }}}));
    let root = root.expect("a structural schema");
    let schema = Schema::structural("example.com/v1.Thing", &root, &builtin).expect("shapes");
    ShapeRef::find(&Arc::new(schema), "example.com/v1.Thing").expect("there")
}

fn change<'a>(shape: &'a ShapeRef, nothing: &'a FieldSet, manager: &'a str) -> Change<'a> {
    Change {
        shape,
        api_version: "example.com/v1",
        versions: &OnlyVersion,
        manager,
        subresource: "",
        ignored: nothing,
        time: "0",
    }
}

#[test]
fn lists_and_maps_of_a_custom_kind_have_several_managers() {
    let (shape, nothing) = (custom(), FieldSet::default());
    let live = shape.schema.zero_struct(shape.id);
    let first = json!({"spec": {
        "hosts": ["a"], "words": ["x"], "labels": {"a": "1"}, "whole": {"a": "1"},
        "rules": [{"name": "r", "a": "1"}], "open": {"m": {"x": 1}},
    }});
    let first = change(&shape, &nothing, "a")
        .apply(&live, first, Managers::default(), false)
        .expect("nobody else is there");
    let second = json!({"spec": {
        "hosts": ["b"], "labels": {"b": "2"}, "rules": [{"name": "r", "b": "2"}],
        "open": {"m": {"y": 2}},
    }});
    let second = change(&shape, &nothing, "b")
        .apply(&first.object, second, first.managers, false)
        .expect("parts of their own");
    assert_eq!(
        second.object["spec"],
        json!({
            "hosts": ["a", "b"], "words": ["x"], "labels": {"a": "1", "b": "2"},
            "whole": {"a": "1"}, "rules": [{"name": "r", "a": "1", "b": "2"}],
            "open": {"m": {"x": 1, "y": 2}},
        })
    );
    let third = json!({"spec": {"words": ["y"], "whole": {"b": "1"}}});
    let refused =
        change(&shape, &nothing, "b").apply(&second.object, third, second.managers, false);
    assert_eq!(
        refused.expect_err("wholes of another").status().message,
        "Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.whole\n- .spec.words"
    );
}

#[test]
fn lists_and_maps_inside_of_maps_have_several_managers() {
    let (shape, nothing) = (custom(), FieldSet::default());
    let live = shape.schema.zero_struct(shape.id);
    let first = json!({"spec": {
        "zones": {"z": [{"name": "r", "a": "1"}]}, "tags": {"t": {"a": "1"}}, "rows": {"x": ["1"]},
    }});
    let first = change(&shape, &nothing, "a")
        .apply(&live, first, Managers::default(), false)
        .expect("nobody else is there");
    let second = json!({"spec": {
        "zones": {"z": [{"name": "r", "b": "2"}, {"name": "s"}]}, "tags": {"t": {"b": "2"}},
    }});
    let second = change(&shape, &nothing, "b")
        .apply(&first.object, second, first.managers, false)
        .expect("parts of their own");
    assert_eq!(
        second.object["spec"],
        json!({
            "zones": {"z": [{"name": "r", "a": "1", "b": "2"}, {"name": "s"}]},
            "tags": {"t": {"a": "1", "b": "2"}}, "rows": {"x": ["1"]},
        })
    );
    let third = json!({"spec": {"zones": {"z": [{"name": "r", "a": "3"}]}, "rows": {"x": ["2"]}}});
    let refused =
        change(&shape, &nothing, "b").apply(&second.object, third, second.managers.clone(), false);
    assert_eq!(
        refused.expect_err("parts of another").status().message,
        "Apply failed with 2 conflicts: conflicts with \"a\":\n\
         - .spec.rows.x\n- .spec.zones.z[name=\"r\"].a"
    );
    let fourth =
        json!({"spec": {"zones": {"z": [{"name": "r"}, {"name": "r"}]}, "tags": {"t": 1}}});
    let refused =
        change(&shape, &nothing, "b").apply(&second.object, fourth, second.managers, false);
    let message = refused.expect_err("not what the schema says").status().message;
    assert!(message.contains("duplicate entries for key [name=\"r\"]"), "{message}");
    assert!(message.contains(".spec.tags.t: expected map"), "{message}");
}

#[test]
fn an_update_of_a_custom_kind_manages_each_struct_that_it_adds() {
    let (shape, nothing) = (custom(), FieldSet::default());
    let old = shape.schema.zero_struct(shape.id);
    let new = json!({"metadata": {"name": "a"}, "spec": {"size": 1, "whole": {"a": "1"}}});
    let managers = change(&shape, &nothing, "u").update(&old, &new, Managers::default(), true);
    let mut fields = String::new();
    managers.iter().for_each(|manager| manager.fields.write(&mut fields));
    assert_eq!(fields, r#"{"f:spec":{".":{},"f:size":{},"f:whole":{}}}"#);
    let refused =
        change(&shape, &nothing, "a").apply(&new, json!({"spec": {"sise": 1}}), managers, false);
    assert_eq!(
        refused.expect_err("no such field").status().message,
        ".spec.sise: field not declared in schema"
    );
}

//! The directives one by one, and patches nobody should send.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const TABLE: &str = "x.Root
 containers 1 []x.Container omit keys=name merge=name
 finalizers 2 []string omit set merge=
 args 3 []string omit atomic
 volumes 4 []x.Volume omit keys=name merge=name retain
 strategy 5 x.Strategy omit retain
 labels 6 {}string omit
x.Container
 name 1 string
 image 2 string omit
 ports 3 []x.Port omit keys=port merge=port
x.Port
 port 1 int32
 name 2 string omit
x.Volume
 name 1 string
 a 2 *x.Port omit
 b 3 *x.Port omit
x.Strategy
 type 1 string omit
 rolling 2 *x.Port omit
";

fn merged(object: Value, patch: Value) -> Result<Value, String> {
    let schema = Schema::parse(TABLE.into()).expect("valid");
    let root = schema.find("x.Root");
    let (Value::Object(object), Value::Object(patch)) = (object, patch) else {
        return Err("objects only".into());
    };
    Merge { schema: &schema }.map(object, patch, root).map(Value::Object)
}

#[track_caller]
fn check(object: Value, patch: Value, expect: Value) {
    assert_eq!(merged(object, patch), Ok(expect));
}

#[test]
fn keyed_lists_merge_by_key_and_new_elements_come_first() {
    check(
        json!({ "containers": [{ "name": "a", "image": "1" }, { "name": "b" }] }),
        json!({ "containers": [{ "name": "c" }, { "name": "a", "image": "2" }] }),
        json!({ "containers": [{ "name": "c" }, { "name": "a", "image": "2" }, { "name": "b" }] }),
    );
    check(
        json!({ "containers": [{ "name": "a", "ports": [{ "port": 1, "name": "x" }] }] }),
        json!({ "containers": [{ "name": "a", "ports": [{ "port": 1, "name": null }, { "port": 2 }] }] }),
        json!({ "containers": [{ "name": "a", "ports": [{ "port": 1 }, { "port": 2 }] }] }),
    );
}

#[test]
fn atomic_lists_and_unknown_fields_are_replaced() {
    check(json!({ "args": ["a"] }), json!({ "args": ["b"] }), json!({ "args": ["b"] }));
    check(json!({ "z": [1] }), json!({ "z": [2] }), json!({ "z": [2] }));
    check(
        json!({ "labels": { "a": "1", "b": "2" } }),
        json!({ "labels": { "a": null, "c": "3", "d": null } }),
        json!({ "labels": { "b": "2", "c": "3" } }),
    );
}

#[test]
fn lists_of_scalars_merge_as_sets() {
    check(
        json!({ "finalizers": ["a", "b"] }),
        json!({ "finalizers": ["c", "a"] }),
        json!({ "finalizers": ["c", "a", "b"] }),
    );
    check(
        json!({ "finalizers": ["a", "b", "c"] }),
        json!({ "$deleteFromPrimitiveList/finalizers": ["b"], "$setElementOrder/finalizers": ["c", "a"] }),
        json!({ "finalizers": ["c", "a"] }),
    );
}

#[test]
fn directives_replace_and_delete() {
    let two = json!({ "containers": [{ "name": "a", "image": "1" }, { "name": "b" }] });
    check(
        two.clone(),
        json!({ "containers": [{ "name": "a", "$patch": "delete" }] }),
        json!({ "containers": [{ "name": "b" }] }),
    );
    check(
        two.clone(),
        json!({ "containers": [{ "$patch": "replace" }, { "name": "c" }] }),
        json!({ "containers": [{ "name": "c" }] }),
    );
    check(
        json!({ "strategy": { "type": "a", "rolling": { "port": 1 } } }),
        json!({ "strategy": { "$patch": "replace", "type": "b" } }),
        json!({ "strategy": { "type": "b" } }),
    );
    check(two, json!({ "$patch": "replace", "args": ["x"] }), json!({ "args": ["x"] }));
}

#[test]
fn a_list_with_nothing_to_merge_with_keeps_what_has_one_key() {
    let twice =
        json!([{ "name": "a", "image": "1" }, { "name": "a", "image": "2" }, { "name": "b" }]);
    check(json!({}), json!({ "containers": twice }), json!({ "containers": twice }));
    let replace = json!({ "$patch": "replace" });
    let list = [&[replace][..], twice.as_array().expect("a list")].concat();
    check(
        json!({ "containers": [{ "name": "c" }] }),
        json!({ "containers": list }),
        json!({ "containers": twice }),
    );
}

#[test]
fn retain_keys_drops_what_it_does_not_name() {
    check(
        json!({ "strategy": { "type": "Rolling", "rolling": { "port": 1 } } }),
        json!({ "strategy": { "$retainKeys": ["type"], "type": "Recreate" } }),
        json!({ "strategy": { "type": "Recreate" } }),
    );
    check(
        json!({ "volumes": [{ "name": "v", "a": { "port": 1 } }] }),
        json!({ "volumes": [{ "name": "v", "$retainKeys": ["name", "b"], "b": { "port": 2 } }] }),
        json!({ "volumes": [{ "name": "v", "b": { "port": 2 } }] }),
    );
}

#[test]
fn an_order_is_kept() {
    check(
        json!({ "containers": [{ "name": "a" }, { "name": "b" }, { "name": "s" }] }),
        json!({
            "$setElementOrder/containers": [{ "name": "b" }, { "name": "a" }],
            "containers": [{ "name": "a", "image": "2" }],
        }),
        json!({ "containers": [{ "name": "b" }, { "name": "a", "image": "2" }, { "name": "s" }] }),
    );
}

#[test]
fn bad_patches_are_refused() {
    for patch in [
        json!({ "$patch": "nonsense" }),
        json!({ "containers": [{ "image": "x" }] }),
        json!({ "containers": [1] }),
        json!({ "$retainKeys": 1 }),
        json!({ "strategy": { "$retainKeys": ["a"], "type": "b" } }),
        json!({ "$setElementOrder/containers": 1 }),
        json!({ "containers": [{ "name": "a", "$patch": "merge" }] }),
    ] {
        assert!(merged(json!({ "strategy": {} }), patch.clone()).is_err(), "{patch}");
    }
}

fn any_tree() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "containers",
        "name",
        "ports",
        "port",
        "finalizers",
        "strategy",
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "$deleteFromPrimitiveList/finalizers",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i8>().prop_map(Value::from),
        prop::sample::select(vec!["a", "delete", "replace", "merge"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(words.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_patch_panics(object in any_tree(), patch in any_tree()) {
        let _ = merged(object, patch);
    }
}

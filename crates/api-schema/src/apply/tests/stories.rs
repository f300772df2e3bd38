//! One story a rule.

use super::*;

fn container(name: &str, image: &str) -> Value {
    json!({ "name": name, "image": image })
}

#[test]
fn an_applier_manages_what_it_names_and_an_updater_what_it_changes() {
    check(
        &[apply("a", json!({ "replicas": 1, "rolling": { "surge": 1 } }))],
        "",
        json!({ "replicas": 1, "rolling": { "surge": 1 } }),
        &[r#"a Apply 0: {"f:spec":{"f:replicas":{},"f:rolling":{"f:surge":{}}}}"#],
    );
    check(
        &[
            update("u", |o| o["spec"] = json!({ "replicas": 1, "rolling": { "surge": 1 } })),
            update("w", |o| o["spec"]["replicas"] = 2.into()),
        ],
        "",
        json!({ "replicas": 2, "rolling": { "surge": 1 } }),
        &[
            r#"u Update 0: {"f:spec":{"f:rolling":{".":{},"f:surge":{}}}}"#,
            r#"w Update 1: {"f:spec":{"f:replicas":{}}}"#,
        ],
    );
}

#[test]
fn what_is_not_applied_any_more_goes_unless_somebody_else_manages_it() {
    check(
        &[
            apply("a", json!({ "replicas": 1, "text": "x", "rolling": { "surge": 1 } })),
            apply("b", json!({ "text": "x" })),
            apply("a", json!({ "replicas": 1 })),
        ],
        "",
        json!({ "replicas": 1, "text": "x" }),
        &[r#"a Apply 2: {"f:spec":{"f:replicas":{}}}"#, r#"b Apply 1: {"f:spec":{"f:text":{}}}"#],
    );
    check(
        &[
            apply("a", json!({ "text": "x" })),
            update("u", |o| o["spec"]["text"] = "y".into()),
            apply("a", json!({ "replicas": 1 })),
        ],
        "",
        json!({ "replicas": 1, "text": "y" }),
        &[r#"a Apply 2: {"f:spec":{"f:replicas":{}}}"#, r#"u Update 1: {"f:spec":{"f:text":{}}}"#],
    );
}

#[test]
fn conflicts_name_the_other_manager() {
    check(
        &[apply("a", json!({ "replicas": 1 })), apply("b", json!({ "replicas": 2 }))],
        r#"Apply failed with 1 conflict: conflict with "a": .spec.replicas"#,
        json!({ "replicas": 1 }),
        &[r#"a Apply 0: {"f:spec":{"f:replicas":{}}}"#],
    );
    check(
        &[
            apply("a", json!({ "replicas": 1, "text": "x" })),
            update("u", |o| o["spec"]["text"] = "y".into()),
            apply("b", json!({ "replicas": 2, "text": "z" })),
        ],
        "Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.replicas\nconflicts with \"u\" using v1:\n- .spec.text",
        json!({ "replicas": 1, "text": "y" }),
        &[r#"a Apply 0: {"f:spec":{"f:replicas":{}}}"#, r#"u Update 1: {"f:spec":{"f:text":{}}}"#],
    );
}

#[test]
fn force_takes_over_and_agreement_is_shared() {
    check(
        &[apply("a", json!({ "replicas": 1, "text": "x" })), force("b", json!({ "replicas": 2 }))],
        "",
        json!({ "replicas": 2, "text": "x" }),
        &[r#"a Apply 0: {"f:spec":{"f:text":{}}}"#, r#"b Apply 1: {"f:spec":{"f:replicas":{}}}"#],
    );
    check(
        &[apply("a", json!({ "replicas": 1 })), apply("b", json!({ "replicas": 1 }))],
        "",
        json!({ "replicas": 1 }),
        &[
            r#"a Apply 0: {"f:spec":{"f:replicas":{}}}"#,
            r#"b Apply 1: {"f:spec":{"f:replicas":{}}}"#,
        ],
    );
}

#[test]
fn elements_are_told_apart_by_their_keys_and_the_keys_defaults() {
    check(
        &[
            apply("a", json!({ "ports": [{ "port": 80, "name": "web" }] })),
            apply("b", json!({ "ports": [{ "port": 80, "protocol": "UDP" }] })),
        ],
        "",
        json!({ "ports": [{ "port": 80, "name": "web" }, { "port": 80, "protocol": "UDP" }] }),
        &[
            r#"a Apply 0: {"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:port":{}}}}}"#,
            r#"b Apply 1: {"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"UDP\"}":{".":{},"f:port":{},"f:protocol":{}}}}}"#,
        ],
    );
    check(
        &[
            apply("a", json!({ "containers": [container("x", "1")] })),
            apply("b", json!({ "containers": [container("x", "2")] })),
        ],
        r#"Apply failed with 1 conflict: conflict with "a": .spec.containers[name="x"].image"#,
        json!({ "containers": [container("x", "1")] }),
        &[
            r#"a Apply 0: {"f:spec":{"f:containers":{"k:{\"name\":\"x\"}":{".":{},"f:image":{},"f:name":{}}}}}"#,
        ],
    );
}

#[test]
fn an_element_goes_with_its_last_manager() {
    check(
        &[
            apply("a", json!({ "containers": [container("x", "1"), container("y", "1")] })),
            apply("b", json!({ "containers": [{ "name": "x" }] })),
            apply("a", json!({ "containers": [container("z", "1")] })),
        ],
        "",
        json!({ "containers": [{ "name": "x" }, container("z", "1")] }),
        &[
            r#"a Apply 2: {"f:spec":{"f:containers":{"k:{\"name\":\"z\"}":{".":{},"f:image":{},"f:name":{}}}}}"#,
            r#"b Apply 1: {"f:spec":{"f:containers":{"k:{\"name\":\"x\"}":{".":{},"f:name":{}}}}}"#,
        ],
    );
}

#[test]
fn the_appliers_order_holds_and_others_stay_where_they_are() {
    let image = |name: &str| container(name, "1");
    let three = |names: [&str; 3]| Value::from(names.map(image).to_vec());
    check(
        &[
            update("u", |o| {
                o["spec"]["containers"] =
                    json!([container("a", "1"), container("s", "1"), container("b", "1")]);
            }),
            apply("a", json!({ "containers": [image("b"), image("n"), image("a")] })),
        ],
        "",
        json!({ "containers": [image("s"), image("b"), image("n"), image("a")] }),
        &[
            r#"a Apply 1: {"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:name":{}},"k:{\"name\":\"b\"}":{".":{},"f:image":{},"f:name":{}},"k:{\"name\":\"n\"}":{".":{},"f:image":{},"f:name":{}}}}}"#,
            r#"u Update 0: {"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:name":{}},"k:{\"name\":\"b\"}":{".":{},"f:image":{},"f:name":{}},"k:{\"name\":\"s\"}":{".":{},"f:image":{},"f:name":{}}}}}"#,
        ],
    );
    let mut state = State::new();
    state.write(&apply("a", json!({ "containers": three(["a", "b", "c"]) })), 0).expect("applied");
    state.write(&apply("a", json!({ "containers": three(["c", "a", "b"]) })), 1).expect("applied");
    assert_eq!(state.object["spec"]["containers"], three(["c", "a", "b"]));
}

#[test]
fn atomic_lists_maps_and_structs_have_one_owner() {
    check(
        &[
            apply("a", json!({ "args": ["x"], "selector": { "a": "1" } })),
            apply("b", json!({ "args": ["x", "y"], "selector": { "b": "1" } })),
        ],
        "Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.args\n- .spec.selector",
        json!({ "args": ["x"], "selector": { "a": "1" } }),
        &[r#"a Apply 0: {"f:spec":{"f:args":{},"f:selector":{}}}"#],
    );
}

#[test]
fn sets_and_maps_are_shared_by_element() {
    let meta = |manager, config| Write::Apply { manager, config, force: false };
    let mut state = State::new();
    let writes = [
        meta("a", json!({ "metadata": { "labels": { "a": "1" }, "finalizers": ["a/x"] } })),
        meta("b", json!({ "metadata": { "labels": { "b": "1" }, "finalizers": ["b/x", "a/x"] } })),
        meta("a", json!({ "metadata": { "labels": { "c": "1" } } })),
    ];
    for (number, write) in writes.iter().enumerate() {
        state.write(write, number).expect("applied");
    }
    assert_eq!(
        state.object["metadata"],
        json!({ "labels": { "b": "1", "c": "1" }, "finalizers": ["b/x", "a/x"] })
    );
    assert_eq!(
        state.shown(),
        [
            r#"a Apply 2: {"f:metadata":{"f:labels":{"f:c":{}}}}"#,
            r#"b Apply 1: {"f:metadata":{"f:finalizers":{"v:\"a/x\"":{},"v:\"b/x\"":{}},"f:labels":{"f:b":{}}}}"#,
        ]
    );
}

#[test]
fn the_last_entry_takes_its_map_along() {
    check(
        &[
            apply("a", json!({ "byName": { "x": { "port": 1 } }, "rolling": { "surge": 1 } })),
            apply("a", json!({ "text": "t" })),
        ],
        "",
        json!({ "text": "t" }),
        &[r#"a Apply 1: {"f:spec":{"f:text":{}}}"#],
    );
    check(
        &[
            apply("a", json!({ "byName": { "x": { "port": 1 } } })),
            update("u", |o| o["spec"]["byName"]["y"] = json!({ "port": 2 })),
            apply("a", json!({ "text": "t" })),
        ],
        "",
        json!({ "text": "t", "byName": { "y": { "port": 2 } } }),
        &[
            r#"a Apply 2: {"f:spec":{"f:text":{}}}"#,
            r#"u Update 1: {"f:spec":{"f:byName":{"f:y":{".":{},"f:port":{}}}}}"#,
        ],
    );
}

#[test]
fn what_no_shape_names_is_deduced() {
    check(
        &[
            apply("a", json!({ "open": { "known": "k", "m": { "x": 1, "l": [{ "z": 1 }] } } })),
            apply("b", json!({ "open": { "m": { "y": 2 } } })),
        ],
        "",
        json!({ "open": { "known": "k", "m": { "x": 1, "l": [{ "z": 1 }], "y": 2 } } }),
        &[
            r#"a Apply 0: {"f:spec":{"f:open":{"f:known":{},"f:m":{".":{},"f:l":{},"f:x":{}}}}}"#,
            r#"b Apply 1: {"f:spec":{"f:open":{"f:m":{".":{},"f:y":{}}}}}"#,
        ],
    );
    check(
        &[
            update("u", |o| o["spec"]["any"] = json!({ "x": 1 })),
            update("w", |o| o["spec"]["any"] = json!(5)),
        ],
        "",
        json!({ "any": 5 }),
        &[r#"w Update 1: {"f:spec":{"f:any":{}}}"#],
    );
    check(
        &[apply("a", json!({ "raw": { "x": { "y": 1 } } }))],
        "",
        json!({ "raw": { "x": { "y": 1 } } }),
        &[r#"a Apply 0: {"f:spec":{"f:raw":{"f:x":{}}}}"#],
    );
}

#[test]
fn null_and_empty_are_managed() {
    check(
        &[
            update("u", |o| o["spec"]["replicas"] = 3.into()),
            force("a", json!({ "replicas": null, "byName": {} })),
        ],
        "",
        json!({}),
        &[r#"a Apply 1: {"f:spec":{"f:byName":{},"f:replicas":{}}}"#],
    );
}

#[test]
fn amounts_are_compared_as_they_are_stored() {
    check(
        &[
            apply("a", json!({ "memory": "1024Mi" })),
            apply("b", json!({ "memory": "1Gi" })),
            apply("a", json!({ "memory": "1Gi" })),
        ],
        "",
        json!({ "memory": "1Gi" }),
        &[r#"a Apply 0: {"f:spec":{"f:memory":{}}}"#, r#"b Apply 1: {"f:spec":{"f:memory":{}}}"#],
    );
}

#[test]
fn duplicates_that_are_there_are_tolerated() {
    let twice = |o: &mut Value| {
        o["spec"]["containers"] =
            json!([{ "name": "x", "image": "1" }, { "name": "x", "image": "2" }, { "name": "y" }]);
    };
    check(
        &[update("u", twice), apply("a", json!({ "containers": [{ "name": "y", "image": "3" }] }))],
        "",
        json!({ "containers": [container("x", "1"), container("x", "2"), container("y", "3")] }),
        &[
            r#"a Apply 1: {"f:spec":{"f:containers":{"k:{\"name\":\"y\"}":{".":{},"f:image":{},"f:name":{}}}}}"#,
            r#"u Update 0: {"f:spec":{"f:containers":{"k:{\"name\":\"x\"}":{},"k:{\"name\":\"y\"}":{".":{},"f:name":{}}}}}"#,
        ],
    );
    check(
        &[update("u", twice), force("a", json!({ "containers": [container("x", "4")] }))],
        "",
        json!({ "containers": [container("x", "4"), { "name": "y" }] }),
        &[
            r#"a Apply 1: {"f:spec":{"f:containers":{"k:{\"name\":\"x\"}":{".":{},"f:image":{},"f:name":{}}}}}"#,
            r#"u Update 0: {"f:spec":{"f:containers":{"k:{\"name\":\"y\"}":{".":{},"f:name":{}}}}}"#,
        ],
    );
}

#[test]
fn configurations_that_do_not_fit_are_refused_in_upstreams_words() {
    for (spec, why) in [
        (json!({ "nonsense": 1 }), ".spec.nonsense: field not declared in schema"),
        (
            json!({ "text": 1 }),
            ".spec.text: expected string, got &value.valueUnstructured{Value:1}",
        ),
        (
            json!({ "text": ["X"] }),
            r#".spec.text: expected string, got &value.valueUnstructured{Value:[]interface {}{"X"}}"#,
        ),
        (json!({ "replicas": "1" }), ".spec.replicas: expected numeric (int or float), got string"),
        (json!({ "containers": {} }), ".spec.containers: expected list, got &{map[]}"),
        (json!({ "rolling": "x" }), ".spec.rolling: expected map, got &{x}"),
        (
            json!({ "containers": [{ "name": "a" }, { "name": "a" }] }),
            r#".spec.containers: duplicate entries for key [name="a"]"#,
        ),
        (
            json!({ "containers": [{ "image": "a" }] }),
            r#".spec.containers: element 0: associative list with keys has an element that omits all key fields ["name"] (and doesn't have default values for any key fields)"#,
        ),
        (
            json!({ "selector": { "c": 1 }, "text": 1 }),
            "errors:\n  .spec.selector.c: field not declared in schema\n  .spec.text: expected string, got &value.valueUnstructured{Value:1}",
        ),
    ] {
        check(&[apply("a", spec)], why, json!({}), &[]);
    }
}

#[test]
fn status_is_managed_through_its_subresource_only() {
    check(
        &[
            update("u", |o| o["spec"]["replicas"] = 1.into()),
            Write::UpdateStatus {
                manager: "k",
                patch: |o| {
                    o["status"] = json!({ "ready": 1 });
                    o["spec"]["replicas"] = 1.into();
                },
            },
            update("u", |o| o["status"] = json!({ "ready": 2 })),
        ],
        "",
        json!({ "replicas": 1 }),
        &[
            r#"k/status Update 1: {"f:status":{"f:ready":{}}}"#,
            r#"u Update 0: {"f:spec":{"f:replicas":{}}}"#,
        ],
    );
}

//! Stories of rules: schemas that are refused, and objects.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{super::Node, Rules, check};
use crate::{Faults, Path};

fn node(schema: &Value) -> Node {
    Node::parse(schema).unwrap()
}

/// A schema of a resource with these properties of `spec`, and rules on it.
fn schema(properties: Value, rules: Value) -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": properties, "x-kubernetes-validations": rules},
    }})
}

fn shown(faults: Faults) -> Vec<String> {
    let causes = faults.into_causes();
    causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

fn definition_faults(schema: &Value) -> Vec<String> {
    let mut faults = Faults::default();
    check(&node(schema), false, &Path::new("schema"), &mut faults);
    shown(faults)
}

#[test]
fn rules_that_are_refused() {
    let list = json!({"type": "array", "items": {"type": "string"}});
    let at = "schema.properties[spec].x-kubernetes-validations[0]";
    for (properties, rule, wrong) in [
        (
            json!({"a": {"type": "integer"}}),
            json!({"rule": "self.a > foo"}),
            format!(
                "{at}.rule: Invalid value: {{\"Rule\":\"self.a \\u003e foo\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}}: compilation failed: ERROR: <input>:1:10: undeclared reference to 'foo' (in container '')\n | self.a > foo\n | .........^"
            ),
        ),
        (
            json!({"a": {"type": "integer"}}),
            json!({"rule": "self.a + 1"}),
            "cel expression must evaluate to a bool".into(),
        ),
        (json!({}), json!({"rule": " "}), format!("{at}.rule: Required value: rule is not specified")),
        (
            json!({"a": {"type": "integer"}}),
            json!({"rule": "self.a >\n 0"}),
            format!("{at}.message: Required value: message must be specified if rule contains line breaks"),
        ),
        (
            json!({"a": {"type": "integer"}}),
            json!({"rule": "self.a > 0", "message": "a\nb"}),
            format!("{at}.message: Invalid value: \"a\\nb\": must not contain line breaks"),
        ),
        (
            json!({"a": {"type": "integer"}}),
            json!({"rule": "self.a > 0", "messageExpression": "self.a"}),
            "messageExpression must evaluate to a string".into(),
        ),
        (
            json!({"a": {"type": "integer"}}),
            json!({"rule": "self.a > 0", "reason": "Nope"}),
            format!("{at}.reason: Unsupported value: \"Nope\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\""),
        ),
        (
            json!({"a": {"type": "integer"}}),
            json!({"rule": "self.a > 0", "fieldPath": ".b"}),
            format!("{at}.fieldPath: Invalid value: \".b\": must be a valid path"),
        ),
        (
            json!({"a": {"type": "integer"}}),
            json!({"rule": "self.a > 0", "optionalOldSelf": true}),
            format!("{at}.optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule"),
        ),
        (
            json!({"list": list}),
            json!({"rule": "self.list.all(x, self.list.all(y, x == y))"}),
            format!("{at}.rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"),
        ),
        (
            json!({"list": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}}),
            json!({"rule": "true"}),
            "schema.properties[spec].properties[list].items.x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": oldSelf cannot be used on the uncorrelatable portion of the schema within schema.properties[spec].properties[list]".into(),
        ),
    ] {
        let found = definition_faults(&schema(properties, json!([rule])));
        assert!(found.iter().any(|fault| fault.contains(&wrong)), "{found:#?}\n{wrong}");
    }
}

#[test]
fn rules_that_are_taken() {
    for (properties, rule) in [
        (
            json!({"min-ready": {"type": "integer"}, "namespace": {"type": "string"}}),
            "self.min__dash__ready > 0 && self.__namespace__ != '' && self.namespace != ''",
        ),
        (
            json!({"addresses": {"type": "array", "maxItems": 256, "items": {"type": "string", "maxLength": 64}}}),
            "(has(self.addresses) ? self.addresses : []).exists(k, k.contains('/'))",
        ),
        (
            json!({"port": {"x-kubernetes-int-or-string": true}}),
            "type(self.port) == int ? self.port > 0 : self.port.size() > 0",
        ),
        (
            json!({"at": {"type": "string", "format": "date-time"}}),
            "self.at < timestamp('2030-01-01T00:00:00Z')",
        ),
        (
            json!({"m": {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 5}}),
            "self.m.all(k, self.m[k] > 0)",
        ),
        (
            json!({"t": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}),
            "self.t.kind == 'Pod' && self.t.metadata.name != ''",
        ),
        (
            json!({"l": {"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 10}}}),
            "self.l.all(x, self.l.exists_one(y, x == y))",
        ),
    ] {
        let found = definition_faults(&schema(properties, json!([{"rule": rule}])));
        assert!(found.is_empty(), "{rule}: {found:#?}");
    }
    for (names, sees_labels) in [(&["name", "generateName"][..], true), (&["name"], false)] {
        let text = json!({"type": "string"});
        let mut metadata = json!({"labels": {"type": "object", "additionalProperties": text}});
        for name in names {
            metadata[name] = text.clone();
        }
        let embedded = json!({
            "type": "object", "x-kubernetes-embedded-resource": true, "properties": {
                "apiVersion": text, "kind": text,
                "metadata": {"type": "object", "properties": metadata},
            },
        });
        for (rule, is_taken) in
            [("has(self.t.metadata.labels)", sees_labels), ("has(self.t.metadata.name)", true)]
        {
            let schema = schema(json!({"t": embedded}), json!([{"rule": rule}]));
            assert_eq!(definition_faults(&schema).is_empty(), is_taken, "{rule} {names:?}");
        }
    }
    let root = json!({"type": "object", "x-kubernetes-validations": [
        {"rule": "self.metadata.name.startsWith('a') && self.kind == 'Foo'"},
    ]});
    assert!(definition_faults(&root).is_empty());
}

#[test]
fn many_costly_rules_are_too_much_together() {
    let list =
        json!({"type": "array", "maxItems": 1000, "items": {"type": "string", "maxLength": 20}});
    // Each is just within its own limit.
    let rule = json!({"rule": "self.list.all(x, self.list.exists(y, x == y))"});
    let rules: Vec<Value> = vec![rule; 16];
    let found = definition_faults(&schema(json!({"list": list}), json!(rules)));
    assert!(found.len() >= 5, "{found:#?}");
    let last = found.last().unwrap();
    assert!(last.starts_with("schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of"), "{last}");
}

fn object_faults(schema: &Value, new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut faults = Faults::default();
    Rules::of(Arc::new(node(schema))).evaluate(new, old, &mut faults);
    shown(faults)
}

#[test]
fn objects_that_break_rules() {
    let properties = json!({
        "replicas": {"type": "integer"}, "max": {"type": "integer"}, "name": {"type": "string", "x-kubernetes-validations": [
            {"rule": "self.startsWith('web-')", "message": "must be of the web"},
        ]},
    });
    let rules = json!([
        {"rule": "self.replicas <= self.max", "messageExpression": "'at most %d'.format([self.max])", "fieldPath": ".replicas"},
        {"rule": "!has(self.name) || self.name != 'web-forbidden'", "reason": "FieldValueForbidden", "message": "not this one"},
        {"rule": "has(self.max)", "reason": "FieldValueRequired", "message": "say how many", "fieldPath": ".max"},
    ]);
    let schema = schema(properties, rules);
    let check = |spec: Value, wanted: &[&str]| {
        assert_eq!(object_faults(&schema, &json!({"spec": spec}), None), wanted);
    };
    check(json!({"replicas": 1, "max": 2, "name": "web-a"}), &[]);
    check(json!({"replicas": 3, "max": 2}), &["spec.replicas: Invalid value: at most 2"]);
    check(
        json!({"replicas": 1, "max": 2, "name": "db"}),
        &["spec.name: Invalid value: \"db\": must be of the web"],
    );
    check(
        json!({"replicas": 1, "max": 2, "name": "web-forbidden"}),
        &["spec: Forbidden: not this one"],
    );
    check(
        json!({"replicas": 1}),
        &[
            "spec: Invalid value: \"object\": no such key: max evaluating rule: self.replicas <= self.max",
            "spec.max: Required value: say how many",
        ],
    );
}

#[test]
fn words_of_the_language_name_fields() {
    let properties = json!({"namespace": {"type": "string"}, "if": {"type": "integer"}});
    let schema = schema(properties, json!([{"rule": "self.if > 1 || !has(self.namespace)"}]));
    let check = |spec: Value, wanted: &[&str]| {
        assert_eq!(object_faults(&schema, &json!({"spec": spec}), None), wanted);
    };
    check(json!({"if": 2, "namespace": "a"}), &[]);
    check(json!({"if": 1}), &[]);
    check(
        json!({"if": 1, "namespace": "a"}),
        &["spec: Invalid value: failed rule: self.if > 1 || !has(self.namespace)"],
    );
}

#[test]
fn the_object_itself_has_no_path() {
    let schema = json!({"type": "object", "x-kubernetes-validations": [
        {"rule": "self.metadata.name == 'a'"},
    ]});
    let object = json!({"kind": "A", "metadata": {"name": "b"}});
    assert_eq!(
        object_faults(&schema, &object, None),
        ["<nil>: Invalid value: failed rule: self.metadata.name == 'a'"]
    );
}

#[test]
fn transitions() {
    let properties = json!({
        "size": {"type": "integer", "x-kubernetes-validations": [
            {"rule": "self >= oldSelf", "message": "only grows"},
        ]},
        "once": {"type": "string", "x-kubernetes-validations": [
            {"rule": "!oldSelf.hasValue() || self == oldSelf.value()", "optionalOldSelf": true, "message": "is fixed"},
        ]},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {
            "type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": "self.v == oldSelf.v"}],
        }},
    });
    let schema = schema(properties, json!([]));
    let check = |old: Option<Value>, new: Value, wanted: &[&str]| {
        let old = old.map(|spec| json!({"spec": spec}));
        assert_eq!(object_faults(&schema, &json!({"spec": new}), old.as_ref()), wanted);
    };
    check(None, json!({"size": 1, "once": "a", "list": [{"k": "a", "v": 1}]}), &[]);
    check(Some(json!({"size": 1})), json!({"size": 2}), &[]);
    check(
        Some(json!({"size": 2})),
        json!({"size": 1}),
        &["spec.size: Invalid value: 1: only grows"],
    );
    check(Some(json!({})), json!({"size": 1, "once": "b"}), &[]);
    check(
        Some(json!({"once": "a"})),
        json!({"once": "b"}),
        &["spec.once: Invalid value: \"b\": is fixed"],
    );
    check(
        Some(json!({"list": [{"k": "a", "v": 1}, {"k": "b", "v": 2}]})),
        json!({"list": [{"k": "b", "v": 3}, {"k": "c", "v": 9}]}),
        &["spec.list[0]: Invalid value: failed rule: self.v == oldSelf.v"],
    );
}

#[test]
fn parts_of_atomic_objects_are_told_by_their_names() {
    let rules = json!([{"rule": "self > oldSelf"}]);
    let whole = json!({"type": "object", "x-kubernetes-map-type": "atomic", "properties": {
        "a": {"type": "integer", "x-kubernetes-validations": rules},
        "b": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 10"}]},
    }});
    let schema = schema(json!({"whole": whole, "c": {"type": "integer"}}), json!([]));
    assert!(definition_faults(&schema).is_empty());
    let old = json!({"spec": {"c": 1, "whole": {"a": 2, "b": 1}}});
    // What did not change is borne.
    let new = json!({"spec": {"c": 2, "whole": {"a": 1, "b": 1}}});
    assert_eq!(
        object_faults(&schema, &new, Some(&old)),
        ["spec.whole.a: Invalid value: 1: failed rule: self > oldSelf"]
    );
}

#[test]
fn elements_are_borne_where_their_list_tells_them_apart() {
    let element = json!({"type": "object", "properties": {
        "k": {"type": "string"}, "v": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 10"}]},
        "w": {"type": "integer"},
    }});
    let keyed = json!({
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
        "items": element.clone(),
    });
    let loose = json!({"type": "array", "items": element});
    let old = json!([{"k": "a", "v": 1, "w": 1}, {"k": "b", "v": 2}]);
    let moved = json!([{"k": "b", "v": 2}, {"k": "a", "v": 1, "w": 2}]);
    let check = |list: &Value, old: &Value, new: &Value, wanted: &[&str]| {
        let schema = schema(json!({"list": list, "n": {"type": "integer"}}), json!([]));
        let (old, new) =
            (json!({"spec": {"n": 1, "list": old}}), json!({"spec": {"n": 2, "list": new}}));
        assert_eq!(object_faults(&schema, &new, Some(&old)), wanted);
    };
    check(&keyed, &old, &moved, &[]);
    check(
        &keyed,
        &old,
        &json!([{"k": "a", "v": 3}]),
        &["spec.list[0].v: Invalid value: 3: failed rule: self > 10"],
    );
    // Of a list without keys only the whole can be the same.
    check(&loose, &old, &old, &[]);
    check(
        &loose,
        &old,
        &moved,
        &[
            "spec.list[0].v: Invalid value: 2: failed rule: self > 10",
            "spec.list[1].v: Invalid value: 1: failed rule: self > 10",
        ],
    );
}

#[test]
fn what_did_not_change_is_borne() {
    let properties = json!({
        "a": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 10"}]},
        "b": {"type": "integer"},
    });
    let schema = schema(properties, json!([{"rule": "self.b > 10"}]));
    let check = |old: Value, new: Value, wanted: &[&str]| {
        let old = json!({"spec": old});
        assert_eq!(object_faults(&schema, &json!({"spec": new}), Some(&old)), wanted);
    };
    check(json!({"a": 1, "b": 1}), json!({"a": 1, "b": 1}), &[]);
    check(json!({"a": 1, "b": 11}), json!({"a": 1, "b": 12}), &[]);
    check(
        json!({"a": 1, "b": 1}),
        json!({"a": 2, "b": 1}),
        &[
            "spec: Invalid value: failed rule: self.b > 10",
            "spec.a: Invalid value: 2: failed rule: self > 10",
        ],
    );
}

#[test]
fn budgets() {
    let list = json!({"type": "array", "items": {"type": "integer"}});
    let rule = json!({"rule": "self.list.all(x, self.list.all(y, x + y > 0))", "message": "pairs"});
    let one = schema(json!({"list": list}), json!([rule]));
    let object = json!({"spec": {"list": vec![1; 1000]}});
    assert_eq!(
        object_faults(&one, &object, None),
        [
            "spec: Invalid value: \"object\": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: pairs"
        ]
    );
    // Each is within its limit, all are not.
    let many = schema(json!({"list": list}), json!(vec![rule; 20]));
    let object = json!({"spec": {"list": vec![1; 300]}});
    assert_eq!(
        object_faults(&many, &object, None),
        [
            "spec: Invalid value: \"object\": validation failed due to running out of cost budget, no further validation rules will be run"
        ]
    );
}

proptest! {
    #[test]
    fn no_object_makes_rules_panic(text in r#"[\[\]{}"a:,0-9]{0,40}"#) {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "object", "additionalProperties": {"type": "string", "x-kubernetes-validations": [{"rule": "self == 'a'"}]}},
            "b": {"type": "array", "items": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 1"}]}},
        }, "x-kubernetes-validations": [{"rule": "self.a.all(k, k == self.a[k]) || self.b == [1]"}]});
        if let Ok(value) = serde_json::from_str::<Value>(&text) {
            for value in [value.clone(), json!({"a": value}), json!({"b": value})] {
                object_faults(&schema, &value, Some(&value));
            }
        }
    }
}

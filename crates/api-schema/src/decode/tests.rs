//! Types, strictness and the canonical form, on a shape with one of each.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const TABLE: &str = "x.Root
 text 1 string omit
 must 2 string required
 flag 3 bool omit
 maybe 4 *bool omit
 small 5 int32 omit
 large 6 *int64 omit
 real 7 *float64 omit
 data 8 {}bytes omit
 any 9 any omit
 raw 10 object omit
 amounts 11 {}quantity omit
 port 12 intOrString omit
 at 13 time omit
 micro 14 *microTime omit
 inner 15 x.Inner omit
 inners 16 []x.Inner omit
 by_name 17 {}x.Inner omit
 words 18 []string omit
 extra 19 {}strings omit
 pointer 20 *x.Inner omit
x.Inner
 a 1 string omit
 n 2 int32 required
";

fn shape() -> ShapeRef {
    let schema = Arc::new(Schema::parse(TABLE.into()).expect("valid"));
    ShapeRef::find(&schema, "x.Root").expect("there")
}

/// The canonical tree without what is always there.
fn canonical(text: &str) -> Result<Value, String> {
    let (mut tree, strict) = shape().decode(text.as_bytes())?;
    assert_eq!(strict, Vec::<String>::new(), "{text}");
    let map = tree.as_object_mut().expect("an object");
    assert!(map.contains_key("must") && map.contains_key("inner"), "always written");
    map.retain(|_, value| !matches!(value, Value::String(text) if text.is_empty()));
    map.retain(|key, value| key != "inner" || *value != json!({ "n": 0 }));
    Ok(tree)
}

#[test]
fn empty_is_left_out_where_upstream_leaves_it_out() {
    for (text, expect) in [
        (r#"{}"#, json!({})),
        (r#"{"text":"","flag":false,"small":0,"words":[],"data":{},"at":null}"#, json!({})),
        (
            r#"{"maybe":false,"large":0,"pointer":{}}"#,
            json!({ "maybe": false, "large": 0, "pointer": { "n": 0 } }),
        ),
        (r#"{"text":null,"inner":null,"maybe":null}"#, json!({})),
        (r#"{"inners":[null,{"n":1}]}"#, json!({ "inners": [{ "n": 0 }, { "n": 1 }] })),
        (r#"{"words":["",null]}"#, json!({ "words": ["", ""] })),
        (r#"{"port":0}"#, json!({ "port": 0 })),
    ] {
        assert_eq!(canonical(text), Ok(expect), "{text}");
    }
}

#[test]
fn values_take_their_canonical_form() {
    for (text, expect) in [
        (
            r#"{"amounts":{"cpu":"0.5","mem":"1024Mi","n":2,"f":1.5}}"#,
            json!({ "amounts": { "cpu": "500m", "mem": "1Gi", "n": "2", "f": "1500m" } }),
        ),
        (r#"{"at":"2024-01-01T01:00:00+01:00"}"#, json!({ "at": "2024-01-01T00:00:00Z" })),
        (r#"{"micro":"2024-01-01T00:00:00Z"}"#, json!({ "micro": "2024-01-01T00:00:00.000000Z" })),
        (r#"{"port":"http","real":1}"#, json!({ "port": "http", "real": 1 })),
        (r#"{"data":{"a":"eA=="}}"#, json!({ "data": { "a": "eA==" } })),
        (
            r#"{"any":[1,{"x":null}],"raw":{"y":{}}}"#,
            json!({ "any": [1, { "x": null }], "raw": { "y": {} } }),
        ),
        (
            r#"{"extra":{"k":["a","b"]},"by_name":{"x":{"n":1,"a":""}}}"#,
            json!({ "extra": { "k": ["a", "b"] }, "by_name": { "x": { "n": 1 } } }),
        ),
    ] {
        assert_eq!(canonical(text), Ok(expect), "{text}");
    }
}

#[test]
fn wrong_types_are_named_as_go_names_them() {
    for (text, message) in [
        (
            r#"{"text":1}"#,
            "json: cannot unmarshal number into Go struct field Root.text of type string",
        ),
        (
            r#"{"small":"1"}"#,
            "json: cannot unmarshal string into Go struct field Root.small of type int32",
        ),
        (
            r#"{"small":1.5}"#,
            "json: cannot unmarshal number 1.5 into Go struct field Root.small of type int32",
        ),
        (
            r#"{"small":3000000000}"#,
            "json: cannot unmarshal number 3000000000 into Go struct field Root.small of type int32",
        ),
        (
            r#"{"large":99999999999999999999}"#,
            "json: cannot unmarshal number 100000000000000000000 into Go struct field Root.large of type int64",
        ),
        (
            r#"{"inners":{}}"#,
            "json: cannot unmarshal object into Go struct field Root.inners of type []x.Inner",
        ),
        (
            r#"{"inners":[{"n":true}]}"#,
            "json: cannot unmarshal bool into Go struct field Inner.inners.n of type int32",
        ),
        (
            r#"{"words":"a"}"#,
            "json: cannot unmarshal string into Go struct field Root.words of type []string",
        ),
        (
            r#"{"amounts":{"cpu":"1x"}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (r#"{"data":{"a":"!"}}"#, "illegal base64 data at input byte 0"),
        (
            r#"{"at":"today"}"#,
            "parsing time \"today\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"today\" as \"2006\"",
        ),
        (r#"[]"#, "json: cannot unmarshal array into Go value of type x.Root"),
    ] {
        assert_eq!(canonical(text), Err(message.to_owned()), "{text}");
    }
}

#[test]
fn unknown_and_duplicate_fields_are_found_with_their_path() {
    let text = r#"{"x":1,"text":"a","text":"b","inners":[{"n":1},{"y":{"z":1},"n":2,"n":3}],"data":{"a":"","a":""}}"#;
    let (tree, strict) = shape().decode(text.as_bytes()).expect("the types are right");
    assert_eq!(
        strict,
        [
            "unknown field \"x\"",
            "duplicate field \"text\"",
            "unknown field \"inners[1].y\"",
            "duplicate field \"inners[1].n\"",
            "duplicate field \"data.a\"",
        ]
    );
    assert_eq!((&tree["text"], &tree["inners"][1]), (&json!("b"), &json!({ "n": 3 })));
    assert!(tree.get("x").is_none());
}

#[test]
fn deep_nesting_is_an_error() {
    let text = format!(r#"{{"any":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    assert!(shape().decode(text.as_bytes()).is_err());
    // Trees are as deep as their text may be, so that what is stored is read again.
    for (lists, fits) in [(126, true), (127, false)] {
        let tree = (0..lists).fold(Value::Null, |inner, _| vec![inner].into());
        let tree = json!({"any": tree});
        assert_eq!(shape().conform(tree.clone()).is_ok(), fits, "{lists} in a tree");
        assert_eq!(shape().decode(tree.to_string().as_bytes()).is_ok(), fits, "{lists} in a text");
    }
}

proptest! {
    #[test]
    fn what_decodes_is_canonical(text in r#"\{("(text|small|inner|inners|data|amounts|at|port|words|x)":("[a-z0-9=]{0,4}"|[0-9]{1,11}|-?[0-9]\.[0-9]|null|true|\{"n":[0-9]\}|\[\{"n":1\}\]|\{"a":"eA=="\}),?){0,4}\}"#) {
        if let Ok((tree, _)) = shape().decode(text.as_bytes()) {
            let (again, strict) = shape().conform(tree.clone()).expect("canonical");
            prop_assert_eq!(again, tree);
            prop_assert_eq!(strict, Vec::<String>::new());
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = shape().decode(&bytes);
    }
}

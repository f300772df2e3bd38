//! Stories of messages: JSON, and the bytes that upstream would write.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::Schema;

const SHAPES: &str = "\
x.All
 kind 0 string
 apiVersion 0 string
 s 2 string
 p 1 *string
 n 3 int32
 wide 4 *int64
 f 5 *float64
 b 6 bytes
 flag 7 bool
 list 8 []string
 map 9 {}x.In
 extra 10 {}strings
 q 11 *quantity
 ios 12 *intOrString
 t 13 time
 mt 14 *microTime
 d 15 *duration
 raw 16 *object
 in 17 *x.In
 u 18 *any as=x.Union
 more 19 []int32
 times 20 {}time
x.In
 a 1 string
 deep 2 *string in=3
 deeper 1 *string in=3.4
 c 2 *string
x.Union
 allows 1 bool
 schema 2 *x.In
 names 3 []string
x.Loop
 again 1 x.Loop
meta/v1.ListMeta
 resourceVersion 2 string
";

fn shape(name: &str) -> ShapeRef {
    let schema = Arc::new(Schema::parse(SHAPES.into()).expect("valid"));
    ShapeRef::find(&schema, name).expect("there")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is nothing but its defaults, which every message of `x.All` begins and
/// goes on with.
const ZERO: [&str; 4] = ["1200", "1800", "3800", "6a00"];

#[track_caller]
fn check(json: Value, message: &str) {
    let shape = shape("x.All");
    let body = shape.encode_protobuf(json.to_string().as_bytes()).expect("of this shape");
    let mut expected = body_of(message);
    assert_eq!(hex(&body), hex(&expected), "{json}");
    let mut read = shape.decode_protobuf(&body).expect("our own");
    let (canonical, _) = shape.conform(read.take()).expect("of this shape");
    let (wanted, _) = shape.conform(json).expect("of this shape");
    for (name, value) in wanted.as_object().expect("an object") {
        assert_eq!(canonical[name], *value, "{name}");
    }
    // Cut short anywhere, it is refused or read, but nothing panics.
    while expected.pop().is_some() {
        let _ = shape.decode_protobuf(&expected);
    }
}

fn body_of(message: &str) -> Vec<u8> {
    let bytes: Vec<u8> = (0..message.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&message[at..at + 2], 16).expect("hex"))
        .collect();
    body("x/v1", "All", &bytes)
}

fn all(name: &str, value: Value) -> Value {
    let mut object = json!({"kind": "All", "apiVersion": "x/v1"});
    object[name] = value;
    object
}

#[test]
fn every_type_is_written_as_upstream_writes_it() {
    let [s, n, flag, t] = ZERO;
    for (name, value, written) in [
        ("p", json!("a"), format!("0a0161{s}{n}{flag}{t}")),
        ("s", json!("b"), format!("120162{n}{flag}{t}")),
        ("n", json!(-1), format!("{s}18ffffffffffffffffff01{flag}{t}")),
        ("wide", json!(300), format!("{s}{n}20ac02{flag}{t}")),
        ("f", json!(1.5), format!("{s}{n}29000000000000f83f{flag}{t}")),
        ("f", json!(2), format!("{s}{n}290000000000000040{flag}{t}")),
        ("b", json!("AAE="), format!("{s}{n}32020001{flag}{t}")),
        ("flag", json!(true), format!("{s}{n}3801{t}")),
        ("list", json!(["a", ""]), format!("{s}{n}{flag}4201614200{t}")),
        ("map", json!({"k": {"a": "v"}}), format!("{s}{n}{flag}4a0c0a016b12070a01761a022200{t}")),
        ("times", json!({"k": null}), format!("{s}{n}{flag}{t}a201050a016b1200")),
        ("extra", json!({"k": ["x", "y"]}), format!("{s}{n}{flag}520b0a016b12060a01780a0179{t}")),
        ("q", json!("1Gi"), format!("{s}{n}{flag}5a050a03314769{t}")),
        ("ios", json!(80), format!("{s}{n}{flag}6206080010501a00{t}")),
        ("ios", json!("5%"), format!("{s}{n}{flag}6208080110001a023525{t}")),
        ("t", json!("1970-01-01T00:00:01Z"), format!("{s}{n}{flag}6a0408011000")),
        ("mt", json!("1970-01-01T00:00:01.000002Z"), format!("{s}{n}{flag}{t}7205080110d00f")),
        ("d", json!("3ns"), format!("{s}{n}{flag}{t}7a020803")),
        ("raw", json!({"a": [1]}), format!("{s}{n}{flag}{t}82010b0a097b2261223a5b315d7d")),
        ("in", json!({"deep": "x"}), format!("{s}{n}{flag}{t}8a01090a001a051201782200")),
        (
            "in",
            json!({"c": "x", "deeper": "y"}),
            format!("{s}{n}{flag}{t}8a010c0a001201781a0522030a0179"),
        ),
        ("u", json!(true), format!("{s}{n}{flag}{t}9201020801")),
        ("u", json!(false), format!("{s}{n}{flag}{t}9201020800")),
        ("u", json!({"a": "x"}), format!("{s}{n}{flag}{t}92010b080112070a01781a022200")),
        ("u", json!(["x"]), format!("{s}{n}{flag}{t}92010508011a0178")),
        ("more", json!([1, 2]), format!("{s}{n}{flag}{t}980101980102")),
    ] {
        check(all(name, value), &written);
    }
}

#[test]
fn numbers_that_come_packed_are_read() {
    let body = body_of("9a01020102");
    assert_eq!(shape("x.All").decode_protobuf(&body).expect("valid")["more"], json!([1, 2]));
}

#[test]
fn what_does_not_fit_is_refused() {
    let all = shape("x.All");
    for (json, why) in [
        ("{", "EOF"),
        (r#"{"n": "x"}"#, "invalid type: string"),
        (r#"{"n": 1} 2"#, "trailing"),
        (r#"{"list": {}}"#, "invalid type: map"),
        (r#"{"map": []}"#, "invalid type: sequence"),
        (r#"{"u": 1}"#, "no form of x.Union"),
        (r#"{"t": "x"}"#, "a time that is none"),
        (r#"{"b": "?"}"#, "Invalid"),
    ] {
        let error = all.encode_protobuf(json.as_bytes()).expect_err(json);
        assert!(error.contains(why), "{json}: {error}");
    }
    assert!(shape("x.Loop").encode_protobuf(b"{}").expect_err("a loop").contains("holds itself"));
    for bytes in ["{}", "k8s\0\x0a\x7f"] {
        assert!(all.decode_protobuf(bytes.as_bytes()).is_err(), "{bytes}");
    }
    let mut nested = Vec::new();
    for _ in 0..DEPTH_MAX {
        let mut outer = Vec::new();
        bytes_field(&mut outer, 1, &nested);
        nested = outer;
    }
    let deep = shape("x.Loop").decode_protobuf(&body("x/v1", "Loop", &nested));
    assert!(deep.expect_err("too deep").contains("nested too deeply"));
    let mut many = Vec::new();
    (0..=VALUES_MAX).for_each(|_| bytes_field(&mut many, 8, b""));
    let many = all.decode_protobuf(&body("x/v1", "All", &many));
    assert_eq!(many.expect_err("too many"), "proto: more than 250000 values");
}

#[test]
fn a_list_is_its_items_and_a_frame_is_an_object() {
    let shape = shape("x.In");
    let items = vec![Bytes::from_static(br#"{"a":"1"}"#), Bytes::from_static(br#"{"a":"2"}"#)];
    let pieces = shape
        .encode_protobuf_list("x/v1", "InList", br#"{"resourceVersion":"7"}"#, &items)
        .expect("of this shape");
    let whole = pieces.concat();
    let expected =
        hex(b"\x0a\x03\x12\x017\x12\x07\x0a\x011\x1a\x02\x22\0\x12\x07\x0a\x012\x1a\x02\x22\0");
    assert!(hex(&whole).contains(&expected), "{}", hex(&whole));
    assert!(whole.starts_with(MAGIC) && whole.ends_with(UNKNOWN_END));
    let mut frame = Vec::new();
    event("ADDED", b"abc", &mut frame);
    assert_eq!(frame, b"\0\0\0\x0e\x0a\x05ADDED\x12\x05\x0a\x03abc");
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = shape("x.All").decode_protobuf(&body("x/v1", "All", &bytes));
        let _ = shape("x.All").encode_protobuf(&bytes);
    }

    #[test]
    fn texts_survive(s in ".{0,200}", key in ".{0,200}", n: i32, flag: bool) {
        let value = json!({"s": s, "map": {key: {"a": "x", "deeper": "y"}}, "n": n, "flag": flag});
        let shape = shape("x.All");
        let body = shape.encode_protobuf(value.to_string().as_bytes()).expect("of this shape");
        let read = shape.decode_protobuf(&body).expect("our own");
        for (name, value) in value.as_object().expect("an object") {
            prop_assert_eq!(&read[name], value);
        }
    }
}

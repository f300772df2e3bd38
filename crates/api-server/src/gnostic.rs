//! An OpenAPI version 2 document as gnostic's protobuf (`openapiv2/OpenAPIv2.proto`
//! of gnostic-models), the form that Go clients ask for.
//!
//! One table a message says under which number each key of the JSON goes and in
//! what form; the walk over it is generic.

use serde_json::Value;

/// What the answer is called; clients ask for [`ASKED_AS`], which is no media
/// type that may be sent.
pub(crate) const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// What clients ask for.
pub(crate) const ASKED_AS: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Writes a document.
pub(crate) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    message(&DOCUMENT, document, &mut out);
    out
}

/// A message: the keys of a JSON object, and the number under which keys that
/// begin with `x-` go (0 for none).
struct Form {
    fields: &'static [(&'static str, u32, As)],
    extensions: u32,
}

/// How a key's value is written.
#[derive(Clone, Copy)]
enum As {
    Text,
    Flag,
    Int,
    Double,
    /// `Any`: YAML text, of which JSON is a kind.
    Any,
    /// The same for each element.
    AnyEach,
    TextEach,
    Message(&'static Form),
    MessageEach(&'static Form),
    /// An object whose keys are names: a message with a repeated pair of name
    /// and value under the given number.
    Named(u32, &'static Form),
    /// One of several messages; the number of the one that it is.
    Choice(fn(&Value) -> (u32, As)),
    /// [`As::Choice`] for each element.
    ChoiceEach(fn(&Value) -> (u32, As)),
    /// A message whose repeated field 1 has the element or elements.
    Wrapped(&'static As),
}

static DOCUMENT: Form = Form {
    fields: &[
        ("swagger", 1, As::Text),
        ("info", 2, As::Message(&INFO)),
        ("host", 3, As::Text),
        ("basePath", 4, As::Text),
        ("schemes", 5, As::TextEach),
        ("consumes", 6, As::TextEach),
        ("produces", 7, As::TextEach),
        ("paths", 8, As::Named(2, &PATH_ITEM)),
        ("definitions", 9, As::Named(1, &SCHEMA)),
    ],
    extensions: 16,
};

static INFO: Form = Form {
    fields: &[("title", 1, As::Text), ("version", 2, As::Text), ("description", 3, As::Text)],
    extensions: 7,
};

static PATH_ITEM: Form = Form {
    fields: &[
        ("get", 2, As::Message(&OPERATION)),
        ("put", 3, As::Message(&OPERATION)),
        ("post", 4, As::Message(&OPERATION)),
        ("delete", 5, As::Message(&OPERATION)),
        ("options", 6, As::Message(&OPERATION)),
        ("head", 7, As::Message(&OPERATION)),
        ("patch", 8, As::Message(&OPERATION)),
        ("parameters", 9, As::ChoiceEach(parameter)),
    ],
    extensions: 10,
};

static OPERATION: Form = Form {
    fields: &[
        ("tags", 1, As::TextEach),
        ("summary", 2, As::Text),
        ("description", 3, As::Text),
        ("operationId", 5, As::Text),
        ("produces", 6, As::TextEach),
        ("consumes", 7, As::TextEach),
        ("parameters", 8, As::ChoiceEach(parameter)),
        ("responses", 9, As::Named(1, &RESPONSE_VALUE)),
        ("schemes", 10, As::TextEach),
        ("deprecated", 11, As::Flag),
    ],
    extensions: 13,
};

/// `ParametersItem` holds a `Parameter`, which holds a body or one of four.
fn parameter(_: &Value) -> (u32, As) {
    (1, As::Choice(body_or_not))
}

fn body_or_not(parameter: &Value) -> (u32, As) {
    match parameter["in"].as_str() {
        Some("body") => (1, As::Message(&BODY_PARAMETER)),
        _ => (2, As::Choice(by_place)),
    }
}

fn by_place(parameter: &Value) -> (u32, As) {
    match parameter["in"].as_str() {
        Some("header") => (1, As::Message(&PATH_PARAMETER)),
        Some("path") => (4, As::Message(&PATH_PARAMETER)),
        _ => (3, As::Message(&QUERY_PARAMETER)),
    }
}

static BODY_PARAMETER: Form = Form {
    fields: &[
        ("description", 1, As::Text),
        ("name", 2, As::Text),
        ("in", 3, As::Text),
        ("required", 4, As::Flag),
        ("schema", 5, As::Message(&SCHEMA)),
    ],
    extensions: 6,
};

static QUERY_PARAMETER: Form = Form {
    fields: &[
        ("required", 1, As::Flag),
        ("in", 2, As::Text),
        ("description", 3, As::Text),
        ("name", 4, As::Text),
        ("type", 6, As::Text),
        ("format", 7, As::Text),
        ("uniqueItems", 20, As::Flag),
    ],
    extensions: 23,
};

/// Parameters of headers have the same numbers.
static PATH_PARAMETER: Form = Form {
    fields: &[
        ("required", 1, As::Flag),
        ("in", 2, As::Text),
        ("description", 3, As::Text),
        ("name", 4, As::Text),
        ("type", 5, As::Text),
        ("format", 6, As::Text),
        ("uniqueItems", 19, As::Flag),
    ],
    extensions: 22,
};

static RESPONSE_VALUE: Form = Form { fields: &[("", 1, As::Message(&RESPONSE))], extensions: 0 };

static RESPONSE: Form = Form {
    fields: &[
        ("description", 1, As::Text),
        ("schema", 2, As::Choice(|_| (1, As::Message(&SCHEMA)))),
    ],
    extensions: 5,
};

static SCHEMA: Form = Form {
    fields: &[
        ("$ref", 1, As::Text),
        ("format", 2, As::Text),
        ("title", 3, As::Text),
        ("description", 4, As::Text),
        ("default", 5, As::Any),
        ("multipleOf", 6, As::Double),
        ("maximum", 7, As::Double),
        ("exclusiveMaximum", 8, As::Flag),
        ("minimum", 9, As::Double),
        ("exclusiveMinimum", 10, As::Flag),
        ("maxLength", 11, As::Int),
        ("minLength", 12, As::Int),
        ("pattern", 13, As::Text),
        ("maxItems", 14, As::Int),
        ("minItems", 15, As::Int),
        ("uniqueItems", 16, As::Flag),
        ("maxProperties", 17, As::Int),
        ("minProperties", 18, As::Int),
        ("required", 19, As::TextEach),
        ("enum", 20, As::AnyEach),
        ("additionalProperties", 21, As::Choice(schema_or_flag)),
        ("type", 22, As::Wrapped(&As::TextEach)),
        ("items", 23, As::Wrapped(&As::MessageEach(&SCHEMA))),
        ("allOf", 24, As::MessageEach(&SCHEMA)),
        ("properties", 25, As::Named(1, &SCHEMA)),
        ("example", 30, As::Any),
    ],
    extensions: 31,
};

fn schema_or_flag(value: &Value) -> (u32, As) {
    if value.is_boolean() { (2, As::Flag) } else { (1, As::Message(&SCHEMA)) }
}

/// Writes the fields of an object. A form with one field without a key is a
/// message around the value itself.
fn message(form: &Form, value: &Value, out: &mut Vec<u8>) {
    if let [("", number, how)] = form.fields {
        return field(*number, *how, value, out);
    }
    let Value::Object(map) = value else { return };
    for (key, number, how) in form.fields {
        if let Some(value) = map.get(*key) {
            field(*number, *how, value, out);
        }
    }
    if form.extensions != 0 {
        for (key, value) in map.iter().filter(|(key, _)| key.starts_with("x-")) {
            nested(form.extensions, out, |out| {
                bytes(1, key.as_bytes(), out);
                field(2, As::Any, value, out);
            });
        }
    }
}

fn field(number: u32, how: As, value: &Value, out: &mut Vec<u8>) {
    let text = |value: &Value, out: &mut Vec<u8>| {
        bytes(number, value.as_str().unwrap_or_default().as_bytes(), out);
    };
    let any = |value: &Value, out: &mut Vec<u8>| {
        nested(number, out, |out| bytes(2, value.to_string().as_bytes(), out));
    };
    match how {
        As::Text => text(value, out),
        As::TextEach => each(value).for_each(|value| text(value, out)),
        As::Flag => {
            tag(number, 0, out);
            out.push(u8::from(value.as_bool() == Some(true)));
        }
        As::Int => {
            tag(number, 0, out);
            varint(value.as_u64().unwrap_or_default(), out);
        }
        As::Double => {
            tag(number, 1, out);
            out.extend_from_slice(&value.as_f64().unwrap_or_default().to_le_bytes());
        }
        As::Any => any(value, out),
        As::AnyEach => each(value).for_each(|value| any(value, out)),
        As::Message(form) => nested(number, out, |out| message(form, value, out)),
        As::MessageEach(form) => {
            each(value).for_each(|value| nested(number, out, |out| message(form, value, out)));
        }
        As::Named(inner, form) => nested(number, out, |out| named(inner, form, value, out)),
        As::Choice(choose) => choice(number, choose, value, out),
        As::ChoiceEach(choose) => {
            each(value).for_each(|value| choice(number, choose, value, out));
        }
        As::Wrapped(how) => nested(number, out, |out| field(1, *how, value, out)),
    }
}

fn choice(number: u32, choose: fn(&Value) -> (u32, As), value: &Value, out: &mut Vec<u8>) {
    let (inner, how) = choose(value);
    nested(number, out, |out| field(inner, how, value, out));
}

fn named(number: u32, form: &Form, value: &Value, out: &mut Vec<u8>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        nested(number, out, |out| {
            bytes(1, name.as_bytes(), out);
            nested(2, out, |out| message(form, value, out));
        });
    }
}

/// The elements of a list; a value that is none is its only element.
fn each(value: &Value) -> std::slice::Iter<'_, Value> {
    match value {
        Value::Array(list) => list.iter(),
        one => std::slice::from_ref(one).iter(),
    }
}

fn nested(number: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    bytes(number, &inner, out);
}

fn bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    tag(number, 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn tag(number: u32, wire_type: u32, out: &mut Vec<u8>) {
    varint(u64::from(number << 3 | wire_type), out);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_of_a_value_has_its_bytes() {
        let document = json!({
            "swagger": "2.0",
            "definitions": { "a": {
                "type": "object", "maxLength": 300, "minimum": 0.5,
                "additionalProperties": true, "x-y": [1],
            } },
        });
        let schema = [
            &[0x49, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f][..], // minimum
            &[0x58, 0xac, 0x02],                       // maxLength
            &[0xaa, 0x01, 2, 0x10, 1],                 // additionalProperties
            &[0xb2, 0x01, 8, 0x0a, 6],                 // type
            b"object",
            &[0xfa, 0x01, 12, 0x0a, 3], // extension
            b"x-y",
            &[0x12, 5, 0x12, 3],
            b"[1]",
        ]
        .concat();
        let mut expected = b"\x0a\x032.0\x4a".to_vec();
        expected.push(schema.len() as u8 + 7);
        expected.extend([0x0a, schema.len() as u8 + 5, 0x0a, 1, b'a', 0x12, schema.len() as u8]);
        expected.extend(schema);
        assert_eq!(encode(&document), expected);
    }

    #[test]
    fn a_parameter_stands_in_the_messages_around_it() {
        let path = json!({"parameters": [{"in": "path", "name": "n"}]});
        let mut out = Vec::new();
        message(&PATH_ITEM, &path, &mut out);
        let inner = b"\x12\x04path\x22\x01n";
        let mut expected = vec![0x4a, 15, 0x0a, 13, 0x12, 11, 0x22, inner.len() as u8];
        expected.extend(inner);
        assert_eq!(out, expected);
    }
}

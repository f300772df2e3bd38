//! OpenAPI documents as gnostic's protobuf (`openapiv2/OpenAPIv2.proto` and
//! `openapiv3/OpenAPIv3.proto` of gnostic-models), the forms that Go clients ask for.
//!
//! One table a message says under which number each key of the JSON goes and in
//! what form; the walk over it is generic.

mod v2;
mod v3;

use serde_json::Value;

pub(crate) use v2::DOCUMENT as V2;
pub(crate) use v3::DOCUMENT as V3;

/// Writes a document.
pub(crate) fn encode(form: &Form, document: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    message(form, document, &mut out);
    out
}

/// A message: the keys of a JSON object, and the number under which keys that
/// begin with `x-` go (0 for none).
pub(crate) struct Form {
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
    /// The same pairs without a message around them.
    Pairs(&'static Form),
    /// One of several messages; the number of the one that it is.
    Choice(fn(&Value) -> (u32, As)),
    /// [`As::Choice`] for each element.
    ChoiceEach(fn(&Value) -> (u32, As)),
    /// One field of several, in the message itself; none where nothing fits.
    OneOf(fn(&Value) -> Option<(u32, As)>),
    /// A message whose repeated field 1 has the element or elements.
    Wrapped(&'static As),
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
        As::Pairs(form) => named(number, form, value, out),
        As::Choice(choose) => choice(number, choose, value, out),
        As::ChoiceEach(choose) => {
            each(value).for_each(|value| choice(number, choose, value, out));
        }
        As::OneOf(choose) => {
            if let Some((number, how)) = choose(value) {
                field(number, how, value, out);
            }
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
        assert_eq!(encode(&V2, &document), expected);
    }

    #[test]
    fn a_parameter_stands_in_the_messages_around_it() {
        let path = json!({"parameters": [{"in": "path", "name": "n"}]});
        let mut out = Vec::new();
        message(&v2::PATH_ITEM, &path, &mut out);
        let inner = b"\x12\x04path\x22\x01n";
        let mut expected = vec![0x4a, 15, 0x0a, 13, 0x12, 11, 0x22, inner.len() as u8];
        expected.extend(inner);
        assert_eq!(out, expected);
    }

    #[test]
    fn a_schema_is_one_or_refers_to_one() {
        let document = json!({"components": {"schemas": {
            "a": {"type": "object", "default": {}, "properties": {"b": {"$ref": "#/b", "default": ""}}},
        }}});
        let reference = b"\x12\x05\x0a\x03#/b";
        let mut property = vec![0x0a, 1, b'b', 0x12, reference.len() as u8];
        property.extend(reference);
        let mut schema = b"\xca\x01\x06object\xfa\x01".to_vec();
        schema.extend([property.len() as u8 + 2, 0x0a, property.len() as u8]);
        schema.extend(property);
        // Of a default that is an object there is no form.
        schema.extend([0x8a, 0x02, 0]);
        let n = schema.len() as u8;
        let mut expected =
            vec![0x2a, n + 11, 0x0a, n + 9, 0x0a, n + 7, 0x0a, 1, b'a', 0x12, n + 2, 0x0a, n];
        expected.extend(schema);
        assert_eq!(encode(&V3, &document), expected);
    }
}

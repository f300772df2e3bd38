//! From one JSON value to one field of a message.

use std::fmt;

use api_object::time;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::{
    encode::{Encoder, Message, raw},
    wire::{bytes_field, close, fixed64_field, open, varint_field},
};
use crate::{Field, Holds, ShapeId, Type};

/// A value that is about to be read and goes out under a number.
pub(super) struct Element<'e, 's> {
    pub(super) encoder: &'e mut Encoder<'s>,
    pub(super) number: u16,
    pub(super) ty: Type,
    /// The message that a union of JSON's forms travels as.
    pub(super) union: Option<ShapeId>,
}

impl<'e, 's> Element<'e, 's> {
    /// A field's value, or one of its elements.
    pub(super) fn of(encoder: &'e mut Encoder<'s>, field: &Field) -> Self {
        let union = encoder.schema.union_of(field);
        Self { encoder, number: field.number, ty: field.ty, union }
    }
}

impl<'de> DeserializeSeed<'de> for Element<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match (self.ty, self.union) {
            (Type::Any, Some(union)) => {
                let value = Value::deserialize(deserializer)?;
                put_union(self.encoder, self.number, union, &value).map_err(de::Error::custom)
            }
            (Type::Any | Type::Nested(_) | Type::Object, _) => {
                let from_tree = self.encoder.from_tree;
                raw(&mut self.encoder.out, self.number, from_tree, deserializer)
            }
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Element<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.ty)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<(), E> {
        if self.ty != Type::Bool {
            return Err(E::invalid_type(de::Unexpected::Bool(flag), &self));
        }
        varint_field(&mut self.encoder.out, self.number, i64::from(flag));
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        let (out, number) = (&mut self.encoder.out, self.number);
        match self.ty {
            Type::Int32 | Type::Int64 => varint_field(out, number, value),
            Type::Float64 => fixed64_field(out, number, (value as f64).to_bits()),
            Type::IntOrString => {
                let start = open(out, number);
                varint_field(out, 1, 0);
                varint_field(out, 2, value);
                bytes_field(out, 3, b"");
                close(out, start);
            }
            _ => return Err(E::invalid_type(de::Unexpected::Signed(value), &self)),
        }
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => self.visit_f64(value as f64),
        }
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        if self.ty != Type::Float64 {
            return Err(E::invalid_type(de::Unexpected::Float(value), &self));
        }
        fixed64_field(&mut self.encoder.out, self.number, value.to_bits());
        Ok(())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        let out = &mut self.encoder.out;
        match self.ty {
            Type::String => bytes_field(out, self.number, text.as_bytes()),
            Type::Bytes => {
                let bytes = STANDARD.decode(text).map_err(E::custom)?;
                bytes_field(out, self.number, &bytes);
            }
            Type::Quantity => {
                let start = open(out, self.number);
                // Canonical already: decoding makes it so.
                bytes_field(out, 1, text.as_bytes());
                close(out, start);
            }
            Type::IntOrString => {
                let start = open(out, self.number);
                varint_field(out, 1, 1);
                varint_field(out, 2, 0);
                bytes_field(out, 3, text.as_bytes());
                close(out, start);
            }
            Type::Time | Type::MicroTime => {
                let at = time::parse(text).ok_or_else(|| E::custom("a time that is none"))?;
                let start = open(out, self.number);
                varint_field(out, 1, at.as_second());
                let nanos = match self.ty {
                    Type::Time => 0,
                    _ => at.subsec_nanosecond() / 1000 * 1000,
                };
                varint_field(out, 2, i64::from(nanos));
                close(out, start);
            }
            Type::Duration => {
                let nanos = time::parse_duration(text)
                    .ok_or_else(|| E::custom("a duration that is none"))?;
                let start = open(out, self.number);
                varint_field(out, 1, nanos);
                close(out, start);
            }
            _ => return Err(E::invalid_type(de::Unexpected::Str(text), &self)),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { encoder, number, ty: Type::Strings, .. } = self else {
            return Err(de::Error::invalid_type(de::Unexpected::Seq, &self));
        };
        let start = open(&mut encoder.out, number);
        while seq.next_element_seed(Text { out: &mut encoder.out, number: 1 })?.is_some() {}
        close(&mut encoder.out, start);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Type::Struct(id) = self.ty else {
            return Err(de::Error::invalid_type(de::Unexpected::Map, &self));
        };
        let Self { encoder, number, .. } = self;
        let start = open(&mut encoder.out, number);
        Message { encoder: &mut *encoder, id, outermost: false }.visit_map(map)?;
        close(&mut encoder.out, start);
        Ok(())
    }
}

/// Text that is about to be read and goes out under a number.
pub(super) struct Text<'o> {
    pub(super) out: &'o mut Vec<u8>,
    pub(super) number: u16,
}

impl<'de> DeserializeSeed<'de> for Text<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Text<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        bytes_field(self.out, self.number, text.as_bytes());
        Ok(())
    }
}

/// Writes a union of JSON's forms as its message: an object, a list and a flag
/// are three fields of it, and the flag is true beside an object too.
fn put_union(
    encoder: &mut Encoder<'_>,
    number: u16,
    union: ShapeId,
    value: &Value,
) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    let schema = encoder.schema;
    let start = open(&mut encoder.out, number);
    let mut fits = false;
    for field in schema.fields(union) {
        match (field.holds, field.ty, value) {
            (Holds::One, Type::Bool, value) => {
                fits |= value.is_boolean();
                varint_field(&mut encoder.out, field.number, i64::from(*value != false));
            }
            (Holds::Pointer, Type::Struct(_), Value::Object(_)) => {
                fits = true;
                put_form(encoder, field, value)?;
            }
            (Holds::List, _, Value::Array(list)) => {
                fits = true;
                list.iter().try_for_each(|value| put_form(encoder, field, value))?;
            }
            _ => {}
        }
    }
    close(&mut encoder.out, start);
    match fits {
        true => Ok(()),
        false => Err(format!("no form of {}: {value}", schema.name(union))),
    }
}

fn put_form(encoder: &mut Encoder<'_>, field: &Field, value: &Value) -> Result<(), String> {
    let before = std::mem::replace(&mut encoder.from_tree, true);
    let put = Element::of(&mut *encoder, field).deserialize(value);
    encoder.from_tree = before;
    put.map_err(|error| error.to_string())
}

//! From Kubernetes' protobuf to a tree: what `application/vnd.kubernetes.protobuf`
//! bodies hold, read by the field numbers of a shape.
//!
//! The tree is as raw as JSON that was just parsed; [`crate::ResourceSpec::conform`]
//! makes it canonical. Fields without a number in the shape are skipped, since
//! that is how protobuf clients of another version are read.

use api_object::time;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{Field, Holds, Schema, ShapeId, ShapeRef, Type};

/// What every body starts with, before a `runtime.Unknown`.
const MAGIC: &[u8] = b"k8s\0";
/// Deeper nesting is no object of ours.
const DEPTH_MAX: usize = 64;

impl ShapeRef {
    /// Decodes a body with its envelope; kind and apiVersion are the envelope's.
    ///
    /// # Errors
    /// Where the bytes are cut short, have another encoding inside, or a field
    /// has another wire type than the shape's.
    pub fn decode_protobuf(&self, bytes: &[u8]) -> Result<Value, String> {
        let bytes = bytes.strip_prefix(MAGIC).ok_or("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")?;
        let mut raw: &[u8] = &[];
        let (mut api_version, mut kind) = (String::new(), String::new());
        each(bytes, |number, wire| {
            match number {
                1 => each(wire.bytes()?, |number, wire| {
                    match number {
                        1 => api_version = text(wire.bytes()?)?,
                        2 => kind = text(wire.bytes()?)?,
                        _ => {}
                    }
                    Ok(())
                })?,
                2 => raw = wire.bytes()?,
                3 if !wire.bytes()?.is_empty() => {
                    return Err("an encoded content of a protobuf body is not read".into());
                }
                _ => {}
            }
            Ok(())
        })?;
        let mut object = Map::new();
        message(&self.schema, self.id, &[], raw, &mut object, DEPTH_MAX)?;
        object.insert("apiVersion".into(), api_version.into());
        object.insert("kind".into(), kind.into());
        Ok(Value::Object(object))
    }
}

/// A field's value on the wire.
#[derive(Clone, Copy)]
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    fn bytes(self) -> Result<&'a [u8], String> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err("proto: wrong wireType, expected length-delimited".into()),
        }
    }

    fn varint(self) -> Result<u64, String> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err("proto: wrong wireType, expected varint".into()),
        }
    }
}

/// Calls `field` with the number and the value of every field of a message.
fn each<'a>(
    mut bytes: &'a [u8],
    mut field: impl FnMut(u32, Wire<'a>) -> Result<(), String>,
) -> Result<(), String> {
    const CUT: &str = "unexpected EOF";
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let number = u32::try_from(tag >> 3).map_err(|_| "proto: illegal tag")?;
        let mut take = |count: usize| -> Result<&'a [u8], String> {
            let (taken, rest) = bytes.split_at_checked(count).ok_or(CUT)?;
            bytes = rest;
            Ok(taken)
        };
        let wire = match tag & 7 {
            0 => Wire::Varint(varint(&mut bytes)?),
            1 => {
                let taken = take(8)?.try_into().map_err(|_| CUT)?;
                Wire::Fixed64(u64::from_le_bytes(taken))
            }
            2 => {
                let length = varint(&mut bytes)?;
                let length = usize::try_from(length).map_err(|_| CUT)?;
                let (taken, rest) = bytes.split_at_checked(length).ok_or(CUT)?;
                bytes = rest;
                Wire::Bytes(taken)
            }
            5 => {
                let taken = take(4)?.try_into().map_err(|_| CUT)?;
                Wire::Fixed32(u32::from_le_bytes(taken))
            }
            other => return Err(format!("proto: illegal wireType {other}")),
        };
        field(number, wire)?;
    }
    Ok(())
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or("unexpected EOF")?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("proto: integer overflow".into())
}

fn text(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "proto: text is no UTF-8".into())
}

/// Reads a message into `out`. `around` are the numbers of the messages of
/// embedded structs that this one is inside of.
fn message(
    schema: &Schema,
    id: ShapeId,
    around: &[u8],
    bytes: &[u8],
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), String> {
    let depth = depth.checked_sub(1).ok_or("proto: nested too deeply")?;
    each(bytes, |number, wire| {
        let here = |field: &&Field| {
            let within = field.within.iter().take_while(|outer| **outer != 0).count();
            within == around.len() && field.within[..within] == *around
        };
        if let Some(field) = schema
            .fields(id)
            .iter()
            .filter(here)
            .find(|field| field.number != 0 && u32::from(field.number) == number)
        {
            return read(schema, field, wire, out, depth);
        }
        let deeper = schema.fields(id).iter().any(|field| {
            field.within.len() > around.len()
                && field.within[..around.len()] == *around
                && u32::from(field.within[around.len()]) == number
                && number != 0
        });
        if deeper && let Ok(outer) = u8::try_from(number) {
            let around: Vec<u8> = around.iter().copied().chain([outer]).collect();
            return message(schema, id, &around, wire.bytes()?, out, depth);
        }
        Ok(())
    })
}

/// Reads one field's value; lists and maps grow by one.
fn read(
    schema: &Schema,
    field: &Field,
    wire: Wire<'_>,
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), String> {
    let name = schema.field_name(field);
    match field.holds {
        Holds::One | Holds::Pointer => {
            let value = value(schema, field.ty, wire, depth)?;
            if !value.is_null() {
                out.insert(name.to_owned(), value);
            }
        }
        Holds::List => {
            let list = out.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(list) = list else { return Ok(()) };
            match (field.ty, wire) {
                // Numbers may come packed.
                (Type::Int32 | Type::Int64 | Type::Bool, Wire::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        let one = Wire::Varint(varint(&mut packed)?);
                        list.push(value(schema, field.ty, one, depth)?);
                    }
                }
                _ => list.push(value(schema, field.ty, wire, depth)?),
            }
        }
        Holds::Map => {
            let (mut key, mut entry) = (String::new(), None);
            each(wire.bytes()?, |number, wire| {
                match number {
                    1 => key = text(wire.bytes()?)?,
                    2 => entry = Some(value(schema, field.ty, wire, depth)?),
                    _ => {}
                }
                Ok(())
            })?;
            let map = out.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(map) = map {
                map.insert(key, entry.unwrap_or_else(|| zero(field.ty)));
            }
        }
    }
    Ok(())
}

/// What a map's entry without a value holds.
fn zero(ty: Type) -> Value {
    match ty {
        Type::String | Type::Bytes | Type::Quantity | Type::Duration => "".into(),
        Type::Bool => false.into(),
        Type::Int32 | Type::Int64 | Type::Float64 | Type::IntOrString => 0.into(),
        Type::Strings => Value::Array(Vec::new()),
        Type::Any | Type::Time | Type::MicroTime => Value::Null,
        Type::Object | Type::Struct(_) => Value::Object(Map::new()),
    }
}

fn value(schema: &Schema, ty: Type, wire: Wire<'_>, depth: usize) -> Result<Value, String> {
    Ok(match ty {
        Type::String => text(wire.bytes()?)?.into(),
        Type::Bool => (wire.varint()? != 0).into(),
        Type::Int32 => i64::from(wire.varint()?.cast_signed() as i32).into(),
        Type::Int64 => wire.varint()?.cast_signed().into(),
        Type::Float64 => match wire {
            Wire::Fixed64(bits) => f64::from_bits(bits).into(),
            Wire::Fixed32(bits) => f64::from(f32::from_bits(bits)).into(),
            _ => return Err("proto: wrong wireType, expected 64 bits".into()),
        },
        Type::Bytes => STANDARD.encode(wire.bytes()?).into(),
        Type::Strings => {
            let mut list = Vec::new();
            each(wire.bytes()?, |number, wire| {
                if number == 1 {
                    list.push(Value::from(text(wire.bytes()?)?));
                }
                Ok(())
            })?;
            list.into()
        }
        Type::Any | Type::Object => {
            let mut raw: &[u8] = &[];
            each(wire.bytes()?, |number, wire| {
                if number == 1 {
                    raw = wire.bytes()?;
                }
                Ok(())
            })?;
            match raw {
                [] => Value::Null,
                raw => serde_json::from_slice(raw).map_err(|error| error.to_string())?,
            }
        }
        Type::Quantity => {
            let mut amount = String::new();
            each(wire.bytes()?, |number, wire| {
                if number == 1 {
                    amount = text(wire.bytes()?)?;
                }
                Ok(())
            })?;
            amount.into()
        }
        Type::IntOrString => {
            let (mut is_text, mut number_value, mut text_value) = (false, 0i64, String::new());
            each(wire.bytes()?, |number, wire| {
                match number {
                    1 => is_text = wire.varint()? == 1,
                    2 => number_value = i64::from(wire.varint()?.cast_signed() as i32),
                    3 => text_value = text(wire.bytes()?)?,
                    _ => {}
                }
                Ok(())
            })?;
            if is_text { text_value.into() } else { number_value.into() }
        }
        Type::Time | Type::MicroTime => {
            let (bytes, mut seconds, mut nanos) = (wire.bytes()?, 0i64, 0i64);
            if bytes.is_empty() {
                return Ok(Value::Null);
            }
            each(bytes, |number, wire| {
                match number {
                    1 => seconds = wire.varint()?.cast_signed(),
                    2 => nanos = wire.varint()?.cast_signed(),
                    _ => {}
                }
                Ok(())
            })?;
            let nanos = i32::try_from(nanos).map_err(|_| "proto: a time out of range")?;
            let at = Timestamp::new(seconds, nanos).map_err(|_| "proto: a time out of range")?;
            match ty {
                Type::Time => time::format_seconds(at).into(),
                _ => time::format_micros(at).into(),
            }
        }
        Type::Duration => {
            let mut nanos = 0;
            each(wire.bytes()?, |number, wire| {
                if number == 1 {
                    nanos = wire.varint()?.cast_signed();
                }
                Ok(())
            })?;
            format!("{nanos}ns").into()
        }
        Type::Struct(id) => {
            let mut fields = Map::new();
            message(schema, id, &[], wire.bytes()?, &mut fields, depth)?;
            fields.into()
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn shape() -> ShapeRef {
        let schema = Arc::new(Schema {
            text: "".into(),
            shapes: Vec::new(),
            fields: Vec::new(),
            rules: Vec::new(),
            by_name: Vec::new(),
        });
        ShapeRef { schema, id: ShapeId(0) }
    }

    #[test]
    fn only_the_envelope_is_read() {
        assert!(shape().decode_protobuf(b"{}").is_err());
        assert!(shape().decode_protobuf(b"k8s\0\x0a\xff").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = each(&bytes, |_, wire| wire.bytes().map(drop));
        }
    }
}

//! From protobuf to a tree.
//!
//! The tree is as raw as JSON that was just parsed; [`crate::ResourceSpec::conform`]
//! makes it canonical. Fields without a number in the shape are skipped, since
//! that is how protobuf clients of another version are read.

use std::cell::Cell;

use api_object::time;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    DEPTH_MAX, MAGIC, VALUES_MAX,
    wire::{Wire, each, text, varint},
};
use crate::{Field, Holds, Schema, ShapeId, ShapeRef, Type, decode::conform};

impl ShapeRef {
    /// Decodes a body with its envelope; kind and apiVersion are the envelope's.
    ///
    /// # Errors
    /// Where the bytes are cut short, have another encoding inside, a field has
    /// another wire type than the shape's, or there are more than [`VALUES_MAX`]
    /// values.
    pub fn decode_protobuf(&self, bytes: &[u8]) -> Result<Value, String> {
        let bytes = bytes.strip_prefix(MAGIC).ok_or("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")?;
        let mut raw: &[u8] = &[];
        let (mut api_version, mut kind) = ("", "");
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
        let room = Room { schema: &self.schema, values_left: Cell::new(VALUES_MAX) };
        message(&room, self.id, &[], raw, &mut object, DEPTH_MAX)?;
        object.insert("apiVersion".into(), api_version.into());
        object.insert("kind".into(), kind.into());
        Ok(Value::Object(object))
    }
}

/// What is read along, and how much more of it there may be.
struct Room<'s> {
    schema: &'s Schema,
    values_left: Cell<usize>,
}

impl Room<'_> {
    fn take(&self) -> Result<(), String> {
        let left = self.values_left.get().checked_sub(1);
        let left = left.ok_or_else(|| format!("proto: more than {VALUES_MAX} values"))?;
        self.values_left.set(left);
        Ok(())
    }
}

/// Reads a message into `out`. `around` are the numbers of the messages of
/// embedded structs that this one is inside of.
fn message(
    room: &Room<'_>,
    id: ShapeId,
    around: &[u8],
    bytes: &[u8],
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), String> {
    let schema = room.schema;
    let depth = deeper(depth)?;
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
            return read(room, field, wire, out, depth);
        }
        let embedded = schema.fields(id).iter().any(|field| {
            field.within.len() > around.len()
                && field.within[..around.len()] == *around
                && u32::from(field.within[around.len()]) == number
                && number != 0
        });
        if embedded && let Ok(outer) = u8::try_from(number) {
            let around: Vec<u8> = around.iter().copied().chain([outer]).collect();
            return message(room, id, &around, wire.bytes()?, out, depth);
        }
        Ok(())
    })
}

/// Reads one field's value; lists and maps grow by one.
fn read(
    room: &Room<'_>,
    field: &Field,
    wire: Wire<'_>,
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), String> {
    let name = room.schema.field_name(field);
    match field.holds {
        Holds::One | Holds::Pointer => {
            let value = element(room, field, wire, depth)?;
            if !value.is_null() {
                out.insert(name.to_owned(), value);
            }
        }
        Holds::List => {
            let depth = deeper(depth)?;
            let list = out.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(list) = list else { return Ok(()) };
            match (field.ty, wire) {
                // Numbers may come packed.
                (Type::Int32 | Type::Int64 | Type::Bool, Wire::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        let one = Wire::Varint(varint(&mut packed)?);
                        list.push(element(room, field, one, depth)?);
                    }
                }
                _ => list.push(element(room, field, wire, depth)?),
            }
        }
        Holds::Map => {
            let depth = deeper(depth)?;
            let (mut key, mut entry) = (String::new(), None);
            each(wire.bytes()?, |number, wire| {
                match number {
                    1 => key = text(wire.bytes()?)?.to_owned(),
                    2 => entry = Some(element(room, field, wire, depth)?),
                    _ => {}
                }
                Ok(())
            })?;
            let map = out.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(map) = map {
                if entry.is_none() {
                    room.take()?;
                }
                map.insert(key, entry.unwrap_or_else(|| zero(field.ty)));
            }
        }
    }
    Ok(())
}

/// A level less to go. Lists and maps count as messages do: each is a level of
/// the JSON that is stored.
fn deeper(depth: usize) -> Result<usize, String> {
    depth.checked_sub(1).ok_or_else(|| "proto: nested too deeply".into())
}

/// A field's value, or one of its elements.
fn element(room: &Room<'_>, field: &Field, wire: Wire<'_>, depth: usize) -> Result<Value, String> {
    room.take()?;
    let schema = room.schema;
    let Some(union) = schema.union_of(field) else { return value(room, field.ty, wire, depth) };
    let mut forms = Map::new();
    message(room, union, &[], wire.bytes()?, &mut forms, depth)?;
    // An object says more than the flag beside it, and so does a list.
    let form = schema.fields(union).iter().filter(|field| field.ty != Type::Bool);
    let form = form.chain(schema.fields(union)).find_map(|form| {
        let name = schema.field_name(form);
        Some((form.ty, forms.remove(name)?))
    });
    // Nobody looks into such JSON later, so it is made canonical here.
    let canonical = |ty, form| match ty {
        Type::Struct(id) => conform(schema, id, form).map(|(form, _)| form),
        _ => Ok(form),
    };
    match form {
        None => Ok(Value::Null),
        Some((ty, Value::Array(list))) => {
            list.into_iter().map(|form| canonical(ty, form)).collect()
        }
        Some((ty, form)) => canonical(ty, form),
    }
}

/// What a map's entry without a value holds.
fn zero(ty: Type) -> Value {
    match ty {
        Type::String | Type::Bytes | Type::Quantity | Type::Duration => "".into(),
        Type::Bool => false.into(),
        Type::Int32 | Type::Int64 | Type::Float64 | Type::IntOrString => 0.into(),
        Type::Strings => Value::Array(Vec::new()),
        Type::Any | Type::Nested(_) | Type::Time | Type::MicroTime => Value::Null,
        Type::Object | Type::Struct(_) => Value::Object(Map::new()),
    }
}

/// A float as JSON writes it: without a fraction where it has none.
fn number(float: f64) -> Value {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match float {
        whole if whole.fract() == 0.0 && whole.abs() <= EXACT_MAX => (whole as i64).into(),
        float => float.into(),
    }
}

fn value(room: &Room<'_>, ty: Type, wire: Wire<'_>, depth: usize) -> Result<Value, String> {
    Ok(match ty {
        Type::String => text(wire.bytes()?)?.into(),
        Type::Bool => (wire.varint()? != 0).into(),
        Type::Int32 => i64::from(wire.varint()?.cast_signed() as i32).into(),
        Type::Int64 => wire.varint()?.cast_signed().into(),
        Type::Float64 => match wire {
            Wire::Fixed64(bits) => number(f64::from_bits(bits)),
            Wire::Fixed32(bits) => number(f64::from(f32::from_bits(bits))),
            _ => return Err("proto: wrong wireType, expected 64 bits".into()),
        },
        Type::Bytes => STANDARD.encode(wire.bytes()?).into(),
        Type::Strings => {
            let mut list = Vec::new();
            each(wire.bytes()?, |number, wire| {
                if number == 1 {
                    room.take()?;
                    list.push(Value::from(text(wire.bytes()?)?));
                }
                Ok(())
            })?;
            list.into()
        }
        Type::Any | Type::Nested(_) | Type::Object => {
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
                    amount = text(wire.bytes()?)?.to_owned();
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
                    3 => text_value = text(wire.bytes()?)?.to_owned(),
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
            time::format_duration(nanos).into()
        }
        Type::Struct(id) => {
            let mut fields = Map::new();
            message(room, id, &[], wire.bytes()?, &mut fields, depth)?;
            fields.into()
        }
    })
}

//! From JSON to protobuf: one walk over the bytes (or a tree), no tree between.
//!
//! JSON's fields come in the order of their names, protobuf's go out in that of
//! their numbers. So the fields of a message are written as they come and put
//! in order when the message ends, which is one copy of a few hundred bytes.

use std::fmt;

use bytes::Bytes;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    DEPTH_MAX, body, list_body,
    scalar::{Element, Text},
    wire::{bytes_field, bytes_field_head, close, fixed64_field, open, varint_field},
};
use crate::{Field, Holds, Schema, ShapeId, ShapeRef, Type};

/// The pieces of a list are cut where they reach this size.
const PIECE_BYTES: usize = 32 * 1024;

impl ShapeRef {
    /// An object's JSON as a body: its message in an envelope that names its
    /// kind and version. The JSON is as this server writes it, with maps in the
    /// order of their keys.
    ///
    /// # Errors
    /// Where the bytes are no JSON of this shape.
    pub fn encode_protobuf(&self, json: &[u8]) -> Result<Vec<u8>, String> {
        let mut encoder = Encoder::new(&self.schema);
        encoder.message(self.id, json)?;
        Ok(body(&encoder.api_version, &encoder.kind, &encoder.out))
    }

    /// The same with another kind than the JSON's: its metadata alone, as
    /// `PartialObjectMetadata`.
    ///
    /// # Errors
    /// Where the bytes are no JSON of this shape.
    pub fn encode_protobuf_as(
        &self,
        api_version: &str,
        kind: &str,
        json: &[u8],
    ) -> Result<Vec<u8>, String> {
        let mut encoder = Encoder::new(&self.schema);
        encoder.message(self.id, json)?;
        Ok(body(api_version, kind, &encoder.out))
    }

    /// A list as the pieces of its body: of `kind` and `api_version`, with a
    /// `ListMeta`, and items of this shape, all in JSON. Every kind of list has
    /// the two under the numbers 1 and 2.
    ///
    /// # Errors
    /// Where an item is no JSON of this shape, or the schema has no `ListMeta`.
    pub fn encode_protobuf_list(
        &self,
        api_version: &str,
        kind: &str,
        meta: &[u8],
        items: &[Bytes],
    ) -> Result<Vec<Bytes>, String> {
        let list_meta = self.schema.find("meta/v1.ListMeta").ok_or("no shape of a ListMeta")?;
        let mut encoder = Encoder::new(&self.schema);
        let mut pieces = Vec::new();
        let start = open(&mut encoder.out, 1);
        encoder.message(list_meta, meta)?;
        close(&mut encoder.out, start);
        for item in items {
            let start = open(&mut encoder.out, 2);
            encoder.message(self.id, item)?;
            close(&mut encoder.out, start);
            if encoder.out.len() >= PIECE_BYTES {
                let room = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
                pieces.push(std::mem::replace(&mut encoder.out, room).into());
            }
        }
        pieces.push(encoder.out.into());
        Ok(list_body(api_version, kind, pieces))
    }
}

/// What is written, and where the fields of unfinished messages are in it.
pub(super) struct Encoder<'s> {
    pub(super) schema: &'s Schema,
    pub(super) out: Vec<u8>,
    parts: Vec<Part>,
    unsorted: Vec<u8>,
    /// A tree is read, inside of an object's text.
    pub(super) from_tree: bool,
    api_version: String,
    kind: String,
}

/// Where a field is written: `start..end` of the output.
#[derive(Clone, Copy)]
struct Part {
    /// Its number, after those of the messages of embedded structs around it.
    numbers: [u16; 3],
    start: usize,
    end: usize,
}

impl Part {
    fn of(field: &Field, start: usize, end: usize) -> Self {
        let numbers = match field.within.map(u16::from) {
            [0, _] => [field.number, 0, 0],
            [outer, 0] => [outer, field.number, 0],
            [outer, inner] => [outer, inner, field.number],
        };
        Self { numbers, start, end }
    }

    /// Nothing, inside the messages that a field is inside of.
    fn around(field: &Field, at: usize) -> Self {
        let [outer, inner] = field.within.map(u16::from);
        Self { numbers: [outer, inner, 0], start: at, end: at }
    }
}

impl<'s> Encoder<'s> {
    fn new(schema: &'s Schema) -> Self {
        Self {
            schema,
            out: Vec::new(),
            parts: Vec::new(),
            unsorted: Vec::new(),
            from_tree: false,
            api_version: String::new(),
            kind: String::new(),
        }
    }

    fn message(&mut self, id: ShapeId, json: &[u8]) -> Result<(), String> {
        // Looked at once: the parser need not for each text.
        let text = std::str::from_utf8(json).map_err(|error| error.to_string())?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let message = Message { encoder: self, id, outermost: true };
        deserializer
            .deserialize_map(message)
            .and_then(|()| deserializer.end())
            .map_err(|error| error.to_string())
    }

    /// What upstream writes for a value that was not set.
    pub(super) fn zero(&mut self, number: u16, ty: Type, depth: usize) -> Result<(), String> {
        let out = &mut self.out;
        match ty {
            Type::Bool | Type::Int32 | Type::Int64 => varint_field(out, number, 0),
            Type::Float64 => fixed64_field(out, number, 0),
            Type::String => bytes_field(out, number, b""),
            Type::Bytes => {}
            Type::Quantity => bytes_field(out, number, b"\x0a\x010"),
            Type::IntOrString => bytes_field(out, number, b"\x08\0\x10\0\x1a\0"),
            Type::Duration => bytes_field(out, number, b"\x08\0"),
            Type::Strings
            | Type::Any
            | Type::Nested(_)
            | Type::Object
            | Type::Time
            | Type::MicroTime => {
                bytes_field(out, number, b"");
            }
            Type::Struct(id) => {
                let depth = depth.checked_sub(1).ok_or("a struct holds itself")?;
                let start = open(out, number);
                let first = self.parts.len();
                self.fill(id, |_| false, depth)?;
                self.arrange(start, first);
                close(&mut self.out, start);
            }
        }
        Ok(())
    }

    /// Writes an element that was null and is there all the same.
    fn fill_gap(&mut self, before: usize, number: u16, ty: Type) -> Result<(), String> {
        match self.out.len() == before {
            true => self.zero(number, ty, DEPTH_MAX),
            false => Ok(()),
        }
    }

    /// Writes the fields of a message that are written though nothing was set.
    fn fill(
        &mut self,
        id: ShapeId,
        seen: impl Fn(usize) -> bool,
        depth: usize,
    ) -> Result<(), String> {
        let schema = self.schema;
        let mut around = [0; 2];
        for (at, field) in schema.fields(id).iter().enumerate() {
            if field.number == 0 || seen(at) {
                continue;
            }
            let start = self.out.len();
            if field.within[0] != 0 && field.within != around {
                around = field.within;
                self.parts.push(Part::around(field, start));
            }
            if field.holds == Holds::One {
                self.zero(field.number, field.ty, depth)?;
                if self.out.len() > start {
                    self.parts.push(Part::of(field, start, self.out.len()));
                }
            }
        }
        Ok(())
    }

    /// Ends the message that began at `start` of the output: its fields, which
    /// are the parts from `first` on, in their order and in their messages.
    fn arrange(&mut self, start: usize, first: usize) {
        let parts = &mut self.parts[first..];
        let flat = parts.iter().all(|part| part.numbers[1] == 0);
        if flat && parts.is_sorted_by_key(|part| part.numbers) {
            self.parts.truncate(first);
            return;
        }
        parts.sort_by_key(|part| part.numbers);
        self.unsorted.clear();
        self.unsorted.extend_from_slice(&self.out[start..]);
        self.out.truncate(start);
        let from = &self.unsorted;
        put(&mut self.out, parts, 0, &|part| &from[part.start - start..part.end - start]);
        self.parts.truncate(first);
    }
}

/// Writes sorted parts, with those that share a message at this level inside it.
fn put<'a>(out: &mut Vec<u8>, parts: &[Part], level: usize, bytes: &impl Fn(&Part) -> &'a [u8]) {
    for run in parts.chunk_by(|a, b| a.numbers[level] == b.numbers[level]) {
        let inside = level < 2 && run.iter().any(|part| part.numbers[level + 1] != 0);
        let number = run[0].numbers[level];
        if inside || (number != 0 && run.iter().all(|part| part.start == part.end)) {
            let start = open(out, number);
            put(out, run, (level + 1).min(2), bytes);
            close(out, start);
        } else {
            run.iter().for_each(|part| out.extend_from_slice(bytes(part)));
        }
    }
}

/// A message about to be read from a JSON object.
pub(super) struct Message<'e, 's> {
    pub(super) encoder: &'e mut Encoder<'s>,
    pub(super) id: ShapeId,
    /// Whether kind and version are the envelope's.
    pub(super) outermost: bool,
}

impl<'de> Visitor<'de> for Message<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Self { encoder, id, outermost } = self;
        let schema = encoder.schema;
        let fields = schema.fields(id);
        let (start, first) = (encoder.out.len(), encoder.parts.len());
        let mut seen: u128 = 0;
        while let Some(at) = access.next_key_seed(Name { schema, id })? {
            let Some(field) = at.map(|at| &fields[at]) else {
                access.next_value::<IgnoredAny>()?;
                continue;
            };
            if field.number == 0 {
                match schema.field_name(field) {
                    "kind" if outermost => encoder.kind = access.next_value()?,
                    "apiVersion" if outermost => encoder.api_version = access.next_value()?,
                    _ => drop(access.next_value::<IgnoredAny>()?),
                }
                continue;
            }
            let begin = encoder.out.len();
            access.next_value_seed(Slot { encoder: &mut *encoder, field })?;
            if encoder.out.len() > begin {
                seen |= at.and_then(|at| 1u128.checked_shl(at as u32)).unwrap_or(0);
                encoder.parts.push(Part::of(field, begin, encoder.out.len()));
            }
        }
        let seen = |at| seen.checked_shr(at as u32).is_some_and(|seen| seen & 1 != 0);
        encoder.fill(id, seen, DEPTH_MAX).map_err(de::Error::custom)?;
        encoder.arrange(start, first);
        Ok(())
    }
}

/// The place of the field that a key names.
struct Name<'s> {
    schema: &'s Schema,
    id: ShapeId,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.schema.position(self.id, name))
    }
}

/// A field about to be read.
struct Slot<'e, 's> {
    encoder: &'e mut Encoder<'s>,
    field: &'s Field,
}

impl<'de> DeserializeSeed<'de> for Slot<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { encoder, field } = self;
        match field.holds {
            Holds::One | Holds::Pointer => Element::of(encoder, field).deserialize(deserializer),
            Holds::List | Holds::Map => deserializer.deserialize_any(Self { encoder, field }),
        }
    }
}

impl<'de> Visitor<'de> for Slot<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.field.holds == Holds::List { "a list" } else { "a map" })
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.field.holds != Holds::List {
            return Err(de::Error::invalid_type(de::Unexpected::Seq, &self));
        }
        let Self { encoder, field } = self;
        loop {
            let before = encoder.out.len();
            if seq.next_element_seed(Element::of(&mut *encoder, field))?.is_none() {
                return Ok(());
            }
            encoder.fill_gap(before, field.number, field.ty).map_err(de::Error::custom)?;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.field.holds != Holds::Map {
            return Err(de::Error::invalid_type(de::Unexpected::Map, &self));
        }
        let Self { encoder, field } = self;
        // Each entry is a message with the key under 1 and the value under 2.
        loop {
            let before = encoder.out.len();
            let start = open(&mut encoder.out, field.number);
            if map.next_key_seed(Text { out: &mut encoder.out, number: 1 })?.is_none() {
                encoder.out.truncate(before);
                return Ok(());
            }
            let before = encoder.out.len();
            map.next_value_seed(Element { number: 2, ..Element::of(&mut *encoder, field) })?;
            encoder.fill_gap(before, 2, field.ty).map_err(de::Error::custom)?;
            close(&mut encoder.out, start);
        }
    }
}

/// Text that holds JSON: `RawExtension`, `FieldsV1`, and the JSON of `apiextensions`.
/// It is a part of the text that is read, unless a tree is.
pub(super) fn raw<'de, D: Deserializer<'de>>(
    out: &mut Vec<u8>,
    number: u16,
    from_tree: bool,
    deserializer: D,
) -> Result<(), D::Error> {
    match from_tree {
        true => raw_text(out, number, Box::<RawValue>::deserialize(deserializer)?.get()),
        false => raw_text(out, number, <&RawValue>::deserialize(deserializer)?.get()),
    }
    Ok(())
}

fn raw_text(out: &mut Vec<u8>, number: u16, text: &str) {
    let text = text.as_bytes();
    if text != b"null" {
        let start = open(out, number);
        bytes_field_head(out, 1, text.len());
        out.extend_from_slice(text);
        close(out, start);
    }
}

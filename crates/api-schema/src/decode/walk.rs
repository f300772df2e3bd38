//! The walk over a JSON document along a shape: one visitor a value.

use std::fmt;

use api_object::{Quantity, time};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::{Field, Holds, Schema, ShapeId, Type};

/// Upstream stops collecting after this many.
const STRICT_FAULTS_MAX: usize = 100;

/// Whether upstream's `omitempty` leaves the value out.
fn is_empty(field: &Field, value: &Value) -> bool {
    match (field.holds, value) {
        (_, Value::Null) => true,
        (Holds::Pointer, _) => false,
        (Holds::One, Value::Object(_)) => false,
        (_, Value::Object(map)) => map.is_empty(),
        (_, Value::Array(list)) => list.is_empty(),
        (_, Value::String(text)) => match field.ty {
            // These encode themselves, so nothing is empty to the encoder.
            Type::Quantity | Type::IntOrString | Type::Duration => false,
            _ => text.is_empty(),
        },
        (_, Value::Bool(flag)) => !flag,
        (_, Value::Number(number)) => field.ty != Type::IntOrString && number.as_f64() == Some(0.0),
    }
}

/// What the walk has seen.
pub(super) struct Walk<'s> {
    schema: &'s Schema,
    strict: Vec<String>,
    /// The first wrong type; kept here since serde_json adds lines and columns.
    wrong: Option<String>,
}

/// Where the walk is: a list of steps on the stack.
#[derive(Clone, Copy)]
enum Step<'p> {
    Root,
    Name(&'p Step<'p>, &'p str),
    /// Of a map, which Go's errors do not name.
    Key(&'p Step<'p>, &'p str),
    Index(&'p Step<'p>, usize),
}

impl Step<'_> {
    /// With indexes as strict faults have it, without as Go's errors do.
    fn write(&self, out: &mut String, indexes: bool) {
        match self {
            Self::Root => {}
            Self::Key(parent, _) if !indexes => parent.write(out, indexes),
            Self::Name(parent, name) | Self::Key(parent, name) => {
                parent.write(out, indexes);
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
            }
            Self::Index(parent, index) => {
                parent.write(out, indexes);
                if indexes {
                    out.push_str(&format!("[{index}]"));
                }
            }
        }
    }

    fn shown(&self, indexes: bool) -> String {
        let mut out = String::new();
        self.write(&mut out, indexes);
        out
    }
}

impl<'s> Walk<'s> {
    pub(super) fn new(schema: &'s Schema) -> Self {
        Self { schema, strict: Vec::new(), wrong: None }
    }

    pub(super) fn root(&mut self, id: ShapeId) -> Slot<'_, 's, 'static> {
        Slot { walk: self, ty: Type::Struct(id), holds: Holds::One, step: &Step::Root, owner: id }
    }

    fn strict(&mut self, what: &str, step: &Step<'_>) {
        if self.strict.len() < STRICT_FAULTS_MAX {
            self.strict.push(format!("{what} field {:?}", step.shown(true)));
        }
    }

    pub(super) fn finish(
        self,
        result: Result<Value, serde_json::Error>,
    ) -> Result<(Value, Vec<String>), String> {
        match (result, self.wrong) {
            (_, Some(wrong)) => Err(wrong),
            (Ok(value), None) => Ok((value, self.strict)),
            (Err(error), None) => Err(error.to_string()),
        }
    }
}

/// A value about to be read.
pub(super) struct Slot<'w, 's, 'p> {
    walk: &'w mut Walk<'s>,
    ty: Type,
    holds: Holds,
    step: &'p Step<'p>,
    /// The innermost struct, which Go's messages name.
    owner: ShapeId,
}

impl Slot<'_, '_, '_> {
    fn wrong<E: de::Error>(self, got: &str) -> E {
        let path = self.step.shown(false);
        let wanted = self.type_name();
        let what = if path.is_empty() {
            format!("json: cannot unmarshal {got} into Go value of type {wanted}")
        } else {
            let owner = self.walk.schema.name(self.owner);
            let owner = owner.rsplit('.').next().unwrap_or(owner);
            format!(
                "json: cannot unmarshal {got} into Go struct field {owner}.{path} of type {wanted}"
            )
        };
        self.fail(what)
    }

    fn fail<E: de::Error>(self, what: String) -> E {
        self.walk.wrong.get_or_insert(what);
        E::custom("")
    }

    /// As Go would print the type.
    fn type_name(&self) -> String {
        let name = match self.ty {
            Type::String => "string",
            Type::Bool => "bool",
            Type::Int32 => "int32",
            Type::Int64 => "int64",
            Type::Float64 => "float64",
            Type::Bytes => "[]uint8",
            Type::Strings => "[]string",
            Type::Any | Type::Nested(_) => "interface {}",
            Type::Object => "runtime.RawExtension",
            Type::Quantity => "resource.Quantity",
            Type::IntOrString => "intstr.IntOrString",
            Type::Time => "v1.Time",
            Type::MicroTime => "v1.MicroTime",
            Type::Duration => "v1.Duration",
            Type::Struct(id) => {
                let name = self.walk.schema.name(id);
                name.rsplit('/').next().unwrap_or(name)
            }
        };
        match self.holds {
            Holds::List => format!("[]{name}"),
            Holds::Map => format!("map[string]{name}"),
            Holds::One | Holds::Pointer => name.to_owned(),
        }
    }

    fn scalar(&self) -> bool {
        matches!(self.holds, Holds::One | Holds::Pointer)
    }
}

impl<'de> DeserializeSeed<'de> for Slot<'_, '_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.ty {
            Type::Any | Type::Object | Type::Nested(_) if self.scalar() => {
                Value::deserialize(deserializer)
            }
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Slot<'_, '_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.type_name())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Value, E> {
        match self.ty {
            Type::Bool if self.scalar() => Ok(flag.into()),
            _ => Err(self.wrong("bool")),
        }
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
        let small = i32::try_from(number).is_ok();
        match self.ty {
            _ if !self.scalar() => Err(self.wrong("number")),
            Type::Int64 | Type::Float64 => Ok(number.into()),
            Type::Int32 | Type::IntOrString if small => Ok(number.into()),
            Type::Int32 | Type::IntOrString => Err(self.wrong(&format!("number {number}"))),
            Type::Quantity => self.visit_str(&number.to_string()),
            _ => Err(self.wrong("number")),
        }
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
        match i64::try_from(number) {
            Ok(number) => self.visit_i64(number),
            Err(_) if self.scalar() && self.ty == Type::Float64 => Ok(number.into()),
            Err(_) if self.scalar() && self.ty == Type::Quantity => {
                self.visit_str(&number.to_string())
            }
            Err(_) => Err(self.wrong(&format!("number {number}"))),
        }
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
        match self.ty {
            Type::Float64 if self.scalar() => Ok(number.into()),
            Type::Quantity if self.scalar() => self.visit_str(&number.to_string()),
            _ => Err(self.wrong(&format!("number {number}"))),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        if !self.scalar() {
            return Err(self.wrong("string"));
        }
        match self.ty {
            Type::String | Type::IntOrString | Type::Duration => Ok(text.into()),
            Type::Quantity => match Quantity::parse(text) {
                Ok(quantity) => Ok(quantity.to_string().into()),
                Err(error) => Err(self.fail(error.to_string())),
            },
            Type::Time | Type::MicroTime => match time::parse(text) {
                Some(at) if self.ty == Type::Time => Ok(time::format_seconds(at).into()),
                Some(at) => Ok(time::format_micros(at).into()),
                None => Err(self.fail(format!(
                    "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\""
                ))),
            },
            Type::Bytes => {
                // Line breaks are allowed, as in Go.
                let packed: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
                match STANDARD.decode(&packed) {
                    Ok(_) => Ok(packed.into()),
                    Err(base64::DecodeError::InvalidByte(at, _)) => {
                        Err(self.fail(format!("illegal base64 data at input byte {at}")))
                    }
                    Err(_) => Err(self.fail(format!(
                        "illegal base64 data at input byte {}",
                        packed.len() / 4 * 4
                    ))),
                }
            }
            _ => Err(self.wrong("string")),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let element = match (self.holds, self.ty) {
            (Holds::List, ty) => ty,
            (_, Type::Strings) => Type::String,
            _ => return Err(self.wrong("array")),
        };
        let mut list = Vec::new();
        loop {
            let step = Step::Index(self.step, list.len());
            let slot = Slot {
                walk: &mut *self.walk,
                ty: element,
                holds: Holds::One,
                step: &step,
                owner: self.owner,
            };
            match seq.next_element_seed(slot)? {
                Some(Value::Null) => list.push(self.walk.schema.zero(element)),
                Some(value) => list.push(value),
                None => return Ok(list.into()),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        match (self.holds, self.ty) {
            (Holds::Map, _) => self.map(map),
            (Holds::One | Holds::Pointer, Type::Struct(id)) => self.fields(id, map),
            _ => Err(self.wrong("object")),
        }
    }
}

impl<'de> Slot<'_, '_, '_> {
    fn map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let step = Step::Key(self.step, &key);
            if map.contains_key(&key) {
                self.walk.strict("duplicate", &step);
            }
            let slot = Slot {
                walk: &mut *self.walk,
                ty: self.ty,
                holds: Holds::One,
                step: &step,
                owner: self.owner,
            };
            let value = match access.next_value_seed(slot)? {
                Value::Null => self.walk.schema.zero(self.ty),
                value => value,
            };
            map.insert(key, value);
        }
        Ok(map.into())
    }

    fn fields<A: MapAccess<'de>>(self, id: ShapeId, mut access: A) -> Result<Value, A::Error> {
        let schema = self.walk.schema;
        let mut map = Map::new();
        // Duplicates of fields that are left out (null, empty) count too.
        let mut seen: u128 = 0;
        while let Some(key) = access.next_key::<String>()? {
            let step = Step::Name(self.step, &key);
            let fields = schema.fields(id);
            let Some(at) = fields.iter().position(|field| schema.field_name(field) == key) else {
                if schema.shape(id).preserve_unknown {
                    if map.contains_key(&key) {
                        self.walk.strict("duplicate", &step);
                    }
                    let value = access.next_value::<Value>()?;
                    map.insert(key, value);
                } else {
                    self.walk.strict("unknown", &step);
                    access.next_value::<de::IgnoredAny>()?;
                }
                continue;
            };
            let field = &fields[at];
            let bit = 1u128.checked_shl(at as u32).unwrap_or(0);
            if seen & bit != 0 {
                self.walk.strict("duplicate", &step);
            }
            seen |= bit;
            let slot = Slot {
                walk: &mut *self.walk,
                ty: field.ty,
                holds: field.holds,
                step: &step,
                owner: id,
            };
            let value = access.next_value_seed(slot)?;
            // What upstream's encoder would leave out is left out.
            if value.is_null() || (field.omit_empty && is_empty(field, &value)) {
                map.remove(&key);
            } else {
                map.insert(key, value);
            }
        }
        schema.fill(id, &mut map);
        Ok(map.into())
    }
}

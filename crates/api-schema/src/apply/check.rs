//! Whether a configuration fits its shape, in upstream's words, and its amounts
//! and times in the form in which they are stored: `1000m` cores are `1`.

use std::{collections::BTreeSet, fmt};

use api_object::{Quantity, time};
use serde_json::Value;

use super::{node::Node, path::Step};
use crate::{Field, Holds, Schema, ShapeId, Type, go_shown, go_shown::go_syntax};

/// Checks a configuration of a shape and brings its scalars into the stored form.
///
/// # Errors
/// Every fault, as one text.
pub(super) fn check(schema: &Schema, id: ShapeId, config: &mut Value) -> Result<(), String> {
    let mut check = Check { schema, faults: Vec::new() };
    check.fields(id, config, &Trail::Root);
    match check.faults.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("errors:\n  {}", many.join("\n  "))),
    }
}

/// Where the walk is, written out only for a fault.
enum Trail<'p> {
    Root,
    Name(&'p Trail<'p>, &'p str),
    Element(&'p Trail<'p>, &'p Step),
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Name(parent, name) => write!(f, "{parent}.{name}"),
            Self::Element(parent, step) => write!(f, "{parent}{step}"),
        }
    }
}

struct Check<'s> {
    schema: &'s Schema,
    faults: Vec<String>,
}

impl Check<'_> {
    fn fault(&mut self, path: &Trail<'_>, what: impl fmt::Display) {
        self.faults.push(match path {
            Trail::Root => what.to_string(),
            path => format!("{path}: {what}"),
        });
    }

    fn fields(&mut self, id: ShapeId, value: &mut Value, path: &Trail<'_>) {
        let map = match value {
            Value::Null => return,
            Value::Object(map) => map,
            other => {
                return self.fault(path, format!("expected map, got &{{{}}}", go_shown(other)));
            }
        };
        for (name, value) in map {
            let path = Trail::Name(path, name);
            match self.schema.field(id, name) {
                Some(field) => {
                    let field = *field;
                    self.field(&field, value, &path);
                }
                None if self.schema.shape(id).preserve_unknown => {}
                None => return self.fault(&path, "field not declared in schema"),
            }
        }
    }

    fn field(&mut self, field: &Field, value: &mut Value, path: &Trail<'_>) {
        match (field.holds, value) {
            (_, Value::Null) => {}
            (Holds::One | Holds::Pointer, value) => self.value(field.ty, value, path),
            (Holds::Map, Value::Object(map)) => {
                for (name, value) in map {
                    self.value(field.ty, value, &Trail::Name(path, name));
                }
            }
            (Holds::Map, other) => {
                self.fault(path, format!("expected map, got &{{{}}}", go_shown(other)));
            }
            (Holds::List, Value::Array(list)) => self.list(field, list, path),
            (Holds::List, other) => {
                self.fault(path, format!("expected list, got &{{{}}}", go_shown(other)));
            }
        }
    }

    fn list(&mut self, field: &Field, list: &mut [Value], path: &Trail<'_>) {
        let node = Node::of_field(self.schema, field);
        let mut seen = BTreeSet::new();
        for (index, element) in list.iter_mut().enumerate() {
            let step = match node {
                Node::Set(_) | Node::Keyed(..) => match node.step_of(self.schema, element) {
                    Ok(step) => step,
                    Err(why) => return self.fault(path, format!("element {index}: {why}")),
                },
                _ => Step::Index(i64::try_from(index).unwrap_or(i64::MAX)),
            };
            self.value(field.ty, element, &Trail::Element(path, &step));
            if let Some(step) = seen.replace(step) {
                self.fault(path, format!("duplicate entries for key {step}"));
            }
        }
    }

    fn value(&mut self, ty: Type, value: &mut Value, path: &Trail<'_>) {
        let stored = match (ty, &*value) {
            (_, Value::Null) | (Type::Any, _) => None,
            (Type::Struct(id), _) => return self.fields(id, value, path),
            (Type::Nested(id), _) => match self.schema.nested(id).copied() {
                Some(field) => return self.field(&field, value, path),
                None => None,
            },
            (Type::Object, Value::Object(_)) => None,
            (Type::Object, other) => {
                return self.fault(path, format!("expected map, got &{{{}}}", go_shown(other)));
            }
            (Type::Strings, Value::Array(_)) => None,
            (Type::Strings, other) => {
                return self.fault(path, format!("expected list, got &{{{}}}", go_shown(other)));
            }
            (Type::String | Type::Bytes, Value::String(_)) => None,
            (Type::String | Type::Bytes, other) => {
                let got = format!("&value.valueUnstructured{{Value:{}}}", go_syntax(other));
                return self.fault(path, format!("expected string, got {got}"));
            }
            (Type::Bool, Value::Bool(_)) => None,
            (Type::Bool, other) => {
                return self.fault(path, format!("expected boolean, got &{{{}}}", go_shown(other)));
            }
            (Type::Int32 | Type::Int64 | Type::Float64, Value::Number(_)) => None,
            (Type::Int32 | Type::Int64 | Type::Float64, other) => {
                let got = go_type(other);
                let what = format!("expected numeric (int or float), got {got}");
                return self.fault(path, what);
            }
            (_, other @ (Value::Object(_) | Value::Array(_))) => {
                return self
                    .fault(path, format!("expected any scalar, got &{{{}}}", go_shown(other)));
            }
            (Type::Quantity, Value::String(text)) => {
                Quantity::parse(text).ok().map(|q| q.to_string())
            }
            (Type::Quantity, Value::Number(number)) => {
                Quantity::parse(&number.to_string()).ok().map(|q| q.to_string())
            }
            (Type::Time, Value::String(text)) => time::parse(text).map(time::format_seconds),
            (Type::MicroTime, Value::String(text)) => time::parse(text).map(time::format_micros),
            _ => None,
        };
        // What does not parse is refused where the object is decoded.
        if let Some(stored) = stored {
            *value = stored.into();
        }
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

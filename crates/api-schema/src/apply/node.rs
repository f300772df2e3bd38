//! What a place in an object is to server-side apply.

use serde_json::Value;

use super::path::Step;
use crate::{Field, Holds, ListType, Schema, ShapeId, Type};

/// How the value at a place is shared between managers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Node {
    /// One owner: a scalar, or a list, map or struct that is atomic.
    Whole,
    /// Each field has its own owners.
    Struct(ShapeId),
    /// Each entry has its own owners, and each is such a value.
    Map(Type),
    /// A list of scalars, each with its own owners.
    Set(Type),
    /// A list of structs told apart by the keys of the field.
    Keyed(Field, ShapeId),
    /// No shape says: maps are granular all the way down, all else is whole.
    Deduced,
    /// A map whose entries are each whole: what a `RawExtension` holds.
    Entries,
}

impl Node {
    /// The value of a field.
    pub(super) fn of_field(schema: &Schema, field: &Field) -> Self {
        let atomic = field.list_type == ListType::Atomic;
        match (field.holds, field.ty) {
            (Holds::List, ty) => match (field.list_type, ty) {
                (ListType::Set, ty) => Self::Set(ty),
                (ListType::Map, Type::Struct(id)) => Self::Keyed(*field, id),
                _ => Self::Whole,
            },
            (Holds::Map, _) if atomic => Self::Whole,
            (Holds::Map, ty) => Self::Map(ty),
            (_, Type::Struct(_) | Type::Any | Type::Object) if atomic => Self::Whole,
            (_, ty) => Self::of_type(schema, ty),
        }
    }

    /// A value of a type: an entry of a map, an element of a list.
    pub(super) fn of_type(schema: &Schema, ty: Type) -> Self {
        match ty {
            Type::Struct(id) if schema.shape(id).atomic => Self::Whole,
            Type::Struct(id) => Self::Struct(id),
            Type::Nested(id) => {
                schema.nested(id).map_or(Self::Whole, |field| Self::of_field(schema, field))
            }
            Type::Any => Self::Deduced,
            Type::Object => Self::Entries,
            _ => Self::Whole,
        }
    }

    /// The value of an entry; `None` for a field that the struct does not have.
    /// The second part says that the name is a field of the struct.
    pub(super) fn entry(self, schema: &Schema, name: &str) -> Option<(Self, bool)> {
        match self {
            Self::Struct(id) => match schema.field(id, name) {
                Some(field) => Some((Self::of_field(schema, field), true)),
                None if schema.shape(id).preserve_unknown => Some((Self::Deduced, false)),
                None => None,
            },
            Self::Map(ty) => Some((Self::of_type(schema, ty), false)),
            Self::Entries => Some((Self::Whole, false)),
            Self::Deduced => Some((Self::Deduced, false)),
            Self::Whole | Self::Set(_) | Self::Keyed(..) => None,
        }
    }

    /// The value of an element of a list that is granular.
    pub(super) fn element(self, schema: &Schema) -> Self {
        match self {
            Self::Set(ty) => Self::of_type(schema, ty),
            Self::Keyed(_, id) => Self::of_type(schema, Type::Struct(id)),
            _ => Self::Whole,
        }
    }

    /// What the shape leaves open, settled by a value.
    pub(super) fn deduced(self, value: Option<&Value>) -> Self {
        match (self, value) {
            (Self::Deduced, Some(Value::Object(_)) | None) => Self::Deduced,
            (Self::Deduced, Some(_)) => Self::Whole,
            (node, _) => node,
        }
    }

    /// What tells an element of a granular list apart.
    ///
    /// # Errors
    /// Why nothing does.
    pub(super) fn step_of(self, schema: &Schema, element: &Value) -> Result<Step, String> {
        match self {
            Self::Keyed(field, id) => keyed(schema, &field, id, element),
            _ => match element {
                Value::Object(_) => {
                    Err("associative list without keys has an element that's a map type".into())
                }
                Value::Array(_) => {
                    Err("not supported: associative list with lists as elements".into())
                }
                Value::Null => {
                    Err("associative list without keys has an element that's an explicit null"
                        .into())
                }
                scalar => Ok(Step::Value(scalar.clone())),
            },
        }
    }
}

fn keyed(schema: &Schema, field: &Field, id: ShapeId, element: &Value) -> Result<Step, String> {
    let map = match element {
        Value::Object(map) => map,
        Value::Null => return Err("associative list with keys may not have a null element".into()),
        _ => return Err("associative list with keys may not have non-map elements".into()),
    };
    let mut key: Vec<(Box<str>, Value)> = Vec::with_capacity(2);
    for name in schema.keys(field) {
        if let Some(value) = map.get(name) {
            key.push((name.into(), value.clone()));
        } else if let Some(default) = default_of(schema, id, name) {
            key.push((name.into(), default));
        }
        // A key without value and default is not a part of what tells elements apart.
    }
    if key.is_empty() {
        let names: Vec<String> = schema.keys(field).map(|name| format!("{name:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            names.join(" ")
        ));
    }
    key.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Step::Key(key.into()))
}

fn default_of(schema: &Schema, id: ShapeId, name: &str) -> Option<Value> {
    let field = schema.field(id, name)?;
    match schema.default_text(field) {
        "" => None,
        text => serde_json::from_str(text).ok(),
    }
}

/// The elements of a granular list with what tells them apart; `None` for what
/// a stored list may hold though nothing does, which has no owners.
pub(super) fn elements<'v>(
    node: Node,
    schema: &Schema,
    list: Option<&'v Value>,
) -> Vec<(Option<Step>, &'v Value)> {
    let list = list.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    list.iter().map(|element| (node.step_of(schema, element).ok(), element)).collect()
}

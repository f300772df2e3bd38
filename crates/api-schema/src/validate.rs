//! What can be checked from the shape alone: values of closed enumerations.
//! What a field means is the business of the kind's hook.
//!
//! Required fields are left to the hooks: upstream says `Required value` in its
//! own order and with its own details, and never for status.

use serde_json::Value;

use crate::{Faults, Holds, Path, Schema, ShapeId, Type};

impl Schema {
    /// Faults of a tree against its shape. Empty text in an enumeration is left
    /// to the kind: it means "not set" there, and only the kind knows whether
    /// that is a fault.
    pub fn validate(&self, id: ShapeId, value: &Value, path: &Path<'_>, faults: &mut Faults) {
        let Value::Object(map) = value else { return };
        for field in self.fields(id) {
            let name = self.field_name(field);
            let Some(value) = map.get(name) else { continue };
            let path = path.child(name);
            match (field.holds, value, field.ty) {
                (Holds::One | Holds::Pointer, Value::Object(_), Type::Struct(inner)) => {
                    self.validate(inner, value, &path, faults);
                }
                (Holds::List, Value::Array(list), Type::Struct(inner)) => {
                    for (index, value) in list.iter().enumerate() {
                        self.validate(inner, value, &path.index(index), faults);
                    }
                }
                (Holds::Map, Value::Object(entries), Type::Struct(inner)) => {
                    for (key, value) in entries {
                        self.validate(inner, value, &path.key(key), faults);
                    }
                }
                (Holds::One | Holds::Pointer, Value::String(text), Type::String) => {
                    self.check_enum(field, text, &path, faults);
                }
                (Holds::List, Value::Array(list), Type::String) => {
                    for (index, value) in list.iter().enumerate() {
                        let text = value.as_str().unwrap_or_default();
                        self.check_enum(field, text, &path.index(index), faults);
                    }
                }
                _ => {}
            }
        }
    }

    fn check_enum(&self, field: &crate::Field, text: &str, path: &Path<'_>, faults: &mut Faults) {
        let mut values = self.values(field).peekable();
        if values.peek().is_some() && !text.is_empty() && !values.any(|value| value == text) {
            faults.unsupported(path, text, self.values(field));
        }
    }
}

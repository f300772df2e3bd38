//! Defaults that the table carries (`default=`): a field that is absent, or
//! empty where empty and absent are the same, takes its default wherever its
//! parent is there.

use serde_json::Value;

use crate::{Field, Holds, ResourceSpec, Schema, ShapeId, Type};

impl Schema {
    /// Fills the table's defaults into a tree. Running it again changes nothing.
    pub fn default(&self, id: ShapeId, value: &mut Value) {
        let Value::Object(map) = value else { return };
        for field in self.fields(id) {
            let name = self.field_name(field);
            let text = self.default_text(field);
            if !text.is_empty() && map.get(name).is_none_or(|value| unset(field, value)) {
                // A default that is the zero value is only written where a pointer tells them apart.
                match serde_json::from_str::<Value>(text) {
                    Ok(default) if field.holds == Holds::Pointer || !unset(field, &default) => {
                        map.insert(name.to_owned(), default);
                    }
                    _ => {}
                }
            }
            let Type::Struct(inner) = field.ty else { continue };
            match (field.holds, map.get_mut(name)) {
                (Holds::One | Holds::Pointer, Some(value)) => self.default(inner, value),
                (Holds::List, Some(Value::Array(list))) => {
                    list.iter_mut().for_each(|value| self.default(inner, value));
                }
                (Holds::Map, Some(Value::Object(entries))) => {
                    entries.values_mut().for_each(|value| self.default(inner, value));
                }
                _ => {}
            }
        }
    }
}

fn unset(field: &Field, value: &Value) -> bool {
    match value {
        Value::Null => true,
        _ if field.holds == Holds::Pointer => false,
        Value::String(text) => text.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

impl ResourceSpec {
    /// Fills in what is not said: the table's defaults, then the kind's own.
    pub fn default(&self, object: &mut Value) {
        if let Some(custom) = &self.custom {
            return custom.schema.default(object);
        }
        self.shape.schema.default(self.shape.id, object);
        (self.hooks.default)(self, object);
    }
}

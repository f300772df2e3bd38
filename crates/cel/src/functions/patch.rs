//! What mutations are written with: pieces of an object (`Object{…}`), and
//! operations of a JSON patch (`JSONPatch{…}`).

use std::sync::Arc;

use super::{Function, Library, Pattern::String as Str, function, global, no};
use crate::{cost::Cost, types::Type, value::Value};

pub(super) const FUNCTIONS: &[Function] = &[function(
    Library::Patch,
    "jsonpatch.escapeKey",
    &[global(&[Str], Str, Cost::Transform)],
    |args| match args {
        [Value::String(text)] => Ok(Value::text(text.replace('~', "~0").replace('/', "~1"))),
        _ => no(),
    },
)];

/// The type that is made by naming it, where there is one of this name.
pub(crate) fn message(name: &str, libraries: &[Library]) -> Option<Type> {
    let known = name == "JSONPatch" || name == "Object" || name.starts_with("Object.");
    (known && libraries.contains(&Library::Patch)).then(|| Type::Message(Arc::from(name)))
}

/// What a field of such a type is. Pieces of an object have any field.
pub(crate) fn field(message: &str, field: &str) -> Option<Type> {
    match (message, field) {
        ("JSONPatch", "op" | "path" | "from") => Some(Type::String),
        ("JSONPatch", "value") => Some(Type::Dyn),
        ("JSONPatch", _) => None,
        _ => Some(Type::Dyn),
    }
}

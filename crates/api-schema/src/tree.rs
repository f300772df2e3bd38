//! Reading a tree of JSON by dotted path, where absent, null and of another
//! type are all the same: nothing.

use serde_json::{Map, Value};

/// The value at `spec.template.metadata`; `Null` where there is none.
pub fn get<'a>(object: &'a Value, path: &str) -> &'a Value {
    static NOTHING: Value = Value::Null;
    let mut at = object;
    for segment in path.split('.') {
        match at.get(segment) {
            Some(value) => at = value,
            None => return &NOTHING,
        }
    }
    at
}

/// The text at a path; empty where there is none.
pub fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    get(object, path).as_str().unwrap_or_default()
}

/// The whole number at a path.
pub fn int(object: &Value, path: &str) -> Option<i64> {
    get(object, path).as_i64()
}

/// Whether the value at a path is `true`.
pub fn flag(object: &Value, path: &str) -> bool {
    get(object, path).as_bool().unwrap_or_default()
}

/// The elements of the list at a path.
pub fn list<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    get(object, path).as_array().map_or(&[], Vec::as_slice)
}

/// The entries of the map at a path.
pub fn entries<'a>(
    object: &'a Value,
    path: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    get(object, path).as_object().into_iter().flatten()
}

/// A scalar at a path as selectors compare it; empty where there is none.
pub fn scalar(object: &Value, path: &str) -> String {
    match get(object, path) {
        Value::String(text) => text.clone(),
        value @ (Value::Bool(_) | Value::Number(_)) => value.to_string(),
        _ => String::new(),
    }
}

/// The value as a map, made into an empty one where it is not.
pub fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// The value at a path, with empty maps made on the way; `Null` at first.
pub fn slot<'a>(object: &'a mut Value, path: &str) -> &'a mut Value {
    let mut at = object;
    for segment in path.split('.') {
        at = as_map(at).entry(segment).or_insert(Value::Null);
    }
    at
}

/// Puts a value at a path.
pub fn set(object: &mut Value, path: &str, value: impl Into<Value>) {
    *slot(object, path) = value.into();
}

/// Puts a value at a path where there is none (or null, or empty text).
pub fn set_if_unset(object: &mut Value, path: &str, value: impl Into<Value>) {
    let at = slot(object, path);
    if at.is_null() || at.as_str() == Some("") {
        *at = value.into();
    }
}

/// Takes the value at a path away.
pub fn remove(object: &mut Value, path: &str) -> Option<Value> {
    let (parent, last) = match path.rsplit_once('.') {
        Some((parent, last)) => (at_mut(object, parent)?, last),
        None => (object, path),
    };
    parent.as_object_mut()?.remove(last)
}

/// The value at a path, if there is one, to change.
pub fn at_mut<'a>(object: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(object, |at, segment| at.get_mut(segment))
}

/// The elements of the list at a path, to change.
pub fn list_mut<'a>(object: &'a mut Value, path: &str) -> &'a mut [Value] {
    at_mut(object, path).and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
}

/// Makes the value at a path the same as in another object, absent included.
pub fn copy(from: &Value, to: &mut Value, path: &str) {
    match get(from, path) {
        Value::Null => {
            remove(to, path);
        }
        value => set(to, path, value.clone()),
    }
}

/// Whether lists and maps are inside of each other more than so many times.
pub fn is_deeper(value: &Value, levels: usize) -> bool {
    let inside = |value| is_deeper(value, levels - 1);
    match value {
        Value::Object(map) => levels == 0 || map.values().any(inside),
        Value::Array(list) => levels == 0 || list.iter().any(inside),
        _ => false,
    }
}

//! An object without the fields of a set.

use serde_json::{Map, Value};

use super::{node::Node, path::Step, set::FieldSet};
use crate::Schema;

/// The value without what the set holds of it. A map or list that loses all it
/// had is empty afterwards.
pub(super) fn remove(schema: &Schema, node: Node, value: Value, set: &FieldSet) -> Value {
    match (node.deduced(Some(&value)), value) {
        (Node::Whole, value) => value,
        (node @ (Node::Set(_) | Node::Keyed(..)), Value::Array(list)) => {
            let kept = list.into_iter().filter_map(|element| {
                let found = node.step_of(schema, &element).ok().and_then(|step| set.find(&step));
                match found {
                    None => Some(element),
                    Some(entry) if entry.member => None,
                    Some(entry) => {
                        Some(remove(schema, node.element(schema), element, &entry.below))
                    }
                }
            });
            Value::Array(kept.collect())
        }
        (node, Value::Object(map)) => {
            let mut kept = Map::new();
            for (name, value) in map {
                let value = match set.find(&Step::field(&name)) {
                    None => value,
                    Some(entry) if entry.member => continue,
                    Some(entry) => match node.entry(schema, &name) {
                        Some((inner, _)) => remove(schema, inner, value, &entry.below),
                        None => value,
                    },
                };
                kept.insert(name, value);
            }
            Value::Object(kept)
        }
        (_, value) => value,
    }
}

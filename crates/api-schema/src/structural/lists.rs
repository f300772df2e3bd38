//! `x-kubernetes-list-type`: a set holds each value once, a map each key.

use serde_json::{Map, Value};

use super::Node;
use crate::{Faults, ListType, Path};

impl Node {
    /// Faults of lists that hold something twice.
    pub(crate) fn validate_lists(&self, value: &Value, path: &Path<'_>, faults: &mut Faults) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    match (self.property(name), self.entry(name)) {
                        (Some(node), _) => node.validate_lists(value, &path.child(name), faults),
                        (None, Some(node)) => node.validate_lists(value, &path.key(name), faults),
                        (None, None) => {}
                    }
                }
            }
            Value::Array(list) => {
                self.validate_list(list, path, faults);
                let Some(items) = &self.items else { return };
                for (index, value) in list.iter().enumerate() {
                    items.validate_lists(value, &path.index(index), faults);
                }
            }
            _ => {}
        }
    }

    fn validate_list(&self, list: &[Value], path: &Path<'_>, faults: &mut Faults) {
        match self.list_type {
            ListType::Set => {
                let mut told: Vec<&Value> = Vec::new();
                for (index, value) in list.iter().enumerate() {
                    if list[..index].contains(value) && !told.contains(&value) {
                        told.push(value);
                        faults.duplicate(&path.index(index), value.clone());
                    }
                }
            }
            ListType::Map => {
                let keys: Vec<_> = list.iter().map(|value| self.key_of(value)).collect();
                let mut told: Vec<&Map<String, Value>> = Vec::new();
                for (index, key) in keys.iter().enumerate() {
                    let Some(key) = key else { continue };
                    let before = keys[..index].iter().flatten().any(|known| known == key);
                    if before && !told.contains(&key) {
                        told.push(key);
                        faults.duplicate(&path.index(index), Value::Object(key.clone()));
                    }
                }
            }
            ListType::Unset | ListType::Atomic => {}
        }
    }

    /// The part of an element that tells it apart in a list of the type map;
    /// `None` for what is no object.
    pub(crate) fn key_of(&self, element: &Value) -> Option<Map<String, Value>> {
        let map = element.as_object()?;
        let present = self.list_keys.iter().filter_map(|key| {
            let value = map.get(&**key)?;
            Some((key.to_string(), value.clone()))
        });
        Some(present.collect())
    }
}

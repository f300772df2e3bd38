//! Defaults: an absent property takes its default where its parent is there,
//! and so does a null that is not allowed to be one.

use serde_json::Value;

use super::{Additional, Node};

impl Node {
    /// Fills in defaults, then drops nulls that are no values. Running it again
    /// changes nothing. Used for requests and for what comes from the store.
    pub fn default(&self, value: &mut Value) {
        self.fill(value);
        self.drop_nulls(value);
    }

    /// Whether null is no value here.
    fn is_wrong_null(&self, value: &Value) -> bool {
        value.is_null() && !self.nullable
    }

    fn replace_null(&self, value: &mut Value) {
        if self.is_wrong_null(value)
            && let Some(default) = &self.default
        {
            *value = default.clone();
        }
    }

    fn fill(&self, value: &mut Value) {
        match value {
            Value::Object(map) => {
                for (name, node) in &self.properties {
                    let Some(default) = &node.default else { continue };
                    if map.get(&**name).is_none_or(|value| node.is_wrong_null(value)) {
                        map.insert(name.to_string(), default.clone());
                    }
                }
                for (name, value) in map {
                    if let Some(node) = self.property(name) {
                        node.fill(value);
                    } else if let Additional::Node(node) = &self.additional {
                        node.replace_null(value);
                        node.fill(value);
                    }
                }
            }
            Value::Array(list) => {
                let Some(items) = &self.items else { return };
                for value in list {
                    items.replace_null(value);
                    items.fill(value);
                }
            }
            _ => {}
        }
    }

    fn drop_nulls(&self, value: &mut Value) {
        match value {
            Value::Object(map) => map.retain(|name, value| match self.entry(name) {
                Some(node) if node.is_wrong_null(value) => false,
                Some(node) => {
                    node.drop_nulls(value);
                    true
                }
                None => true,
            }),
            Value::Array(list) => {
                let Some(items) = &self.items else { return };
                list.iter_mut().for_each(|value| items.drop_nulls(value));
            }
            _ => {}
        }
    }
}

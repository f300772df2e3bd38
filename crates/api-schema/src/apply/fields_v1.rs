//! `FieldsV1`: a set of fields as JSON, an object a step and `.` for the place
//! itself where parts of it follow.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::{path::Step, set::FieldSet};

impl FieldSet {
    /// Reads a set from JSON.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let node: Node = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        Ok(node.below)
    }

    /// Reads a set from a tree.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_tree(tree: &Value) -> Result<Self, String> {
        Node::deserialize(tree).map(|node| node.below).map_err(|error| error.to_string())
    }

    /// Writes the set as compact JSON, in the order of steps.
    pub fn write(&self, out: &mut String) {
        self.write_node(false, out);
    }

    fn write_node(&self, member: bool, out: &mut String) {
        out.push('{');
        let mut first = true;
        if member && !self.is_empty() {
            out.push_str("\".\":{}");
            first = false;
        }
        let mut step = String::new();
        for entry in &self.entries {
            if !first {
                out.push(',');
            }
            first = false;
            step.clear();
            entry.step.write(&mut step);
            write_text(&step, out);
            out.push(':');
            entry.below.write_node(entry.member, out);
        }
        out.push('}');
    }
}

/// JSON text; most steps need no escapes.
fn write_text(text: &str, out: &mut String) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&Value::from(text).to_string());
    }
}

/// The value of a step.
#[derive(Default)]
struct Node {
    member: bool,
    below: FieldSet,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of fields")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut node = Node::default();
                while let Some(key) = map.next_key::<StepText<'_>>()? {
                    if key.0 == "." {
                        map.next_value::<Node>()?;
                        node.member = true;
                        continue;
                    }
                    let Some(step) = Step::parse(&key.0).map_err(A::Error::custom)? else {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    let inner: Node = map.next_value()?;
                    let member = inner.member || inner.below.is_empty();
                    node.below.push(step, member, inner.below);
                }
                Ok(node)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// Borrowed where nothing is escaped.
struct StepText<'a>(std::borrow::Cow<'a, str>);

impl<'de> Deserialize<'de> for StepText<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = StepText<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(StepText(text.into()))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(StepText(text.to_owned().into()))
            }
        }
        deserializer.deserialize_str(Words)
    }
}

//! Reads a stored object as a tree, but its managers as the text they are.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, value::RawValue};

use super::MANAGED;

/// The tree without `metadata.managedFields`, and those; empty for none.
///
/// # Errors
/// Where the bytes are no JSON object with metadata.
pub(super) fn split(bytes: &[u8]) -> Result<(Value, &str), serde_json::Error> {
    let mut managed = "";
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let tree = Part::Object(&mut managed).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok((tree, managed))
}

/// The object or its metadata, and where the managers go.
enum Part<'m, 'de> {
    Object(&'m mut &'de str),
    Metadata(&'m mut &'de str),
}

impl<'de> DeserializeSeed<'de> for Part<'_, 'de> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Part<'_, 'de> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let value = match (&mut self, key.as_str()) {
                (Self::Object(managed), "metadata") => {
                    access.next_value_seed(Part::Metadata(managed))?
                }
                (Self::Metadata(managed), MANAGED) => {
                    **managed = access.next_value::<&RawValue>()?.get();
                    continue;
                }
                _ => access.next_value()?,
            };
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

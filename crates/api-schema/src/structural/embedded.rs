//! Embedded resources: objects inside of objects, with metadata of their own.

use serde_json::Value;

use super::Node;
use crate::{Faults, Path, ShapeRef, meta, tree};

impl Node {
    /// Makes the metadata of every embedded resource what a decoder of objects
    /// makes of it; `metadata` is the shape of `ObjectMeta`. Gives the faults that
    /// only strict clients are told.
    ///
    /// # Errors
    /// Where a part of some metadata has the wrong type.
    pub(crate) fn conform_metadata(
        &self,
        value: &mut Value,
        path: &Path<'_>,
        metadata: &ShapeRef,
        strict: &mut Vec<String>,
    ) -> Result<(), String> {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    let path = path.child(name);
                    if self.embedded && name == "metadata" {
                        conform(value, &path, metadata, strict)?;
                    } else if let Some(node) = self.entry(name) {
                        node.conform_metadata(value, &path, metadata, strict)?;
                    }
                }
            }
            Value::Array(list) => {
                let Some(items) = &self.items else { return Ok(()) };
                for (index, value) in list.iter_mut().enumerate() {
                    items.conform_metadata(value, &path.index(index), metadata, strict)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Faults of the identity and the metadata of embedded resources.
    pub(crate) fn validate_embedded(&self, value: &Value, path: &Path<'_>, faults: &mut Faults) {
        match value {
            Value::Object(map) => {
                if self.embedded {
                    for field in ["apiVersion", "kind"] {
                        if tree::text(value, field).is_empty() {
                            faults.required(&path.child(field), "must not be empty");
                        }
                    }
                    meta::validate_embedded(value, path, faults);
                }
                for (name, value) in map {
                    if let Some(node) = self.entry(name) {
                        node.validate_embedded(value, &path.child(name), faults);
                    }
                }
            }
            Value::Array(list) => {
                let Some(items) = &self.items else { return };
                for (index, value) in list.iter().enumerate() {
                    items.validate_embedded(value, &path.index(index), faults);
                }
            }
            _ => {}
        }
    }
}

/// Metadata in its canonical form, in place.
pub(crate) fn conform(
    value: &mut Value,
    path: &Path<'_>,
    metadata: &ShapeRef,
    strict: &mut Vec<String>,
) -> Result<(), String> {
    let (decoded, unknown) = metadata.conform(value.take())?;
    *value = decoded;
    // `unknown field "labels.x"` becomes `unknown field "metadata.labels.x"`.
    strict.extend(unknown.into_iter().map(|fault| match fault.split_once('"') {
        Some((what, field)) => format!("{what}\"{path}.{field}"),
        None => fault,
    }));
    Ok(())
}

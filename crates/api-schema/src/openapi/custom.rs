//! Custom kinds as JSON schemas: what the definition says, and what every object
//! has.
//!
//! Version 3 can say all of it. Version 2 leaves out junctors, and says less of
//! what may be null, so that clients that validate by it refuse no good object.

use serde_json::{Map, Value, json};

use super::{Dialect, definitions::META};
use crate::{Custom, ResourceSpec};

/// What a schema says beyond version 2.
const NOT_IN_V2: [&str; 5] = ["allOf", "anyOf", "oneOf", "not", "nullable"];
/// What an object that may be null says no more of itself in version 2.
const NOT_OF_NULLABLE: [&str; 4] = ["type", "items", "properties", "additionalProperties"];
/// Where a schema has schemas by name, and where it has one.
const BY_NAME: &str = "properties";
const INNER: [&str; 3] = ["items", "additionalProperties", "not"];
const JUNCTORS: [&str; 3] = ["allOf", "anyOf", "oneOf"];

/// The schema of a custom kind, without its `x-kubernetes-group-version-kind`.
///
/// # Errors
/// Where what the row keeps of its definition cannot be read.
pub(super) fn schema(
    row: &ResourceSpec,
    custom: &Custom,
    dialect: Dialect,
) -> Result<Value, String> {
    let mut schema = custom.document.read()?;
    let keeps = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    if !schema.is_object() || (dialect == Dialect::V2 && keeps) {
        // Clients of version 2 would refuse whatever is not named here.
        return Ok(json!({ "type": "object", "description": about(row) }));
    }
    walk(&mut schema, dialect);
    add_object_fields(&mut schema, dialect);
    Ok(schema)
}

fn about(row: &ResourceSpec) -> String {
    format!("{} is a custom kind of {}.", row.kind, row.group)
}

/// Adds what embedded objects have, and takes away what the dialect cannot say.
fn walk(schema: &mut Value, dialect: Dialect) {
    let Value::Object(map) = schema else { return };
    if dialect == Dialect::V2 {
        if map.get("nullable") == Some(&Value::Bool(true)) {
            NOT_OF_NULLABLE.iter().for_each(|key| drop(map.remove(*key)));
        }
        if map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
            map.remove("type");
        }
        NOT_IN_V2.iter().for_each(|key| drop(map.remove(*key)));
    }
    for inner in map.get_mut(BY_NAME).and_then(Value::as_object_mut).into_iter().flatten() {
        walk(inner.1, dialect);
    }
    for key in INNER {
        if let Some(inner) = map.get_mut(key) {
            walk(inner, dialect);
        }
    }
    for key in JUNCTORS {
        for inner in map.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
            walk(inner, dialect);
        }
    }
    if map.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true)) {
        add_object_fields(schema, dialect);
    }
}

/// apiVersion, kind and metadata. What the definition says of names in metadata
/// is left out: a reference stands for itself.
fn add_object_fields(schema: &mut Value, dialect: Dialect) {
    let reference = dialect.reference(&format!("{META}.ObjectMeta"));
    let metadata = match dialect {
        Dialect::V2 => {
            let mut metadata = reference;
            metadata["description"] = METADATA.into();
            metadata
        }
        Dialect::V3 => json!({ "allOf": [reference], "description": METADATA }),
    };
    let fields = [
        ("apiVersion", json!({ "type": "string", "description": super::definitions::API_VERSION })),
        ("kind", json!({ "type": "string", "description": super::definitions::KIND })),
        ("metadata", metadata),
    ];
    let Value::Object(map) = schema else { return };
    let properties = map.entry(BY_NAME).or_insert_with(|| Map::new().into());
    let Value::Object(properties) = properties else { return };
    for (name, field) in fields {
        properties.insert(name.to_owned(), field);
    }
}

const METADATA: &str = "Name, labels, annotations and what the server keeps of every object.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_says_less() {
        let mut schema = json!({
            "type": "object",
            "properties": {
                "n": { "type": "string", "nullable": true, "description": "d" },
                "p": { "x-kubernetes-int-or-string": true, "anyOf": [{}], "type": "string" },
                "t": {
                    "type": "array",
                    "items": { "type": "object", "x-kubernetes-embedded-resource": true },
                },
            },
        });
        let mut all = schema.clone();
        walk(&mut schema, Dialect::V2);
        let properties = &schema["properties"];
        assert_eq!(properties["n"], json!({ "description": "d" }));
        assert_eq!(properties["p"], json!({ "x-kubernetes-int-or-string": true }));
        let embedded = &properties["t"]["items"]["properties"];
        assert_eq!(embedded["metadata"]["$ref"], format!("#/definitions/{META}.ObjectMeta"));
        walk(&mut all, Dialect::V3);
        assert_eq!(all["properties"]["n"]["nullable"], true);
        assert_eq!(all["properties"]["p"]["anyOf"], json!([{}]));
    }
}

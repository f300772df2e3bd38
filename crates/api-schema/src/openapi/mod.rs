//! OpenAPI documents from the catalogue's rows.
//!
//! kubectl reads them for `explain`, to find out whether the server validates
//! fields (a `fieldValidation` parameter on PATCH), and to learn how lists merge
//! when it makes a strategic merge patch. Version 3 has one document for each
//! group and version, version 2 one for everything.

mod custom;
mod definitions;
mod descriptions;
mod paths;

pub use descriptions::Descriptions;

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Map, Value, json};

use crate::ResourceSpec;

/// Which version of the specification a document follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

impl Dialect {
    fn reference(self, name: &str) -> Value {
        match self {
            Self::V2 => json!({ "$ref": format!("#/definitions/{name}") }),
            Self::V3 => json!({ "$ref": format!("#/components/schemas/{name}") }),
        }
    }
}

/// The groups and versions that have a document, as `/openapi/v3` lists them:
/// `api/v1`, `apis/apps/v1`, with group and version.
pub fn v3_paths(rows: &[Arc<ResourceSpec>]) -> Vec<(String, String, String)> {
    let mut seen = BTreeSet::new();
    rows.iter()
        .filter(|row| seen.insert((row.group.clone(), row.version.clone())))
        .map(|row| {
            let path = paths::prefix(row).trim_start_matches('/').to_owned();
            (path, row.group.to_string(), row.version.to_string())
        })
        .collect()
}

/// The version 3 document of a group and version; `None` where nothing of it is
/// served. `release` is what `/version` says.
pub fn v3(
    rows: &[Arc<ResourceSpec>],
    group: &str,
    version: &str,
    release: &str,
    descriptions: &Descriptions,
) -> Option<Value> {
    let served: Vec<&ResourceSpec> = rows
        .iter()
        .map(Arc::as_ref)
        .filter(|row| row.group == group && row.version == version)
        .collect();
    if served.is_empty() {
        return None;
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": release },
        "paths": paths::all(&served, Dialect::V3),
        "components": { "schemas": definitions::all(&served, Dialect::V3, descriptions) },
    }))
}

/// The version 2 document of everything.
pub fn v2(rows: &[Arc<ResourceSpec>], release: &str, descriptions: &Descriptions) -> Value {
    let served: Vec<&ResourceSpec> = rows.iter().map(Arc::as_ref).collect();
    json!({
        "swagger": "2.0",
        "info": { "title": "Kubernetes", "version": release },
        "paths": paths::all(&served, Dialect::V2),
        "definitions": definitions::all(&served, Dialect::V2, descriptions),
    })
}

/// `x-kubernetes-group-version-kind`.
fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({ "group": group, "kind": kind, "version": version })
}

fn object(entries: Vec<(&str, Value)>) -> Value {
    Value::Object(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>())
}

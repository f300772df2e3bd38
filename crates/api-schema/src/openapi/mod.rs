//! OpenAPI documents from the catalogue's rows.
//!
//! kubectl reads them for `explain`, to find out whether the server validates
//! fields (a `fieldValidation` parameter on PATCH), and to learn how lists merge
//! when it makes a strategic merge patch. Version 3 has one document for each
//! group and version, and for each path that is about no object; version 2 has one for
//! everything.

mod custom;
mod definitions;
mod descriptions;
mod operation;
mod parameters;
mod paths;
mod roots;

pub use descriptions::Descriptions;
pub use roots::Root;

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

/// The documents of version 3, as `/openapi/v3` lists them.
pub fn v3_roots(rows: &[Arc<ResourceSpec>]) -> BTreeSet<Root> {
    Root::all(rows.iter().map(Arc::as_ref))
}

/// A version 3 document; `None` where nothing of it is served. `release` is what
/// `/version` says.
pub fn v3(
    rows: &[Arc<ResourceSpec>],
    root: &Root,
    release: &str,
    descriptions: &Descriptions,
) -> Option<Value> {
    let served: Vec<&ResourceSpec> =
        rows.iter().map(Arc::as_ref).filter(|row| root.is_of(row)).collect();
    if served.is_empty() {
        return None;
    }
    let roots = std::slice::from_ref(root);
    Some(json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": release },
        "paths": paths(&served, roots, Dialect::V3, descriptions),
        "components": {
            "schemas": definitions::all(&served, roots, Dialect::V3, descriptions),
            "securitySchemes": security(),
        },
    }))
}

/// The version 2 document of everything.
pub fn v2(rows: &[Arc<ResourceSpec>], release: &str, descriptions: &Descriptions) -> Value {
    let served: Vec<&ResourceSpec> = rows.iter().map(Arc::as_ref).collect();
    let roots: Vec<Root> = Root::all(served.iter().copied()).into_iter().collect();
    json!({
        "swagger": "2.0",
        "info": { "title": "Kubernetes", "version": release },
        "paths": paths(&served, &roots, Dialect::V2, descriptions),
        "definitions": definitions::all(&served, &roots, Dialect::V2, descriptions),
        "securityDefinitions": security(),
        "security": [{ BEARER: [] }],
    })
}

const BEARER: &str = "BearerToken";

/// How clients say who they are. Version 2 has no word for bearer tokens.
fn security() -> Value {
    json!({ BEARER: {
        "description": "A bearer token.", "type": "apiKey", "in": "header", "name": "authorization",
    } })
}

fn paths(
    rows: &[&ResourceSpec],
    roots: &[Root],
    dialect: Dialect,
    descriptions: &Descriptions,
) -> Value {
    let mut out = Map::new();
    for root in roots {
        let of_root: Vec<&ResourceSpec> =
            rows.iter().copied().filter(|row| root.is_of(row)).collect();
        // Custom versions have no path that lists their resources.
        if of_root.iter().any(|row| row.custom.is_none()) {
            root.add(&mut out, dialect);
        }
        if matches!(root, Root::Resources(..)) {
            paths::add(&mut out, &of_root, dialect, descriptions);
        }
    }
    Value::Object(out)
}

/// `x-kubernetes-group-version-kind`.
fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({ "group": group, "kind": kind, "version": version })
}

fn object(entries: Vec<(&str, Value)>) -> Value {
    Value::Object(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>())
}

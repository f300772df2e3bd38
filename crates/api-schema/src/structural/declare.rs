//! A schema as a declaration for expressions: which parts they see, under which
//! names, and how large values can be.
//!
//! Sizes are worked out from what one request can carry, where the schema has
//! no bound of its own. They are part of the API: whether a rule is too costly
//! depends on them.

use std::sync::Arc;

use cel::{Declaration, Kind as Declared, Merge, Object, ObjectField, is_reserved};

use super::{Additional, Checks, Kind, Node};
use crate::ListType;

/// A request is at most this long.
const REQUEST_BYTES_MAX: u64 = 3 << 20;
/// Names of objects, and of what names are generated from.
const NAME_LEN_MAX: u64 = 253;

/// A declaration, and how short its value can be in JSON.
pub(super) struct Sized {
    pub(super) declaration: Declaration,
    pub(super) bytes_min: u64,
}

/// What expressions see of a value; `None` where they see nothing of it. A
/// `resource` always has its type and its name.
pub(super) fn declare(node: &Node, resource: bool) -> Option<Sized> {
    let checks = node.checks.as_deref();
    let sized = |kind, elements_max, bytes_min| {
        let declaration = Declaration { kind, elements_max, nullable: node.nullable };
        Some(Sized { declaration, bytes_min })
    };
    let text_max = || match checks.and_then(|checks| checks.max_length) {
        // Lengths are in characters of up to four bytes.
        Some(max) => max.saturating_mul(4),
        None => REQUEST_BYTES_MAX - 2,
    };
    if node.int_or_string {
        return sized(Declared::IntOrString, text_max(), 1);
    }
    match node.kind {
        Kind::Array => {
            let items = node.items.as_deref()?;
            let of = declare(items, items.embedded)?;
            let max = checks.and_then(|checks| checks.max_items);
            let max = max.unwrap_or((REQUEST_BYTES_MAX - 2) / (of.bytes_min + 1));
            let merge = match node.list_type {
                ListType::Set => Merge::Set,
                ListType::Map => Merge::Map(node.list_keys.clone().into()),
                ListType::Unset | ListType::Atomic => Merge::Atomic,
            };
            sized(Declared::List { items: of.declaration.into(), merge }, max, 2)
        }
        Kind::Object => match &node.additional {
            Additional::Node(values) if !resource => {
                let of = declare(values, values.embedded)?;
                let max = checks.and_then(|checks| checks.max_properties);
                // An empty key, its quotes, a colon and a comma.
                let max = max.unwrap_or((REQUEST_BYTES_MAX - 2) / (of.bytes_min + 6));
                sized(Declared::Map(of.declaration.into()), max, 2)
            }
            _ => {
                let (object, bytes_min) = object(node, resource);
                sized(Declared::Object(object.into()), 0, bytes_min)
            }
        },
        Kind::String => match checks.map_or("", |checks| &checks.format) {
            "byte" => {
                let max = checks.and_then(|checks| checks.max_length);
                sized(Declared::Bytes, max.unwrap_or(REQUEST_BYTES_MAX - 2), 2)
            }
            "duration" => sized(Declared::Duration, 32, 3),
            "date" => sized(Declared::Date, 12, 12),
            "date-time" => sized(Declared::DateTime, 32, 21),
            _ => sized(Declared::String, enumerated(checks).unwrap_or_else(text_max), 2),
        },
        Kind::Boolean => sized(Declared::Bool, 0, 4),
        Kind::Number => sized(Declared::Double, 0, 1),
        Kind::Integer => sized(Declared::Int, 0, 1),
        Kind::Any => None,
    }
}

/// The length of the longest allowed value, where the schema says no other.
fn enumerated(checks: Option<&Checks>) -> Option<u64> {
    let checks =
        checks.filter(|checks| checks.max_length.is_none() && !checks.values.is_empty())?;
    checks.values.iter().filter_map(|value| value.as_str()).map(|text| text.len() as u64).max()
}

fn object(node: &Node, resource: bool) -> (Object, u64) {
    let mut object = Object { name: "object".into(), fields: Default::default() };
    let mut bytes_min = 2;
    let mut field = |name: &str, of: Sized, must_be_sent: bool| {
        if must_be_sent {
            bytes_min += name.len() as u64 + of.bytes_min + 4;
        }
        if let Some(escaped) = escape(name) {
            let declaration = Arc::new(of.declaration);
            object.fields.insert(escaped.into(), ObjectField { json: name.into(), declaration });
        }
    };
    let required = |name: &str| {
        let checks = node.checks.as_deref();
        checks.is_some_and(|checks| checks.required.iter().any(|known| **known == *name))
    };
    let implied = resource && !has_meta(node);
    for (name, property) in &node.properties {
        if implied && matches!(&**name, "apiVersion" | "kind" | "metadata") {
            continue;
        }
        if let Some(of) = declare(property, property.embedded) {
            field(name, of, required(name) && property.default.is_none());
        }
    }
    if implied {
        for name in ["apiVersion", "kind"] {
            field(name, text(REQUEST_BYTES_MAX - 2), required(name));
        }
        let metadata = metadata(node.property("metadata"));
        field("metadata", metadata, required("metadata"));
    }
    (object, bytes_min)
}

fn text(elements_max: u64) -> Sized {
    let declaration = Declaration { kind: Declared::String, elements_max, nullable: false };
    Sized { declaration, bytes_min: 2 }
}

/// Whether the schema of a resource says itself what every resource has. Then
/// all of its metadata is seen that it declares, as it is declared.
fn has_meta(node: &Node) -> bool {
    let is = |node: &Node, name: &str, kind| {
        node.property(name).is_some_and(|property| property.kind == kind)
    };
    let metadata = node.property("metadata").filter(|metadata| metadata.kind == Kind::Object);
    ["apiVersion", "kind"].iter().all(|name| is(node, name, Kind::String))
        && metadata.is_some_and(|metadata| {
            ["name", "generateName"].iter().all(|name| is(metadata, name, Kind::String))
        })
}

/// Of metadata, expressions see the name only.
fn metadata(said: Option<&Node>) -> Sized {
    let mut object = Object { name: "object".into(), fields: Default::default() };
    // What is generated is at least one character.
    for (name, most) in [("name", NAME_LEN_MAX), ("generateName", NAME_LEN_MAX - 1)] {
        let checks = said.and_then(|node| node.property(name)?.checks.as_deref());
        let max = checks.and_then(|checks| checks.max_length).map_or(most, |max| max.min(most));
        let declaration = Arc::new(text(max * 4).declaration);
        object.fields.insert(name.into(), ObjectField { json: name.into(), declaration });
    }
    let kind = Declared::Object(object.into());
    Sized { declaration: Declaration { kind, elements_max: 0, nullable: false }, bytes_min: 2 }
}

/// The name of a property in expressions; `None` where it has none.
pub(super) fn escape(name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if is_reserved(name) {
        return Some(format!("__{name}__"));
    }
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/');
    name.chars().all(known).then(|| {
        name.replace("__", "__underscores__")
            .replace('.', "__dot__")
            .replace('-', "__dash__")
            .replace('/', "__slash__")
    })
}

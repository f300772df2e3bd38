//! Whether a schema is structural: every field has one type outside of
//! junctors, junctors only narrow values, and defaults are as good as what a
//! client may send.

use api_schema::{
    Faults, Path,
    structural::{Node, rules},
    tree,
};
use serde_json::{Value, json};

use super::schema_lists;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// What a schema may not have anywhere.
const UNSUPPORTED: [&str; 6] =
    ["$ref", "definitions", "dependencies", "patternProperties", "additionalItems", "id"];

/// What only has a meaning outside of junctors: with what upstream wants instead.
const STRUCTURE_ONLY: [(&str, &str); 14] = [
    ("description", "must be empty to be structural"),
    ("title", "must be empty to be structural"),
    ("externalDocs", "must be undefined to be structural"),
    ("type", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("default", "must be undefined to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
];

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Field,
    Item,
}

/// Faults of `openAPIV3Schema`, where the version had the schema `old`.
pub(super) fn validate(schema: &Value, old: Option<&Value>, path: &Path<'_>, faults: &mut Faults) {
    if tree::flag(schema, "nullable") {
        faults.forbidden(&path.child("nullable"), "nullable cannot be true at the root");
    }
    let mut wrong = Faults::default();
    structure(schema, Level::Root, path, &mut wrong);
    if !wrong.is_empty() {
        return faults.append(wrong);
    }
    match Node::parse(schema) {
        Ok(node) => rules::check(&node, old == Some(schema), path, faults),
        Err(why) => faults.invalid(path, "", why),
    }
}

/// Whether something is said by a keyword.
fn says(schema: &Value, key: &str) -> bool {
    match schema.get(key) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(_) => true,
    }
}

fn structure(schema: &Value, level: Level, path: &Path<'_>, faults: &mut Faults) {
    keywords(schema, path, faults);
    kind(schema, level, path, faults);
    extensions(schema, path, faults);
    schema_lists::validate(schema, path, faults);
    default(schema, path, faults);
    let meta = level == Level::Root || tree::flag(schema, "x-kubernetes-embedded-resource");
    let properties = path.child("properties");
    for (name, property) in tree::entries(schema, "properties") {
        let path = properties.key(name);
        if meta {
            meta_field(name, property, level, &path, faults);
        }
        structure(property, Level::Field, &path, faults);
    }
    if tree::text(schema, "type") == "array" && !says(schema, "items") {
        faults.required(&path.child("items"), "must be specified");
    }
    if level == Level::Root && says(schema, "additionalProperties") {
        faults.forbidden(&path.child("additionalProperties"), "must not be used at the root");
    }
    if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
        structure(items, Level::Item, &path.child("items"), faults);
    }
    if let Some(other) = schema.get("additionalProperties").filter(|other| other.is_object()) {
        structure(other, Level::Field, &path.child("additionalProperties"), faults);
    }
    // Upstream looks for what junctors speak of at the root only.
    let outside = (level == Level::Root).then_some((schema, path));
    let typed = tree::flag(schema, "x-kubernetes-int-or-string") || is_int_or_string(schema);
    junctors(schema, path, &mut |inner, path| nested(outside, typed, inner, path, faults));
}

/// Whether a schema has the junctor that stands for a number or text, in which
/// types may be said.
fn is_int_or_string(schema: &Value) -> bool {
    let types = json!([{"type": "integer"}, {"type": "string"}]);
    let first = tree::list(schema, "allOf").first().unwrap_or(&Value::Null);
    [schema, first].iter().any(|schema| *tree::get(schema, "anyOf") == types)
}

/// What is the same inside of junctors.
fn keywords(schema: &Value, path: &Path<'_>, faults: &mut Faults) {
    for key in UNSUPPORTED.into_iter().filter(|key| says(schema, key)) {
        faults.forbidden(&path.child(key), &format!("{key} is not supported"));
    }
    if tree::flag(schema, "uniqueItems") {
        let detail =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        faults.forbidden(&path.child("uniqueItems"), detail);
    }
    let additional = schema.get("additionalProperties").unwrap_or(&Value::Null);
    if says(schema, "additionalProperties") && says(schema, "properties") {
        let detail = "additionalProperties and properties are mutual exclusive";
        faults.forbidden(&path.child("additionalProperties"), detail);
    } else if *additional == Value::Bool(false) {
        let detail = "additionalProperties cannot be set to false";
        faults.forbidden(&path.child("additionalProperties"), detail);
    }
    if schema.get("items").is_some_and(Value::is_array) {
        let detail = "items must be a schema object and not an array";
        faults.forbidden(&path.child("items"), detail);
    }
    match tree::text(schema, "type") {
        "null" => {
            let detail = "type cannot be set to null, use nullable as an alternative";
            faults.forbidden(&path.child("type"), detail);
        }
        "" => {}
        kind if !TYPES.contains(&kind) => faults.unsupported(&path.child("type"), kind, TYPES),
        _ => {}
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && let Err(why) = api_schema::structural::check_pattern(pattern)
    {
        let detail = format!("must be a valid regular expression, but isn't: {why}");
        faults.invalid(&path.child("pattern"), pattern, detail);
    }
}

fn kind(schema: &Value, level: Level, path: &Path<'_>, faults: &mut Faults) {
    let kind = tree::text(schema, "type");
    let path = path.child("type");
    let free = ["x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"]
        .iter()
        .any(|key| tree::flag(schema, key));
    if kind.is_empty() && !free && !tree::flag(schema, "x-kubernetes-embedded-resource") {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Field => "must not be empty for specified object fields",
            Level::Item => "must not be empty for specified array items",
        };
        faults.required(&path, detail);
    }
    if level == Level::Root && !matches!(kind, "" | "object") {
        faults.invalid(&path, kind, "must be object at the root");
    }
}

fn extensions(schema: &Value, path: &Path<'_>, faults: &mut Faults) {
    const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
    if tree::flag(schema, "x-kubernetes-int-or-string") {
        for key in [PRESERVE, "x-kubernetes-embedded-resource"] {
            if tree::flag(schema, key) {
                let detail = "must be false if x-kubernetes-int-or-string is true";
                faults.invalid(&path.child(key), true, detail);
            }
        }
    }
    let kind = tree::text(schema, "type");
    if schema.get(PRESERVE) == Some(&Value::Bool(false)) {
        faults.invalid(&path.child(PRESERVE), false, "must be true or undefined");
    }
    if tree::flag(schema, "x-kubernetes-embedded-resource") {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        match kind {
            "object" => {}
            "" => faults.required(&path.child("type"), detail),
            kind => faults.invalid(&path.child("type"), kind, detail),
        }
        if says(schema, "additionalProperties") {
            let detail = "must not be used if x-kubernetes-embedded-resource is set";
            faults.forbidden(&path.child("additionalProperties"), detail);
        }
        if !says(schema, "properties") && !tree::flag(schema, PRESERVE) {
            let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
            faults.required(&path.child("properties"), detail);
        }
    }
}

/// Every object has these; the schema of the object itself may only restrict
/// names.
fn meta_field(name: &str, property: &Value, level: Level, path: &Path<'_>, faults: &mut Faults) {
    let kind = tree::text(property, "type");
    match name {
        "apiVersion" | "kind" if kind != "string" => {
            faults.invalid(&path.child("type"), kind, "must be string");
        }
        "metadata" => {
            if kind != "object" {
                faults.invalid(&path.child("type"), kind, "must be object");
            }
            let mut named = tree::entries(property, "properties").map(|(name, _)| name.as_str());
            let more = !named.all(|name| matches!(name, "name" | "generateName"))
                || property.as_object().into_iter().flatten().any(|(key, _)| {
                    !matches!(key.as_str(), "type" | "description" | "properties")
                        && says(property, key)
                });
            if more && level == Level::Root {
                let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
                faults.forbidden(path, detail);
            }
        }
        _ => {}
    }
}

/// A default must be what the schema keeps and takes.
fn default(schema: &Value, path: &Path<'_>, faults: &mut Faults) {
    let Some(default) = schema.get("default").filter(|default| !default.is_null()) else { return };
    let path = path.child("default");
    let Ok(node) = Node::parse(schema) else { return };
    let mut kept = node.default.clone().unwrap_or_default();
    let gone = node.prune_part(&mut kept);
    if !gone.is_empty() {
        let detail = format!("must not have unknown fields: {}", gone.join(", "));
        faults.invalid(&path, default.clone(), detail);
    }
    node.default(&mut kept);
    node.validate_part(&kept, &path, faults);
}

/// Calls `visit` with each schema of a junctor and its path.
fn junctors(schema: &Value, path: &Path<'_>, visit: &mut dyn FnMut(&Value, &Path<'_>)) {
    for key in ["allOf", "anyOf", "oneOf"] {
        let path = path.child(key);
        for (index, inner) in tree::list(schema, key).iter().enumerate() {
            visit(inner, &path.index(index));
        }
    }
    if let Some(inner) = schema.get("not").filter(|inner| !inner.is_null()) {
        visit(inner, &path.child("not"));
    }
}

/// A schema inside of a junctor. `outside`, with its path, is what must have a
/// place for all that it speaks of; `typed` where it may say a type.
fn nested(
    outside: Option<(&Value, &Path<'_>)>,
    typed: bool,
    schema: &Value,
    path: &Path<'_>,
    faults: &mut Faults,
) {
    keywords(schema, path, faults);
    for (key, detail) in STRUCTURE_ONLY {
        let allowed = typed && key == "type";
        if says(schema, key) && !allowed {
            faults.forbidden(&path.child(key), detail);
        }
    }
    let properties = path.child("properties");
    for (name, inner) in tree::entries(schema, "properties") {
        let path = properties.key(name);
        if name == "metadata" {
            faults.forbidden(&path, "must not be specified in a nested context");
        }
        let outer = outside.and_then(|(outer, _)| tree::get(outer, "properties").get(name));
        let at = outside.map(|(_, at)| at.child("properties"));
        let at = at.as_ref().map(|at| at.key(name));
        part(outer, at.as_ref(), inner, &path, faults);
    }
    if let Some(inner) = schema.get("items").filter(|inner| inner.is_object()) {
        let outer = outside.and_then(|(outer, _)| outer.get("items"));
        let at = outside.map(|(_, at)| at.child("items"));
        part(outer, at.as_ref(), inner, &path.child("items"), faults);
    }
    junctors(schema, path, &mut |inner, path| nested(outside, typed, inner, path, faults));
}

/// A schema below one inside of a junctor. Its place outside is at `at`, where
/// there must be one.
fn part(
    outer: Option<&Value>,
    at: Option<&Path<'_>>,
    schema: &Value,
    path: &Path<'_>,
    faults: &mut Faults,
) {
    let outer = outer.filter(|outer| outer.is_object());
    if let (None, Some(at)) = (outer, at) {
        faults.required(at, &format!("because it is defined in {path}"));
    }
    nested(outer.zip(at), false, schema, path, faults);
}

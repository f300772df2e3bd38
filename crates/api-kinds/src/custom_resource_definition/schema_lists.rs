//! `x-kubernetes-list-type`, its keys, and `x-kubernetes-map-type`: what merges
//! must be able to tell apart.

use api_schema::{Faults, Path, tree};
use serde_json::Value;

const LIST_TYPE: &str = "x-kubernetes-list-type";
const KEYS: &str = "x-kubernetes-list-map-keys";
const MAP_TYPE: &str = "x-kubernetes-map-type";

pub(super) fn validate(schema: &Value, path: &Path<'_>, faults: &mut Faults) {
    let list_type = tree::text(schema, LIST_TYPE);
    if !list_type.is_empty() {
        must_be(schema, "array", LIST_TYPE, path, faults);
        if !["atomic", "map", "set"].contains(&list_type) {
            let known = ["atomic", "map", "set"];
            faults.unsupported(&path.child(LIST_TYPE), list_type, known);
        }
    }
    let keys = tree::list(schema, KEYS);
    if !keys.is_empty() && list_type != "map" {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        match list_type {
            "" => faults.required(&path.child(LIST_TYPE), detail),
            other => faults.invalid(&path.child(LIST_TYPE), other, detail),
        }
    }
    match list_type {
        "map" => map(schema, keys, path, faults),
        "set" => set(schema, path, faults),
        _ => {}
    }
    match tree::text(schema, MAP_TYPE) {
        "" => {}
        "atomic" | "granular" => must_be(schema, "object", MAP_TYPE, path, faults),
        other => faults.unsupported(&path.child(MAP_TYPE), other, ["atomic", "granular"]),
    }
}

fn must_be(schema: &Value, wanted: &str, because: &str, path: &Path<'_>, faults: &mut Faults) {
    let verb = if because == MAP_TYPE { "specified" } else { "set" };
    let detail = format!("must be {wanted} if {because} is {verb}");
    match tree::text(schema, "type") {
        kind if kind == wanted => {}
        "" => faults.required(&path.child("type"), &detail),
        kind => faults.invalid(&path.child("type"), kind, detail),
    }
}

fn not_nullable(items: &Value, list_type: &str, path: &Path<'_>, faults: &mut Faults) {
    if tree::flag(items, "nullable") {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        faults.forbidden(&path.child("nullable"), &detail);
    }
}

fn map(schema: &Value, keys: &[Value], path: &Path<'_>, faults: &mut Faults) {
    if keys.is_empty() {
        let detail = "must not be empty if x-kubernetes-list-type is map";
        faults.required(&path.child(KEYS), detail);
    }
    let items = tree::get(schema, "items");
    let items_path = path.child("items");
    if !items.is_object() {
        let detail = "must have a schema if x-kubernetes-list-type is map";
        return faults.required(&items_path, detail);
    }
    let kind = tree::text(items, "type");
    if kind != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        return faults.invalid(&items_path.child("type"), kind, detail);
    }
    not_nullable(items, "map", &items_path, faults);
    let required = tree::list(items, "required");
    let properties = items_path.child("properties");
    let path_of_keys = path.child(KEYS);
    for (index, key) in keys.iter().enumerate() {
        if keys[..index].contains(key) {
            faults.invalid(&path.child(KEYS), keys.to_vec(), "must not contain duplicate entries");
        }
        let name = key.as_str().unwrap_or_default();
        let path = properties.key(name);
        let Some(property) = tree::get(items, "properties").get(name) else {
            let detail = "entries must all be names of item properties";
            faults.invalid(&path_of_keys, keys.to_vec(), detail);
            continue;
        };
        let kind = tree::text(property, "type");
        if matches!(kind, "array" | "object") {
            let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            faults.invalid(&path.child("type"), kind, detail);
        }
        if tree::get(property, "default").is_null() && !required.contains(key) {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            faults.required(&path.child("default"), detail);
        }
        if tree::flag(property, "nullable") {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            faults.forbidden(&path.child("nullable"), detail);
        }
    }
}

/// Elements of a set are compared as wholes.
fn set(schema: &Value, path: &Path<'_>, faults: &mut Faults) {
    let items = tree::get(schema, "items");
    if !items.is_object() {
        return;
    }
    let path = path.child("items");
    not_nullable(items, "set", &path, faults);
    let (key, detail) = match tree::text(items, "type") {
        "object" => (MAP_TYPE, "must be atomic as item of a list with x-kubernetes-list-type=set"),
        "array" => (LIST_TYPE, "must be atomic as item of a list with x-kubernetes-list-type=set"),
        _ => return,
    };
    match tree::text(items, key) {
        "atomic" => {}
        // A list of which nothing is said is atomic.
        "" if key == LIST_TYPE => {}
        "" => faults.required(&path.child(key), detail),
        other => faults.invalid(&path.child(key), other, detail),
    }
}

//! ConfigMap: named texts and bytes, 1 MiB at most.

use std::sync::Arc;

use api_object::name;
use api_schema::{Column, Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::row::row as new_row;

/// Keys and values together.
pub(crate) const DATA_BYTES_MAX: usize = 1024 * 1024;

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    ResourceSpec {
        short_names: vec!["cm".into()],
        columns: vec![
            Column::name(),
            Column::text("Data", "Data contains the configuration data.", |object, _| {
                (count(object, "data") + count(object, "binaryData")).into()
            }),
            Column::age(),
        ],
        hooks: Hooks { validate, validate_update, ..Hooks::default() },
        ..new_row(schema, "", "v1", "configmaps", "ConfigMap", "core/v1.ConfigMap")
    }
}

fn count(object: &Value, path: &str) -> usize {
    tree::entries(object, path).count()
}

fn validate(_: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let mut bytes = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in tree::entries(object, field) {
            let path = Path::new(field);
            check_key(&path.key(key), key, faults);
            if field == "data" && tree::get(object, "binaryData").get(key).is_some() {
                let detail = "duplicate of key present in binaryData";
                faults.invalid(&path.key(key), key.as_str(), detail);
            }
            bytes += size(field, value);
        }
    }
    if bytes > DATA_BYTES_MAX {
        // The fault is of the whole: upstream writes `[]` there.
        faults.too_long(&Path::ROOT.key(""), DATA_BYTES_MAX);
    }
}

/// The size of a value: that of its text, or of the bytes its base64 stands for.
fn size(field: &str, value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    if field == "data" { text.len() } else { decoded_len(text) }
}

/// How many bytes a base64 text stands for.
pub(crate) fn decoded_len(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

/// Keys become file names: letters, digits, `-`, `_`, `.`.
pub(crate) fn check_key(path: &Path<'_>, key: &str, faults: &mut Faults) {
    let wrong = |byte: u8| !(byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if key.len() > name::DNS1123_SUBDOMAIN_LEN_MAX {
        faults.invalid(path, key, "must be no more than 253 characters");
    }
    if key.is_empty() || key.bytes().any(wrong) {
        faults.invalid(
            path,
            key,
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        );
    } else if key == "." {
        faults.invalid(path, key, "must not be '.'");
    } else if key == ".." {
        faults.invalid(path, key, "must not be '..'");
    } else if key.starts_with("..") {
        faults.invalid(path, key, "must not start with '..'");
    }
}

/// What `immutable: true` forbids, for ConfigMaps and Secrets.
pub(crate) fn check_immutable(new: &Value, old: &Value, fields: &[&str], faults: &mut Faults) {
    if !tree::flag(old, "immutable") {
        return;
    }
    if !tree::flag(new, "immutable") {
        faults.forbidden(&Path::new("immutable"), "field is immutable when `immutable` is set");
    }
    for field in fields {
        if tree::get(new, field) != tree::get(old, field) {
            faults.forbidden(&Path::new(field), "field is immutable when `immutable` is set");
        }
    }
}

fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    check_immutable(new, old, &["data", "binaryData"], faults);
}

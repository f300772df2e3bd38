//! Secret: named bytes, 1 MiB at most.

use std::sync::Arc;

use api_schema::{Column, Faults, Hooks, Path, ResourceSpec, Schema, json_fault, tree};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    config_map::{DATA_BYTES_MAX, check_immutable, check_key, decoded_len},
    row::{Build, row as new_row},
};

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        columns: vec![
            Column::name(),
            Column::text(
                "Type",
                "Used to facilitate programmatic handling of secret data.",
                |s, _| tree::text(s, "type").into(),
            ),
            Column::text("Data", "Data contains the secret data.", |object, _| {
                tree::entries(object, "data").count().into()
            }),
            Column::age(),
        ],
        hooks: Hooks { default, validate, validate_update, ..Hooks::default() },
        ..new_row(schema, "", "v1", "secrets", "Secret", "core/v1.Secret")
    };
    row.with_field("type");
    row
}

fn default(_: &ResourceSpec, object: &mut Value) {
    tree::set_if_unset(object, "type", "Opaque");
    // `stringData` is written, never read back.
    if let Some(Value::Object(texts)) = tree::remove(object, "stringData") {
        for (key, value) in texts {
            let encoded = STANDARD.encode(value.as_str().unwrap_or_default());
            tree::as_map(tree::slot(object, "data")).insert(key, encoded.into());
        }
    }
}

fn validate(_: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let path = Path::new("data");
    let mut bytes = 0;
    for (key, value) in tree::entries(object, "data") {
        check_key(&path.key(key), key, faults);
        bytes += decoded_len(value.as_str().unwrap_or_default());
    }
    if bytes > DATA_BYTES_MAX {
        faults.too_long(&path, DATA_BYTES_MAX);
    }
    let kind = tree::text(object, "type");
    let data = tree::get(object, "data");
    if kind == "kubernetes.io/service-account-token" {
        let name = "kubernetes.io/service-account.name";
        if tree::get(object, "metadata.annotations").get(name).is_none() {
            faults.required(&Path::new("metadata.annotations").key(name), "");
        }
    }
    let wanted: &[&str] = match kind {
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        _ => &[],
    };
    for key in wanted.iter().filter(|&&key| data.get(key).is_none()) {
        faults.required(&path.key(key), "");
    }
    if kind.starts_with("kubernetes.io/dockerc") {
        for &key in wanted {
            let text = data.get(key).and_then(Value::as_str).unwrap_or_default();
            let json = STANDARD.decode(text).unwrap_or_default();
            let parsed = serde_json::from_slice::<serde_json::Map<String, Value>>(&json);
            if let (Some(_), Err(error)) = (data.get(key), parsed) {
                let why = json_fault(&json).unwrap_or_else(|| error.to_string());
                faults.invalid(&path.key(key), "<secret contents redacted>", why);
            }
        }
    }
    if kind == "kubernetes.io/basic-auth"
        && ["username", "password"].iter().all(|key| data.get(key).is_none())
    {
        faults.required(&path.key("username"), "");
        faults.required(&path.key("password"), "");
    }
}

fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    if tree::text(new, "type") != tree::text(old, "type") {
        faults.invalid(&Path::new("type"), tree::text(new, "type"), "field is immutable");
    }
    check_immutable(new, old, &["data"], faults);
}

//! DeviceTaintRule: devices that are to be left alone, whatever their driver says.

use std::sync::Arc;

use api_object::{name, time};
use api_schema::{Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use jiff::Timestamp;
use serde_json::Value;

use super::{GROUP, names};
use crate::{
    conditions,
    row::{Build, row as new_row},
};

const CONDITIONS_MAX: usize = 8;

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        generation: Generation::Spec,
        hooks: Hooks {
            stamp: |new, _, now| {
                if let Some(taint) = tree::at_mut(new, "spec.taint") {
                    stamp(taint, now);
                }
            },
            validate,
            validate_status,
            ..Hooks::default()
        },
        ..new_row(
            schema,
            GROUP,
            "v1",
            "devicetaintrules",
            "DeviceTaintRule",
            "resource/v1.DeviceTaintRule",
        )
    };
    row.cluster_scoped().with_status();
    row
}

/// A taint counts from when the server first saw it, unless it says otherwise.
pub(super) fn stamp(taint: &mut Value, now: Timestamp) {
    tree::set_if_unset(taint, "timeAdded", time::format_seconds(now));
}

/// Faults of one taint.
pub(super) fn check(path: &Path<'_>, taint: &Value, faults: &mut Faults) {
    let (key, value) = (tree::text(taint, "key"), tree::text(taint, "value"));
    faults.invalid_all(&path.child("key"), key, name::qualified_name(key));
    faults.invalid_all(&path.child("value"), value, name::label_value(value));
    if tree::text(taint, "effect").is_empty() {
        faults.required(&path.child("effect"), "");
    }
}

fn validate(_: &ResourceSpec, rule: &Value, faults: &mut Faults) {
    let spec = Path::new("spec");
    let (path, selector) = (spec.child("deviceSelector"), tree::get(rule, "spec.deviceSelector"));
    for (field, check) in [
        ("driver", names::driver as fn(&Path<'_>, &str, &mut Faults)),
        ("pool", names::pool),
        ("device", names::label),
    ] {
        if let Some(text) = tree::get(selector, field).as_str() {
            check(&path.child(field), text, faults);
        }
    }
    check(&spec.child("taint"), tree::get(rule, "spec.taint"), faults);
}

fn validate_status(_: &ResourceSpec, new: &Value, _: &Value, faults: &mut Faults) {
    let path = Path::new("status.conditions");
    let list = tree::list(new, "status.conditions");
    conditions::validate(&path, list, faults);
    if list.len() > CONDITIONS_MAX {
        faults.too_many(&path, list.len(), CONDITIONS_MAX);
    }
}

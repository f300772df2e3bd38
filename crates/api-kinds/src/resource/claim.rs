//! ResourceClaim and ResourceClaimTemplate: devices that pods ask for.

use std::sync::Arc;

use api_schema::{Column, Faults, Hooks, Path, ResourceSpec, Schema, meta, tree};
use serde_json::Value;

use super::{GROUP, allocation, request};
use crate::{
    row::{Build, row as new_row},
    rules,
};

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        columns: vec![
            Column::name(),
            Column::text(
                "State",
                "A summary of the current state (allocated, pending, reserved, etc.).",
                |claim, _| state(claim).into(),
            ),
            Column::age(),
        ],
        hooks: Hooks {
            default: |_, claim| default(claim, "spec.devices"),
            validate: |_, claim, faults| {
                request::validate(
                    &Path::new("spec.devices"),
                    tree::get(claim, "spec.devices"),
                    faults,
                );
            },
            validate_update: spec_is_immutable,
            validate_status: |_, new, old, faults| allocation::validate(new, old, faults),
            ..Hooks::default()
        },
        ..new_row(
            schema,
            GROUP,
            "v1",
            "resourceclaims",
            "ResourceClaim",
            "resource/v1.ResourceClaim",
        )
    };
    row.with_status();
    row
}

pub(crate) fn template(schema: &Arc<Schema>) -> ResourceSpec {
    ResourceSpec {
        columns: vec![Column::name(), Column::age()],
        hooks: Hooks {
            default: |_, template| default(template, "spec.spec.devices"),
            validate: |_, template, faults| {
                let at = Path::new("spec.metadata");
                let metadata = tree::get(template, "spec.metadata");
                meta::labels(&at.child("labels"), tree::get(metadata, "labels"), faults);
                let annotations = tree::get(metadata, "annotations");
                meta::annotations(&at.child("annotations"), annotations, faults);
                request::validate(
                    &Path::new("spec.spec.devices"),
                    tree::get(template, "spec.spec.devices"),
                    faults,
                );
            },
            validate_update: spec_is_immutable,
            ..Hooks::default()
        },
        ..new_row(
            schema,
            GROUP,
            "v1",
            "resourceclaimtemplates",
            "ResourceClaimTemplate",
            "resource/v1.ResourceClaimTemplate",
        )
    }
}

fn default(object: &mut Value, path: &str) {
    if let Some(devices) = tree::at_mut(object, path) {
        request::default(devices);
    }
}

fn spec_is_immutable(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    rules::immutable(&Path::new("spec"), tree::get(new, "spec"), tree::get(old, "spec"), faults);
}

fn state(claim: &Value) -> String {
    let deleted = !tree::get(claim, "metadata.deletionTimestamp").is_null();
    let allocated = !tree::get(claim, "status.allocation").is_null();
    let reserved = allocated && !tree::list(claim, "status.reservedFor").is_empty();
    let words = [
        (deleted, "deleted"),
        (!allocated && !deleted, "pending"),
        (allocated, "allocated"),
        (reserved, "reserved"),
    ];
    let words = words.into_iter().filter(|(said, _)| *said).map(|(_, word)| word);
    words.collect::<Vec<_>>().join(",")
}

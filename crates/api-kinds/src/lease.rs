//! Lease: who holds something, and until when.

use std::sync::Arc;

use api_schema::{Column, Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::row::row as new_row;

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    ResourceSpec {
        columns: vec![
            Column::name(),
            Column::text(
                "Holder",
                "holderIdentity contains the identity of the holder of a current lease.",
                |object, _| tree::text(object, "spec.holderIdentity").into(),
            ),
            Column::age(),
        ],
        allow_create_on_update: true,
        allow_unconditional_update: false,
        hooks: Hooks { validate, ..Hooks::default() },
        ..new_row(schema, "coordination.k8s.io", "v1", "leases", "Lease", "coordination/v1.Lease")
    }
}

fn validate(_: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let spec = Path::new("spec");
    if let Some(seconds) = tree::int(object, "spec.leaseDurationSeconds").filter(|&n| n <= 0) {
        faults.invalid(&spec.child("leaseDurationSeconds"), seconds, "must be greater than 0");
    }
    if let Some(count) = tree::int(object, "spec.leaseTransitions").filter(|&n| n < 0) {
        faults.invalid(
            &spec.child("leaseTransitions"),
            count,
            "must be greater than or equal to 0",
        );
    }
}

//! CSIStorageCapacity: how much of a class a driver can still make, and where.

use std::sync::Arc;

use api_object::name;
use api_schema::{Column, Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use super::GROUP;
use crate::{row::row as new_row, rules};

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    ResourceSpec {
        columns: vec![
            Column::name(),
            Column::text(
                "StorageClassName",
                "storageClassName represents the name of the StorageClass that the reported capacity applies to.",
                |object, _| tree::text(object, "storageClassName").into(),
            ),
            Column::text(
                "Capacity",
                "capacity is the value reported by the CSI driver in its GetCapacityResponse for a GetCapacityRequest with topology and parameters that match the previous fields.",
                |object, _| match tree::text(object, "capacity") {
                    "" => "<unset>".into(),
                    amount => amount.into(),
                },
            ),
        ],
        allow_unconditional_update: false,
        hooks: Hooks { validate, validate_update, ..Hooks::default() },
        ..new_row(
            schema,
            GROUP,
            "v1",
            "csistoragecapacities",
            "CSIStorageCapacity",
            "storage/v1.CSIStorageCapacity",
        )
    }
}

fn validate(_: &ResourceSpec, object: &Value, faults: &mut Faults) {
    rules::label_selector(&Path::new("nodeTopology"), tree::get(object, "nodeTopology"), faults);
    let class = tree::text(object, "storageClassName");
    faults.invalid_all(&Path::new("storageClassName"), class, name::dns1123_subdomain(class));
    for field in ["capacity", "maximumVolumeSize"] {
        if let Some(amount) = tree::get(object, field).as_str() {
            rules::amount(&Path::new(field), amount, faults);
        }
    }
}

fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    for field in ["nodeTopology", "storageClassName"] {
        rules::immutable(&Path::new(field), tree::get(new, field), tree::get(old, field), faults);
    }
}

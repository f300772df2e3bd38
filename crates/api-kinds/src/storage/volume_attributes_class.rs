//! VolumeAttributesClass: what of a volume may be changed while it is in use.

use std::sync::Arc;

use api_schema::{Column, Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use super::{GROUP, parameters, provisioner, updates_forbidden};
use crate::row::{Build, row as new_row};

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        short_names: vec!["vac".into()],
        columns: vec![
            Column::name(),
            Column::text("DriverName", "Name of the CSI driver", |class, _| {
                tree::text(class, "driverName").into()
            }),
            Column::age(),
        ],
        hooks: Hooks { validate, validate_update, ..Hooks::default() },
        ..new_row(
            schema,
            GROUP,
            "v1",
            "volumeattributesclasses",
            "VolumeAttributesClass",
            "storage/v1.VolumeAttributesClass",
        )
    };
    row.cluster_scoped();
    row
}

fn validate(_: &ResourceSpec, class: &Value, faults: &mut Faults) {
    provisioner(&Path::new("driverName"), tree::text(class, "driverName"), faults);
    if tree::entries(class, "parameters").next().is_none() {
        faults.required(&Path::new("parameters"), "must contain at least one key/value pair");
    }
    parameters(class, faults);
}

fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    updates_forbidden(&["driverName", "parameters"], new, old, faults);
}

//! CSINode: the storage drivers that run on a node.

use std::sync::Arc;

use api_object::name;
use api_schema::{Cell, Column, Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use super::{GROUP, driver_name};
use crate::{
    row::{Build, row as new_row},
    rules,
};

const NODE_ID_LEN_MAX: usize = 192;

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        columns: vec![
            Column::name(),
            Column::new(
                "Drivers",
                "integer",
                "Drivers indicates the number of CSI drivers registered on the node",
                Cell::With(|node, _| tree::list(node, "spec.drivers").len().into()),
            ),
            Column::age(),
        ],
        allow_unconditional_update: false,
        hooks: Hooks { validate, validate_update, ..Hooks::default() },
        ..new_row(schema, GROUP, "v1", "csinodes", "CSINode", "storage/v1.CSINode")
    };
    row.cluster_scoped();
    row
}

fn validate(_: &ResourceSpec, node: &Value, faults: &mut Faults) {
    let drivers = Path::new("spec.drivers");
    let list = tree::list(node, "spec.drivers");
    for (index, driver) in list.iter().enumerate() {
        let path = drivers.index(index);
        let name = tree::text(driver, "name");
        driver_name(&path.child("name"), name, faults);
        node_id(&path.child("nodeID"), tree::text(driver, "nodeID"), faults);
        rules::not_negative(
            &path.child("allocatable.count"),
            tree::int(driver, "allocatable.count"),
            faults,
        );
        topology_keys(&path.child("topologyKeys"), tree::list(driver, "topologyKeys"), faults);
        if list[..index].iter().any(|earlier| tree::text(earlier, "name") == name) {
            faults.duplicate(&path.child("name"), name);
        }
    }
}

fn node_id(path: &Path<'_>, id: &str, faults: &mut Faults) {
    if id.is_empty() {
        faults.required(path, "");
    }
    if id.len() > NODE_ID_LEN_MAX {
        faults.invalid(path, id, format!("must be {NODE_ID_LEN_MAX} characters or less"));
    }
}

fn topology_keys(path: &Path<'_>, keys: &[Value], faults: &mut Faults) {
    for (index, key) in keys.iter().enumerate() {
        let text = key.as_str().unwrap_or_default();
        if text.is_empty() {
            faults.required(path, "");
        }
        if keys[..index].contains(key) {
            faults.duplicate(path, text);
        }
        for detail in name::qualified_name(text) {
            faults.invalid(path, Value::from(keys), detail);
        }
    }
}

/// What a driver said of itself stays until it says it anew; how many volumes it
/// can hold may change meanwhile.
fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    let comparable = |driver: &Value| {
        let mut driver = driver.clone();
        tree::remove(&mut driver, "allocatable");
        driver
    };
    for before in tree::list(old, "spec.drivers") {
        let after = tree::list(new, "spec.drivers")
            .iter()
            .find(|driver| tree::text(driver, "name") == tree::text(before, "name"));
        if let Some(after) = after
            && comparable(after) != comparable(before)
        {
            faults.invalid(&Path::new("CSINodeDriver"), after.clone(), "field is immutable");
        }
    }
}

//! StorageClass: how volumes of a class are made.

use std::sync::Arc;

use api_object::name;
use api_schema::{Cell, Column, Faults, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use super::{GROUP, parameters, provisioner, updates_forbidden};
use crate::{
    pod,
    row::{Build, row as new_row},
    rules,
};

const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
const DEFAULT_BETA: &str = "storageclass.beta.kubernetes.io/is-default-class";

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        short_names: vec!["sc".into()],
        columns: vec![
            Column { cell: Cell::With(|class, _| shown_name(class).into()), ..Column::name() },
            Column::text(
                "Provisioner",
                "provisioner indicates the type of the provisioner.",
                |class, _| tree::text(class, "provisioner").into(),
            ),
            Column::text(
                "ReclaimPolicy",
                "reclaimPolicy controls the reclaimPolicy for dynamically provisioned PersistentVolumes of this storage class. Defaults to Delete.",
                |class, _| or(tree::text(class, "reclaimPolicy"), "Delete").into(),
            ),
            Column::text(
                "VolumeBindingMode",
                "volumeBindingMode indicates how PersistentVolumeClaims should be provisioned and bound.  When unset, VolumeBindingImmediate is used. This field is only honored by servers that enable the VolumeScheduling feature.",
                |class, _| or(tree::text(class, "volumeBindingMode"), "Immediate").into(),
            ),
            Column::text(
                "AllowVolumeExpansion",
                "allowVolumeExpansion shows whether the storage class allow volume expand.",
                |class, _| tree::flag(class, "allowVolumeExpansion").into(),
            ),
            Column::age(),
        ],
        hooks: Hooks { default, validate, validate_update, warnings, ..Hooks::default() },
        ..new_row(schema, GROUP, "v1", "storageclasses", "StorageClass", "storage/v1.StorageClass")
    };
    row.cluster_scoped();
    row
}

fn shown_name(class: &Value) -> String {
    let name = tree::text(class, "metadata.name");
    let annotations = tree::get(class, "metadata.annotations");
    let default = |key| annotations.get(key).and_then(Value::as_str) == Some("true");
    match default(DEFAULT) || default(DEFAULT_BETA) {
        true => format!("{name} (default)"),
        false => name.to_owned(),
    }
}

fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

fn default(_: &ResourceSpec, class: &mut Value) {
    tree::set_if_unset(class, "reclaimPolicy", "Delete");
    tree::set_if_unset(class, "volumeBindingMode", "Immediate");
}

fn validate(_: &ResourceSpec, class: &Value, faults: &mut Faults) {
    provisioner(&Path::new("provisioner"), tree::text(class, "provisioner"), faults);
    parameters(class, faults);
    // A volume may be recycled, but nothing makes such volumes from a class.
    if tree::text(class, "reclaimPolicy") == "Recycle" {
        faults.unsupported(&Path::new("reclaimPolicy"), "Recycle", ["Delete", "Retain"]);
    }
    let topologies = Path::new("allowedTopologies");
    let terms = tree::list(class, "allowedTopologies");
    for (index, term) in terms.iter().enumerate() {
        let path = topologies.index(index);
        topology_term(&path, term, faults);
        if terms[..index].iter().any(|earlier| same_topology(earlier, term)) {
            faults.duplicate(&path.child("matchLabelExpressions"), "");
        }
    }
}

fn topology_term(path: &Path<'_>, term: &Value, faults: &mut Faults) {
    let expressions = path.child("matchLabelExpressions");
    let list = tree::list(term, "matchLabelExpressions");
    for (index, expression) in list.iter().enumerate() {
        let path = expressions.index(index);
        let key = tree::text(expression, "key");
        let values = tree::list(expression, "values");
        let at = path.child("values");
        if values.is_empty() {
            faults.required(&at, "");
        }
        for (index, value) in values.iter().enumerate() {
            if values[..index].contains(value) {
                faults.duplicate(&at.index(index), value.clone());
            }
        }
        faults.invalid_all(&path.child("key"), key, name::qualified_name(key));
        if list[..index].iter().any(|earlier| tree::text(earlier, "key") == key) {
            faults.duplicate(&path.child("key"), key);
        }
    }
}

/// Whether two terms choose the same: the order of keys and values means nothing.
fn same_topology(a: &Value, b: &Value) -> bool {
    let sorted = |term: &Value| {
        let mut all: Vec<(String, Vec<String>)> = tree::list(term, "matchLabelExpressions")
            .iter()
            .map(|expression| {
                let values = tree::list(expression, "values").iter().filter_map(Value::as_str);
                let mut values: Vec<String> = values.map(str::to_owned).collect();
                values.sort();
                (tree::text(expression, "key").to_owned(), values)
            })
            .collect();
        all.sort();
        all
    };
    sorted(a) == sorted(b)
}

fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    updates_forbidden(&["parameters", "provisioner", "reclaimPolicy"], new, old, faults);
    let mode = "volumeBindingMode";
    rules::immutable(&Path::new(mode), tree::get(new, mode), tree::get(old, mode), faults);
}

fn warnings(class: &Value, _: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    for (index, term) in tree::list(class, "allowedTopologies").iter().enumerate() {
        let expressions = tree::list(term, "matchLabelExpressions");
        for (inner, expression) in expressions.iter().enumerate() {
            if let Some(why) = pod::deprecated_label(tree::text(expression, "key")) {
                out.push(format!(
                    "allowedTopologies[{index}].matchLabelExpressions[{inner}].key: {why}"
                ));
            }
        }
    }
    out
}

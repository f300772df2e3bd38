//! PriorityClass: a name for how important pods are.

use std::sync::Arc;

use api_schema::{Cell, Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::{
    row::{Build, row as new_row},
    rules,
};

/// Above it are the system's own.
const VALUE_MAX: i64 = 1_000_000_000;
const SYSTEM_PREFIX: &str = "system-";
/// The classes of the system, and their values.
const SYSTEM: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        short_names: vec!["pc".into()],
        columns: vec![
            Column::name(),
            Column::integer(
                "Value",
                "value represents the integer value of this priority class. This is the actual priority that pods receive when they have the name of this class in their pod spec.",
                "value",
            ),
            Column::new(
                "Global-Default",
                "boolean",
                "globalDefault specifies whether this PriorityClass should be considered as the default priority for pods that do not have any priority class.",
                Cell::With(|class, _| tree::flag(class, "globalDefault").into()),
            ),
            Column::age(),
            Column::text(
                "PreemptionPolicy",
                "preemptionPolicy is the Policy for preempting pods with lower priority. One of Never, PreemptLowerPriority. Defaults to PreemptLowerPriority if unset.",
                |class, _| tree::text(class, "preemptionPolicy").into(),
            ),
        ],
        // It never rises: nothing that would count may change.
        generation: Generation::Spec,
        hooks: Hooks {
            default: |_, class| {
                tree::set_if_unset(class, "preemptionPolicy", "PreemptLowerPriority");
            },
            validate,
            validate_update,
            ..Hooks::default()
        },
        ..new_row(
            schema,
            "scheduling.k8s.io",
            "v1",
            "priorityclasses",
            "PriorityClass",
            "scheduling/v1.PriorityClass",
        )
    };
    row.cluster_scoped();
    row
}

fn validate(_: &ResourceSpec, class: &Value, faults: &mut Faults) {
    let name = tree::text(class, "metadata.name");
    let value = tree::int(class, "value").unwrap_or(0);
    if !name.starts_with(SYSTEM_PREFIX) {
        if value > VALUE_MAX {
            faults.forbidden(
                &Path::new("value"),
                &format!("maximum allowed value of a user defined priority is {VALUE_MAX}"),
            );
        }
        return;
    }
    let why = match SYSTEM.iter().find(|(known, _)| *known == name) {
        None => format!("{name} is not a known system priority class"),
        Some((_, known)) if *known != value => {
            format!("value of {name} PriorityClass must be {known}")
        }
        Some(_) if tree::flag(class, "globalDefault") => {
            format!("globalDefault of {name} PriorityClass must be false")
        }
        Some(_) => return,
    };
    faults.forbidden(
        &Path::new("metadata.name"),
        &format!("priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {why}"),
    );
}

fn validate_update(_: &ResourceSpec, new: &Value, old: &Value, faults: &mut Faults) {
    if tree::int(new, "value") != tree::int(old, "value") {
        faults.forbidden(&Path::new("value"), "may not be changed in an update.");
    }
    let path = "preemptionPolicy";
    rules::immutable(&Path::new(path), tree::get(new, path), tree::get(old, path), faults);
}

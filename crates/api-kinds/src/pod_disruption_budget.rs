//! PodDisruptionBudget: how many pods must stay when others ask them to leave.

use std::sync::Arc;

use api_schema::{Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use crate::{
    conditions,
    row::{Build, row as new_row},
    rules, workload,
};

const AMOUNTS: [&str; 2] = ["minAvailable", "maxUnavailable"];

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        short_names: vec!["pdb".into()],
        columns: vec![
            Column::name(),
            Column::text(
                "Min Available",
                "The minimum number of pods that must be available.",
                |budget, _| amount(budget, "spec.minAvailable").into(),
            ),
            Column::text(
                "Max Unavailable",
                "The maximum number of pods that may be unavailable.",
                |budget, _| amount(budget, "spec.maxUnavailable").into(),
            ),
            Column::integer(
                "Allowed Disruptions",
                "Calculated number of pods that may be disrupted at this time.",
                "status.disruptionsAllowed",
            ),
            Column::age(),
        ],
        generation: Generation::Spec,
        hooks: Hooks { validate, validate_status, ..Hooks::default() },
        ..new_row(
            schema,
            "policy",
            "v1",
            "poddisruptionbudgets",
            "PodDisruptionBudget",
            "policy/v1.PodDisruptionBudget",
        )
    };
    row.with_status();
    row
}

fn amount(budget: &Value, path: &str) -> String {
    match tree::get(budget, path) {
        Value::Null => "N/A".into(),
        _ => tree::scalar(budget, path),
    }
}

fn validate(_: &ResourceSpec, budget: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(budget, "spec"));
    if AMOUNTS.iter().all(|field| !tree::get(spec, field).is_null()) {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        faults.invalid(&path, spec.clone(), detail);
    }
    for field in AMOUNTS {
        let (path, value) = (path.child(field), tree::get(spec, field));
        if !value.is_null() {
            rules::number_or_percent(&path, value, faults);
            rules::hundred_percent_at_most(&path, value, faults);
        }
    }
    rules::label_selector(&path.child("selector"), tree::get(spec, "selector"), faults);
}

fn validate_status(_: &ResourceSpec, new: &Value, _: &Value, faults: &mut Faults) {
    let numbers = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
    let status = tree::get(new, "status");
    workload::counts(status, &numbers, faults);
    conditions::validate(&Path::new("status.conditions"), tree::list(status, "conditions"), faults);
}

//! HorizontalPodAutoscaler: how many replicas a workload has, after what is
//! measured of it. Both versions are one stored object, that of `v2`; read
//! `old` for how `v1` says it.

mod cells;
mod old;
mod validate;

use std::sync::Arc;

use api_schema::{Hooks, ResourceSpec, Schema, StoredAs, tree};
use serde_json::{Value, json};

use crate::row::{Build, row};

const GROUP: &str = "autoscaling";
const PLURAL: &str = "horizontalpodautoscalers";
const KIND: &str = "HorizontalPodAutoscaler";

/// `autoscaling/v2`, the stored version.
pub(crate) fn v2(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        short_names: vec!["hpa".into()],
        categories: vec!["all".into()],
        columns: cells::columns(),
        hooks: Hooks {
            default: |_, scaler| default(scaler),
            validate: |_, scaler, faults| validate::scaler(scaler, faults),
            validate_status: |_, new, _, faults| validate::status(new, faults),
            ..Hooks::default()
        },
        ..row(schema, GROUP, "v2", PLURAL, KIND, "autoscaling/v2.HorizontalPodAutoscaler")
    };
    row.with_status();
    row
}

/// `autoscaling/v1`, which knows of CPU only and keeps the rest in annotations.
pub(crate) fn v1(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        short_names: vec!["hpa".into()],
        categories: vec!["all".into()],
        columns: cells::columns(),
        stored_as: Some(StoredAs {
            group: GROUP,
            version: "v2",
            plural: PLURAL,
            to_stored: old::to_stored,
            from_stored: old::from_stored,
        }),
        hooks: Hooks {
            default: |_, scaler| {
                tree::set_if_unset(scaler, "spec.minReplicas", 1);
                old::default_target(scaler);
            },
            prepare_create: |_, scaler| old::keep_annotations(scaler, &json!({}), &old::OF_STATUS),
            prepare_update: |_, new, before| {
                old::keep_annotations(new, before, &old::OF_STATUS);
            },
            prepare_status: |_, new, before| {
                old::keep_annotations(new, before, &old::OF_SPEC);
            },
            // Faults are those of what is stored, at its paths, as upstream says them.
            validate: |_, scaler, faults| {
                validate::scaler(&old::to_stored(scaler.clone()), faults);
            },
            validate_status: |_, new, _, faults| {
                validate::status(&old::to_stored(new.clone()), faults);
            },
            ..Hooks::default()
        },
        ..row(schema, GROUP, "v1", PLURAL, KIND, "autoscaling/v1.HorizontalPodAutoscaler")
    };
    row.with_status();
    row
}

fn default(scaler: &mut Value) {
    let spec = tree::slot(scaler, "spec");
    tree::set_if_unset(spec, "minReplicas", 1);
    if tree::list(spec, "metrics").is_empty() {
        tree::set(spec, "metrics", vec![old::cpu_utilization(80)]);
    }
    let behavior = tree::get(spec, "behavior");
    if !behavior.is_object() {
        return;
    }
    let down = json!([{ "type": "Percent", "value": 100, "periodSeconds": 15 }]);
    let up = json!([
        { "type": "Pods", "value": 4, "periodSeconds": 15 },
        { "type": "Percent", "value": 100, "periodSeconds": 15 },
    ]);
    tree::set_if_unset(spec, "behavior.scaleUp.stabilizationWindowSeconds", 0);
    for (direction, policies) in [("scaleUp", up), ("scaleDown", down)] {
        let rules = tree::slot(tree::slot(spec, "behavior"), direction);
        tree::set_if_unset(rules, "selectPolicy", "Max");
        tree::set_if_unset(rules, "policies", policies);
    }
}

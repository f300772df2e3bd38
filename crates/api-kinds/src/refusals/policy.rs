//! Disruption budgets and priorities.

use serde_json::json;

use super::*;

const BUDGET: [&str; 3] = ["policy", "v1", "poddisruptionbudgets"];
const PRIORITY: [&str; 3] = ["scheduling.k8s.io", "v1", "priorityclasses"];

#[test]
fn disruption_budgets() {
    refused(
        BUDGET,
        "spec",
        json!({ "minAvailable": 1, "maxUnavailable": 1 }),
        &[
            "spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1}: minAvailable and maxUnavailable cannot be both set",
        ],
    );
    refused(
        BUDGET,
        "spec.minAvailable",
        json!("101%"),
        &["spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%"],
    );
    refused(
        BUDGET,
        "spec.minAvailable",
        json!(-1),
        &["spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"],
    );
}

#[test]
fn priorities() {
    refused(
        PRIORITY,
        "value",
        json!(1_000_000_001),
        &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
    );
    refused(
        PRIORITY,
        "metadata.name",
        json!("system-a"),
        &[
            "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-a is not a known system priority class",
        ],
    );
    let spec = row(PRIORITY);
    let mut class = sample(&spec);
    put(&mut class, "metadata.name", json!("system-node-critical"));
    put(&mut class, "value", json!(2_000_001_000));
    assert_eq!(shown(spec.validate_create(&created(&spec, &class))), Vec::<String>::new());
    update(
        PRIORITY,
        "value",
        json!(1),
        json!(2),
        &["value: Forbidden: may not be changed in an update."],
    );
    update(
        PRIORITY,
        "preemptionPolicy",
        json!("Never"),
        json!("PreemptLowerPriority"),
        &["preemptionPolicy: Invalid value: \"PreemptLowerPriority\": field is immutable"],
    );
}

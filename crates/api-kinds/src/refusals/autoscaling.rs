//! Autoscalers of both versions.

use serde_json::json;

use super::*;

const NEW: [&str; 3] = ["autoscaling", "v2", "horizontalpodautoscalers"];
const OLD: [&str; 3] = ["autoscaling", "v1", "horizontalpodautoscalers"];

#[test]
fn autoscalers() {
    for version in [OLD, NEW] {
        refused(
            version,
            "spec.maxReplicas",
            json!(0),
            &[
                "spec.maxReplicas: Invalid value: 0: must be greater than 0",
                "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
            ],
        );
        refused(
            version,
            "spec.scaleTargetRef",
            json!({ "kind": "Deployment" }),
            &["spec.scaleTargetRef.name: Required value"],
        );
    }
    refused(
        OLD,
        "spec.targetCPUUtilizationPercentage",
        json!(0),
        &[
            "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
        ],
    );
    let table: &[(&str, Value, &[&str])] = &[
        (
            "spec.minReplicas",
            json!(0),
            &[
                "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
            ],
        ),
        (
            "spec.minReplicas",
            json!(-1),
            &["spec.minReplicas: Invalid value: -1: must be greater than or equal to 0"],
        ),
        (
            "spec.metrics",
            json!([{}]),
            &[
                "spec.metrics[0].type: Required value: must specify a metric source type",
                "spec.metrics[0].type: Unsupported value: \"\": supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\"",
            ],
        ),
        (
            "spec.metrics",
            json!([{ "type": "Pods" }]),
            &[
                "spec.metrics[0].pods: Required value: must populate information for the given metric source",
            ],
        ),
        (
            "spec.metrics",
            json!([{ "type": "Guess" }]),
            &[
                "spec.metrics[0].type: Unsupported value: \"Guess\": supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\"",
            ],
        ),
        (
            "spec.metrics",
            json!([{ "type": "Resource", "resource": { "name": "cpu", "target": { "type": "Utilization" } } }]),
            &[
                "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization",
            ],
        ),
        (
            "spec.behavior",
            json!({ "scaleDown": { "stabilizationWindowSeconds": 3601 } }),
            &[
                "spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
            ],
        ),
        (
            "spec.behavior",
            json!({ "scaleUp": { "policies": [{ "type": "Pods", "value": 0, "periodSeconds": 0 }] } }),
            &[
                "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
                "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 0: must be greater than zero",
            ],
        ),
    ];
    for (path, value, faults) in table {
        refused(NEW, path, value.clone(), faults);
    }
}

#[test]
fn the_older_version_leaves_the_other_half_alone() {
    let spec = row(OLD);
    let stored_as = spec.stored_as.expect("another's storage");
    let mut stored = (stored_as.to_stored)(created(&spec, &sample(&spec)));
    assert_eq!(
        stored["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50,
        "{stored}"
    );
    put(&mut stored, "status.conditions", json!([{ "type": "AbleToScale", "status": "True" }]));
    put(&mut stored, "spec.behavior", json!({ "scaleUp": { "selectPolicy": "Min" } }));
    let (_, warnings) = row(NEW)
        .conform(stored.clone(), api_schema::FieldValidation::Strict)
        .expect("the stored shape has every field");
    assert_eq!(warnings, Vec::<String>::new());
    let old = (stored_as.from_stored)(stored.clone());
    let mut bare = old.clone();
    tree::remove(&mut bare, "metadata.annotations");
    let mut updated = bare.clone();
    spec.prepare_update(&mut updated, &old);
    let after = (stored_as.to_stored)(updated);
    assert_eq!(after["status"], stored["status"]);
    assert!(after["spec"].get("behavior").is_none(), "what v1 no longer says is gone");
    let mut told = bare;
    spec.prepare_status(&mut told, &old);
    let after = (stored_as.to_stored)(told);
    assert_eq!(after["spec"], stored["spec"]);
    assert!(after["status"].get("conditions").is_none());
}

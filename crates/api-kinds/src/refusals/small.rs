//! Groups of one kind: apiregistration.k8s.io, node.k8s.io, storagemigration.k8s.io.

use serde_json::json;

use super::*;

#[test]
fn api_services() {
    const API_SERVICE: [&str; 3] = ["apiregistration.k8s.io", "v1", "apiservices"];
    refused(
        API_SERVICE,
        "metadata.name",
        json!("v2.example.com"),
        &[
            "metadata.name: Invalid value: \"v2.example.com\": must be `spec.version+\".\"+spec.group`: \"v1.example.com\"",
        ],
    );
    refused(
        API_SERVICE,
        "spec.groupPriorityMinimum",
        json!(20_001),
        &["spec.groupPriorityMinimum: Invalid value: 20001: must be positive and less than 20000"],
    );
    refused(
        API_SERVICE,
        "spec.versionPriority",
        json!(0),
        &["spec.versionPriority: Invalid value: 0: must be positive and less than 1000"],
    );
    refused(
        API_SERVICE,
        "spec.service",
        json!({ "name": "s", "port": 70000 }),
        &[
            "spec.service.namespace: Required value",
            "spec.service.port: Invalid value: 70000: port is not valid: must be between 1 and 65535, inclusive",
        ],
    );
    status(
        API_SERVICE,
        json!({}),
        json!({ "conditions": [{ "type": "Available", "status": "Maybe" }] }),
        &[
            "status.conditions[0].status: Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \"Unknown\"",
        ],
    );
}

#[test]
fn runtime_classes() {
    const RUNTIME_CLASS: [&str; 3] = ["node.k8s.io", "v1", "runtimeclasses"];
    refused(
        RUNTIME_CLASS,
        "scheduling",
        json!({ "nodeSelector": { "a": "b" }, "tolerations": [
            { "key": "k", "operator": "Exists" }, { "key": "k", "operator": "Exists" },
        ] }),
        &["scheduling.tolerations[1]: Duplicate value: {\"key\":\"k\",\"operator\":\"Exists\"}"],
    );
    refused(
        RUNTIME_CLASS,
        "overhead",
        json!({ "podFixed": { "memory": "-1" } }),
        &["overhead.podFixed[memory]: Invalid value: \"-1\": must be greater than or equal to 0"],
    );
    update(
        RUNTIME_CLASS,
        "handler",
        json!("a"),
        json!("b"),
        &["handler: Invalid value: \"b\": field is immutable"],
    );
}

#[test]
fn migrations() {
    const MIGRATION: [&str; 3] = ["storagemigration.k8s.io", "v1", "storageversionmigrations"];
    refused(
        MIGRATION,
        "spec.resource.resource",
        json!(""),
        &["spec.resource.resource: Required value: resource is required to be set"],
    );
    let condition = |kind: &str, status: &str| {
        json!({
            "type": kind, "status": status, "reason": "R", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    status(
        MIGRATION,
        json!({ "resourceVersion": "1" }),
        json!({ "resourceVersion": "01" }),
        &[
            "status.resourceVersion: Invalid value: \"01\": resource version is not well formed: 01",
            "status.resourceVersion: Invalid value: \"01\": field is immutable",
        ],
    );
    let both = json!([condition("Succeeded", "True"), condition("Failed", "True")]);
    status(
        MIGRATION,
        json!({}),
        json!({ "conditions": both }),
        &[&format!(
            "status.conditions: Invalid value: {both}: Both success and failed conditions cannot be true at the same time"
        )],
    );
}

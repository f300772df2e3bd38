//! Deployments and their kin.

use serde_json::json;

use super::*;

const DEPLOYMENT: [&str; 3] = ["apps", "v1", "deployments"];

#[test]
fn deployments() {
    refused(DEPLOYMENT, "spec.selector", Value::Null, &["spec.selector: Required value"]);
    refused(
        DEPLOYMENT,
        "spec.selector",
        json!({ "matchLabels": { "b": "c" } }),
        &[
            "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
        ],
    );
    refused(
        DEPLOYMENT,
        "spec.replicas",
        json!(-1),
        &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
    );
    refused(
        DEPLOYMENT,
        "spec.template.spec.restartPolicy",
        json!("Never"),
        &[
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ],
    );
    refused(
        DEPLOYMENT,
        "spec.strategy",
        json!({ "rollingUpdate": { "maxSurge": 0, "maxUnavailable": "0%" } }),
        &[
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
        ],
    );
    refused(
        DEPLOYMENT,
        "spec.strategy.type",
        json!("Slowly"),
        &[
            "spec.strategy.type: Unsupported value: \"Slowly\": supported values: \"Recreate\", \"RollingUpdate\"",
        ],
    );
}

#[test]
fn generation_rises_with_the_desired_state_only() {
    let spec = row(["apps", "v1", "deployments"]);
    let old = created(&spec, &sample(&spec));
    assert_eq!(tree::int(&old, "metadata.generation"), Some(1));
    for (path, value, generation) in [
        ("spec.replicas", json!(3), 2),
        ("metadata.annotations", json!({ "a": "b" }), 2),
        ("metadata.labels", json!({ "a": "b" }), 1),
        ("status.replicas", json!(3), 1),
        ("metadata.generation", json!(9), 1),
    ] {
        let mut new = old.clone();
        put(&mut new, path, value);
        spec.prepare_update(&mut new, &old);
        assert_eq!(tree::int(&new, "metadata.generation"), Some(generation), "{path}");
    }
}

#[test]
fn selectors_cannot_change() {
    update(
        DEPLOYMENT,
        "spec.selector",
        json!({ "matchLabels": { "app": "a" } }),
        json!({ "matchExpressions": [{ "key": "app", "operator": "Exists" }] }),
        &[
            "spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"app\",\"operator\":\"Exists\"}]}: field is immutable",
        ],
    );
}

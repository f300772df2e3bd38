//! Deployments and their kin.

use serde_json::json;

use super::*;

const DEPLOYMENT: [&str; 3] = ["apps", "v1", "deployments"];

#[test]
fn deployments() {
    // Nothing is selected, the pods of the template neither.
    const MATCHES_NOT: &str = "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`";
    const REQUIRED: &str = "spec.selector: Required value";
    refused(DEPLOYMENT, "spec.selector", Value::Null, &[REQUIRED, MATCHES_NOT]);
    for resource in ["replicasets", "statefulsets"] {
        refused(["apps", "v1", resource], "spec.selector", Value::Null, &[REQUIRED, MATCHES_NOT]);
    }
    refused(["apps", "v1", "daemonsets"], "spec.selector", Value::Null, &[MATCHES_NOT]);
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

#[test]
fn daemon_sets() {
    const SET: [&str; 3] = ["apps", "v1", "daemonsets"];
    let rolling = |unavailable: Value, surge: Value| json!({ "rollingUpdate": { "maxUnavailable": unavailable, "maxSurge": surge } });
    let table: &[(&str, Value, &[&str])] = &[
        (
            "spec.selector",
            json!({}),
            &["spec.selector: Invalid value: {}: empty selector is invalid for daemonset"],
        ),
        (
            "spec.updateStrategy",
            rolling(json!(1), json!("10%")),
            &[
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: \"10%\": may not be set when maxUnavailable is non-zero",
            ],
        ),
        (
            "spec.updateStrategy",
            rolling(json!(0), json!(0)),
            &[
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
            ],
        ),
        (
            "spec.template.spec.activeDeadlineSeconds",
            json!(5),
            &[
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in DaemonSet is not Supported",
            ],
        ),
    ];
    for (path, value, faults) in table {
        refused(SET, path, value.clone(), faults);
    }
    let spec = row(SET);
    let old = created(&spec, &sample(&spec));
    let count = |object: &Value| {
        object["metadata"]["annotations"]["deprecated.daemonset.template.generation"].clone()
    };
    assert_eq!(count(&old), "1");
    for (path, expect) in [("spec.minReadySeconds", "1"), ("spec.template.spec.priority", "2")] {
        let mut new = old.clone();
        put(&mut new, path, json!(7));
        spec.prepare_update(&mut new, &old);
        assert_eq!(count(&new), expect, "{path}");
    }
}

#[test]
fn stateful_sets() {
    const SET: [&str; 3] = ["apps", "v1", "statefulsets"];
    const FORBIDDEN: &str = "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    let table: &[(&str, Value, &[&str])] = &[
        (
            "spec.updateStrategy",
            json!({ "type": "OnDelete", "rollingUpdate": { "partition": 1 } }),
            &[
                "spec.updateStrategy.rollingUpdate: Invalid value: {\"partition\":1}: only allowed for updateStrategy 'RollingUpdate'",
            ],
        ),
        (
            "spec.updateStrategy",
            json!({ "type": "Recreate" }),
            &[
                "spec.updateStrategy.type: Unsupported value: \"Recreate\": supported values: \"OnDelete\", \"RollingUpdate\"",
            ],
        ),
        (
            "spec.persistentVolumeClaimRetentionPolicy",
            json!({ "whenDeleted": "Burn" }),
            &[
                "spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: \"Burn\": supported values: \"Delete\", \"Retain\"",
            ],
        ),
        (
            "spec.ordinals",
            json!({ "start": -1 }),
            &["spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0"],
        ),
        (
            "spec.volumeClaimTemplates",
            json!([{ "metadata": { "name": "data" }, "spec": { "accessModes": ["ReadWriteOnce"] } }]),
            &["spec.volumeClaimTemplates[0].spec.resources[storage]: Required value"],
        ),
    ];
    for (path, value, faults) in table {
        refused(SET, path, value.clone(), faults);
    }
    update(SET, "spec.replicas", json!(1), json!(2), &[]);
    update(SET, "spec.serviceName", json!("a"), json!("b"), &[FORBIDDEN]);
    // A container mounts a claim as it mounts a volume.
    let spec = row(SET);
    let mut set = sample(&spec);
    put(
        &mut set,
        "spec.template.spec.containers.0.volumeMounts",
        json!([{ "name": "data", "mountPath": "/data" }]),
    );
    let faults = |set: &Value| shown(spec.validate_create(&created(&spec, set)));
    assert_eq!(
        faults(&set),
        ["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"data\""]
    );
    put(
        &mut set,
        "spec.volumeClaimTemplates",
        json!([{
            "metadata": { "name": "data" },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
        }]),
    );
    assert_eq!(faults(&set), Vec::<String>::new());
    let claim = &created(&spec, &set)["spec"]["volumeClaimTemplates"][0];
    assert_eq!(
        (&claim["kind"], &claim["status"]["phase"], &claim["spec"]["volumeMode"]),
        (&json!("PersistentVolumeClaim"), &json!("Pending"), &json!("Filesystem"))
    );
}

#[test]
fn replication_controllers() {
    const CONTROLLER: [&str; 3] = ["", "v1", "replicationcontrollers"];
    refused(
        CONTROLLER,
        "spec.selector",
        json!({ "b": "c" }),
        &[
            "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
        ],
    );
    refused(
        CONTROLLER,
        "spec",
        json!({}),
        &["spec.selector: Required value", "spec.template: Required value"],
    );
    let spec = row(CONTROLLER);
    let controller = created(&spec, &sample(&spec));
    assert_eq!(controller["spec"]["selector"], json!({ "app": "a" }));
    assert_eq!(controller["metadata"]["labels"], json!({ "app": "a" }));
    assert_eq!(controller["spec"]["replicas"], 1);
    let Some(api_schema::Role::Scale(paths)) = spec.subresource("scale").map(|sub| &sub.role)
    else {
        panic!("a scale");
    };
    assert_eq!(spec.scale_of(paths, &controller)["status"]["selector"], "app=a");
}

#[test]
fn controller_revisions() {
    const REVISION: [&str; 3] = ["apps", "v1", "controllerrevisions"];
    refused(REVISION, "data", Value::Null, &["data: Required value: data is mandatory"]);
    refused(
        REVISION,
        "revision",
        json!(-1),
        &["revision: Invalid value: -1: must be greater than or equal to 0"],
    );
    update(
        REVISION,
        "data",
        json!({ "a": 1 }),
        json!({ "a": 2 }),
        &["data: Invalid value: {\"a\":2}: field is immutable"],
    );
}

//! Limit ranges, quotas, volumes and claims.

use serde_json::json;

use super::*;

const LIMITS: [&str; 3] = ["", "v1", "limitranges"];
const QUOTA: [&str; 3] = ["", "v1", "resourcequotas"];
const VOLUME: [&str; 3] = ["", "v1", "persistentvolumes"];
const CLAIM: [&str; 3] = ["", "v1", "persistentvolumeclaims"];

#[test]
fn limit_ranges() {
    let table: &[(Value, &[&str])] = &[
        (
            json!([{ "type": "Node", "max": { "cpu": "1" } }]),
            &[
                "spec.limits[0].type: Invalid value: \"Node\": must be a standard limit type or fully qualified",
            ],
        ),
        (
            json!([{ "type": "Pod", "max": { "cpu": "1" } }, { "type": "Pod" }]),
            &["spec.limits[1].type: Duplicate value: \"Pod\""],
        ),
        (
            json!([{ "type": "Pod", "default": { "cpu": "1" } }]),
            &["spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"],
        ),
        (
            json!([{ "type": "Container", "max": { "storage": "1" } }]),
            &[
                "spec.limits[0].max[storage]: Invalid value: \"storage\": must be a standard resource for containers",
                "spec.limits[0].default[storage]: Invalid value: \"storage\": must be a standard resource for containers",
                "spec.limits[0].defaultRequest[storage]: Invalid value: \"storage\": must be a standard resource for containers",
            ],
        ),
        (
            json!([{ "type": "PersistentVolumeClaim" }]),
            &[
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
            ],
        ),
        (
            json!([{ "type": "Pod", "min": { "cpu": "2" }, "max": { "cpu": "1" } }]),
            &[
                "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
            ],
        ),
        (
            json!([{ "type": "Container", "max": { "cpu": "1" }, "default": { "cpu": "2" } }]),
            &[
                "spec.limits[0].defaultRequest[cpu]: Invalid value: \"2\": default request value 2 is greater than max value 1",
                "spec.limits[0].default[cpu]: Invalid value: \"2\": default value 2 is greater than max value 1",
            ],
        ),
        (
            json!([{ "type": "Pod", "maxLimitRequestRatio": { "cpu": "800m" } }]),
            &[
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"800m\": ratio 800m is less than 1",
            ],
        ),
        (
            json!([{
                "type": "Pod", "min": { "cpu": "1" }, "max": { "cpu": "2" },
                "maxLimitRequestRatio": { "cpu": "3" },
            }]),
            &[
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000",
            ],
        ),
    ];
    for (value, faults) in table {
        refused(LIMITS, "spec.limits", value.clone(), faults);
    }
}

#[test]
fn quotas() {
    refused(
        QUOTA,
        "spec.hard",
        json!({ "apples": "1", "pods": "500m", "cpu": "-1" }),
        &[
            "spec.hard[apples]: Invalid value: \"apples\": must be a standard resource type or fully qualified",
            "spec.hard[apples]: Invalid value: \"apples\": must be a standard resource for quota",
            "spec.hard[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            "spec.hard[pods]: Invalid value: \"500m\": must be an integer",
        ],
    );
    refused(
        QUOTA,
        "spec",
        json!({ "hard": { "configmaps": "1" }, "scopes": ["BestEffort", "NotBestEffort"] }),
        &[
            "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: unsupported scope applied to resource",
            "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: unsupported scope applied to resource",
            "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
        ],
    );
    refused(
        QUOTA,
        "spec.scopeSelector",
        json!({ "matchExpressions": [{ "scopeName": "PriorityClass", "operator": "In" }] }),
        &[
            "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
        ],
    );
    update(
        QUOTA,
        "spec.scopes",
        json!(["BestEffort"]),
        json!([]),
        &["spec.scopes: Invalid value: []: field is immutable"],
    );
}

#[test]
fn volumes() {
    let table: &[(&str, Value, &[&str])] = &[
        ("spec.accessModes", json!([]), &["spec.accessModes: Required value"]),
        (
            "spec.accessModes",
            json!(["ReadWriteOncePod", "ReadWriteOnce"]),
            &["spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"],
        ),
        ("spec.capacity", json!({}), &["spec.capacity: Required value"]),
        (
            "spec.capacity",
            json!({ "storage": "0" }),
            &["spec.capacity[storage]: Invalid value: \"0\": must be greater than zero"],
        ),
        ("spec.hostPath", Value::Null, &["spec: Required value: must specify a volume type"]),
        (
            "spec.nfs",
            json!({ "server": "s", "path": "/" }),
            &["spec.nfs: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            "spec",
            json!({
                "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"],
                "local": { "path": "/a" },
            }),
            &["spec.nodeAffinity: Required value: Local volume requires node affinity"],
        ),
        (
            "spec.persistentVolumeReclaimPolicy",
            json!("Burn"),
            &[
                "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Burn\": supported values: \"Delete\", \"Recycle\", \"Retain\"",
            ],
        ),
    ];
    for (path, value, faults) in table {
        refused(VOLUME, path, value.clone(), faults);
    }
    update(
        VOLUME,
        "spec.hostPath.path",
        json!("/a"),
        json!("/b"),
        &[
            "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation",
        ],
    );
    update(VOLUME, "spec.capacity.storage", json!("1Gi"), json!("2Gi"), &[]);
    update(
        VOLUME,
        "spec.volumeMode",
        json!("Block"),
        json!("Filesystem"),
        &["volumeMode: Invalid value: \"Filesystem\": field is immutable"],
    );
}

#[test]
fn claims() {
    let table: &[(&str, Value, &[&str])] = &[
        (
            "spec.accessModes",
            json!([]),
            &["spec.accessModes: Required value: at least 1 access mode is required"],
        ),
        ("spec.resources", json!({}), &["spec.resources[storage]: Required value"]),
        (
            "spec.resources.requests.storage",
            json!("0"),
            &["spec.resources[storage]: Invalid value: \"0\": must be greater than zero"],
        ),
        (
            "spec.dataSource",
            json!({ "kind": "VolumeSnapshot", "name": "a" }),
            &[
                "spec.dataSource: Invalid value: \"VolumeSnapshot\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
                "spec.dataSourceRef: Invalid value: \"VolumeSnapshot\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            ],
        ),
    ];
    for (path, value, faults) in table {
        refused(CLAIM, path, value.clone(), faults);
    }
}

#[test]
fn claims_are_bound_once_and_grow() {
    const IMMUTABLE: &str = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    let spec = row(CLAIM);
    let free = created(&spec, &sample(&spec));
    let check = |old: &Value, path: &str, value: Value, faults: &[&str]| {
        let mut new = old.clone();
        put(&mut new, path, value);
        spec.default(&mut new);
        spec.prepare_update(&mut new, old);
        assert_eq!(shown(spec.validate_update(&new, old)), faults, "{path}");
    };
    check(&free, "spec.volumeName", json!("v"), &[]);
    check(&free, "spec.storageClassName", json!("fast"), &[]);
    check(&free, "spec.resources.requests.storage", json!("2Gi"), &[IMMUTABLE]);
    let mut bound = free;
    put(&mut bound, "spec.volumeName", json!("v"));
    put(&mut bound, "spec.storageClassName", json!("slow"));
    put(&mut bound, "status", json!({ "phase": "Bound", "capacity": { "storage": "1Gi" } }));
    check(&bound, "spec.volumeName", json!("w"), &[IMMUTABLE]);
    check(&bound, "spec.storageClassName", json!("fast"), &[IMMUTABLE]);
    check(&bound, "spec.resources.requests.storage", json!("2Gi"), &[]);
    check(
        &bound,
        "spec.resources.requests.storage",
        json!("500Mi"),
        &["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"],
    );
}

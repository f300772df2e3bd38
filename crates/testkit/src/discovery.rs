//! What the fake says it serves.

use serde_json::{Value, json};

/// Group, version, plural, kind, whether namespaced.
const RESOURCES: &[(&str, &str, &str, &str, bool)] = &[
    ("", "v1", "configmaps", "ConfigMap", true),
    ("", "v1", "endpoints", "Endpoints", true),
    ("", "v1", "events", "Event", true),
    ("", "v1", "namespaces", "Namespace", false),
    ("", "v1", "nodes", "Node", false),
    ("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", true),
    ("", "v1", "pods", "Pod", true),
    ("", "v1", "replicationcontrollers", "ReplicationController", true),
    ("", "v1", "resourcequotas", "ResourceQuota", true),
    ("", "v1", "secrets", "Secret", true),
    ("", "v1", "serviceaccounts", "ServiceAccount", true),
    ("", "v1", "services", "Service", true),
    ("apps", "v1", "controllerrevisions", "ControllerRevision", true),
    ("apps", "v1", "daemonsets", "DaemonSet", true),
    ("apps", "v1", "deployments", "Deployment", true),
    ("apps", "v1", "replicasets", "ReplicaSet", true),
    ("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", true),
    ("batch", "v1", "cronjobs", "CronJob", true),
    ("batch", "v1", "jobs", "Job", true),
    ("apps", "v1", "statefulsets", "StatefulSet", true),
    ("coordination.k8s.io", "v1", "leases", "Lease", true),
    ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", true),
];

/// The answer to a discovery request; `None` where the path is none.
pub(crate) fn answer(path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let (group, version) = match parts.as_slice() {
        ["apis"] => return Some(groups()),
        ["apis", group] => {
            let all = groups()["groups"].as_array().cloned().unwrap_or_default();
            return all.into_iter().find(|known| known["name"] == *group);
        }
        ["api", version] => ("", *version),
        ["apis", group, version] => (*group, *version),
        _ => return None,
    };
    let resources = RESOURCES.iter().filter(|row| (row.0, row.1) == (group, version));
    let resources: Vec<Value> = resources
        .map(|(_, _, plural, kind, namespaced)| {
            json!({
                "name": plural,
                "kind": kind,
                "namespaced": namespaced,
                "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
            })
        })
        .collect();
    Some(json!({"kind": "APIResourceList", "resources": resources}))
}

fn groups() -> Value {
    let mut names: Vec<(&str, &str)> =
        RESOURCES.iter().map(|row| (row.0, row.1)).filter(|(group, _)| !group.is_empty()).collect();
    names.dedup();
    let groups: Vec<Value> = names
        .into_iter()
        .map(|(group, version)| {
            let version = json!({"groupVersion": format!("{group}/{version}"), "version": version});
            json!({"name": group, "versions": [version], "preferredVersion": version})
        })
        .collect();
    json!({"kind": "APIGroupList", "groups": groups})
}

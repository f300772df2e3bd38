//! Objects in a few words.

use api_object::Object;
use serde_json::{Value, json};

/// An object under construction.
#[derive(Clone, Debug, PartialEq)]
pub struct Build(Value);

fn start(api_version: &str, kind: &str, key: &str) -> Build {
    let mut metadata = json!({"uid": format!("uid-{key}")});
    match key.split_once('/') {
        Some((namespace, name)) => {
            metadata["namespace"] = json!(namespace);
            metadata["name"] = json!(name);
        }
        None => metadata["name"] = json!(key),
    }
    Build(json!({"apiVersion": api_version, "kind": kind, "metadata": metadata}))
}

/// A Pod with one container that asks for nothing: `pod("default/web-1")`.
pub fn pod(key: &str) -> Build {
    start("v1", "Pod", key)
        .set("/spec", json!({"containers": [{"name": "main", "image": "web"}]}))
        .set("/status", json!({"phase": "Pending"}))
}

/// A Deployment of `app: <name>`, with the server's defaults.
pub fn deployment(key: &str, replicas: i32) -> Build {
    let name = key.rsplit('/').next().unwrap_or(key);
    start("apps/v1", "Deployment", key).set("/metadata/generation", json!(1)).set(
        "/spec",
        json!({
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "web"}]},
            },
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
            },
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
        }),
    )
}

/// A ReplicaSet of `app: <name>`.
pub fn replica_set(key: &str, replicas: i32) -> Build {
    let name = key.rsplit('/').next().unwrap_or(key);
    start("apps/v1", "ReplicaSet", key)
        .set("/metadata/generation", json!(1))
        .set("/metadata/labels", json!({"app": name}))
        .set(
            "/spec",
            json!({
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "main", "image": "web"}]},
                },
            }),
        )
}

/// A ReplicationController of `app: <name>`.
pub fn replication_controller(key: &str, replicas: i32) -> Build {
    let name = key.rsplit('/').next().unwrap_or(key);
    start("v1", "ReplicationController", key).set("/metadata/generation", json!(1)).set(
        "/spec",
        json!({
            "replicas": replicas,
            "selector": {"app": name},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "web"}]},
            },
        }),
    )
}

/// A Job of `job-name: <name>` that one pod has to do, with the server's
/// defaults.
pub fn job(key: &str) -> Build {
    let name = key.rsplit('/').next().unwrap_or(key);
    start("batch/v1", "Job", key).set("/metadata/generation", json!(1)).set(
        "/spec",
        json!({
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": 6,
            "completionMode": "NonIndexed",
            "podReplacementPolicy": "TerminatingOrFailed",
            "selector": {"matchLabels": {"job-name": name}},
            "template": {
                "metadata": {"labels": {"job-name": name}},
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{"name": "main", "image": "work"}],
                },
            },
        }),
    )
}

/// A StatefulSet of `app: <name>`, with the server's defaults.
pub fn stateful_set(key: &str, replicas: i32) -> Build {
    let name = key.rsplit('/').next().unwrap_or(key);
    start("apps/v1", "StatefulSet", key).set("/metadata/generation", json!(1)).set(
        "/spec",
        json!({
            "replicas": replicas,
            "serviceName": name,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "web"}]},
            },
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "revisionHistoryLimit": 10,
        }),
    )
}

/// A DaemonSet of `app: <name>`, with the server's defaults.
pub fn daemon_set(key: &str) -> Build {
    let name = key.rsplit('/').next().unwrap_or(key);
    start("apps/v1", "DaemonSet", key).set("/metadata/generation", json!(1)).set(
        "/spec",
        json!({
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "web"}]},
            },
            "updateStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0},
            },
            "revisionHistoryLimit": 10,
        }),
    )
}

/// A Service that selects `app: <name>` on port 80 → 8080.
pub fn service(key: &str) -> Build {
    let name = key.rsplit('/').next().unwrap_or(key);
    start("v1", "Service", key).set(
        "/spec",
        json!({
            "type": "ClusterIP",
            "clusterIP": "10.43.0.20",
            "clusterIPs": ["10.43.0.20"],
            "ipFamilies": ["IPv4"],
            "selector": {"app": name},
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
        }),
    )
}

/// A ready Node of 4 CPUs, 8 GiB and 110 pods.
pub fn node(name: &str) -> Build {
    start("v1", "Node", name)
        .label("kubernetes.io/hostname", name)
        .set("/status/allocatable", json!({"cpu": "4", "memory": "8Gi", "pods": "110"}))
        .condition("Ready", "True")
}

/// An active Namespace.
pub fn namespace(name: &str) -> Build {
    start("v1", "Namespace", name)
        .set("/spec/finalizers", json!(["kubernetes"]))
        .set("/status/phase", json!("Active"))
}

impl Build {
    /// An object of any kind, empty but for that.
    pub fn new(api_version: &str, kind: &str) -> Self {
        Self(json!({"apiVersion": api_version, "kind": kind}))
    }

    /// Sets a value by JSON pointer; objects on the way are made, and a `-`
    /// appends to a list.
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        let mut at = &mut self.0;
        for part in pointer.split('/').skip(1) {
            let part = part.replace("~1", "/");
            if part == "-" {
                if at.is_null() {
                    *at = json!([]);
                }
                let list = at.as_array_mut().expect("`-` is for lists");
                list.push(Value::Null);
                at = list.last_mut().expect("just pushed");
            } else if let Some(index) = part.parse::<usize>().ok().filter(|_| at.is_array()) {
                at = &mut at[index];
            } else {
                at = &mut at[part];
            }
        }
        *at = value;
        self
    }

    /// A label.
    pub fn label(self, key: &str, value: &str) -> Self {
        self.set(&format!("/metadata/labels/{}", key.replace('/', "~1")), json!(value))
    }

    /// An annotation.
    pub fn annotation(self, key: &str, value: &str) -> Self {
        self.set(&format!("/metadata/annotations/{}", key.replace('/', "~1")), json!(value))
    }

    /// A condition of a status: `condition("Ready", "True")`.
    pub fn condition(self, r#type: &str, status: &str) -> Self {
        self.set(
            "/status/conditions/-",
            json!({"type": r#type, "status": status, "lastTransitionTime": "2023-11-14T22:13:20Z"}),
        )
    }

    /// A pod that was bound to a node.
    pub fn on(self, node: &str) -> Self {
        self.set("/spec/nodeName", json!(node))
    }

    /// A pod that runs, with an address.
    pub fn running(self, ip: &str) -> Self {
        self.set("/status/phase", json!("Running"))
            .set("/status/podIP", json!(ip))
            .set("/status/podIPs", json!([{"ip": ip}]))
    }

    /// A pod that runs and is ready.
    pub fn ready(self, ip: &str) -> Self {
        self.running(ip).condition("Ready", "True")
    }

    /// A pod whose container asks for so much: `requests("500m", "1Gi")`.
    pub fn requests(self, cpu: &str, memory: &str) -> Self {
        self.set("/spec/containers/0/resources/requests", json!({"cpu": cpu, "memory": memory}))
    }

    /// An object whose deletion was asked for.
    pub fn deleting(self) -> Self {
        self.set("/metadata/deletionTimestamp", json!("2023-11-14T22:13:20Z"))
    }

    /// An object that another one controls.
    pub fn owned_by(self, owner: &Build) -> Self {
        let owner = json!({
            "apiVersion": owner.0["apiVersion"],
            "kind": owner.0["kind"],
            "name": owner.0["metadata"]["name"],
            "uid": owner.0["metadata"]["uid"],
            "controller": true,
            "blockOwnerDeletion": true,
        });
        self.set("/metadata/ownerReferences/-", owner)
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        self.0.clone()
    }

    /// As the caches get it.
    pub fn object(&self) -> Object {
        Object::parse(self.0.to_string().into()).expect("builders build objects")
    }
}

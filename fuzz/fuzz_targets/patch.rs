//! Any patch of any media type: it is read or refused, and what is read as a
//! strategic merge patch is merged into a Pod or refused.

#![no_main]

use std::sync::LazyLock;

use api_registry::Patch;
use api_schema::ResourceSpec;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const MEDIA_TYPES: [&str; 3] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

static PODS: LazyLock<std::sync::Arc<ResourceSpec>> =
    LazyLock::new(|| api_kinds::catalogue().find("", "v1", "pods").expect("a kind").clone());

static POD: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "labels": {"a": "b"}, "finalizers": ["a.example/b", "c.example/d"]},
        "spec": {
            "containers": [
                {"name": "a", "image": "x", "ports": [{"containerPort": 80, "protocol": "TCP"}]},
                {"name": "b", "image": "y", "env": [{"name": "A", "value": "1"}]},
            ],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "configMap": {"name": "m"}}],
            "tolerations": [{"key": "k", "operator": "Exists"}],
        },
    })
});

fuzz_target!(|bytes: &[u8]| {
    for media_type in MEDIA_TYPES {
        if let Ok(Patch::Strategic(patch)) = Patch::parse(media_type, bytes) {
            let _ = PODS.strategic_merge(POD.clone(), patch);
        }
    }
});

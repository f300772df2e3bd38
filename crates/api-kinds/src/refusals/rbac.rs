//! Roles and bindings.

use serde_json::json;

use super::*;

#[test]
fn roles_and_bindings() {
    let roles = ["rbac.authorization.k8s.io", "v1", "roles"];
    refused(
        roles,
        "rules",
        json!([{ "apiGroups": [""], "resources": ["pods"] }]),
        &["rules[0].verbs: Required value: verbs must contain at least one value"],
    );
    let bindings = ["rbac.authorization.k8s.io", "v1", "clusterrolebindings"];
    refused(
        bindings,
        "roleRef.kind",
        json!("Role"),
        &["roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""],
    );
    refused(
        bindings,
        "subjects",
        json!([{ "kind": "ServiceAccount", "name": "a" }]),
        &["subjects[0].namespace: Required value"],
    );
}

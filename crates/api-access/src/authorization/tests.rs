use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::{
    bootstrap::controller_identity,
    state::{
        CLUSTER_ROLES, PERSISTENT_VOLUMES, POD_CERTIFICATE_REQUESTS, PODS, RESOURCE_SLICES,
        ROLE_BINDINGS, ROLES, VOLUME_ATTACHMENTS,
    },
    testing::{World, admin, node_user, user},
};

/// `list pods default`, `get pods/log default a`, `update deployments.apps default`,
/// `get secrets - a` (no namespace), `get /healthz`.
fn ask(who: &Arc<UserInfo>, text: &str) -> RequestAttributes {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut asked = RequestAttributes {
        user: who.clone(),
        verb: words[0].into(),
        ..RequestAttributes::default()
    };
    if words[1].starts_with('/') {
        asked.path = words[1].into();
        return asked;
    }
    asked.resource_request = true;
    let (resource, group) = words[1].split_once('.').unwrap_or((words[1], ""));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    asked.resource = resource.into();
    asked.subresource = subresource.into();
    asked.group = group.into();
    asked.version = "v1".into();
    asked.namespace = words.get(2).filter(|word| **word != "-").map_or("", |word| word).into();
    let rest = words.get(3).copied().unwrap_or("");
    match rest.strip_prefix('?') {
        Some(selector) => asked.field_selector = selector.into(),
        None => asked.name = rest.into(),
    }
    asked
}

#[track_caller]
fn check(world: &World, who: &Arc<UserInfo>, text: &str, allowed: bool) {
    let decision = judge(&world.access.state(), &ask(who, text));
    assert_eq!(decision == Decision::Allow, allowed, "{} {text}: {decision:?}", who.name);
}

#[track_caller]
fn table(world: &World, who: &Arc<UserInfo>, allowed: &[&str], refused: &[&str]) {
    allowed.iter().for_each(|text| check(world, who, text, true));
    refused.iter().for_each(|text| check(world, who, text, false));
}

fn role_binding(
    namespace: &str,
    name: &str,
    role: serde_json::Value,
    subject: serde_json::Value,
) -> serde_json::Value {
    json!({ "metadata": { "name": name, "namespace": namespace }, "roleRef": role, "subjects": [subject] })
}

fn world() -> World {
    let world = World::new(&["10.43.0.0/16"]);
    let rule = |verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]| json!({ "verbs": verbs, "apiGroups": groups, "resources": resources, "resourceNames": names });
    world.add(
        ROLES,
        json!({
            "metadata": { "name": "reader", "namespace": "default" },
            "rules": [
                rule(&["get", "list"], &[""], &["pods", "pods/log"], &[]),
                rule(&["get", "update"], &[""], &["configmaps"], &["settings"]),
                rule(&["get"], &["*"], &["*/scale"], &[]),
            ],
        }),
    );
    let reader = || json!({ "kind": "Role", "name": "reader" });
    world.add(
        ROLE_BINDINGS,
        role_binding("default", "jane", reader(), json!({ "kind": "User", "name": "jane" })),
    );
    world.add(
        ROLE_BINDINGS,
        role_binding(
            "default",
            "bot",
            reader(),
            json!({ "kind": "ServiceAccount", "name": "bot" }),
        ),
    );
    world.add(
        ROLE_BINDINGS,
        role_binding(
            "default",
            "gone",
            json!({ "kind": "Role", "name": "gone" }),
            json!({ "kind": "Group", "name": "devs" }),
        ),
    );
    world.add(
        ROLE_BINDINGS,
        role_binding(
            "stage",
            "devs",
            json!({ "kind": "ClusterRole", "name": "ops" }),
            json!({ "kind": "Group", "name": "devs" }),
        ),
    );
    world.add(
        CLUSTER_ROLES,
        json!({
            "metadata": { "name": "ops" }, "rules": [rule(&["*"], &["", "apps"], &["*"], &[])],
        }),
    );
    world.add(PODS, json!({
        "metadata": { "name": "web-0", "namespace": "default", "uid": "u1" },
        "spec": {
            "nodeName": "pi", "serviceAccountName": "web",
            "imagePullSecrets": [{ "name": "pull" }],
            "volumes": [
                { "name": "a", "secret": { "secretName": "tls" } },
                { "name": "b", "projected": { "sources": [{ "configMap": { "name": "kube-root-ca.crt" } }, { "secret": { "name": "projected" } }] } },
                { "name": "c", "persistentVolumeClaim": { "claimName": "data" } },
                { "name": "scratch", "ephemeral": { "volumeClaimTemplate": {} } },
            ],
            "resourceClaims": [{ "name": "gpu", "resourceClaimTemplateName": "gpu" }],
            "ephemeralContainers": [{ "envFrom": [{ "secretRef": { "name": "debug" } }] }],
            "initContainers": [{ "envFrom": [{ "configMapRef": { "name": "init" } }] }],
            "containers": [{ "env": [{ "name": "X", "valueFrom": { "secretKeyRef": { "name": "env", "key": "x" } } }] }],
        },
        "status": { "resourceClaimStatuses": [{ "name": "gpu", "resourceClaimName": "web-0-gpu" }] },
    }));
    world.add(PODS, json!({
        "metadata": { "name": "mirror", "namespace": "default", "uid": "u3", "annotations": { "kubernetes.io/config.mirror": "x" } },
        "spec": { "nodeName": "pi", "serviceAccountName": "stolen", "volumes": [{ "name": "a", "secret": { "secretName": "stolen" } }] },
    }));
    for (volume, claim) in [("disk", "data"), ("their-disk", "their-data")] {
        world.add(PERSISTENT_VOLUMES, json!({
            "metadata": { "name": volume },
            "spec": {
                "claimRef": { "namespace": "default", "name": claim },
                "csi": {
                    "driver": "d",
                    "nodeStageSecretRef": { "namespace": "storage", "name": format!("{volume}-node") },
                    "controllerPublishSecretRef": { "namespace": "storage", "name": format!("{volume}-controller") },
                },
            },
        }));
    }
    for (name, node) in [("mine", "pi"), ("theirs", "pi2")] {
        for resource in [VOLUME_ATTACHMENTS, RESOURCE_SLICES] {
            world.add(
                resource,
                json!({ "metadata": { "name": name }, "spec": { "nodeName": node } }),
            );
        }
        world.add(
            POD_CERTIFICATE_REQUESTS,
            json!({ "metadata": { "namespace": "default", "name": name }, "spec": { "nodeName": node } }),
        );
    }
    world.add(PODS, json!({
        "metadata": { "name": "other", "namespace": "default", "uid": "u2" },
        "spec": { "nodeName": "pi2", "serviceAccountName": "other", "volumes": [{ "name": "a", "secret": { "secretName": "theirs" } }] },
    }));
    world
}

#[test]
fn users_groups_and_accounts() {
    let world = world();
    table(
        &world,
        &user("jane", &["system:authenticated"]),
        &[
            "get pods default a",
            "list pods default",
            "get pods/log default a",
            "get configmaps default settings",
            "get deployments/scale.apps default web",
            "get /healthz",
            "get /api",
            "get /apis/apps/v1",
            "create selfsubjectaccessreviews.authorization.k8s.io",
        ],
        &[
            "list pods",
            "list pods kube-system",
            "delete pods default a",
            "get pods/exec default a",
            "get configmaps default other",
            "list configmaps default",
            "update deployments/scale.apps default web",
            "get deployments.apps default web",
            "get /metrics",
            "post /healthz",
            "get nodes - pi",
            "create tokenreviews.authentication.k8s.io",
        ],
    );
    table(
        &world,
        &user("system:serviceaccount:default:bot", &["system:authenticated"]),
        &["list pods default"],
        &["list pods stage"],
    );
    table(
        &world,
        &user("system:serviceaccount:stage:bot", &["system:authenticated"]),
        &[],
        &["list pods default"],
    );
    table(
        &world,
        &user("joe", &["devs"]),
        &["delete pods stage a", "create deployments.apps stage", "get pods/exec stage a"],
        &["delete pods default a", "delete jobs.batch stage a", "list pods"],
    );
    table(&world, &admin(), &["delete nodes - pi", "*  pods", "get /anything"], &[]);
    table(
        &world,
        &Arc::new(UserInfo::anonymous()),
        &["get /healthz", "get /livez", "get /readyz", "get /version"],
        &["get /api", "get /metrics", "list pods default", "get /healthz/etcd", "get /openapi/v2"],
    );
    let cluster_admin = user("root", &["system:masters"]);
    table(&world, &cluster_admin, &["delete pods"], &[]);
}

#[test]
fn a_binding_that_goes_takes_its_rights_along() {
    let world = world();
    let jane = user("jane", &[]);
    check(&world, &jane, "list pods default", true);
    world.access.change_state(|state| state.policy.unbind("default", "jane"));
    check(&world, &jane, "list pods default", false);
    world.access.change_state(|state| state.policy.clear_bindings(true));
    check(&world, &user("joe", &["devs"]), "list pods stage", true);
    check(&world, &Arc::new(UserInfo::anonymous()), "get /version", false);
}

#[test]
fn nodes() {
    let world = world();
    table(
        &world,
        &node_user("pi"),
        &[
            "get nodes - pi",
            "update nodes/status - pi",
            "create nodes",
            "list nodes - ?metadata.name=pi",
            "get pods default web-0",
            "watch pods - ?spec.nodeName=pi",
            "update pods/status default web-0",
            "delete pods default web-0",
            "get secrets default tls",
            "get secrets default pull",
            "get secrets default projected",
            "get secrets default env",
            "watch secrets default tls",
            "get configmaps default kube-root-ca.crt",
            "get configmaps default init",
            "get secrets default debug",
            "get secrets storage disk-node",
            "get persistentvolumeclaims default data",
            "get persistentvolumeclaims default web-0-scratch",
            "watch persistentvolumeclaims default data",
            "patch persistentvolumeclaims/status default data",
            "get persistentvolumes - disk",
            "get volumeattachments.storage.k8s.io - mine",
            "get resourceclaims.resource.k8s.io default web-0-gpu",
            "create resourceslices.resource.k8s.io",
            "update resourceslices.resource.k8s.io - mine",
            "list resourceslices.resource.k8s.io - ?spec.nodeName=pi",
            "get csinodes.storage.k8s.io - pi",
            "create csinodes.storage.k8s.io",
            "get podcertificaterequests.certificates.k8s.io default mine",
            "create podcertificaterequests.certificates.k8s.io default",
            "watch podcertificaterequests.certificates.k8s.io - ?spec.nodeName=pi",
            "create certificatesigningrequests.certificates.k8s.io",
            "create serviceaccounts/token default web",
            "get serviceaccounts default web",
            "create pods/eviction default web-0",
            "get leases.coordination.k8s.io kube-node-lease pi",
            "create leases.coordination.k8s.io kube-node-lease",
            "list services",
            "create events default",
            "create events.events.k8s.io default",
            "get /version",
            "get /api",
        ],
        &[
            "get nodes - pi2",
            "list nodes",
            "delete nodes - pi",
            "list pods",
            "list pods default",
            "get pods default other",
            "get secrets default theirs",
            "list secrets default",
            "list secrets",
            "get secrets kube-system tls",
            "update secrets default tls",
            "get configmaps default other",
            "get secrets default stolen",
            "get secrets default disk-node",
            "get secrets storage disk-controller",
            "get secrets storage their-disk-node",
            "get persistentvolumeclaims default their-data",
            "get persistentvolumeclaims kube-system data",
            "list persistentvolumeclaims default",
            "watch persistentvolumeclaims default their-data",
            "watch persistentvolumeclaims default",
            "update persistentvolumeclaims default data",
            "get persistentvolumes - their-disk",
            "list persistentvolumes",
            "get volumeattachments.storage.k8s.io - theirs",
            "list volumeattachments.storage.k8s.io",
            "get resourceclaims.resource.k8s.io default other",
            "list resourceslices.resource.k8s.io",
            "delete resourceslices.resource.k8s.io - theirs",
            "get csinodes.storage.k8s.io - pi2",
            "list csinodes.storage.k8s.io",
            "get podcertificaterequests.certificates.k8s.io default theirs",
            "list podcertificaterequests.certificates.k8s.io",
            "update podcertificaterequests/status.certificates.k8s.io default mine",
            "update certificatesigningrequests/approval.certificates.k8s.io - a",
            "approve signers.certificates.k8s.io - kubernetes.io/kubelet-serving",
            "create serviceaccounts/token default other",
            "create serviceaccounts/token default default",
            "create serviceaccounts/token default stolen",
            "get serviceaccounts default other",
            "update pods default web-0",
            "create pods/binding default web-0",
            "update pods/ephemeralcontainers default web-0",
            "get nodes/proxy - pi",
            "impersonate users - admin",
            "get leases.coordination.k8s.io kube-node-lease pi2",
            "get leases.coordination.k8s.io default pi",
            "list leases.coordination.k8s.io kube-node-lease",
            "create pods/exec default web-0",
            "get deployments.apps default web",
            "create clusterrolebindings.rbac.authorization.k8s.io",
        ],
    );
    // The name alone makes no node.
    table(
        &world,
        &user("system:node:pi", &["system:authenticated"]),
        &[],
        &["get nodes - pi", "get secrets default tls"],
    );
    world.access.change_state(|state| state.pods.remove("default", "web-0"));
    table(
        &world,
        &node_user("pi"),
        &[],
        &["get secrets default tls", "create serviceaccounts/token default web"],
    );
}

#[test]
fn components() {
    let world = world();
    let component = |name: &str| user(name, &["system:authenticated"]);
    table(
        &world,
        &component("system:kube-scheduler"),
        &[
            "watch pods",
            "create pods/binding default a",
            "update leases.coordination.k8s.io kube-system kube-scheduler",
            "patch pods/status default a",
        ],
        &["create pods default", "get secrets default a"],
    );
    table(
        &world,
        &component("system:kube-proxy"),
        &["watch services", "watch endpointslices.discovery.k8s.io"],
        // Every node has this identity.
        &["get secrets default a", "update services default a", "list pods", "watch pods"],
    );
    for (name, allowed, refused) in [
        ("deployment-controller", "create replicasets.apps default", "delete nodes - pi"),
        ("replicaset-controller", "create pods default", "create deployments.apps default"),
        (
            "endpointslice-controller",
            "create endpointslices.discovery.k8s.io default",
            "create pods default",
        ),
        (
            "generic-garbage-collector",
            "delete anything.example.org default a",
            "create pods default",
        ),
        ("namespace-controller", "update namespaces/finalize - a", "create pods default"),
        ("root-ca-cert-publisher", "create configmaps default", "get secrets default a"),
        ("service-account-controller", "create serviceaccounts default", "get secrets default a"),
        ("node-controller", "patch nodes - pi", "get secrets default a"),
        (
            "storage-version-migrator-controller",
            "patch anything.example.org default a",
            "create pods default",
        ),
    ] {
        table(&world, &Arc::new(controller_identity(name)), &[allowed], &[refused]);
    }
}

#[test]
fn reasons_are_upstreams() {
    let world = world();
    let said = |who: &Arc<UserInfo>, text: &str| {
        let Decision::NoOpinion { reason } = judge(&world.access.state(), &ask(who, text)) else {
            panic!("allowed: {text}")
        };
        reason
    };
    assert_eq!(said(&user("eve", &[]), "list pods default"), "");
    assert_eq!(
        said(&user("joe", &["devs"]), "list pods default"),
        "RBAC: role.rbac.authorization.k8s.io \"gone\" not found"
    );
    assert_eq!(
        said(&node_user("pi"), "get secrets default theirs"),
        "no relationship found between node 'pi' and this object"
    );
    assert_eq!(
        said(&node_user("pi"), "list pods"),
        "can only list/watch pods with spec.nodeName field selector"
    );
    let allowed = grant(&world.access.state(), &ask(&user("jane", &[]), "list pods default"));
    assert_eq!(
        allowed.expect("bound"),
        "RBAC: allowed by RoleBinding \"jane/default\" of Role \"reader\" to User \"jane\""
    );
}

#[test]
fn aggregated_roles_follow_their_parts() {
    let world = World::new(&["10.43.0.0/16"]);
    let mut rounds = 0;
    loop {
        let changes = aggregation::plan(&world.access.state().policy);
        if changes.is_empty() {
            break;
        }
        rounds += 1;
        assert!(rounds < 10, "no end: {changes:?}");
        for (name, rules) in changes {
            world.access.change_state(|state| {
                let role = state.policy.cluster_roles.get_mut(&name).expect("planned");
                role.rules = rules.into();
            });
        }
    }
    let bind = |role: &str, name: &str| {
        world.add(
            ROLE_BINDINGS,
            role_binding(
                "default",
                name,
                json!({ "kind": "ClusterRole", "name": role }),
                json!({ "kind": "User", "name": name }),
            ),
        );
        user(name, &[])
    };
    table(
        &world,
        &bind("view", "viewer"),
        &["list pods default", "get pods/log default a", "list deployments.apps default"],
        &[
            "get secrets default a",
            "create pods default",
            "list roles.rbac.authorization.k8s.io default",
        ],
    );
    table(
        &world,
        &bind("edit", "editor"),
        &[
            "list pods default",
            "get secrets default a",
            "create pods default",
            "create pods/exec default a",
            "patch deployments.apps default web",
        ],
        &[
            "create roles.rbac.authorization.k8s.io default",
            "create resourcequotas default",
            "delete namespaces default default",
        ],
    );
    table(
        &world,
        &bind("admin", "owner"),
        &[
            "create roles.rbac.authorization.k8s.io default",
            "create pods default",
            "get pods/log default a",
        ],
        &["create nodes", "create roles.rbac.authorization.k8s.io kube-system"],
    );
}

#[test]
fn a_node_follows_the_volumes_that_are_its_directories() {
    let world = world();
    for (name, node) in [("dir", "pi"), ("far", "pi2")] {
        world.add(
            PERSISTENT_VOLUMES,
            json!({ "metadata": { "name": name, "labels": { "skiff.sh/local-path-node": node } } }),
        );
    }
    table(
        &world,
        &node_user("pi"),
        &["get persistentvolumes - dir", "patch persistentvolumes - dir"],
        &[
            "patch persistentvolumes - far",
            "patch persistentvolumes/status - dir",
            "delete persistentvolumes - dir",
            "create persistentvolumes",
        ],
    );
    for (selector, allowed) in [
        ("skiff.sh/local-path-node=pi", true),
        ("skiff.sh/local-path-node=pi2", false),
        ("skiff.sh/local-path-node", false),
        ("", false),
    ] {
        let mut asked = ask(&node_user("pi"), "watch persistentvolumes");
        asked.label_selector = selector.into();
        let decision = judge(&world.access.state(), &asked);
        assert_eq!(decision == Decision::Allow, allowed, "{selector}: {decision:?}");
    }
}

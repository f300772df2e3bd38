use std::sync::Arc;

use api_registry::{Attributes, UserInfo};
use serde_json::{Value, json};

use crate::{
    state::{CSI_DRIVERS, NODES, PERSISTENT_VOLUMES, PODS, ROLE_BINDINGS, ROLES, SERVICE_ACCOUNTS},
    testing::{World, node_user, write},
};
use api_registry::Operation::{self, Create, Delete, Update};

fn world() -> World {
    let world = World::new(&["10.43.0.0/16"]);
    world.add(NODES, json!({ "metadata": { "name": "pi", "uid": "pi-uid" } }));
    world.add(
        SERVICE_ACCOUNTS,
        json!({ "metadata": { "name": "default", "namespace": "default", "uid": "sa" } }),
    );
    world.add(crate::state::NAMESPACES, json!({ "metadata": { "name": "default" } }));
    world.add(crate::state::NAMESPACES, json!({ "metadata": { "name": "kube-node-lease" } }));
    world.add(PODS, json!({
        "metadata": { "name": "mine", "namespace": "default", "uid": "u" },
        "spec": {
            "nodeName": "pi", "serviceAccountName": "default",
            "volumes": [
                { "name": "t", "projected": { "sources": [{ "serviceAccountToken": { "path": "token" } }, { "serviceAccountToken": { "path": "vault", "audience": "vault" } }] } },
                { "name": "c", "persistentVolumeClaim": { "claimName": "data" } },
            ],
        },
    }));
    world.add(
        PODS,
        json!({
            "metadata": { "name": "theirs", "namespace": "default", "uid": "t" },
            "spec": { "nodeName": "pi2", "serviceAccountName": "default" },
        }),
    );
    world.add(CSI_DRIVERS, json!({ "metadata": { "name": "d" }, "spec": { "tokenRequests": [{ "audience": "disks" }] } }));
    world.add(PERSISTENT_VOLUMES, json!({
        "metadata": { "name": "v" },
        "spec": { "claimRef": { "namespace": "default", "name": "data" }, "csi": { "driver": "d" } },
    }));
    world
}

/// What becomes of a write of node `pi`; empty where it is admitted.
async fn outcome(
    world: &World,
    operation: Operation,
    resource: &str,
    namespace: &str,
    new: Value,
    old: Value,
) -> String {
    let some = |value: Value| (!value.is_null()).then_some(value);
    let mut attributes: Attributes =
        write(node_user("pi"), operation, resource, namespace, some(new), some(old));
    match world.admit(&mut attributes).await {
        Ok(()) => String::new(),
        Err(status) => status.message,
    }
}

#[track_caller]
fn expect(found: &str, wanted: &str, what: &str) {
    match wanted {
        "" => assert_eq!(found, "", "{what}"),
        wanted => assert!(found.contains(wanted), "{what}: {found:?}"),
    }
}

/// An object with the lines `path = value` set.
fn with(mut object: Value, changes: &[(&str, Value)]) -> Value {
    for (path, value) in changes {
        api_schema::tree::set(&mut object, path, value.clone());
    }
    object
}

fn node(name: &str, labels: Value) -> Value {
    json!({ "metadata": { "name": name, "labels": labels } })
}

#[tokio::test]
async fn its_own_node() {
    let world = world();
    for (new, wanted) in [
        (node("pi", json!({ "kubernetes.io/hostname": "pi", "own": "x" })), ""),
        (node("pi", json!({ "node.kubernetes.io/x": "", "topology.kubernetes.io/zone": "" })), ""),
        (
            node("pi2", json!({})),
            "nodes \"pi2\" is forbidden: node \"pi\" is not allowed to modify node \"pi2\"",
        ),
        (
            node(
                "pi",
                json!({ "node-role.kubernetes.io/control-plane": "", "node-restriction.kubernetes.io/a": "" }),
            ),
            "nodes \"pi\" is forbidden: node \"pi\" is not allowed to set the following labels: node-restriction.kubernetes.io/a, node-role.kubernetes.io/control-plane",
        ),
        (
            node("pi", json!({ "x.node-restriction.kubernetes.io/a": "" })),
            "set the following labels",
        ),
        (node("pi", json!({ "foo.k8s.io/a": "" })), "set the following labels"),
        (
            with(node("pi", json!({})), &[("spec.configSource", json!({ "configMap": {} }))]),
            "with a non-nil configSource",
        ),
    ] {
        let found = outcome(&world, Create, "nodes", "", new.clone(), Value::Null).await;
        expect(&found, wanted, &new.to_string());
    }
    let old = with(
        node("pi", json!({})),
        &[("spec.taints", json!([{ "key": "a", "effect": "NoSchedule" }]))],
    );
    for (changes, wanted) in [
        (vec![("status.phase", json!("x"))], ""),
        (vec![("metadata.labels", json!({ "own": "x" }))], ""),
        (vec![("spec.taints", json!([]))], "node \"pi\" is not allowed to modify taints"),
        (
            vec![("metadata.ownerReferences", json!([{ "uid": "x" }]))],
            "is not allowed to modify ownerReferences",
        ),
        (
            vec![("metadata.labels", json!({ "node-role.kubernetes.io/worker": "" }))],
            "nodes \"pi\" is forbidden: is not allowed to modify labels: node-role.kubernetes.io/worker",
        ),
        (vec![("spec.configSource", json!({}))], "to a new non-nil configSource"),
    ] {
        for resource in ["nodes", "nodes/status"] {
            let new = with(old.clone(), &changes);
            let found = outcome(&world, Update, resource, "", new, old.clone()).await;
            expect(&found, wanted, &format!("{changes:?}"));
        }
    }
}

#[tokio::test]
async fn mirror_pods() {
    let world = world();
    let mirror = json!({
        "metadata": {
            "name": "m", "namespace": "default",
            "annotations": { "kubernetes.io/config.mirror": "x" },
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": "pi", "uid": "pi-uid", "controller": true }],
        },
        "spec": { "nodeName": "pi", "containers": [{ "name": "c", "image": "i" }] },
    });
    let owner = |change: (&str, Value)| {
        let mut owner = mirror["metadata"]["ownerReferences"][0].clone();
        owner[change.0] = change.1;
        ("metadata.ownerReferences", json!([owner]))
    };
    let volume = |source: Value| {
        let mut source = source;
        source["name"] = "v".into();
        ("spec.volumes", json!([source]))
    };
    for (change, wanted) in [
        (("spec.priority", Value::Null), ""),
        (("metadata.annotations", json!({})), "node \"pi\" can only create mirror pods"),
        (("spec.nodeName", json!("pi2")), "can only create pods with spec.nodeName set to itself"),
        (("metadata.ownerReferences", json!([])), "with an owner reference set to itself"),
        (
            ("metadata.ownerReferences", json!([{}, {}])),
            "with a single owner reference set to itself",
        ),
        (owner(("name", json!("pi2"))), "with an owner reference set to itself"),
        (owner(("controller", json!(false))), "with a controller owner reference set to itself"),
        (owner(("blockOwnerDeletion", json!(true))), "must not set blockOwnerDeletion"),
        (owner(("uid", json!("x"))), "node pi UID mismatch: expected x got pi-uid"),
        (
            ("spec.serviceAccountName", json!("default")),
            "a mirror pod may not reference service accounts",
        ),
        (volume(json!({ "secret": { "secretName": "s" } })), "that reference secrets"),
        (
            volume(json!({ "projected": { "sources": [{ "secret": { "name": "s" } }] } })),
            "that reference secrets",
        ),
        (volume(json!({ "configMap": { "name": "c" } })), "that reference configmaps"),
        (
            volume(json!({ "persistentVolumeClaim": { "claimName": "c" } })),
            "that reference persistentvolumeclaims",
        ),
        (
            volume(
                json!({ "projected": { "sources": [{ "clusterTrustBundle": { "name": "b" } }] } }),
            ),
            "that reference clustertrustbundles",
        ),
        (("spec.resourceClaims", json!([{ "name": "r" }])), "that reference resourceclaims"),
        (volume(json!({ "hostPath": { "path": "/" } })), ""),
    ] {
        let new = with(mirror.clone(), std::slice::from_ref(&change));
        let found = outcome(&world, Create, "pods", "default", new, Value::Null).await;
        expect(&found, wanted, &format!("{change:?}"));
    }
}

#[tokio::test]
async fn its_pods() {
    let world = world();
    let pod = |name: &str, node: &str| json!({ "metadata": { "name": name, "namespace": "default" }, "spec": { "nodeName": node } });
    let (mine, theirs) = (pod("mine", "pi"), pod("theirs", "pi2"));
    let labelled = with(mine.clone(), &[("metadata.labels", json!({ "a": "b" }))]);
    let claimed = with(
        mine.clone(),
        &[("status.resourceClaimStatuses", json!([{ "name": "g", "resourceClaimName": "x" }]))],
    );
    for (operation, resource, new, old, wanted) in [
        (Delete, "pods", Value::Null, mine.clone(), ""),
        (
            Delete,
            "pods",
            Value::Null,
            theirs.clone(),
            "can only delete pods with spec.nodeName set to itself",
        ),
        (Update, "pods", mine.clone(), mine.clone(), "unexpected operation \"UPDATE\""),
        (Update, "pods/status", mine.clone(), mine.clone(), ""),
        (
            Update,
            "pods/status",
            theirs.clone(),
            theirs.clone(),
            "can only update pod status for pods with spec.nodeName set to itself",
        ),
        // Taken over by lying about where it runs.
        (Update, "pods/status", mine.clone(), theirs.clone(), "can only update pod status"),
        (Update, "pods/status", labelled, mine.clone(), "cannot update labels through pod status"),
        (Update, "pods/status", claimed, mine.clone(), "cannot update resource claim statuses"),
        (Create, "pods/eviction", mine.clone(), Value::Null, ""),
        (
            Create,
            "pods/eviction",
            theirs.clone(),
            Value::Null,
            "node pi can only evict pods with spec.nodeName set to itself",
        ),
        (Create, "pods/eviction", pod("none", "pi"), Value::Null, "pods \"none\" not found"),
    ] {
        let what = format!("{operation:?} {resource}");
        let found = outcome(&world, operation, resource, "default", new, old).await;
        expect(&found, wanted, &what);
    }
}

#[tokio::test]
async fn tokens_of_its_pods_for_whom_they_use_them() {
    let world = world();
    let ask = async |bound: Value, audiences: Value| {
        let request = json!({ "metadata": { "name": "default" }, "spec": { "boundObjectRef": bound, "audiences": audiences } });
        outcome(&world, Create, "serviceaccounts/token", "default", request, Value::Null).await
    };
    let pod = |name: &str, uid: &str| json!({ "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid });
    for (bound, audiences, wanted) in [
        (pod("mine", "u"), json!([]), ""),
        (pod("mine", "u"), json!(["vault"]), ""),
        (pod("mine", "u"), json!(["disks"]), ""),
        (
            pod("mine", "u"),
            json!(["bank"]),
            "serviceaccounts \"default\" is forbidden: audience \"bank\" not found in pod spec volume, system:node:pi is not authorized to request tokens for this audience",
        ),
        (pod("mine", "u"), json!(["vault", "disks"]), "node may only request 0 or 1 audiences"),
        (Value::Null, json!([]), "node requested token not bound to a pod"),
        (
            json!({ "apiVersion": "v1", "kind": "Secret", "name": "s" }),
            json!([]),
            "not bound to a pod",
        ),
        (
            json!({ "apiVersion": "v1", "kind": "Node", "name": "pi", "uid": "pi-uid" }),
            json!([]),
            "not bound to a pod",
        ),
        (pod("mine", ""), json!([]), "node requested token with a pod binding without a uid"),
        (
            pod("mine", "old"),
            json!([]),
            "the UID in the bound object reference (old) does not match the UID in record",
        ),
        (pod("none", "x"), json!([]), "pods \"none\" not found"),
        (
            pod("theirs", "t"),
            json!([]),
            "node requested token bound to a pod scheduled on a different node",
        ),
    ] {
        let found = ask(bound.clone(), audiences.clone()).await;
        expect(&found, wanted, &format!("{bound} {audiences}"));
    }
    // Allowed by name.
    world.add(ROLES, json!({ "metadata": { "name": "bank", "namespace": "default" }, "rules": [{
        "verbs": ["request-serviceaccounts-token-audience"], "apiGroups": [""], "resources": ["bank"], "resourceNames": ["default"],
    }] }));
    world.add(ROLE_BINDINGS, json!({
        "metadata": { "name": "bank", "namespace": "default" },
        "roleRef": { "kind": "Role", "name": "bank" }, "subjects": [{ "kind": "Group", "name": "system:nodes" }],
    }));
    expect(&ask(pod("mine", "u"), json!(["bank"])).await, "", "allowed by name");
}

#[tokio::test]
async fn leases_claims_and_what_bears_its_name() {
    let world = world();
    let named = |name: &str| json!({ "metadata": { "name": name } });
    let slice = |node: &str| json!({ "metadata": { "name": "s" }, "spec": { "nodeName": node } });
    let claim = json!({ "metadata": { "name": "data", "namespace": "default" }, "spec": {}, "status": { "capacity": { "storage": "1" } } });
    let grown = with(claim.clone(), &[("status.capacity", json!({ "storage": "2" }))]);
    let bound = with(claim.clone(), &[("status.phase", json!("Bound"))]);
    let owned = with(claim.clone(), &[("metadata.finalizers", json!(["x"]))]);
    let request = |changes: &[(&str, Value)]| {
        let request = json!({
            "metadata": { "name": "r", "namespace": "default" },
            "spec": {
                "nodeName": "pi", "nodeUID": "pi-uid", "podName": "mine", "podUID": "u",
                "serviceAccountName": "default", "serviceAccountUID": "sa",
            },
        });
        with(request, changes)
    };
    const LEASES: &str = "leases.coordination.k8s.io";
    const CSI_NODES: &str = "csinodes.storage.k8s.io";
    const SLICES: &str = "resourceslices.resource.k8s.io";
    const REQUESTS: &str = "podcertificaterequests.certificates.k8s.io";
    const STATUS: &str = "persistentvolumeclaims/status";
    for (operation, resource, namespace, new, old, wanted) in [
        (Create, LEASES, "kube-node-lease", named("pi"), Value::Null, ""),
        (
            Create,
            LEASES,
            "kube-node-lease",
            named("pi2"),
            Value::Null,
            "same name as the requesting node",
        ),
        (
            Create,
            LEASES,
            "default",
            named("pi"),
            Value::Null,
            "in the \"kube-node-lease\" system namespace",
        ),
        (
            Delete,
            LEASES,
            "kube-node-lease",
            Value::Null,
            named("pi2"),
            "same name as the requesting node",
        ),
        (Create, CSI_NODES, "", named("pi"), Value::Null, ""),
        (Update, CSI_NODES, "", named("pi2"), named("pi2"), "same name as the requesting node"),
        (Create, SLICES, "", slice("pi"), Value::Null, ""),
        (
            Create,
            SLICES,
            "",
            slice("pi2"),
            Value::Null,
            "can only create ResourceSlice with the same NodeName",
        ),
        (
            Create,
            SLICES,
            "",
            named("s"),
            Value::Null,
            "can only create ResourceSlice with the same NodeName",
        ),
        (
            Delete,
            SLICES,
            "",
            Value::Null,
            slice("pi2"),
            "can only delete ResourceSlice with the same NodeName",
        ),
        (
            Update,
            "persistentvolumeclaims",
            "default",
            claim.clone(),
            claim.clone(),
            "may only update PVC status",
        ),
        (Update, STATUS, "default", grown, claim.clone(), ""),
        (
            Update,
            STATUS,
            "default",
            bound,
            claim.clone(),
            "fields other than status.quantity and status.conditions",
        ),
        (Update, STATUS, "default", owned, claim.clone(), "fields other than"),
        (Create, REQUESTS, "default", request(&[]), Value::Null, ""),
        (
            Create,
            REQUESTS,
            "default",
            request(&[("spec.podUID", json!("old"))]),
            Value::Null,
            "spec.podUID is not the pod's",
        ),
        (
            Create,
            REQUESTS,
            "default",
            request(&[("spec.nodeName", json!("pi2"))]),
            Value::Null,
            "spec.nodeName is not the requesting node",
        ),
        (
            Create,
            REQUESTS,
            "default",
            request(&[("spec.podName", json!("theirs")), ("spec.podUID", json!("t"))]),
            Value::Null,
            "the pod is not scheduled on the requesting node",
        ),
        (
            Create,
            REQUESTS,
            "default",
            request(&[("spec.serviceAccountName", json!("admin"))]),
            Value::Null,
            "spec.serviceAccountName is not the pod's",
        ),
        (
            Create,
            REQUESTS,
            "default",
            request(&[("spec.podName", json!("none"))]),
            Value::Null,
            "pods \"none\" not found",
        ),
    ] {
        let what = format!("{operation:?} {resource} {new} {old}");
        let found = outcome(&world, operation, resource, namespace, new, old).await;
        expect(&found, wanted, &what);
    }
}

/// Whoever is no node is none of this plugin's business.
#[tokio::test]
async fn others_are_not_asked() {
    let world = world();
    let users: [Arc<UserInfo>; 2] = [
        crate::testing::admin(),
        crate::testing::user("system:node:pi", &["system:authenticated"]),
    ];
    for user in users {
        let mut attributes =
            write(user, Create, "nodes", "", Some(node("pi2", json!({ "k8s.io/a": "" }))), None);
        world.admit(&mut attributes).await.expect("not a node");
    }
}

#[tokio::test]
async fn a_node_lets_go_of_its_directories_and_changes_nothing_else() {
    let world = world();
    let volume = json!({
        "metadata": { "name": "dir", "labels": { "skiff.sh/local-path-node": "pi" },
            "deletionTimestamp": "2023-11-14T22:13:20Z",
            "finalizers": ["skiff.sh/local-path", "kubernetes.io/pv-protection"] },
        "spec": { "local": { "path": "/srv/x" } },
    });
    let with = |path: &str, value: Value| {
        let mut volume = volume.clone();
        api_schema::tree::set(&mut volume, path, value);
        volume
    };
    let kept = json!(["kubernetes.io/pv-protection"]);
    let good = with("metadata.finalizers", kept.clone());
    let update = async |new: Value, old: Value| {
        outcome(&world, Update, "persistentvolumes", "", new, old).await
    };
    assert_eq!(update(good.clone(), volume.clone()).await, "");
    let mut moved = good.clone();
    api_schema::tree::set(&mut moved, "spec.local.path", "/etc");
    for (new, old) in [
        (moved, volume.clone()),
        (with("metadata.finalizers", json!(["skiff.sh/local-path"])), volume.clone()),
        (good.clone(), with("metadata.labels", json!({ "skiff.sh/local-path-node": "pi2" }))),
        (with("metadata.finalizers", kept), with("metadata.deletionTimestamp", Value::Null)),
    ] {
        let refused = update(new, old).await;
        assert!(refused.contains("may only take the finalizer"), "{refused:?}");
    }
}

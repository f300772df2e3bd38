use std::sync::Arc;

use api_registry::UserInfo;
use api_schema::tree;
use serde_json::json;

use super::*;
use crate::{
    state::{CLUSTER_ROLES, NAMESPACES, PRIORITY_CLASSES, ROLE_BINDINGS, ROLES, SERVICE_ACCOUNTS},
    testing::{World, admin, user, write},
};

fn world() -> World {
    let world = World::new(&["10.43.0.0/16"]);
    for name in ["default", "kube-node-lease"] {
        world.add(NAMESPACES, json!({ "metadata": { "name": name } }));
    }
    world.add(
        NAMESPACES,
        json!({ "metadata": { "name": "ending" }, "status": { "phase": "Terminating" } }),
    );
    world.add(
        SERVICE_ACCOUNTS,
        json!({
            "metadata": { "name": "default", "namespace": "default", "uid": "sa" },
            "imagePullSecrets": [{ "name": "pull" }],
        }),
    );
    world
}

fn pod(spec: Value) -> Value {
    json!({ "metadata": { "name": "p", "namespace": "default" }, "spec": spec })
}

async fn create(
    world: &World,
    who: Arc<UserInfo>,
    resource: &str,
    namespace: &str,
    object: Value,
) -> Result<Value, Status> {
    let mut attributes = write(who, Operation::Create, resource, namespace, Some(object), None);
    world.admit(&mut attributes).await?;
    Ok(attributes.object.expect("kept"))
}

async fn update(
    world: &World,
    who: Arc<UserInfo>,
    resource: &str,
    namespace: &str,
    new: Value,
    old: Value,
) -> Result<Value, Status> {
    let mut attributes = write(who, Operation::Update, resource, namespace, Some(new), Some(old));
    world.admit(&mut attributes).await?;
    Ok(attributes.object.expect("kept"))
}

#[test]
fn rows_do_something_and_have_their_own_names() {
    let mut names: Vec<_> = ADMISSION.iter().map(|row| row.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), ADMISSION.len());
    for row in ADMISSION {
        assert!(row.mutate.is_some() || row.validate.is_some(), "{row:?}");
        assert!(!row.operations.is_empty() && !row.looks_at.is_empty(), "{row:?}");
    }
    // The one reserves, the other charges.
    let last: Vec<&str> = ADMISSION[ADMISSION.len() - 2..].iter().map(|row| row.name).collect();
    assert_eq!(last, ["ServiceAllocation", "ResourceQuota"]);
}

#[tokio::test]
async fn namespaces_live_and_end() {
    let world = world();
    let config_map = || json!({ "metadata": { "name": "c" } });
    create(&world, admin(), "configmaps", "default", config_map()).await.expect("there");
    let status =
        create(&world, admin(), "configmaps", "none", config_map()).await.expect_err("missing");
    assert_eq!((status.code, status.message.as_str()), (404, "namespaces \"none\" not found"));
    let status =
        create(&world, admin(), "configmaps", "ending", config_map()).await.expect_err("ending");
    assert_eq!(
        status.message,
        "configmaps \"c\" is forbidden: unable to create new content in namespace ending because it is being terminated"
    );
    let cause = &status.details.expect("details").causes[0];
    assert_eq!(
        (cause.reason.as_str(), cause.message.as_str(), cause.field.as_str()),
        ("NamespaceTerminating", "namespace ending is being terminated", "metadata.namespace")
    );
    update(&world, admin(), "configmaps", "ending", config_map(), config_map())
        .await
        .expect("what is there may change");
    // Made a moment ago; the watch has not told.
    world.add_unseen(NAMESPACES, json!({ "metadata": { "name": "new" } }));
    create(&world, admin(), "configmaps", "new", config_map()).await.expect("asked");
    let delete = |name: &str| {
        write(
            admin(),
            Operation::Delete,
            "namespaces",
            "",
            None,
            Some(json!({ "metadata": { "name": name } })),
        )
    };
    for name in ["default", "kube-system", "kube-public"] {
        let status = world.admit(&mut delete(name)).await.expect_err(name);
        assert_eq!(
            status.message,
            format!("namespaces \"{name}\" is forbidden: this namespace may not be deleted")
        );
    }
    world.admit(&mut delete("ending")).await.expect("may end");
}

#[tokio::test]
async fn pods_get_what_they_did_not_ask_for() {
    let world = world();
    let made = create(&world, admin(), "pods", "default", pod(json!({
        "containers": [{ "name": "a" }, { "name": "b", "volumeMounts": [{ "name": "own", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" }] }],
        "initContainers": [{ "name": "i" }],
        "tolerations": [{ "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute" }],
    }))).await.expect("valid");
    let spec = &made["spec"];
    assert_eq!(
        (spec["serviceAccountName"].as_str(), spec["serviceAccount"].as_str()),
        (Some("default"), Some("default"))
    );
    assert_eq!(spec["imagePullSecrets"], json!([{ "name": "pull" }]));
    assert_eq!(
        (spec["priority"].as_i64(), spec["preemptionPolicy"].as_str()),
        (Some(0), Some("PreemptLowerPriority"))
    );
    let volume = &spec["volumes"][0];
    let name = volume["name"].as_str().expect("named");
    assert!(name.len() == "kube-api-access-xxxxx".len() && name.starts_with("kube-api-access-"));
    assert_eq!(
        volume["projected"],
        json!({
            "defaultMode": 420,
            "sources": [
                { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
                { "configMap": { "items": [{ "key": "ca.crt", "path": "ca.crt" }], "name": "kube-root-ca.crt" } },
                { "downwardAPI": { "items": [{ "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" }, "path": "namespace" }] } },
            ],
        })
    );
    let mount = json!([{ "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "name": name, "readOnly": true }]);
    assert_eq!(spec["containers"][0]["volumeMounts"], mount);
    assert_eq!(spec["initContainers"][0]["volumeMounts"], mount);
    assert_eq!(spec["containers"][1]["volumeMounts"][0]["name"], "own");
    let tolerations = spec["tolerations"].as_array().expect("list");
    assert_eq!(tolerations.len(), 2, "the pod's own stays");
    assert_eq!(
        tolerations[1],
        json!({ "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 })
    );
    // The same again changes nothing.
    let again = create(&world, admin(), "pods", "default", made.clone()).await.expect("valid");
    assert_eq!(again, made);
}

#[tokio::test]
async fn pods_that_are_refused() {
    let world = world();
    for (spec, why) in [
        (
            json!({ "serviceAccountName": "x" }),
            "error looking up service account default/x: serviceaccount \"x\" not found",
        ),
        (json!({ "priorityClassName": "mine" }), "no PriorityClass with name mine was found"),
        (
            json!({ "priority": 7 }),
            "the integer value of priority (7) must not be provided in pod spec; priority admission controller computed 0 from the given PriorityClass name",
        ),
    ] {
        let status = create(&world, admin(), "pods", "default", pod(spec)).await.expect_err(why);
        assert_eq!((status.code, status.message), (403, format!("pods \"p\" is forbidden: {why}")));
    }
    let critical = pod(json!({ "priorityClassName": "system-node-critical" }));
    let made = create(&world, admin(), "pods", "default", critical).await.expect("known");
    assert_eq!(made["spec"]["priority"], 2_000_001_000);
    assert_eq!(made["spec"].get("volumes"), None, "nobody would mount it");
}

#[tokio::test]
async fn a_class_says_how_important_a_pod_is() {
    let world = world();
    let class = |name: &str, value: i64, policy: &str, default: bool| json!({ "metadata": { "name": name }, "value": value, "preemptionPolicy": policy, "globalDefault": default });
    world.add(PRIORITY_CLASSES, class("high", 1000, "Never", false));
    world.add_unseen(PRIORITY_CLASSES, class("fresh", 7, "PreemptLowerPriority", false));
    let made = async |spec: Value| {
        let made = create(&world, admin(), "pods", "default", pod(spec)).await?;
        let text = |path: &str| tree::text(&made, path).to_owned();
        Ok::<_, Status>((
            tree::int(&made, "spec.priority"),
            text("spec.priorityClassName"),
            text("spec.preemptionPolicy"),
        ))
    };
    let of = |value, name: &str, policy: &str| (Some(value), name.to_owned(), policy.to_owned());
    assert_eq!(made(json!({ "priorityClassName": "high" })).await, Ok(of(1000, "high", "Never")));
    let fresh = made(json!({ "priorityClassName": "fresh" })).await;
    assert_eq!(fresh, Ok(of(7, "fresh", "PreemptLowerPriority")), "asked for");
    let refused =
        made(json!({ "priorityClassName": "high", "preemptionPolicy": "PreemptLowerPriority" }))
            .await;
    assert!(refused.expect_err("another policy").message.contains("computed Never"));
    world.add(PRIORITY_CLASSES, class("usual", 5, "PreemptLowerPriority", true));
    assert_eq!(made(json!({})).await, Ok(of(5, "usual", "PreemptLowerPriority")));
    let mut second = write(
        admin(),
        Operation::Create,
        "priorityclasses",
        "",
        Some(class("other", 1, "Never", true)),
        None,
    );
    second.resource.group = "scheduling.k8s.io".into();
    let refused = world.admit(&mut second).await.expect_err("there is one");
    assert!(
        refused.message.ends_with(
            "PriorityClass usual is already marked as default. Only one default can exist"
        ),
        "{}",
        refused.message
    );
}

#[tokio::test]
async fn a_pod_waits_for_the_default_account_of_a_new_namespace() {
    let world = Arc::new(world());
    world.add(NAMESPACES, json!({ "metadata": { "name": "fresh" } }));
    let waiting = tokio::spawn({
        let world = world.clone();
        async move { create(&world, admin(), "pods", "fresh", pod(json!({}))).await }
    });
    tokio::task::yield_now().await;
    world.add(
        SERVICE_ACCOUNTS,
        json!({ "metadata": { "name": "default", "namespace": "fresh", "uid": "f" } }),
    );
    world.access.accounts_changed.send_modify(|count| *count += 1);
    waiting.await.expect("no panic").expect("the account came");
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_hold() {
    let world = world();
    let rule = |verbs: &[&str], resource: &str| json!({ "verbs": verbs, "apiGroups": [""], "resources": [resource] });
    world.add(ROLES, json!({ "metadata": { "name": "author", "namespace": "default" }, "rules": [
        rule(&["get", "list"], "pods"),
        { "verbs": ["create", "update"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"] },
        { "verbs": ["bind"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["view"] },
    ] }));
    world.add(ROLE_BINDINGS, json!({
        "metadata": { "name": "author", "namespace": "default" },
        "roleRef": { "kind": "Role", "name": "author" }, "subjects": [{ "kind": "User", "name": "ann" }],
    }));
    world.add(
        CLUSTER_ROLES,
        json!({ "metadata": { "name": "pods" }, "rules": [rule(&["get"], "pods")] }),
    );
    let ann = || user("ann", &["system:authenticated"]);
    let roles = "roles.rbac.authorization.k8s.io";
    let role = |rules: Value| json!({ "metadata": { "name": "r" }, "rules": rules });
    create(&world, ann(), roles, "default", role(json!([rule(&["get"], "pods")])))
        .await
        .expect("held");
    let status =
        create(&world, ann(), roles, "default", role(json!([rule(&["get", "delete"], "pods")])))
            .await
            .expect_err("not held");
    assert_eq!(
        status.message,
        "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"ann\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}"
    );
    let old = role(json!([rule(&["delete"], "nodes")]));
    update(&world, ann(), roles, "default", old.clone(), old.clone())
        .await
        .expect("nothing is granted anew");
    update(&world, ann(), roles, "default", role(json!([rule(&["*"], "nodes")])), old)
        .await
        .expect_err("more than before");
    let aggregate =
        json!({ "metadata": { "name": "a" }, "aggregationRule": { "clusterRoleSelectors": [] } });
    create(&world, ann(), "clusterroles.rbac.authorization.k8s.io", "", aggregate)
        .await
        .expect_err("may come to grant anything");

    let bindings = "rolebindings.rbac.authorization.k8s.io";
    let binding = |kind: &str, name: &str| json!({ "metadata": { "name": "b" }, "roleRef": { "kind": kind, "name": name }, "subjects": [] });
    create(&world, ann(), bindings, "default", binding("ClusterRole", "pods")).await.expect("held");
    create(&world, ann(), bindings, "default", binding("ClusterRole", "view"))
        .await
        .expect("may bind");
    create(&world, ann(), bindings, "default", binding("Role", "author")).await.expect("held");
    create(&world, ann(), bindings, "default", binding("ClusterRole", "cluster-admin"))
        .await
        .expect_err("escalation");
    let status = create(&world, ann(), bindings, "default", binding("Role", "none"))
        .await
        .expect_err("no role");
    assert!(
        status.message.contains("roles.rbac.authorization.k8s.io \"none\" not found"),
        "{}",
        status.message
    );
    create(
        &world,
        ann(),
        "clusterrolebindings.rbac.authorization.k8s.io",
        "",
        binding("ClusterRole", "pods"),
    )
    .await
    .expect_err("held in one namespace only");
    create(&world, admin(), bindings, "default", binding("ClusterRole", "none"))
        .await
        .expect("masters may");
}

#[tokio::test]
async fn a_request_for_a_certificate_says_who_asked() {
    let world = world();
    let lie = json!({
        "metadata": { "name": "r" },
        "spec": { "username": "system:admin", "groups": ["system:masters"], "uid": "0", "extra": { "a": ["b"] } },
    });
    let ann = user("ann", &["system:authenticated"]);
    let resource = "certificatesigningrequests.certificates.k8s.io";
    let made = create(&world, ann, resource, "", lie).await.expect("allowed");
    assert_eq!(made["spec"], json!({ "username": "ann", "groups": ["system:authenticated"] }));
}

#[tokio::test]
async fn claims_get_a_class_and_protection_and_grow_where_the_class_can() {
    use crate::state::STORAGE_CLASSES;
    let world = world();
    let claim = |spec: Value| json!({ "metadata": { "name": "data", "namespace": "default" }, "spec": spec });
    let claims = "persistentvolumeclaims";
    let made = create(&world, admin(), claims, "default", claim(json!({}))).await.expect("fine");
    assert_eq!(made["spec"], json!({}), "there is no default");
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let mark = "storageclass.kubernetes.io/is-default-class";
    for (name, created, marked, grows) in
        [("old", "1", "true", false), ("new", "2", "true", true), ("newest", "3", "false", false)]
    {
        world.add(
            STORAGE_CLASSES,
            json!({
                "metadata": { "name": name, "annotations": { mark: marked },
                    "creationTimestamp": format!("202{created}-01-01T00:00:00Z") },
                "allowVolumeExpansion": grows,
            }),
        );
    }
    let made = create(&world, admin(), claims, "default", claim(json!({}))).await.expect("fine");
    assert_eq!(made["spec"]["storageClassName"], "new");
    let none = claim(json!({ "storageClassName": "" }));
    let made = create(&world, admin(), claims, "default", none).await.expect("fine");
    assert_eq!(made["spec"]["storageClassName"], "");
    let sized = |class: &str, size: &str| {
        let mut claim = claim(json!({ "storageClassName": class,
            "resources": { "requests": { "storage": size } } }));
        claim["status"] = json!({ "phase": "Bound" });
        claim
    };
    let grow = async |class: &str| {
        let (new, old) = (sized(class, "2Gi"), sized(class, "1Gi"));
        update(&world, admin(), claims, "default", new, old).await
    };
    grow("new").await.expect("its class can");
    let refused = grow("old").await.expect_err("its class cannot");
    assert!(refused.message.contains("must support resize"), "{}", refused.message);
}

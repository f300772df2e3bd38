use serde_json::json;

use super::*;

fn used(plural: &str, object: &Value) -> String {
    print(&usage("", plural, object, Timestamp::from_second(1_700_000_000).expect("in range")))
}

fn container(name: &str, resources: Value) -> Value {
    json!({"name": name, "resources": resources})
}

#[test]
fn what_objects_use() {
    let a = container(
        "a",
        json!({
            "requests": {"cpu": "100m", "memory": "1Gi", "example.com/gpu": "1"},
            "limits": {"cpu": "1", "example.com/gpu": "1"},
        }),
    );
    let b = container("b", json!({"requests": {"cpu": "200m", "hugepages-2Mi": "4Mi"}}));
    let first = container("first", json!({"requests": {"cpu": "2"}}));
    let mut sidecar = container("sidecar", json!({"requests": {"cpu": "50m"}}));
    sidecar["restartPolicy"] = json!("Always");
    let pod = |spec: Value| json!({"metadata": {}, "spec": spec, "status": {"phase": "Running"}});
    let table = [
        ("pods", pod(json!({})), "count/pods=1,pods=1"),
        (
            "pods",
            pod(json!({"containers": [a.clone(), b.clone()]})),
            "count/pods=1,cpu=300m,hugepages-2Mi=4Mi,limits.cpu=1,memory=1Gi,pods=1,requests.cpu=300m,requests.example.com/gpu=1,requests.hugepages-2Mi=4Mi,requests.memory=1Gi",
        ),
        (
            "pods",
            pod(
                json!({"containers": [b.clone()], "initContainers": [sidecar.clone()], "overhead": {"cpu": "10m"}}),
            ),
            "count/pods=1,cpu=260m,hugepages-2Mi=4Mi,pods=1,requests.cpu=260m,requests.hugepages-2Mi=4Mi",
        ),
        (
            "pods",
            pod(json!({"containers": [b], "initContainers": [sidecar, first]})),
            "count/pods=1,cpu=2050m,hugepages-2Mi=4Mi,pods=1,requests.cpu=2050m,requests.hugepages-2Mi=4Mi",
        ),
        (
            "pods",
            json!({"spec": {"containers": [a]}, "status": {"phase": "Failed"}}),
            "count/pods=1",
        ),
        (
            "pods",
            json!({"metadata": {"deletionTimestamp": "2023-11-14T22:00:00Z", "deletionGracePeriodSeconds": 30}}),
            "count/pods=1",
        ),
        (
            "services",
            json!({"spec": {"type": "NodePort", "ports": [{}, {}]}}),
            "count/services=1,services=1,services.loadbalancers=0,services.nodeports=2",
        ),
        (
            "services",
            json!({"spec": {"type": "LoadBalancer", "ports": [{"nodePort": 30000}, {}], "allocateLoadBalancerNodePorts": false}}),
            "count/services=1,services=1,services.loadbalancers=1,services.nodeports=1",
        ),
        (
            "persistentvolumeclaims",
            json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}}),
            "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,requests.storage=1Gi",
        ),
        ("secrets", json!({}), "count/secrets=1,secrets=1"),
    ];
    for (plural, object, wanted) in table {
        assert_eq!(used(plural, &object), wanted, "{object}");
        let mut pruned = object;
        prune(&mut pruned);
        assert_eq!(used(plural, &pruned), wanted, "{pruned}");
    }
    let now = Timestamp::UNIX_EPOCH;
    assert_eq!(print(&usage("apps", "deployments", &json!({}), now)), "count/deployments.apps=1");
}

#[test]
fn names_find_their_kinds() {
    let table = [
        ("pods", "pods", ""),
        ("limits.cpu", "pods", ""),
        ("requests.example.com/gpu", "pods", ""),
        ("count/pods", "pods", ""),
        ("services.nodeports", "services", ""),
        ("requests.storage", "persistentvolumeclaims", ""),
        ("gold.storageclass.storage.k8s.io/persistentvolumeclaims", "persistentvolumeclaims", ""),
        ("count/widgets.example.com", "widgets", "example.com"),
    ];
    for (name, plural, group) in table {
        assert_eq!(kinds_of(name), [(group.to_owned(), plural.to_owned())], "{name}");
        assert_eq!(names_of(group, plural, [name].into_iter()), [name]);
    }
    assert!(kinds_of("example.com/gpu").is_empty());
}

#[test]
fn cpu_and_memory_have_to_be_asked_for() {
    let pod = json!({"spec": {
        "containers": [container("b", json!({"requests": {"cpu": "1"}})), container("a", json!({}))],
    }});
    let say = |names: &[&str]| unspecified("", "pods", names, &pod);
    assert_eq!(say(&["pods", "requests.storage"]), None);
    assert_eq!(say(&["requests.cpu"]).expect("one"), "must specify requests.cpu for: a");
    assert_eq!(
        say(&["limits.memory", "cpu"]).expect("two"),
        "must specify cpu for: a; limits.memory for: a,b"
    );
}

#[test]
fn scopes_hold() {
    let best_effort = json!({"spec": {"containers": [{"name": "a"}], "priorityClassName": "high"}});
    let burstable = json!({"spec": {
        "containers": [container("a", json!({"requests": {"cpu": "1"}}))],
        "activeDeadlineSeconds": 5,
    }});
    let classes = |operator: &str, values: &[&str]| {
        json!({"spec": {"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": operator, "values": values},
        ]}}})
    };
    let scope = |name: &str| json!({"spec": {"scopes": [name]}});
    let table = [
        (scope("BestEffort"), true, false),
        (scope("NotBestEffort"), false, true),
        (scope("Terminating"), false, true),
        (scope("NotTerminating"), true, false),
        (scope("PriorityClass"), true, false),
        (classes("In", &["high"]), true, false),
        (classes("NotIn", &["high"]), false, true),
        (classes("Exists", &[]), true, false),
        (classes("DoesNotExist", &[]), false, true),
        (scope("CrossNamespacePodAffinity"), false, false),
        (json!({"spec": {}}), true, true),
    ];
    for (quota, first, second) in table {
        let holds = |pod| Scope::of(&quota).iter().all(|scope| scope.holds("", "pods", pod));
        assert_eq!((holds(&best_effort), holds(&burstable)), (first, second), "{quota}");
        let in_all = Scope::of(&quota).iter().all(|scope| scope.holds("", "secrets", &json!({})));
        assert_eq!(in_all, Scope::of(&quota).is_empty());
    }
}

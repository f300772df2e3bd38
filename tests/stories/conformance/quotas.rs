//! How much a namespace may have, and how much it has.

use serde_json::{Value, json};

use super::Place;

/// What a quota of everything allows.
fn everything() -> Value {
    json!({
        "services": "10", "services.nodeports": "1", "services.loadbalancers": "1", "pods": "5",
        "replicationcontrollers": "10", "resourcequotas": "1", "cpu": "1", "memory": "500Mi",
        "configmaps": "10", "secrets": "10", "persistentvolumeclaims": "10",
        "requests.storage": "10Gi", "requests.ephemeral-storage": "50Gi",
        "requests.example.com/dongle": "3", "count/replicasets.apps": "5",
    })
}

fn quotas(place: &Place) -> String {
    place.path("api/v1", "resourcequotas")
}

fn quota(place: &Place, name: &str, spec: &Value) -> Value {
    let object = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": spec});
    let made = place.post(&quotas(place), &object);
    let hard = spec["hard"].clone();
    place.until("a quota is counted", || {
        let read = place.read(&format!("{}/{name}", quotas(place)));
        read["status"]["hard"] == hard
    });
    made
}

/// Waits until so much is used, of these.
#[track_caller]
fn used(place: &Place, name: &str, wanted: &Value) {
    let read = || place.read(&format!("{}/{name}", quotas(place)))["status"]["used"].clone();
    let wanted = wanted.as_object().expect("amounts");
    let what = format!("{name} uses {wanted:?}");
    place.until(&what, || {
        let used = read();
        wanted.iter().all(|(resource, amount)| used[resource] == *amount)
    });
}

/// What the namespace has from the start.
fn standing(place: &Place, resource: &str) -> u64 {
    let list = place.read(&place.path("api/v1", resource));
    list["items"].as_array().map_or(0, Vec::len) as u64
}

pub(super) fn counted_at_once(place: &Place) {
    quota(place, "whole", &json!({"hard": everything()}));
    used(place, "whole", &json!({"resourcequotas": "1", "pods": "0", "services": "0"}));
}

pub(super) fn services(place: &Place) {
    quota(place, "whole", &json!({"hard": everything()}));
    let path = place.path("api/v1", "services");
    let service = |name: &str, kind: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": kind, "ports": [{"port": 80}]}})
    };
    place.post(&path, &service("one", "ClusterIP"));
    place.post(&path, &service("node", "NodePort"));
    let refused = "exceeded quota: whole";
    let mut balanced = service("balancer", "LoadBalancer");
    place.send("POST", &path, &balanced).refuses(403, refused);
    balanced["spec"]["allocateLoadBalancerNodePorts"] = json!(false);
    place.post(&path, &balanced);
    place.send("POST", &path, &service("second", "NodePort")).refuses(403, refused);
    used(
        place,
        "whole",
        &json!({"services": "3", "services.nodeports": "1", "services.loadbalancers": "1"}),
    );
    for name in ["one", "node", "balancer"] {
        place.remove(&format!("{path}/{name}"));
    }
    used(
        place,
        "whole",
        &json!({"services": "0", "services.nodeports": "0", "services.loadbalancers": "0"}),
    );
}

/// A kind that is counted by its objects.
fn counted(place: &Place, resource: &str, path: &str, object: &Value) {
    let plain = resource
        .strip_prefix("count/")
        .map_or(resource, |rest| rest.split('.').next().unwrap_or(rest));
    let before = match plain {
        "replicasets" => 0,
        plain => standing(place, plain),
    };
    let is = |count: u64| used(place, "whole", &json!({resource: count.to_string()}));
    is(before);
    place.post(path, object);
    is(before + 1);
    let name = object["metadata"]["name"].as_str().expect("a name");
    place.remove(&format!("{path}/{name}"));
    is(before);
}

pub(super) fn secrets(place: &Place) {
    quota(place, "whole", &json!({"hard": everything()}));
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "counted"}});
    counted(place, "secrets", &place.path("api/v1", "secrets"), &secret);
}

pub(super) fn config_maps(place: &Place) {
    // The CA's map comes a moment after the namespace.
    place.until("the namespace is furnished", || standing(place, "configmaps") == 1);
    quota(place, "whole", &json!({"hard": everything()}));
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "counted"}});
    counted(place, "configmaps", &place.path("api/v1", "configmaps"), &map);
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "counted"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}})
}

pub(super) fn replication_controllers(place: &Place) {
    quota(place, "whole", &json!({"hard": everything()}));
    let object = json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "counted"},
        "spec": {"replicas": 0, "selector": {"app": "counted"}, "template": template()}});
    let path = place.path("api/v1", "replicationcontrollers");
    counted(place, "replicationcontrollers", &path, &object);
}

pub(super) fn replica_sets(place: &Place) {
    quota(place, "whole", &json!({"hard": everything()}));
    let object = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "counted"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "counted"}}, "template": template()}});
    counted(place, "count/replicasets.apps", &place.path("apis/apps/v1", "replicasets"), &object);
}

/// A pod that runs nowhere.
fn pod(name: &str, requests: &Value, limits: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "nodeSelector": {"nowhere": "yes"}, "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "pause", "image": "x", "resources": {"requests": requests, "limits": limits}}]}})
}

pub(super) fn pods(place: &Place) {
    quota(place, "whole", &json!({"hard": everything()}));
    let path = place.path("api/v1", "pods");
    let requests = json!({"cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", "example.com/dongle": "2"});
    let limits = json!({"ephemeral-storage": "30Gi", "example.com/dongle": "2"});
    place.post(&path, &pod("fits", &requests, &limits));
    let all = json!({"pods": "1", "cpu": "500m", "memory": "252Mi",
        "requests.ephemeral-storage": "30Gi", "requests.example.com/dongle": "2"});
    used(place, "whole", &all);
    let more = |name: &str, requests: Value, limits: Value, what: &str| {
        let refused = place.send("POST", &path, &pod(name, &requests, &limits));
        let said = refused.refuses(403, "exceeded quota: whole")["message"].to_string();
        assert!(said.contains(what), "{said}");
    };
    more(
        "cpu",
        json!({"cpu": "600m", "memory": "100Mi", "ephemeral-storage": "1Gi"}),
        json!({"ephemeral-storage": "1Gi"}),
        "cpu",
    );
    more(
        "dongle",
        json!({"cpu": "100m", "memory": "100Mi", "ephemeral-storage": "1Gi", "example.com/dongle": "2"}),
        json!({"ephemeral-storage": "1Gi", "example.com/dongle": "2"}),
        "requests.example.com/dongle",
    );
    // What asks for nothing that is limited cannot be charged.
    let silent = place.send("POST", &path, &pod("silent", &json!({}), &json!({})));
    silent.refuses(403, "failed quota: whole: must specify");
    // An update of something else changes nothing.
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    place.send("PATCH", &format!("{path}/fits"), &label).ok();
    used(place, "whole", &all);
    place.remove(&format!("{path}/fits"));
    used(
        place,
        "whole",
        &json!({"pods": "0", "cpu": "0", "memory": "0",
        "requests.ephemeral-storage": "0", "requests.example.com/dongle": "0"}),
    );
}

pub(super) fn of_terminating_pods(place: &Place) {
    let hard = json!({"pods": "5", "requests.cpu": "1", "requests.memory": "500Mi", "limits.cpu": "2", "limits.memory": "1Gi"});
    let spec = |scope: &str| json!({"hard": hard, "scopes": [scope]});
    quota(place, "terminating", &spec("Terminating"));
    quota(place, "not-terminating", &spec("NotTerminating"));
    let path = place.path("api/v1", "pods");
    let (requests, limits) =
        (json!({"cpu": "500m", "memory": "200Mi"}), json!({"cpu": "1", "memory": "400Mi"}));
    let none = json!({"pods": "0", "requests.cpu": "0", "requests.memory": "0", "limits.cpu": "0", "limits.memory": "0"});
    let one = json!({"pods": "1", "requests.cpu": "500m", "requests.memory": "200Mi", "limits.cpu": "1", "limits.memory": "400Mi"});
    place.post(&path, &pod("for-ever", &requests, &limits));
    used(place, "not-terminating", &one);
    used(place, "terminating", &none);
    place.remove(&format!("{path}/for-ever"));
    used(place, "not-terminating", &none);
    let mut until = pod("for-an-hour", &requests, &limits);
    until["spec"]["activeDeadlineSeconds"] = json!(3600);
    place.post(&path, &until);
    used(place, "terminating", &one);
    used(place, "not-terminating", &none);
    place.remove(&format!("{path}/for-an-hour"));
    used(place, "terminating", &none);
}

pub(super) fn of_best_effort_pods(place: &Place) {
    let spec = |scope: &str| json!({"hard": {"pods": "5"}, "scopes": [scope]});
    quota(place, "best-effort", &spec("BestEffort"));
    quota(place, "not-best-effort", &spec("NotBestEffort"));
    let path = place.path("api/v1", "pods");
    let count = |name: &str, pods: &str| used(place, name, &json!({"pods": pods}));
    place.post(&path, &pod("modest", &json!({}), &json!({})));
    count("best-effort", "1");
    count("not-best-effort", "0");
    place.remove(&format!("{path}/modest"));
    count("best-effort", "0");
    let some = json!({"cpu": "500m", "memory": "200Mi"});
    place.post(&path, &pod("burstable", &some, &json!({"cpu": "1", "memory": "400Mi"})));
    count("not-best-effort", "1");
    count("best-effort", "0");
    place.remove(&format!("{path}/burstable"));
    count("not-best-effort", "0");
}

pub(super) fn updated_and_deleted(place: &Place) {
    let one = format!("{}/changing", quotas(place));
    quota(place, "changing", &json!({"hard": {"cpu": "1", "memory": "500Mi"}}));
    assert_eq!(place.read(&one)["spec"]["hard"], json!({"cpu": "1", "memory": "500Mi"}));
    let mut object = place.read(&one);
    object["spec"]["hard"] = json!({"cpu": "2", "memory": "1Gi"});
    object["metadata"].as_object_mut().expect("an object").remove("resourceVersion");
    let written = place.send("PUT", &one, &object).ok();
    assert_eq!(written["spec"]["hard"], json!({"cpu": "2", "memory": "1Gi"}));
    place.until("the new amounts are counted", || {
        place.read(&one)["status"]["hard"] == json!({"cpu": "2", "memory": "1Gi"})
    });
    place.remove(&one);
    place.send_with("GET", &one, &[], "").is(404);
}

pub(super) fn lifecycle(place: &Place) {
    let labelled = json!({"metadata": {"labels": {"e2e-test": place.namespace}}});
    quota(place, "living", &json!({"hard": {"cpu": "500m", "memory": "500Mi"}}));
    let one = format!("{}/living", quotas(place));
    place.send("PATCH", &one, &labelled).ok();
    let everywhere = format!("/api/v1/resourcequotas?labelSelector=e2e-test={}", place.namespace);
    assert_eq!(place.read(&everywhere)["items"].as_array().map(Vec::len), Some(1));
    let patch = json!({"spec": {"hard": {"memory": "750Mi"}}});
    let patched = place.send("PATCH", &one, &patch).ok();
    assert_eq!(patched["spec"]["hard"], json!({"cpu": "500m", "memory": "750Mi"}));
    place.remove(&format!("{}?labelSelector=e2e-test={}", quotas(place), place.namespace));
    assert_eq!(place.read(&everywhere)["items"], json!([]));
}

pub(super) fn with_a_status(place: &Place) {
    let hard = json!({"cpu": "500m", "memory": "500Mi"});
    let made = quota(place, "told", &json!({"hard": hard}));
    let one = format!("{}/told", quotas(place));
    let from = made["metadata"]["resourceVersion"].as_str().expect("a version");
    let path = format!("{}?fieldSelector=metadata.name=told&resourceVersion={from}", quotas(place));
    let mut watch = place.watch(&path);
    // Whoever counts puts it right again, so what was written is seen in the watch.
    let status = |method: &str, cpu: &str| {
        let wanted = json!({"cpu": cpu, "memory": "800Mi"});
        let body = match method {
            "PATCH" => json!({"status": {"hard": wanted}}),
            _ => {
                let mut object = place.read(&one);
                object["metadata"].as_object_mut().expect("an object").remove("resourceVersion");
                object["status"]["hard"] = wanted.clone();
                object
            }
        };
        let written = place.send(method, &format!("{one}/status"), &body).ok();
        assert_eq!(written["status"]["hard"], wanted);
        assert_eq!(written["spec"]["hard"], hard);
        wanted
    };
    for (method, cpu) in [("PUT", "600m"), ("PATCH", "700m")] {
        let wanted = status(method, cpu);
        watch.until(|what, object| what == "MODIFIED" && object["status"]["hard"] == wanted);
        watch.until(|what, object| what == "MODIFIED" && object["status"]["hard"] == hard);
    }
}

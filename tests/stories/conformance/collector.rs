//! What becomes of objects whose owner is deleted.

use serde_json::{Value, json};

use super::Place;

fn controller(name: &str, replicas: u32) -> Value {
    json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "selector": {"app": name},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {
            // Nowhere: what counts are the objects.
            "nodeSelector": {"nowhere": "yes"}, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": "skiff.local/toolbox"}]}}}})
}

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": name}},
        "template": controller(name, 2)["spec"]["template"]}})
}

fn path(place: &Place, kind: &str, name: &str) -> String {
    match kind {
        "deployments" => place.path("apis/apps/v1", &format!("{kind}/{name}")),
        _ => place.path("api/v1", &format!("{kind}/{name}")),
    }
}

fn delete(place: &Place, kind: &str, name: &str, options: &Value) {
    let mut options = options.clone();
    options["kind"] = json!("DeleteOptions");
    options["apiVersion"] = json!("v1");
    place.send("DELETE", &path(place, kind, name), &options).ok();
}

fn pods(place: &Place, app: &str) -> Vec<Value> {
    let pods = place.read(&place.path("api/v1", &format!("pods?labelSelector=app={app}")));
    pods["items"].as_array().expect("items").clone()
}

fn with_pods(place: &Place, name: &str, replicas: u32) -> Value {
    let made =
        place.post(&place.path("api/v1", "replicationcontrollers"), &controller(name, replicas));
    place.until("its pods are there", || pods(place, name).len() == replicas as usize);
    made
}

/// Something that happens after all that the collector had to do: of an owner that
/// is made and deleted now, the dependent is gone.
fn collector_has_come_so_far(place: &Place) {
    let maps = place.path("api/v1", "configmaps");
    let map =
        |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    let owner = place.post(&maps, &map("mark"));
    let mut dependent = map("marked");
    dependent["metadata"]["ownerReferences"] = json!([reference("v1", "ConfigMap", &owner)]);
    place.post(&maps, &dependent);
    place.remove(&format!("{maps}/mark"));
    let gone = || place.send_with("GET", &format!("{maps}/marked"), &[], "").code == 404;
    place.until("the collector does its work", gone);
}

fn reference(version: &str, kind: &str, owner: &Value) -> Value {
    json!({"apiVersion": version, "kind": kind, "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"]})
}

pub(super) fn pods_of_a_controller(place: &Place) {
    with_pods(place, "background", 2);
    delete(
        place,
        "replicationcontrollers",
        "background",
        &json!({"propagationPolicy": "Background"}),
    );
    place.until("its pods go", || pods(place, "background").is_empty());
    // In the older words.
    with_pods(place, "older", 2);
    delete(place, "replicationcontrollers", "older", &json!({"orphanDependents": false}));
    place.until("its pods go", || pods(place, "older").is_empty());
}

pub(super) fn orphaned_pods(place: &Place) {
    with_pods(place, "orphaned", 3);
    delete(place, "replicationcontrollers", "orphaned", &json!({"propagationPolicy": "Orphan"}));
    let one = path(place, "replicationcontrollers", "orphaned");
    place.until("the controller goes", || place.send_with("GET", &one, &[], "").code == 404);
    collector_has_come_so_far(place);
    let left = pods(place, "orphaned");
    assert_eq!(left.len(), 3);
    assert!(left.iter().all(|pod| pod["metadata"]["ownerReferences"].is_null()), "{left:?}");
}

fn replica_sets(place: &Place, app: &str) -> Vec<Value> {
    let sets =
        place.read(&place.path("apis/apps/v1", &format!("replicasets?labelSelector=app={app}")));
    sets["items"].as_array().expect("items").clone()
}

pub(super) fn sets_of_a_deployment(place: &Place) {
    place.post(&place.path("apis/apps/v1", "deployments"), &deployment("whole"));
    place.until("its set is there", || replica_sets(place, "whole").len() == 1);
    delete(place, "deployments", "whole", &json!({"propagationPolicy": "Background"}));
    place.until("its set goes", || replica_sets(place, "whole").is_empty());
    place.until("and its pods", || pods(place, "whole").is_empty());
}

pub(super) fn orphaned_sets(place: &Place) {
    place.post(&place.path("apis/apps/v1", "deployments"), &deployment("left"));
    place.until("its set is there", || replica_sets(place, "left").len() == 1);
    delete(place, "deployments", "left", &json!({"propagationPolicy": "Orphan"}));
    let one = path(place, "deployments", "left");
    place.until("the deployment goes", || place.send_with("GET", &one, &[], "").code == 404);
    collector_has_come_so_far(place);
    let left = replica_sets(place, "left");
    assert_eq!(left.len(), 1);
    assert!(left[0]["metadata"]["ownerReferences"].is_null(), "{left:?}");
}

pub(super) fn after_its_pods(place: &Place) {
    with_pods(place, "last", 2);
    // One of them is held up.
    let held = pods(place, "last")[0]["metadata"]["name"].as_str().expect("a name").to_owned();
    let held = path(place, "pods", &held);
    place.send("PATCH", &held, &json!({"metadata": {"finalizers": ["example.com/hold"]}})).ok();
    delete(place, "replicationcontrollers", "last", &json!({"propagationPolicy": "Foreground"}));
    place.until("the others go", || pods(place, "last").len() == 1);
    collector_has_come_so_far(place);
    let waiting = place.read(&path(place, "replicationcontrollers", "last"));
    assert!(waiting["metadata"]["deletionTimestamp"].is_string(), "{waiting}");
    assert_eq!(waiting["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    assert!(place.read(&held)["metadata"]["deletionTimestamp"].is_string());
    place.send("PATCH", &held, &json!({"metadata": {"finalizers": null}})).ok();
    let one = path(place, "replicationcontrollers", "last");
    place.until("then it goes", || place.send_with("GET", &one, &[], "").code == 404);
    assert!(pods(place, "last").is_empty());
}

pub(super) fn with_another_owner(place: &Place) {
    let first = with_pods(place, "ending", 4);
    let second =
        place.post(&place.path("api/v1", "replicationcontrollers"), &controller("staying", 0));
    let all = pods(place, "ending");
    let names: Vec<&str> =
        all.iter().map(|pod| pod["metadata"]["name"].as_str().expect("a name")).collect();
    let mut owners = json!([reference("v1", "ReplicationController", &first)]);
    owners[0]["controller"] = json!(true);
    owners[0]["blockOwnerDeletion"] = json!(true);
    owners.as_array_mut().expect("a list").push(reference("v1", "ReplicationController", &second));
    for name in &names[..2] {
        let patch = json!({"metadata": {"ownerReferences": owners}});
        place.send("PATCH", &path(place, "pods", name), &patch).ok();
    }
    delete(place, "replicationcontrollers", "ending", &json!({"propagationPolicy": "Foreground"}));
    let one = path(place, "replicationcontrollers", "ending");
    place.until("the owner goes", || place.send_with("GET", &one, &[], "").code == 404);
    collector_has_come_so_far(place);
    let left = pods(place, "ending");
    let mut left_names: Vec<&str> =
        left.iter().map(|pod| pod["metadata"]["name"].as_str().expect("a name")).collect();
    left_names.sort_unstable();
    let mut kept = names[..2].to_vec();
    kept.sort_unstable();
    assert_eq!(left_names, kept);
    for pod in &left {
        assert!(pod["metadata"]["deletionTimestamp"].is_null(), "{pod}");
        let owners = pod["metadata"]["ownerReferences"].as_array().expect("owners");
        assert!(owners.iter().all(|owner| owner["uid"] == second["metadata"]["uid"]), "{owners:?}");
    }
}

pub(super) fn owners_in_a_circle(place: &Place) {
    let pod = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "circle"}},
            "spec": {"nodeSelector": {"nowhere": "yes"}, "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "c", "image": "skiff.local/toolbox"}]}})
    };
    let names = ["pod1", "pod2", "pod3"];
    let made: Vec<Value> =
        names.iter().map(|name| place.post(&place.path("api/v1", "pods"), &pod(name))).collect();
    for (number, name) in names.iter().enumerate() {
        let mut owner = reference("v1", "Pod", &made[(number + 2) % 3]);
        owner["controller"] = json!(true);
        owner["blockOwnerDeletion"] = json!(true);
        let patch = json!({"metadata": {"ownerReferences": [owner]}});
        place.send("PATCH", &path(place, "pods", name), &patch).ok();
    }
    delete(place, "pods", "pod1", &json!({"propagationPolicy": "Foreground"}));
    place.until("all of the circle go", || pods(place, "circle").is_empty());
}

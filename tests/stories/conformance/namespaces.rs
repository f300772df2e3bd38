//! Namespaces: changed like anything else, and ended with all that is in them.

use serde_json::{Value, json};

use super::Place;

const ALL: &str = "/api/v1/namespaces";

/// One of the story's own beside its place.
fn make(place: &Place, name: &str) -> String {
    let name = format!("{}-{name}", place.namespace);
    place.post(ALL, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    name
}

fn gone(place: &Place, name: &str) -> bool {
    place.send_with("GET", &format!("{ALL}/{name}"), &[], "").code == 404
}

/// A pod that runs nowhere, and has nobody to wait for.
fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": "skiff.local/toolbox", "args": ["sleep", "infinity"]}]}})
}

pub(super) fn end_with_their_pods(place: &Place) {
    let name = make(place, "pods");
    let pods = format!("{ALL}/{name}/pods");
    place.post(&pods, &pod("test-pod"));
    let line = format!("wait -n {name} pod/test-pod --for=condition=Ready --timeout=180s");
    place.cluster.kubectl(&line).ok();
    place.remove(&format!("{ALL}/{name}"));
    place.until("the namespace goes", || gone(place, &name));
    make(place, "pods");
    place.send_with("GET", &format!("{pods}/test-pod"), &[], "").is(404);
    place.remove(&format!("{ALL}/{name}"));
}

pub(super) fn end_with_their_services(place: &Place) {
    let name = make(place, "services");
    let services = format!("{ALL}/{name}/services");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "test-service"},
        "spec": {"selector": {"foo": "bar"}, "ports": [{"port": 80, "targetPort": 80}]}});
    place.post(&services, &service);
    place.remove(&format!("{ALL}/{name}"));
    place.until("the namespace goes", || gone(place, &name));
    make(place, "services");
    place.send_with("GET", &format!("{services}/test-service"), &[], "").is(404);
    place.remove(&format!("{ALL}/{name}"));
}

pub(super) fn patched(place: &Place) {
    let path = format!("{ALL}/{}", make(place, "patched"));
    let patch = json!({"metadata": {"labels": {"testLabel": "testValue"}}}).to_string();
    let strategic = ["Content-Type: application/strategic-merge-patch+json"];
    place.send_with("PATCH", &path, &strategic, &patch).ok();
    assert_eq!(place.read(&path)["metadata"]["labels"]["testLabel"], "testValue");
    place.remove(&path);
}

pub(super) fn updated(place: &Place) {
    let path = format!("{ALL}/{}", make(place, "updated"));
    loop {
        let mut object = place.read(&path);
        object["metadata"]["labels"][&place.namespace] = json!("updated");
        let answer = place.send("PUT", &path, &object);
        if answer.code != 409 {
            answer.ok();
            break;
        }
    }
    assert_eq!(place.read(&path)["metadata"]["labels"][&place.namespace], "updated");
    place.remove(&path);
}

pub(super) fn with_a_status(place: &Place) {
    let path = format!("{ALL}/{}", make(place, "told"));
    let status = format!("{path}/status");
    assert_eq!(place.read(&status)["status"]["phase"], "Active");
    let condition = |name: &str| {
        json!({"type": name, "status": "True", "reason": "E2E", "message": "Patched by an e2e test",
            "lastTransitionTime": "2026-01-02T03:04:05Z"})
    };
    let patch = json!({"status": {"conditions": [condition("StatusPatch")]}}).to_string();
    let strategic = ["Content-Type: application/strategic-merge-patch+json"];
    let patched = place.send_with("PATCH", &status, &strategic, &patch).ok();
    assert_eq!(patched["status"]["conditions"][0]["type"], "StatusPatch");
    let mut object = place.read(&path);
    let conditions = object["status"]["conditions"].as_array_mut().expect("conditions");
    conditions.push(condition("StatusUpdate"));
    let written = place.send("PUT", &status, &object).ok();
    assert_eq!(written["status"]["conditions"][1]["type"], "StatusUpdate");
    assert_eq!(written["status"]["phase"], "Active");
    place.remove(&path);
}

pub(super) fn with_a_finalizer(place: &Place) {
    const FAKE: &str = "e2e.example.com/fakeFinalizer";
    let name = make(place, "held");
    let path = format!("{ALL}/{name}");
    let finalize = |change: &dyn Fn(&mut Vec<Value>)| loop {
        let mut object = place.read(&path);
        let list = object["spec"]["finalizers"].as_array_mut().expect("finalizers");
        change(list);
        let answer = place.send("PUT", &format!("{path}/finalize"), &object);
        // Where the controller wrote in between.
        if answer.code != 409 {
            break answer.ok();
        }
    };
    let held = finalize(&|list| list.push(json!(FAKE)));
    assert_eq!(held["spec"]["finalizers"], json!(["kubernetes", FAKE]));
    place.remove(&path);
    // It ends as far as it can.
    place.until("only the other finalizer is left", || {
        place.read(&path)["spec"]["finalizers"] == json!([FAKE])
    });
    assert_eq!(place.read(&path)["status"]["phase"], "Terminating");
    finalize(&|list| list.retain(|finalizer| finalizer != FAKE));
    place.until("the namespace goes", || gone(place, &name));
}

/// Pods first, since they may need what else is there until they have ended
/// (KEP-5080).
pub(super) fn pods_before_all_else(place: &Place) {
    let name = make(place, "ordered");
    let pods = format!("{ALL}/{name}/pods");
    let maps = format!("{ALL}/{name}/configmaps");
    let mut held = pod("held");
    held["metadata"]["finalizers"] = json!(["e2e.example.com/finalizer"]);
    place.post(&pods, &held);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "needed"}});
    place.post(&maps, &map);
    place.remove(&format!("{ALL}/{name}"));
    let condition = |object: &Value, wanted: &str| {
        let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|condition| condition["type"] == wanted).unwrap_or_default()
    };
    let path = format!("{ALL}/{name}");
    place.until("it says what holds it up", || {
        condition(&place.read(&path), "NamespaceFinalizersRemaining")["status"] == "True"
    });
    let pod = place.read(&format!("{pods}/held"));
    assert!(pod["metadata"]["deletionTimestamp"].is_string(), "{pod}");
    let object = place.read(&path);
    assert_eq!(condition(&object, "NamespaceContentRemaining")["status"], "True", "{object}");
    let map = place.read(&format!("{maps}/needed"));
    assert!(map["metadata"]["deletionTimestamp"].is_null(), "{map}");
    place.send("PATCH", &format!("{pods}/held"), &json!({"metadata": {"finalizers": null}})).ok();
    place.until("then all goes", || gone(place, &name));
}

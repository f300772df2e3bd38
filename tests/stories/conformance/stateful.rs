//! StatefulSets whose pods are made ready and unready by hand.

use serde_json::{Value, json};

use super::Place;

/// A pod is ready while a file is there that its own start makes.
fn set(name: &str, policy: &str, replicas: u32) -> Value {
    let exec = |words: Value| json!({"exec": {"command": words}});
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": {
        "serviceName": name, "podManagementPolicy": policy, "replicas": replicas,
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "c", "image": "skiff.local/toolbox", "args": ["sleep", "infinity"],
                "lifecycle": {"postStart": exec(json!(["toolbox", "write", "/ready", "yes"]))},
                "readinessProbe": {
                    "exec": {"command": ["toolbox", "test", "-e", "/ready"]},
                    "periodSeconds": 1, "failureThreshold": 1,
                },
            }],
        }},
    }})
}

fn make_ready(place: &Place, pod: &str, ready: bool) {
    match ready {
        true => place.kubectl(&format!("exec {pod} -- toolbox write /ready yes")).ok(),
        false => place.kubectl(&format!("exec {pod} -- toolbox rm /ready")).ok(),
    };
    place.wait(&format!("condition=Ready={ready}"), &format!("pod/{pod}"));
}

fn names(place: &Place, set: &str) -> Vec<String> {
    place.names(&format!("pods -l app={set}"))
}

pub(super) fn in_order(place: &Place) {
    place.apply(&set("ordered", "OrderedReady", 1));
    place.kubectl("rollout status statefulset/ordered --timeout=180s").ok();
    make_ready(place, "ordered-0", false);
    place.kubectl("scale statefulset/ordered --replicas=3").ok();
    place.wait("jsonpath={.status.observedGeneration}=2", "statefulset/ordered");
    assert_eq!(names(place, "ordered"), ["ordered-0"], "nobody comes while one is not ready");
    make_ready(place, "ordered-0", true);
    place.kubectl("rollout status statefulset/ordered --timeout=180s").ok();
    let created = |pod: &str| {
        let created = place.get(&format!("pod {pod}"));
        created["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned()
    };
    let order = ["ordered-0", "ordered-1", "ordered-2"];
    assert_eq!(names(place, "ordered"), order);
    assert!(order.windows(2).all(|two| created(two[0]) <= created(two[1])), "one after the other");
    for pod in ["ordered-0", "ordered-2"] {
        make_ready(place, pod, false);
    }
    place.kubectl("scale statefulset/ordered --replicas=0").ok();
    place.wait("jsonpath={.status.observedGeneration}=3", "statefulset/ordered");
    assert_eq!(names(place, "ordered"), order, "nobody goes while one is not ready");
    // The first that is not ready may go, and the last goes first.
    make_ready(place, "ordered-0", true);
    for (gone, left) in [("ordered-2", "ordered-1"), ("ordered-1", "ordered-0")] {
        place.wait("delete", &format!("pod/{gone}"));
        assert!(!names(place, "ordered").contains(&gone.to_owned()), "{gone} before {left}");
    }
    place.wait("delete", "pod/ordered-0");
}

pub(super) fn burst(place: &Place) {
    place.apply(&set("burst", "Parallel", 1));
    place.kubectl("rollout status statefulset/burst --timeout=180s").ok();
    make_ready(place, "burst-0", false);
    place.kubectl("scale statefulset/burst --replicas=3").ok();
    let all = ["burst-0", "burst-1", "burst-2"];
    place.until("all come at once", || names(place, "burst") == all);
    place.wait("jsonpath={.status.readyReplicas}=2", "statefulset/burst");
    place.wait("condition=Ready=false", "pod/burst-0");
    make_ready(place, "burst-1", false);
    place.kubectl("scale statefulset/burst --replicas=0").ok();
    place.until("all go at once", || names(place, "burst").is_empty());
}

pub(super) fn recreated(place: &Place) {
    place.apply(&set("again", "OrderedReady", 1));
    place.kubectl("rollout status statefulset/again --timeout=180s").ok();
    let uid = || place.get("pod again-0 --ignore-not-found")["metadata"]["uid"].clone();
    let before = uid();
    // As when the node had no room for it after all.
    place.patch_status("pod/again-0", &json!({"phase": "Failed", "reason": "Evicted"}));
    place.until("it is made anew", || {
        let found = place.names("pods -l app=again");
        found == ["again-0"] && uid() != before
    });
    place.wait("condition=Ready", "pod/again-0");
}

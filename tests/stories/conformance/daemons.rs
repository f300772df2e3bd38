//! DaemonSets on two nodes.

use serde_json::{Value, json};

use super::Place;

fn daemon(name: &str, spec: &Value) -> Value {
    let mut pod = json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": "skiff.local/toolbox", "args": ["sleep", "infinity"]}],
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod[field] = value.clone();
    }
    json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
    }})
}

/// Where its pods are, in order, and their uids.
fn pods(place: &Place, name: &str) -> Vec<(String, String)> {
    let of = |pod: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&pod["spec"]["nodeName"]), text(&pod["metadata"]["uid"]))
    };
    let mut found: Vec<_> = place.items(&format!("pods -l app={name}")).iter().map(of).collect();
    found.sort();
    found
}

fn nodes(place: &Place, name: &str) -> Vec<String> {
    pods(place, name).into_iter().map(|(node, _)| node).collect()
}

pub(super) fn simple(place: &Place) {
    place.apply(&daemon("simple", &json!({})));
    place.kubectl("rollout status daemonset/simple --timeout=180s").ok();
    assert_eq!(nodes(place, "simple"), ["node-1", "node-2"]);
    // Whichever goes comes back, and so does one that failed.
    let pod = place.names("pods -l app=simple").remove(0);
    place.kubectl(&format!("delete pod {pod} --timeout=180s")).ok();
    place.until("it is back", || nodes(place, "simple") == ["node-1", "node-2"]);
    place.kubectl("rollout status daemonset/simple --timeout=180s").ok();
    let pod = place.names("pods -l app=simple").remove(0);
    let uid = place.get(&format!("pod {pod}"))["metadata"]["uid"].clone();
    place.patch_status(&format!("pod/{pod}"), &json!({"phase": "Failed"}));
    place.until("the failed one is replaced", || {
        let pods = pods(place, "simple");
        pods.len() == 2 && pods.iter().all(|(_, known)| *known != uid.as_str().unwrap_or_default())
    });
    place.wait("jsonpath={.status.numberReady}=2", "daemonset/simple");
    place.kubectl("delete daemonset simple --timeout=180s").ok();
    place.until("they stop", || nodes(place, "simple").is_empty());
}

pub(super) fn by_label(place: &Place) {
    place.apply(&daemon("complex", &json!({"nodeSelector": {"colour": "blue"}})));
    place.wait("jsonpath={.status.observedGeneration}=1", "daemonset/complex");
    assert_eq!(nodes(place, "complex"), Vec::<String>::new());
    place.kubectl("label node node-2 colour=blue --overwrite").ok();
    place.until("it starts", || nodes(place, "complex") == ["node-2"]);
    place.wait("jsonpath={.status.numberReady}=1", "daemonset/complex");
    place.kubectl("label node node-2 colour=green --overwrite").ok();
    place.until("it stops", || nodes(place, "complex").is_empty());
    let green = json!({"nodeSelector": {"colour": "green"}});
    place.patch("daemonset/complex", &json!({"spec": {"template": {"spec": green}}}));
    place.until("it starts as told anew", || nodes(place, "complex") == ["node-2"]);
    place.wait("jsonpath={.status.numberReady}=1", "daemonset/complex");
    place.kubectl("label node node-2 colour-").ok();
}

pub(super) fn rolled_back(place: &Place) {
    place.apply(&daemon("back", &json!({})));
    place.kubectl("rollout status daemonset/back --timeout=180s").ok();
    let before = pods(place, "back");
    // One node at a time: the first gets what does not work, and it stays at that.
    let image = "skiff.local/no-such-image";
    let patch = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "c", "image": image, "args": ["sleep", "infinity"]}]}}}});
    place.patch("daemonset/back", &patch);
    place.until("one is of the new revision", || {
        place.items("pods -l app=back").iter().any(|pod| {
            pod["spec"]["containers"][0]["image"] == image
                && pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].is_string()
        })
    });
    place.kubectl("rollout undo daemonset/back").prints("rolled back");
    place.kubectl("rollout status daemonset/back --timeout=180s").ok();
    let after = pods(place, "back");
    let kept = before.iter().filter(|pod| after.contains(pod)).count();
    assert_eq!((kept, after.len()), (1, 2), "who was not updated runs on: {before:?} {after:?}");
}

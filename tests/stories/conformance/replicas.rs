//! Deployments, ReplicaSets and ReplicationControllers: scaled, updated, adopted.

use serde_json::{Value, json};

use super::Place;

const IMAGE: &str = "skiff.local/toolbox";
const NO_IMAGE: &str = "skiff.local/no-such-image";

fn template(app: &str, image: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "c", "image": image, "args": ["http-echo", "--port", "8080"],
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1},
        }],
    }})
}

fn owner(kind: &str, name: &str, replicas: u32) -> Value {
    let selector = json!({"app": name});
    let (version, selector) = match kind {
        "ReplicationController" => ("v1", selector),
        _ => ("apps/v1", json!({"matchLabels": selector})),
    };
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": {"app": name}}, "spec": {
        "replicas": replicas, "selector": selector, "template": template(name, IMAGE)}})
}

fn bare_pod(name: &str, app: &str) -> Value {
    let template = template(app, IMAGE);
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": template["metadata"]["labels"]}, "spec": template["spec"]})
}

fn replicas_of(place: &Place, label: &str) -> Vec<i64> {
    let sets = place.items(&format!("replicasets -l {label}"));
    let mut sizes: Vec<i64> =
        sets.iter().filter_map(|set| set["spec"]["replicas"].as_i64()).collect();
    sizes.sort_unstable();
    sizes
}

pub(super) fn scaled_by_subresource(place: &Place) {
    for (plural, api, mut object) in [
        ("deployments", "apis/apps/v1", owner("Deployment", "d", 1)),
        ("replicasets", "apis/apps/v1", owner("ReplicaSet", "r", 1)),
        ("replicationcontrollers", "api/v1", owner("ReplicationController", "rc", 1)),
        ("statefulsets", "apis/apps/v1", owner("StatefulSet", "s", 1)),
    ] {
        if plural == "statefulsets" {
            object["spec"]["serviceName"] = json!("s");
        }
        place.apply(&object);
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        let what = format!("{plural}/{name}");
        place.wait("jsonpath={.status.replicas}=1", &what);
        let path = format!("/{api}/namespaces/{}/{plural}/{name}/scale", place.namespace);
        let read = || {
            let text = place.kubectl(&format!("get --raw {path}")).ok().stdout;
            serde_json::from_str::<Value>(&text).expect("JSON")
        };
        let mut scale = read();
        assert_eq!(
            (&scale["kind"], &scale["apiVersion"]),
            (&json!("Scale"), &json!("autoscaling/v1"))
        );
        assert_eq!(
            (&scale["spec"]["replicas"], &scale["status"]["replicas"]),
            (&json!(1), &json!(1))
        );
        assert_eq!(scale["status"]["selector"], format!("app={name}"));
        scale["spec"]["replicas"] = json!(2);
        scale["metadata"].as_object_mut().expect("an object").remove("resourceVersion");
        let line = format!("replace --raw {path} -f -");
        place.cluster.kubectl_with_input(&line, &scale.to_string()).ok();
        place.wait("jsonpath={.status.replicas}=2", &what);
        let patch = json!({"spec": {"replicas": 3}}).to_string();
        place
            .kubectl_args(&["patch", &what, "--subresource=scale", "--type=merge", "-p", &patch])
            .ok();
        place.wait("jsonpath={.spec.replicas}=3", &what);
        place.kubectl(&format!("delete {what} --wait=false")).ok();
    }
}

pub(super) fn recreated(place: &Place) {
    let mut deployment = owner("Deployment", "whole", 2);
    deployment["spec"]["strategy"] = json!({"type": "Recreate"});
    place.apply(&deployment);
    place.kubectl("rollout status deployment/whole --timeout=180s").ok();
    place.kubectl("set env deployment/whole VERSION=2").ok();
    // Never two revisions at once, whenever one looks.
    place.until("all are new", || {
        let pods = place.items("pods -l app=whole");
        let hash = |pod: &Value| pod["metadata"]["labels"]["pod-template-hash"].clone();
        let running = |pod: &&Value| pod["status"]["phase"] == "Running";
        let mut hashes: Vec<Value> = pods.iter().filter(running).map(hash).collect();
        hashes.dedup();
        assert!(hashes.len() <= 1, "old beside new: {hashes:?}");
        let deployment = place.get("deployment whole");
        deployment["status"]["updatedReplicas"] == 2 && deployment["status"]["readyReplicas"] == 2
    });
}

pub(super) fn adopted_and_updated(place: &Place) {
    let mut old = owner("ReplicaSet", "older", 1);
    old["metadata"]["annotations"] =
        json!({"deployment.kubernetes.io/revision": "3546343826724305832"});
    place.apply(&old);
    place.wait("jsonpath={.status.readyReplicas}=1", "replicaset/older");
    let mut deployment = owner("Deployment", "older", 1);
    deployment["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "A", "value": "b"}]);
    place.apply(&deployment);
    place.kubectl("rollout status deployment/older --timeout=180s").ok();
    let set = place.get("replicaset older");
    assert_eq!(set["spec"]["replicas"], 0);
    assert_eq!(set["metadata"]["ownerReferences"][0]["kind"], "Deployment", "it is adopted");
    let revision = place.get("deployment older")["metadata"]["annotations"]
        ["deployment.kubernetes.io/revision"]
        .clone();
    assert_eq!(revision, "3546343826724305833", "one after the newest");
}

pub(super) fn history(place: &Place) {
    let mut deployment = owner("Deployment", "brief", 1);
    deployment["spec"]["revisionHistoryLimit"] = json!(0);
    place.apply(&deployment);
    place.kubectl("rollout status deployment/brief --timeout=180s").ok();
    place.kubectl("set env deployment/brief VERSION=2").ok();
    place.kubectl("rollout status deployment/brief --timeout=180s").ok();
    place.until("no old set is kept", || replicas_of(place, "app=brief") == [1]);
}

pub(super) fn proportional(place: &Place) {
    let mut deployment = owner("Deployment", "wide", 4);
    deployment["spec"]["strategy"] = json!({"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 1}});
    place.apply(&deployment);
    place.kubectl("rollout status deployment/wide --timeout=180s").ok();
    place.kubectl_args(&["set", "image", "deployment/wide", &format!("c={NO_IMAGE}")]).ok();
    place.until("the new ones do not come up", || replicas_of(place, "app=wide") == [3, 3]);
    place.kubectl("scale deployment/wide --replicas=12").ok();
    place.until("both get their share", || replicas_of(place, "app=wide") == [7, 7]);
    place.kubectl("delete deployment wide --wait=false").ok();
}

pub(super) fn rolled_over(place: &Place) {
    place.apply(&owner("Deployment", "over", 2));
    place.kubectl("rollout status deployment/over --timeout=180s").ok();
    place.kubectl_args(&["set", "image", "deployment/over", &format!("c={NO_IMAGE}")]).ok();
    place.until("a second set is there", || replicas_of(place, "app=over").len() == 2);
    // Before that is done, the next.
    place.kubectl_args(&["set", "image", "deployment/over", &format!("c={IMAGE}")]).ok();
    place.kubectl("set env deployment/over VERSION=3").ok();
    place.kubectl("rollout status deployment/over --timeout=180s").ok();
    place.until("the others are empty", || {
        let sizes = replicas_of(place, "app=over");
        sizes.len() >= 3 && sizes.iter().sum::<i64>() == 2 && sizes.last() == Some(&2)
    });
}

pub(super) fn orphans(place: &Place) {
    for (kind, name) in [("ReplicaSet", "set"), ("ReplicationController", "rc")] {
        place.apply(&bare_pod(&format!("{name}-orphan"), name));
        place.apply(&owner(kind, name, 1));
        let orphan = format!("{name}-orphan");
        let owned_by = || {
            let pod = place.get(&format!("pod {orphan}"));
            pod["metadata"]["ownerReferences"][0]["name"].as_str().map(str::to_owned)
        };
        place.until("it is adopted", || owned_by().as_deref() == Some(name));
        let pods = place.names(&format!("pods -l app={name}"));
        assert_eq!(pods, std::slice::from_ref(&orphan), "and it counts");
        place.kubectl(&format!("label pod {orphan} app=stranger --overwrite")).ok();
        place.until("it is released", || owned_by().is_none());
        place.until("another takes its place", || {
            place.names(&format!("pods -l app={name}")).len() == 1
        });
        // Two who select one pod: it has one controller, and stays with it.
        place.apply(&owner(kind, &format!("{name}-rival"), 1));
        let pod = place.names(&format!("pods -l app={name}")).remove(0);
        place.kubectl(&format!("label pod {pod} second=owner")).ok();
        let owners = place.get(&format!("pod {pod}"))["metadata"]["ownerReferences"].clone();
        assert_eq!(owners.as_array().map(Vec::len), Some(1));
        let kind = kind.to_lowercase();
        place.kubectl(&format!("delete {kind} {name} {name}-rival --timeout=180s")).ok();
    }
}

pub(super) fn each_answers(place: &Place) {
    for (kind, name) in [("ReplicaSet", "web"), ("ReplicationController", "rcweb")] {
        place.apply(&owner(kind, name, 2));
        let what = format!("{}/{name}", kind.to_lowercase());
        place.wait("jsonpath={.status.readyReplicas}=2", &what);
        let pods = place.names(&format!("pods -l app={name}"));
        assert_eq!(pods.len(), 2);
        for pod in &pods {
            let path = format!("/api/v1/namespaces/{}/pods/{pod}:8080/proxy/", place.namespace);
            place.kubectl(&format!("get --raw {path}")).prints(pod);
        }
        place.kubectl(&format!("delete {what} --wait=false")).ok();
    }
}

pub(super) fn quota_exceeded(place: &Place) {
    place.kubectl("create quota two --hard=pods=2").ok();
    place.wait("jsonpath={.status.hard.pods}=2", "quota/two");
    let failure = |what: &str| {
        let conditions = place.get(what)["status"]["conditions"].as_array().cloned();
        let mut conditions = conditions.unwrap_or_default().into_iter();
        conditions.find(|known| known["type"] == "ReplicaFailure")
    };
    for (kind, what) in [("ReplicationController", "rc/full"), ("ReplicaSet", "replicaset/full")] {
        place.apply(&owner(kind, "full", 3));
        place.until("the failure is told", || failure(what).is_some());
        let told = failure(what).expect("just seen");
        assert_eq!((&told["status"], &told["reason"]), (&json!("True"), &json!("FailedCreate")));
        let message = told["message"].as_str().unwrap_or_default();
        assert!(
            message
                .contains("exceeded quota: two, requested: pods=1, used: pods=2, limited: pods=2"),
            "{message}"
        );
        place.until("an event says so as well", || {
            let events = place.kubectl(&format!("events --for {what}")).ok().stdout;
            events.contains("FailedCreate") && events.contains("exceeded quota: two")
        });
        place.kubectl(&format!("scale {what} --replicas=2")).ok();
        place.until("all is well again", || failure(what).is_none());
        place.kubectl(&format!("delete {what} --timeout=180s")).ok();
        place.until("room for the next", || place.names("pods").is_empty());
        place.wait("jsonpath={.status.used.pods}=0", "quota/two");
    }
}

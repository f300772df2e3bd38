//! Objects written, read, listed and deleted in every way, with their statuses.

use serde_json::{Value, json};

use super::Place;

/// A pod template of one container that sleeps.
fn template() -> Value {
    json!({"metadata": {"labels": {"app": "one"}}, "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": "skiff.local/toolbox", "args": ["sleep", "infinity"]}],
    }})
}

/// `api` is `apis/apps/v1` or `api/v1`; `spec` is all of an object but its metadata.
pub(super) fn every_way(place: &Place, api: &str, plural: &str, kind: &str, object: &Value) {
    let named = |name: &str| {
        let mut object = object.clone();
        object["apiVersion"] = json!(api.split_once('/').map_or("", |(_, version)| version));
        object["kind"] = json!(kind);
        object["metadata"] = json!({"name": name, "labels": {"suite": place.namespace}});
        object
    };
    let group = api.split('/').nth(1).filter(|group| group.contains('.')).unwrap_or_default();
    let resource = match (group, api) {
        ("", "apis/apps/v1") => format!("{plural}.apps"),
        ("", _) => plural.to_owned(),
        (group, _) => format!("{plural}.{group}"),
    };
    let one = &format!("{resource}/one");
    place.apply(&named("one"));
    place.patch(one, &json!({"metadata": {"labels": {"patched": "yes"}}}));
    let select = format!("suite={},patched=yes", place.namespace);
    let everywhere = format!("get {resource} -A -l {select} -o name");
    place.cluster.kubectl(&everywhere).prints("/one");

    // Over whatever the controllers wrote meanwhile.
    let mut whole = place.get(one);
    whole["metadata"]["annotations"]["updated"] = json!("yes");
    whole["metadata"].as_object_mut().expect("an object").remove("resourceVersion");
    let line = format!("replace -n {} -f -", place.namespace);
    place.cluster.kubectl_with_input(&line, &whole.to_string()).ok();
    assert_eq!(place.get(one)["metadata"]["annotations"]["updated"], "yes");
    // And not over what somebody else wrote.
    whole["metadata"]["resourceVersion"] = json!("1");
    let stale = place.cluster.kubectl_with_input(&line, &whole.to_string());
    stale.fails_with("the object has been modified");

    place.apply(&named("two"));
    place.apply(&named("three"));
    place.kubectl(&format!("delete {resource}/three --timeout=180s")).prints("deleted");
    let path = match place.get(one)["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("/{api}/namespaces/{namespace}/{plural}"),
        None => format!("/{api}/{plural}"),
    };
    let all = format!("{path}?labelSelector=suite={}", place.namespace);
    place.kubectl(&format!("get --raw {all}")).prints("\"two\"");
    place.kubectl(&format!("delete --raw {all}")).ok();
    let list = || place.names(&format!("{resource} -l suite={}", place.namespace));
    place.until("a collection is deleted", || list().is_empty());
}

/// A condition that no controller knows is written, read and left alone.
pub(super) fn status(place: &Place, what: &str, condition: &Value) {
    let read = || {
        let read = place.kubectl(&format!("get {what} --subresource=status -o json")).ok().stdout;
        serde_json::from_str::<Value>(&read).expect("JSON")
    };
    let holds = |status: &Value| {
        let conditions = status["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|known| known["type"] == condition["type"])
    };
    let mut conditions = read()["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.push(condition.clone());
    place.patch_status(what, &json!({"conditions": conditions}));
    assert!(holds(&read()), "{what} {condition}");
    // Something changes that the controller answers to.
    place.patch(what, &json!({"metadata": {"annotations": {"told": "yes"}}}));
    let type_name = condition["type"].as_str().expect("a name");
    place.wait(&format!("condition={type_name}"), what);
}

pub(super) fn told(type_name: &str) -> Value {
    json!({"type": type_name, "status": "True", "reason": "E2E", "message": "Set by a test",
        "lastTransitionTime": "2026-01-02T03:04:05Z"})
}

pub(super) fn controller_revisions(place: &Place) {
    let set = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "ds"}, "spec": {
        "selector": {"matchLabels": {"app": "one"}}, "template": template()}});
    place.apply(&set);
    place.kubectl("rollout status daemonset/ds --timeout=180s").ok();
    let name = place.names("controllerrevisions -l app=one").pop().expect("the set's");
    let what = format!("controllerrevision/{name}");
    place.patch(&what, &json!({"metadata": {"labels": {"patched": "yes"}}}));
    place.kubectl("get controllerrevisions -A -l patched=yes").prints(&name);
    // One of the same owner by hand, and it goes as it came.
    let mut other = place.get(&what);
    other["metadata"] = json!({"name": "by-hand", "labels": {"app": "else"}});
    other["revision"] = json!(7);
    place.apply(&other);
    let change = json!({"data": {"spec": {"a": 1}}}).to_string();
    place
        .kubectl_args(&["patch", "controllerrevision/by-hand", "--type=merge", "-p", &change])
        .fails_with("field is immutable");
    place.kubectl("delete controllerrevision by-hand --timeout=180s").ok();
    // What the set needs it makes again, in its own shape.
    place.kubectl(&format!("delete {what} --timeout=180s")).ok();
    place.until("the set's revision", || !place.names("controllerrevisions -l app=one").is_empty());
    let patch = json!({"spec": {"template": {"metadata": {"labels": {"version": "2"}}}}});
    place.patch("daemonset/ds", &patch);
    place.kubectl("rollout status daemonset/ds --timeout=180s").ok();
    assert_eq!(place.names("controllerrevisions -l app=one").len(), 2);
    place.kubectl("delete daemonset ds --timeout=180s").ok();
    place.until("they go with it", || place.names("controllerrevisions").is_empty());
}

pub(super) fn cron_jobs(place: &Place) {
    let mut pod = template();
    pod["spec"]["restartPolicy"] = json!("OnFailure");
    let object = json!({"spec": {"schedule": "* */1 * * ?", "suspend": true, "concurrencyPolicy": "Allow",
        "jobTemplate": {"spec": {"template": pod}}}});
    every_way(place, "apis/batch/v1", "cronjobs", "CronJob", &object);
    let mut object = object;
    object["apiVersion"] = json!("batch/v1");
    object["kind"] = json!("CronJob");
    object["metadata"] = json!({"name": "told"});
    place.apply(&object);
    place.patch_status("cronjob/told", &json!({"lastScheduleTime": "2026-01-02T03:04:05Z"}));
    let told = place.get("cronjob/told --subresource=status");
    assert_eq!(told["status"]["lastScheduleTime"], "2026-01-02T03:04:05Z");
}

/// Also with its status.
fn with_status(place: &Place, api: &str, plural: &str, kind: &str, object: &Value) {
    every_way(place, api, plural, kind, object);
    let mut object = object.clone();
    object["apiVersion"] = json!(api.split_once('/').map_or("", |(_, version)| version));
    object["kind"] = json!(kind);
    object["metadata"] = json!({"name": "told"});
    place.apply(&object);
    status(place, &format!("{plural}/told"), &told("StatusPatched"));
}

pub(super) fn daemon_sets(place: &Place) {
    let mut pod = template();
    pod["spec"]["nodeSelector"] = json!({"nowhere": "yes"});
    let spec = json!({"selector": {"matchLabels": {"app": "one"}}, "template": pod});
    with_status(place, "apis/apps/v1", "daemonsets", "DaemonSet", &json!({"spec": spec}));
}

fn replicated() -> Value {
    json!({"spec": {"replicas": 0, "selector": {"matchLabels": {"app": "one"}}, "template": template()}})
}

pub(super) fn deployments(place: &Place) {
    with_status(place, "apis/apps/v1", "deployments", "Deployment", &replicated());
    place.patch("deployment/told", &json!({"spec": {"replicas": 1}}));
    place.kubectl("rollout status deployment/told --timeout=180s").ok();
    place.wait("condition=StatusPatched", "deployment/told");
    place.kubectl("delete deployment told --timeout=180s").ok();
    place.until("its pods go with it", || place.names("pods").is_empty());
}

pub(super) fn replica_sets(place: &Place) {
    with_status(place, "apis/apps/v1", "replicasets", "ReplicaSet", &replicated());
    let more = json!({"spec": {"replicas": 2, "template": {"spec": {"terminationGracePeriodSeconds": 0}}}});
    place.patch("replicaset/told", &more);
    place.wait("jsonpath={.status.readyReplicas}=2", "replicaset/told");
}

pub(super) fn replication_controllers(place: &Place) {
    let object =
        json!({"spec": {"replicas": 0, "selector": {"app": "one"}, "template": template()}});
    with_status(place, "api/v1", "replicationcontrollers", "ReplicationController", &object);
    place.patch("rc/told", &json!({"spec": {"replicas": 1}}));
    place.wait("jsonpath={.status.readyReplicas}=1", "rc/told");
    place.kubectl("delete rc told --timeout=180s").ok();
    place.until("its pods go with it", || place.names("pods").is_empty());
}

pub(super) fn stateful_sets(place: &Place) {
    let mut object = replicated();
    object["spec"]["serviceName"] = json!("none");
    with_status(place, "apis/apps/v1", "statefulsets", "StatefulSet", &object);
}

pub(super) fn jobs(place: &Place) {
    let mut pod = template();
    pod["metadata"]["labels"] = json!({"of": "jobs"});
    pod["spec"]["restartPolicy"] = json!("Never");
    let object = json!({"spec": {"suspend": true, "template": pod}});
    with_status(place, "apis/batch/v1", "jobs", "Job", &object);
    place.patch("job/told", &json!({"spec": {"suspend": false}}));
    place.wait("jsonpath={.status.active}=1", "job/told");
    place.kubectl("delete job told --timeout=180s").ok();
    place.until("its pods go with it", || place.names("pods").is_empty());
}

pub(super) fn disruption_budgets(place: &Place) {
    let spec = json!({"minAvailable": 1, "selector": {"matchLabels": {"app": "none"}}});
    let object = json!({"spec": spec});
    with_status(place, "apis/policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", &object);
    place.wait("jsonpath={.status.observedGeneration}=1", "pdb/told");
    place.patch("pdb/told", &json!({"spec": {"minAvailable": null, "maxUnavailable": "50%"}}));
    place.wait("jsonpath={.status.observedGeneration}=2", "pdb/told");
}

pub(super) fn limit_ranges(place: &Place) {
    let limits = json!([{"type": "Container",
        "min": {"cpu": "50m", "memory": "100Mi"}, "max": {"cpu": "500m", "memory": "500Mi"},
        "default": {"cpu": "300m", "memory": "200Mi"}, "defaultRequest": {"cpu": "100m", "memory": "150Mi"}}]);
    let object = json!({"spec": {"limits": limits}});
    every_way(place, "api/v1", "limitranges", "LimitRange", &object);
    place.apply(&json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "range"},
        "spec": {"limits": limits}}));
    let pod = |name: &str, resources: Value| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "skiff.local/toolbox", "args": ["sleep", "infinity"], "resources": resources}]}})
    };
    let resources = |name: &str| {
        place.get(&format!("pod {name}"))["spec"]["containers"][0]["resources"].clone()
    };
    place.until("the range is known", || {
        place.kubectl("delete pod none --ignore-not-found --timeout=180s").ok();
        place.apply(&pod("none", json!({})));
        resources("none")["limits"].is_object()
    });
    let asked = |cpu: &str, memory: &str| json!({"cpu": cpu, "memory": memory});
    let defaults = json!({"requests": asked("100m", "150Mi"), "limits": asked("300m", "200Mi")});
    assert_eq!(resources("none"), defaults);
    place.apply(&pod(
        "some",
        json!({"requests": {"cpu": "150m"}, "limits": {"cpu": "200m", "memory": "180Mi"}}),
    ));
    // A limit alone is the request as well, before any range is asked.
    let some = json!({"requests": asked("150m", "180Mi"), "limits": asked("200m", "180Mi")});
    assert_eq!(resources("some"), some);
    let line = format!("apply -n {} -f -", place.namespace);
    for (resources, said) in [
        (
            json!({"requests": {"cpu": "10m"}}),
            "minimum cpu usage per Container is 50m, but request is 10m",
        ),
        (
            json!({"limits": {"memory": "600Mi"}}),
            "maximum memory usage per Container is 500Mi, but limit is 600Mi",
        ),
    ] {
        let refused = pod("refused", resources).to_string();
        place.cluster.kubectl_with_input(&line, &refused).fails_with(said);
    }
    let json_patch = r#"[{"op":"replace","path":"/spec/limits/0/min/cpu","value":"5m"}]"#;
    place.kubectl_args(&["patch", "limitrange", "range", "--type=json", "-p", json_patch]).ok();
    let small = pod("small", json!({"requests": {"cpu": "10m"}})).to_string();
    place.until("the new range is known", || {
        place.cluster.kubectl_with_input(&line, &small).success
    });
    // Without it everything goes.
    place.kubectl("delete limitrange range --timeout=180s").ok();
    place.until("the range is forgotten", || {
        place.kubectl("delete pod free --ignore-not-found --timeout=180s").ok();
        place.apply(&pod("free", json!({})));
        resources("free") == json!({})
    });
}

pub(super) fn priority_classes(place: &Place) {
    let object = json!({"value": 7, "description": "of a test"});
    every_way(place, "apis/scheduling.k8s.io/v1", "priorityclasses", "PriorityClass", &object);
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": "fixed"}, "value": 8});
    place.apply(&class);
    place
        .kubectl_args(&["patch", "priorityclass", "fixed", "--type=merge", "-p", r#"{"value":9}"#])
        .fails_with("value: Forbidden: may not be changed in an update.");
    place.kubectl("delete priorityclass fixed").ok();
}

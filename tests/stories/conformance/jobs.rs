//! Jobs whose pods are lost, evicted and early done, and CronJobs by the minute.

use serde_json::{Value, json};

use super::Place;

/// A Job whose pod runs the toolbox with some arguments.
fn job(name: &str, args: Value, spec: Value) -> Value {
    let mut job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {
        "template": {"spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": "skiff.local/toolbox", "args": args}],
        }},
    }});
    for (field, value) in spec.as_object().into_iter().flatten() {
        job["spec"][field] = value.clone();
    }
    job
}

fn sleeps() -> Value {
    json!(["sleep", "infinity"])
}

pub(super) fn orphans(place: &Place) {
    place.apply(&job("keeper", sleeps(), json!({"parallelism": 2, "completions": 2})));
    place.wait("jsonpath={.status.ready}=2", "job/keeper");
    let uid = place.get("job keeper")["metadata"]["uid"].clone();
    let owner = |pod: &str| {
        let pod = place.get(&format!("pod {pod}"));
        pod["metadata"]["ownerReferences"][0]["uid"].clone()
    };
    let pod = place.names("pods -l job-name=keeper").remove(0);
    place.patch(&format!("pod/{pod}"), &json!({"metadata": {"ownerReferences": null}}));
    place.until("the orphan is adopted", || owner(&pod) == uid);
    // Labels that do not match any more let it go, and another takes its place.
    let strange = json!({"metadata": {"labels": {
        "job-name": null, "controller-uid": null,
        "batch.kubernetes.io/job-name": null, "batch.kubernetes.io/controller-uid": null}}});
    place.patch(&format!("pod/{pod}"), &strange);
    place.until("it is released", || owner(&pod) == Value::Null);
    place.until("another comes", || place.names("pods -l job-name=keeper").len() == 2);
    let released = place.get(&format!("pod {pod}"));
    assert_eq!(released["metadata"]["finalizers"], Value::Null, "nothing holds it");
}

pub(super) fn deleted(place: &Place) {
    place.apply(&job("short", sleeps(), json!({"parallelism": 2, "completions": 2})));
    place.wait("jsonpath={.status.active}=2", "job/short");
    place.kubectl("delete job short --timeout=180s").ok();
    place.until("its pods go", || place.names("pods -l job-name=short").is_empty());
}

pub(super) fn disruptions_ignored(place: &Place) {
    place.kubectl("create configmap what --from-literal=DO=sleep").ok();
    let policy = json!({"rules": [{"action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]});
    // The first pod stays until it is evicted; the next does what is told by then.
    let spec = json!({"backoffLimit": 0, "podFailurePolicy": policy});
    let mut evicted = job("evicted", json!(["$(DO)", "infinity"]), spec);
    evicted["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "DO", "valueFrom": {"configMapKeyRef": {"name": "what", "key": "DO"}}}]);
    place.apply(&evicted);
    place.wait("jsonpath={.status.ready}=1", "job/evicted");
    let pod = place.names("pods -l job-name=evicted").remove(0);
    place.patch("configmap/what", &json!({"data": {"DO": "echo"}}));
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", place.namespace);
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}});
    place.cluster.kubectl_with_input(&format!("create --raw {path} -f -"), &body.to_string()).ok();
    place.wait("condition=Complete", "job/evicted");
    assert_eq!(place.get("job evicted")["status"]["failed"], Value::Null);
}

pub(super) fn failed_index(place: &Place) {
    let rules = json!({"rules": [{"action": "FailIndex",
        "onExitCodes": {"operator": "In", "values": [1]}}]});
    let spec = json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2,
        "backoffLimitPerIndex": 6, "podFailurePolicy": rules});
    place.apply(&job("marked", json!(["exit", "$(JOB_COMPLETION_INDEX)"]), spec));
    place.wait("condition=Failed", "job/marked");
    let status = place.get("job marked")["status"].clone();
    assert_eq!((&status["failedIndexes"], &status["completedIndexes"]), (&json!("1"), &json!("0")));
    assert_eq!(status["failed"], 1, "not tried again: {status}");
}

/// The first index ends by itself, the others never do.
pub(super) fn succeeded_early(place: &Place) {
    let indexed = |name: &str, args: Value, rule: Value| {
        let spec = json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3,
            "backoffLimitPerIndex": 9, "successPolicy": {"rules": [rule]}});
        place.apply(&job(name, args, spec));
    };
    let all = json!(["echo", "$(JOB_COMPLETION_INDEX)"]);
    indexed("all", all, json!({"succeededIndexes": "0-2"}));
    let some = json!(["exit", "$(JOB_COMPLETION_INDEX)"]);
    indexed("count", some.clone(), json!({"succeededCount": 1}));
    indexed("index", some, json!({"succeededIndexes": "0"}));
    for name in ["all", "count", "index"] {
        place.wait("condition=Complete", &format!("job/{name}"));
        place.wait("condition=SuccessCriteriaMet", &format!("job/{name}"));
        let status = place.get(&format!("job {name}"))["status"].clone();
        let completed = if name == "all" { "0-2" } else { "0" };
        assert_eq!(status["completedIndexes"], completed, "{name}: {status}");
        let condition = status["conditions"].as_array().into_iter().flatten();
        let mut met = condition.filter(|known| known["type"] == "SuccessCriteriaMet");
        assert_eq!(met.next().expect("it is there")["reason"], "SuccessPolicy");
        place.until("what is left over goes", || {
            let active = place.get(&format!("job {name}"))["status"]["active"].clone();
            active == Value::Null || active == 0
        });
    }
}

/// All of them at once, since each waits for the next minutes.
pub(super) fn cron(place: &Place) {
    for (name, policy, suspend) in [
        ("suspended", "Allow", true),
        ("forbid", "Forbid", false),
        ("replace", "Replace", false),
        ("allow", "Allow", false),
    ] {
        let template = job("x", sleeps(), json!({}))["spec"].clone();
        place.apply(&json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": {
            "schedule": "*/1 * * * *", "concurrencyPolicy": policy, "suspend": suspend,
            "jobTemplate": {"spec": template}}}));
    }
    let active = |name: &str| {
        let active = place.get(&format!("cronjob {name}"))["status"]["active"].clone();
        let names = active.as_array().into_iter().flatten();
        names.map(|job| job["name"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    // Two minutes at most until two have begun.
    place.until("the first minute", || active("replace").len() == 1);
    let first = active("replace");
    place.until("the first minute of the others", || {
        active("forbid").len() == 1 && !active("allow").is_empty()
    });
    let only = active("forbid");
    place.until("the second minute", || active("replace").len() == 1 && active("replace") != first);
    place.until("two run side by side", || active("allow").len() == 2);
    let about = "events --for cronjob/forbid";
    place.until("the second is told of", || {
        place
            .kubectl(about)
            .ok()
            .stdout
            .contains("prior execution is running and concurrency policy is Forbid")
    });
    assert_eq!(active("forbid"), only);
    place.until("the replaced one is gone", || !place.names("jobs").contains(&first[0]));
    assert_eq!(active("suspended"), Vec::<String>::new());
    assert!(place.names("jobs").iter().all(|name| !name.starts_with("suspended")));
    place.kubectl("delete cronjob --all --timeout=180s").ok();
}

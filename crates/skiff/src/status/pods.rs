//! How a Pod is, in the word that `kubectl get pods` has for it, and what to do
//! where that is not well.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::{Problem, list, name};

/// A pod that starts is not wrong before it has taken this long, seconds.
const STARTING_S_MAX: i64 = 120;

/// What to do by the status word; the last line is for all others. `POD` is
/// filled in with `-n NAMESPACE NAME`.
const REMEDIES: &[(&str, &str)] = &[
    (
        "ImagePullBackOff",
        "check the image's name, the registry and its credentials: `kubectl describe pod POD`",
    ),
    (
        "ErrImagePull",
        "check the image's name, the registry and its credentials: `kubectl describe pod POD`",
    ),
    ("InvalidImageName", "mend the image's name in the pod's template"),
    ("ErrImageNeverPull", "import the image (`skiff image import FILE`), or let it be pulled"),
    ("CrashLoopBackOff", "it says why: `kubectl logs --previous POD`"),
    ("Error", "it says why: `kubectl logs POD`"),
    ("OOMKilled", "raise its memory limit, or find what it needs the memory for"),
    (
        "CreateContainerConfigError",
        "a ConfigMap, a Secret or a key is missing: `kubectl describe pod POD`",
    ),
    ("Unschedulable", "give nodes what it asks for, or ask for less: `kubectl describe pod POD`"),
    (
        "Terminating",
        "its node is gone or a finalizer waits: `kubectl delete pod POD --force` where the node stays away",
    ),
    ("", "`kubectl describe pod POD` and `kubectl logs POD`"),
];

/// The status word, and a sentence where the cluster gives one.
pub(super) fn status(pod: &Value) -> (String, String) {
    let of = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let status = &pod["status"];
    if pod["metadata"]["deletionTimestamp"].is_string() {
        return ("Terminating".into(), String::new());
    }
    let containers =
        || list(&status["initContainerStatuses"]).iter().chain(list(&status["containerStatuses"]));
    for container in containers() {
        let waiting = &container["state"]["waiting"];
        if let Some(reason) = waiting["reason"].as_str()
            && !["PodInitializing", "ContainerCreating"].contains(&reason)
        {
            return (reason.into(), of(&waiting["message"]));
        }
    }
    for container in containers() {
        let terminated = &container["state"]["terminated"];
        if let Some(reason) = terminated["reason"].as_str().filter(|reason| *reason != "Completed")
        {
            return (reason.into(), of(&terminated["message"]));
        }
    }
    let scheduled = list(&status["conditions"]).iter().find(|c| c["type"] == "PodScheduled");
    if let Some(condition) = scheduled.filter(|c| c["status"] == "False") {
        return (of(&condition["reason"]), of(&condition["message"]));
    }
    match status["phase"].as_str() {
        Some("Succeeded") => ("Completed".into(), String::new()),
        Some("Pending") if pod["spec"]["nodeName"].is_string() => {
            ("ContainerCreating".into(), String::new())
        }
        Some("Running") if !is_ready(pod) => ("NotReady".into(), unready(pod)),
        Some(phase) if !of(&status["reason"]).is_empty() && phase == "Failed" => {
            (of(&status["reason"]), of(&status["message"]))
        }
        Some(phase) => (phase.into(), of(&status["message"])),
        None => ("Pending".into(), String::new()),
    }
}

fn is_ready(pod: &Value) -> bool {
    list(&pod["status"]["conditions"]).iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn unready(pod: &Value) -> String {
    let ready = list(&pod["status"]["conditions"]).iter().find(|c| c["type"] == "Ready");
    ready.and_then(|c| c["message"].as_str()).unwrap_or_default().to_owned()
}

/// Pods by status word.
pub(super) fn counts(pods: &[Value], _: Timestamp) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for pod in pods {
        *counts.entry(status(pod).0).or_default() += 1;
    }
    counts
}

/// Whether the status word is one of a pod that does what it should.
pub(super) fn is_well(word: &str) -> bool {
    ["Running", "Completed"].contains(&word)
}

pub(super) fn problem(pod: &Value, now: Timestamp) -> Option<Problem> {
    let (word, message) = status(pod);
    if is_well(&word) {
        return None;
    }
    // Words of a pod on its way are wrong only when they stay.
    let began = match word.as_str() {
        "Terminating" => &pod["metadata"]["deletionTimestamp"],
        "ContainerCreating" | "Pending" | "NotReady" | "Unschedulable" => {
            &pod["metadata"]["creationTimestamp"]
        }
        _ => &Value::Null,
    };
    if let Some(began) = began.as_str().and_then(api_object::time::parse)
        && now.duration_since(began).as_secs() < STARTING_S_MAX
    {
        return None;
    }
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("default");
    let remedy = REMEDIES.iter().find(|(for_word, _)| *for_word == word || for_word.is_empty());
    let says = match message.is_empty() {
        true => word,
        false => format!("{word}: {message}"),
    };
    Some(Problem {
        what: format!("pod {namespace}/{}", name(pod)),
        says,
        remedy: remedy
            .map(|(_, text)| text.replace("POD", &format!("-n {namespace} {}", name(pod))))
            .unwrap_or_default(),
    })
}

//! How a Pod is, in the word that `kubectl get pods` has for it, and what to do
//! where that is not well.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::{Problem, list, name};

/// A pod that starts is not wrong before it has taken this long, seconds.
const STARTING_S_MAX: i64 = 120;

/// What to do by the status word; the last line is for all others. `POD` is
/// filled in with `-n NAMESPACE NAME`, `LOGS` with that and the container where the pod has
/// several.
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
    ("CrashLoopBackOff", "it says why: `kubectl logs --previous LOGS`"),
    ("Error", "it says why: `kubectl logs LOGS`"),
    ("StartError", "mend its command or its image: `kubectl describe pod POD`"),
    (
        "Evicted",
        "its controller makes another; of what the node ran short: `kubectl describe pod POD`",
    ),
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
    ("", "`kubectl describe pod POD` and `kubectl logs LOGS`"),
];

/// The status word, and a sentence where the cluster gives one.
pub(super) fn status(pod: &Value) -> (String, String) {
    let of = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let status = &pod["status"];
    if pod["metadata"]["deletionTimestamp"].is_string() {
        return ("Terminating".into(), String::new());
    }
    // Containers end with an error because of it, and have that word later.
    if status["reason"] == "Evicted" {
        return (of(&status["reason"]), of(&status["message"]));
    }
    if let Some((_, reason, message)) = troubled(pod) {
        return (reason.to_owned(), of(message));
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

/// The container that is not well, the word for it and what is told of it.
fn troubled(pod: &Value) -> Option<(&Value, &str, &Value)> {
    let status = &pod["status"];
    let containers =
        || list(&status["initContainerStatuses"]).iter().chain(list(&status["containerStatuses"]));
    let found = |state: &str, well: &[&str]| {
        containers().find_map(|container| {
            let state = &container["state"][state];
            let reason = state["reason"].as_str()?;
            (!well.contains(&reason)).then_some((container, reason, &state["message"]))
        })
    };
    found("waiting", &["PodInitializing", "ContainerCreating"])
        .or_else(|| found("terminated", &["Completed"]))
}

/// How the last run of a container that is started again and again has ended: the word, and
/// a sentence.
fn last_run(container: &Value) -> Option<(&str, String)> {
    let terminated = &container["lastState"]["terminated"];
    let reason = terminated["reason"].as_str()?;
    let name = container["name"].as_str().unwrap_or_default();
    let code = &terminated["exitCode"];
    let message = terminated["message"].as_str().unwrap_or_default().trim();
    let message = if message.is_empty() { String::new() } else { format!(": {message}") };
    Some((reason, format!("{name} ended with {reason}, exit code {code}{message}")))
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
    let (word, mut message) = status(pod);
    if is_well(&word) {
        return None;
    }
    let container = troubled(pod).map(|(container, ..)| container);
    // What to do follows from how it ended, not from that it is tried again.
    let mut remedy_for = word.clone();
    if word == "CrashLoopBackOff"
        && let Some((reason, said)) = container.and_then(last_run)
    {
        if ["StartError", "OOMKilled"].contains(&reason) {
            remedy_for = reason.to_owned();
        }
        message = said;
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
    let remedy =
        REMEDIES.iter().find(|(for_word, _)| *for_word == remedy_for || for_word.is_empty());
    let its = format!("-n {namespace} {}", name(pod));
    let count = list(&pod["spec"]["initContainers"]).len() + list(&pod["spec"]["containers"]).len();
    let logs = match container.and_then(|container| container["name"].as_str()) {
        Some(container) if count > 1 => format!("{its} -c {container}"),
        _ => its.clone(),
    };
    let says = match message.is_empty() {
        true => word,
        false => format!("{word}: {message}"),
    };
    Some(Problem {
        what: format!("pod {namespace}/{}", name(pod)),
        says,
        remedy: remedy
            .map(|(_, text)| text.replace("POD", &its).replace("LOGS", &logs))
            .unwrap_or_default(),
    })
}

//! What is wrong with a Node.

use jiff::Timestamp;
use serde_json::Value;

use super::{Problem, age, list, name};
use crate::{node::overlay, server::cluster_socket::Row};

const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// A node that is younger is not yet expected to be ready.
const STARTS_MAX_S: i64 = 15;

/// Conditions that are wrong when true, and what to do about each.
const PRESSURES: &[(&str, &str)] = &[
    ("MemoryPressure", "give the machine less to do, or more memory; see `kubectl top pods -A`"),
    ("DiskPressure", "make room: `skiff image rm` on it, larger disks, fewer logs"),
    ("PIDPressure", "a pod makes too many processes: find and limit it"),
    ("NetworkUnavailable", "see the log of skiff on it"),
];

pub(crate) fn is_ready(node: &Value) -> bool {
    condition(node, "Ready").is_some_and(|condition| condition["status"] == "True")
}

/// A server's Node has its label a moment after it is there; the servers are known before.
pub(super) fn role(node: &Value, servers: &[Row]) -> &'static str {
    let labelled = node["metadata"]["labels"].get(CONTROL_PLANE).is_some();
    match labelled || servers.iter().any(|row| row.name == name(node)) {
        true => "server",
        false => "agent",
    }
}

/// Whether it is new, and still on its way to be ready.
pub(super) fn is_starting(node: &Value, now: Timestamp) -> bool {
    let made = node["metadata"]["creationTimestamp"].as_str().and_then(api_object::time::parse);
    !is_ready(node) && made.is_some_and(|made| now.duration_since(made).as_secs() < STARTS_MAX_S)
}

pub(super) fn is_cordoned(node: &Value) -> bool {
    node["spec"]["unschedulable"] == true
}

pub(super) fn address(node: &Value) -> &str {
    let internal = list(&node["status"]["addresses"]).iter().find(|a| a["type"] == "InternalIP");
    internal.and_then(|address| address["address"].as_str()).unwrap_or_default()
}

/// Who seals what its pods send to other nodes, where somebody does.
pub(super) fn wireguard_carrier(node: &Value) -> Option<&str> {
    let annotations = &node["metadata"]["annotations"];
    annotations[overlay::KEY].as_str()?;
    Some(annotations[overlay::CARRIER].as_str().unwrap_or_default())
}

fn condition<'a>(node: &'a Value, r#type: &str) -> Option<&'a Value> {
    list(&node["status"]["conditions"]).iter().find(|condition| condition["type"] == r#type)
}

pub(super) fn problems(node: &Value, servers: &[Row], now: Timestamp) -> Vec<Problem> {
    let problem = |says: String, remedy: String| Problem {
        what: format!("node {}", name(node)),
        says,
        remedy,
    };
    let mut found = Vec::new();
    if !is_ready(node) && !is_starting(node, now) {
        let condition = condition(node, "Ready").unwrap_or(&Value::Null);
        let since = age(&condition["lastTransitionTime"], now);
        let why = condition["message"].as_str().unwrap_or("it has not told of itself yet");
        let unit = if role(node, servers) == "server" { "skiff" } else { "skiff-agent" };
        let remedy = match condition["status"].as_str() {
            Some("Unknown") => format!(
                "is it on, and does it reach the servers' port? There: `systemctl status {unit}`"
            ),
            _ => format!("there: `journalctl -u {unit}`, and `skiff check`"),
        };
        let since = if since.is_empty() { since } else { format!(" since {since}") };
        found.push(problem(format!("not ready{since}: {why}"), remedy));
    }
    for (pressure, remedy) in PRESSURES {
        if let Some(condition) = condition(node, pressure).filter(|c| c["status"] == "True") {
            let why = condition["message"].as_str().unwrap_or_default();
            found.push(problem(format!("{pressure}: {why}"), (*remedy).to_owned()));
        }
    }
    if is_cordoned(node) {
        found.push(problem(
            "takes no new pods (cordoned)".into(),
            format!("when its maintenance is over: `kubectl uncordon {}`", name(node)),
        ));
    }
    found
}

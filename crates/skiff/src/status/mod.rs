//! What a cluster looks like at a glance: what was seen becomes a short text, in
//! pure functions.
//!
//! `pods` and `nodes` say what is wrong with each, [`text`] prints. Looking is
//! the command's.

mod nodes;
mod pods;
mod text;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

pub(crate) use nodes::is_ready;
pub(crate) use text::text;

use crate::{node::overlay, server::cluster_socket::Row};

/// What was seen of a cluster, from where this machine stands.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Where the API was asked.
    pub(crate) server: String,
    /// What this machine is to the cluster: `a server`, `the node pi-2`.
    pub(crate) stands: String,
    /// Every server, where a server of this machine told.
    pub(crate) servers: Vec<Row>,
    /// Node objects.
    pub(crate) nodes: Vec<Value>,
    /// Pod objects.
    pub(crate) pods: Vec<Value>,
    /// What cannot be seen from here, a sentence.
    pub(crate) beyond: Option<String>,
}

/// Something that is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// `node pi-3`, `pod default/web`, `server pi-1`.
    pub(crate) what: String,
    /// What is so.
    pub(crate) says: String,
    /// What to do.
    #[serde(rename = "do")]
    pub(crate) remedy: String,
}

/// Everything that is wrong, servers and nodes first: what is wrong with pods
/// follows from those.
pub(crate) fn problems(seen: &Seen, now: Timestamp) -> Vec<Problem> {
    let servers = seen.servers.iter().filter(|row| row.health != "ok").map(|row| Problem {
        what: format!("server {}", row.name),
        says: row.health.clone(),
        remedy: format!(
            "is it on, and reached from the others at {}? One that is gone for good: `skiff cluster remove {}`",
            row.address, row.name
        ),
    });
    let mut found: Vec<Problem> = servers.collect();
    found.extend(seen.nodes.iter().flat_map(|node| nodes::problems(node, &seen.servers, now)));
    found.extend(seen.pods.iter().filter_map(|pod| pods::problem(pod, now)));
    found
}

/// The same for scripts.
pub(crate) fn json(seen: &Seen, now: Timestamp) -> Value {
    let names = |objects: &[Value]| objects.len();
    serde_json::json!({
        "server": seen.server,
        "servers": seen.servers,
        "nodes": {
            "all": names(&seen.nodes),
            "ready": seen.nodes.iter().filter(|node| nodes::is_ready(node)).count(),
        },
        "wireguard": {
            "nodes": seen.nodes.iter().filter_map(nodes::wireguard_carrier).count(),
            "userspace": in_userspace(seen),
        },
        "pods": {"all": names(&seen.pods), "byStatus": pods::counts(&seen.pods, now)},
        "problems": problems(seen, now),
    })
}

/// How many of those who decide do not answer.
fn away(servers: &[Row]) -> usize {
    servers.iter().filter(|row| row.is_voter() && row.is_away()).count()
}

/// Where too few servers answer to decide anything: what is so, and what to do. A leader may
/// not have noticed yet, so its role says nothing here.
pub(crate) fn without_majority(servers: &[Row]) -> Option<String> {
    let voters = servers.iter().filter(|row| row.is_voter()).count();
    let needed = voters / 2 + 1;
    // An agent sees no servers at all.
    if voters == 0 || voters - away(servers) >= needed {
        return None;
    }
    let silent: Vec<&str> = servers
        .iter()
        .filter(|row| row.is_voter() && row.is_away())
        .map(|row| row.name.as_str())
        .collect();
    Some(format!(
        "no leader: fewer than {needed} of {voters} servers answer ({} {} not); start them, or \
         connect their network; where they are lost for good, stop skiff on one that is left and \
         run `skiff server --cluster-reset` there once, which makes a cluster of that one alone",
        silent.join(", "),
        if silent.len() == 1 { "does" } else { "do" },
    ))
}

/// The nodes whose kernel has no WireGuard, so that skiff stands in.
fn in_userspace(seen: &Seen) -> Vec<&str> {
    let slow = |node: &&Value| nodes::wireguard_carrier(node) == Some(overlay::USERSPACE);
    seen.nodes.iter().filter(slow).map(name).collect()
}

/// `5s`, `3m`, `2h`, `4d` since a time of the API; empty where it has none.
fn age(time: &Value, now: Timestamp) -> String {
    let Some(then) = time.as_str().and_then(api_object::time::parse) else { return String::new() };
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        s if s < 120 => format!("{s}s"),
        s if s < 2 * 3600 => format!("{}m", s / 60),
        s if s < 2 * 86_400 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests;

//! What was seen as a person reads it.

use jiff::Timestamp;

use crate::columns;

use super::{Problem, Seen, age, away, in_userspace, name, nodes, pods, problems};

/// More of one kind than this are counted, not listed.
const PROBLEMS_MAX: usize = 20;

/// The whole picture.
pub(crate) fn text(seen: &Seen, now: Timestamp) -> String {
    let mut text = format!("Cluster at {}, seen from {}\n", seen.server, seen.stands);
    text.push_str(&servers(seen));
    text.push_str(&node_lines(seen, now));
    text.push_str(&network_line(seen));
    text.push_str(&pod_line(seen, now));
    let found = problems(seen, now);
    text.push('\n');
    match found.is_empty() {
        true => text.push_str("Nothing is wrong.\n"),
        false => text.push_str(&problem_lines(&found)),
    }
    if let Some(beyond) = &seen.beyond {
        text.push_str(&format!("\n{beyond}\n"));
    }
    text
}

fn servers(seen: &Seen) -> String {
    if seen.servers.is_empty() {
        return String::new();
    }
    let well = seen.servers.iter().filter(|row| row.health == "ok").count();
    let voters = seen.servers.iter().filter(|row| row.role != "learner").count();
    let leader = seen.servers.iter().find(|row| row.role == "leader");
    let leads = leader.map_or("none leads".to_owned(), |row| format!("{} leads", row.name));
    let spare = match voters {
        1 => "a single server: if it dies, so does the cluster's state, but for backups".to_owned(),
        n => match ((n - 1) / 2).checked_sub(away(&seen.servers)) {
            Some(left) if away(&seen.servers) == 0 => format!("{left} may fail"),
            Some(left) => format!("{left} more may fail"),
            None => "the majority is gone".to_owned(),
        },
    };
    format!("\nServers  {well} of {} well; {leads}; {spare}\n", seen.servers.len())
}

fn node_lines(seen: &Seen, now: Timestamp) -> String {
    let ready = seen.nodes.iter().filter(|node| nodes::is_ready(node)).count();
    let mut text = format!("\nNodes    {ready} of {} ready\n", seen.nodes.len());
    let mut rows =
        vec![["NAME", "ROLE", "STATUS", "PODS", "AGE", "ADDRESS", "VERSION"].map(str::to_owned)];
    for node in &seen.nodes {
        let on_it =
            seen.pods.iter().filter(|pod| pod["spec"]["nodeName"] == node["metadata"]["name"]);
        let status = match (nodes::is_ready(node), nodes::is_cordoned(node)) {
            (true, false) => "ready",
            (true, true) => "cordoned",
            (false, _) if nodes::is_starting(node, now) => "starting",
            (false, _) => "NOT READY",
        };
        rows.push([
            name(node).to_owned(),
            nodes::role(node, &seen.servers).to_owned(),
            status.to_owned(),
            on_it.count().to_string(),
            age(&node["metadata"]["creationTimestamp"], now),
            nodes::address(node).to_owned(),
            node["status"]["nodeInfo"]["kubeletVersion"].as_str().unwrap_or_default().to_owned(),
        ]);
    }
    for line in columns::lay_out(&rows).lines() {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

/// Where nodes take part in WireGuard.
fn network_line(seen: &Seen) -> String {
    let sealed = seen.nodes.iter().filter_map(nodes::wireguard_carrier).count();
    if sealed == 0 {
        return String::new();
    }
    let slow = in_userspace(seen);
    let slow = match slow.is_empty() {
        true => String::new(),
        false => format!("; without it in the kernel, so slower: {}", slow.join(", ")),
    };
    format!("\nNetwork  WireGuard on {sealed} of {} nodes{slow}\n", seen.nodes.len())
}

fn pod_line(seen: &Seen, now: Timestamp) -> String {
    let counts = pods::counts(&seen.pods, now);
    let well: usize =
        counts.iter().filter(|(word, _)| pods::is_well(word)).map(|(_, count)| count).sum();
    let words: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    let detail = if words.is_empty() { String::new() } else { format!(": {}", words.join(", ")) };
    format!("\nPods     {well} of {} well{detail}\n", seen.pods.len())
}

fn problem_lines(found: &[Problem]) -> String {
    let mut text = format!(
        "{} wrong:\n",
        match found.len() {
            1 => "1 thing is".to_owned(),
            n => format!("{n} things are"),
        }
    );
    for problem in found.iter().take(PROBLEMS_MAX) {
        text.push_str(&format!(
            "  {}: {}\n    -> {}\n",
            problem.what, problem.says, problem.remedy
        ));
    }
    if found.len() > PROBLEMS_MAX {
        text.push_str(&format!("  and {} more; -o json lists them\n", found.len() - PROBLEMS_MAX));
    }
    text
}

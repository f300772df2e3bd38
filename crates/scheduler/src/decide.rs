//! One pod and the nodes: which one it shall be, or why none.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Node, PLUGINS, Pod, Rejection};

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It shall run on this node.
    Bind(String),
    /// No node is possible now.
    Unschedulable(FitError),
}

/// Why no node is possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FitError {
    /// In upstream's form, as it is shown in the event and the condition.
    pub message: String,
    /// Who rejected: what helps one of them may help the pod.
    pub plugins: BTreeSet<&'static str>,
}

/// Decides for one pod. `random` chooses among equally good nodes.
pub fn decide(pod: &Pod, nodes: &BTreeMap<String, Node>, random: u64) -> Decision {
    let mut plugins = BTreeSet::new();
    let mut rejections = Vec::new();
    let mut possible = Vec::new();
    for node in nodes.values() {
        match filter(pod, node) {
            None => possible.push(node),
            Some((plugin, rejection)) => {
                plugins.insert(plugin);
                rejections.push(rejection);
            }
        }
    }
    if possible.is_empty() {
        let message = match nodes.len() {
            0 => "no nodes available to schedule pods".into(),
            n => message(n, &rejections),
        };
        // With no node at all, any new one may help.
        if nodes.is_empty() {
            plugins.insert("NodeName");
        }
        return Decision::Unschedulable(FitError { message, plugins });
    }
    let mut totals = vec![0i64; possible.len()];
    for plugin in PLUGINS {
        // One possible node needs no comparison.
        if let Some(score) = plugin.score.filter(|_| possible.len() > 1) {
            for (total, score) in totals.iter_mut().zip(score(pod, &possible)) {
                *total += score * plugin.weight;
            }
        }
    }
    let best = totals.iter().copied().max().unwrap_or(0);
    let winners: Vec<&&Node> =
        possible.iter().zip(&totals).filter(|(_, total)| **total == best).map(|(n, _)| n).collect();
    let chosen = usize::try_from(random % winners.len() as u64).unwrap_or(0);
    Decision::Bind(winners[chosen].name.clone())
}

fn filter(pod: &Pod, node: &Node) -> Option<(&'static str, Rejection)> {
    PLUGINS.iter().find_map(|plugin| {
        let rejection = plugin.filter?(pod, node)?;
        Some((plugin.name, rejection))
    })
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were
/// unschedulable. preemption: 0/3 nodes are available: …`. There is no
/// preemption yet; the second half says what upstream's would have said of
/// pods of equal priority.
fn message(n: usize, rejections: &[Rejection]) -> String {
    let reasons = rejections.iter().flat_map(|rejection| &rejection.reasons);
    let preemption = rejections.iter().map(|rejection| match rejection.preemption_helps {
        true => "No preemption victims found for incoming pod",
        false => "Preemption is not helpful for scheduling",
    });
    format!(
        "0/{n} nodes are available: {}. preemption: 0/{n} nodes are available: {}.",
        counted(reasons.map(String::as_str)),
        counted(preemption),
    )
}

fn counted<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    texts.for_each(|text| *counts.entry(text).or_default() += 1);
    let mut parts: Vec<String> = counts.iter().map(|(text, n)| format!("{n} {text}")).collect();
    // Upstream sorts the finished texts, numbers first.
    parts.sort();
    parts.join(", ")
}

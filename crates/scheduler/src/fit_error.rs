//! Why no node is possible, in upstream's form: `0/3 nodes are available: 1
//! Insufficient cpu, 2 node(s) were unschedulable. no new claims to deallocate, preemption: …`.

use std::collections::BTreeMap;

/// The head, and each reason with its number, in the order of the finished
/// texts; numbers first, as upstream sorts them.
pub(crate) fn counted<'a>(nodes: usize, reasons: impl Iterator<Item = (&'a str, usize)>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    reasons.for_each(|(text, n)| *counts.entry(text).or_default() += n);
    let mut parts: Vec<String> = counts.iter().map(|(text, n)| format!("{n} {text}")).collect();
    parts.sort();
    match parts.is_empty() {
        true => available(nodes),
        false => format!("{} {}.", available(nodes), parts.join(", ")),
    }
}

/// The same where nobody looked at nodes.
pub(crate) fn never(nodes: usize, reason: &str) -> String {
    format!("{} {reason}.", available(nodes))
}

fn available(nodes: usize) -> String {
    format!("0/{nodes} nodes are available:")
}

//! `nodeSelector` and node affinity.

use std::collections::BTreeSet;

use api_object::Meta;
use api_types::core::NodeSelector;
use client::Cached;

use super::{Rejection, Start, Task, normalized};
use crate::{Cluster, Happening, Labels, Node, Pod};

pub(super) fn begin<'a>(task: &Task<'a>) -> Start<'a> {
    let waiting = task.waiting();
    let added = task.profile.args.added_affinity.as_ref();
    let added =
        added.and_then(|added| added.required_during_scheduling_ignored_during_execution.as_ref());
    if waiting.node_selector.is_empty() && waiting.required.is_none() && added.is_none() {
        return Start::Skip;
    }
    let check = move |node: &Node| {
        let meta = &node.object.meta;
        if added.is_some_and(|added| !selects(added, meta)) {
            let why = "node(s) didn't match scheduler-enforced node affinity";
            return Some(Rejection::never(why));
        }
        (!allows(&waiting.node_selector, waiting.required.as_ref(), meta))
            .then(|| Rejection::never("node(s) didn't match Pod's node affinity/selector"))
    };
    match waiting.required.as_ref().and_then(names) {
        Some(names) => Start::Only(names.into_iter().collect(), Box::new(check)),
        None => Start::each(check),
    }
}

/// The nodes that are possible, where each term names its own: the pods of a
/// DaemonSet need no look at any other.
fn names(required: &NodeSelector) -> Option<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for term in &required.node_selector_terms {
        let fields = term.match_fields.iter();
        let named =
            fields.filter(|wanted| wanted.key == "metadata.name" && wanted.operator == "In");
        let mut sets = named.map(|wanted| wanted.values.iter().cloned().collect::<BTreeSet<_>>());
        let first = sets.next()?;
        all.extend(sets.fold(first, |all, set| &all & &set));
    }
    (!required.node_selector_terms.is_empty()).then_some(all)
}

pub(super) fn helps(cluster: &Cluster, pod: &Cached<Pod>, what: &Happening) -> bool {
    let node = what.slot().and_then(|slot| cluster.at(slot));
    let (Some(node), Some(waiting)) = (node, &pod.view.waiting) else { return false };
    allows(&waiting.node_selector, waiting.required.as_ref(), &node.object.meta)
}

/// The sum of the weights of wishes that a node fulfils.
pub(super) fn score(task: &Task<'_>, nodes: &[&Node]) -> Vec<i64> {
    let added = task.profile.args.added_affinity.as_ref();
    let added = added.map(|added| &added.preferred_during_scheduling_ignored_during_execution);
    let wishes = task.waiting().preferred.iter().chain(added.into_iter().flatten());
    if wishes.clone().next().is_none() {
        return Vec::new();
    }
    let score = |node: &&Node| {
        let meta = &node.object.meta;
        let fulfilled =
            wishes.clone().filter(|wish| wish.preference.matches(&meta.name, &meta.labels));
        fulfilled.map(|wish| i64::from(wish.weight)).sum()
    };
    normalized(nodes.iter().map(score).collect(), false)
}

/// Whether a pod's `nodeSelector` and required affinity allow a node.
pub(crate) fn allows(selector: &Labels, required: Option<&NodeSelector>, node: &Meta) -> bool {
    selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
        && required.is_none_or(|required| selects(required, node))
}

/// Whether a node fulfils one of the terms.
pub(crate) fn selects(selector: &NodeSelector, node: &Meta) -> bool {
    selector.matches(&node.name, &node.labels)
}

//! `nodeSelector` and node affinity.

use std::collections::BTreeMap;

use api_types::core::{NodeSelectorRequirement, NodeSelectorTerm};

use super::{Rejection, normalized};
use crate::{Node, Pod};

pub(super) fn filter(pod: &Pod, node: &Node) -> Option<Rejection> {
    let waiting = pod.waiting.as_ref()?;
    let selected =
        waiting.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value));
    let required = waiting.required.as_ref().is_none_or(|required| {
        required.node_selector_terms.iter().any(|term| matches_term(term, &node.name, &node.labels))
    });
    (!selected || !required)
        .then(|| Rejection::never("node(s) didn't match Pod's node affinity/selector"))
}

/// The sum of the weights of wishes that a node fulfils.
pub(super) fn score(pod: &Pod, nodes: &[&Node]) -> Vec<i64> {
    let preferred = pod.waiting.as_ref().map_or(&[][..], |waiting| &waiting.preferred);
    let score = |node: &&Node| {
        let fulfilled = preferred
            .iter()
            .filter(|wish| matches_term(&wish.preference, &node.name, &node.labels));
        fulfilled.map(|wish| i64::from(wish.weight)).sum()
    };
    normalized(nodes.iter().map(score).collect(), false)
}

/// Whether a node fulfils every requirement of a term. An empty term matches
/// nothing.
fn matches_term(term: &NodeSelectorTerm, name: &str, labels: &BTreeMap<String, String>) -> bool {
    if term.match_expressions.is_empty() && term.match_fields.is_empty() {
        return false;
    }
    let expressions = term
        .match_expressions
        .iter()
        .all(|wanted| matches(wanted, labels.get(&wanted.key).map(String::as_str)));
    // The one field there is.
    let fields = term
        .match_fields
        .iter()
        .all(|wanted| wanted.key == "metadata.name" && matches(wanted, Some(name)));
    expressions && fields
}

fn matches(wanted: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let is_listed = || value.is_some_and(|value| wanted.values.iter().any(|v| v == value));
    let compare = |holds: fn(i64, i64) -> bool| {
        let bound = wanted.values.first().and_then(|bound| bound.parse().ok());
        let number = value.and_then(|value| value.parse().ok());
        matches!((number, bound), (Some(number), Some(bound)) if holds(number, bound))
    };
    match wanted.operator.as_str() {
        "In" => is_listed(),
        "NotIn" => !is_listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|number, bound| number > bound),
        "Lt" => compare(|number, bound| number < bound),
        _ => false,
    }
}

//! Keeps pods off nodes whose taints they do not tolerate.

use api_types::core::{Taint, Toleration};

use super::{Rejection, normalized};
use crate::{Node, Pod};

fn tolerations(pod: &Pod) -> &[Toleration] {
    pod.waiting.as_ref().map_or(&[], |waiting| &waiting.tolerations)
}

/// Whether one of the tolerations covers the taint.
pub(super) fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| {
        (toleration.effect.is_empty() || toleration.effect == taint.effect)
            && match (toleration.key.as_str(), toleration.operator.as_str()) {
                // An empty key with Exists tolerates everything.
                ("", operator) => operator == "Exists",
                (key, _) if key != taint.key => false,
                (_, "Exists") => true,
                (_, "" | "Equal") => toleration.value == taint.value,
                (_, "Gt") => number(&taint.value) > number(&toleration.value),
                (_, "Lt") => number(&taint.value) < number(&toleration.value),
                _ => false,
            }
    })
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

pub(super) fn filter(pod: &Pod, node: &Node) -> Option<Rejection> {
    let taint = node.offer.taints.iter().find(|taint| {
        matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
            && !tolerates(tolerations(pod), taint)
    })?;
    let Taint { key, value, .. } = taint;
    Some(Rejection::never(format!("node(s) had untolerated taint {{{key}: {value}}}")))
}

/// Fewer taints that say "rather not" are better.
pub(super) fn score(pod: &Pod, nodes: &[&Node]) -> Vec<i64> {
    let count = |node: &&Node| {
        let taints = node.offer.taints.iter();
        let disliked = taints.filter(|taint| {
            taint.effect == "PreferNoSchedule" && !tolerates(tolerations(pod), taint)
        });
        i64::try_from(disliked.count()).unwrap_or(i64::MAX)
    };
    normalized(nodes.iter().map(count).collect(), true)
}

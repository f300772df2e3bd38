//! How a new template gets onto the nodes: without surge old pods go first and
//! at most `maxUnavailable` nodes are without an available pod; with it new
//! ones come first, on at most `maxSurge` nodes at a time (KEP-1591).

use std::sync::Arc;

use api_types::IntOrString;
use client::Cached;

use super::{
    fit::Belongs,
    plan::{Doing, OnNode, is_available, is_of, is_terminating},
    view::View,
};
use crate::cached::Pod;

/// The pods of a node as a rollout sees them.
enum State<'a> {
    /// More than one of a kind: not yet put in order.
    Untidy,
    Pods {
        new: Option<&'a Arc<Cached<Pod>>>,
        old: Option<&'a Arc<Cached<Pod>>>,
    },
}

fn state<'a>(view: &View, on: &OnNode<'a>, hash: &str) -> State<'a> {
    let (mut new, mut old) = (None, None);
    for pod in on.pods.iter().copied().filter(|pod| !is_terminating(view, pod)) {
        let slot = if is_of(hash, pod) { &mut new } else { &mut old };
        if slot.replace(pod).is_some() {
            return State::Untidy;
        }
    }
    State::Pods { new, old }
}

/// A number of nodes, percentages rounded up.
fn scaled(given: Option<&IntOrString>, nodes: usize) -> usize {
    match given {
        None => 0,
        Some(IntOrString::Int(n)) => usize::try_from(*n).unwrap_or(0),
        Some(IntOrString::String(text)) => {
            let percent = text.trim_end_matches('%').parse::<usize>().unwrap_or(0);
            nodes.saturating_mul(percent).div_ceil(100)
        }
    }
}

/// On how many of `nodes` two pods may be.
pub(super) fn surge_max(view: &View, nodes: usize) -> usize {
    let strategy = &view.set.view.spec.update_strategy;
    match strategy.r#type.as_str() {
        "OnDelete" => 0,
        _ => scaled(strategy.rolling_update.max_surge.as_ref(), nodes),
    }
}

/// One step of a rollout.
pub(super) fn roll(view: &View, nodes: &[OnNode<'_>], hash: &str, doing: &mut Doing) {
    let wanted = nodes.iter().filter(|on| on.belongs == Belongs::Yes).count();
    let rolling = &view.set.view.spec.update_strategy.rolling_update;
    let surge = surge_max(view, wanted);
    let unavailable = scaled(rolling.max_unavailable.as_ref(), wanted);
    // Nodes that have a pod, or are to have one.
    let concerned = || nodes.iter().filter(|on| on.belongs == Belongs::Yes || !on.pods.is_empty());
    if surge == 0 {
        let (mut down, mut broken, mut candidates) = (0, Vec::new(), Vec::new());
        for on in concerned() {
            match state(view, on, hash) {
                State::Pods { new: Some(new), old: None } if is_available(view, new) => {}
                State::Pods { new: None, old: Some(old) } if is_available(view, old) => {
                    candidates.push(Arc::clone(old));
                }
                // Replacing what does not work costs nothing.
                State::Pods { new: None, old: Some(old) } => {
                    down += 1;
                    broken.push(Arc::clone(old));
                }
                _ => down += 1,
            }
        }
        // Both zero would never move.
        candidates.truncate(unavailable.max(1).saturating_sub(down));
        doing.delete.extend(candidates);
        doing.broken.extend(broken);
        return;
    }
    let (mut surging, mut broken, mut candidates) = (0, Vec::new(), Vec::new());
    for on in concerned() {
        let name = on.node.meta.name.clone();
        match state(view, on, hash) {
            State::Untidy => surging += 1,
            State::Pods { old: None, .. } => {}
            State::Pods { new: None, old: Some(old) } => {
                // Where nothing new would be put, the old one stays.
                if on.belongs != Belongs::Yes {
                } else if is_available(view, old) {
                    candidates.push(name);
                } else {
                    broken.push(name);
                }
            }
            State::Pods { new: Some(new), old: Some(old) } => match is_available(view, new) {
                true => doing.delete.push(Arc::clone(old)),
                false => surging += 1,
            },
        }
    }
    candidates.truncate(surge.saturating_sub(surging));
    doing.create.extend(broken.into_iter().chain(candidates));
}

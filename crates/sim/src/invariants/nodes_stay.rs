//! A node that goes on saying that it lives is ready and loses no pod to a taint,
//! whatever the clock shows. Holds where no node is cut off.

use crate::{Change, Cluster, Invariant, World, history::has_condition};

pub(crate) struct NodesStay;

/// It comes with one, which goes as soon as it is seen to be ready.
fn had_none(change: &Change<'_>) -> bool {
    change.old.is_some_and(|old| old["spec"]["taints"].is_null())
}

impl Invariant for NodesStay {
    fn observe(&mut self, _: &World, _: &Cluster, change: &Change<'_>) -> Result<(), String> {
        let Some(new) = change.new else { return Ok(()) };
        let was_ready = change.old.is_some_and(|old| has_condition(old, "Ready"));
        match change.resource {
            "/nodes" if was_ready && !has_condition(new, "Ready") => {
                Err(format!("{} is said to be silent", change.key))
            }
            "/nodes" if had_none(change) && !new["spec"]["taints"].is_null() => {
                Err(format!("{} has the taints {}", change.key, new["spec"]["taints"]))
            }
            "/pods" if has_condition(new, "DisruptionTarget") => {
                Err(format!("{} has to leave", change.key))
            }
            _ => Ok(()),
        }
    }
}

//! May they: masters, then nodes, then RBAC. The first that allows decides;
//! nobody's opinion is a refusal.

pub(crate) mod aggregation;
pub(crate) mod escalation;
pub(crate) mod node;
pub(crate) mod rbac;

use api_registry::{Decision, RequestAttributes, UserInfo};

use crate::state::State;

/// The group that RBAC cannot lock out.
pub const MASTERS: &str = "system:masters";

/// Whether a user may do everything.
pub fn is_master(user: &UserInfo) -> bool {
    user.in_group(MASTERS)
}

/// Judges a request by what is known; a pure function.
pub(crate) fn judge(state: &State, attributes: &RequestAttributes) -> Decision {
    match grant(state, attributes) {
        Ok(_) => Decision::Allow,
        Err(reason) => Decision::NoOpinion { reason },
    }
}

/// Why a request is allowed, or why it is not; either may be empty.
pub(crate) fn grant(state: &State, attributes: &RequestAttributes) -> Result<String, String> {
    if is_master(&attributes.user) {
        return Ok(String::new());
    }
    let mut reasons = Vec::new();
    if let Some(node) = node::name(&attributes.user) {
        match node::judge(state, node, attributes) {
            Ok(()) => return Ok(String::new()),
            Err(reason) => reasons.push(reason),
        }
    }
    match state.policy.judge(attributes) {
        Ok(grant) => return Ok(grant.to_string()),
        Err(reason) => reasons.push(reason),
    }
    reasons.retain(|reason| !reason.is_empty());
    Err(reasons.join("\n"))
}

#[cfg(test)]
mod tests;

//! May they: masters, then nodes, then RBAC. The first that allows decides;
//! nobody's opinion is a refusal.

pub(crate) mod aggregation;
pub(crate) mod escalation;
pub(crate) mod node;
pub(crate) mod rbac;

use api_object::{GroupVersionResource, Status};
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

/// The 403 of a request that was not allowed, in upstream's words:
/// `pods is forbidden: User "x" cannot list resource "pods" in API group "" in
/// the namespace "default"`.
pub fn forbidden(attributes: &RequestAttributes, reason: &str) -> Status {
    let mut why = refusal(attributes);
    if !reason.is_empty() {
        why.push_str(": ");
        why.push_str(reason);
    }
    let gvr =
        GroupVersionResource::new(&attributes.group, &attributes.version, &attributes.resource);
    Status::forbidden(&gvr, &attributes.name, &why)
}

fn refusal(attributes: &RequestAttributes) -> String {
    let (user, verb) = (&attributes.user.name, &attributes.verb);
    if !attributes.resource_request {
        return format!("User {user:?} cannot {verb} path {:?}", attributes.path);
    }
    let resource = match attributes.subresource.as_str() {
        "" => attributes.resource.clone(),
        subresource => format!("{}/{subresource}", attributes.resource),
    };
    let group = &attributes.group;
    let place = match attributes.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    format!("User {user:?} cannot {verb} resource {resource:?} in API group {group:?} {place}")
}

#[cfg(test)]
mod tests;

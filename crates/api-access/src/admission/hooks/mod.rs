//! Who else is asked before something is stored: webhooks and policies.
//!
//! `matching` says which requests they are about, `webhook`, `policy` and `binding`
//! are what is remembered of their objects, compiled. `ask` puts a question to a
//! webhook (`review` is the protocol), `evaluate` computes what a policy says.
//! `mutate` and `validate` are the rows of the table of plugins.

mod ask;
pub(crate) mod binding;
mod evaluate;
mod matching;
pub(crate) mod mutate;
mod params;
pub(crate) mod policy;
mod review;
mod rights;
#[cfg(test)]
mod tests;
pub(crate) mod validate;
mod versions;
pub(crate) mod webhook;

use std::{collections::BTreeMap, sync::Arc};

use api_registry::Attributes;

use binding::Binding;
use policy::Policy;
use webhook::Webhook;

/// What is asked, by the names of the objects that say so; asked in that order.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    pub(crate) mutating_webhooks: Named<Vec<Webhook>>,
    pub(crate) validating_webhooks: Named<Vec<Webhook>>,
    pub(crate) mutating_policies: Named<Policy>,
    pub(crate) mutating_bindings: Named<Binding>,
    pub(crate) validating_policies: Named<Policy>,
    pub(crate) validating_bindings: Named<Binding>,
}

pub(crate) type Named<T> = BTreeMap<String, Arc<T>>;

/// A policy with what binds it.
type Bound = (Arc<Policy>, Vec<Arc<Binding>>);

/// Policies that are bound at all.
fn bound(policies: &Named<Policy>, bindings: &Named<Binding>) -> Vec<Bound> {
    let of = |policy: &Arc<Policy>| -> Bound {
        let mine = bindings.values().filter(|binding| binding.policy == policy.name);
        (policy.clone(), mine.cloned().collect())
    };
    policies.values().map(of).filter(|(_, bindings)| !bindings.is_empty()).collect()
}

/// Objects that say who is asked, and questions about rights: if these were asked
/// about, one mistake would lock everybody out.
fn is_exempt(attributes: &Attributes) -> bool {
    const CONFIGURATIONS: [&str; 6] = [
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    ];
    const REVIEWS: [&str; 6] = [
        "tokenreviews",
        "selfsubjectreviews",
        "subjectaccessreviews",
        "localsubjectaccessreviews",
        "selfsubjectaccessreviews",
        "selfsubjectrulesreviews",
    ];
    let resource = attributes.resource.resource.as_str();
    match attributes.resource.group.as_str() {
        "admissionregistration.k8s.io" => CONFIGURATIONS.contains(&resource),
        "authentication.k8s.io" | "authorization.k8s.io" => REVIEWS.contains(&resource),
        _ => false,
    }
}

//! Which pods are meant: the selectors of pod affinity and topology spread.

use std::collections::BTreeMap;

use api_object::{LabelSelector, Meta};
use api_types::core::{self, PodAffinityTerm};
use serde_json::Value;

use crate::Map;

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// The labels of each namespace.
pub(crate) type Namespaces = Map<String, Labels>;

/// Pods of certain namespaces with certain labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodSelector {
    /// Their namespaces by name, in order.
    pub namespaces: Vec<String>,
    /// Their namespaces by label.
    pub namespace_selector: Option<LabelSelector>,
    /// `None` selects no pod.
    pub labels: Option<LabelSelector>,
}

impl PodSelector {
    /// Pods of one namespace.
    pub fn within(namespace: &str, labels: LabelSelector) -> Self {
        Self {
            namespaces: vec![namespace.to_owned()],
            namespace_selector: None,
            labels: Some(labels),
        }
    }

    /// Whether a pod is one of them.
    pub(crate) fn matches(&self, pod: &Meta, namespaces: &Namespaces) -> bool {
        let Some(labels) = &self.labels else { return false };
        let named = self.namespaces.contains(&pod.namespace);
        let selected = || {
            let none = Labels::new();
            let labels = namespaces.get(&pod.namespace).unwrap_or(&none);
            self.namespace_selector.as_ref().is_some_and(|selector| selector.matches(labels))
        };
        (named || selected()) && labels.matches(&pod.labels)
    }
}

/// A term of pod affinity or anti-affinity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Term {
    /// The pods to be near to, or away from.
    pub pods: PodSelector,
    /// The node label whose value says what is near.
    pub topology_key: String,
}

impl Term {
    fn new(term: PodAffinityTerm, owner: &Meta) -> Self {
        let PodAffinityTerm { mut namespaces, match_label_keys, mismatch_label_keys, .. } = term;
        let namespace_selector = term.namespace_selector.as_ref().and_then(selector);
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(owner.namespace.clone());
        }
        namespaces.sort();
        let labels = term.label_selector.map(|mut wanted| {
            add_keys(&mut wanted, "In", &match_label_keys, &owner.labels);
            add_keys(&mut wanted, "NotIn", &mismatch_label_keys, &owner.labels);
            wanted
        });
        let labels = labels.as_ref().and_then(selector);
        let pods = PodSelector { namespaces, namespace_selector, labels };
        Self { pods, topology_key: term.topology_key }
    }
}

/// What a pod says about its neighbours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    /// Must be near, all of them.
    pub required: Vec<Term>,
    /// Must not be near.
    pub forbidden: Vec<Term>,
    /// Better near; worse where the weight is negative.
    pub preferred: Vec<(i64, Term)>,
}

impl Affinity {
    /// `None` where the pod says nothing.
    pub(crate) fn of(affinity: core::Affinity, owner: &Meta) -> Option<Box<Self>> {
        let (near, away) = (
            affinity.pod_affinity.unwrap_or_default(),
            affinity.pod_anti_affinity.unwrap_or_default(),
        );
        let terms = |terms: Vec<PodAffinityTerm>| {
            terms.into_iter().map(|term| Term::new(term, owner)).collect::<Vec<_>>()
        };
        let mut preferred = Vec::new();
        for (sign, side) in [
            (1, near.preferred_during_scheduling_ignored_during_execution),
            (-1, away.preferred_during_scheduling_ignored_during_execution),
        ] {
            preferred.extend(side.into_iter().map(|wish| {
                (sign * i64::from(wish.weight), Term::new(wish.pod_affinity_term, owner))
            }));
        }
        let all = Self {
            required: terms(near.required_during_scheduling_ignored_during_execution),
            forbidden: terms(away.required_during_scheduling_ignored_during_execution),
            preferred,
        };
        (all != Self::default()).then(|| Box::new(all))
    }
}

/// A topology spread constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    /// How many more pods a domain may have than the emptiest.
    pub max_skew: i64,
    /// The node label whose value names a node's domain.
    pub topology_key: String,
    /// `DoNotSchedule`; else it is a wish.
    pub is_hard: bool,
    /// The pods that count, in the pod's namespace; `None` where none does.
    pub labels: Option<LabelSelector>,
    /// With fewer domains, the emptiest counts as having no pods.
    pub domains_min: i64,
    /// Whether only nodes count that the pod's node affinity allows.
    pub honors_affinity: bool,
    /// Whether only nodes count whose taints the pod tolerates.
    pub honors_taints: bool,
}

impl Spread {
    /// As the API has it; `pod` gives the values of `matchLabelKeys`.
    pub(crate) fn new(constraint: core::TopologySpreadConstraint, pod: &Meta) -> Self {
        let labels = constraint.label_selector.map(|mut wanted| {
            add_keys(&mut wanted, "In", &constraint.match_label_keys, &pod.labels);
            wanted
        });
        Self {
            max_skew: i64::from(constraint.max_skew),
            topology_key: constraint.topology_key,
            is_hard: constraint.when_unsatisfiable == "DoNotSchedule",
            labels: labels.as_ref().and_then(selector),
            domains_min: constraint.min_domains.map_or(1, i64::from),
            honors_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }
}

/// The API has validated it; what does not parse selects nothing.
fn selector(value: &Value) -> Option<LabelSelector> {
    LabelSelector::from_object(value).ok()
}

/// `matchLabelKeys` and `mismatchLabelKeys` (KEP-3633, KEP-3243). The API
/// server puts them into the selector of new pods; twice is the same as once.
fn add_keys(selector: &mut Value, operator: &str, keys: &[String], labels: &Labels) {
    for (key, value) in keys.iter().filter_map(|key| Some((key, labels.get(key)?))) {
        let wanted = serde_json::json!({"key": key, "operator": operator, "values": [value]});
        match selector["matchExpressions"].as_array_mut() {
            Some(list) if list.contains(&wanted) => {}
            Some(list) => list.push(wanted),
            None => selector["matchExpressions"] = Value::Array(vec![wanted]),
        }
    }
}

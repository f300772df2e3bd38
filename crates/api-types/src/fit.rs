//! What of a pod fits what of a node.

use std::collections::BTreeMap;

use crate::core::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Taint, Toleration};

impl Toleration {
    /// Whether it bears with the taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        (self.effect.is_empty() || self.effect == taint.effect)
            && match (self.key.as_str(), self.operator.as_str()) {
                // An empty key with Exists tolerates everything.
                ("", operator) => operator == "Exists",
                (key, _) if key != taint.key => false,
                (_, "Exists") => true,
                (_, "" | "Equal") => self.value == taint.value,
                (_, "Gt") => self.compares(taint, |taint, bound| taint > bound),
                (_, "Lt") => self.compares(taint, |taint, bound| taint < bound),
                _ => false,
            }
    }

    /// Both as numbers (KEP-5471); what is none compares to nothing.
    fn compares(&self, taint: &Taint, holds: fn(i64, i64) -> bool) -> bool {
        let numbers = (number(&taint.value), number(&self.value));
        matches!(numbers, (Some(taint), Some(bound)) if holds(taint, bound))
    }
}

impl NodeSelector {
    /// Whether a node fulfils one of the terms.
    pub fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.node_selector_terms.iter().any(|term| term.matches(name, labels))
    }
}

impl NodeSelectorTerm {
    /// Whether a node fulfils every requirement. An empty term matches nothing.
    pub fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        if self.match_expressions.is_empty() && self.match_fields.is_empty() {
            return false;
        }
        let label = |key: &str| labels.get(key).map(String::as_str);
        self.match_expressions.iter().all(|wanted| wanted.holds(label(&wanted.key)))
            // The one field there is.
            && self
                .match_fields
                .iter()
                .all(|wanted| wanted.key == "metadata.name" && wanted.holds(Some(name)))
    }
}

impl NodeSelectorRequirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let is_listed = || value.is_some_and(|value| self.values.iter().any(|v| v == value));
        let compare = |holds: fn(i64, i64) -> bool| {
            let bound = self.values.first().and_then(|bound| number(bound));
            matches!((value.and_then(number), bound), (Some(n), Some(bound)) if holds(n, bound))
        };
        match self.operator.as_str() {
            "In" => is_listed(),
            "NotIn" => !is_listed(),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => compare(|number, bound| number > bound),
            "Lt" => compare(|number, bound| number < bound),
            _ => false,
        }
    }
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

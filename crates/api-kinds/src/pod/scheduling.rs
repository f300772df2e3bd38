//! What is refused in the fields that say where a pod may run.

use api_object::name;
use api_schema::{Faults, Path, tree};
use serde_json::Value;

use crate::rules;

/// Faults of nodeSelector, tolerations, affinity, spread constraints and gates.
pub(super) fn validate(path: &Path<'_>, spec: &Value, faults: &mut Faults) {
    rules::labels(&path.child("nodeSelector"), tree::get(spec, "nodeSelector"), faults);
    tolerations(&path.child("tolerations"), tree::list(spec, "tolerations"), faults);
    affinity(&path.child("affinity"), tree::get(spec, "affinity"), faults);
    spread(&path.child("topologySpreadConstraints"), spec, faults);
    let gates = path.child("readinessGates");
    for (index, gate) in tree::list(spec, "readinessGates").iter().enumerate() {
        let text = tree::text(gate, "conditionType");
        let path = gates.index(index);
        faults.invalid_all(&path.child("conditionType"), text, name::qualified_name(text));
    }
    let gates = path.child("schedulingGates");
    for (index, gate) in tree::list(spec, "schedulingGates").iter().enumerate() {
        let text = tree::text(gate, "name");
        let path = gates.index(index);
        faults.invalid_all(&path.child("name"), text, name::qualified_name(text));
    }
}

/// Faults of a list of `core/v1.Toleration`.
pub(crate) fn tolerations(path: &Path<'_>, tolerations: &[Value], faults: &mut Faults) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let path = path.index(index);
        let (key, value) = (tree::text(toleration, "key"), tree::text(toleration, "value"));
        let operator = tree::text(toleration, "operator");
        if !key.is_empty() {
            faults.invalid_all(&path.child("key"), key, name::qualified_name(key));
        } else if operator != "Exists" {
            faults.invalid(
                &path.child("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        let effect = tree::text(toleration, "effect");
        if tree::int(toleration, "tolerationSeconds").is_some() && effect != "NoExecute" {
            faults.invalid(
                &path.child("effect"),
                effect,
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
        match operator {
            "" | "Equal" => {
                faults.invalid_all(&path.child("operator"), value, name::label_value(value));
            }
            "Exists" if !value.is_empty() => faults.invalid(
                &path.child("operator"),
                operator,
                "value must be empty when `operator` is 'Exists'",
            ),
            // Comparisons of numbers stand behind a gate that is off.
            other @ ("Lt" | "Gt") => {
                faults.unsupported(&path.child("operator"), other, ["Equal", "Exists"]);
            }
            _ => {}
        }
    }
}

const NODE_REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn affinity(path: &Path<'_>, affinity: &Value, faults: &mut Faults) {
    let node = tree::get(affinity, "nodeAffinity");
    let at = path.child("nodeAffinity");
    if let Some(required) = node.get(NODE_REQUIRED) {
        node_selector(&at.child(NODE_REQUIRED), required, faults);
    }
    let list = at.child(PREFERRED);
    for (index, preferred) in tree::list(node, PREFERRED).iter().enumerate() {
        let path = list.index(index);
        weight(&path.child("weight"), preferred, faults);
        node_term(&path.child("preference"), tree::get(preferred, "preference"), faults);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let rules = tree::get(affinity, kind);
        let at = path.child(kind);
        let list = at.child(NODE_REQUIRED);
        for (index, term) in tree::list(rules, NODE_REQUIRED).iter().enumerate() {
            pod_term(&list.index(index), term, faults);
        }
        let list = at.child(PREFERRED);
        for (index, preferred) in tree::list(rules, PREFERRED).iter().enumerate() {
            let path = list.index(index);
            weight(&path.child("weight"), preferred, faults);
            pod_term(
                &path.child("podAffinityTerm"),
                tree::get(preferred, "podAffinityTerm"),
                faults,
            );
        }
    }
}

/// Faults of a `NodeSelector`, of pods and of volumes.
pub(crate) fn node_selector(path: &Path<'_>, selector: &Value, faults: &mut Faults) {
    let terms = tree::list(selector, "nodeSelectorTerms");
    let list = path.child("nodeSelectorTerms");
    if terms.is_empty() {
        faults.required(&list, "must have at least one node selector term");
    }
    for (index, term) in terms.iter().enumerate() {
        node_term(&list.index(index), term, faults);
    }
}

fn weight(path: &Path<'_>, preferred: &Value, faults: &mut Faults) {
    let weight = tree::int(preferred, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        faults.invalid(path, weight, "must be in the range 1-100");
    }
}

fn node_term(path: &Path<'_>, term: &Value, faults: &mut Faults) {
    for field in ["matchExpressions", "matchFields"] {
        let list = path.child(field);
        for (index, requirement) in tree::list(term, field).iter().enumerate() {
            let path = list.index(index);
            let count = tree::list(requirement, "values").len();
            let values = path.child("values");
            match tree::text(requirement, "operator") {
                "In" | "NotIn" if count == 0 => {
                    faults.required(&values, "must be specified when `operator` is 'In' or 'NotIn'")
                }
                "Exists" | "DoesNotExist" if count > 0 => faults.forbidden(
                    &values,
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                ),
                "Gt" | "Lt" if count != 1 => faults.required(
                    &values,
                    "must be specified single value when `operator` is 'Lt' or 'Gt'",
                ),
                "" => {
                    let path = path.child("operator");
                    faults.invalid(&path, "", "not a valid selector operator");
                }
                _ => {}
            }
            let key = tree::text(requirement, "key");
            if field == "matchFields" && key != "metadata.name" {
                faults.invalid(&path.child("key"), key, "not a valid field selector key");
            } else if field == "matchExpressions" {
                faults.invalid_all(&path.child("key"), key, name::qualified_name(key));
            }
        }
    }
}

fn pod_term(path: &Path<'_>, term: &Value, faults: &mut Faults) {
    for field in ["labelSelector", "namespaceSelector"] {
        rules::label_selector(&path.child(field), tree::get(term, field), faults);
    }
    match tree::text(term, "topologyKey") {
        "" => faults.required(&path.child("topologyKey"), "can not be empty"),
        key => faults.invalid_all(&path.child("topologyKey"), key, name::qualified_name(key)),
    }
}

fn spread(path: &Path<'_>, spec: &Value, faults: &mut Faults) {
    for (index, constraint) in tree::list(spec, "topologySpreadConstraints").iter().enumerate() {
        let path = path.index(index);
        let skew = tree::int(constraint, "maxSkew").unwrap_or(0);
        if skew <= 0 {
            faults.invalid(&path.child("maxSkew"), skew, "must be greater than zero");
        }
        match tree::text(constraint, "topologyKey") {
            "" => faults.required(&path.child("topologyKey"), "can not be empty"),
            key => faults.invalid_all(&path.child("topologyKey"), key, name::qualified_name(key)),
        }
        if tree::text(constraint, "whenUnsatisfiable").is_empty() {
            let allowed = ["DoNotSchedule", "ScheduleAnyway"];
            faults.unsupported(&path.child("whenUnsatisfiable"), "", allowed);
        }
        let selector = tree::get(constraint, "labelSelector");
        rules::label_selector(&path.child("labelSelector"), selector, faults);
    }
}

//! Quotas, disruption budgets and priorities.

use api_object::{
    LabelSelector,
    selector::{Operator, Requirement},
};
use serde_json::{Map, Value, json};

use super::{Made, meta, name};
use crate::flags::{Flag, Parsed, switch, value};

pub(crate) static QUOTA: &[Flag] = &[
    value("hard", "RESOURCE=QUANTITY", "A comma-delimited set of resource=quantity pairs"),
    value("scopes", "NAMES", "A comma-delimited set of quota scopes"),
];
pub(crate) static BUDGET: &[Flag] = &[
    value("min-available", "COUNT", "The minimum number or percentage of available pods"),
    value("max-unavailable", "COUNT", "The maximum number or percentage of unavailable pods"),
    value("selector", "LABELS", "A label selector to use for this budget"),
];
pub(crate) static PRIORITY: &[Flag] = &[
    value("value", "N", "The value of this priority class").or("0"),
    switch(
        "global-default",
        "Whether this PriorityClass should be considered as the default priority",
    ),
    value("description", "TEXT", "When this priority class should be used"),
    value("preemption-policy", "POLICY", "The policy for preempting pods with lower priority")
        .or("PreemptLowerPriority"),
];

pub(crate) fn quota(flags: &Parsed) -> Made {
    let mut object = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta(name(flags)?), "spec": {}, "status": {}});
    for pair in flags.list("hard") {
        let (key, value) =
            pair.split_once('=').filter(|(_, value)| !value.contains('=')).ok_or_else(|| {
                format!("Invalid argument syntax {pair}, expected <resource>=<value>")
            })?;
        object["spec"]["hard"][key] = value.into();
    }
    let scopes = flags.list("scopes");
    if !scopes.is_empty() {
        object["spec"]["scopes"] = json!(scopes);
    }
    Ok(object)
}

pub(crate) fn disruption_budget(flags: &Parsed) -> Made {
    let mut object = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta(name(flags)?),
        "spec": {"selector": {}},
        "status": {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0},
    });
    if flags.one("selector").is_empty() {
        return Err("a selector must be specified".into());
    }
    let count = |text: &str| text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from);
    match (flags.one("min-available"), flags.one("max-unavailable")) {
        // The server would take any text, and refuse it later in other words.
        (min, "") if !min.is_empty() && !is_count(min) => {
            return Err("invalid format specified for min-available".into());
        }
        ("", max) if !max.is_empty() && !is_count(max) => {
            return Err("invalid format specified for max-unavailable".into());
        }
        ("", "") => return Err("one of min-available or max-unavailable must be specified".into()),
        (min, "") => object["spec"]["minAvailable"] = count(min),
        ("", max) => object["spec"]["maxUnavailable"] = count(max),
        _ => return Err("min-available and max-unavailable cannot be both specified".into()),
    }
    let text = flags.one("selector");
    let selector = LabelSelector::parse(text)
        .map_err(|error| format!("couldn't parse the selector string \"{text}\": {error}"))?;
    object["spec"]["selector"] = as_object(&selector)?;
    Ok(object)
}

/// `3` or `30%`
fn is_count(text: &str) -> bool {
    let digits = text.strip_suffix('%').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// A selector as objects have it.
fn as_object(selector: &LabelSelector) -> Made {
    let (mut labels, mut expressions) = (Map::new(), Vec::new());
    for Requirement { key, operator } in selector.requirements() {
        let (operator, values) = match operator {
            Operator::In(values) if values.len() == 1 => {
                labels.insert(key.clone(), values[0].as_str().into());
                continue;
            }
            Operator::In(values) => ("In", Some(values)),
            Operator::NotIn(values) => ("NotIn", Some(values)),
            Operator::Exists => ("Exists", None),
            Operator::DoesNotExist => ("DoesNotExist", None),
            Operator::GreaterThan(_) => {
                return Err("\"gt\" isn't supported in label selectors".into());
            }
            Operator::LessThan(_) => {
                return Err("\"lt\" isn't supported in label selectors".into());
            }
        };
        let mut expression = json!({"key": key, "operator": operator});
        if let Some(values) = values {
            expression["values"] = json!(values);
        }
        expressions.push(expression);
    }
    let mut object = json!({});
    if !labels.is_empty() {
        object["matchLabels"] = labels.into();
    }
    if !expressions.is_empty() {
        object["matchExpressions"] = expressions.into();
    }
    Ok(object)
}

pub(crate) fn priority_class(flags: &Parsed) -> Made {
    let mut object = json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": meta(name(flags)?),
        "value": flags.one("value").parse::<i64>().unwrap_or(0),
        "preemptionPolicy": flags.one("preemption-policy"),
    });
    if flags.on("global-default") {
        object["globalDefault"] = true.into();
    }
    if flags.is_set("description") {
        object["description"] = flags.one("description").into();
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_says_of_which_pods_how_many() {
        for (set, said) in [
            (&[("min-available", "1")][..], Some("a selector must be specified")),
            (
                &[("selector", "a=b")],
                Some("one of min-available or max-unavailable must be specified"),
            ),
            (
                &[("selector", "a=b"), ("min-available", "a")],
                Some("invalid format specified for min-available"),
            ),
            (
                &[("selector", "a=b"), ("max-unavailable", "1%%")],
                Some("invalid format specified for max-unavailable"),
            ),
            (&[("selector", "a=b"), ("max-unavailable", "10%")], None),
            (&[("selector", "a=b"), ("min-available", "1")], None),
        ] {
            let mut flags = Parsed::default();
            flags.words.push("x".to_owned());
            for (flag, value) in set {
                flags.set(flag, value);
            }
            assert_eq!(disruption_budget(&flags).err().as_deref(), said, "{set:?}");
        }
    }
}

//! The quality-of-service class of a pod.

use std::collections::BTreeMap;

use api_object::Quantity;
use api_schema::tree;
use serde_json::Value;

const COUNTED: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed` where every container's CPU and memory limits equal its
/// requests, `BestEffort` where none has any, `Burstable` otherwise.
pub fn class(pod: &Value) -> &'static str {
    let pod_level = tree::get(pod, "spec.resources");
    let containers: Vec<&Value> = match amounts(pod_level).next() {
        Some(_) => vec![pod_level],
        None => ["spec.containers", "spec.initContainers"]
            .into_iter()
            .flat_map(|list| tree::list(pod, list))
            .map(|container| tree::get(container, "resources"))
            .collect(),
    };
    let mut requests: BTreeMap<&str, Quantity> = BTreeMap::new();
    let mut limits: BTreeMap<&str, Quantity> = BTreeMap::new();
    let mut guaranteed = true;
    for resources in containers {
        let mut limited = 0;
        for (list, name, amount) in amounts(resources) {
            let sums = if list == "limits" { &mut limits } else { &mut requests };
            *sums.entry(name).or_default() += amount;
            limited += usize::from(list == "limits");
        }
        guaranteed &= limited == COUNTED.len();
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if guaranteed && requests.iter().all(|(name, amount)| limits.get(name) == Some(amount)) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// CPU and memory that are not zero, of `limits` and of `requests`.
fn amounts<'a>(
    resources: &'a Value,
) -> impl Iterator<Item = (&'static str, &'static str, Quantity)> + use<'a> {
    ["requests", "limits"].into_iter().flat_map(move |list| {
        COUNTED.into_iter().filter_map(move |name| {
            let text = resources.get(list)?.get(name)?.as_str()?;
            let amount = Quantity::parse(text).ok().filter(|amount| !amount.is_zero())?;
            Some((list, name, amount))
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn classes() {
        let pod = |resources: &[Value]| {
            let containers: Vec<Value> =
                resources.iter().map(|r| json!({ "resources": r })).collect();
            json!({ "spec": { "containers": containers } })
        };
        let all = json!({ "cpu": "1", "memory": "1Gi" });
        let same = json!({ "limits": all, "requests": all });
        assert_eq!(class(&pod(&[json!({})])), "BestEffort");
        assert_eq!(class(&pod(std::slice::from_ref(&same))), "Guaranteed");
        assert_eq!(class(&pod(&[same.clone(), json!({})])), "Burstable");
        assert_eq!(class(&pod(&[json!({ "requests": { "cpu": "1" } })])), "Burstable");
        assert_eq!(class(&pod(&[json!({ "limits": { "cpu": "0" } })])), "BestEffort");
    }
}

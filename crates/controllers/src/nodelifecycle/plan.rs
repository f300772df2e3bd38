//! What a node's conditions and taints should be.

use std::time::Duration;

use api_types::core::Condition;
use serde_json::{Value, json};

/// How long a node may be silent; upstream's `--node-monitor-grace-period`.
pub(super) const GRACE: Duration = Duration::from_secs(50);

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// Conditions that a silent node no longer vouches for.
const OBSERVED: &[&str] = &["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Taints that follow from a condition: type, status, key.
const NO_SCHEDULE: &[(&str, &str, &str)] = &[
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];
const NO_EXECUTE: &[(&str, &str, &str)] =
    &[("Ready", "False", NOT_READY), ("Ready", "Unknown", UNREACHABLE)];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// What a silent node's conditions become; nothing where they say so already.
/// `now` is RFC 3339.
pub(super) fn silence(conditions: &[Condition], now: &str) -> Vec<Value> {
    let mut changed = Vec::new();
    for r#type in OBSERVED {
        let known = conditions.iter().find(|condition| condition.r#type == *r#type);
        if known.is_some_and(|known| known.status == "Unknown") {
            continue;
        }
        let (reason, message) = match known {
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        };
        changed.push(json!({
            "type": r#type,
            "status": "Unknown",
            "reason": reason,
            "message": message,
            "lastTransitionTime": now,
        }));
    }
    changed
}

/// Whether pods are leaving a node already, as far as it is up to us.
pub(super) fn are_leaving(taints: &[Value]) -> bool {
    taints.iter().any(|taint| {
        taint["effect"] == "NoExecute" && NO_EXECUTE.iter().any(|(_, _, key)| taint["key"] == *key)
    })
}

/// The taints as they should be, where they are not: ours follow from the
/// conditions, all others stay. `taints` are a node's `spec.taints`; `leave` says
/// whether pods are to leave a node that is down.
pub(super) fn taints(
    taints: &[Value],
    conditions: &[Condition],
    unschedulable: bool,
    leave: bool,
    now: &str,
) -> Option<Vec<Value>> {
    let holds = |(r#type, status, _): &&(&str, &str, &str)| {
        let mut conditions = conditions.iter();
        conditions.any(|known| known.r#type == *r#type && known.status == *status)
    };
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    wanted.extend(NO_SCHEDULE.iter().filter(holds).map(|(_, _, key)| (*key, "NoSchedule")));
    if leave {
        wanted.extend(NO_EXECUTE.iter().filter(holds).map(|(_, _, key)| (*key, "NoExecute")));
    }
    if unschedulable {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    // A node that has not said yet how it is keeps the taint it came with.
    let has_spoken = conditions.iter().any(|known| known.r#type == "Ready");
    let is_ours = |taint: &Value| {
        let (key, effect) = (taint["key"].as_str(), taint["effect"].as_str());
        let row = |row: &(&str, &str, &str)| key == Some(row.2);
        match effect {
            Some("NoSchedule") if key == Some(UNSCHEDULABLE) => true,
            Some("NoSchedule") => has_spoken && NO_SCHEDULE.iter().any(row),
            Some("NoExecute") => has_spoken && NO_EXECUTE.iter().any(row),
            _ => false,
        }
    };
    let is = |taint: &Value, (key, effect): &(&str, &str)| {
        taint["key"] == **key && taint["effect"] == **effect
    };
    let mut next: Vec<Value> = taints
        .iter()
        .filter(|taint| !is_ours(taint) || wanted.iter().any(|wanted| is(taint, wanted)))
        .cloned()
        .collect();
    for wanted in &wanted {
        if !next.iter().any(|taint| is(taint, wanted)) {
            next.push(json!({"key": wanted.0, "effect": wanted.1, "timeAdded": now}));
        }
    }
    (next != taints).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: &str) -> Vec<Condition> {
        vec![Condition { r#type: "Ready".into(), status: status.into(), ..Condition::default() }]
    }

    fn named(next: Option<Vec<Value>>) -> Option<Vec<String>> {
        let line = |taint: &Value| {
            let text = |field: &str| taint[field].as_str().unwrap_or_default().to_owned();
            format!("{}:{}", text("key").replace("node.kubernetes.io/", ""), text("effect"))
        };
        Some(next?.iter().map(line).collect())
    }

    #[test]
    fn taints_follow_the_conditions() {
        let own = json!({"key": "mine", "effect": "NoSchedule"});
        let not_ready = json!({"key": NOT_READY, "effect": "NoSchedule"});
        let strings = |s: &[&str]| Some(s.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        let table = [
            (vec![], ready("True"), false, None),
            (
                vec![not_ready.clone(), own.clone()],
                ready("True"),
                false,
                strings(&["mine:NoSchedule"]),
            ),
            (vec![not_ready.clone()], vec![], false, None),
            (
                vec![own.clone()],
                ready("False"),
                false,
                strings(&["mine:NoSchedule", "not-ready:NoSchedule", "not-ready:NoExecute"]),
            ),
            (
                vec![],
                ready("Unknown"),
                true,
                strings(&[
                    "unreachable:NoSchedule",
                    "unreachable:NoExecute",
                    "unschedulable:NoSchedule",
                ]),
            ),
        ];
        for (present, conditions, unschedulable, wanted) in table {
            let next = taints(&present, &conditions, unschedulable, true, "now");
            assert_eq!(named(next), wanted, "{present:?} {conditions:?}");
        }
        let leaving = taints(&[], &ready("False"), false, true, "now").expect("tainted");
        assert!(are_leaving(&leaving) && !are_leaving(&leaving[..1]));
        let halted = taints(&leaving, &ready("False"), false, false, "now");
        assert_eq!(named(halted), strings(&["not-ready:NoSchedule"]), "they stay after all");
    }

    #[test]
    fn a_silent_node_is_unknown_once() {
        let changed = silence(&ready("True"), "now");
        assert_eq!(changed.len(), OBSERVED.len());
        assert_eq!(changed[0]["reason"], "NodeStatusUnknown");
        assert_eq!(changed[1]["reason"], "NodeStatusNeverUpdated");
        let unknown: Vec<Condition> = OBSERVED
            .iter()
            .map(|t| Condition {
                r#type: (*t).into(),
                status: "Unknown".into(),
                ..Condition::default()
            })
            .collect();
        assert!(silence(&unknown, "now").is_empty());
    }
}

//! How statuses are written: conditions and counts.

use api_types::core::Condition;
use serde_json::{Map, Value, json};

/// Puts a condition in. One of the same type, status and reason stays as it
/// is; one of the same status keeps its transition time.
pub(crate) fn set_condition(conditions: &mut Vec<Condition>, mut condition: Condition) {
    if let Some(known) = conditions.iter().find(|known| known.r#type == condition.r#type) {
        if known.status == condition.status && known.reason == condition.reason {
            return;
        }
        if known.status == condition.status {
            condition.last_transition_time.clone_from(&known.last_transition_time);
        }
    }
    conditions.retain(|known| known.r#type != condition.r#type);
    conditions.push(condition);
}

/// The condition of a type.
pub(crate) fn condition<'a>(conditions: &'a [Condition], r#type: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.r#type == r#type)
}

/// A count in a merge patch: the API leaves zeros out.
pub(crate) fn count(n: i32) -> Value {
    match n {
        0 => Value::Null,
        n => json!(n),
    }
}

/// Conditions in a merge patch; none are left out.
pub(crate) fn conditions_json(conditions: &[Condition]) -> Value {
    if conditions.is_empty() {
        return Value::Null;
    }
    let one = |condition: &Condition| {
        let mut map = Map::new();
        let mut put = |key: &str, value: Option<&str>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                map.insert(key.to_owned(), json!(value));
            }
        };
        put("type", Some(&condition.r#type));
        put("status", Some(&condition.status));
        put("lastProbeTime", condition.last_probe_time.as_deref());
        put("lastHeartbeatTime", condition.last_heartbeat_time.as_deref());
        put("lastUpdateTime", condition.last_update_time.as_deref());
        put("lastTransitionTime", condition.last_transition_time.as_deref());
        put("reason", Some(&condition.reason));
        put("message", Some(&condition.message));
        if condition.observed_generation != 0 {
            map.insert("observedGeneration".into(), json!(condition.observed_generation));
        }
        Value::Object(map)
    };
    conditions.iter().map(one).collect()
}

//! How statuses are written: conditions and counts.

use api_object::Meta;
use api_types::core::Condition;
use client::{Api, Error, OwnWrites, PatchKind, Resource};
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

/// Writes an object's status by a merge patch that has its metadata beside it, and
/// remembers that for the object's key. One that is gone needs none.
pub(crate) async fn write(
    api: &Api,
    writes: &OwnWrites,
    resource: Resource,
    object: &Meta,
    patch: &Value,
) -> Result<(), Error> {
    let (namespace, name) = (&object.namespace, &object.name);
    match api.patch(resource, namespace, name, "status", PatchKind::Merge, patch).await {
        Ok(written) => {
            writes.record(&object.key(), &written);
            Ok(())
        }
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// For an object that is gone, or another one by now, there is nothing to be done.
pub(crate) fn ignore_gone(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        result => result,
    }
}

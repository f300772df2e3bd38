//! What a quota's status says.

use std::time::Duration;

use api_kinds::quota::{self, Amounts, Scope};
use api_object::Quantity;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The objects of one kind in the quota's namespace, as far as they count.
pub(super) struct Objects {
    pub(super) group: String,
    pub(super) plural: String,
    pub(super) objects: Vec<Value>,
}

/// What the objects of a namespace use of a quota: every name that it limits.
pub(super) fn used(quota: &Value, namespace: &[Objects], now: Timestamp) -> Amounts {
    let hard = quota::amounts(&quota["spec"]["hard"]);
    let scopes = Scope::of(quota);
    let mut used: Amounts = hard.keys().map(|name| (name.clone(), Quantity::default())).collect();
    for Objects { group, plural, objects } in namespace {
        let names = quota::names_of(group, plural, hard.keys().map(String::as_str));
        for object in objects {
            if !scopes.iter().all(|scope| scope.holds(group, plural, object)) {
                continue;
            }
            let usage = quota::usage(group, plural, object, now);
            for name in &names {
                if let (Some(sum), Some(amount)) = (used.get_mut(*name), usage.get(*name)) {
                    *sum += *amount;
                }
            }
        }
    }
    used
}

/// How long until an object uses less though nothing happens to it.
pub(super) fn look_again(namespace: &[Objects], now: Timestamp) -> Option<Duration> {
    let ends = namespace.iter().flat_map(|Objects { group, plural, objects }| {
        objects.iter().filter_map(|object| quota::until(group, plural, object, now))
    });
    let left = Duration::try_from(ends.min()?.duration_since(now)).ok()?;
    // A second more, since it has to have passed and moments have whole seconds.
    Some(left + Duration::from_secs(1))
}

/// The patch that brings a quota's status to `used`; none where it is there.
/// `not_less` keeps what is charged for objects that the caches may not have
/// yet.
pub(super) fn patch(quota: &Value, mut used: Amounts, not_less: bool) -> Option<Value> {
    let status = &quota["status"];
    let known = quota::amounts(&status["used"]);
    if not_less {
        for (name, amount) in &mut used {
            if let Some(known) = known.get(name).filter(|known| *known > amount) {
                *amount = *known;
            }
        }
    }
    let hard = quota::amounts(&quota["spec"]["hard"]);
    let is_there = status["hard"].is_object() || hard.is_empty();
    if is_there && known == used && quota::amounts(&status["hard"]) == hard {
        return None;
    }
    let list = |wanted: &Amounts, known: &Value| {
        let gone = known.as_object().into_iter().flatten().map(|(name, _)| name);
        let gone = gone.filter(|name| !wanted.contains_key(*name));
        let mut list: Map<String, Value> = gone.map(|n| (n.clone(), Value::Null)).collect();
        list.extend(wanted.iter().map(|(name, amount)| (name.clone(), json!(amount))));
        list
    };
    Some(json!({
        "metadata": {
            "uid": quota["metadata"]["uid"],
            "resourceVersion": quota["metadata"]["resourceVersion"],
        },
        "status": {
            "hard": list(&hard, &status["hard"]),
            "used": list(&used, &status["used"]),
        },
    }))
}

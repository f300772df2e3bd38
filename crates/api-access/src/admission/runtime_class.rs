//! What a pod gets from the RuntimeClass that it names: the overhead of its
//! runtime, and the nodes that have it (KEP-585, KEP-688).

use api_object::{Quantity, Status};
use api_registry::Attributes;
use api_schema::tree;
use serde_json::{Value, json};

use super::{denied, list_slot};
use crate::{Access, state::RUNTIME_CLASSES};

/// Fills in overhead, node selector and tolerations; refuses a class that is not
/// there and a pod that says otherwise than its class.
pub(super) async fn of_pod(access: &Access, attributes: &mut Attributes) -> Result<(), Status> {
    let class = class_of(access, attributes).await?;
    let Some(pod) = &mut attributes.object else { return Ok(()) };
    if let Err(why) = fill(&class, pod) {
        return Err(denied(attributes, &why));
    }
    Ok(())
}

/// What other plugins made of the pod must still be what its class says.
pub(super) async fn check(access: &Access, attributes: &Attributes) -> Result<(), Status> {
    let class = class_of(access, attributes).await?;
    let Some(pod) = &attributes.object else { return Ok(()) };
    let (fixed, own) = (fixed(&class), tree::get(pod, "spec.overhead"));
    let why = match (is_empty(fixed), is_empty(own)) {
        (true, true) => return Ok(()),
        (true, false) => {
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
        }
        _ if are_same(fixed, own) => return Ok(()),
        _ => OTHERWISE,
    };
    Err(denied(attributes, why))
}

const OTHERWISE: &str =
    "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

/// `null` for a pod that names none; asked for where the watch has not told of
/// it yet.
async fn class_of(access: &Access, attributes: &Attributes) -> Result<Value, Status> {
    let name =
        attributes.object.as_ref().map_or("", |pod| tree::text(pod, "spec.runtimeClassName"));
    if name.is_empty() {
        return Ok(Value::Null);
    }
    if let Some(class) = access.state().runtime_classes.get(name) {
        return Ok(class.clone());
    }
    let asked = match access.api.get() {
        Some(api) => api.get(RUNTIME_CLASSES, "", name).await.ok(),
        None => None,
    };
    asked.and_then(|object| serde_json::from_slice(&object.bytes).ok()).ok_or_else(|| {
        denied(attributes, &format!("pod rejected: RuntimeClass {name:?} not found"))
    })
}

fn fixed(class: &Value) -> &Value {
    tree::get(class, "overhead.podFixed")
}

fn is_empty(amounts: &Value) -> bool {
    amounts.as_object().is_none_or(|amounts| amounts.is_empty())
}

/// The same amounts, however they are written.
fn are_same(one: &Value, other: &Value) -> bool {
    let read = |amounts: &Value| {
        let amounts = amounts.as_object().into_iter().flatten();
        let parsed = |(name, amount): (&String, &Value)| {
            (name.clone(), Quantity::parse(amount.as_str().unwrap_or_default()).ok())
        };
        amounts.map(parsed).collect::<Vec<_>>()
    };
    let (one, other) = (read(one), read(other));
    one.len() == other.len() && one.iter().all(|amount| other.contains(amount))
}

fn fill(class: &Value, pod: &mut Value) -> Result<(), String> {
    let fixed = fixed(class);
    if !is_empty(fixed) {
        let own = tree::get(pod, "spec.overhead");
        if is_empty(own) {
            tree::set(pod, "spec.overhead", fixed.clone());
        } else if !are_same(fixed, own) {
            return Err(OTHERWISE.into());
        }
    }
    for (key, wanted) in tree::entries(class, "scheduling.nodeSelector") {
        let selector = tree::slot(pod, "spec.nodeSelector");
        if !selector.is_object() {
            *selector = json!({});
        }
        match selector.get(key) {
            Some(own) if own != wanted => {
                let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                    word(wanted),
                    word(own)
                ));
            }
            _ => selector[key] = wanted.clone(),
        }
    }
    for toleration in tree::list(class, "scheduling.tolerations") {
        let own = list_slot(pod, "spec.tolerations");
        if !own.contains(toleration) {
            own.push(toleration.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_as_its_class_says() {
        let class = json!({"overhead": {"podFixed": {"cpu": "10m"}}, "scheduling": {
            "nodeSelector": {"runtime": "ours"}, "tolerations": [{"key": "a", "operator": "Exists"}]}});
        for (class, pod, becomes) in [
            (&json!({}), json!({"spec": {}}), Ok(json!({"spec": {}}))),
            (
                &class,
                json!({"spec": {}}),
                Ok(json!({"spec": {"overhead": {"cpu": "10m"}, "nodeSelector": {"runtime": "ours"},
                    "tolerations": [{"key": "a", "operator": "Exists"}]}})),
            ),
            (
                &class,
                json!({"spec": {"overhead": {"cpu": "0.01"}, "nodeSelector": {"zone": "z", "runtime": "ours"},
                    "tolerations": [{"key": "b"}, {"key": "a", "operator": "Exists"}]}}),
                Ok(json!({"spec": {"overhead": {"cpu": "0.01"}, "nodeSelector": {"zone": "z", "runtime": "ours"},
                    "tolerations": [{"key": "b"}, {"key": "a", "operator": "Exists"}]}})),
            ),
            (&class, json!({"spec": {"overhead": {"cpu": "20m"}}}), Err(OTHERWISE.to_owned())),
            (&class, json!({"spec": {"overhead": {"cpu": "10m", "memory": "1"}}}), Err(OTHERWISE.to_owned())),
            (
                &class,
                json!({"spec": {"nodeSelector": {"runtime": "theirs"}}}),
                Err("conflict: runtimeClass.scheduling.nodeSelector[runtime] = ours; pod.spec.nodeSelector[runtime] = theirs".to_owned()),
            ),
        ] {
            let mut given = pod.clone();
            assert_eq!(fill(class, &mut given).map(|()| given), becomes, "{pod}");
        }
    }
}

//! How important a pod is, by the PriorityClass that it names or that is the
//! default of the cluster.

use api_object::Status;
use api_registry::{Attributes, Operation};
use api_schema::tree;

use super::denied;
use crate::{
    Access,
    state::{PRIORITY_CLASSES, PriorityClass},
};

/// The classes that exist without an object.
const SYSTEM: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
const PREEMPTS: &str = "PreemptLowerPriority";

/// A pod's priority, and whether it may displace others.
pub(super) async fn of_pod(access: &Access, attributes: &mut Attributes) -> Result<(), Status> {
    let old = attributes.old_object.as_ref().map(|old| tree::get(old, "spec.priority").clone());
    let update = attributes.operation == Operation::Update;
    let Some(pod) = &mut attributes.object else { return Ok(()) };
    if update {
        if let Some(old) =
            old.filter(|old| !old.is_null() && tree::get(pod, "spec.priority").is_null())
        {
            tree::set(pod, "spec.priority", old);
        }
        return Ok(());
    }
    let named = tree::text(pod, "spec.priorityClassName").to_owned();
    let class = match named.as_str() {
        "" => match access.state().default_priority() {
            Some((name, class)) => {
                tree::set(pod, "spec.priorityClassName", name);
                class
            }
            None => PriorityClass { value: 0, is_default: false, policy: PREEMPTS.into() },
        },
        name => match find(access, name).await {
            Some(class) => class,
            None => {
                let why = format!("no PriorityClass with name {name} was found");
                return Err(denied(attributes, &why));
            }
        },
    };
    let (value, policy) = (class.value, class.policy);
    if let Some(given) = tree::int(pod, "spec.priority").filter(|given| *given != value) {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        );
        return Err(denied(attributes, &why));
    }
    let given = tree::text(pod, "spec.preemptionPolicy").to_owned();
    if !given.is_empty() && given != policy {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        );
        return Err(denied(attributes, &why));
    }
    tree::set(pod, "spec.priority", value);
    tree::set(pod, "spec.preemptionPolicy", policy);
    Ok(())
}

/// A class by name; asked for where the watch has not told of it yet.
async fn find(access: &Access, name: &str) -> Option<PriorityClass> {
    if let Some(class) = access.state().priorities.get(name) {
        return Some(class.clone());
    }
    if let Some((_, value)) = SYSTEM.iter().find(|(system, _)| *system == name) {
        return Some(PriorityClass { value: *value, is_default: false, policy: PREEMPTS.into() });
    }
    let object = access.api.get()?.get(PRIORITY_CLASSES, "", name).await.ok()?;
    serde_json::from_slice(&object.bytes).ok().map(|value| PriorityClass::of(&value))
}

/// No second default.
pub(super) fn one_default(access: &Access, attributes: &Attributes) -> Result<(), Status> {
    let Some(class) = &attributes.object else { return Ok(()) };
    if !tree::flag(class, "globalDefault") {
        return Ok(());
    }
    match access.state().default_priority() {
        Some((name, _)) if name != tree::text(class, "metadata.name") => Err(denied(
            attributes,
            &format!(
                "PriorityClass {name} is already marked as default. Only one default can exist"
            ),
        )),
        _ => Ok(()),
    }
}

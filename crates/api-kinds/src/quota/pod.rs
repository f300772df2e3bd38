//! What pods use of a quota.

use std::collections::{BTreeMap, BTreeSet};

use api_object::{Quantity, time};
use api_schema::tree;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Amounts, amounts};

/// Names without a device's domain.
const PLAIN: [&str; 10] = [
    "pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];

/// Of these, every container has to ask for some once they are limited.
const TO_BE_SPECIFIED: [&str; 6] =
    ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

pub(super) fn names(name: &str) -> bool {
    let asked = name.strip_prefix("requests.");
    PLAIN.contains(&name)
        || name.starts_with("hugepages-")
        || asked.is_some_and(|name| name.starts_with("hugepages-") || name.contains('/'))
}

/// A pod that has ended, or should have, is only counted as an object.
pub(super) fn usage(pod: &Value, now: Timestamp) -> Amounts {
    if is_over(pod, now) {
        return Amounts::new();
    }
    let mut used = named(&amounts::requests(pod), &amounts::limits(pod));
    used.insert("pods".into(), Quantity::from_units(1));
    used
}

fn is_over(pod: &Value, now: Timestamp) -> bool {
    if matches!(tree::text(pod, "status.phase"), "Succeeded" | "Failed") {
        return true;
    }
    ends_at(pod).is_some_and(|end| now > end)
}

/// When one that is being deleted should have ended: one whose node is silent is
/// not waited for for ever.
pub(super) fn ends_at(pod: &Value) -> Option<Timestamp> {
    let deleted = time::parse(tree::text(pod, "metadata.deletionTimestamp"))?;
    let grace = tree::int(pod, "metadata.deletionGracePeriodSeconds")?;
    Some(deleted.saturating_add(SignedDuration::from_secs(grace)).unwrap_or(deleted))
}

/// As quotas call them.
fn named(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::new();
    for (name, amount) in requests {
        let is_device = name.contains('/');
        if is_device
            || matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage")
            || is_huge(name)
        {
            used.insert(format!("requests.{name}"), *amount);
            if !is_device {
                used.insert(name.clone(), *amount);
            }
        }
    }
    for (name, amount) in limits {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            used.insert(format!("limits.{name}"), *amount);
        }
    }
    used
}

fn is_huge(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// `must specify cpu for: a,b; limits.memory for: a`
pub(super) fn unspecified(names: &[&str], pod: &Value) -> Option<String> {
    let required: Vec<&str> =
        names.iter().copied().filter(|name| TO_BE_SPECIFIED.contains(name)).collect();
    // What is said for the whole pod need not be said again.
    let of = |holder: &Value| {
        let list = |which: &str| super::amounts(tree::get(holder, which));
        named(&list("resources.requests"), &list("resources.limits"))
    };
    let of_pod = of(tree::get(pod, "spec"));
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let lists = ["spec.containers", "spec.initContainers"];
    for container in lists.into_iter().flat_map(|list| tree::list(pod, list)) {
        let given = of(container);
        for name in &required {
            if !given.contains_key(*name) && !of_pod.contains_key(*name) {
                missing.entry(name).or_default().insert(tree::text(container, "name"));
            }
        }
    }
    if missing.is_empty() {
        return None;
    }
    let parts = missing.into_iter().map(|(name, containers)| {
        let containers: Vec<&str> = containers.into_iter().collect();
        format!("{name} for: {}", containers.join(","))
    });
    Some(format!("must specify {}", parts.collect::<Vec<_>>().join("; ")))
}

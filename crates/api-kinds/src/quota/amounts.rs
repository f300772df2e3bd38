//! What a pod asks for, and what it may take at most.

use api_object::Quantity;
use api_schema::tree;
use serde_json::Value;

use super::Amounts;

fn list(holder: &Value, which: &str) -> Amounts {
    super::amounts(tree::get(holder, which))
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        *sum.entry(name.clone()).or_default() += *amount;
    }
}

fn raise(most: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let known = most.entry(name.clone()).or_default();
        if *amount > *known {
            *known = *amount;
        }
    }
}

/// The most that a pod's containers have at one moment of its life: all of them
/// together with its sidecars, or an init container beside the sidecars before
/// it. Amounts of the pod itself stand for those of its containers.
fn of(pod: &Value, which: &str) -> Amounts {
    let resources = format!("resources.{which}");
    let (mut running, mut sidecars, mut starting) =
        (Amounts::new(), Amounts::new(), Amounts::new());
    for container in tree::list(pod, "spec.containers") {
        add(&mut running, &list(container, &resources));
    }
    for container in tree::list(pod, "spec.initContainers") {
        let own = list(container, &resources);
        if tree::text(container, "restartPolicy") == "Always" {
            add(&mut sidecars, &own);
            raise(&mut starting, &sidecars);
        } else {
            let mut moment = sidecars.clone();
            add(&mut moment, &own);
            raise(&mut starting, &moment);
        }
    }
    add(&mut running, &sidecars);
    raise(&mut running, &starting);
    running.extend(list(tree::get(pod, "spec"), &resources));
    running
}

/// What the scheduler reserves for a pod.
pub fn requests(pod: &Value) -> Amounts {
    let mut requests = of(pod, "requests");
    add(&mut requests, &list(pod, "spec.overhead"));
    requests
}

/// What a pod may take at most, where that is limited.
pub fn limits(pod: &Value) -> Amounts {
    let mut limits = of(pod, "limits");
    for (name, amount) in list(pod, "spec.overhead") {
        // Without a limit there is nothing to add to.
        if let Some(limit) = limits.get_mut(&name).filter(|limit: &&mut Quantity| !limit.is_zero())
        {
            *limit += amount;
        }
    }
    limits
}

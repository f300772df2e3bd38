//! What objects use of a ResourceQuota: pure reckoning, shared by the admission
//! that charges and the controller that counts again.
//!
//! A row of [`KINDS`] says what one kind uses beside being counted; every kind
//! there is can be limited by `count/<plural>.<group>`.

mod amounts;
mod pod;
mod scope;

use std::collections::BTreeMap;

use api_object::Quantity;
use api_schema::tree;
use jiff::Timestamp;
use serde_json::Value;

pub use amounts::{limits, requests};
pub use scope::{Scope, marks};

/// Resource name to amount.
pub type Amounts = BTreeMap<String, Quantity>;

/// What is counted of one kind beyond its objects.
struct Kind {
    plural: &'static str,
    /// Whether an update may change what is used.
    on_update: bool,
    /// Whether a name in `spec.hard` is about it.
    names: fn(&str) -> bool,
    usage: fn(&Value, Timestamp) -> Amounts,
}

/// All are of the core group.
const KINDS: &[Kind] = &[
    Kind { plural: "pods", on_update: false, names: pod::names, usage: pod::usage },
    Kind {
        plural: "services",
        on_update: true,
        names: |name| ["services", "services.nodeports", "services.loadbalancers"].contains(&name),
        usage: service,
    },
    Kind {
        plural: "persistentvolumeclaims",
        on_update: true,
        names: |name| {
            ["persistentvolumeclaims", "requests.storage"].contains(&name)
                || name.contains(STORAGE_CLASS)
        },
        usage: claim,
    },
    Kind {
        plural: "configmaps",
        on_update: false,
        names: |name| name == "configmaps",
        usage: |_, _| one("configmaps"),
    },
    Kind {
        plural: "secrets",
        on_update: false,
        names: |name| name == "secrets",
        usage: |_, _| one("secrets"),
    },
    Kind {
        plural: "replicationcontrollers",
        on_update: false,
        names: |name| name == "replicationcontrollers",
        usage: |_, _| one("replicationcontrollers"),
    },
    Kind {
        plural: "resourcequotas",
        on_update: false,
        names: |name| name == "resourcequotas",
        usage: |_, _| one("resourcequotas"),
    },
];

/// A claim's class, from before there was a field for it.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// `gold.storageclass.storage.k8s.io/requests.storage`
const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";

fn kind(group: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| group.is_empty() && kind.plural == plural)
}

fn one(name: &str) -> Amounts {
    [(name.to_owned(), Quantity::from_units(1))].into()
}

fn count_name(group: &str, plural: &str) -> String {
    match group {
        "" => format!("count/{plural}"),
        group => format!("count/{plural}.{group}"),
    }
}

/// Whether an update may change what an object uses.
pub fn counts_updates(group: &str, plural: &str) -> bool {
    kind(group, plural).is_some_and(|kind| kind.on_update)
}

/// What an object uses.
pub fn usage(group: &str, plural: &str, object: &Value, now: Timestamp) -> Amounts {
    let mut used = kind(group, plural).map_or_else(Amounts::new, |kind| (kind.usage)(object, now));
    used.insert(count_name(group, plural), Quantity::from_units(1));
    used
}

/// After when an object uses less by mere passing of time, where that is still to come.
pub fn until(group: &str, plural: &str, object: &Value, now: Timestamp) -> Option<Timestamp> {
    let is_pod = kind(group, plural).is_some_and(|kind| kind.plural == "pods");
    pod::ends_at(object).filter(|end| is_pod && *end >= now)
}

/// Those of the names in `hard` that a kind uses.
pub fn names_of<'a>(
    group: &str,
    plural: &str,
    hard: impl Iterator<Item = &'a str>,
) -> Vec<&'a str> {
    let (kind, count) = (kind(group, plural), count_name(group, plural));
    hard.filter(|name| *name == count || kind.is_some_and(|kind| (kind.names)(name))).collect()
}

/// The kinds, as group and plural, of which something is limited by a name.
pub fn kinds_of(name: &str) -> Vec<(String, String)> {
    if let Some(counted) = name.strip_prefix("count/") {
        let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
        return vec![(group.to_owned(), plural.to_owned())];
    }
    let kinds = KINDS.iter().filter(|kind| (kind.names)(name));
    kinds.map(|kind| (String::new(), kind.plural.to_owned())).collect()
}

/// What an object has to say and does not, in upstream's words: a quota of CPU
/// or memory wants every container to ask for some.
pub fn unspecified(group: &str, plural: &str, names: &[&str], object: &Value) -> Option<String> {
    kind(group, plural)
        .filter(|kind| kind.plural == "pods")
        .and_then(|_| pod::unspecified(names, object))
}

/// What of a container counts.
const OF_CONTAINERS: [&str; 3] = ["name", "resources", "restartPolicy"];
/// What of a spec counts, whatever the kind.
const OF_SPECS: [&str; 15] = [
    "activeDeadlineSeconds",
    "affinity",
    "allocateLoadBalancerNodePorts",
    "containers",
    "hard",
    "initContainers",
    "overhead",
    "ports",
    "priorityClassName",
    "resources",
    "scopeSelector",
    "scopes",
    "storageClassName",
    "type",
    "volumeAttributesClassName",
];

/// Leaves of an object what [`usage`] and [`Scope::holds`] look at, for those
/// who keep many.
pub fn prune(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    object.retain(|field, _| ["metadata", "spec", "status"].contains(&field.as_str()));
    let keep = |value: Option<&mut Value>, fields: &[&str]| {
        if let Some(map) = value.and_then(Value::as_object_mut) {
            map.retain(|field, _| fields.contains(&field.as_str()));
        }
    };
    let of_metadata = ["annotations", "deletionTimestamp", "deletionGracePeriodSeconds"];
    keep(object.get_mut("metadata"), &of_metadata);
    let annotations = object.get_mut("metadata").and_then(|meta| meta.get_mut("annotations"));
    keep(annotations, &[OLD_CLASS]);
    keep(object.get_mut("spec"), &OF_SPECS);
    let of_status =
        ["phase", "allocatedResources", "currentVolumeAttributesClassName", "modifyVolumeStatus"];
    keep(object.get_mut("status"), &of_status);
    for list in ["containers", "initContainers"] {
        let containers = object.get_mut("spec").and_then(|spec| spec.get_mut(list));
        for container in containers.and_then(Value::as_array_mut).into_iter().flatten() {
            keep(Some(container), &OF_CONTAINERS);
        }
    }
}

/// `spec.hard` or a status' list as amounts; what is no quantity is left out,
/// since validation lets none pass.
pub fn amounts(list: &Value) -> Amounts {
    let entries = list.as_object().into_iter().flatten();
    entries
        .filter_map(|(name, amount)| Some((name.clone(), Quantity::parse(amount.as_str()?).ok()?)))
        .collect()
}

/// `cpu=1,pods=2`, as upstream prints it.
pub fn print(amounts: &Amounts) -> String {
    let parts = amounts.iter().map(|(name, amount)| format!("{name}={amount}"));
    parts.collect::<Vec<_>>().join(",")
}

fn service(service: &Value, _: Timestamp) -> Amounts {
    let ports = tree::list(service, "spec.ports");
    let allocates = tree::get(service, "spec.allocateLoadBalancerNodePorts") != false;
    let explicit = || ports.iter().filter(|port| tree::int(port, "nodePort").unwrap_or(0) != 0);
    let (node_ports, balancers) = match tree::text(service, "spec.type") {
        "NodePort" => (ports.len(), 0),
        "LoadBalancer" if allocates => (ports.len(), 1),
        "LoadBalancer" => (explicit().count(), 1),
        _ => (0, 0),
    };
    let mut used = one("services");
    let units = |n: usize| Quantity::from_units(i64::try_from(n).unwrap_or(i64::MAX));
    used.insert("services.nodeports".into(), units(node_ports));
    used.insert("services.loadbalancers".into(), units(balancers));
    used
}

fn claim(claim: &Value, _: Timestamp) -> Amounts {
    let amount = |path: &str| {
        tree::get(claim, path)
            .get("storage")
            .and_then(Value::as_str)
            .and_then(|text| Quantity::parse(text).ok())
    };
    // An expansion that did not come to its end holds what it was for.
    let storage = amount("spec.resources.requests").max(amount("status.allocatedResources"));
    let annotations = tree::get(claim, "metadata.annotations");
    let class = annotations
        .get(OLD_CLASS)
        .and_then(Value::as_str)
        .unwrap_or_else(|| tree::text(claim, "spec.storageClassName"));
    let mut used = one("persistentvolumeclaims");
    if !class.is_empty() {
        let name = format!("{class}{STORAGE_CLASS}persistentvolumeclaims");
        used.insert(name, Quantity::from_units(1));
    }
    if let Some(storage) = storage {
        used.insert("requests.storage".into(), storage);
        if !class.is_empty() {
            used.insert(format!("{class}{STORAGE_CLASS}requests.storage"), storage);
        }
    }
    used
}

#[cfg(test)]
mod tests;

//! The cluster as the store has it, write by write.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

pub(crate) const LEASES: &str = "coordination.k8s.io/leases";

/// So many of the last writes are told with a failure.
const TOLD: usize = 60;

/// One write.
#[derive(Debug)]
pub struct Change<'a> {
    /// `group/resource`.
    pub resource: &'a str,
    /// `namespace/name`.
    pub key: &'a str,
    /// Before; absent for a creation.
    pub old: Option<&'a Value>,
    /// After; absent for the end of an object.
    pub new: Option<&'a Value>,
}

/// Every object as of the last write, and the writes before it.
#[derive(Debug, Default)]
pub struct Cluster {
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    last: VecDeque<String>,
    /// Over all writes; two runs of a seed have the same.
    pub(crate) hash: u64,
}

impl Cluster {
    /// The objects of a `group/resource` by `namespace/name`.
    pub fn all(&self, resource: &str) -> impl Iterator<Item = (&str, &Value)> {
        let objects = self.objects.get(resource).into_iter().flatten();
        objects.map(|(key, object)| (key.as_str(), object))
    }

    /// One object.
    pub fn get(&self, resource: &str, key: &str) -> Option<&Value> {
        self.objects.get(resource)?.get(key)
    }

    /// Every object with its resource.
    pub(crate) fn everything(&self) -> impl Iterator<Item = (&str, &Value)> {
        let all = self.objects.iter();
        all.flat_map(|(resource, of)| of.values().map(move |object| (resource.as_str(), object)))
    }

    /// Those of `resource` that the object with this uid controls.
    pub fn controlled<'a>(&'a self, resource: &str, uid: &'a str) -> Vec<&'a Value> {
        self.all(resource)
            .map(|(_, object)| object)
            .filter(|object| controller(object).is_some_and(|owner| owner == uid))
            .collect()
    }

    /// Takes a write in; returns what was there before.
    pub(crate) fn apply(
        &mut self,
        resource: &str,
        key: &str,
        revision: u64,
        at: &str,
        new: Option<Value>,
    ) -> Option<Value> {
        // Renewed for ever, by nobody who is looked at.
        if resource != LEASES {
            self.note(format!("{at} {revision} {resource} {key}: {}", in_short(new.as_ref())));
        }
        let of = self.objects.entry(resource.to_owned()).or_default();
        match new {
            Some(new) => of.insert(key.to_owned(), new),
            None => of.remove(key),
        }
    }

    fn note(&mut self, line: String) {
        for byte in line.bytes() {
            // FNV-1a
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.last.push_back(line);
        if self.last.len() > TOLD {
            self.last.pop_front();
        }
    }

    /// The last writes, a line each.
    pub(crate) fn last(&self) -> String {
        self.last.iter().fold(String::new(), |text, line| text + "  " + line + "\n")
    }
}

/// What somebody who reads a failure wants to see of an object.
fn in_short(object: Option<&Value>) -> String {
    let Some(object) = object else { return "gone".into() };
    let manager = object["metadata"]["managedFields"]
        .as_array()
        .and_then(|all| all.iter().max_by_key(|entry| entry["time"].as_str().map(str::to_owned)));
    let manager = manager.and_then(|entry| entry["manager"].as_str()).unwrap_or("?");
    let mut text = format!("by {manager}");
    for (name, pointer) in [
        ("replicas", "/spec/replicas"),
        ("node", "/spec/nodeName"),
        ("phase", "/status/phase"),
        ("deleting", "/metadata/deletionTimestamp"),
        ("counted", "/status/replicas"),
        ("succeeded", "/status/succeeded"),
        ("failed", "/status/failed"),
        ("uncounted", "/status/uncountedTerminatedPods"),
    ] {
        match object.pointer(pointer) {
            None | Some(Value::Null) => {}
            Some(Value::String(value)) => text += &format!(" {name}={value}"),
            Some(value) => text += &format!(" {name}={value}"),
        }
    }
    text
}

/// An object's own uid.
pub(crate) fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

/// The uid of the owner that is an object's controller.
pub(crate) fn controller(object: &Value) -> Option<&str> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)?["uid"].as_str()
}

/// Whether a pod counts: not being deleted and not at its end.
pub(crate) fn is_active(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null()
        && !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// Whether an object has this condition with status True.
pub(crate) fn has_condition(object: &Value, name: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|c| c["type"] == name && c["status"] == "True")
}

//! A cluster from objects, and what is decided on it.

use std::sync::Arc;

use client::{Cached, Change, View};
use serde_json::{Value, json};
use testkit::{Build, pod};

use crate::{Cluster, Configuration, Decision, Pod, Profile, decide};

fn new<V: View>(object: &Build) -> Change<V> {
    let cached = Cached::read(object.object(), false).expect("the builders build objects");
    Change { old: None, new: Some(Arc::new(cached)) }
}

/// A cluster with these objects in it.
pub(super) fn cluster(objects: &[Build]) -> Cluster {
    let mut cluster = Cluster::default();
    for object in objects {
        let kind = object.json()["kind"].as_str().expect("objects have a kind").to_owned();
        match kind.as_str() {
            "Node" => drop(cluster.node_changed(&new(object))),
            "Pod" => drop(cluster.pod_changed(&new(object))),
            "Namespace" => drop(cluster.namespace_changed(&new(object))),
            "Service" => cluster.owners.service_changed(&new(object)),
            "PodDisruptionBudget" => cluster.budget_changed(&new(object)),
            "PersistentVolumeClaim" => drop(cluster.volumes.claim_changed(&new(object))),
            "PersistentVolume" => drop(cluster.volumes.volume_changed(&new(object))),
            "StorageClass" => drop(cluster.volumes.class_changed(&new(object))),
            "CSINode" => drop(cluster.volumes.csi_node_changed(&new(object))),
            "CSIDriver" => drop(cluster.volumes.csi_driver_changed(&new(object))),
            "CSIStorageCapacity" => drop(cluster.volumes.capacity_changed(&new(object))),
            "VolumeAttachment" => drop(cluster.volumes.attachment_changed(&new(object))),
            kind => cluster.owners.controller_changed(kind, &new(object)),
        }
    }
    cluster
}

pub(super) fn waiting(pod: &Build) -> Arc<Cached<Pod>> {
    new(pod).new.expect("just made")
}

/// Decides, by a profile.
pub(super) fn decision(incoming: &Build, objects: &[Build], profile: &Profile) -> Decision {
    decide(&cluster(objects), &waiting(incoming), profile, 0)
}

/// Where the pod goes, or why nowhere; with the names of those who have to go.
pub(super) fn outcome(incoming: &Build, objects: &[Build]) -> String {
    outcome_by(incoming, objects, &Profile::default())
}

pub(super) fn outcome_by(incoming: &Build, objects: &[Build], profile: &Profile) -> String {
    match decision(incoming, objects, profile) {
        Decision::Bind { node, binds } if binds.is_empty() => node,
        Decision::Bind { node, binds } => format!("{node} {binds:?}"),
        Decision::Unschedulable(why) => match why.preemption {
            None => why.message,
            Some(room) => {
                let names: Vec<&str> = room.victims.iter().map(|v| v.meta.name.as_str()).collect();
                format!("{} instead of {}", room.node, names.join(" "))
            }
        },
    }
}

/// One situation: a word for it, the pod, what is there, and what comes of it.
pub(super) type Situation = (&'static str, Build, Vec<Build>, &'static str);

/// Every row, and all that are wrong at once.
#[track_caller]
pub(super) fn check(table: Vec<Situation>) {
    let mut wrong = Vec::new();
    for (what, incoming, objects, wanted) in table {
        let got = outcome(&incoming, &objects);
        // What preemption would have said is told by its own table.
        let cuts = [" no new claims to deallocate", " still not schedulable"];
        let head = cuts.iter().fold(got.as_str(), |head, cut| head.split(cut).next().unwrap_or(""));
        let head = match head.strip_suffix(" not found") {
            Some(head) if head.ends_with('.') => head,
            _ => head,
        };
        if got != wanted && head != wanted {
            wrong.push(format!("{what}: {got:?}, wanted {wanted:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A profile with one plugin's arguments.
pub(super) fn profile(plugin: &str, args: Value) -> Profile {
    let given = json!({"profiles": [{"pluginConfig": [{"name": plugin, "args": args}]}]});
    Configuration::read(&given).expect("valid").profiles.swap_remove(0)
}

/// An object of any kind.
pub(super) fn object(api_version: &str, kind: &str, key: &str) -> Build {
    // The builder of pods knows keys; everything else is overwritten.
    pod(key)
        .set("/apiVersion", json!(api_version))
        .set("/kind", json!(kind))
        .set("/spec", json!({}))
        .set("/status", json!({}))
}

pub(super) fn zone(node: Build, zone: &str) -> Build {
    node.label("topology.kubernetes.io/zone", zone)
}

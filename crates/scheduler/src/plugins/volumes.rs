//! The four plugins that look at a pod's volumes.

use std::collections::BTreeMap;

use api_object::Meta;
use client::Cached;

use super::{Filter, Rejection, Start, Task};
use crate::{Node, Pod};

/// `VolumeBinding`: where its claims have, find or get their volumes.
pub(super) fn binding<'a>(task: &Task<'a>) -> Start<'a> {
    if task.pod.view.claims.is_empty() {
        return Start::Skip;
    }
    let volumes = &task.cluster.volumes;
    match volumes.claims_of(task.pod) {
        Err(reason) => Start::Never(Rejection::never(reason)),
        Ok(claims) => Start::each(move |node: &Node| {
            let reasons = volumes.on_node(&claims, node).err()?;
            let reasons = reasons.into_iter().map(Into::into).collect();
            Some(Rejection { reasons, preemption_helps: false })
        }),
    }
}

const ZONE_LABELS: [&str; 4] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];

/// `VolumeZone`: volumes that are labelled with a zone are used there.
pub(super) fn zone<'a>(task: &Task<'a>) -> Start<'a> {
    let volumes = &task.cluster.volumes;
    let mut wanted: Vec<(&str, Vec<&str>)> = Vec::new();
    for at in 0..task.pod.view.claims.len() {
        let claim = match volumes.claim_of(task.pod, at) {
            Ok(claim) => claim,
            Err(reason) => return Start::Never(Rejection::never(reason)),
        };
        let Some(volume) = volumes.volumes.get(&claim.view.spec.volume_name) else { continue };
        for key in ZONE_LABELS {
            if let Some(value) = volume.meta.labels.get(key) {
                // `a__b` is a volume that is in both.
                wanted.push((key, value.split("__").collect()));
            }
        }
    }
    if wanted.is_empty() {
        return Start::Skip;
    }
    Start::each(move |node: &Node| {
        let label = |key: &str| value(&node.object.meta, key);
        // A node that says nothing of zones is in all of them.
        if ZONE_LABELS.iter().all(|key| label(key).is_none()) {
            return None;
        }
        let fits =
            |(key, values): &(&str, Vec<&str>)| label(key).is_some_and(|v| values.contains(&v));
        (!wanted.iter().all(fits)).then(|| Rejection::never("node(s) had no available volume zone"))
    })
}

/// A label by its present name or by its old one.
fn value<'a>(node: &'a Meta, key: &str) -> Option<&'a str> {
    let other = match ZONE_LABELS.iter().position(|known| *known == key) {
        Some(at) => ZONE_LABELS[(at + 2) % 4],
        None => key,
    };
    node.labels.get(key).or_else(|| node.labels.get(other)).map(String::as_str)
}

/// `NodeVolumeLimits`: how many volumes a node takes.
pub(super) fn limits<'a>(task: &Task<'a>) -> Start<'a> {
    if task.pod.view.claims.is_empty() {
        return Start::Skip;
    }
    let (pod, volumes) = (task.pod, &task.cluster.volumes);
    Start::each(move |node: &Node| volumes.over_limit(pod, node).map(Rejection::crowded))
}

/// `VolumeRestrictions`: disks that one node can have, and claims that one
/// pod can have (`ReadWriteOncePod`).
pub(super) fn restrictions<'a>(task: &Task<'a>) -> Start<'a> {
    let (pod, volumes) = (task.pod, &task.cluster.volumes);
    let mut single = BTreeMap::new();
    for at in 0..pod.view.claims.len() {
        match volumes.claim_of(pod, at) {
            Err(reason) => return Start::Never(Rejection::never(reason)),
            Ok(claim) => {
                if claim.view.spec.access_modes.iter().any(|mode| mode == "ReadWriteOncePod") {
                    let key = claim.key();
                    let users = i64::try_from(volumes.users(&key)).unwrap_or(i64::MAX);
                    single.insert(key, users);
                }
            }
        }
    }
    match single.is_empty() && pod.view.disks.is_empty() {
        true => Start::Skip,
        false => Start::each(Restrictions { pod, single }),
    }
}

struct Restrictions<'a> {
    pod: &'a Cached<Pod>,
    /// How many pods use each claim that only one may use.
    single: BTreeMap<String, i64>,
}

impl Filter for Restrictions<'_> {
    fn check(&self, node: &Node) -> Option<Rejection> {
        let others = || node.pods.iter().flat_map(|other| &other.view.disks);
        if self.pod.view.disks.iter().any(|disk| others().any(|other| disk.conflicts(other))) {
            return Some(Rejection::crowded("node(s) had no available disk"));
        }
        self.single.values().any(|users| *users > 0).then(|| {
            Rejection::crowded(
                "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
            )
        })
    }

    fn moved(&mut self, pod: &Cached<Pod>, _: &Node, sign: i64) {
        for claim in &pod.view.claims {
            let key = format!("{}/{}", pod.meta.namespace, claim.name);
            if let Some(users) = self.single.get_mut(&key) {
                *users += sign;
            }
        }
    }
}

//! The volumes of a pod on a node: those that it has, those that match, those
//! that could be made.

use std::{collections::BTreeSet, sync::Arc};

use api_object::LabelSelector;
use client::Cached;

use super::{
    Bind, Binds, Volumes,
    view::{Claim, SELECTED_NODE, Volume, class_of, is_bound, is_meant_for, storage},
};
use crate::{Node, Pod, plugins::node_affinity};

/// Upstream's words.
const CONFLICT: &str = "node(s) didn't match PersistentVolume's node affinity";
const NONE_FITS: &str = "node(s) didn't find available persistent volumes to bind";
const NO_SPACE: &str = "node(s) did not have enough free storage";
const VOLUME_GONE: &str =
    "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";

/// The claims of a pod, as they stand.
#[derive(Debug, Default)]
pub(crate) struct PodClaims {
    /// Those that have a volume.
    pub(crate) bound: Vec<Arc<Cached<Claim>>>,
    /// Those that get one where the pod goes.
    pub(crate) waiting: Vec<Arc<Cached<Claim>>>,
}

/// Why a pod cannot run anywhere, in upstream's words.
pub(crate) type ClaimError = String;

/// The binds that a node needs, or the reasons against it.
pub(crate) type BoundOr = Result<Binds, Vec<&'static str>>;

impl Volumes {
    /// A pod's claim, if it may use it.
    pub(crate) fn claim_of(
        &self,
        pod: &Cached<Pod>,
        at: usize,
    ) -> Result<&Arc<Cached<Claim>>, ClaimError> {
        let claimed = &pod.view.claims[at];
        let name = &claimed.name;
        let key = format!("{}/{name}", pod.meta.namespace);
        let claim = self.claims.get(&key).ok_or_else(|| match claimed.is_ephemeral {
            true => format!(
                "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
            ),
            false => format!("persistentvolumeclaim {name:?} not found"),
        })?;
        if claim.view.status.phase == "Lost" {
            let volume = &claim.view.spec.volume_name;
            return Err(format!(
                "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
            ));
        }
        if claim.meta.deletion_timestamp.is_some() {
            return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
        }
        let owned = claim.meta.controller().is_some_and(|owner| owner.uid == pod.meta.uid);
        if claimed.is_ephemeral && !owned {
            let pod = pod.key();
            return Err(format!("PVC {key:?} was not created for pod {pod:?} (pod is not owner)"));
        }
        Ok(claim)
    }

    /// All claims of a pod.
    ///
    /// # Errors
    /// Where one is not there, or is left to others and not ready.
    pub(crate) fn claims_of(&self, pod: &Cached<Pod>) -> Result<PodClaims, ClaimError> {
        let mut claims = PodClaims::default();
        let mut immediate = false;
        for at in 0..pod.view.claims.len() {
            let claim = self.claim_of(pod, at)?;
            let class = self.classes.get(class_of(claim));
            let waits = class.is_some_and(|class| {
                class.view.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
            });
            if is_bound(claim) {
                claims.bound.push(claim.clone());
            } else if waits && claim.view.spec.volume_name.is_empty() {
                claims.waiting.push(claim.clone());
            } else {
                immediate = true;
            }
        }
        match immediate {
            true => Err("pod has unbound immediate PersistentVolumeClaims".into()),
            false => Ok(claims),
        }
    }

    /// What has to be bound or made for a pod to run on a node.
    pub(crate) fn on_node(&self, claims: &PodClaims, node: &Node) -> BoundOr {
        let mut reasons = Vec::new();
        for claim in &claims.bound {
            match self.volumes.get(&claim.view.spec.volume_name) {
                None => reasons.push(VOLUME_GONE),
                Some(volume) if !is_reachable(volume, node) => reasons.push(CONFLICT),
                Some(_) => {}
            }
        }
        let mut binds = Binds::new();
        let mut chosen = BTreeSet::new();
        // Small claims first, so that they leave the large volumes.
        let mut waiting: Vec<&Arc<Cached<Claim>>> = claims.waiting.iter().collect();
        waiting.sort_by_key(|claim| (storage(&claim.view.spec.resources.requests), claim.key()));
        for claim in waiting {
            let key = claim.key();
            let asked = claim.meta.annotations.get(SELECTED_NODE);
            let selected = match self.assumed.get(&key) {
                Some(Bind::New(node)) => Some(node),
                Some(Bind::Volume(volume)) => {
                    let volume = self.volumes.get(volume);
                    if !volume.is_some_and(|volume| is_reachable(volume, node)) {
                        reasons.push(NONE_FITS);
                    }
                    continue;
                }
                None => asked,
            };
            if selected.is_some_and(|selected| selected != node.name()) {
                reasons.push(NONE_FITS);
                continue;
            }
            // Where one is being made already, none is looked for.
            let volume = match selected {
                Some(_) => None,
                None => self.matching(claim, node, &chosen),
            };
            if let Some(volume) = volume {
                chosen.insert(volume.meta.name.clone());
                binds.push((key, Bind::Volume(volume.meta.name.clone())));
                continue;
            }
            match self.can_make(claim, node) {
                Ok(()) => binds.push((key, Bind::New(node.name().to_owned()))),
                Err(reason) => reasons.push(reason),
            }
        }
        reasons.sort_unstable();
        reasons.dedup();
        if reasons.is_empty() { Ok(binds) } else { Err(reasons) }
    }

    /// The smallest free volume that a claim can have on a node.
    fn matching(
        &self,
        claim: &Cached<Claim>,
        node: &Node,
        chosen: &BTreeSet<String>,
    ) -> Option<&Arc<Cached<Volume>>> {
        let wanted = &claim.view.spec;
        let size = storage(&wanted.resources.requests);
        let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".into());
        let selector = wanted.selector.as_ref();
        let selector = selector.map(|selector| LabelSelector::from_object(selector).ok());
        let there = self.by_class.get(class_of(claim)).into_iter().flat_map(|map| map.values());
        let big_enough = there.filter(|volume| {
            let offered = &volume.view.spec;
            let name = &volume.meta.name;
            let taken = self.assumed_volumes.get(name).is_some_and(|by| *by != claim.key());
            !taken
                && !chosen.contains(name)
                && volume.meta.deletion_timestamp.is_none()
                && mode(&offered.volume_mode) == mode(&wanted.volume_mode)
                && offered.volume_attributes_class_name.as_deref().unwrap_or("")
                    == wanted.volume_attributes_class_name.as_deref().unwrap_or("")
                && storage(&offered.capacity) >= size
        });
        let (own, others): (Vec<_>, Vec<_>) =
            big_enough.partition(|volume| is_meant_for(&volume.view, &claim.meta));
        // Who has one put aside gets no other, where it cannot be used either.
        if let Some(own) = smallest(own.into_iter()) {
            return is_reachable(own, node).then_some(own);
        }
        let is_free = |volume: &&Arc<Cached<Volume>>| {
            let offered = &volume.view.spec;
            offered.claim_ref.is_none()
                && volume.view.status.phase == "Available"
                && wanted.access_modes.iter().all(|m| offered.access_modes.contains(m))
                && selector.as_ref().is_none_or(|selector| {
                    selector.as_ref().is_some_and(|s| s.matches(&volume.meta.labels))
                })
                && is_reachable(volume, node)
        };
        smallest(others.into_iter().filter(is_free))
    }

    /// Whether a volume for a claim can be made on a node.
    fn can_make(&self, claim: &Cached<Claim>, node: &Node) -> Result<(), &'static str> {
        let name = class_of(claim);
        let class = self.classes.get(name).ok_or(NONE_FITS)?;
        let provisioner = class.view.provisioner.as_str();
        if matches!(provisioner, "" | "kubernetes.io/no-provisioner") {
            return Err(NONE_FITS);
        }
        let topologies = &class.view.allowed_topologies;
        let allowed = topologies.is_empty()
            || topologies.iter().any(|term| {
                term.match_label_expressions.iter().all(|wanted| {
                    node.labels().get(&wanted.key).is_some_and(|v| wanted.values.contains(v))
                })
            });
        if !allowed {
            return Err(NONE_FITS);
        }
        let driver = self.csi_drivers.get(provisioner);
        if driver.is_none_or(|driver| driver.view.spec.storage_capacity != Some(true)) {
            return Ok(());
        }
        let size = storage(&claim.view.spec.resources.requests);
        let has_room = self.capacities.values().any(|capacity| {
            let largest = capacity.view.maximum_volume_size.or(capacity.view.capacity);
            let topology = capacity.view.node_topology.as_ref();
            let topology = topology.and_then(|topology| LabelSelector::from_object(topology).ok());
            capacity.view.storage_class_name == name
                && largest.is_some_and(|largest| largest.units() >= size)
                && topology.is_some_and(|topology| topology.matches(node.labels()))
        });
        if has_room { Ok(()) } else { Err(NO_SPACE) }
    }
}

fn smallest<'a>(
    volumes: impl Iterator<Item = &'a Arc<Cached<Volume>>>,
) -> Option<&'a Arc<Cached<Volume>>> {
    volumes.min_by_key(|volume| (storage(&volume.view.spec.capacity), volume.meta.name.clone()))
}

/// Whether a node can use a volume.
pub(crate) fn is_reachable(volume: &Cached<Volume>, node: &Node) -> bool {
    let affinity = volume.view.spec.node_affinity.as_ref();
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    required.is_none_or(|required| node_affinity::selects(required, &node.object.meta))
}

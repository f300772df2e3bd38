//! Where the volumes of a pod can be, and what has to be bound or made for it
//! to run on a node.
//!
//! The contract with the controllers is upstream's: a volume is kept for a
//! claim by its `spec.claimRef`, a new one is asked for by the claim's
//! annotation `volume.kubernetes.io/selected-node`; the controllers do the rest.

mod find;
mod limits;
mod view;

use std::{collections::BTreeMap, sync::Arc};

use client::{Cached, Change};

pub(crate) use self::view::{
    Attachment, Capacity, Claim, Class, CsiDriver, CsiNode, SELECTED_NODE, Volume, class_of,
    is_bound,
};
use crate::{Map, Node, Pod};

type Objects<V> = BTreeMap<String, Arc<Cached<V>>>;

/// What the caches know of storage, and what was decided but is not seen in
/// them yet.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    pub(crate) claims: Objects<Claim>,
    pub(crate) volumes: Objects<Volume>,
    /// Volumes that no claim has yet, by class; the others match nothing.
    by_class: BTreeMap<String, BTreeMap<String, Arc<Cached<Volume>>>>,
    pub(crate) classes: Objects<Class>,
    pub(crate) csi_nodes: Objects<CsiNode>,
    pub(crate) csi_drivers: Objects<CsiDriver>,
    pub(crate) capacities: Objects<Capacity>,
    /// By node.
    attachments: BTreeMap<String, Objects<Attachment>>,
    /// What was decided, by claim key.
    assumed: Map<String, Bind>,
    /// The claims of the volumes that were decided upon.
    assumed_volumes: Map<String, String>,
    /// How many placed pods use each claim.
    users: Map<String, usize>,
}

/// How a claim gets its volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// The volume of this name is kept for it.
    Volume(String),
    /// One is made on this node.
    New(String),
}

/// What has to be done before a pod can be bound, by claim key.
pub type Binds = Vec<(String, Bind)>;

/// Puts a change into a map; `false` where the view is the same.
fn put<V: PartialEq>(map: &mut Objects<V>, change: &Change<V>) -> bool {
    let key = change.object().key();
    match &change.new {
        None => map.remove(&key).is_some(),
        Some(new) => map.insert(key, new.clone()).is_none_or(|old| {
            old.view != new.view
                || old.meta.annotations != new.meta.annotations
                || old.meta.labels != new.meta.labels
                || old.meta.deletion_timestamp != new.meta.deletion_timestamp
        }),
    }
}

impl Volumes {
    /// A claim changed; whether that may help a pod.
    pub(crate) fn claim_changed(&mut self, change: &Change<Claim>) -> bool {
        let key = change.object().key();
        let confirmed = match (&change.new, self.assumed.get(&key)) {
            (None, _) => true,
            (Some(new), Some(Bind::New(node))) => {
                is_bound(new) || new.meta.annotations.get(SELECTED_NODE) == Some(node)
            }
            (Some(new), Some(Bind::Volume(_))) => is_bound(new),
            _ => false,
        };
        if confirmed {
            self.forget_claim(&key);
        }
        put(&mut self.claims, change)
    }

    /// A volume changed; whether that may help a pod.
    pub(crate) fn volume_changed(&mut self, change: &Change<Volume>) -> bool {
        if let Some(old) = &change.old {
            let class = &old.view.spec.storage_class_name;
            if let Some(there) = self.by_class.get_mut(class) {
                there.remove(&old.meta.name);
                if there.is_empty() {
                    self.by_class.remove(class);
                }
            }
        }
        if let Some(new) = &change.new {
            let spec = &new.view.spec;
            let taken = spec.claim_ref.as_ref().is_some_and(|claim| !claim.uid.is_empty());
            if !taken || new.view.status.phase != "Bound" {
                let there = self.by_class.entry(spec.storage_class_name.clone()).or_default();
                there.insert(new.meta.name.clone(), new.clone());
            }
        }
        put(&mut self.volumes, change)
    }

    /// What an attachment says of its node; whether that may help a pod.
    pub(crate) fn attachment_changed(&mut self, change: &Change<Attachment>) -> bool {
        let object = change.object();
        let there = self.attachments.entry(object.view.spec.node_name.clone()).or_default();
        put(there, change);
        if there.is_empty() {
            self.attachments.remove(&object.view.spec.node_name);
        }
        change.new.is_none()
    }

    /// Any other object of storage changed; whether that may help a pod.
    pub(crate) fn class_changed(&mut self, change: &Change<Class>) -> bool {
        put(&mut self.classes, change)
    }

    /// See [`Self::class_changed`].
    pub(crate) fn csi_node_changed(&mut self, change: &Change<CsiNode>) -> bool {
        put(&mut self.csi_nodes, change)
    }

    /// See [`Self::class_changed`].
    pub(crate) fn csi_driver_changed(&mut self, change: &Change<CsiDriver>) -> bool {
        put(&mut self.csi_drivers, change)
    }

    /// See [`Self::class_changed`].
    pub(crate) fn capacity_changed(&mut self, change: &Change<Capacity>) -> bool {
        put(&mut self.capacities, change)
    }

    /// A pod was placed (1) or left (−1).
    pub(crate) fn used_by(&mut self, pod: &Cached<Pod>, sign: isize) {
        for claim in &pod.view.claims {
            let key = format!("{}/{}", pod.meta.namespace, claim.name);
            let users = self.users.entry(key.clone()).or_default();
            *users = users.saturating_add_signed(sign);
            if *users == 0 {
                self.users.remove(&key);
            }
        }
    }

    /// How many placed pods use a claim.
    pub(crate) fn users(&self, claim: &str) -> usize {
        self.users.get(claim).copied().unwrap_or(0)
    }

    /// It was decided how claims get their volumes.
    pub(crate) fn assume(&mut self, binds: &Binds) {
        for (claim, bind) in binds {
            if let Bind::Volume(volume) = bind {
                self.assumed_volumes.insert(volume.clone(), claim.clone());
            }
            self.assumed.insert(claim.clone(), bind.clone());
        }
    }

    /// That came to nothing.
    pub(crate) fn forget(&mut self, binds: &Binds) {
        binds.iter().for_each(|(claim, _)| self.forget_claim(claim));
    }

    fn forget_claim(&mut self, claim: &str) {
        if let Some(Bind::Volume(volume)) = self.assumed.remove(claim) {
            self.assumed_volumes.remove(&volume);
        }
    }

    /// Whether the claims of a pod have their volumes, after `binds` was
    /// written: `Ok(false)` while the controllers are at it.
    ///
    /// # Errors
    /// Where they gave up, or somebody interfered; the pod is decided anew.
    pub(crate) fn are_bound(
        &self,
        pod: &Cached<Pod>,
        binds: &Binds,
        node: &Node,
    ) -> Result<bool, String> {
        let mut all = true;
        for claim in &pod.view.claims {
            let key = format!("{}/{}", pod.meta.namespace, claim.name);
            let known = self.claims.get(&key);
            let known = known.ok_or_else(|| format!("pvc {key:?} was deleted"))?;
            let asked = binds.iter().find(|(of, _)| *of == key).map(|(_, bind)| bind);
            let volume = &known.view.spec.volume_name;
            if asked.is_some() && !volume.is_empty() {
                // One that a provisioner made where the pod cannot have it.
                match self.volumes.get(volume) {
                    None => {
                        all = false;
                        continue;
                    }
                    Some(volume) if !find::is_reachable(volume, node) => {
                        let (volume, node) = (&volume.meta.name, node.name());
                        return Err(format!(
                            "pv {volume:?} node affinity doesn't match node {node:?}: no matching NodeSelectorTerms"
                        ));
                    }
                    Some(_) => {}
                }
            }
            if is_bound(known) {
                continue;
            }
            all = false;
            let selected = known.meta.annotations.get(SELECTED_NODE).map(String::as_str);
            if let Some(Bind::New(_)) = asked
                && !self.assumed.contains_key(&key)
                && selected != Some(node.name())
            {
                return Err(format!("provisioning failed for PVC {:?}", claim.name));
            }
        }
        Ok(all)
    }
}

//! Who owns whom, of every object in the cluster. Only what the decisions
//! need is kept: about 200 bytes an object.

use std::collections::{BTreeMap, BTreeSet};

use api_object::{Meta, OwnerReference};
use client::Resource;

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";

/// An object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) resource: Resource,
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
    pub(super) owners: Box<[Owner]>,
    /// Its deletion was asked for.
    pub(super) deleting: bool,
    /// It waits for its dependents to be deleted.
    pub(super) foreground: bool,
    /// It waits for its dependents to be set free.
    pub(super) orphan: bool,
}

/// A reference to an owner.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Owner {
    pub(super) uid: Box<str>,
    pub(super) api_version: Box<str>,
    pub(super) kind: Box<str>,
    pub(super) name: Box<str>,
    pub(super) blocks: bool,
}

impl Node {
    pub(super) fn new(resource: Resource, meta: &Meta) -> Self {
        let has = |finalizer: &str| meta.finalizers.iter().any(|known| known == finalizer);
        let owner = |reference: &OwnerReference| Owner {
            uid: reference.uid.as_str().into(),
            api_version: reference.api_version.as_str().into(),
            kind: reference.kind.as_str().into(),
            name: reference.name.as_str().into(),
            blocks: reference.block_owner_deletion == Some(true),
        };
        Self {
            resource,
            namespace: meta.namespace.as_str().into(),
            name: meta.name.as_str().into(),
            owners: meta.owner_references.iter().map(owner).collect(),
            deleting: meta.deletion_timestamp.is_some(),
            foreground: has(FOREGROUND),
            orphan: has(ORPHAN),
        }
    }

    /// An owner must be of its dependents' namespace or of none.
    pub(super) fn may_own_in(&self, namespace: &str) -> bool {
        self.namespace.is_empty() || &*self.namespace == namespace
    }

    /// It is being deleted, after its dependents.
    pub(super) fn waits_for_dependents(&self) -> bool {
        self.deleting && self.foreground
    }
}

/// What follows from an object that was put in.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changed {
    /// The uids that are to be looked at.
    pub(super) look: Vec<String>,
    /// References that are known to be wrong since now.
    pub(super) misplaced: Vec<Misplaced>,
}

/// A reference to an owner of another namespace: it owns nothing there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Misplaced {
    pub(super) uid: String,
    pub(super) dependent: Node,
    pub(super) owner: Owner,
}

impl Misplaced {
    fn new(uid: &str, dependent: &Node, owner: &Owner) -> Self {
        Self { uid: uid.to_owned(), dependent: dependent.clone(), owner: owner.clone() }
    }

    /// In upstream's words, for people.
    pub(super) fn message(&self) -> String {
        let Self { dependent: Node { namespace, .. }, owner, .. } = self;
        let Owner { api_version, kind, name, uid, .. } = owner;
        format!(
            "ownerRef [{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}] does not exist in namespace {namespace:?}"
        )
    }
}

/// All objects, and whose dependents are whose.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: BTreeMap<Box<str>, Node>,
    dependents: BTreeMap<Box<str>, BTreeSet<Box<str>>>,
    /// Those of the owners in `dependents` that were seen to go.
    gone: BTreeSet<Box<str>>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// The uids of those that name this one as an owner.
    pub(super) fn dependents(&self, uid: &str) -> impl Iterator<Item = (&str, &Node)> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| Some((&**uid, self.nodes.get(uid)?)))
    }

    /// The uids of all objects of a resource.
    pub(super) fn of(&self, resource: Resource) -> impl Iterator<Item = &str> {
        let nodes = self.nodes.iter();
        nodes.filter(move |(_, node)| node.resource == resource).map(|(uid, _)| &**uid)
    }

    /// The uids of all objects that name an owner.
    pub(super) fn owned(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter(|(_, node)| !node.owners.is_empty()).map(|(uid, _)| &**uid)
    }

    /// Puts an object in.
    pub(super) fn upsert(&mut self, uid: &str, node: Node) -> Changed {
        let old = self.nodes.get(uid);
        if old == Some(&node) {
            return Changed::default();
        }
        let owners_changed = old.is_none_or(|old| old.owners != node.owners);
        let mut misplaced = Vec::new();
        if owners_changed {
            let foreign = |owner: &&Owner| {
                self.get(&owner.uid).is_some_and(|known| !known.may_own_in(&node.namespace))
            };
            let owners = node.owners.iter().filter(foreign);
            misplaced.extend(owners.map(|owner| Misplaced::new(uid, &node, owner)));
        }
        if old.is_none() {
            let strangers =
                self.dependents(uid).filter(|(_, known)| !node.may_own_in(&known.namespace));
            misplaced.extend(strangers.filter_map(|(dependent, known)| {
                let owner = known.owners.iter().find(|owner| &*owner.uid == uid)?;
                Some(Misplaced::new(dependent, known, owner))
            }));
        }
        let mut look = Vec::new();
        if owners_changed {
            if !node.owners.is_empty() {
                look.push(uid.to_owned());
            }
            let before: Vec<Owner> = old.map(|old| old.owners.to_vec()).unwrap_or_default();
            self.unlink(uid, &before);
            for owner in &node.owners {
                self.dependents.entry(owner.uid.clone()).or_default().insert(uid.into());
            }
            // An owner may have waited for a reference that is gone now.
            look.extend(self.waiting_owners(&before));
        }
        let waits = |node: &Node| node.deleting && (node.foreground || node.orphan);
        if waits(&node) && !self.nodes.get(uid).is_some_and(waits) {
            look.push(uid.to_owned());
            look.extend(self.dependents(uid).map(|(uid, _)| uid.to_owned()));
        }
        self.nodes.insert(uid.into(), node);
        self.gone.remove(uid);
        Changed { look, misplaced }
    }

    /// Whether an owner that is still named was seen to go.
    pub(super) fn is_gone(&self, uid: &str) -> bool {
        self.gone.contains(uid)
    }

    /// Takes an object out that was deleted; returns the uids that are to be looked at.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<String> {
        let look = self.lose(uid);
        if self.dependents.contains_key(uid) {
            self.gone.insert(uid.into());
        }
        look
    }

    /// The same for an object that may be there and is seen no more.
    pub(super) fn lose(&mut self, uid: &str) -> Vec<String> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        self.unlink(uid, &node.owners);
        let mut look: Vec<String> = self.dependents(uid).map(|(uid, _)| uid.to_owned()).collect();
        look.extend(self.waiting_owners(&node.owners));
        look
    }

    fn unlink(&mut self, uid: &str, owners: &[Owner]) {
        for owner in owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                    self.gone.remove(&owner.uid);
                }
            }
        }
    }

    fn waiting_owners(&self, owners: &[Owner]) -> Vec<String> {
        let waits = |owner: &&Owner| {
            self.get(&owner.uid)
                .is_some_and(|node| node.deleting && (node.foreground || node.orphan))
        };
        owners.iter().filter(waits).map(|owner| owner.uid.to_string()).collect()
    }
}

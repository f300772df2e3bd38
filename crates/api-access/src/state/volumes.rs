//! Objects that lead from a node to what it may read beyond its pods' own
//! names: volumes behind claims, and what names the node itself.

use std::collections::{BTreeSet, HashMap};

use api_object::Meta;
use api_schema::tree;
use serde_json::Value;

/// Namespace and name.
type Name = (String, String);

/// On a directory of a node that is a volume: the node.
pub(crate) const LOCAL_PATH_NODE: &str = "skiff.sh/local-path-node";

/// PersistentVolumes, by name and by the claim they are bound to.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    all: HashMap<String, Volume>,
    by_claim: HashMap<Name, BTreeSet<String>>,
}

/// A PersistentVolume.
#[derive(Debug)]
pub(crate) struct Volume {
    claim: Name,
    /// What a node logs in with when it mounts the volume.
    secrets: BTreeSet<Name>,
    /// Empty where it is no CSI volume.
    pub(crate) driver: String,
    /// The node that has it as a directory; empty where it is none.
    local_node: String,
}

/// A StorageClass, as far as claims take something from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Class {
    pub(crate) is_default: bool,
    pub(crate) expands: bool,
    /// As in the object; later is larger.
    pub(crate) created: String,
}

impl Class {
    pub(crate) fn of(meta: &Meta, value: &Value) -> Self {
        let marks = [
            "storageclass.kubernetes.io/is-default-class",
            "storageclass.beta.kubernetes.io/is-default-class",
        ];
        Self {
            is_default: marks.iter().any(|m| meta.annotations.get(*m).is_some_and(|v| v == "true")),
            expands: value.get("allowVolumeExpansion") == Some(&Value::Bool(true)),
            created: meta.creation_timestamp.clone().unwrap_or_default(),
        }
    }
}

impl Volumes {
    /// The volumes bound to a claim: one, while nothing goes wrong.
    pub(crate) fn of_claim(&self, namespace: &str, claim: &str) -> impl Iterator<Item = &Volume> {
        let key = (namespace.to_owned(), claim.to_owned());
        let names = self.by_claim.get(&key).into_iter().flatten();
        names.filter_map(|name| self.all.get(name))
    }

    /// The claim that a volume is bound to.
    pub(crate) fn claim_of(&self, name: &str) -> Option<(&str, &str)> {
        self.all.get(name).map(|volume| (volume.claim.0.as_str(), volume.claim.1.as_str()))
    }

    /// The claims whose volumes are mounted with a secret.
    pub(crate) fn claims_using(&self, namespace: &str, secret: &str) -> Vec<(&str, &str)> {
        let key = (namespace.to_owned(), secret.to_owned());
        let using = self.all.values().filter(|volume| volume.secrets.contains(&key));
        using.map(|volume| (volume.claim.0.as_str(), volume.claim.1.as_str())).collect()
    }

    /// The node that has a volume as a directory.
    pub(crate) fn local_node(&self, name: &str) -> Option<&str> {
        let node = self.all.get(name)?.local_node.as_str();
        Some(node).filter(|node| !node.is_empty())
    }

    pub(crate) fn set(&mut self, meta: &Meta, value: &Value) {
        let name = meta.name.as_str();
        self.remove(name);
        let text = |path: &str| tree::text(value, path).to_owned();
        let claim = (text("spec.claimRef.namespace"), text("spec.claimRef.name"));
        let local_node = meta.labels.get(LOCAL_PATH_NODE).cloned().unwrap_or_default();
        if claim.1.is_empty() && local_node.is_empty() {
            return;
        }
        let volume = Volume {
            secrets: secrets(tree::get(value, "spec"), &claim.0),
            claim: claim.clone(),
            driver: text("spec.csi.driver"),
            local_node,
        };
        self.all.insert(name.to_owned(), volume);
        if claim.1.is_empty() {
            return;
        }
        self.by_claim.entry(claim).or_default().insert(name.to_owned());
    }

    pub(crate) fn remove(&mut self, name: &str) {
        let Some(volume) = self.all.remove(name) else { return };
        if let Some(names) = self.by_claim.get_mut(&volume.claim) {
            names.remove(name);
            if names.is_empty() {
                self.by_claim.remove(&volume.claim);
            }
        }
    }
}

/// The secrets that a node needs; those of the driver's controller are not its
/// business. A reference without a namespace means the claim's.
fn secrets(spec: &Value, namespace: &str) -> BTreeSet<Name> {
    let mut found = BTreeSet::new();
    for path in [
        "cephfs.secretRef",
        "cinder.secretRef",
        "csi.nodeExpandSecretRef",
        "csi.nodePublishSecretRef",
        "csi.nodeStageSecretRef",
        "flexVolume.secretRef",
        "iscsi.secretRef",
        "rbd.secretRef",
        "scaleIO.secretRef",
        "storageos.secretRef",
    ] {
        let reference = tree::get(spec, path);
        let own = tree::text(reference, "namespace");
        let of = if own.is_empty() { namespace } else { own };
        found.insert((of.to_owned(), tree::text(reference, "name").to_owned()));
    }
    let azure = tree::get(spec, "azureFile");
    let own = tree::text(azure, "secretNamespace");
    let of = if own.is_empty() { namespace } else { own };
    found.insert((of.to_owned(), tree::text(azure, "secretName").to_owned()));
    found.retain(|(_, name)| !name.is_empty());
    found
}

/// Objects that name a node, by their own namespace and name.
#[derive(Debug, Default)]
pub(crate) struct OfNodes(HashMap<Name, String>);

impl OfNodes {
    /// The node that an object names.
    pub(crate) fn node(&self, namespace: &str, name: &str) -> Option<&str> {
        self.0.get(&(namespace.to_owned(), name.to_owned())).map(String::as_str)
    }

    pub(crate) fn set(&mut self, namespace: &str, name: &str, node: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        match node.is_empty() {
            true => drop(self.0.remove(&key)),
            false => drop(self.0.insert(key, node.to_owned())),
        }
    }

    pub(crate) fn remove(&mut self, namespace: &str, name: &str) {
        self.0.remove(&(namespace.to_owned(), name.to_owned()));
    }
}

/// The audiences for which a CSI driver gets tokens of the pods it serves.
pub(crate) fn driver_audiences(value: &Value) -> Vec<String> {
    let requests = tree::list(value, "spec.tokenRequests").iter();
    requests.map(|request| tree::text(request, "audience").to_owned()).collect()
}

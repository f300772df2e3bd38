//! The resources and views of storage that several controllers share, and
//! what everybody must say about them in the same way.

use std::collections::BTreeMap;

use api_object::{Meta, Quantity};
use client::{Cached, Informer, Reference, Resource, Selection, SharedInformers};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::cached::{self, Pod, Raw, null_is_default, views};

pub(crate) const CLAIMS: Resource = Resource::namespaced("", "v1", "persistentvolumeclaims");
pub(crate) const VOLUMES: Resource = Resource::cluster("", "v1", "persistentvolumes");
pub(crate) const CLASSES: Resource = Resource::cluster("storage.k8s.io", "v1", "storageclasses");

/// Index of pods by the claims that they use, and of volumes by the claim
/// that they are bound to.
pub(crate) const BY_CLAIM: &str = "claim";
/// Where a class stood before it was a field; still read everywhere.
pub(crate) const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
/// The node that the scheduler chose for the first consumer of a claim.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Who is to make a volume for a claim.
pub(crate) const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// Who made a volume, and is to remove it.
pub(crate) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// The provisioner of directories on nodes.
pub(crate) const LOCAL_PATH: &str = "skiff.sh/local-path";

views! {
    Volume { spec: VolumeSpec, status: VolumeStatus, }
    VolumeSpec {
        capacity: Amounts,
        access_modes: Vec<String>,
        claim_ref: Option<ClaimRef>,
        persistent_volume_reclaim_policy: String,
        storage_class_name: String,
        volume_mode: String,
        volume_attributes_class_name: String,
        node_affinity: Option<Raw>,
        csi: Option<CsiSource>,
    }
    VolumeStatus { phase: String, message: String, reason: String, }
    ClaimRef { namespace: String, name: String, uid: String, }
    CsiSource { driver: String, volume_handle: String, }

    Claim { spec: ClaimSpec, status: ClaimStatus, }
    ClaimSpec {
        access_modes: Vec<String>,
        selector: Option<Value>,
        resources: Resources,
        volume_name: String,
        storage_class_name: Option<String>,
        volume_mode: String,
        volume_attributes_class_name: String,
        data_source: Option<Value>,
    }
    Resources { requests: Amounts, }
    ClaimStatus {
        phase: String,
        access_modes: Vec<String>,
        capacity: Amounts,
        conditions: Vec<Value>,
        current_volume_attributes_class_name: String,
    }
    Amounts {
        /// The others nobody reads.
        storage: String,
    }

    Class {
        provisioner: String,
        volume_binding_mode: String,
        reclaim_policy: String,
        allow_volume_expansion: bool,
        mount_options: Vec<String>,
    }
}

impl ClaimRef {
    /// As the key of the claim.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl Amounts {
    /// In bytes; what cannot be read is nothing.
    pub(crate) fn amount(&self) -> Quantity {
        Quantity::parse(&self.storage).unwrap_or_default()
    }
}

/// What of a pod's volumes controllers look at: claims, and Secrets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClaimVolumes(
    pub(crate) Vec<ClaimVolume>,
    /// Secrets by name.
    pub(crate) Box<[String]>,
);

/// A volume that is a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClaimVolume {
    /// The volume's name in its pod.
    pub(crate) name: String,
    /// The claim's name; absent where the pod's own claim is made for it.
    pub(crate) claim: Option<String>,
}

impl<'de> Deserialize<'de> for ClaimVolumes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Any {
            #[serde(default)]
            name: String,
            persistent_volume_claim: Option<Source>,
            ephemeral: Option<serde::de::IgnoredAny>,
            secret: Option<SecretSource>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Source {
            claim_name: String,
        }
        #[derive(Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        #[derive(Default)]
        struct SecretSource {
            secret_name: String,
        }
        let mut all = Vec::<Any>::deserialize(deserializer)?;
        let secrets = all.iter_mut().filter_map(|any| Some(any.secret.take()?.secret_name));
        let secrets = secrets.collect();
        let mut claims: Vec<_> = all
            .into_iter()
            .filter_map(|any| match (any.persistent_volume_claim, any.ephemeral) {
                (Some(source), _) => {
                    Some(ClaimVolume { name: any.name, claim: Some(source.claim_name) })
                }
                (None, Some(_)) => Some(ClaimVolume { name: any.name, claim: None }),
                (None, None) => None,
            })
            .collect();
        claims.shrink_to_fit();
        Ok(Self(claims, secrets))
    }
}

/// The name of the claim that a pod's volume stands for.
pub(crate) fn claim_name(pod: &Meta, volume: &ClaimVolume) -> String {
    volume.claim.clone().unwrap_or_else(|| format!("{}-{}", pod.name, volume.name))
}

/// The pods of the cluster, by the claims that they use too.
pub(crate) fn pods_by_claim(informers: &SharedInformers) -> Informer<Pod> {
    let pods = cached::pods(informers);
    pods.add_index(BY_CLAIM, claims_of);
    pods
}

/// The keys of all claims of a pod.
pub(crate) fn claims_of(pod: &Cached<Pod>) -> Vec<String> {
    let volumes = pod.view.spec.volumes.0.iter();
    volumes.map(|v| format!("{}/{}", pod.meta.namespace, claim_name(&pod.meta, v))).collect()
}

pub(crate) fn claims(informers: &SharedInformers) -> Informer<Claim> {
    informers.get(Selection::all(CLAIMS))
}

pub(crate) fn volumes(informers: &SharedInformers) -> Informer<Volume> {
    informers.get(Selection::all(VOLUMES))
}

pub(crate) fn classes(informers: &SharedInformers) -> Informer<Class> {
    informers.get(Selection::all(CLASSES))
}

fn class_annotation(annotations: &BTreeMap<String, String>) -> Option<&str> {
    annotations.get(CLASS_ANNOTATION).map(String::as_str)
}

/// The class that a claim asks for; absent where it leaves that to a default.
pub(crate) fn class_of_claim(claim: &Cached<Claim>) -> Option<&str> {
    class_annotation(&claim.meta.annotations).or(claim.view.spec.storage_class_name.as_deref())
}

/// The class of a volume; empty for none.
pub(crate) fn class_of_volume(volume: &Cached<Volume>) -> &str {
    class_annotation(&volume.meta.annotations).unwrap_or(&volume.view.spec.storage_class_name)
}

/// Whether an annotation says that it is the class of claims that name none.
fn is_default(class: &Cached<Class>) -> bool {
    [
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ]
    .iter()
    .any(|key| class.meta.annotations.get(*key).is_some_and(|value| value == "true"))
}

/// The class of claims that name none: the newest of those that say so.
pub(crate) fn default_class(classes: &Informer<Class>) -> Option<String> {
    let mut all: Vec<_> = classes.list().into_iter().filter(|class| is_default(class)).collect();
    all.sort_by(|a, b| {
        let newer = b.meta.creation_timestamp.cmp(&a.meta.creation_timestamp);
        newer.then_with(|| a.meta.name.cmp(&b.meta.name))
    });
    all.first().map(|class| class.meta.name.clone())
}

pub(crate) fn about_claim(claim: &Meta) -> Reference {
    Reference::new("v1", "PersistentVolumeClaim", claim)
}

pub(crate) fn about_volume(volume: &Meta) -> Reference {
    Reference::new("v1", "PersistentVolume", volume)
}

#[cfg(test)]
mod stories;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_volumes_that_are_claims_are_kept_of_a_pod() {
        let volumes: ClaimVolumes = serde_json::from_value(json!([
            {"name": "a", "emptyDir": {}},
            {"name": "b", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "c", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
        ]))
        .expect("volumes");
        let pod = Meta { name: "p".into(), ..Meta::default() };
        let names: Vec<_> = volumes.0.iter().map(|v| claim_name(&pod, v)).collect();
        assert_eq!(names, ["data", "p-c"]);
    }
}

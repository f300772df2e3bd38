//! Claims, volumes, and what drivers say, as narrow as the scheduler needs.
#![allow(missing_docs, reason = "each field is the API's field of that name")]

use std::collections::BTreeMap;

use api_object::{Meta, Quantity};
use api_types::core::NodeSelector;
use client::Cached;
use serde::Deserialize;
use serde_json::Value;

macro_rules! views {
    ($($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $ty:ty,)* })*) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        pub(crate) struct $name { $($(#[$fmeta])* pub(crate) $field: $ty,)* }
    )* };
}

views! {
    /// A PersistentVolumeClaim.
    Claim { spec: ClaimSpec, status: ClaimStatus, }
    ClaimSpec {
        access_modes: Vec<String>,
        selector: Option<Value>,
        resources: ClaimResources,
        volume_name: String,
        storage_class_name: Option<String>,
        volume_mode: Option<String>,
        volume_attributes_class_name: Option<String>,
    }
    ClaimResources { requests: BTreeMap<String, Quantity>, }
    ClaimStatus { phase: String, }

    /// A PersistentVolume.
    Volume { spec: VolumeSpec, status: ClaimStatus, }
    VolumeSpec {
        capacity: BTreeMap<String, Quantity>,
        access_modes: Vec<String>,
        claim_ref: Option<ClaimRef>,
        storage_class_name: String,
        volume_mode: Option<String>,
        node_affinity: Option<VolumeNodeAffinity>,
        volume_attributes_class_name: Option<String>,
        csi: Option<CsiSource>,
    }
    ClaimRef { namespace: String, name: String, uid: String, }
    VolumeNodeAffinity { required: Option<NodeSelector>, }
    CsiSource { driver: String, volume_handle: String, }

    /// A StorageClass.
    Class {
        provisioner: String,
        volume_binding_mode: Option<String>,
        allowed_topologies: Vec<TopologyTerm>,
    }
    TopologyTerm { match_label_expressions: Vec<TopologyRequirement>, }
    TopologyRequirement { key: String, values: Vec<String>, }

    /// A CSINode.
    CsiNode { spec: CsiNodeSpec, }
    CsiNodeSpec { drivers: Vec<CsiNodeDriver>, }
    CsiNodeDriver { name: String, allocatable: Option<CsiAllocatable>, }
    CsiAllocatable { count: Option<i64>, }

    /// A CSIDriver.
    CsiDriver { spec: CsiDriverSpec, }
    CsiDriverSpec {
        storage_capacity: Option<bool>,
        prevent_pod_scheduling_if_missing: Option<bool>,
    }

    /// A CSIStorageCapacity.
    Capacity {
        node_topology: Option<Value>,
        storage_class_name: String,
        capacity: Option<Quantity>,
        maximum_volume_size: Option<Quantity>,
    }

    /// A VolumeAttachment.
    Attachment { spec: AttachmentSpec, }
    AttachmentSpec { attacher: String, source: AttachmentSource, node_name: String, }
    AttachmentSource { persistent_volume_name: Option<String>, }
}

/// Says that a claim and its volume are bound for good.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On which node a volume shall be made.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// Whether a claim has its volume.
pub(crate) fn is_bound(claim: &Cached<Claim>) -> bool {
    !claim.view.spec.volume_name.is_empty() && claim.meta.annotations.contains_key(BIND_COMPLETED)
}

/// The class of a claim; empty for none.
pub(crate) fn class_of(claim: &Cached<Claim>) -> &str {
    let old = claim.meta.annotations.get(CLASS).map(String::as_str);
    old.or(claim.view.spec.storage_class_name.as_deref()).unwrap_or_default()
}

/// Bytes.
pub(crate) fn storage(amounts: &BTreeMap<String, Quantity>) -> i64 {
    amounts.get("storage").map_or(0, |amount| amount.units())
}

/// Whether a volume is meant for a claim.
pub(crate) fn is_meant_for(volume: &Volume, claim: &Meta) -> bool {
    volume.spec.claim_ref.as_ref().is_some_and(|reference| {
        reference.namespace == claim.namespace
            && reference.name == claim.name
            && (reference.uid.is_empty() || reference.uid == claim.uid)
    })
}

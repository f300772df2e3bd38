//! `metadata`, parsed from an object's bytes without touching the rest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The metadata that the machinery reads. Fields it does not know stay in the
/// object's bytes; this view is never written back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Meta {
    /// Unique in its namespace and resource.
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    /// Prefix for a name the server makes up.
    #[serde(deserialize_with = "null_is_default")]
    pub generate_name: String,
    /// Empty for cluster-scoped objects.
    #[serde(deserialize_with = "null_is_default")]
    pub namespace: String,
    /// Set by the server at creation, never reused.
    #[serde(deserialize_with = "null_is_default")]
    pub uid: String,
    /// The store's revision in decimal; empty before the first write.
    #[serde(deserialize_with = "null_is_default")]
    pub resource_version: String,
    /// Rises when the desired state changes.
    #[serde(deserialize_with = "null_is_default")]
    pub generation: i64,
    /// RFC 3339, seconds.
    pub creation_timestamp: Option<String>,
    /// RFC 3339; set once deletion was asked for.
    pub deletion_timestamp: Option<String>,
    /// Seconds.
    pub deletion_grace_period_seconds: Option<i64>,
    /// Labels, sorted.
    #[serde(deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// Annotations, sorted.
    #[serde(deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    /// Whom this object belongs to.
    #[serde(deserialize_with = "null_is_default")]
    pub owner_references: Vec<OwnerReference>,
    /// Who must still act before the object may go.
    #[serde(deserialize_with = "null_is_default")]
    pub finalizers: Vec<String>,
}

impl Meta {
    /// The owner whose `controller` flag is set.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller == Some(true))
    }

    /// `namespace/name`, or `name` for cluster-scoped objects: the key form of
    /// caches and work queues.
    pub fn key(&self) -> String {
        match self.namespace.as_str() {
            "" => self.name.clone(),
            namespace => format!("{namespace}/{}", self.name),
        }
    }
}

/// `metadata.ownerReferences[]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OwnerReference {
    /// `apps/v1`.
    pub api_version: String,
    /// `ReplicaSet`.
    pub kind: String,
    /// The owner's name, in the same namespace or cluster-scoped.
    pub name: String,
    /// The owner's uid: a new object of the same name is not the owner.
    pub uid: String,
    /// Whether this owner manages the object; at most one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    /// Whether foreground deletion of the owner waits for this object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

/// `null` means unset in Kubernetes' JSON.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

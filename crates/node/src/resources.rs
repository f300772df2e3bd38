//! The resources of the API that a node reads and writes.

use client::Resource;

/// The revision of a state that is told from memory, by who keeps what a node was told for
/// when no server is in reach: what is missing in it may be there all the same.
pub const TOLD_BEFORE: &str = "0";

pub(crate) const NODES: Resource = Resource::cluster("", "v1", "nodes");
pub(crate) const PODS: Resource = Resource::namespaced("", "v1", "pods");
pub(crate) const CONFIG_MAPS: Resource = Resource::namespaced("", "v1", "configmaps");
pub(crate) const SECRETS: Resource = Resource::namespaced("", "v1", "secrets");
pub(crate) const CLAIMS: Resource = Resource::namespaced("", "v1", "persistentvolumeclaims");
pub(crate) const PERSISTENT_VOLUMES: Resource = Resource::cluster("", "v1", "persistentvolumes");
pub(crate) const CSI_NODES: Resource = Resource::cluster("storage.k8s.io", "v1", "csinodes");
pub(crate) const CSI_DRIVERS: Resource = Resource::cluster("storage.k8s.io", "v1", "csidrivers");
pub(crate) const VOLUME_ATTACHMENTS: Resource =
    Resource::cluster("storage.k8s.io", "v1", "volumeattachments");
pub(crate) const TRUST_BUNDLES: Resource =
    Resource::cluster("certificates.k8s.io", "v1", "clustertrustbundles");
pub(crate) const POD_CERTIFICATE_REQUESTS: Resource =
    Resource::namespaced("certificates.k8s.io", "v1", "podcertificaterequests");
pub(crate) const SERVICES: Resource = Resource::namespaced("", "v1", "services");
pub(crate) const SERVICE_ACCOUNTS: Resource = Resource::namespaced("", "v1", "serviceaccounts");
pub(crate) const RUNTIME_CLASSES: Resource =
    Resource::cluster("node.k8s.io", "v1", "runtimeclasses");
pub(crate) const LEASES: Resource = Resource::namespaced("coordination.k8s.io", "v1", "leases");

//! What is seen of one node.

use std::{collections::BTreeSet, sync::Arc};

use client::Cached;

use super::act::Attachment;
use crate::storage::Volume;

/// A volume that a pod of the node uses.
#[derive(Clone, Debug)]
pub(super) struct Use {
    /// `namespace/name`.
    pub(super) pod: String,
    /// Bound to the pod's claim.
    pub(super) volume: Arc<Cached<Volume>>,
}

/// A node, what its pods use and what is attached.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) node: String,
    pub(super) uses: Vec<Use>,
    /// Drivers whose volumes are used without being attached.
    pub(super) unattached_drivers: BTreeSet<String>,
    /// Attachments of this node.
    pub(super) attachments: Vec<Arc<Cached<Attachment>>>,
    /// Attachments of the used volumes to other nodes: volume, node.
    pub(super) elsewhere: Vec<(String, String)>,
    /// Those of them whose volume the node says that it has mounted.
    pub(super) mounted: BTreeSet<String>,
}

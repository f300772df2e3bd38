//! What the provisioner sees.

use std::sync::Arc;

use client::{Cached, MetaOnly};

use crate::storage::{Claim, Class, Volume};

/// A claim that waits for a directory.
#[derive(Clone, Debug)]
pub(super) struct ClaimView {
    pub(super) claim: Arc<Cached<Claim>>,
    pub(super) class: Option<Arc<Cached<Class>>>,
    /// The node that the scheduler chose, if it is there.
    pub(super) node: Option<Arc<Cached<MetaOnly>>>,
    /// Whether a pod that uses it is on a node, so that no other can be chosen.
    pub(super) is_placed: bool,
    /// Whether the volume is there already.
    pub(super) is_made: bool,
}

/// A volume that the provisioner made.
#[derive(Clone, Debug)]
pub(super) struct VolumeView {
    pub(super) volume: Arc<Cached<Volume>>,
    /// Whether the node that has the directory is still part of the cluster.
    pub(super) has_node: bool,
}

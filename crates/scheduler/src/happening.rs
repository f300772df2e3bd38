//! What happens in the cluster, as far as it may help a pod that waits.

use std::sync::Arc;

use client::Cached;

use crate::Pod;

/// A change. Nodes are named by slot.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A node is new.
    NodeNew(usize),
    /// A node has other labels.
    NodeLabels(usize),
    /// A node has other taints, or was cordoned or uncordoned.
    NodeTaints(usize),
    /// A node has more or less to give.
    NodeAllocatable(usize),
    /// A node went.
    NodeGone,
    /// A pod got a node.
    PodPlaced(Arc<Cached<Pod>>),
    /// A pod left a node, or takes less of it.
    PodGone(Arc<Cached<Pod>>, String),
    /// A pod is being deleted: it counts less, but takes up what it took.
    PodLeaving(Arc<Cached<Pod>>),
    /// A namespace has other labels.
    NamespaceLabels,
    /// Claims, volumes, classes, or what drivers say of nodes.
    Storage,
}

/// The kind of a [`Happening`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "named as the happenings are")]
pub enum Hint {
    NodeNew,
    NodeLabels,
    NodeTaints,
    NodeAllocatable,
    NodeGone,
    PodPlaced,
    PodGone,
    PodLeaving,
    NamespaceLabels,
    Storage,
}

impl Happening {
    /// Its kind.
    pub fn hint(&self) -> Hint {
        match self {
            Self::NodeNew(_) => Hint::NodeNew,
            Self::NodeLabels(_) => Hint::NodeLabels,
            Self::NodeTaints(_) => Hint::NodeTaints,
            Self::NodeAllocatable(_) => Hint::NodeAllocatable,
            Self::NodeGone => Hint::NodeGone,
            Self::PodPlaced(_) => Hint::PodPlaced,
            Self::PodGone(..) => Hint::PodGone,
            Self::PodLeaving(_) => Hint::PodLeaving,
            Self::NamespaceLabels => Hint::NamespaceLabels,
            Self::Storage => Hint::Storage,
        }
    }

    /// The node that it is about.
    pub(crate) fn slot(&self) -> Option<usize> {
        match self {
            Self::NodeNew(slot)
            | Self::NodeLabels(slot)
            | Self::NodeTaints(slot)
            | Self::NodeAllocatable(slot) => Some(*slot),
            _ => None,
        }
    }
}

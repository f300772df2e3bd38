//! What makes a node possible for a pod, and what makes it better than
//! another. One file a plugin; the names are upstream's.

mod image_locality;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
mod taint_toleration;

use crate::{Node, Pod};

use taint_toleration::tolerates;

/// Why a node is not possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// In upstream's words, as `FailedScheduling` counts them.
    pub reasons: Vec<String>,
    /// Whether it would be possible with fewer pods on it.
    pub preemption_helps: bool,
}

impl Rejection {
    pub(crate) fn never(reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()], preemption_helps: false }
    }

    pub(crate) fn crowded(reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()], preemption_helps: true }
    }
}

/// What may make an impossible pod possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hint {
    /// A node is new, or has other labels.
    NodeLabels,
    /// A node has other taints, or was uncordoned.
    NodeTaints,
    /// A node has more to give.
    NodeAllocatable,
    /// A pod left a node.
    PodGone,
}

/// Best possible score of one plugin.
pub const SCORE_MAX: i64 = 100;

/// Whether a pod may go to a node.
pub type Filter = fn(&Pod, &Node) -> Option<Rejection>;
/// The scores of the possible nodes, 0 to [`SCORE_MAX`], in their order.
pub type Score = fn(&Pod, &[&Node]) -> Vec<i64>;

/// A plugin.
#[derive(Debug)]
pub struct Plugin {
    /// Upstream's name.
    pub name: &'static str,
    /// The first plugin that says no is the last that is asked.
    pub filter: Option<Filter>,
    /// Which of the possible nodes is better.
    pub score: Option<Score>,
    /// How much its score counts.
    pub weight: i64,
    /// What may make a pod possible that it rejected.
    pub helped_by: &'static [Hint],
}

/// Every plugin, in the order in which they are asked.
pub static PLUGINS: &[Plugin] = &[
    Plugin {
        name: "NodeUnschedulable",
        filter: Some(node_unschedulable::filter),
        score: None,
        weight: 0,
        helped_by: &[Hint::NodeLabels, Hint::NodeTaints],
    },
    Plugin {
        name: "NodeName",
        filter: Some(node_name::filter),
        score: None,
        weight: 0,
        helped_by: &[Hint::NodeLabels],
    },
    Plugin {
        name: "TaintToleration",
        filter: Some(taint_toleration::filter),
        score: Some(taint_toleration::score),
        weight: 3,
        helped_by: &[Hint::NodeLabels, Hint::NodeTaints],
    },
    Plugin {
        name: "NodeAffinity",
        filter: Some(node_affinity::filter),
        score: Some(node_affinity::score),
        weight: 2,
        helped_by: &[Hint::NodeLabels],
    },
    Plugin {
        name: "NodePorts",
        filter: Some(node_ports::filter),
        score: None,
        weight: 0,
        helped_by: &[Hint::NodeLabels, Hint::PodGone],
    },
    Plugin {
        name: "NodeResourcesFit",
        filter: Some(node_resources::filter),
        score: Some(node_resources::least_allocated),
        weight: 1,
        helped_by: &[Hint::NodeLabels, Hint::NodeAllocatable, Hint::PodGone],
    },
    Plugin {
        name: "NodeResourcesBalancedAllocation",
        filter: None,
        score: Some(node_resources::balanced),
        weight: 1,
        helped_by: &[],
    },
    Plugin {
        name: "ImageLocality",
        filter: None,
        score: Some(image_locality::score),
        weight: 1,
        helped_by: &[],
    },
];

/// Stretches raw scores so that the best gets [`SCORE_MAX`].
fn normalized(mut scores: Vec<i64>, reverse: bool) -> Vec<i64> {
    let best = scores.iter().copied().max().unwrap_or(0);
    for score in &mut scores {
        *score = match best {
            0 => 0,
            best => *score * SCORE_MAX / best,
        };
        if reverse {
            *score = SCORE_MAX - *score;
        }
    }
    scores
}

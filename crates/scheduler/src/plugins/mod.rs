//! What makes a node possible for a pod, and what makes it better than
//! another. One file a plugin; the names are upstream's.

mod dynamic_resources;
mod image_locality;
mod inter_pod_affinity;
pub(crate) mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
mod pod_topology_spread;
pub(crate) mod taint_toleration;
mod volumes;

use std::{borrow::Cow, fmt, sync::Arc};

use client::Cached;

use crate::{Cluster, Happening, Hint, Node, Pod, Profile, pod::Waiting};

/// One pod that is decided upon.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// The nodes and what is on them.
    pub cluster: &'a Cluster,
    /// The pod.
    pub pod: &'a Arc<Cached<Pod>>,
    /// By whose rules.
    pub profile: &'a Profile,
}

impl<'a> Task<'a> {
    /// What decides where the pod may go.
    pub(crate) fn waiting(&self) -> &'a Waiting {
        self.pod.view.waiting.as_deref().unwrap_or(Waiting::none())
    }
}

/// Why a node is not possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// In upstream's words, as `FailedScheduling` counts them.
    pub reasons: Reasons,
    /// Whether it might be possible with fewer pods on it.
    pub preemption_helps: bool,
}

/// Why, in the order of the checks. Nearly always there is one, and thousands
/// of nodes have it: that one needs no memory of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons {
    first: Option<Cow<'static, str>>,
    more: Vec<Cow<'static, str>>,
}

impl Reasons {
    pub(crate) fn push(&mut self, reason: Cow<'static, str>) {
        match self.first {
            None => self.first = Some(reason),
            Some(_) => self.more.push(reason),
        }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.first.iter().chain(&self.more).map(AsRef::as_ref)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

impl FromIterator<Cow<'static, str>> for Reasons {
    fn from_iter<I: IntoIterator<Item = Cow<'static, str>>>(reasons: I) -> Self {
        let mut all = Self::default();
        reasons.into_iter().for_each(|reason| all.push(reason));
        all
    }
}

impl Rejection {
    pub(crate) fn never(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reasons: [reason.into()].into_iter().collect(), preemption_helps: false }
    }

    pub(crate) fn crowded(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reasons: [reason.into()].into_iter().collect(), preemption_helps: true }
    }
}

/// Says of each node whether the pod may go there.
pub trait Filter {
    /// `None` where it may.
    fn check(&self, node: &Node) -> Option<Rejection>;

    /// Another pod comes to a node (`sign` 1) or leaves it (−1), for as long
    /// as one tries what that would be like. Filters that look at nothing but
    /// the node need not know.
    fn moved(&mut self, _pod: &Cached<Pod>, _node: &Node, _sign: i64) {}
}

impl<F: Fn(&Node) -> Option<Rejection>> Filter for F {
    fn check(&self, node: &Node) -> Option<Rejection> {
        self(node)
    }
}

/// What a plugin says of a pod before it sees nodes.
pub enum Start<'a> {
    /// It has nothing to say.
    Skip,
    /// It looks at each node.
    Each(Box<dyn Filter + 'a>),
    /// No node but these is possible; of those it looks at each.
    Only(Vec<String>, Box<dyn Filter + 'a>),
    /// No node is possible.
    Never(Rejection),
}

impl<'a> Start<'a> {
    fn each(filter: impl Filter + 'a) -> Self {
        Self::Each(Box::new(filter))
    }
}

impl fmt::Debug for Start<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Skip => "Skip",
            Self::Each(_) => "Each",
            Self::Only(..) => "Only",
            Self::Never(_) => "Never",
        })
    }
}

/// Best possible score of one plugin.
pub const SCORE_MAX: i64 = 100;

/// What a plugin says of a pod.
pub type Begin = for<'a> fn(&Task<'a>) -> Start<'a>;
/// The scores of the possible nodes, 0 to [`SCORE_MAX`], in their order;
/// empty where they are all the same to it.
pub type Score = fn(&Task<'_>, &[&Node]) -> Vec<i64>;
/// Whether something may help a pod that the plugin rejected.
pub type Helps = fn(&Cluster, &Cached<Pod>, &Happening) -> bool;

/// A plugin.
#[derive(Debug)]
pub struct Plugin {
    /// Upstream's name.
    pub name: &'static str,
    /// Which nodes are possible. The first plugin that says no is the last
    /// that is asked.
    pub begin: Option<Begin>,
    /// Which of the possible nodes is better.
    pub score: Option<Score>,
    /// How much its score counts, where nothing else is configured.
    pub weight: i64,
    /// What may make a pod possible that it rejected.
    pub helped_by: &'static [Hint],
    /// A closer look at what happened.
    pub helps: Helps,
}

const PLAIN: Plugin =
    Plugin { name: "", begin: None, score: None, weight: 0, helped_by: &[], helps: |_, _, _| true };

const NODE: [Hint; 2] = [Hint::NodeNew, Hint::NodeLabels];

/// Every plugin, in the order in which they are asked.
pub static PLUGINS: &[Plugin] = &[
    // These four are what the queue, the loop and `preempt` do.
    Plugin { name: "SchedulingGates", ..PLAIN },
    Plugin { name: "PrioritySort", ..PLAIN },
    Plugin {
        name: "NodeUnschedulable",
        begin: Some(node_unschedulable::begin),
        helped_by: &[Hint::NodeNew, Hint::NodeTaints],
        helps: node_unschedulable::helps,
        ..PLAIN
    },
    Plugin {
        name: "NodeName",
        begin: Some(node_name::begin),
        helped_by: &[Hint::NodeNew],
        ..PLAIN
    },
    Plugin {
        name: "TaintToleration",
        begin: Some(taint_toleration::begin),
        score: Some(taint_toleration::score),
        weight: 3,
        helped_by: &[Hint::NodeNew, Hint::NodeTaints],
        helps: taint_toleration::helps,
    },
    Plugin {
        name: "NodeAffinity",
        begin: Some(node_affinity::begin),
        score: Some(node_affinity::score),
        weight: 2,
        helped_by: &NODE,
        helps: node_affinity::helps,
    },
    Plugin {
        name: "NodePorts",
        begin: Some(node_ports::begin),
        helped_by: &[Hint::NodeNew, Hint::PodGone],
        helps: node_ports::helps,
        ..PLAIN
    },
    Plugin {
        name: "NodeResourcesFit",
        begin: Some(node_resources::begin),
        score: Some(node_resources::score),
        weight: 1,
        helped_by: &[Hint::NodeNew, Hint::NodeAllocatable, Hint::PodGone],
        helps: node_resources::helps,
    },
    Plugin {
        name: "VolumeRestrictions",
        begin: Some(volumes::restrictions),
        helped_by: &[Hint::NodeNew, Hint::PodGone, Hint::Storage],
        ..PLAIN
    },
    Plugin {
        name: "NodeVolumeLimits",
        begin: Some(volumes::limits),
        helped_by: &[Hint::NodeNew, Hint::PodGone, Hint::Storage],
        ..PLAIN
    },
    Plugin {
        name: "VolumeBinding",
        begin: Some(volumes::binding),
        helped_by: &[Hint::NodeNew, Hint::NodeLabels, Hint::Storage],
        ..PLAIN
    },
    Plugin {
        name: "VolumeZone",
        begin: Some(volumes::zone),
        helped_by: &[Hint::NodeNew, Hint::NodeLabels, Hint::Storage],
        ..PLAIN
    },
    Plugin {
        name: "PodTopologySpread",
        begin: Some(pod_topology_spread::begin),
        score: Some(pod_topology_spread::score),
        weight: 2,
        helped_by: &[
            Hint::NodeNew,
            Hint::NodeLabels,
            Hint::NodeTaints,
            Hint::NodeGone,
            Hint::PodPlaced,
            Hint::PodGone,
            Hint::PodLeaving,
        ],
        helps: pod_topology_spread::helps,
    },
    Plugin {
        name: "InterPodAffinity",
        begin: Some(inter_pod_affinity::begin),
        score: Some(inter_pod_affinity::score),
        weight: 2,
        helped_by: &[
            Hint::NodeNew,
            Hint::NodeLabels,
            Hint::PodPlaced,
            Hint::PodGone,
            Hint::NamespaceLabels,
        ],
        helps: inter_pod_affinity::helps,
    },
    Plugin { name: "DefaultPreemption", ..PLAIN },
    Plugin {
        name: "NodeResourcesBalancedAllocation",
        score: Some(node_resources::balanced),
        weight: 1,
        ..PLAIN
    },
    Plugin { name: "ImageLocality", score: Some(image_locality::score), weight: 1, ..PLAIN },
    Plugin { name: "DynamicResources", begin: Some(dynamic_resources::begin), ..PLAIN },
    Plugin { name: "DefaultBinder", ..PLAIN },
];

/// The row of a name.
pub fn plugin(name: &str) -> Option<&'static Plugin> {
    PLUGINS.iter().find(|plugin| plugin.name == name)
}

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

//! By whose rules a pod is scheduled: which plugins count, and how much.
//!
//! [`Configuration::read`] takes upstream's `KubeSchedulerConfiguration`
//! (`kubescheduler.config.k8s.io/v1`); what it does not say is as upstream's
//! default.

mod read;
#[cfg(test)]
mod tests;

use std::time::Duration;

use api_types::core::NodeAffinity;

use crate::{PLUGINS, Plugin, Spread};

/// The name of the profile that pods get who name none.
pub(crate) const DEFAULT: &str = "default-scheduler";

/// How the scheduler works.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// By the pods' `schedulerName`.
    pub profiles: Vec<Profile>,
    /// After a pod's first failure.
    pub backoff_initial: Duration,
    /// Never more.
    pub backoff_max: Duration,
    /// Where it runs, as its events say; empty where nobody asks.
    pub host: String,
    /// What was given and means nothing here.
    pub without_effect: Vec<&'static str>,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            profiles: vec![Profile::default()],
            backoff_initial: Duration::from_secs(1),
            backoff_max: Duration::from_secs(10),
            host: String::new(),
            without_effect: Vec::new(),
        }
    }
}

impl Configuration {
    /// The profile of pods with a `schedulerName`; `None` for somebody else's.
    pub fn profile(&self, scheduler_name: &str) -> Option<&Profile> {
        let name = if scheduler_name.is_empty() { DEFAULT } else { scheduler_name };
        self.profiles.iter().find(|profile| profile.name == name)
    }
}

/// One set of rules.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The `schedulerName` of its pods.
    pub name: String,
    /// Who says what is possible, in the order of [`PLUGINS`].
    pub filters: Vec<&'static Plugin>,
    /// Who says what is better, and how much it counts.
    pub scores: Vec<(&'static Plugin, i64)>,
    /// Whether pods may displace others.
    pub preempts: bool,
    /// How many of the nodes are looked at; `None` for what suits their number.
    pub percentage_of_nodes_to_score: Option<usize>,
    /// What is said to plugins.
    pub args: Args,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            name: DEFAULT.into(),
            filters: PLUGINS.iter().filter(|plugin| plugin.begin.is_some()).collect(),
            scores: PLUGINS
                .iter()
                .filter(|plugin| plugin.score.is_some())
                .map(|plugin| (plugin, plugin.weight))
                .collect(),
            preempts: true,
            percentage_of_nodes_to_score: None,
            args: Args::default(),
        }
    }
}

/// What is said to plugins.
#[derive(Clone, Debug)]
pub struct Args {
    /// `NodeAffinity`: what nodes must, and had better, match besides.
    pub added_affinity: Option<NodeAffinity>,
    /// `InterPodAffinity`: what it counts to be required by a neighbour.
    pub hard_pod_affinity_weight: i64,
    /// `InterPodAffinity`: whether only the wishes of pods that have some
    /// themselves are met.
    pub ignore_preferred_terms_of_existing_pods: bool,
    /// `NodeResourcesFit`: which node is better.
    pub strategy: Strategy,
    /// `NodeResourcesFit`: resources, and groups of them, that somebody else
    /// looks after.
    pub ignored_resources: Vec<String>,
    /// See [`Self::ignored_resources`].
    pub ignored_groups: Vec<String>,
    /// `NodeResourcesBalancedAllocation`: which resources, and their weights.
    pub balanced: Vec<(String, i64)>,
    /// `PodTopologySpread`: for pods that say nothing.
    pub spreading: Spreading,
    /// `VolumeBinding`: how long volumes may take.
    pub bind_timeout: Duration,
    /// `DefaultPreemption`: how many nodes are compared, of all in percent.
    pub min_candidate_nodes_percentage: usize,
    /// `DefaultPreemption`: and at least.
    pub min_candidate_nodes_absolute: usize,
}

fn cpu_and_memory() -> Vec<(String, i64)> {
    vec![("cpu".into(), 1), ("memory".into(), 1)]
}

impl Default for Args {
    fn default() -> Self {
        Self {
            added_affinity: None,
            hard_pod_affinity_weight: 1,
            ignore_preferred_terms_of_existing_pods: false,
            strategy: Strategy::LeastAllocated(cpu_and_memory()),
            ignored_resources: Vec::new(),
            ignored_groups: Vec::new(),
            balanced: cpu_and_memory(),
            spreading: Spreading::System,
            bind_timeout: Duration::from_secs(600),
            min_candidate_nodes_percentage: 10,
            min_candidate_nodes_absolute: 100,
        }
    }
}

impl Args {
    /// Whether somebody else looks after a resource.
    pub(crate) fn ignores(&self, resource: &str) -> bool {
        self.ignored_resources.iter().any(|name| name == resource)
            || resource
                .split_once('/')
                .is_some_and(|(group, _)| self.ignored_groups.iter().any(|name| name == group))
    }
}

/// How pods that say nothing are spread.
#[derive(Clone, Debug)]
pub enum Spreading {
    /// Over nodes and zones, as a wish; nodes without the labels count.
    System,
    /// By these constraints.
    List(Vec<Spread>),
}

impl Spreading {
    /// The constraints, without selectors.
    pub fn constraints(&self) -> &[Spread] {
        const fn wish(max_skew: i64) -> Spread {
            Spread {
                max_skew,
                topology_key: String::new(),
                is_hard: false,
                labels: None,
                domains_min: 1,
                honors_affinity: true,
                honors_taints: false,
            }
        }
        static SYSTEM: std::sync::LazyLock<[Spread; 2]> = std::sync::LazyLock::new(|| {
            [
                Spread { topology_key: "kubernetes.io/hostname".into(), ..wish(3) },
                Spread { topology_key: "topology.kubernetes.io/zone".into(), ..wish(5) },
            ]
        });
        match self {
            Self::System => &*SYSTEM,
            Self::List(list) => list,
        }
    }
}

/// Which node is better, by what is in use; with the weights of resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The emptier one.
    LeastAllocated(Vec<(String, i64)>),
    /// The fuller one: bin packing.
    MostAllocated(Vec<(String, i64)>),
    /// By a curve.
    RequestedToCapacityRatio {
        /// Which resources count.
        resources: Vec<(String, i64)>,
        /// Percent in use, and the score there from 0 to 100.
        shape: Vec<(i64, i64)>,
    },
}

impl Strategy {
    /// Which resources count, and how much.
    pub fn resources(&self) -> &[(String, i64)] {
        match self {
            Self::LeastAllocated(resources)
            | Self::MostAllocated(resources)
            | Self::RequestedToCapacityRatio { resources, .. } => resources,
        }
    }

    /// 0 to 100, for so much in use of what is offered.
    pub fn score(&self, used: i64, offered: i64) -> i64 {
        let percent = |part: i64| {
            let percent = i128::from(part) * 100 / i128::from(offered.max(1));
            i64::try_from(percent).unwrap_or(i64::MAX)
        };
        match self {
            Self::LeastAllocated(_) if used > offered => 0,
            Self::LeastAllocated(_) => percent(offered - used),
            Self::MostAllocated(_) => percent(used.min(offered)),
            Self::RequestedToCapacityRatio { shape, .. } => {
                let at = if used > offered { 100 } else { percent(used) };
                on_curve(shape, at)
            }
        }
    }
}

/// The height of a curve of straight lines; flat before and behind it.
fn on_curve(shape: &[(i64, i64)], at: i64) -> i64 {
    let Some(next) = shape.iter().position(|(x, _)| at <= *x) else {
        return shape.last().map_or(0, |(_, y)| *y);
    };
    let (x1, y1) = shape[next];
    match next.checked_sub(1).map(|before| shape[before]) {
        None => y1,
        Some((x0, y0)) => y0 + (y1 - y0) * (at - x0) / (x1 - x0).max(1),
    }
}

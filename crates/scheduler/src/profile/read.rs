//! Reads `KubeSchedulerConfiguration`.

use std::{collections::BTreeMap, time::Duration};

use api_object::{LabelSelector, Meta};
use api_types::core::{NodeAffinity, TopologySpreadConstraint};
use serde::Deserialize;
use serde_json::Value;

use super::{Args, Configuration, Profile, Spreading, Strategy, cpu_and_memory};
use crate::{PLUGINS, Plugin, Spread, plugin};

/// What cannot be read is named with its path.
type Read<T> = Result<T, String>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    profiles: Vec<WireProfile>,
    percentage_of_nodes_to_score: Option<usize>,
    pod_initial_backoff_seconds: Option<u64>,
    pod_max_backoff_seconds: Option<u64>,
    #[serde(default)]
    extenders: Vec<Value>,
    parallelism: Option<i32>,
    leader_election: Option<Value>,
    client_connection: Option<Value>,
    enable_profiling: Option<bool>,
    enable_contention_profiling: Option<bool>,
    delay_cache_until_active: Option<bool>,
}

impl Wire {
    /// How upstream's own process is run: a part of a server needs none of it, and a
    /// file from elsewhere says it all the same.
    fn without_effect(&self) -> Vec<&'static str> {
        let rows = [
            ("parallelism", self.parallelism.is_some()),
            ("leaderElection", self.leader_election.is_some()),
            ("clientConnection", self.client_connection.is_some()),
            ("enableProfiling", self.enable_profiling.is_some()),
            ("enableContentionProfiling", self.enable_contention_profiling.is_some()),
            ("delayCacheUntilActive", self.delay_cache_until_active.is_some()),
        ];
        rows.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireProfile {
    #[serde(default)]
    scheduler_name: String,
    percentage_of_nodes_to_score: Option<usize>,
    #[serde(default)]
    plugins: BTreeMap<String, PluginSet>,
    #[serde(default)]
    plugin_config: Vec<PluginConfig>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct PluginSet {
    enabled: Vec<PluginEntry>,
    disabled: Vec<PluginEntry>,
}

impl PluginSet {
    /// Whether a plugin that was there is not any more.
    fn leaves_out(&self, name: &str) -> bool {
        let named = |list: &[PluginEntry], name: &str| list.iter().any(|entry| entry.name == name);
        (named(&self.disabled, name) || named(&self.disabled, "*")) && !named(&self.enabled, name)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PluginEntry {
    name: String,
    weight: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PluginConfig {
    name: String,
    args: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FitArgs {
    scoring_strategy: Option<WireStrategy>,
    #[serde(default)]
    ignored_resources: Vec<String>,
    #[serde(default)]
    ignored_resource_groups: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireStrategy {
    r#type: String,
    #[serde(default)]
    resources: Vec<WireResource>,
    requested_to_capacity_ratio: Option<WireRatio>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireResource {
    name: String,
    #[serde(default = "one")]
    weight: i64,
}

fn one() -> i64 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRatio {
    shape: Vec<WirePoint>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePoint {
    utilization: i64,
    score: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BalancedArgs {
    #[serde(default)]
    resources: Vec<WireResource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SpreadArgs {
    #[serde(default)]
    default_constraints: Vec<Value>,
    #[serde(default)]
    defaulting_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct InterPodAffinityArgs {
    #[serde(default = "one")]
    hard_pod_affinity_weight: i64,
    #[serde(default)]
    ignore_preferred_terms_of_existing_pods: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NodeAffinityArgs {
    added_affinity: Option<NodeAffinity>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct VolumeBindingArgs {
    bind_timeout_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DefaultPreemptionArgs {
    min_candidate_nodes_percentage: Option<usize>,
    min_candidate_nodes_absolute: Option<usize>,
}

/// The extension points at which plugins are enabled and disabled here; the
/// others are known, and not to be changed.
const POINTS: [&str; 4] = ["multiPoint", "filter", "score", "postFilter"];
/// What upstream's plugins prepare before another point, which is one step with it here:
/// a file may say of both the same.
const PREPARATIONS: [(&str, &str); 2] = [("preFilter", "filter"), ("preScore", "score")];
/// The points that are always as upstream's defaults have them, and whose part there is
/// not to be left out.
const FIXED: [(&str, &[&str]); 7] = [
    ("queueSort", &["PrioritySort"]),
    ("preEnqueue", &["SchedulingGates"]),
    ("reserve", &["VolumeBinding", "DynamicResources"]),
    ("permit", &[]),
    ("preBind", &["VolumeBinding", "DynamicResources"]),
    ("bind", &["DefaultBinder"]),
    ("postBind", &[]),
];

impl Configuration {
    /// From upstream's form.
    ///
    /// # Errors
    /// Names what is unknown or out of range.
    pub fn read(value: &Value) -> Read<Self> {
        let wire: Wire = serde_json::from_value(value.clone()).map_err(|e| e.to_string())?;
        if !matches!(wire.api_version.as_str(), "" | "kubescheduler.config.k8s.io/v1")
            || !matches!(wire.kind.as_str(), "" | "KubeSchedulerConfiguration")
        {
            return Err(format!(
                "{} {} is not kubescheduler.config.k8s.io/v1 KubeSchedulerConfiguration",
                wire.api_version, wire.kind
            ));
        }
        if !wire.extenders.is_empty() {
            return Err("extenders: no program outside is asked here".into());
        }
        let mut all = Self { without_effect: wire.without_effect(), ..Self::default() };
        if let Some(seconds) = wire.pod_initial_backoff_seconds {
            all.backoff_initial = Duration::from_secs(seconds.max(1));
        }
        if let Some(seconds) = wire.pod_max_backoff_seconds {
            all.backoff_max = Duration::from_secs(seconds).max(all.backoff_initial);
        }
        let percentage = percentage(wire.percentage_of_nodes_to_score)?;
        if !wire.profiles.is_empty() {
            all.profiles = wire.profiles.into_iter().map(profile).collect::<Read<_>>()?;
        }
        for at in 0..all.profiles.len() {
            let (before, rest) = all.profiles.split_at_mut(at);
            let profile = &mut rest[0];
            if before.iter().any(|other| other.name == profile.name) {
                return Err(format!(
                    "profiles[{at}].schedulerName: {:?} is there twice",
                    profile.name
                ));
            }
            profile.percentage_of_nodes_to_score =
                profile.percentage_of_nodes_to_score.or(percentage);
        }
        Ok(all)
    }
}

/// 0 stands for what suits the number of nodes.
fn percentage(given: Option<usize>) -> Read<Option<usize>> {
    match given {
        Some(n) if n > 100 => Err(format!("percentageOfNodesToScore: {n} is not from 0 to 100")),
        given => Ok(given.filter(|n| *n > 0)),
    }
}

fn profile(wire: WireProfile) -> Read<Profile> {
    let mut profile = Profile {
        percentage_of_nodes_to_score: percentage(wire.percentage_of_nodes_to_score)?,
        ..Profile::default()
    };
    if !wire.scheduler_name.is_empty() {
        profile.name = wire.scheduler_name;
    }
    // Whatever the order in the file: a point's own word counts after all points'.
    for point in POINTS {
        if let Some(set) = wire.plugins.get(point) {
            enable(&mut profile, point, set)?;
        }
    }
    for (point, set) in &wire.plugins {
        if let Some((_, of)) = PREPARATIONS.iter().find(|(preparation, _)| point == preparation) {
            prepare(&profile, point, of, set)?;
        } else if let Some((_, always)) = FIXED.iter().find(|(fixed, _)| point == fixed) {
            stay(point, always, set)?;
        } else if !POINTS.contains(&point.as_str()) {
            let known = POINTS.join(", ");
            return Err(format!("plugins.{point}: plugins can be changed at {known}"));
        }
    }
    for PluginConfig { name, args } in wire.plugin_config {
        let within = |error: String| format!("pluginConfig of {name}: {error}");
        configure(&mut profile.args, &name, args).map_err(within)?;
    }
    Ok(profile)
}

fn enable(profile: &mut Profile, point: &str, set: &PluginSet) -> Read<()> {
    let (filters, scores) =
        (point != "score" && point != "postFilter", point != "filter" && point != "postFilter");
    let preempts = point == "multiPoint" || point == "postFilter";
    for PluginEntry { name, .. } in &set.disabled {
        let is_it = |plugin: &Plugin| name == "*" || plugin.name == name;
        if name != "*" {
            known(point, name)?;
        }
        if filters {
            profile.filters.retain(|plugin| !is_it(plugin));
        }
        if scores {
            profile.scores.retain(|(plugin, _)| !is_it(plugin));
        }
        if preempts && (name == "*" || name == "DefaultPreemption") {
            profile.preempts = false;
        }
    }
    for PluginEntry { name, weight } in &set.enabled {
        let plugin = known(point, name)?;
        if filters && plugin.begin.is_some() && !profile.filters.iter().any(|p| p.name == *name) {
            profile.filters.push(plugin);
        }
        if scores && plugin.score.is_some() {
            let weight = weight.filter(|weight| *weight != 0).unwrap_or(plugin.weight);
            if !(1..=100).contains(&weight) {
                return Err(format!("plugins.{point}: the weight of {name} is not from 1 to 100"));
            }
            profile.scores.retain(|(known, _)| known.name != *name);
            profile.scores.push((plugin, weight));
        }
        profile.preempts |= preempts && name == "DefaultPreemption";
    }
    Ok(())
}

fn known(point: &str, name: &str) -> Read<&'static Plugin> {
    plugin(name).ok_or_else(|| {
        let names: Vec<_> = PLUGINS.iter().map(|plugin| plugin.name).collect();
        format!("plugins.{point}: no plugin is called {name:?}; there are {}", names.join(", "))
    })
}

/// Whether a set leaves a point as it is.
fn stay(point: &str, always: &[&str], set: &PluginSet) -> Read<()> {
    let named = set.enabled.iter().chain(&set.disabled).map(|entry| entry.name.as_str());
    for name in named.filter(|name| *name != "*") {
        known(point, name)?;
    }
    match always.iter().find(|name| set.leaves_out(name)) {
        Some(name) => Err(format!("plugins.{point}: {name} cannot be left out")),
        None => Ok(()),
    }
}

/// Whether those that are not to prepare a point have no part in it either.
fn prepare(profile: &Profile, point: &str, of: &str, set: &PluginSet) -> Read<()> {
    let taking_part: Vec<&str> = match of {
        "filter" => profile.filters.iter().map(|plugin| plugin.name).collect(),
        _ => profile.scores.iter().map(|(plugin, _)| plugin.name).collect(),
    };
    match taking_part.into_iter().find(|name| set.leaves_out(name)) {
        Some(name) => {
            Err(format!("plugins.{point}: {name} takes part in {of}: disable it there too"))
        }
        None => Ok(()),
    }
}

fn resources(list: Vec<WireResource>) -> Read<Vec<(String, i64)>> {
    if list.is_empty() {
        return Ok(cpu_and_memory());
    }
    let one = |WireResource { name, weight }| match (1..=100).contains(&weight) {
        true => Ok((name, weight)),
        false => Err(format!("the weight of {name} is not from 1 to 100")),
    };
    list.into_iter().map(one).collect()
}

fn configure(args: &mut Args, name: &str, mut value: Value) -> Read<()> {
    if let Some(fields) = value.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    fn read<T: serde::de::DeserializeOwned>(value: Value) -> Read<T> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }
    match name {
        "NodeResourcesFit" => {
            let fit: FitArgs = read(value)?;
            args.ignored_resources = fit.ignored_resources;
            args.ignored_groups = fit.ignored_resource_groups;
            if let Some(wanted) = fit.scoring_strategy {
                args.strategy = strategy(wanted)?;
            }
        }
        "NodeResourcesBalancedAllocation" => {
            args.balanced = resources(read::<BalancedArgs>(value)?.resources)?;
        }
        "NodeAffinity" => args.added_affinity = read::<NodeAffinityArgs>(value)?.added_affinity,
        "InterPodAffinity" => {
            let wanted: InterPodAffinityArgs = read(value)?;
            if !(0..=100).contains(&wanted.hard_pod_affinity_weight) {
                return Err("hardPodAffinityWeight is not from 0 to 100".into());
            }
            args.hard_pod_affinity_weight = wanted.hard_pod_affinity_weight;
            args.ignore_preferred_terms_of_existing_pods =
                wanted.ignore_preferred_terms_of_existing_pods;
        }
        "PodTopologySpread" => args.spreading = spreading(read(value)?)?,
        "VolumeBinding" => {
            if let Some(seconds) = read::<VolumeBindingArgs>(value)?.bind_timeout_seconds {
                args.bind_timeout = Duration::from_secs(seconds);
            }
        }
        "DefaultPreemption" => {
            let wanted: DefaultPreemptionArgs = read(value)?;
            let percentage = wanted.min_candidate_nodes_percentage.unwrap_or(10);
            let absolute = wanted.min_candidate_nodes_absolute.unwrap_or(100);
            if percentage > 100 || (percentage, absolute) == (0, 0) {
                return Err(
                    "minCandidateNodesPercentage is not from 0 to 100, or both are 0".into()
                );
            }
            args.min_candidate_nodes_percentage = percentage;
            args.min_candidate_nodes_absolute = absolute;
        }
        _ => return Err("this plugin takes no arguments".into()),
    }
    Ok(())
}

fn strategy(wire: WireStrategy) -> Read<Strategy> {
    let resources = resources(wire.resources)?;
    match (wire.r#type.as_str(), wire.requested_to_capacity_ratio) {
        ("LeastAllocated", _) => Ok(Strategy::LeastAllocated(resources)),
        ("MostAllocated", _) => Ok(Strategy::MostAllocated(resources)),
        ("RequestedToCapacityRatio", Some(WireRatio { shape })) => {
            // Scores are given from 0 to 10, and counted to 100.
            let points: Vec<(i64, i64)> =
                shape.iter().map(|point| (point.utilization, point.score * 10)).collect();
            let rises = points.windows(2).all(|pair| pair[0].0 < pair[1].0);
            let within = points.iter().all(|(x, y)| (0..=100).contains(x) && (0..=100).contains(y));
            match rises && within && !points.is_empty() {
                true => Ok(Strategy::RequestedToCapacityRatio { resources, shape: points }),
                false => Err("requestedToCapacityRatio.shape: utilization must rise from 0 to 100, score be from 0 to 10".into()),
            }
        }
        ("RequestedToCapacityRatio", None) => {
            Err("requestedToCapacityRatio: the type of that name needs its shape".into())
        }
        (other, _) => Err(format!(
            "scoringStrategy.type: {other:?} is unknown; there are LeastAllocated, MostAllocated, RequestedToCapacityRatio"
        )),
    }
}

fn spreading(wire: SpreadArgs) -> Read<Spreading> {
    match (wire.defaulting_type.as_str(), wire.default_constraints.is_empty()) {
        ("System", false) => {
            Err("defaultConstraints: must be empty with defaultingType System".into())
        }
        ("System", true) => Ok(Spreading::System),
        ("" | "List", _) => {
            let one = |value: Value| {
                let wanted: TopologySpreadConstraint =
                    serde_json::from_value(value).map_err(|error| error.to_string())?;
                if wanted.label_selector.is_some() {
                    return Err("defaultConstraints: labelSelector is found for each pod".into());
                }
                if wanted.max_skew < 1 || wanted.topology_key.is_empty() {
                    return Err("defaultConstraints: maxSkew and topologyKey are required".into());
                }
                let spread = Spread::new(wanted, &Meta::default());
                Ok(Spread { labels: None::<LabelSelector>, ..spread })
            };
            wire.default_constraints.into_iter().map(one).collect::<Read<_>>().map(Spreading::List)
        }
        (other, _) => Err(format!("defaultingType: {other:?} is neither System nor List")),
    }
}

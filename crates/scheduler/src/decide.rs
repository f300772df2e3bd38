//! One pod and the nodes: which one it shall be, or why none.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use client::Cached;

use crate::{
    Binds, Cluster, Filter, Map, Node, Plugin, Pod, Profile, Rejection, Start, Task, fit_error,
    preempt::{self, Preemption},
};

/// What becomes of a pod.
#[derive(Clone, Debug)]
pub enum Decision {
    /// It shall run on this node, once its volumes are bound.
    Bind {
        /// The node's name.
        node: String,
        /// What has to be bound first.
        binds: Binds,
    },
    /// No node is possible now.
    Unschedulable(Unschedulable),
}

/// Why no node is possible.
#[derive(Clone, Debug)]
pub struct Unschedulable {
    /// In upstream's form, as it is shown in the event and the condition.
    pub message: String,
    /// Who rejected: what helps one of them may help the pod.
    pub plugins: BTreeSet<&'static str>,
    /// Whose place it shall have.
    pub preemption: Option<Preemption>,
    /// Whether the room that was being made for it will not do.
    pub clears_nomination: bool,
}

/// Looks at up to this many nodes in every cluster; upstream's figure.
const FEASIBLE_MIN: usize = 100;

/// Decides for one pod. `random` chooses among equally good nodes.
pub fn decide(
    cluster: &Cluster,
    pod: &Arc<Cached<Pod>>,
    profile: &Profile,
    random: u64,
) -> Decision {
    if cluster.is_empty() {
        return Decision::Unschedulable(Unschedulable {
            message: "no nodes available to schedule pods".into(),
            // Any new one may help.
            plugins: BTreeSet::from(["NodeName"]),
            preemption: None,
            clears_nomination: false,
        });
    }
    let task = Task { cluster, pod, profile };
    let mut look = match Look::begin(&task) {
        Ok(look) => look,
        Err((plugin, rejection)) => return never(&task, plugin, rejection, false),
    };
    let found = look.feasible(&task);
    if found.nodes.is_empty() {
        return unschedulable(&task, &mut look, &found, random);
    }
    let node = best(&task, &found.nodes, random);
    let binds = match binds(&task, node) {
        Ok(binds) => binds,
        Err(rejection) => return never(&task, "VolumeBinding", rejection, true),
    };
    Decision::Bind { node: node.name().to_owned(), binds }
}

/// What has to be bound for the pod to run on the node that was chosen.
fn binds(task: &Task<'_>, node: &Node) -> Result<Binds, Rejection> {
    let looks_after = |plugin: &&Plugin| plugin.name == "VolumeBinding";
    if task.pod.view.claims.is_empty() || !task.profile.filters.iter().any(looks_after) {
        return Ok(Binds::new());
    }
    let volumes = &task.cluster.volumes;
    let claims = volumes.claims_of(task.pod).map_err(Rejection::never)?;
    volumes.on_node(&claims, node).map_err(|reasons| Rejection::never(reasons.join(", ")))
}

/// The plugins that have something to say of a pod, at work.
pub(crate) struct Look<'a> {
    pub(crate) filters: Vec<(&'static Plugin, Box<dyn Filter + 'a>)>,
    /// The possible nodes by name, where they are named, and who named them.
    only: Option<(BTreeSet<String>, Vec<&'static str>)>,
    /// For whom room is being made on each node.
    nominated: Map<String, Vec<Arc<Cached<Pod>>>>,
}

/// What was found.
pub(crate) struct Found<'a> {
    nodes: Vec<&'a Node>,
    pub(crate) rejected: Vec<(&'a Node, &'static str, Rejection)>,
}

impl<'a> Look<'a> {
    fn begin(task: &Task<'a>) -> Result<Self, (&'static str, Rejection)> {
        let mut look = Self { filters: Vec::new(), only: None, nominated: Map::default() };
        for plugin in &task.profile.filters {
            let Some(begin) = plugin.begin else { continue };
            match begin(task) {
                Start::Skip => {}
                Start::Each(filter) => look.filters.push((plugin, filter)),
                Start::Never(rejection) => return Err((plugin.name, rejection)),
                Start::Only(names, filter) => {
                    look.filters.push((plugin, filter));
                    let names: BTreeSet<String> = names.into_iter().collect();
                    let (all, by) = look.only.get_or_insert_with(|| (names.clone(), Vec::new()));
                    all.retain(|name| names.contains(name));
                    by.push(plugin.name);
                }
            }
        }
        for (node, other) in task.cluster.nominations() {
            if other.view.priority >= task.pod.view.priority && other.meta.uid != task.pod.meta.uid
            {
                look.nominated.entry(node.clone()).or_default().push(other.clone());
            }
        }
        Ok(look)
    }

    /// The nodes that are possible: all, or enough of them to choose from.
    fn feasible(&mut self, task: &Task<'a>) -> Found<'a> {
        let cluster = task.cluster;
        let mut found = Found { nodes: Vec::new(), rejected: Vec::new() };
        // Room was made there, so that is where it goes, if it does.
        let nominated = cluster.nomination(task.pod).and_then(|node| cluster.node(node));
        if let Some(node) = nominated
            && self.check(node).is_none()
        {
            found.nodes.push(node);
            return found;
        }
        if let Some((names, _)) = &self.only {
            for node in names.clone().iter().filter_map(|name| cluster.node(name)) {
                self.sort(node, &mut found);
            }
            return found;
        }
        let order = cluster.order();
        let enough = enough(order.len(), task.profile.percentage_of_nodes_to_score);
        let start = cluster.start.get() % order.len();
        let mut looked = 0;
        for slot in order[start..].iter().chain(&order[..start]) {
            let node = cluster.at(*slot).expect("the order is of nodes that are there");
            looked += 1;
            self.sort(node, &mut found);
            if found.nodes.len() >= enough {
                break;
            }
        }
        cluster.start.set((start + looked) % order.len());
        found
    }

    fn sort(&mut self, node: &'a Node, found: &mut Found<'a>) {
        match self.check(node) {
            None => found.nodes.push(node),
            Some((plugin, rejection)) => found.rejected.push((node, plugin, rejection)),
        }
    }

    /// Why a node is not possible, now and when those come for whom room is
    /// being made there.
    pub(crate) fn check(&mut self, node: &Node) -> Option<(&'static str, Rejection)> {
        if let Some(coming) = self.nominated.get(node.name()).cloned() {
            let mut later = node.clone();
            for pod in &coming {
                self.add(&mut later, pod);
            }
            let rejected = self.check_now(&later);
            for pod in &coming {
                self.remove(&mut later, pod);
            }
            if rejected.is_some() {
                return rejected;
            }
        }
        self.check_now(node)
    }

    fn check_now(&self, node: &Node) -> Option<(&'static str, Rejection)> {
        let mut filters = self.filters.iter();
        filters.find_map(|(plugin, filter)| Some((plugin.name, filter.check(node)?)))
    }

    /// Tries a node with one pod more.
    pub(crate) fn add(&mut self, node: &mut Node, pod: &Arc<Cached<Pod>>) {
        node.add(pod);
        self.filters.iter_mut().for_each(|(_, filter)| filter.moved(pod, node, 1));
    }

    /// Tries a node with one pod less.
    pub(crate) fn remove(&mut self, node: &mut Node, pod: &Arc<Cached<Pod>>) {
        node.remove(pod);
        self.filters.iter_mut().for_each(|(_, filter)| filter.moved(pod, node, -1));
    }
}

/// How many possible nodes are enough; upstream's rule: half of a hundred
/// nodes' worth less for each 125, and never under 5 %.
fn enough(nodes: usize, percentage: Option<usize>) -> usize {
    let percentage = match percentage {
        Some(percentage) => percentage.min(100),
        None => 50usize.saturating_sub(nodes / 125).max(5),
    };
    match nodes {
        nodes if nodes < FEASIBLE_MIN => nodes,
        nodes => (nodes * percentage / 100).max(FEASIBLE_MIN),
    }
}

fn best<'a>(task: &Task<'_>, nodes: &[&'a Node], random: u64) -> &'a Node {
    // One possible node needs no comparison.
    if let [only] = nodes {
        return only;
    }
    let mut totals = vec![0i64; nodes.len()];
    for (plugin, weight) in &task.profile.scores {
        if let Some(score) = plugin.score {
            for (total, score) in totals.iter_mut().zip(score(task, nodes)) {
                *total += score * weight;
            }
        }
    }
    let best = totals.iter().copied().max().unwrap_or(0);
    let winners: Vec<&'a Node> =
        nodes.iter().zip(&totals).filter(|(_, total)| **total == best).map(|(n, _)| *n).collect();
    winners[usize::try_from(random % winners.len() as u64).unwrap_or(0)]
}

/// A plugin said no before it saw a node, or after all `looked`.
fn never(task: &Task<'_>, plugin: &'static str, rejection: Rejection, looked: bool) -> Decision {
    let nodes = task.cluster.len();
    let reasons: Vec<&str> = rejection.reasons.iter().collect();
    let mut message = fit_error::never(nodes, &reasons.join(", "));
    if claims_devices(task) && !looked && plugin != DEVICES {
        // Upstream's plugin for devices, which comes before preemption has its say, did not
        // get to look at the pod and ends it all with the words of an empty map.
        message.push_str(" not found");
    } else {
        let preemption = task.profile.preempts.then(|| match preempt::is_eligible(task, &[]) {
            Err(why) => why,
            Ok(()) => fit_error::counted(nodes, [(preempt::NO_HELP, nodes)].into_iter()),
        });
        message.push_str(&no_room(task, preemption));
    }
    Decision::Unschedulable(Unschedulable {
        message,
        plugins: BTreeSet::from([plugin]),
        preemption: None,
        clears_nomination: task.cluster.nomination(task.pod).is_some(),
    })
}

const DEVICES: &str = "DynamicResources";

fn claims_devices(task: &Task<'_>) -> bool {
    task.profile.filters.iter().any(|plugin| plugin.name == DEVICES)
}

/// What those who could have made room say.
fn no_room(task: &Task<'_>, preemption: Option<String>) -> String {
    let devices = match task.waiting().resource_claims {
        0 => "no new claims to deallocate",
        _ => "still not schedulable",
    };
    let devices = claims_devices(task).then(|| devices.to_owned());
    let preemption = preemption.map(|told| format!("preemption: {told}"));
    let said: Vec<String> = devices.into_iter().chain(preemption).collect();
    match said.is_empty() {
        true => String::new(),
        false => format!(" {}", said.join(", ")),
    }
}

fn unschedulable<'a>(
    task: &Task<'a>,
    look: &mut Look<'a>,
    found: &Found<'a>,
    random: u64,
) -> Decision {
    let nodes = task.cluster.len();
    let mut plugins: BTreeSet<&'static str> =
        found.rejected.iter().map(|(_, plugin, _)| *plugin).collect();
    let reasons = found.rejected.iter().flat_map(|(_, _, rejection)| rejection.reasons.iter());
    let mut reasons: Vec<(Cow<'_, str>, usize)> =
        reasons.map(|reason| (reason.into(), 1)).collect();
    let absent = nodes - found.rejected.len();
    if let Some((_, by)) = look.only.as_ref().filter(|_| absent > 0) {
        plugins.extend(by);
        reasons
            .push((format!("node(s) didn't satisfy plugin(s) [{}]", by.join(" ")).into(), absent));
    }
    let counts = reasons.iter().map(|(reason, n)| (reason.as_ref(), *n));
    let mut message = fit_error::counted(nodes, counts);
    let mut preemption = None;
    let mut clears_nomination = false;
    let preempts = || preempt::preempt(task, look, &found.rejected, random);
    match task.profile.preempts.then(preempts) {
        Some(Ok(chosen)) => preemption = Some(chosen),
        Some(Err(why)) => {
            message.push_str(&no_room(task, Some(why.message)));
            clears_nomination =
                why.clears_nomination && task.cluster.nomination(task.pod).is_some();
        }
        None => message.push_str(&no_room(task, None)),
    }
    Decision::Unschedulable(Unschedulable { message, plugins, preemption, clears_nomination })
}

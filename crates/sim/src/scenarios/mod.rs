//! What users do while things go wrong, and what must have come of it.

mod autoscaling;
mod claims;
mod clock;
mod cron;
mod daemon_nodes;
mod daemonset;
mod daemonset_surge;
mod drain;
mod identity;
mod job_policies;
mod jobs;
mod nodes;
mod ownership;
mod rollout;
mod scaling;
mod statefulset;
mod volumes;

use std::time::Duration;

use client::{BoxFuture, Resource};

use crate::{Cluster, World};

pub(crate) const DEPLOYMENTS: Resource = Resource::namespaced("apps", "v1", "deployments");
pub(crate) const PODS: Resource = Resource::namespaced("", "v1", "pods");
pub(crate) const NAMESPACES: Resource = Resource::cluster("", "v1", "namespaces");
pub(crate) const NODES: Resource = Resource::cluster("", "v1", "nodes");

/// A story with faults.
pub struct Scenario {
    /// Also the name of its test.
    pub name: &'static str,
    /// The [`crate::INVARIANTS`] that hold in it.
    pub holds: &'static [&'static str],
    /// What users do; the faults end with it.
    pub users: fn(World) -> BoxFuture<()>,
    /// What the cluster must have reached some time later.
    pub settled: fn(&Cluster) -> Result<(), String>,
}

/// All of them.
pub static SCENARIOS: &[Scenario] = &[
    rollout::SCENARIO,
    scaling::SCENARIO,
    ownership::SCENARIO,
    nodes::SCENARIO,
    jobs::SCENARIO,
    cron::SCENARIO,
    statefulset::SCENARIO,
    identity::SCENARIO,
    daemonset::SCENARIO,
    daemon_nodes::SCENARIO,
    drain::SCENARIO,
    volumes::SCENARIO,
    clock::SCENARIO,
    daemonset_surge::SCENARIO,
    claims::SCENARIO,
    job_policies::SCENARIO,
    autoscaling::SCENARIO,
];

/// Nodes fall silent one after the other, some for longer than pods tolerate.
pub(crate) async fn cut_off_nodes(world: &World) {
    for _ in 0..2 {
        world.some_time(60).await;
        let time = Duration::from_secs(30 + world.random().below(500));
        world.cut_off(&world.some_node(), time).await;
    }
}

/// An error unless `right`.
pub(crate) fn expect(right: bool, wrong: impl FnOnce() -> String) -> Result<(), String> {
    if right { Ok(()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many seeds a scenario where nothing else is said: all of them in a minute.
    const SEEDS: u64 = 2;

    fn number(name: &str) -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
    }

    fn check(name: &str) {
        let scenario = SCENARIOS.iter().find(|one| one.name == name).expect("it is in the table");
        let seeds = match number("SKIFF_SIM_SEED") {
            Some(seed) => seed..seed + 1,
            None => 0..number("SKIFF_SIM_SEEDS").unwrap_or(SEEDS),
        };
        for seed in seeds {
            if let Err(error) = crate::run(scenario, seed) {
                panic!("{error}");
            }
        }
    }

    macro_rules! tests {
        ($($name:ident)*) => {
            $(#[test] fn $name() { check(stringify!($name)); })*

            #[test]
            fn every_scenario_has_its_test() {
                let tested = [$(stringify!($name)),*];
                assert_eq!(SCENARIOS.iter().map(|one| one.name).collect::<Vec<_>>(), tested);
            }
        };
    }

    tests! {
        rollout scaling ownership nodes jobs cron statefulset identity daemonset daemon_nodes drain
        volumes clock daemonset_surge claims job_policies autoscaling
    }

    /// Needs tokio's own choices to follow from the seed too; see `./x sim`.
    #[cfg(tokio_unstable)]
    #[test]
    fn a_seed_replays() {
        let hashes = [5, 5, 6].map(|seed| crate::run(&SCENARIOS[0], seed).expect("it holds"));
        assert_eq!(hashes[0], hashes[1]);
        assert_ne!(hashes[0], hashes[2]);
    }
}

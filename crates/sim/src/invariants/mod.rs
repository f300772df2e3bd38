//! What must hold after every single write, whatever goes wrong. One a file.

mod autoscaling;
mod budget;
mod daemons;
mod identity;
mod index_limit;
mod jobs;
mod nodes_stay;
mod one_at_a_time;
mod orphans;
mod replacement;
mod replicas;
mod retention;
mod schedule;
mod success_policy;
mod surge;
mod surging;
mod time_to_live;
mod volumes;

use crate::{Change, Cluster, World};

/// Something that always holds. A value of it follows one run.
pub trait Invariant: Send {
    /// Looks at a write; `cluster` is the state after it.
    ///
    /// # Errors
    /// What does not hold any more.
    fn observe(
        &mut self,
        world: &World,
        cluster: &Cluster,
        change: &Change<'_>,
    ) -> Result<(), String>;

    /// Looks at a cluster that had time to come to rest.
    ///
    /// # Errors
    /// What does not hold at rest.
    fn settled(&self, _world: &World, _cluster: &Cluster) -> Result<(), String> {
        Ok(())
    }
}

/// Makes a value for one run.
type Make = fn() -> Box<dyn Invariant>;

/// All of them by the names that scenarios use.
pub static INVARIANTS: &[(&str, Make)] = &[
    ("surge", || Box::<surge::Surge>::default()),
    ("replicas", || Box::<replicas::Replicas>::default()),
    ("orphans", || Box::new(orphans::Orphans)),
    ("jobs", || Box::<jobs::Jobs>::default()),
    ("identity", || Box::<identity::Identity>::default()),
    ("one at a time", || Box::<one_at_a_time::OneAtATime>::default()),
    ("daemons", || Box::new(daemons::Daemons)),
    ("budget", || Box::new(budget::Budget)),
    ("schedule", || Box::<schedule::Schedule>::default()),
    ("volumes", || Box::new(volumes::Volumes)),
    ("retention", || Box::<retention::Retention>::default()),
    ("surging", || Box::<surging::Surging>::default()),
    ("time to live", || Box::new(time_to_live::TimeToLive)),
    ("nodes stay", || Box::new(nodes_stay::NodesStay)),
    ("replacement", || Box::<replacement::Replacement>::default()),
    ("index limit", || Box::<index_limit::IndexLimit>::default()),
    ("success policy", || Box::<success_policy::SuccessPolicy>::default()),
    ("autoscaling", || Box::<autoscaling::Autoscaling>::default()),
];

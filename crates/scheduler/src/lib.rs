//! The scheduler: says on which node a pod runs.
//!
//! A decision is a pure function ([`decide`]) of one pod and the [`Cluster`]
//! as the caches tell it; what may run where is the table [`PLUGINS`], how
//! much each counts the pod's [`Profile`]. Around it are the queue of pods
//! that wait (`queue.rs`) and the thin layer that binds (`act.rs`). This
//! crate must not know the store or the API server: it binds through
//! [`client::Api`], and runs against any Kubernetes API. Start reading at
//! [`decide`].

#![warn(missing_docs)]

mod act;
mod bind;
mod cluster;
mod decide;
mod disks;
mod fit_error;
mod handle;
mod happening;
mod neighbours;
mod node;
mod order;
mod owners;
mod plugins;
mod pod;
mod preempt;
mod profile;
mod queue;
mod requests;
#[cfg(test)]
mod stories;
mod terms;
mod volumes;
mod watching;

pub use act::run;
pub use cluster::Cluster;
pub use decide::{Decision, Unschedulable, decide};
pub use disks::Disk;
pub use happening::{Happening, Hint};
pub use node::{Node, Offer};
pub use plugins::{
    Begin, Filter, Helps, PLUGINS, Plugin, Reasons, Rejection, SCORE_MAX, Score, Start, Task,
    plugin,
};
pub use pod::{Claimed, HostPort, Pod, Waiting};
pub use preempt::Preemption;
pub use profile::{Args, Configuration, Profile, Spreading, Strategy};
pub use requests::Requests;
pub use terms::{Affinity, Labels, PodSelector, Spread, Term};
pub use volumes::{Bind, Binds};

/// A map whose order is the same in every run.
pub(crate) type Map<K, V> = std::collections::HashMap<
    K,
    V,
    std::hash::BuildHasherDefault<std::collections::hash_map::DefaultHasher>,
>;

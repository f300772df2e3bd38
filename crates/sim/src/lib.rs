//! A whole cluster in one process: the real API server, registry, admission,
//! controllers and scheduler over a store in memory, with kubelets that only
//! report, on a clock that stands still while anybody works.
//!
//! A seed decides every fault: requests that are lost, answers that are lost
//! after the write was done, watches that lag, repeat themselves, break or
//! expire, controllers that are killed at any await. A [`Scenario`] says what
//! users do meanwhile, and [`INVARIANTS`] are asked about every single write in
//! the order of the store. Then the faults end, the cluster has to reach what
//! was asked for, and after that write nothing any more.
//!
//! For tests only. `./x sim SCENARIO SEED` runs one seed as it ran before, write
//! by write; `./x sim` runs many. The plain tests run a few, whose faults follow
//! from the seed, while the order of tasks that wake together does not: tokio
//! takes that from outside unless it is built for it. Start reading at [`run`].

#![warn(missing_docs)]

mod clock;
mod faults;
mod history;
mod invariants;
mod kubelet;
mod random;
mod run;
mod scenarios;
mod usage;
mod world;

pub use history::{Change, Cluster};
pub use invariants::{INVARIANTS, Invariant};
pub use random::Random;
pub use run::run;
pub use scenarios::{SCENARIOS, Scenario};
pub use world::World;

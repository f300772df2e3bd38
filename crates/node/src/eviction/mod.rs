//! What the node does when it runs short: it says so in its conditions, frees
//! what nobody uses, and ends pods.
//!
//! [`thresholds`] reads the kubelet's flags and its signals, [`decide`] keeps what
//! was seen over time and says which signal is to be answered, [`rank`] orders the
//! pods, [`limits`] finds those that use more storage than they may, [`dead`] the
//! containers whose room is wanted: all pure. [`last_use`] remembers when images were
//! used. [`run`] looks and acts, on the pods that [`evictable`] knows.
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/>)

mod dead;
mod decide;
mod evictable;
mod last_use;
mod limits;
mod notice;
mod rank;
mod run;
mod thresholds;

pub use dead::DeadContainers;
pub(crate) use decide::Pressure;
pub(crate) use evictable::{Evictable, Order, Preemptable, SYSTEM_CRITICAL, is_critical};
pub(crate) use run::run;
pub(crate) use thresholds::duration;
pub use thresholds::{Eviction, HARD as EVICTION_HARD, Signal};

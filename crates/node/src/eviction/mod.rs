//! What the node does when it runs short: it says so in its conditions, frees
//! what nobody uses, and ends pods.
//!
//! [`thresholds`] reads the kubelet's flags and its signals, [`decide`] keeps what
//! was seen over time and says which signal is to be answered, [`rank`] orders the
//! pods, [`limits`] finds those that use more storage than they may: all pure.
//! [`run`] looks and acts.
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/>)

mod decide;
mod limits;
mod notice;
mod rank;
mod run;
mod thresholds;

pub(crate) use decide::Pressure;
pub(crate) use run::{Evictable, Order, is_critical, run};
pub use thresholds::{Eviction, HARD as EVICTION_HARD, Signal};

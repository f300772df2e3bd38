//! The scheduler: says on which node a pod runs.
//!
//! A decision is a pure function ([`decide`]) of one pod and a snapshot of
//! the nodes; what may run where is the table [`PLUGINS`]. Around it are the
//! cluster's state as the caches tell it (`state.rs`), the queue of pods that
//! wait (`queue.rs`), and the thin layer that binds (`act.rs`). This crate
//! must not know the store or the API server: it binds through
//! [`client::Api`], and runs against any Kubernetes API. Start reading at
//! [`decide`].

#![warn(missing_docs)]

mod act;
mod decide;
mod node;
mod plugins;
mod pod;
mod queue;
mod requests;
mod state;
#[cfg(test)]
mod stories;

pub use act::run;
pub use decide::{Decision, FitError, decide};
pub use node::{Node, Offer};
pub use plugins::{Filter, Hint, PLUGINS, Plugin, Rejection, SCORE_MAX, Score};
pub use pod::{HostPort, Pod, Waiting};
pub use requests::Requests;

//! What tests are written with: builders, so that a test reads like a
//! sentence, and [`FakeCluster`], an API in memory that keeps just those
//! rules of the real one that clients build upon. For tests only; nothing of
//! the product may depend on this crate but for its tests.

#![warn(missing_docs)]

mod build;
mod discovery;
mod fake;
mod store;

pub use build::{
    Build, daemon_set, deployment, job, namespace, node, pod, replica_set, replication_controller,
    service, stateful_set,
};
pub use fake::FakeCluster;

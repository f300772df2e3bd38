//! The one door to the cluster's state: requests, watches, and what is built
//! from them (informers, work queues, reconcile loops).
//!
//! Controllers, scheduler and node reach objects through [`Api`] and nothing
//! else, so each also runs against any other Kubernetes API server. Below
//! [`Api`] is a [`Transport`]: a function call in the server's process, HTTPS
//! elsewhere. This crate must not know server internals, nor any kind but
//! Event, which [`Recorder`] writes. Start reading at [`Api`]; then
//! [`Informer`], [`WorkQueue`] and [`reconcile_loop`] are what a controller
//! is made of.

#![warn(missing_docs)]

mod ambient;
mod api;
mod cache;
mod event;
mod https;
#[cfg(test)]
mod https_story;
mod informer;
mod queue;
mod reconcile;
mod reflect;
mod shared;
#[cfg(test)]
mod story;
mod supervise;
mod transport;

pub use ambient::{Ambient, Backoff, ClockSets};
pub use api::{
    Api, DeleteOptions, Error, List, ListOptions, PatchKind, Preconditions, Resource, Watch,
    WatchEvent, with_query,
};
pub use cache::{Cached, IndexFn, MetaOnly, View, revision};
pub use event::{Recorder, Reference, Severity};
pub use https::{Credentials, Https, HttpsConfig, ServerIdentity, Way};
pub use informer::{Change, Informer, Selection};
pub use queue::WorkQueue;
pub use reconcile::{Lagging, Outcome, OwnWrites, ReconcileError, reconcile_loop};
pub use reflect::{Reflected, reflect};
pub use shared::SharedInformers;
pub use supervise::{restarted, supervise};
pub use transport::{Body, BoxFuture, Transport, TransportError};

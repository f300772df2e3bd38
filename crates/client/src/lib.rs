//! The one door to the cluster's state: requests, watches, and what is built
//! from them (informers, work queues, reconcile loops).
//!
//! Controllers, scheduler and node reach objects through [`Api`] and nothing
//! else, so each also runs against any other Kubernetes API server. Below
//! [`Api`] is a [`Transport`]: a function call in the server's process, HTTPS
//! elsewhere. This crate must not know server internals, nor any kind.
//! Start reading at [`Api`].

#![warn(missing_docs)]

mod api;
mod transport;

pub use api::{
    Api, DeleteOptions, Error, List, ListOptions, PatchKind, Preconditions, Resource, Watch,
    WatchEvent,
};
pub use transport::{Body, BoxFuture, Transport, TransportError};

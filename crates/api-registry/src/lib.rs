//! What get, list, watch, create, update, patch and delete *mean* for any kind:
//! versions, preconditions, finalizers, graceful deletion, dry run.
//!
//! This crate knows no HTTP and no name of a kind; a kind is a
//! `ResourceSpec`, and a POST that is about more than one object is a
//! [`SubresourceHandler`] that somebody else provides. Who may ask ([`access`])
//! and what is filled in or refused ([`admission`]) are traits that others
//! implement. Start reading at [`Registry`], then `update.rs`.

pub mod access;
pub mod admission;
mod admitted;
mod beside;
mod computed;
mod convert;
mod create;
mod delete;
mod evict;
mod expire;
mod extension;
mod forward;
mod managed;
pub mod options;
mod patch;
mod read;
mod registry;
mod select;
mod stored;
mod token;
mod update;
mod versions;
mod watch;

pub use access::{
    Authenticator, Authorizer, BoxFuture, Credentials, Decision, RequestAttributes, UserInfo,
};
pub use admission::{Admission, AdmitAll, Attributes, Beside, Operation, Reinvocation};
pub use computed::{Compute, Computing, Wanted};
pub use convert::{Caller, Converter};
pub use create::Body;
pub use delete::Deleted;
pub use evict::Evict;
pub use extension::{Connection, Extension, Extensions, NoExtensions, Priority, Registered};
pub use forward::Forward;
pub use options::{DeleteOptions, ListOptions, Propagation, VersionMatch, WriteOptions};
pub use patch::{Patch, PatchFault, operate};
pub use read::Listed;
pub use registry::{Posted, Registry, Request, Sources, SubresourceHandler, Written};
pub use watch::{Watch, WatchEvent};

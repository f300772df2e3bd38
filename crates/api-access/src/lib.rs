//! Who is calling, may they, and what is filled in or refused.
//!
//! One value, [`Access`], answers all three questions for the API server: it
//! implements `api-registry`'s `Authenticator`, `Authorizer` and `Admission`.
//! It keeps what it must know of the cluster in memory ([`state`]), fed by
//! watches through `client`, so that a decision reads no store.
//!
//! This crate knows no HTTP, and it writes only what [`bootstrap`], the
//! aggregation of ClusterRoles and the Secrets of tokens ask for. Start reading at [`Access`]; then
//! [`authorization`] for the order in which a request is judged, and
//! [`admission::ADMISSION`], the table of what happens to a write.

#![warn(missing_docs)]

mod access;
pub mod admission;
mod authentication;
pub mod authorization;
pub mod bootstrap;
mod follow;
mod legacy_tokens;
pub mod review;
pub mod service;
mod state;
#[cfg(test)]
mod testing;

pub use access::{Access, Random, Settings, system_random};

//! HTTP: the request chain, discovery, negotiation, watch and byte streams.
//!
//! Knows no kind by its behaviour, and no storage: what a verb does is
//! `api-registry`'s business, what is served is the catalogue's. Identity and
//! permission are trait objects. Start reading at `chain.rs`, which is the way
//! of every request; then [`ApiServer`] for how one comes in.

mod body;
mod chain;
mod configuration;
mod connection;
mod counts;
mod discovery;
mod extension;
mod gnostic;
mod health;
mod impersonate;
mod in_process;
mod listen;
mod negotiate;
mod objects;
mod openapi;
mod opening;
mod path;
mod plain;
mod respond;
mod server;
mod spliced;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod values;
mod view;

pub use body::Body;
pub use health::{Check, Health, Probe};
pub use in_process::InProcess;
pub use listen::{BoxFuture, Protocol, Tls};
pub use plain::Published;
pub use server::{ApiServer, Parts, Version};

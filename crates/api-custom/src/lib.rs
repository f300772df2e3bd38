//! Custom kinds: what makes a CustomResourceDefinition a kind that is served.
//!
//! [`CustomKinds`] follows the definitions through the API like any client. A
//! pure plan (`plan`) says which names are accepted and which conditions hold;
//! `act` puts the rows into the catalogue *before* it says so in the status, so
//! that whoever waits for `Established` can create at once; `cleanup` lets the
//! objects go before a deleted definition does. [`Webhooks`] calls webhooks and
//! converts objects between versions for the registry: `review` is the protocol of
//! conversion, `webhook` the call, `service` the way to one that is a Service.
//!
//! What a definition may say, and the rows that become of it, are in
//! `api-kinds`; this crate knows no storage. Start reading at `plan`.

mod act;
mod cleanup;
mod plan;
mod review;
pub mod service;
mod webhook;

pub use act::CustomKinds;
pub use webhook::Webhooks;

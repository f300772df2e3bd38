//! The `skiff` binary as a library: flags and commands as tables, and the
//! server and the agent as `start(config) → handle`.
//!
//! This is the only crate that knows all others; it wires and decides nothing.
//! Start at [`run`] (what a command line does), `server` and `agent` (what each
//! is made of, in order) and `node`, which both have.

#![warn(missing_docs)]

mod admin;
mod agent;
mod check;
mod clock;
mod columns;
pub mod commands;
pub mod config;
pub mod flags;
mod logging;
mod manual;
mod node;
mod notify;
mod rotation;
mod server;
mod service;
mod status;
mod told;
mod upgrade;

pub use commands::run;

/// Why a server or an agent could not start.
pub(crate) type StartError = Box<dyn std::error::Error + Send + Sync>;

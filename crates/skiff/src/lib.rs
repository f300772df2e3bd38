//! The `skiff` binary as a library: flags and commands as tables, and the
//! server as `build(config) → handle`.
//!
//! This is the only crate that knows all others; it wires and decides nothing.
//! Start at [`run`] (what a command line does) and `server` (what a server is
//! made of, in order).

#![warn(missing_docs)]

pub mod commands;
pub mod config;
pub mod flags;
mod logging;
mod notify;
mod server;

pub use commands::run;

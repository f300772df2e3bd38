//! The protocol between the runtime and the shims, used by both sides.
//!
//! A shim outlives the runtime that started it and meets newer ones, so what
//! is here is a contract: [`protocol::VERSION`] rises with every change, and a
//! runtime speaks the version that a shim answers in its hello. This library
//! knows no async runtime and does no I/O; the shim itself is `main.rs`.

pub mod log_record;
pub mod protocol;
mod steps_wire;
pub mod wire;

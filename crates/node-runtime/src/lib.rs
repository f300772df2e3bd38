//! Pod sandboxes and containers: namespaces, cgroups, root file systems and
//! the shim that holds each pod, behind one async trait.
//!
//! This crate knows no Kubernetes object, no image format and no network:
//! root file systems come as directories, a sandbox's network namespace is
//! handed out as a path for somebody else to plumb.
//!
//! Start reading at [`Runtime`], then [`spec`] for what goes in and [`state`]
//! for what comes out. [`ShimRuntime`] is the implementation: it turns a
//! specification into a list of steps (`plan`) and has the pod's shim
//! (`node-shim`) run them.

mod adopt;
mod client;
mod container;
mod device;
mod error;
mod killall;
mod layout;
pub mod passwd;
mod plan;
mod record;
mod runtime;
mod sandbox;
mod seccomp;
mod session;
mod shim_runtime;
pub mod spec;
pub mod state;

pub use error::{Error, Result};
pub use killall::killall;
pub use runtime::{AttachStreams, BoxFuture, ControlMessage, ExecSession, Runtime, SessionControl};
pub use shim_runtime::{Config, ShimRuntime};
pub use spec::{ContainerSpec, ExecSpec, SandboxSpec};
pub use state::{
    Container, ContainerId, ContainerState, Event, ExecOutput, ExitStatus, Pressure, Sandbox,
    SandboxId, SandboxState, Stall, Stats,
};

#[cfg(test)]
mod tests;

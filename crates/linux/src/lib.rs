//! Safe wrappers for namespaces, mounts, trees of files, cgroups, capabilities
//! and seccomp.
//!
//! Synchronous, and ignorant of containers' specifications, pods and clusters:
//! it knows kernel interfaces. Beside `netlink` the only crate with `unsafe`;
//! each such block says why it is sound. The lowest kernel is Linux 5.12
//! (mount_setattr).
//!
//! Start reading at [`steps`], the vocabulary of what a child does between
//! clone and exec, then [`child`], which runs it. [`cgroup`] is one trait with
//! a v1 and a v2 backend. [`tree`] walks through directories whose depth
//! somebody else decides; std's way of removing them is as deep as they are.

#[cfg(feature = "allocator")]
pub mod allocator;
pub mod capability;
pub mod cgroup;
pub mod child;
mod child_identity;
mod child_mounts;
mod child_overlay;
mod child_terminal;
pub mod clock;
pub mod detect;
pub mod memfd;
pub mod mount;
pub mod namespace;
mod path_buffer;
pub mod pressure;
pub mod process;
pub mod program_pages;
pub mod seccomp;
pub mod steps;
pub mod tree;

//! What the machine, its pods and their containers use: the node's half of the
//! kubelet's stats.
//!
//! [`look`] reads (cgroups through the runtime, `/proc`, file systems),
//! [`machine`] parses, [`rates`] turns two readings of CPU time into a speed;
//! [`summary`] and [`exposition`] say it in the kubelet's formats, and [`pages`]
//! is the table of what the node answers. Nothing is measured while nobody asks.

pub(crate) mod exposition;
pub(crate) mod look;
pub(crate) mod machine;
pub(crate) mod pages;
mod process;
mod rates;
mod running;
mod settings;
mod summary;

pub(crate) use look::Usage;

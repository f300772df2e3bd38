//! The durable, replicated [`Store`]: openraft over our own log and snapshots.
//!
//! This crate knows no Kubernetes. Reading starts at [`RaftStore`], which
//! answers on every server of a cluster: `anywhere` is how what only the leader
//! can do gets there, `serve` what it does for others, `lead` what follows a
//! change of the lead, `renewals` what is replicated without the log. Below it,
//! `consensus` is all that knows openraft, `log` is the durable log with its
//! one writing thread, `home` the thread of Raft's tasks, `snapshot` the file that
//! replaces old log, `backup` the state as a file to carry away, `seal` the
//! encryption of all of them, and [`disk`] what they stand on (and the place where
//! tests put a disk that fails), as [`peers`] is for the network. The messages
//! on disk and on the wire are in `proto/skiff/{store,raft}/v1`.
//!
//! Everything in the directory of a store is sealed, bar file headers. A server
//! that is alone and that nobody writes to does not touch its disk and does not
//! wake up.

#![warn(missing_docs)]

mod anywhere;
pub mod backup;
#[cfg(test)]
mod cluster_test;
mod codec;
mod consensus;
mod dir;
pub mod disk;
mod forward;
#[cfg(test)]
mod full_test;
mod home;
#[cfg(test)]
mod kill_test;
mod lead;
mod log;
mod members;
pub mod peers;
mod proposer;
pub mod proto;
#[cfg(test)]
mod proto_test;
mod renewals;
mod reset;
mod seal;
mod serve;
#[cfg(test)]
mod simulation;
mod snapshot;
mod stats;
mod store;
#[cfg(test)]
mod store_test;

use std::{path::PathBuf, sync::Arc};

use ::store::Limits;

pub use crate::{
    dir::lock,
    log::writer::LogStats,
    members::{ChangeFailed, Member, Position},
    reset::{Reset, reset},
    stats::Stats,
    store::RaftStore,
};
use crate::{
    disk::Disk,
    peers::{NoPeers, Peers},
};

/// What entries this version may write; see `FeatureLevel` in `store.proto`.
pub const FEATURE_LEVEL: u32 = 1;

/// How to open a store.
#[derive(Clone)]
pub struct OpenOptions {
    /// Its directory, made if it is missing. It belongs to one server.
    pub dir: PathBuf,
    /// How much history is kept.
    pub limits: Limits,
    /// Over so many bytes of state and history, creations are refused.
    pub quota_bytes: u64,
    /// The size of log files; a multiple of 4096.
    pub segment_bytes: u64,
    /// The size of the very first log file, so that a first start is quick.
    pub first_segment_bytes: u64,
    /// A snapshot is taken when the log since the last one is larger than this
    /// and than the state.
    pub snapshot_log_bytes: u64,
    /// Stands in for the disk behind `dir`, in tests.
    pub disk: Option<Arc<dyn Disk>>,
    /// Stands in for the random ID of a new store, in tests.
    pub id: Option<u64>,
    /// What the other members are to know of this one.
    pub name: String,
    /// `host:port` at which they reach it; empty for a store that stays alone.
    pub address: String,
    /// For people.
    pub version: String,
    /// The way to them.
    pub peers: Arc<dyn Peers>,
    /// The cluster that a new store belongs to, into which others will take it;
    /// without, a new store is a new cluster.
    pub join: Option<[u8; 16]>,
}

impl OpenOptions {
    /// The defaults that a server uses.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            limits: Limits::default(),
            quota_bytes: 2 << 30,
            segment_bytes: 4 << 20,
            first_segment_bytes: 1 << 20,
            snapshot_log_bytes: 16 << 20,
            disk: None,
            id: None,
            name: String::new(),
            address: String::new(),
            version: String::new(),
            peers: Arc::new(NoPeers),
            join: None,
        }
    }
}

/// Why a store cannot be opened. Nothing in its directory was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another skiff server{}", .dir.display(), .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    InUse {
        /// The store's directory.
        dir: PathBuf,
        /// The other process, if it left its ID.
        pid: Option<u32>,
    },
    /// The directory cannot be made, read or written.
    #[error("{}: {what}: {error}", .dir.display())]
    Dir {
        /// The store's directory.
        dir: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        error: std::io::Error,
    },
    /// What is on disk does not read back, or was written by a newer version.
    #[error("{}: {what}", .dir.display())]
    Damaged {
        /// The store's directory.
        dir: PathBuf,
        /// What and where.
        what: String,
    },
    /// It holds the state of another cluster than the one to join.
    #[error(
        "{} holds the state of another cluster; to join, remove the data directory or choose \
         another with --data-dir", .dir.display()
    )]
    OtherCluster {
        /// The store's directory.
        dir: PathBuf,
    },
    /// Raft did not start.
    #[error("the store did not start: {0}")]
    Raft(String),
}

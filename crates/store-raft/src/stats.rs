//! Numbers about a store, for a server's metrics.

use std::sync::atomic::Ordering;

use store::Mvcc;

use crate::{LogStats, consensus::machine::Shared};

/// A reading of all numbers. Counters start at 0 when the store is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Keys in the state.
    pub keys: u64,
    /// Memory of keys and values, in bytes.
    pub state_bytes: u64,
    /// Memory of past values, in bytes.
    pub history_bytes: u64,
    /// Watches that run.
    pub watchers: u64,
    /// The newest revision.
    pub revision: u64,
    /// The index of the last entry applied.
    pub applied_index: u64,
    /// The cluster's feature level.
    pub feature_level: u32,
    /// Groups written to the log, each with one `fdatasync`.
    pub log_groups: u64,
    /// Bytes written to the log, padding included.
    pub log_bytes: u64,
    /// Bytes of the records in them.
    pub log_payload_bytes: u64,
    /// Time spent writing and syncing, in nanoseconds.
    pub log_write_nanos: u64,
    /// The longest write and sync, in nanoseconds.
    pub log_write_nanos_max: u64,
    /// Space taken by the log's files, in bytes.
    pub log_disk_bytes: u64,
    /// Log since the last snapshot, in bytes.
    pub log_since_snapshot_bytes: u64,
    /// Size of the last snapshot taken by this process, in bytes.
    pub snapshot_bytes: u64,
}

pub(crate) fn collect(shared: &Shared, mvcc: &Mvcc, log: &LogStats) -> Stats {
    let progress = shared.progress();
    Stats {
        keys: mvcc.key_count() as u64,
        state_bytes: mvcc.state_bytes(),
        history_bytes: mvcc.history_bytes(),
        watchers: mvcc.watcher_count() as u64,
        revision: mvcc.revision().0,
        applied_index: progress.applied.map_or(0, |id| id.index),
        feature_level: progress.feature_level,
        log_groups: log.groups.load(Ordering::Relaxed),
        log_bytes: log.bytes.load(Ordering::Relaxed),
        log_payload_bytes: log.payload_bytes.load(Ordering::Relaxed),
        log_write_nanos: log.write_nanos.load(Ordering::Relaxed),
        log_write_nanos_max: log.write_nanos_max.load(Ordering::Relaxed),
        log_disk_bytes: log.disk_bytes.load(Ordering::Relaxed),
        log_since_snapshot_bytes: progress.bytes_since_snapshot,
        snapshot_bytes: progress.snapshot_bytes,
    }
}

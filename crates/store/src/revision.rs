//! Revisions: the one clock of the cluster.

use std::fmt;

/// A point in the order of all writes; the `resourceVersion` of objects.
///
/// `(base + log index) << 20 | n`, where `n` counts the operations inside one
/// log entry from 1. It is assigned when the entry is applied, so every server
/// computes the same one. `base` is 0 in a new cluster and raised by a restore,
/// so that no revision is issued twice. This layout is stored and seen by
/// clients and cannot change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub u64);

impl Revision {
    /// Before every write.
    pub const ZERO: Self = Self(0);
    /// How many low bits count operations inside one entry.
    pub const OP_BITS: u32 = 20;

    /// The revision of a log entry before its first operation.
    pub fn of_index(base: u64, index: u64) -> Self {
        Self((base + index) << Self::OP_BITS)
    }

    /// The log index that this revision came from.
    pub fn index(self, base: u64) -> u64 {
        (self.0 >> Self::OP_BITS).saturating_sub(base)
    }

    /// The next operation of the same entry.
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

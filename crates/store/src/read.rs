//! Reads: items, pages and why a revision cannot be read.

use crate::{Key, Revision, Value};

/// A key with its value at some revision. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Value,
    /// The write that set the value.
    pub revision: Revision,
    /// The write that created the key, later than any deletion.
    pub created: Revision,
}

/// Which keys to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// Keys that start with this; all for the empty string.
    pub prefix: String,
    /// Only keys after this one, which need not exist: where the last page ended.
    pub start_after: Option<Key>,
    /// At most so many items; 0 for no limit.
    pub limit: usize,
    /// The state at this revision; `None` for now.
    pub at: Option<Revision>,
}

impl Range {
    /// All keys under a prefix, now.
    pub fn all(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..Self::default() }
    }
}

/// A part of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In key order.
    pub items: Vec<Item>,
    /// How many further items the range had at this revision.
    pub remaining: usize,
    /// The revision that the page shows: the one asked for, else the newest.
    /// Read the next page at it, watch from it.
    pub revision: Revision,
}

impl Page {
    /// Whether the range goes on after this page.
    pub fn more(&self) -> bool {
        self.remaining > 0
    }
}

/// Why a revision cannot be read or watched from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The history window does not reach back so far.
    #[error("the revision is too old: history starts at {oldest}")]
    Compacted {
        /// The oldest revision that can be read or watched from.
        oldest: Revision,
    },
    /// This server has not applied the revision yet.
    #[error("the revision is in the future: the newest is {current}")]
    Future {
        /// The newest revision.
        current: Revision,
    },
}

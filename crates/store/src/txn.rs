//! Writes: transactions, what guards them and how they end.

use bytes::Bytes;

use crate::{Item, Key, Revision};

/// Operations in one transaction; a log entry has room for 2^20.
const OPS_MAX: usize = 1 << 16;

/// What a key holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Value {
    /// The schema epoch that `data` was written under; opaque to the store.
    pub epoch: u32,
    /// Opaque to the store.
    pub data: Bytes,
}

/// All operations, if all conditions hold; otherwise nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// Checked in order against the state before the first operation.
    pub conditions: Vec<(Key, Condition)>,
    /// Carried out in order; each takes a revision of its own.
    pub ops: Vec<Op>,
}

impl Txn {
    /// Creates a key that must not exist.
    pub fn create(put: Put) -> Self {
        Self { conditions: vec![(put.key.clone(), Condition::Absent)], ops: vec![Op::Put(put)] }
    }

    /// Replaces a key that must be at a revision.
    pub fn update(put: Put, at: Revision) -> Self {
        let conditions = vec![(put.key.clone(), Condition::AtRevision(at))];
        Self { conditions, ops: vec![Op::Put(put)] }
    }

    /// Deletes a key that must be at a revision.
    pub fn delete(key: Key, at: Revision) -> Self {
        let conditions = vec![(key.clone(), Condition::AtRevision(at))];
        Self { conditions, ops: vec![Op::Delete { key }] }
    }

    /// Whether the transaction could be applied to some state.
    ///
    /// # Errors
    /// [`CommitError::Invalid`].
    pub fn validate(&self) -> Result<(), CommitError> {
        if self.ops.len() > OPS_MAX {
            let text = format!("a transaction has at most {OPS_MAX} operations");
            return Err(CommitError::Invalid(text));
        }
        let outside = |op: &Op| match op {
            Op::Put(put) => put.revision_at.is_some_and(|at| at as usize > put.value.data.len()),
            Op::Delete { .. } => false,
        };
        if self.ops.iter().any(outside) {
            return Err(CommitError::Invalid("the revision's place is outside the value".into()));
        }
        Ok(())
    }

    /// An estimate of the memory and log space it takes, in bytes.
    pub fn size_bytes(&self) -> usize {
        let conditions = self.conditions.iter().map(|(key, _)| key.as_str().len() + 16);
        let ops = self.ops.iter().map(|op| match op {
            Op::Put(put) => put.key.as_str().len() + put.value.data.len() + 32,
            Op::Delete { key } => key.as_str().len() + 16,
        });
        conditions.sum::<usize>() + ops.sum::<usize>() + 16
    }
}

/// What must be true of a key for a transaction to apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The key does not exist.
    Absent,
    /// The key exists.
    Present,
    /// The key exists and was last written at this revision.
    AtRevision(Revision),
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets a key.
    Put(Put),
    /// Removes a key; nothing happens where there is none, and no event comes of it.
    Delete {
        /// The key.
        key: Key,
    },
}

/// Sets a key to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The key.
    pub key: Key,
    /// The value, complete but for the revision.
    pub value: Value,
    /// A byte offset in `value.data`, at most its length, at which the
    /// operation's revision is inserted in decimal. It is only known when the
    /// entry is applied, and this way the stored bytes are complete; what is
    /// read and watched always has it.
    pub revision_at: Option<u32>,
}

/// A volatile replacement of a value; see [`crate::Store::renew`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The key and its new value.
    pub put: Put,
    /// The revision that the key must be at.
    pub at: Revision,
}

/// A renewal that was made, for the other servers' memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// The key.
    pub key: Key,
    /// Its new value, whole.
    pub value: Value,
    /// The revision that the renewal was given.
    pub revision: Revision,
    /// The key's revision in the log.
    pub over: Revision,
}

/// A transaction that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The revision of the last operation; one with `k` operations took the
    /// `k` revisions up to it. A transaction without effect (no operations, or
    /// only deletes of absent keys) has the revision of its log entry.
    pub revision: Revision,
}

/// A transaction whose conditions did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Which condition failed first, counted from 0.
    pub condition: usize,
    /// What that condition's key holds; `None` where it does not exist.
    pub current: Option<Item>,
    /// The store's revision when the conditions were checked.
    pub revision: Revision,
}

/// Why a transaction was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A condition did not hold; nothing was applied.
    #[error("condition {} did not hold", .0.condition)]
    Conflict(Box<Conflict>),
    /// The transaction cannot be applied whatever the state; nothing was.
    #[error("{0}")]
    Invalid(String),
    /// The state would grow past its quota; nothing was applied. Deletes pass.
    #[error(
        "the store is full: {used_bytes} of {quota_bytes} bytes used; delete objects or raise the quota"
    )]
    Full {
        /// Keys and values held.
        used_bytes: u64,
        /// The most that may be held.
        quota_bytes: u64,
    },
    /// Nothing was applied: the store is shutting down, or its disk failed
    /// earlier. Trying again may help.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Nothing was applied: a leader and a quorum were waited for in vain, or there is
    /// no room on the disk. Trying again at once does not help.
    #[error("the store is unavailable: {0}")]
    NoLeader(String),
    /// It is not known whether the transaction was or will be applied.
    #[error("the outcome of the write is unknown: {0}")]
    Unknown(String),
}

impl From<Conflict> for CommitError {
    fn from(conflict: Conflict) -> Self {
        Self::Conflict(Box::new(conflict))
    }
}

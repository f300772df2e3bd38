//! The MVCC state machine and its watch hub: bytes in, bytes out.
//!
//! A key has a value, a value has a revision, and one strictly rising integer
//! orders all writes. Readers see the present or, inside a bounded window of
//! history, the past; watchers are told of every change in order and can
//! resume from any revision of that window.
//!
//! This crate knows no Kubernetes, no disk, no network and no clock: whoever
//! owns a [`Mvcc`] applies numbered log entries to it and tells it the time.
//! Start reading at [`Store`], the interface that the API layer uses; then
//! [`Txn`] for what a write is, [`Mvcc`] for what it does, and [`suite`] for
//! what every implementation promises.

#![warn(missing_docs)]

mod history;
mod hub;
mod key;
pub mod linear;
mod memory;
mod mvcc;
#[cfg(test)]
mod mvcc_test;
mod read;
mod revision;
pub mod suite;
mod txn;

use std::{future::Future, pin::Pin};

pub use hub::{Batch, Event, EventKind, WatchError, Watcher};
pub use key::Key;
pub use memory::MemoryStore;
pub use mvcc::{Image, Limits, Mvcc};
pub use read::{Item, Page, Range, ReadError};
pub use revision::Revision;
pub use txn::{CommitError, Committed, Condition, Conflict, Op, Put, Renewal, Renewed, Txn, Value};

/// A future on the heap, so that [`Store`] can be used as `Arc<dyn Store>`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the API layer needs of a store. Reads and watches are answered from
/// this server's memory at once; only writes and [`Store::read_barrier`] wait
/// for a quorum.
pub trait Store: Send + Sync + 'static {
    /// Applies all of the transaction or none of it, durably.
    ///
    /// # Errors
    /// See [`CommitError`]; only [`CommitError::Unknown`] leaves it open
    /// whether the transaction was applied. Dropping the future does not take
    /// the transaction back.
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Committed, CommitError>>;

    /// Replaces the value of an existing key without a disk write. The new
    /// value is read, listed and watched like any other, but lives in memory:
    /// after a crash the key has its last committed value again. Meant for
    /// heartbeats (a lease renewed by its holder), where losing the last one is
    /// harmless.
    ///
    /// # Errors
    /// [`CommitError::Conflict`] unless the key is at [`Renewal::at`] (an
    /// absent key included).
    fn renew(&self, renewal: Renewal) -> BoxFuture<'_, Result<Committed, CommitError>>;

    /// A revision that includes every write acknowledged, by any server, before
    /// this call; a read after it is linearizable. This server has applied it.
    ///
    /// # Errors
    /// [`CommitError::NoLeader`] where no quorum answers.
    fn read_barrier(&self) -> BoxFuture<'_, Result<Revision, CommitError>>;

    /// Waits until this server has applied `revision`. The caller sets the
    /// time limit by dropping the future.
    fn applied(&self, revision: Revision) -> BoxFuture<'_, ()>;

    /// The newest revision that this server has applied.
    fn revision(&self) -> Revision;

    /// One key, now or at an older revision.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Item>, ReadError>;

    /// The keys under a prefix in byte order, page by page.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn range(&self, range: &Range) -> Result<Page, ReadError>;

    /// Every change under `prefix` after revision `from` (exclusive), in order.
    /// To go on from a list, watch from [`Page::revision`].
    ///
    /// # Errors
    /// See [`ReadError`].
    fn watch(&self, prefix: &str, from: Revision) -> Result<Watcher, ReadError>;
}

//! A store that lives in memory and forgets everything: for tests of what
//! stands on a store, and the simplest example of how to own a [`Mvcc`].

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{
    BoxFuture, CommitError, Committed, Item, Key, Limits, Mvcc, Page, Range, ReadError, Renewal,
    Revision, Store, Txn, Watcher,
};

/// See the module's words above; every commit is one log entry.
pub struct MemoryStore {
    state: RwLock<State>,
}

struct State {
    mvcc: Mvcc,
    index: u64,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new(limits: Limits) -> Self {
        let mut mvcc = Mvcc::new(0, limits);
        // As a new leader's blank entry does: no client ever sees revision 0.
        mvcc.apply(1, []);
        Self { state: RwLock::new(State { mvcc, index: 1 }) }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn commit(&mut self, mut txn: Txn) -> Result<Committed, CommitError> {
        txn.validate()?;
        self.mvcc.prepare(&mut txn).map_err(CommitError::from)?;
        self.index += 1;
        let mut answers = self.mvcc.apply(self.index, [txn]);
        Ok(answers.pop().expect("one transaction has one answer")?)
    }
}

impl Store for MemoryStore {
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(async move { self.write().commit(txn) })
    }

    fn renew(&self, renewal: Renewal) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(async move {
            let mut state = self.write();
            match state.mvcc.renew(renewal.clone()) {
                Some(answer) => Ok(answer?),
                None => state.commit(Txn::update(renewal.put, renewal.at)),
            }
        })
    }

    fn read_barrier(&self) -> BoxFuture<'_, Result<Revision, CommitError>> {
        Box::pin(async move { Ok(self.revision()) })
    }

    fn applied(&self, revision: Revision) -> BoxFuture<'_, ()> {
        Box::pin(self.read().mvcc.applied(revision))
    }

    fn revision(&self) -> Revision {
        self.read().mvcc.revision()
    }

    fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Item>, ReadError> {
        self.read().mvcc.get(key, at)
    }

    fn range(&self, range: &Range) -> Result<Page, ReadError> {
        self.read().mvcc.range(range)
    }

    fn watch(&self, prefix: &str, from: Revision) -> Result<Watcher, ReadError> {
        self.read().mvcc.watch(prefix, from)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn it_keeps_the_promises_of_a_store() {
        let make = |limits| -> BoxFuture<'static, Arc<dyn Store>> {
            Box::pin(async move { Arc::new(MemoryStore::new(limits)) as Arc<dyn Store> })
        };
        crate::suite::run(&make).await;
    }
}

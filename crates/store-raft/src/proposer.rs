//! Packs the transactions of many clients into few log entries.
//!
//! At most two entries are under way: while one is being synced the next fills
//! up, so the disk decides how large entries get.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use store::{CommitError, Committed, Key, Op, Txn};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    codec,
    consensus::{Consensus, ProposeError},
};

/// An entry is closed once it holds so many bytes.
const ENTRY_BYTES_MAX: usize = 256 << 10;
/// A transaction must fit into an entry that peers accept in one message.
const TXN_BYTES_MAX: usize = 3 << 20;
const ENTRIES_IN_FLIGHT: usize = 2;
/// Transactions that may wait for an entry; more wait in their callers.
const QUEUE_MAX: usize = 1024;

/// Why a transaction has no revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// This server does not lead; nothing was done.
    NotLeader,
    /// What whoever asked is told.
    Commit(CommitError),
}

impl<E: Into<CommitError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Commit(error.into())
    }
}

type Answer = Result<Committed, Failure>;

struct Proposal {
    txn: Txn,
    answer: oneshot::Sender<Answer>,
    /// Held until the transaction is applied or certainly never will be.
    frozen: Frozen,
}

/// The way into the log.
pub(crate) struct Proposer {
    queue: Mutex<Option<mpsc::Sender<Proposal>>>,
    task: Mutex<Option<JoinHandle<()>>>,
    keys: FrozenKeys,
}

type FrozenKeys = Arc<Mutex<HashMap<Key, usize>>>;

/// Keeps the keys of a transaction from being renewed while it is under way.
pub(crate) struct Frozen {
    all: FrozenKeys,
    keys: Vec<Key>,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let mut all = lock(&self.all);
        for key in &self.keys {
            if let Some(count) = all.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    all.remove(key);
                }
            }
        }
    }
}

impl Proposer {
    /// Starts the task that packs, on that runtime.
    pub(crate) fn start(runtime: &Handle, consensus: Consensus) -> Self {
        let (queue, inbox) = mpsc::channel(QUEUE_MAX);
        let task = runtime.spawn(run(consensus, inbox));
        let (queue, task) = (Mutex::new(Some(queue)), Mutex::new(Some(task)));
        Self { queue, task, keys: FrozenKeys::default() }
    }

    /// Keeps the transaction's keys from being renewed from now on.
    pub(crate) fn freeze(&self, txn: &Txn) -> Frozen {
        let of_ops = txn.ops.iter().map(|op| match op {
            Op::Put(put) => &put.key,
            Op::Delete { key } => key,
        });
        let keys: Vec<Key> =
            txn.conditions.iter().map(|(key, _)| key).chain(of_ops).cloned().collect();
        let mut all = lock(&self.keys);
        for key in &keys {
            *all.entry(key.clone()).or_insert(0) += 1;
        }
        drop(all);
        Frozen { all: self.keys.clone(), keys }
    }

    /// Does something that no transaction on `key` may run beside; `None`
    /// where there is one.
    pub(crate) fn unless_frozen<T>(&self, key: &Key, act: impl FnOnce() -> T) -> Option<T> {
        let all = lock(&self.keys);
        (!all.contains_key(key)).then(act)
    }

    /// Puts a prepared transaction into the log and waits for its answer.
    pub(crate) async fn commit(&self, txn: Txn, frozen: Frozen) -> Answer {
        let size = txn.size_bytes();
        if size > TXN_BYTES_MAX {
            let text =
                format!("the write takes {size} bytes; at most {TXN_BYTES_MAX} are possible");
            return Err(CommitError::Invalid(text).into());
        }
        let closed = || CommitError::Unavailable("the store is shutting down".into());
        let queue = lock(&self.queue).clone().ok_or_else(closed)?;
        let (answer, answered) = oneshot::channel();
        let proposal = Proposal { txn, answer, frozen };
        queue.send(proposal).await.map_err(|_| closed())?;
        drop(queue);
        let stopped = |_| Err(CommitError::Unknown("the store stopped".into()).into());
        answered.await.unwrap_or_else(stopped)
    }

    /// Takes no more transactions and waits for those that it took.
    pub(crate) async fn stop(&self) {
        lock(&self.queue).take();
        let task = lock(&self.task).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!("the proposer failed: {error}");
        }
    }
}

async fn run(consensus: Consensus, mut inbox: mpsc::Receiver<Proposal>) {
    let in_flight = Arc::new(Semaphore::new(ENTRIES_IN_FLIGHT));
    while let Some(first) = inbox.recv().await {
        // Waiting comes before collecting: what arrives meanwhile joins.
        let permit = in_flight.clone().acquire_owned().await.expect("it is never closed");
        let mut bytes = first.txn.size_bytes();
        let mut proposals = vec![first];
        while bytes < ENTRY_BYTES_MAX {
            let Ok(next) = inbox.try_recv() else { break };
            bytes += next.txn.size_bytes();
            proposals.push(next);
        }
        let consensus = consensus.clone();
        tokio::spawn(async move {
            propose(&consensus, proposals).await;
            drop(permit);
        });
    }
    // The last entries finish.
    let _ = in_flight.acquire_many(ENTRIES_IN_FLIGHT as u32).await;
}

async fn propose(consensus: &Consensus, proposals: Vec<Proposal>) {
    let (mut txns, mut waiting, mut frozen) = (Vec::new(), Vec::new(), Vec::new());
    for proposal in proposals {
        txns.push(proposal.txn);
        waiting.push(proposal.answer);
        frozen.push(proposal.frozen);
    }
    let command = codec::encode_batch(&txns);
    drop(txns);
    // Whoever is answered may renew the key at once, unless the outcome is open.
    let answers: Vec<Answer> = match consensus.propose(command, frozen).await {
        Ok(answers) => answers.into_iter().map(|answer| answer.map_err(Failure::from)).collect(),
        Err(error) => {
            let error = match error {
                ProposeError::NotLeader => Failure::NotLeader,
                ProposeError::Refused(why) => CommitError::Unavailable(why).into(),
                ProposeError::Unknown(why) => CommitError::Unknown(why).into(),
            };
            vec![Err(error); waiting.len()]
        }
    };
    for (waiting, answer) in waiting.into_iter().zip(answers) {
        // A caller that went away does not ask.
        let _ = waiting.send(answer);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! What only the leader can do, on any server: it is asked there, and whoever
//! asked waits until this server has what came of it.

use std::{sync::Weak, time::Duration};

use grpc::{CallError, Code};
use prost::Message;
use store::{CommitError, Committed, Renewal, Revision, Txn};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    RaftStore,
    consensus::{BarrierError, READ_INDEX_MAX},
    forward,
    peers::Method,
    proposer::Failure,
    proto::raft_v1::{CommitResponse, Node, ReadIndexRequest, ReadIndexResponse, RenewRequest},
    renewals,
};

/// How long a request waits for a leader and a quorum.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long whoever wrote waits for this server to see it.
const SEE_MAX: Duration = Duration::from_secs(3);
const _: () = assert!(READ_INDEX_MAX.as_millis() < SEE_MAX.as_millis(), "the leader answers first");
/// How long an answer of a leader that was deposed is still waited for.
const LAST_WORD: Duration = Duration::from_millis(300);
/// How often a leader asks whether it still leads before it renews a lease in its log.
const ASKED_MAX: usize = 3;
/// Between two looks at who leads, where nobody says that it changed.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl RaftStore {
    /// The leader, where it is another server.
    fn leader(&self) -> Option<(u64, Node)> {
        let lead = self.consensus.lead();
        let id = lead.leader.filter(|id| *id != self.links.me)?;
        Some((id, lead.members.get(&id)?.clone()))
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.consensus.lead().is_alone(self.links.me)
    }

    fn no_leader(&self) -> CommitError {
        let lead = self.consensus.lead();
        CommitError::NoLeader(match lead.voters.len() {
            0 => "this server has not been taken into the cluster yet".into(),
            voters => {
                // Who waits for room on its disk answers nobody's heartbeat.
                let full = match self.is_full() {
                    true => format!("; {}", self.no_room_text()),
                    false => String::new(),
                };
                format!(
                    "no leader: fewer than {} of {voters} servers answer; see `skiff cluster \
                     status`{full}",
                    voters / 2 + 1
                )
            }
        })
    }

    /// Waits before a request that found no leader looks for one again.
    ///
    /// # Errors
    /// Once it has waited since `start` for as long as requests are patient.
    pub(crate) async fn look_again(&self, start: Instant) -> Result<(), CommitError> {
        if start.elapsed() > PATIENCE {
            return Err(self.no_leader());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        self.health()
    }

    /// See [`store::Store::commit`].
    pub(crate) async fn commit_anywhere(&self, txn: Txn) -> Result<Committed, CommitError> {
        if self.is_alone() {
            return self.commit_here(txn).await.map_err(|failure| match failure {
                Failure::Commit(error) => error,
                Failure::NotLeader => self.no_leader(),
            });
        }
        txn.validate()?;
        self.health()?;
        let start = Instant::now();
        loop {
            let answer = match self.leader() {
                None => self.commit_here(txn.clone()).await,
                Some(leader) => {
                    self.ask_to_write(&leader, Method::Commit, forward::encode_txn(&txn)).await
                }
            };
            match answer {
                Err(Failure::NotLeader) => self.look_again(start).await?,
                Err(Failure::Commit(error)) => return self.see(Err(error)).await,
                Ok(committed) => return self.see(Ok(committed)).await,
            }
        }
    }

    /// Sends a write to the leader.
    async fn ask_to_write(
        &self,
        (id, node): &(u64, Node),
        method: Method,
        body: bytes::Bytes,
    ) -> Result<Committed, Failure> {
        let message = self.links.envelope(*id, body);
        let calling = self.links.peers.call(&node.address, method, grpc::once(message));
        let unknown = |why: String| Failure::Commit(CommitError::Unknown(why));
        let deposed = async {
            self.consensus.lead_moved(*id).await;
            // An answer may be on its way.
            tokio::time::sleep(LAST_WORD).await;
        };
        let called = tokio::select! {
            biased;
            called = tokio::time::timeout(PATIENCE, calling) => called,
            () = deposed => {
                return Err(unknown(format!("{} has lost the lead and does not answer", node.name)));
            }
        };
        let answer = match called {
            Ok(Ok(answer)) => answer,
            Ok(Err(CallError::NotSent(_))) => return Err(Failure::NotLeader),
            // It is another server by now, or another cluster's.
            Ok(Err(CallError::Failed(status))) if status.code == Code::FailedPrecondition => {
                return Err(Failure::NotLeader);
            }
            Ok(Err(error)) => {
                return Err(unknown(format!("the leader {} went away: {error}", node.name)));
            }
            Err(_) => {
                let text = format!("the leader {} did not answer within {PATIENCE:?}", node.name);
                return Err(unknown(text));
            }
        };
        let answer = CommitResponse::decode(answer);
        forward::from_response(answer.map_err(|error| unknown(error.to_string()))?)
    }

    /// Waits until this server has what the leader answered about, so that who
    /// asks here next sees it.
    async fn see(&self, answer: Result<Committed, CommitError>) -> Result<Committed, CommitError> {
        let revision = match &answer {
            Ok(committed) => committed.revision,
            Err(CommitError::Conflict(conflict)) => conflict.revision,
            Err(_) => return answer,
        };
        let applied = self.read().applied(revision);
        // A server that is cut off right now does not make the write undone.
        let _ = tokio::time::timeout(SEE_MAX, applied).await;
        answer
    }

    /// See [`store::Store::renew`].
    pub(crate) async fn renew_anywhere(&self, renewal: Renewal) -> Result<Committed, CommitError> {
        Txn::update(renewal.put.clone(), renewal.at).validate()?;
        self.health()?;
        let start = Instant::now();
        loop {
            let answer = match self.leader() {
                None => self.renew_leading(&renewal).await,
                Some(leader) => {
                    let put = forward::encode_put(&renewal.put);
                    let body = RenewRequest { put, at: renewal.at.0 }.encode_to_vec();
                    self.ask_to_write(&leader, Method::Renew, body.into()).await
                }
            };
            match answer {
                Err(Failure::NotLeader) => self.look_again(start).await?,
                Err(Failure::Commit(error)) => return self.see(Err(error)).await,
                Ok(committed) => return self.see(Ok(committed)).await,
            }
        }
    }

    /// A renewal on this server, if it leads. A leader that is cut off must not keep leases
    /// alive: where the others' answers come too late to say that nobody else leads now, as
    /// when this process was stopped meanwhile, it goes by the log.
    pub(crate) async fn renew_leading(&self, renewal: &Renewal) -> Result<Committed, Failure> {
        let mut leads = self.is_alone();
        for _ in 0..ASKED_MAX {
            if leads {
                break;
            }
            leads = match self.consensus.leads_still().await {
                Ok(leads) => leads,
                Err(BarrierError::NotLeader) => return Err(Failure::NotLeader),
                Err(BarrierError::Stopped(why)) => {
                    return Err(CommitError::Unavailable(why).into());
                }
            };
        }
        let renewed = if leads { self.renew_here(renewal) } else { None };
        match renewed {
            Some(answer) => answer,
            None => self.commit_here(Txn::update(renewal.put.clone(), renewal.at)).await,
        }
    }

    /// See [`store::Store::read_barrier`].
    pub(crate) async fn read_barrier_anywhere(&self) -> Result<(), CommitError> {
        if self.is_alone() {
            // Whatever was acknowledged was applied here first.
            return self.health();
        }
        let start = Instant::now();
        loop {
            let read = match self.leader() {
                None => self.consensus.read_index().await,
                Some(_) => self.barrier.ask().await,
            };
            match read {
                Ok(()) => return Ok(()),
                Err(BarrierError::NotLeader) => self.look_again(start).await?,
                Err(BarrierError::Stopped(why)) => return Err(CommitError::Unavailable(why)),
            }
        }
    }

    /// Asks the leader how far a reader must have come, and waits for that.
    async fn follow_leader_up(&self) -> Result<(), BarrierError> {
        let Some((id, node)) = self.leader() else { return self.consensus.read_index().await };
        let seen = *self.shared.renewals.borrow();
        let request = ReadIndexRequest { term: seen.term, renewals: seen.count };
        let asking = self.links.call((id, &node), Method::ReadIndex, &request);
        let asked = tokio::select! {
            biased;
            asked = tokio::time::timeout(SEE_MAX, asking) => asked,
            () = self.consensus.lead_moved(id) => return Err(BarrierError::NotLeader),
        };
        let mut answer: ReadIndexResponse = match asked {
            Ok(Ok(answer)) => answer,
            // Dead or frozen: another will lead soon.
            _ => return Err(BarrierError::NotLeader),
        };
        if answer.not_leader {
            return Err(BarrierError::NotLeader);
        }
        if let Some(all) = answer.all.take() {
            renewals::take(&self.shared, all).await;
        }
        let applied = self.read().applied(Revision(answer.revision));
        let mut renewals = self.shared.renewals.subscribe();
        let up = async {
            applied.await;
            let has = |seen: &crate::consensus::machine::RenewalsSeen| {
                seen.term > answer.term || seen.term == answer.term && seen.count >= answer.renewals
            };
            // The sender lives as long as the store.
            let _ = renewals.wait_for(has).await;
        };
        tokio::time::timeout(SEE_MAX, up).await.map_err(|_| BarrierError::NotLeader)
    }
}

/// Asks the leader once for all who wait, since a barrier that begins now is
/// good for everybody who asked before.
pub(crate) struct Barrier(mpsc::UnboundedSender<oneshot::Sender<Read>>);

type Read = Result<(), BarrierError>;

/// Those who ask for a barrier.
pub(crate) type Asked = mpsc::UnboundedReceiver<oneshot::Sender<Read>>;

impl Barrier {
    pub(crate) fn new() -> (Self, Asked) {
        let (sender, asked) = mpsc::unbounded_channel();
        (Self(sender), asked)
    }

    async fn ask(&self) -> Read {
        let (answer, answered) = oneshot::channel();
        let gone = || BarrierError::Stopped("the store is shutting down".into());
        self.0.send(answer).map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Answers until the store is gone.
    pub(crate) async fn run(store: Weak<RaftStore>, mut asked: Asked) {
        while let Some(first) = asked.recv().await {
            let mut waiting = vec![first];
            while let Ok(next) = asked.try_recv() {
                waiting.push(next);
            }
            let Some(store) = store.upgrade() else { return };
            let up = store.follow_leader_up().await;
            for one in waiting {
                // Who went away does not ask.
                let _ = one.send(up.clone());
            }
        }
    }
}

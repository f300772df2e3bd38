//! Changes of the membership, which only the leader makes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use openraft::{
    ChangeMembers,
    async_runtime::WatchReceiver as _,
    errors::{ChangeMembershipError, ClientWriteError, RaftError},
};

use super::{Consensus, types::Types};
use crate::proto::raft_v1::Node;

/// Why the membership is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("this server does not lead")]
    NotLeader,
    /// For the person who asked.
    #[error("{0}")]
    Refused(String),
}

/// How long a change may wait for a quorum.
const COMMIT_MAX: Duration = Duration::from_secs(10);
/// How long a new member may take to get what the others have.
const CATCH_UP_MAX: Duration = Duration::from_secs(600);

impl Consensus {
    /// Adds a member and makes it a voter once it has what the others have; of
    /// a member that is there, changes what is known of it.
    pub(crate) async fn admit(&self, id: u64, node: Node) -> Result<(), ChangeError> {
        let _one = self.changing.lock().await;
        let lead = self.lead();
        if lead.leader != Some(self.me) {
            return Err(ChangeError::NotLeader);
        }
        let is_new = !lead.members.contains_key(&id);
        match lead.members.get(&id) {
            Some(known) if *known == node => {}
            Some(_) => self.change(ChangeMembers::SetNodes(BTreeMap::from([(id, node)]))).await?,
            None => self.change(ChangeMembers::AddNodes(BTreeMap::from([(id, node)]))).await?,
        }
        if lead.voters.contains(&id) {
            return Ok(());
        }
        let promoted = async {
            self.caught_up(id).await?;
            self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
        };
        let promoted = promoted.await;
        if is_new && let Err(ChangeError::Refused(_)) = &promoted {
            // It is told that it was not taken in, and will not come back as this.
            if let Err(error) = self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id]))).await
            {
                tracing::warn!("a server that did not catch up stays a learner: {error}");
            }
        }
        promoted
    }

    /// Removes a member.
    pub(crate) async fn dismiss(&self, id: u64) -> Result<(), ChangeError> {
        let _one = self.changing.lock().await;
        // One that no majority follows would put it into its log, and it would be done
        // whenever they are back, perhaps long after it was thought better of.
        if !self.is_leader() {
            return Err(ChangeError::NotLeader);
        }
        let ids = BTreeSet::from([id]);
        let change = match self.lead().voters.contains(&id) {
            true => ChangeMembers::RemoveVoters(ids),
            false => ChangeMembers::RemoveNodes(ids),
        };
        self.change(change).await
    }

    async fn change(&self, change: ChangeMembers<u64, Node>) -> Result<(), ChangeError> {
        // What is no voter any more is no member any more; what is no voter yet stays.
        let retain = !matches!(change, ChangeMembers::RemoveVoters(_));
        let changing = self.raft.change_membership(change, retain);
        match tokio::time::timeout(COMMIT_MAX, changing).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                Err(ChangeError::NotLeader)
            }
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_),
            )))) => Err(ChangeError::Refused(
                "another change of the servers is under way: say it again once `skiff cluster \
                 status` shows that it is done"
                    .into(),
            )),
            Ok(Err(error)) => Err(ChangeError::Refused(error.to_string())),
            Err(_) => Err(ChangeError::Refused(format!(
                "too few servers answered within {COMMIT_MAX:?}; the change goes on once they \
                 do: see `skiff cluster status`"
            ))),
        }
    }

    /// Waits until a member has all that was committed when this was called.
    async fn caught_up(&self, id: u64) -> Result<(), ChangeError> {
        let mut metrics = self.raft.metrics();
        let goal = metrics.borrow_watched().last_applied;
        let there = async {
            loop {
                {
                    let now = metrics.borrow_watched();
                    let Some(replication) = &now.replication else {
                        return Err(ChangeError::NotLeader);
                    };
                    if replication.get(&id).is_some_and(|matching| *matching >= goal) {
                        return Ok(());
                    }
                }
                let stopped = |_| ChangeError::Refused("the server is stopping".into());
                metrics.changed().await.map_err(stopped)?;
            }
        };
        match tokio::time::timeout(CATCH_UP_MAX, there).await {
            Ok(reached) => reached,
            Err(_) => Err(ChangeError::Refused(format!(
                "the new server has not caught up within {CATCH_UP_MAX:?}; is it reachable from \
                 the leader?"
            ))),
        }
    }

    /// Hands the lead to the voter that has most of the log, if this member has
    /// it; returns once another leads, or soon.
    pub(crate) async fn hand_over(&self) {
        const HAND_OVER_MAX: Duration = Duration::from_secs(2);
        let lead = self.lead();
        if lead.leader != Some(self.me) {
            return;
        }
        let best = {
            let metrics = self.raft.metrics();
            let now = metrics.borrow_watched();
            let replication = now.replication.iter().flatten();
            let others = replication.filter(|(id, _)| **id != self.me && lead.voters.contains(id));
            others.max_by_key(|(_, matching)| **matching).map(|(id, _)| *id)
        };
        let Some(best) = best else { return };
        if let Err(error) = self.raft.trigger().transfer_leader(best).await {
            return tracing::warn!("the lead cannot be handed over: {error}");
        }
        let mut metrics = self.raft.server_metrics();
        let handed = metrics.wait_until(|now: &openraft::metrics::RaftServerMetrics<Types>| {
            now.current_leader.is_some_and(|leader| leader != self.me)
        });
        if tokio::time::timeout(HAND_OVER_MAX, handed).await.is_err() {
            tracing::info!("no other server has taken the lead yet");
        }
    }
}

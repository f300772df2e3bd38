//! openraft, and all that touches it: no other module of this crate names it.
//!
//! [`types`] fixes its parameters and turns its types into ours and back,
//! [`LogStore`](log_store::LogStore) is its log, [`Machine`](machine::Machine)
//! its state machine, [`NoPeers`](peers::NoPeers) its network for as long as a
//! cluster has one member.

pub(crate) mod log_store;
pub(crate) mod machine;
pub(crate) mod peers;
pub(crate) mod types;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use openraft::{Config, Raft, ReadPolicy, SnapshotPolicy, async_runtime::WatchReceiver as _};
use store::{Committed, Conflict};

use self::{log_store::LogStore, machine::Machine, peers::NoPeers, types::Types};
use crate::proto::raft_v1::Node;

/// A running Raft member.
#[derive(Clone)]
pub(crate) struct Consensus {
    raft: Raft<Types, Machine>,
}

/// Why a proposal has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProposeError {
    /// It was not accepted, so it is not in the log.
    #[error("{0}")]
    Refused(String),
    /// It may be in the log.
    #[error("{0}")]
    Unknown(String),
}

impl Consensus {
    /// Starts the member and, in a cluster of one, makes it the leader.
    pub(crate) async fn start(node: u64, log: LogStore, machine: Machine) -> Result<Self, String> {
        let raft = Raft::new(node, Arc::new(config()), NoPeers, log, machine)
            .await
            .map_err(|error| error.to_string())?;
        let this = Self { raft };
        if !this.raft.is_initialized().await.map_err(|error| error.to_string())? {
            let members = BTreeMap::from([(node, Node::default())]);
            this.raft.initialize(members).await.map_err(|error| error.to_string())?;
        }
        this.lead(node).await?;
        Ok(this)
    }

    /// Waits until this member leads. Without ticks nothing starts an election
    /// by itself.
    async fn lead(&self, node: u64) -> Result<(), String> {
        let mut metrics = self.raft.metrics();
        let leads = |leader: Option<u64>| leader == Some(node);
        if !leads(metrics.borrow_watched().current_leader) {
            self.raft.trigger().elect(false).await.map_err(|error| error.to_string())?;
        }
        loop {
            {
                let now = metrics.borrow_watched();
                if let Err(error) = &now.running_state {
                    return Err(error.to_string());
                }
                if leads(now.current_leader) {
                    return Ok(());
                }
            }
            metrics.changed().await.map_err(|error| error.to_string())?;
        }
    }

    /// Puts a command into the log and waits until it is applied.
    pub(crate) async fn propose(
        &self,
        command: Bytes,
    ) -> Result<Vec<Result<Committed, Conflict>>, ProposeError> {
        use openraft::errors::{ClientWriteError, RaftError};
        match self.raft.client_write(types::Data(command)).await {
            Ok(response) => Ok(response.data.0),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Err(ProposeError::Refused(match forward.leader_id {
                    Some(leader) => format!("server {leader} is the leader"),
                    None => "there is no leader".into(),
                }))
            }
            Err(RaftError::APIError(error)) => Err(ProposeError::Refused(error.to_string())),
            Err(RaftError::Fatal(error)) => Err(ProposeError::Unknown(error.to_string())),
        }
    }

    /// Waits until this member has applied all that was committed anywhere
    /// before this call.
    pub(crate) async fn read_barrier(&self) -> Result<(), String> {
        let linear = self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await;
        linear.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Asks for a snapshot; it is made in the background.
    pub(crate) async fn snapshot(&self) -> Result<(), String> {
        self.raft.trigger().snapshot().await.map_err(|error| error.to_string())
    }

    /// Why the member has stopped for good; nothing while it runs.
    pub(crate) fn check(&self) -> Result<(), String> {
        match &self.raft.metrics().borrow_watched().running_state {
            Ok(()) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether this member is the leader.
    pub(crate) fn is_leader(&self) -> bool {
        self.raft.is_leader()
    }

    /// Stops the member; proposals under way end with an error.
    pub(crate) async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!("Raft did not stop in order: {error}");
        }
    }
}

fn config() -> Config {
    Config {
        cluster_name: "skiff".into(),
        // A cluster of one has nobody to wait for; ticks would wake it 100
        // times a second.
        enable_tick: false,
        enable_heartbeat: false,
        enable_elect: false,
        // The state is in memory: a leader that starts again is elected again,
        // and its blank entry commits what is in the log.
        enable_leader_restore: Some(false),
        enable_pre_vote: Some(true),
        // The state machine asks, by bytes and not by entries.
        snapshot_policy: SnapshotPolicy::Never,
        // More than none, so that a follower a little behind is not sent a
        // snapshot; few, since an entry may be large.
        max_in_snapshot_log_to_keep: 32,
        api_channel_size: Some(256),
        notification_channel_size: Some(256),
        state_machine_channel_size: Some(64),
        ..Config::default()
    }
}

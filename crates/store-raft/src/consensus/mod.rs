//! openraft, and all that touches it: no other module of this crate names it.
//!
//! [`types`] fixes its parameters and turns its types into ours and back,
//! [`LogStore`](log_store::LogStore) is its log, [`Machine`](machine::Machine)
//! its state machine, [`Network`] its way to other members, and
//! [`incoming`] what other members ask of it.
//!
//! # Clocks
//! What is in the log needs none. The lead is by a lease: a member that heard a
//! leader votes for nobody else for [`LEASE`] by its own clock, also where it was
//! started anew in between. A leader that a quorum answered therefore knows for
//! [`FRESH`] by its own, and no longer, that there is no other, which is all that
//! renewals stand on. The one being shorter than the other is what clocks may
//! drift: all holds while no member's clock runs more than 1.5 times as fast as
//! another's, and what they say the time is does not matter. (A machine that sleeps
//! has a clock that stands still: a renewal that was just being made is made when it
//! wakes.) A member that is asked to take the lead over is voted for at once, by the
//! leader's own wish.

mod incoming;
pub(crate) mod log_store;
pub(crate) mod machine;
mod membership;
pub(crate) mod network;
mod patience;
mod runtime;
pub(crate) mod types;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use openraft::{
    AsyncRuntime as _, Config, Instant as _, LinearizerOption, Raft, SnapshotPolicy,
    async_runtime::WatchReceiver as _,
    errors::{ClientWriteError, LinearizableReadError, RaftError},
};
use store::{Committed, Conflict};

pub(crate) use self::{incoming::unreadable, membership::ChangeError};
use self::{
    log_store::LogStore,
    machine::Machine,
    network::Network,
    patience::Patience,
    runtime::VOTE_MIN,
    types::{Moment, Runtime, Types},
};
use crate::proto::raft_v1::Node;

/// A running Raft member.
#[derive(Clone)]
pub(crate) struct Consensus {
    raft: Raft<Types, Machine>,
    me: u64,
    started: Moment,
    /// One change of the membership at a time.
    changing: Arc<tokio::sync::Mutex<()>>,
}

/// Why a proposal has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProposeError {
    /// This member does not lead (or no quorum follows it), so it is not in the log.
    #[error("this server does not lead")]
    NotLeader,
    /// It was not accepted, so it is not in the log.
    #[error("{0}")]
    Refused(String),
    /// It may be in the log.
    #[error("{0}")]
    Unknown(String),
}

/// Why a member cannot say how far a reader must have come.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum BarrierError {
    /// It does not lead, or no quorum says that it does.
    #[error("this server does not lead")]
    NotLeader,
    /// It has stopped for good.
    #[error("{0}")]
    Stopped(String),
}

/// What a member knows of the cluster's lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lead {
    pub(crate) term: u64,
    pub(crate) leader: Option<u64>,
    /// All members by ID, voters or not.
    pub(crate) members: BTreeMap<u64, Node>,
    pub(crate) voters: Vec<u64>,
}

impl Lead {
    /// Whether there is nobody but this member, which leads.
    pub(crate) fn is_alone(&self, me: u64) -> bool {
        self.members.len() == 1 && self.members.contains_key(&me) && self.leader == Some(me)
    }
}

/// How long a proposal may wait for a quorum before its outcome is called
/// unknown: less than whoever passed it on waits, so that these words are heard.
/// A member that is alone waits for its disk however long it takes.
const PROPOSE_MAX: Duration = Duration::from_secs(8);

/// How long a leader asks a quorum whether it still leads: members that are just writing
/// answer once they have. Less than who asks the leader for it waits.
pub(crate) const READ_INDEX_MAX: Duration = Duration::from_millis(2_500);

/// How long a member that heard a leader votes for no other.
pub(crate) const LEASE: Duration = Duration::from_millis(600);

/// No other member can have been elected so shortly after a quorum was asked and
/// answered.
const FRESH: Duration = Duration::from_millis(400);

const _: () = assert!(FRESH.as_millis() * 3 <= LEASE.as_millis() * 2, "clocks may drift");

impl Consensus {
    /// Starts the member. Without ticks nothing starts an election by itself.
    pub(crate) async fn start(
        me: u64,
        network: Network,
        log: LogStore,
        machine: Machine,
    ) -> Result<Self, String> {
        let config = config().validate().map_err(|error| error.to_string())?;
        let started = Moment::now();
        let starting = async {
            let raft = Raft::new(me, Arc::new(config), network, log, machine).await?;
            drop(Runtime::spawn(stand_for_the_lead(me, raft.clone())));
            Ok(raft)
        };
        // What Raft starts goes on from this seed.
        #[cfg(test)]
        let starting = Runtime::scope(me, starting);
        let raft = starting.await;
        let raft = raft.map_err(|error: openraft::errors::Fatal<Types>| error.to_string())?;
        Ok(Self { raft, me, started, changing: Arc::default() })
    }

    /// Whether a leader that this member heard before it was started may still count on
    /// that: Raft forgets with the process.
    pub(crate) fn may_have_a_leader(&self) -> bool {
        self.started.elapsed() <= LEASE
    }

    /// Whether it ever was a member of a cluster.
    pub(crate) async fn is_initialized(&self) -> Result<bool, String> {
        self.raft.is_initialized().await.map_err(|error| error.to_string())
    }

    /// Who votes, as the log says; what [`Self::lead`] tells may be a moment older.
    pub(crate) async fn voters(&self) -> Result<Vec<u64>, String> {
        let voters = self
            .raft
            .with_raft_state(|state| state.membership_state.effective().voter_ids().collect());
        voters.await.map_err(|error| error.to_string())
    }

    /// Makes a new cluster of this member.
    pub(crate) async fn initialize(&self, node: Node) -> Result<(), String> {
        let members = BTreeMap::from([(self.me, node)]);
        self.raft.initialize(members).await.map_err(|error| error.to_string())
    }

    /// Waits until this member, the only voter, leads.
    pub(crate) async fn lead_alone(&self) -> Result<(), String> {
        let mut metrics = self.raft.metrics();
        let leads = |leader: Option<u64>| leader == Some(self.me);
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

    /// Puts a command into the log and waits until it is applied. What is `held` is
    /// dropped when it is or certainly never will be here, before anything is answered; where
    /// that takes too long the answer comes first.
    pub(crate) async fn propose(
        &self,
        command: Bytes,
        held: impl Send + 'static,
    ) -> Result<Vec<Result<Committed, Conflict>>, ProposeError> {
        let raft = self.raft.clone();
        let proposing = async move {
            let answer = raft.client_write(types::Data(command)).await;
            drop(held);
            answer
        };
        let answer = match self.lead().is_alone(self.me) {
            true => proposing.await,
            false => {
                let mut proposing = Box::pin(proposing);
                match tokio::time::timeout(PROPOSE_MAX, &mut proposing).await {
                    Ok(answer) => answer,
                    Err(_) => {
                        // It may be in the log, and a quorum that comes back applies it.
                        tokio::spawn(proposing);
                        let text = format!("no quorum of servers answered within {PROPOSE_MAX:?}");
                        return Err(ProposeError::Unknown(text));
                    }
                }
            }
        };
        match answer {
            Ok(response) => Ok(response.data.0),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                Err(ProposeError::NotLeader)
            }
            Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => {
                let text = "another server took the lead while the write was under way";
                Err(ProposeError::Unknown(text.into()))
            }
            Err(RaftError::APIError(error)) => Err(ProposeError::Refused(error.to_string())),
            Err(RaftError::Fatal(error)) => Err(ProposeError::Unknown(error.to_string())),
        }
    }

    /// Waits until this member, if it leads, has applied all that was committed
    /// anywhere before this call.
    pub(crate) async fn read_index(&self) -> Result<(), BarrierError> {
        let fresh =
            LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(READ_INDEX_MAX);
        match self.raft.ensure_linearizable(fresh).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(
                LinearizableReadError::ForwardToLeader(_)
                | LinearizableReadError::QuorumNotEnough(_),
            )) => Err(BarrierError::NotLeader),
            Err(error) => Err(BarrierError::Stopped(error.to_string())),
        }
    }

    /// Whether this member leads and no other can have been elected when this returns;
    /// false where the answers took too long to say so.
    pub(crate) async fn leads_still(&self) -> Result<bool, BarrierError> {
        let asked = Moment::now();
        self.read_index().await?;
        Ok(asked.elapsed() <= FRESH)
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

    /// What this member knows of the lead now.
    pub(crate) fn lead(&self) -> Lead {
        let metrics = self.raft.server_metrics();
        let now = metrics.borrow_watched();
        lead_of(&now)
    }

    /// Whether a server is a member, as far as this one knows.
    pub(crate) fn has_member(&self, id: u64) -> bool {
        let metrics = self.raft.server_metrics();
        let now = metrics.borrow_watched();
        now.membership_config.membership().get_node(&id).is_some()
    }

    /// Completes once another than this one leads, as far as this member knows.
    pub(crate) async fn lead_moved(&self, from: u64) {
        let mut metrics = self.raft.server_metrics();
        let moved = metrics.wait_until(|now: &openraft::metrics::RaftServerMetrics<Types>| {
            now.current_leader.is_some_and(|leader| leader != from)
        });
        if moved.await.is_err() {
            // The member has stopped, which others say.
            std::future::pending::<()>().await;
        }
    }

    /// Calls back with every change of the lead or the membership, until the
    /// member stops.
    pub(crate) async fn follow_lead(&self, mut changed: impl FnMut(Lead)) {
        let mut metrics = self.raft.server_metrics();
        let mut last = Lead::default();
        loop {
            let lead = lead_of(&metrics.borrow_watched());
            if lead != last {
                last = lead.clone();
                changed(lead);
            }
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// The members that this one, as the leader, has heard from within that time,
    /// and itself.
    pub(crate) fn heard_from(&self, within: Duration) -> Vec<u64> {
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        let heard = now.heartbeat.iter().flatten().filter(|(id, last)| {
            let lately = |last: &Moment| last.elapsed() < within;
            **id == self.me || last.as_ref().is_some_and(|last| lately(last))
        });
        heard.map(|(id, _)| *id).collect()
    }

    /// Elections and heartbeats need a clock; a member that is alone needs neither.
    pub(crate) fn tick(&self, on: bool) {
        self.raft.runtime_config().tick(on);
    }

    /// The newest index in the log, and the last one in a snapshot.
    pub(crate) fn log_position(&self) -> (u64, u64) {
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        (now.last_log_index.unwrap_or(0), now.snapshot.map_or(0, |id| id.index))
    }

    /// Stops the member; proposals under way end with an error.
    pub(crate) async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!("Raft did not stop in order: {error}");
        }
    }
}

/// Lets the member stand for the lead when its time has come, until it stops.
async fn stand_for_the_lead(me: u64, raft: Raft<Types, Machine>) {
    // Its own vote is also bound by what it told a leader before it was started anew.
    Runtime::sleep(LEASE).await;
    let mut metrics = raft.server_metrics();
    let mut patience = Patience::of(me);
    let mut stands_back_until = Moment::now();
    loop {
        let (term, leader) = {
            let now = metrics.borrow_watched();
            (now.vote.leader_id.term, now.current_leader)
        };
        if let Some(stands_back) = patience.after(term, leader) {
            stands_back_until = Moment::now() + stands_back;
        }
        let stands_back = Moment::now() < stands_back_until;
        raft.runtime_config().elect(!stands_back);
        let changed = metrics.changed();
        let heard = match stands_back {
            true => Runtime::timeout_at(stands_back_until, changed).await.unwrap_or(Ok(())),
            false => changed.await,
        };
        if heard.is_err() {
            return;
        }
    }
}

fn lead_of(metrics: &openraft::metrics::RaftServerMetrics<Types>) -> Lead {
    let membership = metrics.membership_config.membership();
    Lead {
        term: metrics.vote.leader_id.term,
        leader: metrics.current_leader,
        members: membership.nodes().map(|(id, node)| (*id, node.clone())).collect(),
        voters: membership.voter_ids().collect(),
    }
}

/// A follower that hears nothing of its leader for longer than the lease
/// (`election_timeout_max`) and a random time on top asks for its place.
/// One that has just started waits for a lease first, and one that saw elections in
/// vain for longer each time ([`Patience`]).
fn config() -> Config {
    Config {
        cluster_name: "skiff".into(),
        // A cluster of one has nobody to wait for; ticks would wake it many
        // times a second. They are turned on with the second member.
        enable_tick: false,
        enable_elect: false,
        heartbeat_interval: 250,
        // What was just written says that the leader is there, too.
        heartbeat_min_interval: Some(0),
        election_timeout_min: VOTE_MIN.as_millis() as u64,
        election_timeout_max: LEASE.as_millis() as u64,
        // The state is in memory: a leader that starts again is elected again,
        // and its blank entry commits what is in the log.
        enable_leader_restore: Some(false),
        // A server that comes back must not depose the leader.
        enable_pre_vote: Some(true),
        // The state machine asks, by bytes and not by entries.
        snapshot_policy: SnapshotPolicy::Never,
        // More than none, so that a follower a little behind is not sent a
        // snapshot; few, since an entry may be large.
        max_in_snapshot_log_to_keep: 32,
        // Never because of the distance alone: only where the log is gone.
        replication_lag_threshold: u64::MAX,
        backoff: "100ms 200ms 400ms ...1s".into(),
        api_channel_size: Some(256),
        notification_channel_size: Some(256),
        state_machine_channel_size: Some(64),
        ..Config::default()
    }
}

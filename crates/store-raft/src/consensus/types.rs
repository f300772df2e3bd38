//! openraft's type parameters, and conversions between its types and ours.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
};

use bytes::Bytes;
use openraft::{
    AsyncRuntime, EntryPayload,
    impls::leader_id_adv,
    raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse},
    vote::RaftLeaderId as _,
};
use store::{Committed, Conflict};

use super::runtime::Unhurried;
use crate::proto::raft_v1 as pb;

openraft::declare_raft_types!(
    /// The types that this crate's Raft deals in.
    pub(crate) Types:
        D = Data,
        R = Answers,
        NodeId = u64,
        Node = pb::Node,
        AsyncRuntime = Runtime,
);

/// tokio's threads and clock; in tests, randomness that follows from a seed and a
/// clock for each server.
#[cfg(not(test))]
pub(crate) type Runtime = Unhurried<openraft::impls::TokioRuntime>;
#[cfg(test)]
pub(crate) type Runtime =
    openraft::rt::deterministic_rng::DeterministicRng<Unhurried<crate::simulation::clock::Paced>>;

/// A moment by the clock that Raft goes by.
pub(crate) type Moment = <Runtime as AsyncRuntime>::Instant;

/// A command, encoded once by who proposes it.
#[derive(Clone)]
pub(crate) struct Data(pub(crate) Bytes);

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One answer a transaction of the entry.
pub(crate) struct Answers(pub(crate) Vec<Result<Committed, Conflict>>);

impl fmt::Display for pb::Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.address)
    }
}

pub(crate) type LeaderId = leader_id_adv::LeaderId<u64, u64>;
pub(crate) type LogId = openraft::LogId<LeaderId>;
pub(crate) type Vote = openraft::Vote<LeaderId>;
pub(crate) type Membership = openraft::Membership<u64, pb::Node>;
pub(crate) type StoredMembership = openraft::StoredMembership<LeaderId, u64, pb::Node>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<LeaderId, u64, pb::Node>;
pub(crate) type Entry = openraft::Entry<LeaderId, EntryPayload<Data, u64, pb::Node>>;

pub(crate) fn to_log_id(id: &LogId) -> pb::LogId {
    let leader = leader(id.leader_id.term, id.leader_id.node_id);
    pb::LogId { leader: Some(leader), index: id.index }
}

pub(crate) fn from_log_id(id: &pb::LogId) -> LogId {
    LogId::new(from_leader(id.leader), id.index)
}

pub(crate) fn leader(term: u64, node_id: u64) -> pb::LeaderId {
    pb::LeaderId { term, node_id }
}

fn from_leader(leader: Option<pb::LeaderId>) -> LeaderId {
    let leader = leader.unwrap_or_default();
    LeaderId::new(leader.term, leader.node_id)
}

pub(crate) fn to_vote(vote: &Vote) -> pb::Vote {
    let leader = leader(vote.leader_id.term, vote.leader_id.node_id);
    pb::Vote { leader: Some(leader), committed: vote.committed }
}

pub(crate) fn from_vote(vote: &pb::Vote) -> Vote {
    Vote { leader_id: from_leader(vote.leader), committed: vote.committed }
}

pub(crate) fn to_membership(membership: &Membership) -> pb::Membership {
    let configs = membership.get_joint_config().iter();
    pb::Membership {
        configs: configs
            .map(|ids| pb::membership::Voters { node_ids: ids.iter().copied().collect() })
            .collect(),
        nodes: membership.nodes().map(|(id, node)| (*id, node.clone())).collect(),
    }
}

pub(crate) fn from_membership(membership: pb::Membership) -> io::Result<Membership> {
    let configs: Vec<BTreeSet<u64>> = membership
        .configs
        .into_iter()
        .map(|voters| voters.node_ids.into_iter().collect())
        .collect();
    let nodes: BTreeMap<u64, pb::Node> = membership.nodes;
    Membership::new(configs, nodes).map_err(io::Error::other)
}

pub(crate) fn to_entry(entry: &Entry) -> pb::Entry {
    let payload = match &entry.payload {
        EntryPayload::Blank => pb::entry::Payload::Blank(pb::entry::Blank {}),
        EntryPayload::Normal(data) => pb::entry::Payload::Command(data.0.clone()),
        EntryPayload::Membership(membership) => {
            pb::entry::Payload::Membership(to_membership(membership))
        }
    };
    pb::Entry { id: Some(to_log_id(&entry.log_id)), payload: Some(payload) }
}

pub(crate) fn from_entry(entry: pb::Entry) -> io::Result<Entry> {
    let id = entry.id.ok_or_else(|| io::Error::other("an entry has no ID"))?;
    let payload = match entry.payload {
        Some(pb::entry::Payload::Blank(_)) => EntryPayload::Blank,
        Some(pb::entry::Payload::Command(bytes)) => EntryPayload::Normal(Data(bytes)),
        Some(pb::entry::Payload::Membership(membership)) => {
            EntryPayload::Membership(from_membership(membership)?)
        }
        None => {
            let text = format!("entry {} is of a kind that a newer skiff wrote", id.index);
            return Err(io::Error::other(text));
        }
    };
    Ok(Entry { log_id: from_log_id(&id), payload })
}

pub(crate) fn to_meta(meta: &SnapshotMeta, cluster: [u8; 16]) -> pb::SnapshotMeta {
    let membership = pb::StoredMembership {
        id: meta.last_membership.log_id().as_ref().map(to_log_id),
        membership: Some(to_membership(meta.last_membership.membership())),
    };
    pb::SnapshotMeta {
        last: meta.last_log_id.as_ref().map(to_log_id),
        membership: Some(membership),
        cluster_id: Bytes::copy_from_slice(&cluster),
    }
}

pub(crate) fn from_meta(meta: &pb::SnapshotMeta) -> io::Result<SnapshotMeta> {
    let stored = meta.membership.clone().unwrap_or_default();
    let membership = from_membership(stored.membership.unwrap_or_default())?;
    let id = stored.id.as_ref().map(from_log_id);
    Ok(SnapshotMeta {
        last_log_id: meta.last.as_ref().map(from_log_id),
        last_membership: StoredMembership::new(id, membership),
    })
}

pub(crate) fn to_append_request(rpc: &AppendEntriesRequest<Types>) -> pb::AppendRequest {
    pb::AppendRequest {
        vote: Some(to_vote(&rpc.vote)),
        prev: rpc.prev_log_id.as_ref().map(to_log_id),
        entries: rpc.entries.iter().map(to_entry).collect(),
        leader_commit: rpc.leader_commit.as_ref().map(to_log_id),
    }
}

pub(crate) fn from_append_request(
    request: pb::AppendRequest,
) -> io::Result<AppendEntriesRequest<Types>> {
    Ok(AppendEntriesRequest {
        vote: from_vote(&request.vote.unwrap_or_default()),
        prev_log_id: request.prev.as_ref().map(from_log_id),
        entries: request.entries.into_iter().map(from_entry).collect::<io::Result<_>>()?,
        leader_commit: request.leader_commit.as_ref().map(from_log_id),
    })
}

pub(crate) fn to_append_response(response: &AppendEntriesResponse<Types>) -> pb::AppendResponse {
    use pb::append_response::Outcome;
    let (outcome, vote) = match response {
        // A part is never taken: the log's writer takes all or nothing.
        AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_) => {
            (Outcome::Matches, None)
        }
        AppendEntriesResponse::Conflict => (Outcome::Conflict, None),
        AppendEntriesResponse::HigherVote(vote) => (Outcome::HigherVote, Some(to_vote(vote))),
    };
    pb::AppendResponse { outcome: outcome.into(), vote }
}

pub(crate) fn from_append_response(
    response: &pb::AppendResponse,
) -> Result<AppendEntriesResponse<Types>, String> {
    use pb::append_response::Outcome;
    match response.outcome() {
        Outcome::Matches => Ok(AppendEntriesResponse::Success),
        Outcome::Conflict => Ok(AppendEntriesResponse::Conflict),
        Outcome::HigherVote => {
            let vote = from_vote(&response.vote.unwrap_or_default());
            Ok(AppendEntriesResponse::HigherVote(vote))
        }
        Outcome::Unspecified => Err(format!("outcome {} is not known here", response.outcome)),
    }
}

pub(crate) fn to_vote_request(rpc: &VoteRequest<Types>, pre_vote: bool) -> pb::VoteRequest {
    pb::VoteRequest {
        vote: Some(to_vote(&rpc.vote)),
        last: rpc.last_log_id.as_ref().map(to_log_id),
        pre_vote,
        transfer: rpc.leadership_transfer,
    }
}

pub(crate) fn from_vote_request(request: &pb::VoteRequest) -> VoteRequest<Types> {
    let vote = from_vote(&request.vote.unwrap_or_default());
    let mut rpc = VoteRequest::new(vote, request.last.as_ref().map(from_log_id));
    rpc.leadership_transfer = request.transfer;
    rpc
}

pub(crate) fn to_vote_response(response: &VoteResponse<Types>) -> pb::VoteResponse {
    pb::VoteResponse {
        vote: Some(to_vote(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(to_log_id),
    }
}

pub(crate) fn from_vote_response(response: &pb::VoteResponse) -> VoteResponse<Types> {
    let vote = from_vote(&response.vote.unwrap_or_default());
    VoteResponse::new(vote, response.last.as_ref().map(from_log_id), response.granted)
}

//! What other members ask of this one's Raft.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use grpc::{Code, Messages, Status};
use openraft::raft::TransferLeaderRequest;
use prost::Message;

use super::{
    Consensus,
    machine::{OpenSnapshot, Shared, SnapshotFile},
    types::{
        from_append_request, from_log_id, from_meta, from_vote, from_vote_request,
        to_append_response, to_vote, to_vote_response,
    },
};
use crate::{
    disk,
    peers::{Links, REMOVED},
    proto::raft_v1 as pb,
    snapshot::Received,
};

pub(crate) fn unreadable(error: impl std::fmt::Display) -> Status {
    Status::new(Code::InvalidArgument, format!("an unreadable message: {error}"))
}

/// The member has stopped, or is about to.
fn stopped(error: impl std::fmt::Display) -> Status {
    Status::new(Code::Unavailable, error.to_string())
}

impl Consensus {
    pub(crate) async fn take_append(&self, body: Bytes) -> Result<pb::AppendResponse, Status> {
        let request = pb::AppendRequest::decode(body).map_err(unreadable)?;
        let request = from_append_request(request).map_err(unreadable)?;
        let answer = self.raft.append_entries(request).await.map_err(stopped)?;
        Ok(to_append_response(&answer))
    }

    pub(crate) async fn take_vote(
        &self,
        from: u64,
        lead_is_heard: bool,
        body: Bytes,
    ) -> Result<pb::VoteResponse, Status> {
        let request = pb::VoteRequest::decode(body).map_err(unreadable)?;
        // Only where a leader is heard: a member that lags may not know yet of
        // one that it has to vote for.
        if lead_is_heard && !self.has_member(from) {
            return Err(Status::new(Code::PermissionDenied, REMOVED));
        }
        if self.may_have_a_leader() && !request.transfer {
            let text = "this server has just started and votes for nobody yet";
            return Err(Status::new(Code::Unavailable, text));
        }
        let rpc = from_vote_request(&request);
        let answer = match request.pre_vote {
            true => self.raft.pre_vote(rpc).await,
            false => self.raft.vote(rpc).await,
        };
        Ok(to_vote_response(&answer.map_err(stopped)?))
    }

    pub(crate) async fn take_transfer(&self, body: Bytes) -> Result<pb::TransferResponse, Status> {
        let request = pb::TransferRequest::decode(body).map_err(unreadable)?;
        let from = from_vote(&request.from.unwrap_or_default());
        let last = request.last.as_ref().map(from_log_id);
        let request = TransferLeaderRequest::new(from, request.to, last);
        let answer = self.raft.handle_transfer_leader(request).await.map_err(stopped)?;
        let refused = answer.err().map(|error| error.to_string()).unwrap_or_default();
        Ok(pb::TransferResponse { refused })
    }

    /// Takes a snapshot in and makes it this member's state. One at a time.
    pub(crate) async fn take_snapshot(
        &self,
        shared: &Arc<Shared>,
        links: &Links,
        messages: Messages,
    ) -> Result<pb::SnapshotResponse, Status> {
        let mut parts = messages.map(|message| {
            let (_, body) = links.open(message?)?;
            pb::SnapshotPart::decode(body).map_err(unreadable)
        });
        let _one = shared.receiving.lock().await;
        let head = parts.next().await.ok_or_else(|| unreadable("no parts"))??;
        let meta = from_meta(&head.meta.unwrap_or_default()).map_err(unreadable)?;
        let failed = |error: &dyn std::fmt::Display| {
            let text = format!("the snapshot cannot be taken in: {error}");
            tracing::warn!("{text}");
            Status::new(Code::Internal, text)
        };
        let mut received =
            Received::begin(&*shared.disk, &shared.key).map_err(|error| failed(&error))?;
        while let Some(part) = parts.next().await {
            received.section(part?.section).map_err(|error| failed(&error))?;
        }
        let finishing = disk::work(&*shared.disk, move || received.finish());
        let finished = finishing.await.map_err(|error| failed(&error))?;
        finished.map_err(|error| failed(&error))?;
        let vote = from_vote(&head.vote.unwrap_or_default());
        let snapshot = OpenSnapshot { meta, snapshot: SnapshotFile::Received };
        let answer = self.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        Ok(pb::SnapshotResponse { vote: Some(to_vote(&answer.vote)) })
    }
}

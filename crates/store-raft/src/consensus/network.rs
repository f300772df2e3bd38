//! openraft's view of the other members: its requests as our messages, and the
//! other end of them.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use grpc::{CallError, Code, Messages};
use openraft::{
    OptionalSend, RaftNetworkFactory, RaftNetworkV2,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use prost::Message;

use super::{
    machine::{OpenSnapshot, SnapshotFile},
    runtime::VOTE_MAX,
    types::{
        self, Types, Vote, from_append_response, from_vote, from_vote_response, to_append_request,
        to_log_id, to_vote, to_vote_request,
    },
};
use crate::{
    disk::Disk,
    peers::{Links, Method},
    proto::raft_v1 as pb,
    seal::NodeKey,
    snapshot,
};

/// How long a follower may take to write entries. A dead one is found by the
/// pings of its connection; this is for one that hangs.
const APPEND_MAX: Duration = Duration::from_secs(20);
/// The same for a snapshot as a whole.
const SNAPSHOT_MAX: Duration = Duration::from_secs(600);

/// Makes a way to each member.
pub(crate) struct Network {
    pub(crate) links: Links,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) key: Arc<NodeKey>,
}

/// The way to one member.
pub(crate) struct Link {
    links: Links,
    to: u64,
    node: pb::Node,
    disk: Arc<dyn Disk>,
    key: Arc<NodeKey>,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, to: u64, node: &pb::Node) -> Link {
        let (links, node) = (self.links.clone(), node.clone());
        Link { links, to, node, disk: self.disk.clone(), key: self.key.clone() }
    }
}

/// After an unreachable member openraft waits longer each time; after another
/// error it tries again at once, which is right only where somebody answered.
fn failed(error: CallError) -> RPCError<Types> {
    match error {
        CallError::Failed(status) if status.code == Code::Aborted => {
            RPCError::Network(NetworkError::new(&status))
        }
        error => RPCError::Unreachable(Unreachable::new(&error)),
    }
}

fn too_late(what: &str) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::from_string(format!("{what}: no answer in time")))
}

impl Link {
    async fn call<Answer: Message + Default>(
        &self,
        method: Method,
        body: &impl Message,
        within: Duration,
    ) -> Result<Answer, RPCError<Types>> {
        let call = self.links.call((self.to, &self.node), method, body);
        match tokio::time::timeout(within, call).await {
            Ok(answer) => {
                if let Err(CallError::Failed(status)) = &answer
                    && status.code == Code::PermissionDenied
                {
                    self.links.was_removed();
                }
                answer.map_err(failed)
            }
            Err(_) => Err(too_late(method.path())),
        }
    }

    async fn ask_vote(
        &self,
        rpc: &VoteRequest<Types>,
        pre_vote: bool,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let request = to_vote_request(rpc, pre_vote);
        let answer: Result<pb::VoteResponse, _> = self.call(Method::Vote, &request, VOTE_MAX).await;
        Ok(from_vote_response(&answer?))
    }
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let request = to_append_request(&rpc);
        let answer: pb::AppendResponse = self.call(Method::Append, &request, APPEND_MAX).await?;
        from_append_response(&answer).map_err(|what| failed(CallError::NotSent(what)))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(&rpc, false).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(&rpc, true).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: OpenSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let index = snapshot.meta.last_log_id.map_or(0, |id| id.index);
        let head = pb::SnapshotPart {
            vote: Some(to_vote(&vote)),
            meta: Some(types::to_meta(&snapshot.meta, self.links.cluster)),
            section: Default::default(),
        };
        let sections = snapshot::Sections::open(&*self.disk, &self.key, index)
            // A newer one has taken its place: openraft asks for that one next.
            .map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))?;
        let address = self.links.address((self.to, &self.node));
        tracing::info!("sending a snapshot up to log entry {index} to {}", self.node);
        let messages = parts(self.links.clone(), self.to, head, sections);
        let call = self.links.peers.call(&address, Method::Snapshot, messages);
        let answer = tokio::select! {
            closed = cancel => return Err(StreamingError::Closed(closed)),
            answer = tokio::time::timeout(SNAPSHOT_MAX, call) => answer,
        };
        let answer = answer.map_err(|_| too_late("the snapshot"))?.map_err(failed)?;
        let answer = pb::SnapshotResponse::decode(answer)
            .map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))?;
        Ok(SnapshotResponse::new(from_vote(&answer.vote.unwrap_or_default())))
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let request = pb::TransferRequest {
            from: Some(to_vote(rpc.from_leader())),
            to: *rpc.to_node_id(),
            last: rpc.last_log_id().map(to_log_id),
        };
        let answer: pb::TransferResponse = self.call(Method::Transfer, &request, VOTE_MAX).await?;
        match answer.refused.as_str() {
            "" => Ok(Ok(())),
            why => Err(RPCError::Network(NetworkError::from_string(why))),
        }
    }
}

/// A snapshot's parts as messages: the head, then sections as they are read.
fn parts(links: Links, to: u64, head: pb::SnapshotPart, sections: snapshot::Sections) -> Messages {
    let head = head.encode_to_vec();
    let sections = futures_util::stream::iter(sections).map(|section| match section {
        Ok(section) => Ok(pb::SnapshotPart { section, ..Default::default() }.encode_to_vec()),
        Err(error) => Err(grpc::Status::new(Code::DataLoss, error.to_string())),
    });
    let all = futures_util::stream::once(async { Ok(head) }).chain(sections);
    Box::pin(all.map(move |part| Ok(links.envelope(to, part?.into()))))
}

//! What this server does for others.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use grpc::{BoxFuture, Call, Messages, Service, Status};
use prost::Message;
use store::{Renewal, Revision};

use crate::{
    RaftStore,
    consensus::{BarrierError, ChangeError, unreadable},
    forward,
    peers::{Method, REMOVED},
    proposer::Failure,
    proto::raft_v1::{
        ChangeRequest, ChangeResponse, ReadIndexRequest, ReadIndexResponse, RenewRequest,
        RenewedRequest, append_response::Outcome,
    },
    renewals,
};

/// A leader that was heard from within this time has not been replaced.
const LEAD_HEARD: std::time::Duration = std::time::Duration::from_millis(500);

impl RaftStore {
    /// What other members' calls go to; the owner of the store has made sure
    /// that it is a member who calls.
    pub fn service(self: &Arc<Self>) -> Arc<dyn Service> {
        Arc::new(Incoming(self.clone()))
    }

    /// Answers one call of another member.
    pub(crate) async fn answer(
        self: Arc<Self>,
        method: Method,
        mut messages: Messages,
    ) -> Result<Bytes, Status> {
        if method == Method::Snapshot {
            let taken = self.consensus.take_snapshot(&self.shared, &self.links, messages).await?;
            return Ok(encode(&taken));
        }
        let message = messages.next().await.ok_or_else(|| unreadable("none"))??;
        let (from, body) = self.links.open(message)?;
        let raft = &self.consensus;
        let asks_leader = matches!(method, Method::Commit | Method::Renew | Method::ReadIndex);
        if asks_leader && raft.is_leader() && !raft.has_member(from) {
            return Err(Status::new(grpc::Code::PermissionDenied, REMOVED));
        }
        Ok(match method {
            Method::Append => {
                let answer = raft.take_append(body).await?;
                if answer.outcome() != Outcome::HigherVote {
                    self.shared.hear();
                }
                encode(&answer)
            }
            Method::Vote => {
                let heard = raft.is_leader() || self.shared.heard_within(LEAD_HEARD);
                encode(&raft.take_vote(from, heard, body).await?)
            }
            Method::Transfer => encode(&raft.take_transfer(body).await?),
            Method::Renewed => {
                let request = RenewedRequest::decode(body).map_err(unreadable)?;
                encode(&renewals::take(&self.shared, request).await)
            }
            Method::Position => encode(&self.position()),
            Method::ReadIndex => {
                let request = ReadIndexRequest::decode(body).map_err(unreadable)?;
                encode(&self.lead_reader(request).await?)
            }
            Method::Commit => {
                let txn = forward::decode_txn(body).map_err(unreadable)?;
                encode(&forward::to_response(&self.commit_here(txn).await))
            }
            Method::Renew => {
                let request = RenewRequest::decode(body).map_err(unreadable)?;
                let put = forward::decode_put(request.put).map_err(unreadable)?;
                let renewal = Renewal { put, at: Revision(request.at) };
                let answer = match renewal_fits(&renewal) {
                    Ok(()) => self.renew_leading(&renewal).await,
                    Err(failure) => Err(failure),
                };
                encode(&forward::to_response(&answer))
            }
            Method::Change => {
                let request = ChangeRequest::decode(body).map_err(unreadable)?;
                let change = request.change.ok_or_else(|| unreadable("an unknown change"))?;
                encode(&match self.change_anywhere(change).await {
                    Ok(()) => ChangeResponse::default(),
                    Err(ChangeError::NotLeader) => {
                        ChangeResponse { not_leader: true, ..ChangeResponse::default() }
                    }
                    Err(ChangeError::Refused(refused)) => {
                        ChangeResponse { not_leader: false, refused }
                    }
                })
            }
            Method::Snapshot => return Err(unreadable("a stream")),
        })
    }

    async fn lead_reader(&self, reader: ReadIndexRequest) -> Result<ReadIndexResponse, Status> {
        match self.consensus.read_index().await {
            Ok(()) => {}
            Err(BarrierError::NotLeader) => {
                return Ok(ReadIndexResponse { not_leader: true, ..Default::default() });
            }
            Err(BarrierError::Stopped(why)) => {
                return Err(Status::new(grpc::Code::Unavailable, why));
            }
        }
        // Renewals are counted under the state's lock.
        let term = self.consensus.lead().term;
        let mvcc = self.read();
        Ok(ReadIndexResponse {
            not_leader: false,
            revision: mvcc.revision().0,
            renewals: self.made.count(),
            term,
            all: (reader.term != term).then(|| renewals::all(&mvcc, &self.made, term)),
        })
    }
}

fn renewal_fits(renewal: &Renewal) -> Result<(), Failure> {
    Ok(store::Txn::update(renewal.put.clone(), renewal.at).validate()?)
}

fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

struct Incoming(Arc<RaftStore>);

impl Service for Incoming {
    fn call(&self, call: Call) -> BoxFuture<Result<Messages, Status>> {
        let store = self.0.clone();
        Box::pin(async move {
            let Some(method) = Method::of(&call.path) else {
                return Err(Status::unimplemented(&call.path));
            };
            Ok(grpc::once(store.answer(method, call.messages).await?))
        })
    }
}

//! The answers to forwarded writes, as messages and back.

use bytes::Bytes;
use prost::Message;
use store::{CommitError, Committed, Conflict, Item, Key, Put, Renewed, Revision, Txn, Value};

use crate::{
    codec,
    proposer::Failure,
    proto::{
        raft_v1::{
            CommitResponse, RenewedItem,
            commit_response::{self as response, Reason},
        },
        store_v1 as pb,
    },
};

pub(crate) fn encode_txn(txn: &Txn) -> Bytes {
    codec::to_txn(txn).encode_to_vec().into()
}

pub(crate) fn decode_txn(bytes: Bytes) -> Result<Txn, String> {
    let txn = pb::Txn::decode(bytes).map_err(|error| error.to_string())?;
    codec::from_txn(txn)
}

pub(crate) fn encode_put(put: &Put) -> Bytes {
    codec::to_put(put).encode_to_vec().into()
}

pub(crate) fn decode_put(bytes: Bytes) -> Result<Put, String> {
    let put = pb::Put::decode(bytes).map_err(|error| error.to_string())?;
    Ok(codec::from_put(put))
}

pub(crate) fn to_response(answer: &Result<Committed, Failure>) -> CommitResponse {
    let failure = |reason: Reason, message: &str| response::Failure {
        reason: reason.into(),
        message: message.into(),
        ..response::Failure::default()
    };
    let failed = response::Result::Failure;
    let result = match answer {
        Ok(committed) => response::Result::Revision(committed.revision.0),
        Err(Failure::NotLeader) => failed(failure(Reason::NotLeader, "")),
        Err(Failure::Commit(error)) => match error {
            CommitError::Conflict(conflict) => response::Result::Conflict(response::Conflict {
                condition: u32::try_from(conflict.condition).unwrap_or(u32::MAX),
                current: conflict.current.as_ref().map(encode_item).unwrap_or_default(),
                revision: conflict.revision.0,
            }),
            CommitError::Invalid(why) => failed(failure(Reason::Invalid, why)),
            CommitError::Unavailable(why) | CommitError::NoLeader(why) => {
                failed(failure(Reason::Unavailable, why))
            }
            CommitError::Unknown(why) => failed(failure(Reason::Unknown, why)),
            CommitError::Full { used_bytes, quota_bytes } => failed(response::Failure {
                reason: Reason::Full.into(),
                used_bytes: *used_bytes,
                quota_bytes: *quota_bytes,
                message: String::new(),
            }),
        },
    };
    CommitResponse { result: Some(result) }
}

pub(crate) fn from_response(answer: CommitResponse) -> Result<Committed, Failure> {
    let error = match answer.result {
        Some(response::Result::Revision(revision)) => {
            return Ok(Committed { revision: Revision(revision) });
        }
        Some(response::Result::Conflict(conflict)) => {
            let current = match conflict.current.is_empty() {
                true => None,
                false => Some(decode_item(conflict.current).map_err(unknown)?),
            };
            CommitError::Conflict(Box::new(Conflict {
                condition: conflict.condition as usize,
                current,
                revision: Revision(conflict.revision),
            }))
        }
        Some(response::Result::Failure(failure)) => match failure.reason() {
            Reason::NotLeader => return Err(Failure::NotLeader),
            Reason::Invalid => CommitError::Invalid(failure.message),
            Reason::Full => CommitError::Full {
                used_bytes: failure.used_bytes,
                quota_bytes: failure.quota_bytes,
            },
            Reason::Unavailable => CommitError::Unavailable(failure.message),
            Reason::Unknown | Reason::Unspecified => CommitError::Unknown(failure.message),
        },
        None => return Err(unknown("the leader's answer is of a kind that is not known here")),
    };
    Err(Failure::Commit(error))
}

fn unknown(why: impl Into<String>) -> Failure {
    Failure::Commit(CommitError::Unknown(why.into()))
}

fn encode_item(item: &Item) -> Bytes {
    codec::to_item(item).encode_to_vec().into()
}

fn decode_item(bytes: Bytes) -> Result<Item, String> {
    let item = pb::Item::decode(bytes).map_err(|error| error.to_string())?;
    Ok(Item {
        key: Key::from_stored(&item.key),
        value: Value { epoch: item.epoch, data: item.data },
        revision: Revision(item.revision),
        created: Revision(item.created),
    })
}

pub(crate) fn to_renewed(renewed: &Renewed) -> RenewedItem {
    RenewedItem {
        key: renewed.key.as_str().into(),
        epoch: renewed.value.epoch,
        data: renewed.value.data.clone(),
        revision: renewed.revision.0,
        over: renewed.over.0,
    }
}

pub(crate) fn from_renewed(item: RenewedItem) -> Renewed {
    Renewed {
        key: Key::from_stored(&item.key),
        value: Value { epoch: item.epoch, data: item.data },
        revision: Revision(item.revision),
        over: Revision(item.over),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_reads_back() {
        let item = Item {
            key: Key::new("", "configmaps", "default", "a"),
            value: Value { epoch: 2, data: Bytes::from_static(b"{}") },
            revision: Revision(7),
            created: Revision(3),
        };
        let conflict = |current| Conflict { condition: 1, current, revision: Revision(9) };
        let errors = [
            CommitError::Conflict(Box::new(conflict(Some(item)))),
            CommitError::Conflict(Box::new(conflict(None))),
            CommitError::Invalid("bad".into()),
            CommitError::Unavailable("later".into()),
            CommitError::Unknown("who knows".into()),
            CommitError::Full { used_bytes: 5, quota_bytes: 4 },
        ];
        let answers = errors.map(|error| Err(Failure::Commit(error)));
        let more = [Ok(Committed { revision: Revision(8) }), Err(Failure::NotLeader)];
        for answer in answers.into_iter().chain(more) {
            assert_eq!(from_response(to_response(&answer)), answer);
        }
    }
}

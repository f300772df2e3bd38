//! Between the store's types and the messages of the log.

use bytes::Bytes;
use prost::Message;
use store::{Condition, Item, Key, Op, Put, Revision, Txn, Value};

use crate::proto::store_v1::{self as pb, command::Command, condition::Kind};

/// The command of an entry that holds transactions.
pub(crate) fn encode_batch(txns: &[Txn]) -> Bytes {
    let batch = pb::Batch { txns: txns.iter().map(to_txn).collect() };
    encode(Command::Batch(batch))
}

/// The command that raises the feature level.
pub(crate) fn encode_feature_level(level: u32) -> Bytes {
    encode(Command::FeatureLevel(pb::FeatureLevel { level }))
}

fn encode(command: Command) -> Bytes {
    pb::Command { command: Some(command) }.encode_to_vec().into()
}

/// What an entry does.
pub(crate) enum Decoded {
    Txns(Vec<Txn>),
    FeatureLevel(u32),
}

/// Reads a command back. Values are slices of `bytes`.
///
/// # Errors
/// Where this version does not know what the entry says: going on without it
/// would make this server's state differ from the others'.
pub(crate) fn decode(bytes: Bytes) -> Result<Decoded, String> {
    let command = pb::Command::decode(bytes).map_err(|error| error.to_string())?;
    match command.command {
        Some(Command::Batch(batch)) => {
            batch.txns.into_iter().map(from_txn).collect::<Result<_, _>>().map(Decoded::Txns)
        }
        Some(Command::FeatureLevel(level)) => Ok(Decoded::FeatureLevel(level.level)),
        None => Err("it holds a command that this version does not know".into()),
    }
}

pub(crate) fn to_txn(txn: &Txn) -> pb::Txn {
    let conditions = txn.conditions.iter().map(|(key, condition)| {
        let (kind, revision) = match condition {
            Condition::Absent => (Kind::Absent, 0),
            Condition::Present => (Kind::Present, 0),
            Condition::AtRevision(revision) => (Kind::AtRevision, revision.0),
        };
        pb::Condition { key: key.as_str().into(), kind: kind.into(), revision }
    });
    let ops = txn.ops.iter().map(|op| match op {
        Op::Put(put) => pb::op::Op::Put(to_put(put)),
        Op::Delete { key } => pb::op::Op::Delete(pb::Delete { key: key.as_str().into() }),
    });
    let ops = ops.map(|op| pb::Op { op: Some(op) }).collect();
    pb::Txn { conditions: conditions.collect(), ops }
}

pub(crate) fn to_put(put: &Put) -> pb::Put {
    pb::Put {
        key: put.key.as_str().into(),
        epoch: put.value.epoch,
        data: put.value.data.clone(),
        revision_at: put.revision_at,
    }
}

pub(crate) fn from_put(put: pb::Put) -> Put {
    Put {
        key: Key::from_stored(&put.key),
        value: Value { epoch: put.epoch, data: put.data },
        revision_at: put.revision_at,
    }
}

pub(crate) fn to_item(item: &Item) -> pb::Item {
    pb::Item {
        key: item.key.as_str().into(),
        epoch: item.value.epoch,
        data: item.value.data.clone(),
        revision: item.revision.0,
        created: item.created.0,
    }
}

pub(crate) fn from_txn(txn: pb::Txn) -> Result<Txn, String> {
    let condition = |condition: pb::Condition| {
        let key = Key::from_stored(&condition.key);
        match condition.kind() {
            Kind::Absent => Ok((key, Condition::Absent)),
            Kind::Present => Ok((key, Condition::Present)),
            Kind::AtRevision => Ok((key, Condition::AtRevision(Revision(condition.revision)))),
            Kind::Unspecified => Err(format!("condition {} is not known", condition.kind)),
        }
    };
    let op = |op: pb::Op| match op.op {
        Some(pb::op::Op::Put(put)) => Ok(Op::Put(from_put(put))),
        Some(pb::op::Op::Delete(delete)) => Ok(Op::Delete { key: Key::from_stored(&delete.key) }),
        None => Err("it holds an operation that this version does not know".to_owned()),
    };
    Ok(Txn {
        conditions: txn.conditions.into_iter().map(condition).collect::<Result<_, _>>()?,
        ops: txn.ops.into_iter().map(op).collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_batch_reads_back() {
        let key = Key::new("apps", "deployments", "default", "web");
        let put = Put {
            key: key.clone(),
            value: Value { epoch: 3, data: Bytes::from_static(b"{}") },
            revision_at: Some(0),
        };
        let conditions = vec![
            (key.clone(), Condition::Absent),
            (key.clone(), Condition::Present),
            (key.clone(), Condition::AtRevision(Revision(9))),
        ];
        let txn = Txn { conditions, ops: vec![Op::Put(put), Op::Delete { key }] };
        let txns = vec![txn, Txn::default()];
        match decode(encode_batch(&txns)) {
            Ok(Decoded::Txns(read)) => assert_eq!(read, txns),
            _ => panic!("not a batch"),
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        // Field 7 of `Command`.
        assert!(decode(Bytes::from_static(&[0x3a, 0])).is_err());
        assert!(decode(Bytes::new()).is_err());
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(bytes.into());
        }
    }
}

//! The stored and sent messages: what `proto/skiff/{store,raft}/v1` says, as
//! Rust types. A test compares the two.

#![allow(missing_docs, reason = "the .proto files say what each field means")]

pub mod store_v1 {
    use bytes::Bytes;

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Command {
        #[prost(oneof = "command::Command", tags = "1, 2")]
        pub command: Option<command::Command>,
    }

    pub mod command {
        #[derive(Clone, PartialEq, prost::Oneof)]
        pub enum Command {
            #[prost(message, tag = "1")]
            Batch(super::Batch),
            #[prost(message, tag = "2")]
            FeatureLevel(super::FeatureLevel),
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Batch {
        #[prost(message, repeated, tag = "1")]
        pub txns: Vec<Txn>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct FeatureLevel {
        #[prost(uint32, tag = "1")]
        pub level: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Txn {
        #[prost(message, repeated, tag = "1")]
        pub conditions: Vec<Condition>,
        #[prost(message, repeated, tag = "2")]
        pub ops: Vec<Op>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Condition {
        #[prost(string, tag = "1")]
        pub key: String,
        #[prost(enumeration = "condition::Kind", tag = "2")]
        pub kind: i32,
        #[prost(uint64, tag = "3")]
        pub revision: u64,
    }

    pub mod condition {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
        #[repr(i32)]
        pub enum Kind {
            Unspecified = 0,
            Absent = 1,
            Present = 2,
            AtRevision = 3,
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Op {
        #[prost(oneof = "op::Op", tags = "1, 2")]
        pub op: Option<op::Op>,
    }

    pub mod op {
        #[derive(Clone, PartialEq, prost::Oneof)]
        pub enum Op {
            #[prost(message, tag = "1")]
            Put(super::Put),
            #[prost(message, tag = "2")]
            Delete(super::Delete),
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Put {
        #[prost(string, tag = "1")]
        pub key: String,
        #[prost(uint32, tag = "2")]
        pub epoch: u32,
        #[prost(bytes = "bytes", tag = "3")]
        pub data: Bytes,
        #[prost(uint32, optional, tag = "4")]
        pub revision_at: Option<u32>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Delete {
        #[prost(string, tag = "1")]
        pub key: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct SnapshotHead {
        #[prost(uint64, tag = "1")]
        pub revision: u64,
        #[prost(uint64, tag = "2")]
        pub floor: u64,
        #[prost(uint64, tag = "3")]
        pub base: u64,
        #[prost(uint32, tag = "4")]
        pub feature_level: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Item {
        #[prost(string, tag = "1")]
        pub key: String,
        #[prost(uint32, tag = "2")]
        pub epoch: u32,
        #[prost(bytes = "bytes", tag = "3")]
        pub data: Bytes,
        #[prost(uint64, tag = "4")]
        pub revision: u64,
        #[prost(uint64, tag = "5")]
        pub created: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Items {
        #[prost(message, repeated, tag = "1")]
        pub items: Vec<Item>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Event {
        #[prost(uint64, tag = "1")]
        pub revision: u64,
        #[prost(string, tag = "2")]
        pub key: String,
        #[prost(message, optional, tag = "3")]
        pub prev: Option<Item>,
        #[prost(message, optional, tag = "4")]
        pub put: Option<event::NewValue>,
    }

    pub mod event {
        #[derive(Clone, PartialEq, prost::Message)]
        pub struct NewValue {
            #[prost(uint64, tag = "1")]
            pub created: u64,
            #[prost(message, optional, tag = "2")]
            pub item: Option<super::Item>,
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Events {
        #[prost(message, repeated, tag = "1")]
        pub events: Vec<Event>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct SnapshotEnd {
        #[prost(uint64, tag = "1")]
        pub items: u64,
        #[prost(uint64, tag = "2")]
        pub events: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct BackupHead {
        #[prost(bytes = "bytes", tag = "1")]
        pub cluster_id: Bytes,
        #[prost(uint64, tag = "2")]
        pub revision: u64,
        #[prost(uint64, tag = "3")]
        pub last_index: u64,
        #[prost(uint64, tag = "4")]
        pub keys: u64,
        #[prost(int64, tag = "5")]
        pub time: i64,
        #[prost(string, tag = "6")]
        pub server: String,
        #[prost(string, tag = "7")]
        pub version: String,
        #[prost(uint32, tag = "8")]
        pub feature_level: u32,
        #[prost(bytes = "bytes", tag = "9")]
        pub key_id: Bytes,
        #[prost(message, repeated, tag = "10")]
        pub labels: Vec<Label>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Label {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub value: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Files {
        #[prost(message, repeated, tag = "1")]
        pub files: Vec<File>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct File {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(bytes = "bytes", tag = "2")]
        pub content: Bytes,
    }
}

pub mod raft_v1 {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    #[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
    pub struct LeaderId {
        #[prost(uint64, tag = "1")]
        pub term: u64,
        #[prost(uint64, tag = "2")]
        pub node_id: u64,
    }

    #[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
    pub struct LogId {
        #[prost(message, optional, tag = "1")]
        pub leader: Option<LeaderId>,
        #[prost(uint64, tag = "2")]
        pub index: u64,
    }

    #[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
    pub struct Vote {
        #[prost(message, optional, tag = "1")]
        pub leader: Option<LeaderId>,
        #[prost(bool, tag = "2")]
        pub committed: bool,
    }

    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub struct Node {
        #[prost(string, tag = "1")]
        pub address: String,
        #[prost(string, tag = "2")]
        pub name: String,
        #[prost(uint32, tag = "3")]
        pub feature_level: u32,
        #[prost(string, tag = "4")]
        pub version: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Membership {
        #[prost(message, repeated, tag = "1")]
        pub configs: Vec<membership::Voters>,
        #[prost(btree_map = "uint64, message", tag = "2")]
        pub nodes: BTreeMap<u64, Node>,
    }

    pub mod membership {
        #[derive(Clone, PartialEq, prost::Message)]
        pub struct Voters {
            #[prost(uint64, repeated, tag = "1")]
            pub node_ids: Vec<u64>,
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct StoredMembership {
        #[prost(message, optional, tag = "1")]
        pub id: Option<LogId>,
        #[prost(message, optional, tag = "2")]
        pub membership: Option<Membership>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Entry {
        #[prost(message, optional, tag = "1")]
        pub id: Option<LogId>,
        #[prost(oneof = "entry::Payload", tags = "2, 3, 4")]
        pub payload: Option<entry::Payload>,
    }

    pub mod entry {
        use bytes::Bytes;

        #[derive(Clone, PartialEq, prost::Oneof)]
        pub enum Payload {
            #[prost(message, tag = "2")]
            Blank(Blank),
            #[prost(bytes = "bytes", tag = "3")]
            Command(Bytes),
            #[prost(message, tag = "4")]
            Membership(super::Membership),
        }

        #[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
        pub struct Blank {}
    }

    #[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
    pub struct LogState {
        #[prost(message, optional, tag = "1")]
        pub vote: Option<Vote>,
        #[prost(message, optional, tag = "2")]
        pub committed: Option<LogId>,
        #[prost(message, optional, tag = "3")]
        pub purged: Option<LogId>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct SnapshotMeta {
        #[prost(message, optional, tag = "1")]
        pub last: Option<LogId>,
        #[prost(message, optional, tag = "2")]
        pub membership: Option<StoredMembership>,
        #[prost(bytes = "bytes", tag = "3")]
        pub cluster_id: Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Envelope {
        #[prost(bytes = "bytes", tag = "1")]
        pub cluster_id: Bytes,
        #[prost(uint64, tag = "2")]
        pub from: u64,
        #[prost(uint64, tag = "3")]
        pub to: u64,
        #[prost(bytes = "bytes", tag = "4")]
        pub body: Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct AppendRequest {
        #[prost(message, optional, tag = "1")]
        pub vote: Option<Vote>,
        #[prost(message, optional, tag = "2")]
        pub prev: Option<LogId>,
        #[prost(message, repeated, tag = "3")]
        pub entries: Vec<Entry>,
        #[prost(message, optional, tag = "4")]
        pub leader_commit: Option<LogId>,
    }

    #[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
    pub struct AppendResponse {
        #[prost(enumeration = "append_response::Outcome", tag = "1")]
        pub outcome: i32,
        #[prost(message, optional, tag = "2")]
        pub vote: Option<Vote>,
    }

    pub mod append_response {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
        #[repr(i32)]
        pub enum Outcome {
            Unspecified = 0,
            Matches = 1,
            Conflict = 2,
            HigherVote = 3,
        }
    }

    #[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
    pub struct VoteRequest {
        #[prost(message, optional, tag = "1")]
        pub vote: Option<Vote>,
        #[prost(message, optional, tag = "2")]
        pub last: Option<LogId>,
        #[prost(bool, tag = "3")]
        pub pre_vote: bool,
        #[prost(bool, tag = "4")]
        pub transfer: bool,
    }

    #[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
    pub struct VoteResponse {
        #[prost(message, optional, tag = "1")]
        pub vote: Option<Vote>,
        #[prost(bool, tag = "2")]
        pub granted: bool,
        #[prost(message, optional, tag = "3")]
        pub last: Option<LogId>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct SnapshotPart {
        #[prost(message, optional, tag = "1")]
        pub vote: Option<Vote>,
        #[prost(message, optional, tag = "2")]
        pub meta: Option<SnapshotMeta>,
        #[prost(bytes = "bytes", tag = "3")]
        pub section: Bytes,
    }

    #[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
    pub struct SnapshotResponse {
        #[prost(message, optional, tag = "1")]
        pub vote: Option<Vote>,
    }

    #[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
    pub struct TransferRequest {
        #[prost(message, optional, tag = "1")]
        pub from: Option<Vote>,
        #[prost(uint64, tag = "2")]
        pub to: u64,
        #[prost(message, optional, tag = "3")]
        pub last: Option<LogId>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct TransferResponse {
        #[prost(string, tag = "1")]
        pub refused: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct CommitResponse {
        #[prost(oneof = "commit_response::Result", tags = "1, 2, 3")]
        pub result: Option<commit_response::Result>,
    }

    pub mod commit_response {
        use bytes::Bytes;

        #[derive(Clone, PartialEq, prost::Oneof)]
        pub enum Result {
            #[prost(uint64, tag = "1")]
            Revision(u64),
            #[prost(message, tag = "2")]
            Conflict(Conflict),
            #[prost(message, tag = "3")]
            Failure(Failure),
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub struct Conflict {
            #[prost(uint32, tag = "1")]
            pub condition: u32,
            #[prost(bytes = "bytes", tag = "2")]
            pub current: Bytes,
            #[prost(uint64, tag = "3")]
            pub revision: u64,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub struct Failure {
            #[prost(enumeration = "Reason", tag = "1")]
            pub reason: i32,
            #[prost(string, tag = "2")]
            pub message: String,
            #[prost(uint64, tag = "3")]
            pub used_bytes: u64,
            #[prost(uint64, tag = "4")]
            pub quota_bytes: u64,
        }

        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
        #[repr(i32)]
        pub enum Reason {
            Unspecified = 0,
            NotLeader = 1,
            Invalid = 2,
            Full = 3,
            Unavailable = 4,
            Unknown = 5,
        }
    }

    #[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
    pub struct ReadIndexRequest {
        #[prost(uint64, tag = "1")]
        pub term: u64,
        #[prost(uint64, tag = "2")]
        pub renewals: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ReadIndexResponse {
        #[prost(bool, tag = "1")]
        pub not_leader: bool,
        #[prost(uint64, tag = "2")]
        pub revision: u64,
        #[prost(uint64, tag = "3")]
        pub renewals: u64,
        #[prost(uint64, tag = "4")]
        pub term: u64,
        #[prost(message, optional, tag = "5")]
        pub all: Option<RenewedRequest>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct RenewRequest {
        #[prost(bytes = "bytes", tag = "1")]
        pub put: Bytes,
        #[prost(uint64, tag = "2")]
        pub at: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct RenewedRequest {
        #[prost(uint64, tag = "1")]
        pub term: u64,
        #[prost(uint64, tag = "2")]
        pub after: u64,
        #[prost(uint64, tag = "3")]
        pub count: u64,
        #[prost(bool, tag = "4")]
        pub all: bool,
        #[prost(message, repeated, tag = "5")]
        pub items: Vec<RenewedItem>,
        #[prost(uint64, tag = "6")]
        pub revision: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct RenewedItem {
        #[prost(string, tag = "1")]
        pub key: String,
        #[prost(uint32, tag = "2")]
        pub epoch: u32,
        #[prost(bytes = "bytes", tag = "3")]
        pub data: Bytes,
        #[prost(uint64, tag = "4")]
        pub revision: u64,
        #[prost(uint64, tag = "5")]
        pub over: u64,
    }

    #[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
    pub struct RenewedResponse {
        #[prost(bool, tag = "1")]
        pub misses: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ChangeRequest {
        #[prost(oneof = "change_request::Change", tags = "1, 2")]
        pub change: Option<change_request::Change>,
    }

    pub mod change_request {
        #[derive(Clone, PartialEq, prost::Oneof)]
        pub enum Change {
            #[prost(message, tag = "1")]
            Join(Join),
            #[prost(string, tag = "2")]
            Remove(String),
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub struct Join {
            #[prost(uint64, tag = "1")]
            pub id: u64,
            #[prost(message, optional, tag = "2")]
            pub node: Option<super::Node>,
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ChangeResponse {
        #[prost(bool, tag = "1")]
        pub not_leader: bool,
        #[prost(string, tag = "2")]
        pub refused: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct PositionResponse {
        #[prost(uint64, tag = "1")]
        pub term: u64,
        #[prost(uint64, tag = "2")]
        pub leader: u64,
        #[prost(uint64, tag = "3")]
        pub last_log: u64,
        #[prost(uint64, tag = "4")]
        pub applied: u64,
        #[prost(uint64, tag = "5")]
        pub snapshot: u64,
        #[prost(uint64, tag = "6")]
        pub revision: u64,
        #[prost(string, tag = "7")]
        pub fault: String,
        #[prost(message, optional, tag = "8")]
        pub node: Option<Node>,
    }
}

//! How members reach each other.
//!
//! [`Peers`] is the seam: the real one, [`Connected`], speaks gRPC on
//! connections that its owner makes (and secures); tests put a network there
//! that loses, delays and reorders.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use grpc::{BoxFuture, CallError, Client, Code, Messages, Status};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use crate::proto::raft_v1::{Envelope, Node};

/// The calls of `skiff.raft.v1.Peer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Log entries, or none to say that the leader is there.
    Append,
    /// A vote, or whether one would be given.
    Vote,
    /// A whole snapshot.
    Snapshot,
    /// The leader wants to be another.
    Transfer,
    /// A write that another server took.
    Commit,
    /// How far a reader must have come.
    ReadIndex,
    /// A renewal that another server took.
    Renew,
    /// Renewals that the leader made.
    Renewed,
    /// Who is a member.
    Change,
    /// Where a member stands.
    Position,
}

/// Every method, with its path on the wire.
pub const METHODS: &[(Method, &str)] = &[
    (Method::Append, "/skiff.raft.v1.Peer/Append"),
    (Method::Vote, "/skiff.raft.v1.Peer/Vote"),
    (Method::Snapshot, "/skiff.raft.v1.Peer/Snapshot"),
    (Method::Transfer, "/skiff.raft.v1.Peer/Transfer"),
    (Method::Commit, "/skiff.raft.v1.Peer/Commit"),
    (Method::ReadIndex, "/skiff.raft.v1.Peer/ReadIndex"),
    (Method::Renew, "/skiff.raft.v1.Peer/Renew"),
    (Method::Renewed, "/skiff.raft.v1.Peer/Renewed"),
    (Method::Change, "/skiff.raft.v1.Peer/Change"),
    (Method::Position, "/skiff.raft.v1.Peer/Position"),
];

impl Method {
    /// Its path on the wire.
    pub fn path(self) -> &'static str {
        METHODS[self as usize].1
    }

    /// The method of a path.
    pub fn of(path: &str) -> Option<Self> {
        METHODS.iter().find(|(_, known)| *known == path).map(|(method, _)| *method)
    }
}

/// The network between members.
pub trait Peers: Send + Sync + 'static {
    /// Makes a call at an address; one answer comes back. Dropping the future
    /// gives the call up.
    fn call(
        &self,
        address: &str,
        method: Method,
        messages: Messages,
    ) -> BoxFuture<Result<Bytes, CallError>>;
}

/// Nobody is there: for a store that is and stays alone.
pub struct NoPeers;

impl Peers for NoPeers {
    fn call(&self, _: &str, _: Method, _: Messages) -> BoxFuture<Result<Bytes, CallError>> {
        let alone = CallError::NotSent("this store has no way to other servers".into());
        Box::pin(std::future::ready(Err(alone)))
    }
}

/// A connection to a member.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// Makes a connection to `host:port`, sure that a member of the cluster is at
/// the other end.
pub type Connect = Arc<dyn Fn(String) -> BoxFuture<io::Result<Box<dyn Connection>>> + Send + Sync>;

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// How long a call waits for a connection; it is made all the same.
const WAIT_MAX: Duration = Duration::from_millis(700);

/// A way to a member, open or not.
#[derive(Default)]
struct Way {
    client: Option<Client>,
    /// When a connection could not be made, and why.
    failed: Option<(Instant, CallError)>,
}

impl Way {
    fn open(&self) -> Option<Client> {
        self.client.as_ref().filter(|client| client.is_open()).cloned()
    }
}

type Slot = Arc<tokio::sync::Mutex<Way>>;

/// Peers over gRPC. Connections are made when first needed and again when they
/// break.
pub struct Connected {
    connect: Connect,
    /// By address; snapshots have connections of their own, since they are long
    /// and what says that the leader is there must not wait behind them.
    slots: Arc<Mutex<HashMap<(String, bool), Slot>>>,
}

impl Connected {
    /// Peers that are reached as `connect` says.
    pub fn new(connect: Connect) -> Self {
        Self { connect, slots: Arc::default() }
    }
}

impl Peers for Connected {
    fn call(
        &self,
        address: &str,
        method: Method,
        messages: Messages,
    ) -> BoxFuture<Result<Bytes, CallError>> {
        let place = (address.to_owned(), method == Method::Snapshot);
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.entry(place).or_default().clone()
        };
        let (connect, address) = (self.connect.clone(), address.to_owned());
        Box::pin(async move {
            let open_now = slot.try_lock().ok().and_then(|way| way.open());
            if let Some(mut client) = open_now {
                return client.only(method.path(), messages).await;
            }
            let asked = Instant::now();
            // A task of its own: a heartbeat is given up sooner than a slow machine
            // has made a connection, and the next one must find it made.
            let connecting = tokio::spawn(async move {
                let mut way = slot.lock().await;
                if let Some(client) = way.open() {
                    return Ok(client);
                }
                // Whoever waited for an attempt need not make another.
                if let Some((_, error)) = way.failed.as_ref().filter(|(at, _)| *at > asked) {
                    return Err(error.clone());
                }
                match connect_to(&connect, address).await {
                    Ok(client) => {
                        way.failed = None;
                        Ok(way.client.insert(client).clone())
                    }
                    Err(error) => {
                        way.failed = Some((Instant::now(), error.clone()));
                        Err(error)
                    }
                }
            });
            let stopped = |error| CallError::NotSent(format!("connecting was stopped: {error}"));
            // A machine without power does not even refuse.
            let late = |_| CallError::NotSent("it is still being connected to".into());
            let connected = tokio::time::timeout(WAIT_MAX, connecting).await.map_err(late)?;
            let mut client = connected.map_err(stopped)??;
            client.only(method.path(), messages).await
        })
    }
}

async fn connect_to(connect: &Connect, address: String) -> Result<Client, CallError> {
    let named = |error: &dyn std::fmt::Display| CallError::NotSent(format!("{address}: {error}"));
    let connecting = async {
        let connection = connect(address.clone()).await.map_err(|error| named(&error))?;
        Client::start(connection).await.map_err(|error| named(&error))
    };
    let made = tokio::time::timeout(CONNECT_MAX, connecting).await;
    made.unwrap_or_else(|_| Err(named(&"no connection in time")))
}

/// What a server that was removed is told.
pub(crate) const REMOVED: &str = "this server was removed from the cluster; to join it anew, stop \
                                  it, remove its data directory and start it with --server and \
                                  --token";

/// One member's way to the others.
#[derive(Clone)]
pub(crate) struct Links {
    pub(crate) cluster: [u8; 16],
    pub(crate) me: u64,
    pub(crate) peers: Arc<dyn Peers>,
    /// Set once it is known that this server is no member any more; what to do.
    pub(crate) removed: Arc<OnceLock<String>>,
    /// Where members are now: Raft keeps to the address at which it began to send to one.
    addresses: Arc<RwLock<BTreeMap<u64, String>>>,
}

impl Links {
    pub(crate) fn new(cluster: [u8; 16], me: u64, peers: Arc<dyn Peers>) -> Self {
        Self { cluster, me, peers, removed: Arc::default(), addresses: Arc::default() }
    }

    /// Takes note of where the members are.
    pub(crate) fn members_are(&self, members: &BTreeMap<u64, Node>) {
        let addresses = members.iter().map(|(id, node)| (*id, node.address.clone())).collect();
        *self.addresses.write().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// The address of a member; that of `node` where none is known.
    pub(crate) fn address(&self, (to, node): (u64, &Node)) -> String {
        let addresses = self.addresses.read().unwrap_or_else(PoisonError::into_inner);
        addresses.get(&to).unwrap_or(&node.address).clone()
    }

    /// Takes note that this server was removed from the cluster.
    pub(crate) fn was_removed(&self) {
        self.removed.get_or_init(|| {
            tracing::error!("{REMOVED}");
            REMOVED.into()
        });
    }

    /// The body in what keeps it from reaching the wrong server.
    pub(crate) fn envelope(&self, to: u64, body: Bytes) -> Bytes {
        let cluster_id = Bytes::copy_from_slice(&self.cluster);
        Envelope { cluster_id, from: self.me, to, body }.encode_to_vec().into()
    }

    /// One message there, one back.
    pub(crate) async fn call<Answer: Message + Default>(
        &self,
        (to, node): (u64, &Node),
        method: Method,
        body: &impl Message,
    ) -> Result<Answer, CallError> {
        let message = self.envelope(to, body.encode_to_vec().into());
        let address = self.address((to, node));
        let answer = self.peers.call(&address, method, grpc::once(message)).await?;
        Answer::decode(answer).map_err(|error| {
            CallError::Failed(Status::new(Code::Internal, format!("an unreadable answer: {error}")))
        })
    }

    /// The sender and the body of a message that is for us.
    pub(crate) fn open(&self, message: Bytes) -> Result<(u64, Bytes), Status> {
        let envelope = Envelope::decode(message)
            .map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
        let refused = |text: &str| Err(Status::new(Code::FailedPrecondition, text));
        if envelope.cluster_id[..] != self.cluster {
            return refused("the server at this address is of another cluster");
        }
        if envelope.to != 0 && envelope.to != self.me {
            return refused("another server has this address now");
        }
        Ok((envelope.from, envelope.body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_rows_in_order() {
        for (at, (method, path)) in METHODS.iter().enumerate() {
            assert_eq!((*method as usize, method.path()), (at, *path));
            assert_eq!(Method::of(path), Some(*method));
            let proto = include_str!("../../../proto/skiff/raft/v1/raft.proto");
            let rpc = format!("rpc {}(", path.rsplit('/').next().expect("a path"));
            assert!(proto.contains(&rpc), "{rpc}");
        }
    }

    #[test]
    fn what_is_for_others_is_refused() {
        let links = |cluster, me| Links::new([cluster; 16], me, Arc::new(NoPeers));
        let ours = links(1, 5);
        let message = links(1, 4).envelope(5, Bytes::from_static(b"x"));
        assert_eq!(ours.open(message), Ok((4, Bytes::from_static(b"x"))));
        assert!(ours.open(links(1, 4).envelope(0, Bytes::new())).is_ok());
        assert!(ours.open(links(1, 4).envelope(6, Bytes::new())).is_err());
        assert!(ours.open(links(2, 4).envelope(5, Bytes::new())).is_err());
        assert!(ours.open(Bytes::from_static(b"junk")).is_err());
    }
}

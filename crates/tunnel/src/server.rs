//! The server's end: nodes that have called, and streams on them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use grpc::{Call, Code, Messages, Service, Status};
use prost::Message as _;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::{
    BoxFuture, End, NodeEnd, NodeStreams, Nodes, Open, OpenError, Output, ServerEnd, pair,
    wire::{self, v1},
};

/// The paths of both calls.
pub(crate) const LISTEN: &str = "/skiff.tunnel.v1.Tunnel/Listen";
pub(crate) const CARRY: &str = "/skiff.tunnel.v1.Tunnel/Carry";
/// What this end speaks.
pub(crate) const VERSION: u32 = 1;
/// Wishes that a node has not taken yet.
const WISHES_MAX: usize = 64;

type Answer = oneshot::Sender<Result<ServerEnd, OpenError>>;

/// A node that is reached through what it opened.
pub(crate) struct Remote {
    name: String,
    wishes: mpsc::Sender<v1::Open>,
    /// Counts wishes on all nodes: an answer says which it is for, not by which
    /// of a node's calls it was heard.
    next: Arc<AtomicU64>,
    pending: Mutex<BTreeMap<u64, Answer>>,
    /// Told of each wish that nobody waits for any more.
    settled: Notify,
}

impl Remote {
    fn pending(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Answer>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until all that was asked of the node has its answer.
    async fn all_settled(&self) {
        loop {
            let settled = self.settled.notified();
            if self.pending().is_empty() {
                return;
            }
            settled.await;
        }
    }

    fn unreachable(&self) -> OpenError {
        OpenError::NodeUnreachable(format!(
            "the connection from node \"{}\" ended before it answered",
            self.name
        ))
    }
}

/// Forgets a wish that nobody waits for any more.
struct Waiting {
    remote: Arc<Remote>,
    id: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.remote.pending().remove(&self.id);
        self.remote.settled.notify_one();
    }
}

/// How a remote node is an entry of [`Nodes`].
struct Handle(Arc<Remote>);

impl NodeStreams for Handle {
    fn open(&self, open: Open) -> BoxFuture<Result<ServerEnd, OpenError>> {
        let remote = self.0.clone();
        Box::pin(async move {
            let id = remote.next.fetch_add(1, Ordering::Relaxed);
            let (answer, answered) = oneshot::channel();
            remote.pending().insert(id, answer);
            let _waiting = Waiting { remote: remote.clone(), id };
            if remote.wishes.send(wire::open(id, open)).await.is_err() {
                return Err(remote.unreachable());
            }
            answered.await.unwrap_or_else(|_| Err(remote.unreachable()))
        })
    }
}

/// Takes a call off its node when the stream of wishes is gone.
struct Listening {
    nodes: Arc<Nodes>,
    remote: Arc<Remote>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let is_gone = self.nodes.remove_remote(&self.remote);
        self.remote.pending().clear();
        if is_gone {
            tracing::info!(node = self.remote.name, "the node is no longer connected");
        }
    }
}

/// Answers the calls of one connection, whose node's name has been verified.
struct Incoming {
    nodes: Arc<Nodes>,
    node: String,
    /// True once the server stops.
    closing: watch::Receiver<bool>,
}

/// What answers on a connection of a node whose name has been verified. The
/// node's listening ends once `closing` turns true.
pub fn service(
    nodes: Arc<Nodes>,
    node: String,
    closing: watch::Receiver<bool>,
) -> Arc<dyn Service> {
    Arc::new(Incoming { nodes, node, closing })
}

impl Service for Incoming {
    fn call(&self, call: Call) -> grpc::BoxFuture<Result<Messages, Status>> {
        let (nodes, node) = (self.nodes.clone(), self.node.clone());
        let closing = self.closing.clone();
        Box::pin(async move {
            match call.path.as_str() {
                LISTEN => listen(nodes, node, call.messages, closing).await,
                CARRY => carry(&nodes, &node, call.messages).await,
                other => Err(Status::unimplemented(other)),
            }
        })
    }
}

async fn first<M: prost::Message + Default>(messages: &mut Messages) -> Result<M, Status> {
    let nothing = || Status::new(Code::InvalidArgument, "a call without a message");
    let message = messages.next().await.ok_or_else(nothing)??;
    M::decode(message).map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))
}

async fn listen(
    nodes: Arc<Nodes>,
    node: String,
    mut messages: Messages,
    mut closing: watch::Receiver<bool>,
) -> Result<Messages, Status> {
    let v1::ListenRequest { version } = first(&mut messages).await?;
    if version != VERSION {
        let words = format!("tunnel version {version} is not known here, {VERSION} is");
        return Err(Status::new(Code::Unimplemented, words));
    }
    let (wishes, receiver) = mpsc::channel(WISHES_MAX);
    let remote = Arc::new(Remote {
        name: node,
        wishes,
        next: nodes.wishes.clone(),
        pending: Mutex::default(),
        settled: Notify::new(),
    });
    nodes.insert_remote(remote.clone());
    tracing::info!(node = remote.name, "the node is connected");
    let listening = Listening { nodes, remote: remote.clone() };
    let wishes = stream::unfold((receiver, listening), |(mut receiver, listening)| async move {
        let wish = receiver.recv().await?;
        Some((Ok::<_, Status>(Bytes::from(wish.encode_to_vec())), (receiver, listening)))
    });
    // A server that is gone has stopped too.
    let closed = async move { drop(closing.wait_for(|closing| *closing).await) };
    let left = left(messages, remote);
    let over = async move {
        tokio::select! {
            () = closed => {}
            () = left => {}
        }
    };
    Ok(Box::pin(wishes.take_until(Box::pin(over))))
}

/// Until the node has said that it can be reached by a later call of its, and what it was
/// told of by this one is answered.
async fn left(mut messages: Messages, remote: Arc<Remote>) {
    match messages.next().await {
        Some(Ok(_)) => remote.all_settled().await,
        // A node that has no more to say stays: its connection tells when it is gone.
        None | Some(Err(_)) => std::future::pending().await,
    }
}

async fn carry(nodes: &Nodes, node: &str, mut messages: Messages) -> Result<Messages, Status> {
    let Some((id, result)) = wire::answered(first(&mut messages).await?) else {
        let words = "the first frame must accept or refuse";
        return Err(Status::new(Code::InvalidArgument, words));
    };
    let asked = nodes.remotes_of(node).iter().find_map(|remote| remote.pending().remove(&id));
    let Some(asked) = asked else {
        return Err(Status::new(Code::NotFound, "nobody waits for this stream any more"));
    };
    let (server, NodeEnd { input, output }) = pair();
    let refused = result.is_err();
    if asked.send(result.map(|()| server)).is_err() || refused {
        return Ok(Box::pin(stream::empty()));
    }
    // A client that no longer reads ends the stream, even if it could still
    // write; a node that has nothing more to say may still listen.
    let (unread, told) = oneshot::channel();
    let closed = async move {
        if told.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let frames = stream::unfold(input, |mut input| async move {
        let frame = wire::to_node(input.recv().await?);
        Some((Ok::<_, Status>(Bytes::from(frame.encode_to_vec())), input))
    });
    tokio::spawn(pump(messages, output, unread));
    Ok(Box::pin(frames.take_until(Box::pin(closed))))
}

/// Carries what the node sends until it ends, or says that nobody reads it.
async fn pump(mut messages: Messages, output: mpsc::Sender<Output>, unread: oneshot::Sender<()>) {
    let read = async {
        carry_output(&mut messages, &output).await;
    };
    let gone = tokio::select! {
        () = read => output.is_closed(),
        () = output.closed() => true,
    };
    if gone {
        // The other end of the stream may have ended as well.
        let _ = unread.send(());
    }
}

async fn carry_output(messages: &mut Messages, output: &mpsc::Sender<Output>) {
    loop {
        let message = messages.next().await;
        let decoded = match message {
            None => return,
            Some(Ok(bytes)) => v1::FromNode::decode(bytes).map_err(|error| error.to_string()),
            Some(Err(status)) => Err(status.to_string()),
        };
        let frame = match decoded.map(wire::output) {
            Ok(Some(frame)) => frame,
            Ok(None) => continue,
            Err(why) => {
                Output::End(End::Failed(format!("the connection to the node broke: {why}")))
            }
        };
        let last = matches!(frame, Output::End(_));
        if output.send(frame).await.is_err() || last {
            return;
        }
    }
}

impl Nodes {
    fn insert_remote(&self, remote: Arc<Remote>) {
        let mut remotes = self.remotes();
        self.insert(&remote.name, Arc::new(Handle(remote.clone())));
        remotes.entry(remote.name.clone()).or_default().push(remote);
    }

    fn remotes_of(&self, name: &str) -> Vec<Arc<Remote>> {
        self.remotes().get(name).cloned().unwrap_or_default()
    }

    /// A node may have called by several of this server's addresses: then the
    /// latest of those that are left is asked. Says whether none is left.
    fn remove_remote(&self, remote: &Arc<Remote>) -> bool {
        let mut remotes = self.remotes();
        let Some(calls) = remotes.get_mut(&remote.name) else { return false };
        calls.retain(|known| !Arc::ptr_eq(known, remote));
        match calls.last() {
            Some(left) => self.insert(&remote.name, Arc::new(Handle(left.clone()))),
            None => {
                remotes.remove(&remote.name);
                self.remove(&remote.name);
                return true;
            }
        }
        false
    }
}

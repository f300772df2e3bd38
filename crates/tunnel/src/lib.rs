//! What a server asks of a node: logs, exec, attach, port-forward,
//! connections to pods and what the node tells of itself, as streams of frames.
//!
//! The API server ends the client's protocol (WebSocket, SPDY) and speaks
//! these frames to the node, so a node never parses a client's bytes. This
//! crate knows no containers. Here the two ends meet in one process; a remote
//! node calls its servers by gRPC ([`agent`]), and they ask it for streams over
//! what it opened ([`service`]), so that a node behind NAT needs no open port.
//! Start at [`NodeStreams`].

#![warn(missing_docs)]

pub mod agent;
mod server;
mod socket;
#[cfg(test)]
mod story;
mod wire;

pub use server::service;
pub use socket::Socket;

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, atomic::AtomicU64},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

/// A boxed future, so that the trait is usable as an object.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How gRPC is spoken here. A stream may leave a quarter of what a connection may
/// have unread; both ends look whether the other is there.
pub const SETTINGS: grpc::Settings = grpc::Settings {
    stream_window_bytes: 256 * 1024,
    connection_window_bytes: 1024 * 1024,
    ping_every: Duration::from_secs(10),
    pong_max: Duration::from_secs(5),
};

/// Frames in flight a direction; more makes the sender wait, so a client that
/// does not read holds at most this many chunks of the node's memory.
pub const FRAMES_IN_FLIGHT_MAX: usize = 16;

/// Which container of which pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid: a new pod of the same name is another target.
    pub uid: String,
    /// The container's name; the server has filled in the default.
    pub container: String,
}

/// What the server wants opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Open {
    /// A container's log.
    Logs(Target, LogOptions),
    /// A new process in a container.
    Exec(Target, Vec<String>, Stdio),
    /// The container's own first process.
    Attach(Target, Stdio),
    /// A TCP connection to a port on localhost in the pod's network namespace.
    PortForward(Target, u16),
    /// A TCP connection to a port at the pod's own address.
    Connect(Target, u16),
    /// A page of the node's own API: its path and query. It comes as `Stdout`.
    Page(String),
}

/// What a node's own API answers (a GET of the path) and of which media type, as a
/// kubelet's does.
pub const PAGES: [(&str, &str); 7] = [
    ("/configz", "application/json"),
    ("/metrics", METRICS),
    ("/metrics/cadvisor", METRICS),
    ("/metrics/probes", METRICS),
    ("/metrics/resource", METRICS),
    ("/runningpods", "application/json"),
    ("/stats/summary", "application/json"),
];
/// Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// More bytes than any page has.
const PAGE_MAX: usize = 64 << 20;

/// `PodLogOptions`, resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Keep sending as the container writes.
    pub follow: bool,
    /// The container's previous run.
    pub previous: bool,
    /// Prefix each line with its RFC 3339 time.
    pub timestamps: bool,
    /// Only the last lines.
    pub tail_lines: Option<u64>,
    /// Stop after so many bytes.
    pub limit_bytes: Option<u64>,
    /// Only lines from this time on, microseconds since 1970.
    pub since_us: Option<i64>,
    /// Only `Stdout` or `Stderr`; both where unset (KEP-3288).
    pub stream: Option<LogStream>,
}

/// One of a container's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

/// Which streams the client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stdio {
    /// The client will write.
    pub stdin: bool,
    /// The client wants stdout.
    pub stdout: bool,
    /// The client wants stderr; never together with a terminal.
    pub stderr: bool,
    /// Over a terminal.
    pub tty: bool,
}

/// Client to node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Bytes for stdin, or for the connection.
    Data(Bytes),
    /// No more input will come.
    Close,
    /// The client's terminal has changed.
    Resize {
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
}

/// Node to client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// From stdout, the log, or the connection.
    Stdout(Bytes),
    /// From stderr.
    Stderr(Bytes),
    /// The process has ended, or could not run; always the last frame of exec
    /// and attach. Logs and connections end without it when all went well; a
    /// connection still takes input then, until both sides have finished.
    End(End),
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The process exited with this code; 128 + n for a signal.
    Exited(i32),
    /// It could not be run or the stream broke; for people.
    Failed(String),
}

/// The server's end of an open stream. Dropping it ends the stream: the node
/// stops following, and an exec's process gets SIGHUP by its terminal.
#[derive(Debug)]
pub struct ServerEnd {
    /// To the node.
    pub input: mpsc::Sender<Input>,
    /// From the node; `None` is the end.
    pub output: mpsc::Receiver<Output>,
}

/// The node's end of an open stream.
#[derive(Debug)]
pub struct NodeEnd {
    /// From the client; `None` means that the client is gone.
    pub input: mpsc::Receiver<Input>,
    /// To the client; a send that fails means that the client is gone.
    pub output: mpsc::Sender<Output>,
}

/// Both ends of a stream in this process.
pub fn pair() -> (ServerEnd, NodeEnd) {
    let (to_node, from_server) = mpsc::channel(FRAMES_IN_FLIGHT_MAX);
    let (to_server, from_node) = mpsc::channel(FRAMES_IN_FLIGHT_MAX);
    (
        ServerEnd { input: to_node, output: from_node },
        NodeEnd { input: from_server, output: to_server },
    )
}

/// Why a stream could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// No stream to that node is up.
    NodeUnreachable(String),
    /// The node does not have that pod or container; upstream's wording.
    NotFound(String),
    /// The container exists but is not in a state for this: never started,
    /// ended, no previous run.
    BadRequest(String),
    /// Anything else.
    Failed(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeUnreachable(text)
            | Self::NotFound(text)
            | Self::BadRequest(text)
            | Self::Failed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for OpenError {}

/// What a node offers: the implementation is the crate `node`.
pub trait NodeStreams: Send + Sync + 'static {
    /// Opens a stream; the error comes before any byte was sent to the client.
    fn open(&self, open: Open) -> BoxFuture<Result<ServerEnd, OpenError>>;
}

/// How long a node is waited for that was here a moment ago, or may have been before this
/// server began: it calls again after its program or the server's was replaced.
const CALLS_AGAIN_MAX: Duration = Duration::from_secs(5);

/// The nodes that can be reached now, by name.
pub struct Nodes {
    by_name: RwLock<BTreeMap<String, Arc<dyn NodeStreams>>>,
    began: Instant,
    /// When those went that are not connected and are waited for.
    left: Mutex<BTreeMap<String, Instant>>,
    /// Changes with each that comes.
    came: watch::Sender<()>,
    /// Those of them that have called.
    remotes: Mutex<BTreeMap<String, Vec<Arc<server::Remote>>>>,
    /// How many streams were asked of them.
    wishes: Arc<AtomicU64>,
}

impl Default for Nodes {
    fn default() -> Self {
        Self {
            by_name: RwLock::default(),
            began: Instant::now(),
            left: Mutex::default(),
            came: watch::Sender::new(()),
            remotes: Mutex::default(),
            wishes: Arc::default(),
        }
    }
}

impl Nodes {
    /// Makes a node reachable, replacing an older stream of the same name.
    pub fn insert(&self, name: &str, node: Arc<dyn NodeStreams>) {
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        by_name.insert(name.to_owned(), node);
        drop(by_name);
        self.left().remove(name);
        self.came.send_replace(());
    }

    fn remove(&self, name: &str) {
        let mut left = self.left();
        // Those of before are waited for no longer.
        left.retain(|_, left| left.elapsed() < CALLS_AGAIN_MAX);
        left.insert(name.to_owned(), Instant::now());
        drop(left);
        self.by_name.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    fn left(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, node: &str) -> Option<Arc<dyn NodeStreams>> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).get(node).cloned()
    }

    /// A node that is connected, or is so again in time.
    async fn awaited(&self, node: &str) -> Option<Arc<dyn NodeStreams>> {
        let mut came = self.came.subscribe();
        if let Some(found) = self.find(node) {
            return Some(found);
        }
        let left = self.left().get(node).copied();
        let until = left.unwrap_or(self.began) + CALLS_AGAIN_MAX;
        let coming = async {
            loop {
                // The sender lives as long as we do.
                let _ = came.changed().await;
                if let Some(found) = self.find(node) {
                    return found;
                }
            }
        };
        tokio::time::timeout_at(until, coming).await.ok()
    }

    fn remotes(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Arc<server::Remote>>>> {
        self.remotes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether streams to that node can be opened now.
    pub fn is_connected(&self, node: &str) -> bool {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).contains_key(node)
    }

    /// Opens a stream on a node. One that has just gone is waited for, since most come back.
    ///
    /// # Errors
    /// [`OpenError::NodeUnreachable`] for a node that is not connected, else
    /// what the node says.
    pub async fn open(&self, node: &str, open: Open) -> Result<ServerEnd, OpenError> {
        match self.awaited(node).await {
            Some(node) => node.open(open).await,
            None => Err(OpenError::NodeUnreachable(format!(
                "node \"{node}\" is not connected to this server"
            ))),
        }
    }
}

impl Nodes {
    /// Fetches a page of a node's own API whole.
    ///
    /// # Errors
    /// As [`Nodes::open`], and where the stream breaks.
    pub async fn page(&self, node: &str, page: &str) -> Result<Bytes, OpenError> {
        let mut stream = self.open(node, Open::Page(page.into())).await?;
        let mut whole = BytesMut::new();
        while let Some(output) = stream.output.recv().await {
            match output {
                Output::Stdout(bytes) if whole.len() + bytes.len() <= PAGE_MAX => {
                    whole.extend_from_slice(&bytes);
                }
                Output::Stdout(_) => {
                    return Err(OpenError::Failed(format!("{page} of {node} does not end")));
                }
                Output::End(End::Failed(why)) => return Err(OpenError::Failed(why)),
                Output::Stderr(_) | Output::End(End::Exited(_)) => {}
            }
        }
        Ok(whole.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens nothing, and says so.
    struct Nothing;

    impl NodeStreams for Nothing {
        fn open(&self, _: Open) -> BoxFuture<Result<ServerEnd, OpenError>> {
            Box::pin(std::future::ready(Err(OpenError::Failed("it was asked".into()))))
        }
    }

    async fn open(nodes: &Nodes) -> (OpenError, Duration) {
        let asked = Instant::now();
        let opened = nodes.open("n1", Open::Page("healthz".into())).await;
        (opened.expect_err("nothing opens"), asked.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_does_not_call_is_said_to_be_unreachable() {
        let nodes = Nodes::default();
        // A server that has just begun does not know yet who will call.
        let (why, took) = open(&nodes).await;
        assert!(matches!(&why, OpenError::NodeUnreachable(text) if text.contains("n1")), "{why}");
        assert_eq!(took, CALLS_AGAIN_MAX);
        let (why, took) = open(&nodes).await;
        assert!(matches!(why, OpenError::NodeUnreachable(_)));
        assert_eq!(took, Duration::ZERO, "it is waited for once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_calls_again_is_waited_for() {
        let nodes = Nodes::default();
        tokio::time::sleep(CALLS_AGAIN_MAX * 2).await;
        nodes.insert("n1", Arc::new(Nothing));
        nodes.remove("n1");
        let again = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            nodes.insert("another", Arc::new(Nothing));
            tokio::time::sleep(Duration::from_secs(1)).await;
            nodes.insert("n1", Arc::new(Nothing));
        };
        let ((why, took), ()) = tokio::join!(open(&nodes), again);
        assert_eq!(why, OpenError::Failed("it was asked".into()));
        assert_eq!(took, Duration::from_secs(2));
        nodes.remove("n1");
        let (why, took) = open(&nodes).await;
        assert!(matches!(why, OpenError::NodeUnreachable(_)));
        assert_eq!(took, CALLS_AGAIN_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_that_went_long_ago_are_forgotten() {
        let nodes = Nodes::default();
        for name in ["n1", "n2"] {
            nodes.insert(name, Arc::new(Nothing));
            nodes.remove(name);
            tokio::time::sleep(CALLS_AGAIN_MAX / 2).await;
        }
        assert_eq!(nodes.left().len(), 2, "both may call again");
        tokio::time::sleep(CALLS_AGAIN_MAX / 2).await;
        nodes.insert("n3", Arc::new(Nothing));
        nodes.remove("n3");
        assert_eq!(nodes.left().keys().collect::<Vec<_>>(), ["n3"]);
        let (why, took) = open(&nodes).await;
        assert!(matches!(why, OpenError::NodeUnreachable(_)));
        assert_eq!(took, Duration::ZERO, "it is waited for no longer");
    }
}

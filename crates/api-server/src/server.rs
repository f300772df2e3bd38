//! The server: what it is made of, and its two doors (this process, and TCP
//! connections).

use std::{fmt, net::IpAddr, sync::Arc};

use api_registry::{Authenticator, Authorizer, Extensions, Registry, UserInfo};
use api_schema::{Catalogue, ResourceSpec, openapi::Descriptions};
use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};
use tunnel::Nodes;

use crate::{
    Health,
    counts::Counts,
    discovery,
    extension::{idle::Idle, learned::Learned},
    in_process::InProcess,
    openapi,
    plain::Published,
};

/// Upstream's `--max-requests-inflight`.
const READS_MAX: usize = 400;
/// Upstream's `--max-mutating-requests-inflight`.
const WRITES_MAX: usize = 200;

/// What a server is made of.
pub struct Parts {
    /// Every resource that is served.
    pub catalogue: Arc<Catalogue>,
    /// What the verbs do.
    pub registry: Arc<Registry>,
    /// Who is calling.
    pub authenticator: Arc<dyn Authenticator>,
    /// May they.
    pub authorizer: Arc<dyn Authorizer>,
    /// Where logs and exec go.
    pub nodes: Arc<Nodes>,
    /// Where requests go that other API servers answer.
    pub extensions: Arc<dyn Extensions>,
    /// Where requests are counted and what `/metrics` shows.
    pub metrics: metrics::Table,
    /// What `/version` says.
    pub version: Version,
    /// The time.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// What types and fields are for; asked for while an OpenAPI document is made.
    pub descriptions: fn() -> Descriptions,
    /// Texts that are served as they are.
    pub published: Vec<Published>,
    /// `host:port` for clients that ask discovery where the server is.
    pub address: String,
}

/// `version.Info`, the answer of `/version`.
#[derive(Clone, Debug)]
pub struct Version {
    /// `v1.37.0+skiff1`.
    pub git_version: String,
    /// The commit this was built from; may be empty.
    pub git_commit: String,
    /// RFC 3339; may be empty.
    pub build_date: String,
}

impl Default for Version {
    fn default() -> Self {
        Self {
            git_version: "v1.37.0+skiff1".into(),
            git_commit: String::new(),
            build_date: "1970-01-01T00:00:00Z".into(),
        }
    }
}

/// The API server.
pub struct ApiServer {
    pub(crate) parts: Parts,
    pub(crate) health: Health,
    pub(crate) counts: Counts,
    pub(crate) documents: discovery::Documents,
    pub(crate) openapi: openapi::Index,
    pub(crate) learned: Learned,
    pub(crate) idle: Arc<Idle>,
    pub(crate) reads: Semaphore,
    pub(crate) writes: Semaphore,
    /// True once the server is to stop: ends watches and streams.
    closing: watch::Sender<bool>,
    /// Rises when rows of the catalogue change.
    kinds: watch::Sender<u64>,
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiServer({})", self.parts.address)
    }
}

/// Whom a request comes from, as far as the door knows.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// Code in this process, under an identity it was given.
    Known(Arc<UserInfo>),
    /// A connection.
    Connection {
        /// The leaf certificate that TLS has verified.
        certificate: Option<Arc<[u8]>>,
        /// From this machine, where compressing costs more than it saves.
        near: bool,
    },
}

/// The address at the other end of a request's connection, among its extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

impl Caller {
    pub(crate) fn is_near(&self) -> bool {
        match self {
            Self::Known(_) => true,
            Self::Connection { near, .. } => *near,
        }
    }
}

impl ApiServer {
    /// A server that nobody can reach yet; see [`Self::transport`] and
    /// [`Self::serve`].
    pub fn new(parts: Parts) -> Arc<Self> {
        let counts = Counts::new(&parts.metrics);
        let kinds = watch::Sender::new(0);
        let changed = kinds.clone();
        parts.catalogue.on_change(move || changed.send_modify(|changes| *changes += 1));
        Arc::new(Self {
            parts,
            health: Health::default(),
            counts,
            documents: discovery::Documents::default(),
            openapi: openapi::Index::default(),
            learned: Learned::default(),
            idle: Arc::default(),
            reads: Semaphore::new(READS_MAX),
            writes: Semaphore::new(WRITES_MAX),
            closing: watch::Sender::new(false),
            kinds,
        })
    }

    /// The checks behind `/livez` and `/readyz`, to add to.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Calls into this server as `user`, with no socket in between.
    pub fn transport(self: &Arc<Self>, user: UserInfo) -> Arc<InProcess> {
        Arc::new(InProcess::new(self.clone(), Arc::new(user)))
    }

    /// Ends every watch, log, exec and port-forward; new ones end at once.
    /// [`Self::serve`] calls it when it stops.
    pub fn end_streams(&self) {
        self.closing.send_replace(true);
    }

    /// Completes when [`Self::end_streams`] was called.
    pub(crate) fn closing(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut closing = self.closing.subscribe();
        async move {
            // The sender lives as long as the server, so an error means the end too.
            let _ = closing.wait_for(|closing| *closing).await;
        }
    }

    /// Completes when a custom kind is no longer what it was when `spec` was
    /// read: what runs on the old definition ends then. Never for built-in kinds.
    pub(crate) fn replaced(
        self: &Arc<Self>,
        spec: &ResourceSpec,
    ) -> impl Future<Output = ()> + Send + use<> {
        let catalogue = self.parts.catalogue.clone();
        let mut changes = self.kinds.subscribe();
        let custom = spec.custom.clone();
        let (group, version, plural) =
            (spec.group.to_string(), spec.version.to_string(), spec.plural.to_string());
        async move {
            let Some(custom) = custom else { return std::future::pending().await };
            let same = move || {
                let row = catalogue.find(&group, &version, &plural);
                let now = row.and_then(|row| row.custom.as_ref().map(|now| now.definition.clone()));
                now.is_some_and(|now| custom.is_of(&now))
            };
            // The sender lives as long as the server, so an error means the end too.
            while same() && changes.changed().await.is_ok() {}
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.parts.now)()
    }
}

//! The value that the API server asks, and its life.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, Weak},
};

use api_object::Status;
use api_registry::{
    Admission, Attributes, Authenticator, Authorizer, BoxFuture, Caller, Converter, Credentials,
    Decision, RequestAttributes, UserInfo,
};
use api_schema::Catalogue;
use client::Api;
use jiff::Timestamp;
use pki::service_account::KeySet;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::watch;

use crate::{
    admission,
    authentication::{CertificateCache, TokenCache},
    authorization, follow,
    service::{Allocators, Range},
    state::{SOURCES, State},
};

/// What the operator's settings and the start-up code decide.
pub struct Settings {
    /// Verifies ServiceAccount tokens, and signs those that are asked for.
    pub keys: Arc<KeySet>,
    /// `https://kubernetes.default.svc.cluster.local`; also the audience of
    /// the API server.
    pub issuer: String,
    /// The CA by which pods know the API server, as PEM: for Secrets of tokens.
    pub cluster_ca_pem: String,
    /// `--service-cidr`, the primary family first.
    pub service_ranges: Vec<Range>,
    /// The address of the `kubernetes` Service and of DNS, kept free for them.
    pub reserved_addresses: Vec<IpAddr>,
    /// First and last port for Services of type NodePort: 30000 to 32767.
    pub node_ports: (u16, u16),
    /// The kinds that are served, for webhooks and policies about another version.
    pub catalogue: Arc<Catalogue>,
    /// Asks webhooks; without it, those that are asked fail.
    pub webhooks: Option<Arc<dyn Caller>>,
    /// Converts objects between versions of custom kinds.
    pub converter: Option<Arc<dyn Converter>>,
    /// What time it is.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// For names, addresses and token IDs.
    pub random: Random,
}

/// A uniform number that nobody can guess; `None` where its source fails. A function, so
/// that a simulation's numbers follow from its seed.
pub type Random = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// What the kernel draws.
pub fn system_random() -> Random {
    let source = SystemRandom::new();
    Arc::new(move || {
        let mut bytes = [0; 8];
        source.fill(&mut bytes).ok()?;
        Some(u64::from_le_bytes(bytes))
    })
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Answers who, whether and how for every request. Share it in an `Arc`.
pub struct Access {
    /// Itself, for those who ask it later than the call that they are given by.
    me: Weak<Self>,
    pub(crate) settings: Settings,
    pub(crate) api: OnceLock<Api>,
    state: RwLock<State>,
    /// How many of [`SOURCES`] have told their first state.
    synced: watch::Sender<usize>,
    pub(crate) policy_ensured: watch::Sender<bool>,
    /// Rises with every change of a ServiceAccount, for those who wait for one.
    pub(crate) accounts_changed: watch::Sender<u64>,
    /// Rises with every change of a role or binding, for the aggregation.
    pub(crate) policy_changed: watch::Sender<u64>,
    /// Up to which version of the cluster the pods are known.
    pub(crate) pods_known: watch::Sender<u64>,
    pub(crate) tokens: TokenCache,
    pub(crate) certificates: CertificateCache,
    pub(crate) allocators: Allocators,
    pub(crate) quota_locks: admission::resource_quota::Locks,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Access {
    /// Knows nothing of the cluster yet; see [`Self::run`].
    pub fn new(settings: Settings) -> Arc<Self> {
        let allocators = Allocators::new(
            &settings.service_ranges,
            &settings.reserved_addresses,
            settings.node_ports,
        );
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            settings,
            api: OnceLock::new(),
            state: RwLock::default(),
            synced: watch::Sender::new(0),
            policy_ensured: watch::Sender::new(false),
            accounts_changed: watch::Sender::new(0),
            policy_changed: watch::Sender::new(0),
            pods_known: watch::Sender::new(0),
            tokens: TokenCache::default(),
            certificates: CertificateCache::default(),
            allocators,
            quota_locks: admission::resource_quota::Locks::default(),
        })
    }

    /// Follows the cluster until it is dropped: spawn it once. `api` must act
    /// as a member of `system:masters` (the only ones who are let in before
    /// the first state is known) and read from this server. The bootstrap
    /// policy is ensured first.
    pub async fn run(self: Arc<Self>, api: Api) {
        if self.api.set(api).is_err() {
            tracing::error!("access control was started twice; the second start is ignored");
            return;
        }
        follow::run(self).await;
    }

    /// Waits until every source has told its first state. Until then, every
    /// write waits.
    pub async fn synced(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.synced.subscribe().wait_for(|count| *count >= SOURCES.len()).await;
    }

    /// Whether every source has told its first state.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow() >= SOURCES.len()
    }

    /// Waits until the bootstrap policy is in place as well. Until then, every
    /// request waits but those of `system:masters`; from then on, `/readyz` may
    /// say ok.
    pub async fn ready(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.policy_ensured.subscribe().wait_for(|ensured| *ensured).await;
    }

    /// Whether [`Self::ready`] would return at once.
    pub fn is_ready(&self) -> bool {
        *self.policy_ensured.borrow()
    }

    /// Itself, shared.
    pub(crate) fn shared(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    pub(crate) fn source_synced(&self) {
        self.synced.send_modify(|count| *count += 1);
    }

    /// What is known of the cluster. Held for plain look-ups only, never
    /// across an await.
    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change_state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.settings.clock)()
    }

    /// A uniform number.
    pub(crate) fn random(&self) -> Result<u64, Status> {
        let number = (self.settings.random)();
        number.ok_or_else(|| Status::internal("the system's random source failed"))
    }
}

impl Authenticator for Access {
    fn authenticate<'a>(
        &'a self,
        credentials: Credentials<'a>,
    ) -> BoxFuture<'a, Result<Option<Arc<UserInfo>>, Status>> {
        Box::pin(self.identify(credentials))
    }
}

impl Authorizer for Access {
    fn authorize<'a>(&'a self, attributes: &'a RequestAttributes) -> BoxFuture<'a, Decision> {
        Box::pin(async move {
            if authorization::is_master(&attributes.user) {
                return Decision::Allow;
            }
            // Before the policy is in place, everybody would be refused.
            self.ready().await;
            let decision = authorization::judge(&self.state(), attributes);
            let is_refused = decision != Decision::Allow;
            match authorization::node::name(&attributes.user).filter(|_| is_refused) {
                Some(node) if follow::pods::goes_by_pods(&attributes.resource) => {
                    match follow::pods::learned(self, node, &attributes.namespace).await {
                        true => authorization::judge(&self.state(), attributes),
                        false => decision,
                    }
                }
                _ => decision,
            }
        })
    }
}

impl Admission for Access {
    fn mutate<'a>(&'a self, attributes: &'a mut Attributes) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(admission::run(self, attributes, admission::Stage::Mutate))
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(admission::run(self, attributes, admission::Stage::Validate))
    }

    fn settled(&self, attributes: &Attributes, stored: bool) {
        self.allocators.settled(attributes, stored);
    }
}

//! API servers beside this one.
//!
//! [`Aggregator`] follows the APIServices through the API like any client and keeps
//! who serves which version of a group (`table`); it connects to the Service of one
//! with the front proxy's certificate (`connect`). `api-server` passes requests on
//! over these connections; whether a server answers is found out by a controller.
//! Start reading at `table`.

mod connect;
mod table;

use std::{
    fmt,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use api_registry::{BoxFuture, Connection, Extension, Extensions, Registered};
use client::{Ambient, Api, Informer, Resource, Selection};
use rustls::{client::ResolvesClientCert, time_provider::TimeProvider};
use tokio::sync::{Notify, watch};
use tunnel::Nodes;

use crate::{connect::Configs, table::ApiService};

const API_SERVICES: Resource = Resource::cluster("apiregistration.k8s.io", "v1", "apiservices");

/// Knows the API servers beside this one, and how to reach them.
pub struct Aggregator {
    /// For the addresses of Services; there once [`Self::run`] runs.
    api: OnceLock<Api>,
    registered: RwLock<Arc<Registered>>,
    configs: Configs,
    /// The way to their pods where the network leads to none.
    nodes: Arc<Nodes>,
    /// True once every APIService that was there at first is known.
    ready: watch::Sender<bool>,
}

impl fmt::Debug for Aggregator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aggregator")
    }
}

impl Aggregator {
    /// Knows nothing yet; see [`Self::run`]. The certificate is the front proxy's.
    pub fn new(
        certificate: Arc<dyn ResolvesClientCert>,
        clock: Arc<dyn TimeProvider>,
        nodes: Arc<Nodes>,
    ) -> Arc<Self> {
        Arc::new(Self {
            api: OnceLock::new(),
            registered: RwLock::default(),
            configs: Configs::new(certificate, clock),
            nodes,
            ready: watch::Sender::new(false),
        })
    }

    /// Completes when every APIService that was there at first is known.
    pub async fn ready(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Whether [`Self::ready`] is over.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Follows the APIServices. `api` must be allowed to read them, Services and
    /// endpoints.
    /// Never returns: drop it to stop.
    pub async fn run(self: Arc<Self>, api: Api, ambient: Ambient) {
        if self.api.set(api.clone()).is_err() {
            tracing::error!("the aggregator was started twice; the second start is ignored");
            return;
        }
        let informer = Informer::<ApiService>::new(Selection::all(API_SERVICES));
        let changed = Arc::new(Notify::new());
        let told = changed.clone();
        informer.on_change(move |_| told.notify_one());
        let keep = async {
            informer.wait_synced().await;
            loop {
                self.keep(table::registered(informer.list().iter().map(|object| &object.view)));
                self.ready.send_replace(true);
                changed.notified().await;
            }
        };
        tokio::join!(informer.run(&api, &ambient), keep);
    }

    fn keep(&self, registered: Registered) {
        self.configs.retain(&registered.others);
        let mut kept = self.registered.write().unwrap_or_else(PoisonError::into_inner);
        *kept = Arc::new(registered);
    }
}

impl Extensions for Aggregator {
    fn registered(&self) -> Arc<Registered> {
        // A writer replaces the whole value, so a poisoned lock holds a good one.
        self.registered.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn connect<'a>(
        &'a self,
        extension: &'a Extension,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, String>> {
        Box::pin(async move {
            let api = self.api.get().ok_or("services cannot be looked up yet")?;
            self.configs.connect(api, &self.nodes, extension).await
        })
    }
}

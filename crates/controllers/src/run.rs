//! Starts the controllers and keeps them running.

use std::{
    future::Future,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use client::{Ambient, Api, Recorder, SharedInformers, WorkQueue};
use jiff::tz::TimeZone;
use tokio::{sync::watch, task::JoinSet};

use crate::{Account, CONTROLLERS, Controller, PodRange, Sign};

/// A controller ends only by a fault of its own; the pause keeps one that
/// faults at once from spinning.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// What the server tells its controllers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server CA, as PEM: `kube-root-ca.crt` in every namespace.
    pub cluster_ca_pem: String,
    /// `extension-apiserver-authentication`; left alone where empty.
    pub authentication: std::collections::BTreeMap<String, String>,
    /// `kube-system/skiff-cluster`, what a node must know to be one; left alone
    /// where empty.
    pub cluster: std::collections::BTreeMap<String, String>,
    /// Where nodes get their shares of pod addresses; none are given out where
    /// empty.
    pub pod_ranges: Vec<PodRange>,
    /// The ClusterTrustBundle of the server CA; left alone where empty.
    pub trust_bundle_name: String,
    /// Signs certificates; none are signed where absent.
    pub signer: Option<Arc<dyn Sign>>,
    /// The names and addresses by which clients know API servers, beside those of the
    /// `kubernetes` Service: no node may serve under them.
    pub server_names: Vec<String>,
    /// How long a certificate by request is good where no shorter time is asked for.
    pub signing_life: Duration,
    /// The `default/kubernetes` Service; left alone where absent.
    pub kubernetes_service: Option<KubernetesService>,
    /// The addresses of `kube-system/kube-dns`; left alone where there are none.
    pub cluster_dns: Vec<IpAddr>,
    /// What the schedules of CronJobs mean that name no zone.
    pub time_zone: TimeZone,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster_ca_pem: String::new(),
            authentication: Default::default(),
            cluster: Default::default(),
            pod_ranges: Vec::new(),
            trust_bundle_name: String::new(),
            signer: None,
            server_names: Vec::new(),
            signing_life: crate::certificates::CERTIFICATE_LIFE,
            kubernetes_service: None,
            cluster_dns: Vec::new(),
            time_zone: TimeZone::UTC,
        }
    }
}

/// How pods reach the API server.
#[derive(Clone, Debug)]
pub struct KubernetesService {
    /// The Service's address: the first of the service range.
    pub cluster_ip: IpAddr,
    /// `ip:port` of the servers that answer, now and as they come and go.
    pub addresses: watch::Receiver<Vec<String>>,
    /// The port on which they serve.
    pub port: u16,
}

/// What a controller gets to work with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    /// The API, under the controller's name.
    pub api: Api,
    /// The caches that all controllers share.
    pub informers: SharedInformers,
    /// Time and randomness.
    pub ambient: Ambient,
    /// What the server tells.
    pub settings: Arc<Settings>,
    queues: Queues,
}

impl Context {
    /// A recorder of events as `component`.
    pub(crate) fn recorder(&self, component: &str) -> Recorder {
        Recorder::new(self.api.clone(), component, "", self.ambient.clone())
    }

    /// A queue for keys that are looked at again at moments of the wall clock.
    pub(crate) fn queue(&self) -> Arc<WorkQueue<String>> {
        let queue = Arc::new(WorkQueue::default());
        let mut queues = self.queues.0.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|queue| queue.strong_count() > 0);
        queues.push(Arc::downgrade(&queue));
        queue
    }
}

/// The queues whose delays were reckoned by the wall clock.
#[derive(Clone, Debug, Default)]
struct Queues(Arc<Mutex<Vec<Weak<WorkQueue<String>>>>>);

impl Queues {
    /// Whenever the clock was set, everything that waits for a moment is looked at:
    /// it may have come, or be much further away. Never returns.
    async fn follow(self, ambient: Ambient) {
        let mut sets = ambient.clock_sets();
        loop {
            sets.next().await;
            tracing::info!("the clock was set: what waits for a moment is looked at anew");
            let queues = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            queues.iter().filter_map(Weak::upgrade).for_each(|queue| queue.hasten());
        }
    }
}

/// Runs all controllers until `shutdown`. The server calls this while it
/// leads: with one server that is always, with several the Raft leader's.
/// `api_as` gives the API to each account, so that none can do more than its
/// work.
pub async fn run(
    api_as: impl Fn(Account) -> Api,
    ambient: Ambient,
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) {
    let watched_by = |account| {
        SharedInformers::new(api_as(account).named("kube-controller-manager"), ambient.clone())
    };
    // The server's own do not wait until others have rights.
    let (of_server, of_others) = (watched_by(Account::Server), watched_by(Account::Watcher));
    let (settings, queues) = (Arc::new(settings), Queues::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(queues.clone().follow(ambient.clone()));
    for controller in CONTROLLERS {
        let context = Context {
            api: api_as(controller.account)
                .named(&format!("kube-controller-manager/{}", controller.name)),
            informers: match controller.account {
                Account::Server => of_server.clone(),
                Account::Aggregator | Account::Watcher | Account::Of(_) => of_others.clone(),
            },
            ambient: ambient.clone(),
            settings: settings.clone(),
            queues: queues.clone(),
        };
        tasks.spawn(supervise(controller, context));
    }
    // Dropping the set ends every controller at its next await.
    shutdown.await;
}

async fn supervise(controller: &'static Controller, context: Context) {
    loop {
        // A task of its own, so that its panic ends nobody else.
        let mut task = JoinSet::new();
        task.spawn((controller.run)(context.clone()));
        match task.join_next().await {
            Some(Err(error)) => {
                tracing::error!(controller = controller.name, %error, "controller failed");
            }
            _ => tracing::error!(controller = controller.name, "controller ended"),
        }
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}

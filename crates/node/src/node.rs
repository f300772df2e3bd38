//! A running node: what it is made of, its start and its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use client::{Ambient, Api, Recorder};
use node_runtime::Runtime;
use tokio::{sync::Notify, task::JoinHandle};
use tunnel::{NodeStreams, Open, OpenError, ServerEnd};

use crate::{
    config::{Live, NodeConfig, PodCidrs},
    counted::Counted,
    counts::Counts,
    device::{self, Devices},
    enforce,
    eviction::{self, Evictable, Pressure},
    images::{ImageListing, Images},
    machine::{self, Machine},
    network::addresses::Addresses,
    pod::{
        admit::{Ground, Host},
        granted::Granted,
        lookup::Lookup,
        manager,
        user_ranges::UserRanges,
    },
    port,
    probe::tally::Tallies,
    pulled::Pulled,
    resources::NODES,
    shutdown::{self, Progress},
    streams, supervised,
    usage::Usage,
    volume::{csi, local_path, objects::Objects, ready::Volumes},
};

/// What every part of the node works with.
pub(crate) struct Deps {
    pub(crate) config: NodeConfig,
    pub(crate) api: Api,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) pulled: Pulled,
    pub(crate) recorder: Recorder,
    pub(crate) ambient: Ambient,
    pub(crate) machine: Machine,
    pub(crate) host: Host,
    /// What was heard of the Node last.
    pub(crate) ground: Mutex<Option<Ground>>,
    pub(crate) addresses: Addresses,
    pub(crate) objects: Objects,
    pub(crate) volumes: Volumes,
    pub(crate) lookup: Lookup,
    pub(crate) granted: Granted,
    pub(crate) users: UserRanges,
    pub(crate) devices: Devices,
    pub(crate) usage: Usage,
    pub(crate) tallies: Tallies,
    pub(crate) counts: Arc<Counts>,
    /// What the node is short of.
    pub(crate) pressure: Live<Pressure>,
    /// Asks for a look at how short it is.
    pub(crate) shortage: Notify,
    pub(crate) evictable: Evictable,
    /// What the node's port is told.
    pub(crate) port: port::News,
    /// Whether the machine shuts down.
    pub(crate) shutdown: Live<Progress>,
    /// How many pods were evicted, by the signal that asked for it.
    pub(crate) evictions: Mutex<BTreeMap<String, u64>>,
    /// The images as they were last listed.
    pub(crate) images_seen: Mutex<Vec<ImageListing>>,
    /// A pull has brought something new.
    pub(crate) images_changed: Notify,
    /// Tasks of the node that broke off and are to start again.
    pub(crate) resting: Mutex<BTreeSet<&'static str>>,
    /// What the log has been told that containers do without.
    pub(crate) warned: Mutex<BTreeSet<String>>,
}

impl Deps {
    /// What pods' wishes meet here, as far as it was heard.
    pub(crate) fn ground(&self) -> Ground {
        let heard = self.ground.lock().unwrap_or_else(PoisonError::into_inner).clone();
        heard.unwrap_or_else(|| Ground::of_config(&self.config))
    }

    /// Whether a task of the node is not at work.
    pub(crate) fn rests(&self, task: &str) -> bool {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner).contains(task)
    }

    /// The same as the API has it now; `None` where that is not in reach.
    pub(crate) async fn ground_now(&self) -> Option<Ground> {
        let node = self.api.get(NODES, "", &self.config.name).await;
        let node = node.inspect_err(|error| tracing::warn!(%error, "the Node cannot be read"));
        Some(Ground::of_node(serde_json::from_slice(&node.ok()?.bytes).ok()?))
    }
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct StartError {
    what: String,
    source: io::Error,
}

/// The kubelet's job on one machine.
pub struct Node;

impl Node {
    /// Starts a node: registers it, adopts what runs, and runs what the API
    /// binds to it. Needs a tokio runtime; the API need not be in reach yet.
    ///
    /// # Errors
    /// Where the machine cannot be read or the kubelet directory not be made.
    pub fn start(
        mut config: NodeConfig,
        api: Api,
        runtime: Arc<dyn Runtime>,
        images: Arc<dyn Images>,
        ambient: Ambient,
    ) -> Result<NodeHandle, StartError> {
        let pods = config.kubelet_dir.join("pods");
        fs::create_dir_all(&pods)
            .map_err(|source| StartError { what: pods.display().to_string(), source })?;
        fs::create_dir_all(&config.data_dir)
            .map_err(|source| StartError { what: config.data_dir.display().to_string(), source })?;
        let machine = Machine::read(&config)
            .map_err(|source| StartError { what: "reading the machine".into(), source })?;
        let host = Host {
            has_app_armor: machine::facts::has_app_armor(),
            unsafe_sysctls: config.allowed_unsafe_sysctls.clone(),
        };
        let directory = config.storage_dir.to_string_lossy().into_owned();
        config.annotations.insert(local_path::DIRECTORY.into(), directory);
        let api = api.named(&format!("kubelet/{}", config.name));
        let counts = Arc::new(Counts::new(&ambient));
        let deps = Arc::new(Deps {
            recorder: Recorder::new(api.clone(), "kubelet", &config.name, ambient.clone()),
            objects: Objects::new(api.clone(), ambient.clone()),
            addresses: Addresses::default(),
            volumes: Volumes::new(&config.kubelet_dir),
            lookup: Lookup::default(),
            granted: Granted::default(),
            users: UserRanges::default(),
            pulled: Pulled::open(&config.data_dir),
            devices: Devices::new(&config.kubelet_dir, config.cdi.clone()),
            usage: Usage::default(),
            tallies: Tallies::default(),
            counts: counts.clone(),
            pressure: Live::new(Pressure::default()),
            shortage: Notify::new(),
            evictable: Evictable::default(),
            port: port::News::default(),
            shutdown: Live::new(Progress::default()),
            evictions: Mutex::default(),
            ground: Mutex::default(),
            images_seen: Mutex::default(),
            images_changed: Notify::new(),
            resting: Mutex::default(),
            warned: Mutex::default(),
            config,
            api,
            runtime: Arc::new(Counted { inner: runtime, counts }),
            images,
            ambient,
            machine,
            host,
        });
        if let PodCidrs::Fixed(cidrs) = &deps.config.pod_cidrs {
            deps.addresses.set_cidrs(cidrs.clone());
        }
        let tasks = vec![
            task(&deps, "heartbeat", machine::heartbeat::run),
            task(&deps, "pods", manager::run),
            task(&deps, "local volumes", local_path::run),
            task(&deps, "eviction", eviction::run),
            task(&deps, "shares of the node", enforce::run),
            task(&deps, "CSI drivers", csi::registry::run),
            task(&deps, "port", port::run),
            task(&deps, "device plugins", device::registry::run),
        ];
        Ok(NodeHandle { inner: Arc::new(Inner { deps, tasks }) })
    }
}

/// Starts what goes on as long as the node does.
fn task<F: Future<Output = ()> + Send + 'static>(
    deps: &Arc<Deps>,
    name: &'static str,
    run: fn(Arc<Deps>) -> F,
) -> JoinHandle<()> {
    let deps = deps.clone();
    tokio::spawn(async move {
        let resting = || deps.resting.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |pause: Duration| {
            resting().insert(name);
            let text = "a task of the node broke off: it starts again after a pause";
            tracing::error!(task = name, seconds = pause.as_secs(), "{text}");
            let about = machine::object::reference(&deps.config.name);
            deps.recorder.warning(&about, "TaskFailed", format!("{name}: {text}"));
        };
        let run = || {
            resting().remove(name);
            run(deps.clone())
        };
        supervised::keep(run, told).await;
    })
}

struct Inner {
    deps: Arc<Deps>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A running node. Cheap to clone; the node ends with the last clone or at
/// [`NodeHandle::shutdown`].
#[derive(Clone)]
pub struct NodeHandle {
    inner: Arc<Inner>,
}

impl fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeHandle({})", self.inner.deps.config.name)
    }
}

impl NodeHandle {
    /// Ends the node and leaves its pods running: the next start adopts them.
    /// Safe at any moment, since every step can be repeated.
    pub fn shutdown(&self) {
        self.inner.tasks.iter().for_each(JoinHandle::abort);
    }

    /// How long [`Self::end_pods`] may take at most; zero where it does nothing.
    pub fn end_pods_max(&self) -> Duration {
        self.inner.deps.config.shutdown.iter().map(|group| group.grace).sum()
    }

    /// The machine shuts down: the Node says so, and its pods end in order, as
    /// [`NodeConfig::shutdown`] has it.
    pub async fn end_pods(&self) {
        shutdown::run(&self.inner.deps).await;
    }

    /// How many pods are on the node.
    pub fn pods(&self) -> usize {
        self.inner.deps.lookup.len()
    }
}

impl NodeStreams for NodeHandle {
    fn open(&self, open: Open) -> tunnel::BoxFuture<Result<ServerEnd, OpenError>> {
        let deps = self.inner.deps.clone();
        Box::pin(async move { streams::open(deps, open).await })
    }
}

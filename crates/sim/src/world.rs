//! The server, its clients, and the parts that can be killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicU64},
    time::Duration,
};

use api_access::{Access, Settings, bootstrap::controller_identity};
use api_metrics::ResourceMetrics;
use api_registry::{NoExtensions, Registry, Sources, UserInfo};
use api_server::{ApiServer, Parts, Version};
use client::{Ambient, Api, DeleteOptions, PatchKind, Resource};
use controllers::Account;
use jiff::{SignedDuration, Timestamp};
use pki::service_account::KeySet;
use serde_json::{Value, json};
use store::MemoryStore;
use tokio::{sync::watch, task::JoinHandle};
use tunnel::Nodes;

use crate::{
    Cluster, Random,
    clock::Clock,
    faults::{Faults, Faulty},
    kubelet,
    scenarios::PODS,
    usage,
};

/// Signs ServiceAccount tokens that nobody shows to anybody.
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgFItBkY5sqirU/UWY
VsZgPaGfomblM/yoX4DC58YWZoGhRANCAARJ0KKpUsJHvAc+l6eKYz8BGUETGL1c
LFZlfW9IlBrbV+wtZ/1qtGZ8AHiMJzKr4Csjsz27Ub2AE59bjQNsovO2
-----END PRIVATE KEY-----
";

/// The built-in kinds are the same in every run.
static CATALOGUE: LazyLock<Arc<api_schema::Catalogue>> =
    LazyLock::new(|| Arc::new(api_kinds::catalogue()));

/// How many nodes there are.
pub(crate) const NODES: usize = 3;
const MEDDLING_MAX: Duration = Duration::from_secs(10);
/// What is written beside its owner.
const MEDDLED: &[(Resource, &str)] = &[
    (PODS, "/pods"),
    (Resource::cluster("", "v1", "nodes"), "/nodes"),
    (Resource::namespaced("apps", "v1", "deployments"), "apps/deployments"),
    (Resource::namespaced("apps", "v1", "replicasets"), "apps/replicasets"),
    (Resource::namespaced("apps", "v1", "statefulsets"), "apps/statefulsets"),
    (Resource::namespaced("apps", "v1", "daemonsets"), "apps/daemonsets"),
    (Resource::namespaced("batch", "v1", "jobs"), "batch/jobs"),
    (Resource::namespaced("batch", "v1", "cronjobs"), "batch/cronjobs"),
    (Resource::namespaced("policy", "v1", "poddisruptionbudgets"), "policy/poddisruptionbudgets"),
    (Resource::namespaced("", "v1", "persistentvolumeclaims"), "/persistentvolumeclaims"),
    (
        Resource::namespaced("autoscaling", "v2", "horizontalpodautoscalers"),
        "autoscaling/horizontalpodautoscalers",
    ),
];
/// Controllers live at least so long between two kills.
const LIFE_MAX: Duration = Duration::from_secs(180);

/// A cluster, and what the test does to it. Clones are the same.
#[derive(Clone)]
pub struct World(Arc<Inner>);

pub(crate) struct Inner {
    server: Arc<ApiServer>,
    pub(crate) store: Arc<MemoryStore>,
    /// Those that say what their pods use.
    nodes: Arc<Nodes>,
    clock: Clock,
    random: Random,
    faults: Faults,
    cluster: Mutex<Cluster>,
    /// What runs on the nodes, by `namespace/name`: the uids of its pods.
    running: Mutex<BTreeMap<String, Vec<String>>>,
    /// The nodes that nobody hears of.
    cut_off: watch::Sender<BTreeSet<String>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl World {
    /// A server, and nothing that acts yet.
    pub(crate) fn new(random: Random) -> Self {
        let clock = Clock::new();
        let shown = clock.clone();
        let now: Arc<dyn Fn() -> Timestamp + Send + Sync> = Arc::new(move || shown.now());
        let access = Access::new(Settings {
            keys: Arc::new(KeySet::from_pem(KEY).expect("a key")),
            issuer: "https://kubernetes.default.svc.cluster.local".into(),
            cluster_ca_pem: "CA".into(),
            service_ranges: vec!["10.43.0.0/16".parse().expect("a range")],
            reserved_addresses: vec!["10.43.0.1".parse().expect("an address")],
            node_ports: (30_000, 32_767),
            catalogue: CATALOGUE.clone(),
            webhooks: None,
            converter: None,
            clock: now.clone(),
            random: {
                let random = random.fork();
                Arc::new(move || Some(random.next()))
            },
        });
        let store = Arc::new(MemoryStore::default());
        let catalogue = CATALOGUE.clone();
        let count = AtomicU64::new(1);
        let uids = random.fork();
        let sources = Sources {
            now: now.clone(),
            random: Arc::new(move || {
                // Counted as well: two uids are never the same.
                let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                u128::from(uids.next()) << 64 | u128::from(n)
            }),
        };
        let mut registry =
            Registry::new(store.clone(), access.clone(), catalogue.clone(), sources, 1);
        api_access::review::register(&access, &mut registry);
        let nodes = Arc::new(Nodes::default());
        let metrics = Arc::new(ResourceMetrics::new(nodes.clone(), now.clone()));
        metrics.register(&mut registry);
        let server = ApiServer::new(Parts {
            catalogue,
            registry: Arc::new(registry),
            authenticator: access.clone(),
            authorizer: access.clone(),
            nodes: nodes.clone(),
            extensions: Arc::new(NoExtensions),
            metrics: metrics::Table::new(),
            version: Version::default(),
            now,
            descriptions: api_kinds::descriptions,
            published: Vec::new(),
            address: "127.0.0.1:6443".into(),
        });
        metrics.ask_with(usage::api(&server, user("system:apiserver", &["system:masters"])));
        let world = Self(Arc::new(Inner {
            server,
            store,
            nodes,
            clock,
            faults: Faults::new(random.fork()),
            random,
            cluster: Mutex::default(),
            running: Mutex::default(),
            cut_off: watch::Sender::default(),
            tasks: Mutex::default(),
        }));
        let loopback = world.reliable("system:apiserver");
        world.spawn(async move { access.run(loopback).await });
        world
    }

    /// Controllers, scheduler and kubelets begin to act; all but the kubelets
    /// are killed now and then while there are faults.
    pub(crate) fn start(&self) {
        let world = self.clone();
        self.spawn(self.clone().mortal(move || {
            let acting = world.clone();
            controllers::run(
                move |account| acting.api(identity(account), "kube-controller-manager"),
                world.ambient(),
                controllers::Settings { cluster_ca_pem: "CA".into(), ..Default::default() },
                std::future::pending(),
            )
        }));
        let world = self.clone();
        self.spawn(self.clone().mortal(move || {
            let api = world.api(user("system:kube-scheduler", &[]), "kube-scheduler");
            scheduler::run(
                api,
                world.ambient(),
                scheduler::Configuration::default(),
                std::future::pending(),
            )
        }));
        self.spawn(self.clone().meddle());
        for n in 1..=NODES {
            let name = format!("node-{n}");
            self.0.nodes.insert(&name, Arc::new(usage::Told::new(self, &name)));
            self.spawn(kubelet::run(self.clone(), name));
        }
    }

    /// Somebody writes what nobody looks at, so that whoever goes by an older
    /// version has a conflict.
    async fn meddle(self) {
        let api = self.reliable("meddler");
        for n in 0u64.. {
            tokio::time::sleep(self.0.random.pause(MEDDLING_MAX)).await;
            if !self.0.faults.are_on() {
                continue;
            }
            let (resource, of) = self.0.random.pick(MEDDLED).expect("there are some");
            let keys: Vec<String> = self.cluster().all(of).map(|(key, _)| key.to_owned()).collect();
            let Some(key) = self.0.random.pick(&keys) else { continue };
            let (namespace, name) = split(key);
            let patch = json!({"metadata": {"annotations": {"sim/touched": n.to_string()}}});
            // Gone meanwhile: another time.
            let _ = api.patch(*resource, namespace, name, "", PatchKind::Merge, &patch).await;
        }
    }

    /// Without keeping it alive; the server is part of it.
    pub(crate) fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.0)
    }

    /// What [`Self::downgrade`] gave, while somebody else keeps it.
    pub(crate) fn upgrade(weak: &Weak<Inner>) -> Option<Self> {
        weak.upgrade().map(Self)
    }

    /// Runs a part again and again, each time until it is killed.
    async fn mortal<F>(self, part: impl Fn() -> F + Send)
    where
        F: Future<Output = ()> + Send,
    {
        loop {
            let life = self.0.random.pause(LIFE_MAX) + Duration::from_secs(1);
            let killed = async {
                tokio::time::sleep(life).await;
                if !self.0.faults.are_on() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                () = killed => {}
                () = part() => {}
            }
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        lock(&self.0.tasks).push(tokio::spawn(task));
    }

    /// Ends everything.
    pub(crate) fn stop(&self) {
        for task in lock(&self.0.tasks).drain(..) {
            task.abort();
        }
    }

    /// A client whose requests get through.
    pub fn reliable(&self, name: &str) -> Api {
        Api::new(self.0.server.transport(user(name, &["system:masters"])), name)
    }

    /// A client as the parts of the cluster have it.
    fn api(&self, user: UserInfo, agent: &str) -> Api {
        let inner = self.0.server.transport(user);
        Api::new(Arc::new(Faulty { inner, faults: self.0.faults.clone() }), agent)
    }

    /// The clock and randomness of this run.
    pub(crate) fn ambient(&self) -> Ambient {
        self.0.clock.ambient(self.0.random.fork())
    }

    /// The wall clock.
    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Sets the clock of all machines, forward or back.
    pub fn set_clock(&self, by: SignedDuration) {
        self.0.clock.set_by(by);
    }

    /// The randomness of this run.
    pub fn random(&self) -> &Random {
        &self.0.random
    }

    /// Every object as of the last write.
    pub fn cluster(&self) -> MutexGuard<'_, Cluster> {
        lock(&self.0.cluster)
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.0.faults
    }

    pub(crate) fn store(&self) -> &Arc<MemoryStore> {
        &self.0.store
    }

    /// What runs on the nodes.
    pub(crate) fn running(&self) -> MutexGuard<'_, BTreeMap<String, Vec<String>>> {
        lock(&self.0.running)
    }

    /// Cuts a node off from the server for so long; its pods run on.
    pub async fn cut_off(&self, node: &str, time: Duration) {
        self.0.cut_off.send_if_modified(|nodes| nodes.insert(node.to_owned()));
        tokio::time::sleep(time).await;
        self.0.cut_off.send_if_modified(|nodes| nodes.remove(node));
    }

    /// Waits until a node is cut off.
    pub(crate) async fn cut_off_once(&self, node: &str) {
        let mut cut_off = self.0.cut_off.subscribe();
        // It ends with the world, and then so do all who wait.
        let _ = cut_off.wait_for(|nodes| nodes.contains(node)).await;
    }

    /// Waits until a node is connected.
    pub(crate) async fn connected(&self, node: &str) {
        let mut cut_off = self.0.cut_off.subscribe();
        // It ends with the world, and then so do all who wait.
        let _ = cut_off.wait_for(|nodes| !nodes.contains(node)).await;
    }

    /// Lets time pass: seconds at most, so that what users do falls anywhere.
    pub async fn some_time(&self, max_s: u64) {
        let pause = self.0.random.pause(Duration::from_secs(max_s));
        tokio::time::sleep(pause).await;
    }

    /// Creates an object as a user; it has to work.
    pub async fn create(&self, resource: Resource, object: Value) {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let created = self.reliable("user").create(resource, &namespace, &object).await;
        if let Err(error) = created {
            panic!("{object}: {error}");
        }
    }

    /// Changes an object by a merge patch as a user; it may be gone.
    pub async fn patch(&self, resource: Resource, key: &str, patch: Value) {
        let (namespace, name) = split(key);
        let api = self.reliable("user");
        let patched = api.patch(resource, namespace, name, "", PatchKind::Merge, &patch).await;
        match patched {
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => panic!("{key}: {patch}: {error}"),
        }
    }

    /// Deletes an object as a user; it may be gone.
    pub async fn delete(&self, resource: Resource, key: &str, options: DeleteOptions) {
        let (namespace, name) = split(key);
        match self.reliable("user").delete(resource, namespace, name, &options).await {
            Ok(()) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => panic!("{key}: {error}"),
        }
    }

    /// Evicts a pod as a user; a budget may say no, and it may be gone.
    pub async fn evict(&self, key: &str) {
        let (namespace, name) = split(key);
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
        });
        let api = self.reliable("user");
        match api.create_sub(PODS, namespace, name, "eviction", &eviction).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(client::Error::Status(status)) if status.code == 429 => {}
            Err(error) => panic!("{key}: {error}"),
        }
    }

    /// The name of any node.
    pub fn some_node(&self) -> String {
        format!("node-{}", 1 + self.0.random.below(NODES as u64))
    }

    /// The time, in seconds since the run began.
    pub(crate) fn at(&self) -> String {
        format!("{:9.3}", self.0.clock.since().as_secs_f64())
    }
}

fn user(name: &str, groups: &[&str]) -> UserInfo {
    let groups = groups.iter().copied().chain(["system:authenticated"]);
    UserInfo {
        name: name.to_owned(),
        groups: groups.map(str::to_owned).collect(),
        ..UserInfo::default()
    }
}

fn identity(account: Account) -> UserInfo {
    match account {
        Account::Server => user("system:apiserver", &["system:masters"]),
        Account::Aggregator => user("system:kube-aggregator", &["system:masters"]),
        Account::Watcher => user("system:kube-controller-manager", &[]),
        Account::Of(name) => controller_identity(name),
    }
}

/// `namespace/name` or `name`.
pub(crate) fn split(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

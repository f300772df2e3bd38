//! What a server is made of, in the order in which it comes up.
//!
//! [`start`] opens the store, makes the keys, listens, and starts everything
//! that works through the API; [`Handle::stop`] takes it down in reverse and
//! leaves pods running. Nothing here decides anything.

mod address;
mod certificates;
pub(crate) mod cluster_socket;
mod components;
mod identity;
pub(crate) mod join;
mod kubeconfig;
mod leading;
mod manifests;
mod own_node;
mod peers;
mod role;
mod rotation;
pub(crate) mod snapshots;
mod time_zone;
pub(crate) mod tunnels;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use api_access::Access;
use api_aggregation::Aggregator;
use api_custom::{CustomKinds, Webhooks};
use api_metrics::ResourceMetrics;
use api_registry::{Computing, Registry, UserInfo};
use api_server::{ApiServer, Parts, Probe, Protocol, Tls, Version};
use client::{Ambient, Api, Informer, Resource, Selection};
use controllers::KubernetesService;
use jiff::Timestamp;
use pki::Pki;
use store_raft::{OpenOptions, RaftStore};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tracing::{error, info};

use self::components::Components;
use crate::{
    StartError, clock,
    commands::VERSION,
    config::{Cidr, Config},
    node::{self, network, preflight},
    upgrade,
};

/// The schema that objects are written under; raised when defaults change.
const SCHEMA_EPOCH: u32 = 1;

/// A running server.
pub(crate) struct Handle {
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    controllers: JoinHandle<()>,
    scheduler: JoinHandle<()>,
    background: Vec<JoinHandle<()>>,
    node: ::node::NodeHandle,
    store: Arc<RaftStore>,
    again: watch::Sender<bool>,
}

impl Handle {
    /// Whether the server is to be stopped and run anew, with other keys or elsewhere.
    pub(crate) fn again(&self) -> watch::Receiver<bool> {
        self.again.subscribe()
    }

    /// Its own node.
    pub(crate) fn node(&self) -> &::node::NodeHandle {
        &self.node
    }

    /// Ends everything in order; pods go on running.
    pub(crate) async fn stop(self) {
        self.node.shutdown();
        self.stop.send_replace(true);
        for task in [self.controllers, self.scheduler, self.serving] {
            if let Err(error) = task.await {
                error!(%error, "a part of the server ended badly");
            }
        }
        for task in self.background {
            task.abort();
        }
        self.store.shutdown().await;
    }
}

/// Completes when the server is to stop.
fn stopped(stop: &watch::Sender<bool>) -> impl Future<Output = ()> + Send + use<> {
    let mut stop = stop.subscribe();
    async move {
        // The sender going away means the end too.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

/// Brings a server up. Returns when the API is ready; the node follows.
///
/// # Errors
/// The first thing that stands in the way, and what to do about it.
pub(crate) async fn start(config: &Config) -> Result<Handle, StartError> {
    // Who is not root cannot make the data directory either.
    preflight::data_dir(&config.machine.data_dir)?;
    preflight::machine(&config.machine)?;
    let address = address::listening_at(config);
    snapshots::no_half_restore(&config.machine.data_dir)?;
    let joining = join::prepare(config).await?;
    let node_ips = network::addresses(&config.machine, &config.cluster)?;
    let port = config.https_port;
    let way = peers::Way::default();
    let store = RaftStore::open(OpenOptions {
        name: config.machine.node_name.clone(),
        address: SocketAddr::new(node_ips[0], port).to_string(),
        version: VERSION.into(),
        peers: way.peers(),
        join: joining.as_ref().map(|told| told.cluster),
        ..OpenOptions::new(config.machine.data_dir.join("server/db"))
    })
    .await?;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        format!(
            "cannot listen on {address}: {error}; end what uses the port, or choose another with \
             --https-listen-port or --bind-address"
        )
    })?;
    if let Some(later) = joining.as_ref().and_then(|told| told.later) {
        // What is signed here is dated by it, also after a restart.
        clock::saw(&database(config).join("store.key"), later)?;
    }
    let rotated = pki::rotation::settle(&pki::directory(&config.machine.data_dir))?;
    let keys = Arc::new(open_keys(config, &node_ips)?);
    way.open(&keys)?;
    kubeconfig::write(config, &keys)?;

    let now: Arc<dyn Fn() -> Timestamp + Send + Sync> = {
        let floor = clock::built();
        Arc::new(move || Timestamp::now().max(floor))
    };
    let issuer = pki::service_account::issuer(&config.cluster.domain);
    let service_ips: Vec<_> =
        config.cluster.service_cidrs.iter().filter_map(|cidr| cidr.nth(1)).collect();
    let catalogue = Arc::new(api_kinds::catalogue());
    let nodes = Arc::new(tunnel::Nodes::default());
    let webhooks = Arc::new(Webhooks::new(nodes.clone()));
    let access = Access::new(api_access::Settings {
        keys: keys.service_account_keys().clone(),
        issuer: issuer.clone(),
        cluster_ca_pem: keys.authority(pki::Ca::Server).pem().to_owned(),
        service_ranges: config
            .cluster
            .service_cidrs
            .iter()
            .map(|cidr| cidr.to_string().parse())
            .collect::<Result<_, _>>()?,
        reserved_addresses: service_ips.iter().chain(&config.cluster.dns).copied().collect(),
        node_ports: (30_000, 32_767),
        catalogue: catalogue.clone(),
        webhooks: Some(webhooks.clone()),
        converter: Some(webhooks.clone()),
        clock: now.clone(),
        random: api_access::system_random(),
    });
    let mut registry = Registry::new(
        store.clone(),
        access.clone(),
        catalogue.clone(),
        sources(now.clone()),
        SCHEMA_EPOCH,
    );
    api_access::review::register(&access, &mut registry);
    let components = Components::default();
    let parts = components.clone();
    let compute = move |_| -> Computing { Box::pin(std::future::ready(Ok(parts.objects()))) };
    registry.compute("", "componentstatuses", Arc::new(compute));
    let front_proxy = keys.leaf(pki::CertificateName::FrontProxy).clone();
    let aggregator = Aggregator::new(front_proxy, keys.clock().clone(), nodes.clone());
    let usage = Arc::new(ResourceMetrics::new(nodes.clone(), now.clone()));
    usage.register(&mut registry);
    registry.convert_with(webhooks.clone());
    let registry = Arc::new(registry);
    let server = ApiServer::new(Parts {
        catalogue: catalogue.clone(),
        registry: registry.clone(),
        authenticator: access.clone(),
        authorizer: access.clone(),
        nodes: nodes.clone(),
        extensions: aggregator.clone(),
        metrics: metrics::Table::new(),
        version: Version {
            git_version: VERSION.into(),
            git_commit: env!("SKIFF_COMMIT").into(),
            build_date: api_object::time::format_seconds(clock::built()),
        },
        now: now.clone(),
        descriptions: api_kinds::descriptions,
        published: identity::published(
            &keys,
            &issuer,
            &format!("https://{}", SocketAddr::new(node_ips[0], port)),
        ),
        address: SocketAddr::new(node_ips[0], port).to_string(),
    });

    let stop = watch::Sender::new(false);
    let clock_sets = watch::Sender::new(());
    let ambient = Ambient::system().with_clock_sets(clock_sets.subscribe());
    let api = |user: UserInfo, agent: &str| Api::new(server.transport(user), agent);
    let loopback = api(identity::master("system:apiserver"), "kube-apiserver");
    let mut background = vec![tokio::spawn(access.clone().run(loopback.clone()))];
    let certificates = certificates::Certificates::new(config, keys.clone(), now.clone());
    background.push(tokio::spawn(certificates.clone().renew(ambient.clone())));
    background.push(tokio::spawn(clock::follow_sets(clock_sets, database(config))));
    let expiring = registry.clone();
    background.push(tokio::spawn(leading::while_leading(
        store.leadership(),
        stop.subscribe(),
        move |until| {
            let registry = expiring.clone();
            async move {
                tokio::select! {
                    () = registry.expire() => {}
                    () = until.reached() => {}
                }
            }
        },
    )));
    webhooks.find_services_with(loopback.clone());
    usage.ask_with(loopback.named("skiff/resource-metrics"));
    let applying = manifests::Settings {
        data_dir: config.machine.data_dir.clone(),
        node_name: config.machine.node_name.clone(),
        api: loopback.named("skiff/manifests"),
        ambient: ambient.clone(),
        catalogue: catalogue.clone(),
    };
    let kinds = CustomKinds::new(catalogue, loopback.named("skiff/custom-kinds"), ambient.clone());
    background.push(tokio::spawn(kinds.clone().run()));
    let follow = aggregator.clone().run(loopback.named("skiff/aggregation"), ambient.clone());
    background.push(tokio::spawn(follow));
    let admission = Arc::new(join::Admission {
        api: loopback.named("skiff/join"),
        store: store.clone(),
        keys_dir: pki::directory(&config.machine.data_dir),
        settings: join::shared_flags(config),
        now,
    });
    let tls = Tls {
        api: Arc::new(keys.server_config(&[b"h2", b"http/1.1"])?),
        others: vec![
            peers::protocol(&keys, &store)?,
            tunnels::protocol(&keys, nodes.clone(), stop.subscribe())?,
            Protocol {
                name: join::PROTOCOL,
                tls: Arc::new(keys.joining_config(&[join::PROTOCOL])?),
                speak: Arc::new(move |stream, stop| {
                    Box::pin(admission.clone().speak(stream, stop))
                }),
            },
        ],
    };
    let serving = tokio::spawn(server.clone().serve(listener, Some(tls), stopped(&stop)));
    let snapshots = snapshots::Snapshots::new(config, store.clone());
    background.push(tokio::spawn(snapshots.clone().run(time_zone::local(), ambient.clone())));
    background.push(cluster_socket::serve(
        &config.machine.data_dir,
        store.clone(),
        snapshots,
        certificates,
        loopback.named("skiff/cluster"),
    )?);
    if let Some(told) = joining {
        info!(servers = told.servers.join(", "), "joining the cluster");
        if let Err(error) = store.join(&told.servers).await {
            stop.send_replace(true);
            store.shutdown().await;
            join::undo(&config.machine.data_dir);
            return Err(error.into());
        }
        join::finished(&config.machine.data_dir)?;
    }

    let acting = server.clone();
    let settings = controllers::Settings {
        cluster_ca_pem: keys.authority(pki::Ca::Server).pem().to_owned(),
        authentication: identity::authentication(&keys),
        trust_bundle_name: identity::trust_bundle_name(&keys),
        signer: Some(Arc::new(identity::Signer(keys.clone()))),
        server_names: keys.server_names().to_vec(),
        signing_life: config.signing_life,
        kubernetes_service: service_ips.first().map(|ip| KubernetesService {
            cluster_ip: *ip,
            addresses: store.reachable(),
            port,
        }),
        cluster_dns: config.cluster.dns.clone(),
        cluster: config.cluster.tell(),
        pod_ranges: (config.cluster.pod_cidrs.iter())
            .map(|cidr| controllers::PodRange::new(cidr.network, cidr.prefix))
            .collect::<Result<_, _>>()?,
        time_zone: time_zone::local(),
    };
    let around = ambient.clone();
    let controllers =
        tokio::spawn(leading::while_leading(store.leadership(), stop.subscribe(), move |until| {
            let acting = acting.clone();
            let api_as = move |account| {
                Api::new(acting.transport(identity::of(account)), "kube-controller-manager")
            };
            controllers::run(api_as, around.clone(), settings.clone(), until.reached())
        }));
    components.add_task("controller-manager", &controllers);
    // What comes now has no more rights than the policy gives.
    access.ready().await;
    let scheduling = api(identity::user("system:kube-scheduler", &[]), "kube-scheduler");
    let around = ambient.clone();
    let mut rules = match &config.scheduler {
        serde_json::Value::Null => scheduler::Configuration::default(),
        given => scheduler::Configuration::read(given)?,
    };
    rules.host = config.machine.node_name.clone();
    for key in &rules.without_effect {
        tracing::info!(key, "the scheduler's configuration says this; it has no effect here");
    }
    let scheduler =
        tokio::spawn(leading::while_leading(store.leadership(), stop.subscribe(), move |until| {
            scheduler::run(scheduling.clone(), around.clone(), rules.clone(), until.reached())
        }));
    components.add_task("scheduler", &scheduler);
    let proxy_api = api(identity::user(controllers::PROXY_USER, &[]), "kube-proxy");
    let (machine, cluster) = (&config.machine, &config.cluster);
    let outside = network::Outside::new(machine, cluster, node_ips.clone())?;
    let own_ips = outside.ips.clone();
    background
        .extend(network::start(machine, cluster, &outside, proxy_api, ambient.clone()).await?);
    let node_user =
        identity::user(&format!("system:node:{}", machine.node_name), &["system:nodes"]);
    let kubelet = api(node_user, "kubelet");
    // It needs no certificate, so no key: its name can be had by nobody else.
    let seen = database(config);
    let date: own_node::Date = Arc::new(move || dated_now(&seen));
    let sign = own_node::serving_certificates(keys.clone(), date.clone());
    let annotations = BTreeMap::new();
    let node =
        node::start(machine, cluster, outside, annotations, sign, kubelet, ambient.clone()).await?;
    nodes.insert(&config.machine.node_name, Arc::new(node.clone()));
    let own = own_node::OwnNode {
        name: config.machine.node_name.clone(),
        address: SocketAddr::new(node_ips[0], port).to_string(),
        streams: Arc::new(node.clone()),
        date,
    };
    let calling = own_node::call_others(own, keys.clone(), loopback.clone(), ambient.clone());
    background.push(tokio::spawn(calling));

    let role = role::run(loopback.clone(), ambient.clone(), config.machine.node_name.clone());
    background.push(tokio::spawn(role));

    let again = watch::Sender::new(false);
    let moving = address::run_anew_elsewhere(own_ips, node_ips[0], again.clone());
    background.push(tokio::spawn(moving));
    let rotation = rotation::Follower {
        keys_dir: pki::directory(&config.machine.data_dir),
        name: config.machine.node_name.clone(),
        here: rotated,
        store: store.clone(),
        api: loopback.named("skiff/rotation"),
        ambient: ambient.clone(),
        again: again.clone(),
    };
    background.push(tokio::spawn(rotation.run()));
    let upgrade = upgrade::follow::Follower {
        name: config.machine.node_name.clone(),
        data_dir: config.machine.data_dir.clone(),
        api: loopback.named("skiff/upgrade"),
        ambient: ambient.clone(),
    };
    background.push(tokio::spawn(upgrade.run()));

    let health = server.health();
    let synced = access.clone();
    health.add("rbac", Probe::Ready, move || match synced.is_ready() {
        true => Ok(()),
        false => Err("roles and bindings are not read yet".into()),
    });
    let served = kinds.clone();
    health.add("custom-kinds", Probe::Ready, move || match served.is_ready() {
        true => Ok(()),
        false => Err("custom kinds are not served yet".into()),
    });
    let known = aggregator.clone();
    health.add("aggregation", Probe::Ready, move || match known.is_ready() {
        true => Ok(()),
        false => Err("API servers beside this one are not known yet".into()),
    });
    let durable = store.clone();
    // By upstream's name, since probes and recipes ask for it.
    health.add("etcd", Probe::Live, move || durable.health().map_err(|error| error.to_string()));
    let durable = store.clone();
    components.add("etcd-0", move || durable.health().map_err(|error| error.to_string()));
    kinds.ready().await;
    aggregator.ready().await;
    wait_for_namespace("default", &loopback, &ambient).await;
    wait_for_namespace("kube-system", &loopback, &ambient).await;
    join::publish_token(config, &keys, &loopback).await?;
    manifests::make(&config.machine.data_dir)?;
    background.push(tokio::spawn(manifests::run(applying)));
    info!(%address, data_dir = %config.machine.data_dir.display(), "the Kubernetes API is ready");
    Ok(Handle { stop, serving, controllers, scheduler, background, node, store, again })
}

/// Makes a cluster of this server alone, of what it has: for when the others are
/// lost for good.
///
/// # Errors
/// Why not. Nothing was changed.
pub(crate) fn reset(config: &Config) -> Result<(), StartError> {
    let done = store_raft::reset(&OpenOptions {
        name: config.machine.node_name.clone(),
        version: VERSION.into(),
        ..OpenOptions::new(config.machine.data_dir.join("server/db"))
    })?;
    info!(
        "this server is a cluster of its own now, with {} objects; start it without \
         --cluster-reset. Other servers join it anew, each with its data directory removed. The \
         state of before is in {}: remove it when all is well",
        done.keys,
        done.before.display()
    );
    Ok(())
}

/// What users do first needs a namespace to do it in.
async fn wait_for_namespace(name: &str, api: &Api, ambient: &Ambient) {
    let namespaces = Resource::cluster("", "v1", "namespaces");
    let informer = Informer::<client::MetaOnly>::new(
        Selection::all(namespaces).fields(&format!("metadata.name={name}")),
    );
    let seen = Arc::new(tokio::sync::Notify::new());
    let told = seen.clone();
    informer.on_change(move |_| told.notify_one());
    tokio::select! {
        () = informer.run(api, ambient) => {}
        () = seen.notified() => {}
    }
}

fn sources(now: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> api_registry::Sources {
    let random = || {
        let mut bytes = [0; 16];
        // Two objects with one uid would be one object: better no server.
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
            .expect("the kernel's random source works once it is seeded");
        u128::from_le_bytes(bytes)
    };
    api_registry::Sources { now, random: Arc::new(random) }
}

/// Where the store's files are.
fn database(config: &Config) -> PathBuf {
    config.machine.data_dir.join("server/db")
}

/// What time it is at the earliest, as the store's files tell where the clock is behind.
fn dated_now(database: &Path) -> Timestamp {
    pki::clock::latest(Timestamp::now(), clock::last_seen(database), clock::built())
}

fn open_keys(config: &Config, node_ips: &[std::net::IpAddr]) -> Result<Pki, StartError> {
    let now = dated_now(&database(config));
    let names = pki::Names {
        node_name: config.machine.node_name.clone(),
        node_ips: node_ips.to_vec(),
        cluster_domain: config.cluster.domain.clone(),
        service_ips: config
            .cluster
            .service_cidrs
            .iter()
            .filter_map(|cidr: &Cidr| cidr.nth(1))
            .collect(),
        tls_sans: config.tls_sans.clone(),
    };
    let (keys, renewals) = Pki::open(&pki::directory(&config.machine.data_dir), &names, now)?;
    for renewal in renewals {
        info!(certificate = renewal.file, why = renewal.why, "certificate issued");
    }
    Ok(keys)
}

//! What an agent is made of, in the order in which it comes up: a machine that
//! is a node of a cluster whose servers are elsewhere.
//!
//! [`start`] joins (or remembers that it did), then starts what every node
//! runs; [`Handle::stop`] leaves pods running. Nothing here decides anything.

mod address;
mod greeting;
mod join;
mod kept;
mod rotation;
pub(crate) mod servers;
pub(crate) mod state;
pub(crate) mod time;

use std::{collections::BTreeMap, fs::File, sync::Arc, time::Duration};

use client::{Ambient, Api, Https, Recorder};
use jiff::Timestamp;
use pki::clock::JudgedClock;
use tokio::{sync::watch, task::JoinHandle};
use tracing::{error, info, warn};

use self::{
    join::{Joiner, Membership},
    state::State,
};
use crate::{
    StartError, clock,
    config::AgentConfig,
    node::{self, network, preflight},
    upgrade,
};

/// A running agent.
pub(crate) struct Handle {
    node: ::node::NodeHandle,
    background: Vec<JoinHandle<()>>,
    kept: Arc<kept::Files>,
    again: watch::Sender<bool>,
    /// Held so that no other process works on the same data.
    _lock: Vec<File>,
}

impl Handle {
    /// Whether the agent is to be stopped and run anew, with other CAs.
    pub(crate) fn again(&self) -> watch::Receiver<bool> {
        self.again.subscribe()
    }

    /// Its node.
    pub(crate) fn node(&self) -> &::node::NodeHandle {
        &self.node
    }

    /// Ends everything; pods go on running.
    pub(crate) async fn stop(self) {
        self.node.shutdown();
        for task in self.background {
            task.abort();
        }
        let kept = self.kept;
        let written = tokio::task::spawn_blocking(move || kept.write_pending()).await;
        if let Err(error) = written.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            warn!(%error, "what the node was told last is not kept");
        }
    }
}

/// Whether a server answers there (`host:port`).
///
/// # Errors
/// What is so, and what to look at.
pub(crate) async fn reach(server: &str) -> Result<(), String> {
    greeting::greet(server).await.map(drop).map_err(|fault| fault.to_string())
}

/// What time it is by the server at an address (`host:port`), if that has a certificate of
/// the CA whose key has this hash; `None` where it does not answer or does not say.
pub(crate) async fn time_by(server: &str, ca_hash: [u8; 32]) -> Option<Timestamp> {
    let greeting = greeting::greet(server).await.ok()?;
    Some(greeting.told(server, ca_hash).ok()?.now)
}

/// Brings an agent up; waits for a server where this machine has none yet.
///
/// # Errors
/// The first thing that stands in the way, and what to do about it.
pub(crate) async fn start(config: &AgentConfig) -> Result<Handle, StartError> {
    let machine = &config.machine;
    preflight::data_dir(&machine.data_dir)?;
    preflight::machine(machine)?;
    let state = State::open(&machine.data_dir)?;
    let lock = node::lock(&machine.data_dir)?;
    let judged = Arc::new(state::judged_clock(&machine.data_dir));
    let clock_sets = watch::Sender::new(());
    let ambient = {
        let (judged, system) = (judged.clone(), Ambient::system());
        Ambient::new(move || judged.now(), move || system.random())
            .with_clock_sets(clock_sets.subscribe())
    };
    let joiner = Joiner { config, state: &state, clock: &judged, ambient: &ambient };
    let member = Arc::new(join::membership(&joiner).await?);

    let kept = kept::Files::open(&state.path("kept"), member.node_key.to_pem().as_bytes())
        .map_err(|error| format!("{}: {error}", state.path("kept").display()))?;
    let shared = kept::Shared::new(kept.clone(), Arc::new(member.node.clone()), ambient.clone());
    let api = |https: &Https, agent: &str| {
        Api::new(Arc::new(shared.before(Arc::new(https.clone()))), agent)
    };
    let ips = network::addresses(machine, &member.cluster)?;
    let outside = network::Outside::new(machine, &member.cluster, ips)?;
    let own_ips = outside.ips.clone();
    let proxy_api = api(&member.proxy, "kube-proxy");
    let mut background = vec![tokio::spawn(kept.clone().run())];
    background.extend(
        network::start(machine, &member.cluster, &outside, proxy_api.clone(), ambient.clone())
            .await?,
    );
    let annotations = BTreeMap::from([(controllers::NODE_KEY.to_owned(), member.node_key.hash())]);
    let kubelet = api(&member.node, "kubelet");
    let sign = join::serving_certificates(&member.node, &ambient);
    let cluster = &member.cluster;
    let name = &machine.node_name;
    let recorder = Recorder::new(kubelet.named("skiff/clock"), "skiff", name, ambient.clone());
    let node =
        node::start(machine, cluster, outside, annotations, sign, kubelet, ambient.clone()).await?;

    let servers = watch::Sender::new(member.servers.clone());
    let identity = watch::Sender::new(member.node.clone());
    background.push(tokio::spawn(servers::call(
        identity.subscribe(),
        Arc::new(node.clone()),
        servers.subscribe(),
        ambient.clone(),
    )));
    let machine_sets = watch::Sender::new(());
    let time = time::Follower {
        clock: judged.clone(),
        ca_hash: member.ca_hash,
        servers: servers.subscribe(),
        ambient: ambient.clone(),
        machine_sets: machine_sets.subscribe(),
        clock_sets,
        recorder,
        node: name.clone(),
    };
    background.push(tokio::spawn(time.run()));
    background.push(tokio::spawn(clock::follow_sets(machine_sets, state::dir(&machine.data_dir))));
    background.push(tokio::spawn(servers::follow(
        proxy_api,
        ambient.clone(),
        state.clone(),
        config.server.clone(),
        vec![member.node.clone(), member.proxy.clone()],
        servers,
    )));
    let name = machine.node_name.clone();
    let again = watch::Sender::new(false);
    let rotation = rotation::Follower {
        member: member.clone(),
        state: state.clone(),
        api: Api::new(Arc::new(member.node.clone()), "skiff/rotation"),
        ambient: ambient.clone(),
        name: name.clone(),
        identity: identity.clone(),
        again: again.clone(),
    };
    background.push(tokio::spawn(rotation.run()));
    let upgrade = upgrade::follow::Follower {
        name: name.clone(),
        data_dir: machine.data_dir.clone(),
        api: Api::new(Arc::new(member.node.clone()), "skiff/upgrade"),
        ambient: ambient.clone(),
    };
    background.push(tokio::spawn(upgrade.run()));
    let moving = address::call_from_elsewhere(own_ips, member.clone(), identity.clone());
    background.push(tokio::spawn(moving));
    background.push(tokio::spawn(renew(config.clone(), member, state, judged, ambient, identity)));
    info!(node = machine.node_name, data_dir = %machine.data_dir.display(), "the agent runs");
    Ok(Handle { node, background, kept, again, _lock: lock })
}

/// Gets new certificates for the agent of a data directory, whether it runs or
/// not. Returns their files.
///
/// # Errors
/// Where no agent has joined with it, or no server gives them.
pub(crate) async fn rotate(data_dir: &std::path::Path) -> Result<Vec<&'static str>, StartError> {
    let none = || format!("no agent has joined a cluster with {}", data_dir.display());
    if !state::dir(data_dir).exists() {
        return Err(none().into());
    }
    let state = State::open(data_dir)?;
    let pem = state.read(state::NODE_CERTIFICATE)?.ok_or_else(none)?;
    let user = pki::client_key::common_name(&pem).unwrap_or_default();
    let name = user.strip_prefix("system:node:").ok_or_else(none)?;
    let mut values = crate::flags::Values::default();
    values.set("data-dir", &data_dir.to_string_lossy());
    let config = AgentConfig::new(&values, name)?;
    let (clock, ambient) = (Arc::new(state::judged_clock(data_dir)), Ambient::system());
    let joiner = Joiner { config: &config, state: &state, clock: &clock, ambient: &ambient };
    joiner.ask_time().await?;
    let member = join::known(&joiner)?.ok_or_else(none)?;
    join::renew(&member, &state, &ambient, name, |_, _| true).await?;
    Ok(vec![state::NODE_CERTIFICATE, state::PROXY_CERTIFICATE])
}

/// Renews the certificates while the agent runs.
async fn renew(
    config: AgentConfig,
    member: Arc<Membership>,
    state: State,
    clock: Arc<JudgedClock>,
    ambient: Ambient,
    identity: watch::Sender<Https>,
) {
    const RETRY: Duration = Duration::from_secs(60);
    let joiner = Joiner { config: &config, state: &state, clock: &clock, ambient: &ambient };
    let mut sets = ambient.clock_sets();
    // Whether the clock was set since the certificates were looked at.
    let mut is_set = false;
    loop {
        match join::next_renewal(&member, &state) {
            Ok(_) if is_set => {}
            Ok(due) => {
                tokio::select! {
                    () = ambient.sleep_until(due) => {}
                    () = sets.next() => is_set = true,
                }
            }
            Err(error) => {
                error!(%error, "the certificates cannot be read");
                tokio::time::sleep(RETRY).await;
            }
        }
        let renewed = joiner.renew(&member, ambient.now(), is_set).await;
        is_set &= renewed.is_err();
        match renewed {
            Ok(false) => {}
            Ok(true) => {
                member.node.reconnect().await;
                member.proxy.reconnect().await;
                identity.send_replace(member.node.clone());
            }
            Err(error) => {
                warn!(%error, "certificates are not renewed yet; trying again in a minute");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

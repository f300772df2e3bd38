//! Device plugins (KEP-3573): programs that know devices register over the socket
//! `device-plugins/kubelet.sock`, tell which ones there are, and prepare those that
//! a container gets. The node counts them into its capacity, chooses at a pod's
//! admission, and keeps on disk who has what ([`ledger`]).
//!
//! Left out, with a word: hooks of devices by CDI name ([`cdi`]; refused with an error),
//! NUMA hints (skiff aligns nothing), annotations for the runtime (there is none to
//! read them). Start at [`registry::run`], then [`Devices::allocate`].

pub(crate) mod cdi;
mod ledger;
pub(crate) mod messages;
pub(crate) mod registry;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use api_types::core::{Container, Pod};
use tokio::sync::Notify;

use cdi::CdiFiles;
pub(crate) use ledger::Grant;
use ledger::{Allocation, Choice, Ledger};
use messages::{
    ALLOCATE, AllocateResponse, ContainerPreferredRequest, Empty, Ids, Options, PRE_START,
    PREFERRED, PerContainer, PreferredRequest,
};

use crate::{plugin, pod::view::is_sidecar};

/// One registered plugin and what it has told last.
struct Plugin {
    socket: PathBuf,
    options: Options,
    /// Whether each is well, by name.
    devices: BTreeMap<String, bool>,
    /// Of which registration this is: what an older one still says is not heard.
    registration: u64,
}

#[derive(Default)]
struct State {
    plugins: BTreeMap<String, Plugin>,
    registrations: u64,
    ledger: Ledger,
}

/// The devices of this node.
pub(crate) struct Devices {
    path: PathBuf,
    cdi: CdiFiles,
    state: Mutex<State>,
    /// One pod at a time chooses.
    turn: tokio::sync::Mutex<()>,
    /// What the Node says of them is out of date.
    pub(crate) changed: Notify,
}

/// What one container asks of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ask {
    container: String,
    resource: String,
    count: usize,
    /// It is over before the pod's main containers start.
    is_init: bool,
}

/// `device-plugins` below kubelet's directory, where plugins have their sockets.
fn dir(kubelet_dir: &Path) -> PathBuf {
    kubelet_dir.join("device-plugins")
}

impl Devices {
    /// No plugin is there yet; who has what is read from the disk.
    pub(crate) fn new(kubelet_dir: &Path, cdi: CdiFiles) -> Self {
        let path = dir(kubelet_dir).join("skiff_allocations.json");
        let ledger = Ledger::read(&path).unwrap_or_else(|error| {
            tracing::error!(
                path = %path.display(), %error,
                "which pods have which devices is not known any more: a device may be given out twice until the pods that have some are gone"
            );
            Ledger::default()
        });
        Self {
            path,
            cdi,
            state: Mutex::new(State { ledger, ..State::default() }),
            turn: tokio::sync::Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are of each resource, and how many of them are well:
    /// `capacity` and `allocatable` of the Node.
    pub(crate) fn counts(&self) -> BTreeMap<String, (usize, usize)> {
        let state = self.state();
        let count = |plugin: &Plugin| {
            (plugin.devices.len(), plugin.devices.values().filter(|is_well| **is_well).count())
        };
        let mut counts: BTreeMap<String, (usize, usize)> =
            state.ledger.resources.iter().map(|name| (name.clone(), (0, 0))).collect();
        counts.extend(state.plugins.iter().map(|(name, plugin)| (name.clone(), count(plugin))));
        counts
    }

    /// Gives a pod's containers their devices; those it has from before a restart
    /// it keeps.
    ///
    /// # Errors
    /// Where it cannot be had, in upstream's words for the pod's status.
    pub(crate) async fn allocate(&self, pod: &Pod) -> Result<(), String> {
        let asks = asks(pod, |resource| self.state().ledger.resources.contains(resource));
        if asks.is_empty() {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        let uid = &pod.metadata.uid;
        let mut reusable: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for ask in asks {
            let reusable = reusable.entry(ask.resource.clone()).or_default();
            match self.allocate_one(uid, &ask, reusable).await {
                Ok(ids) if ask.is_init => reusable.extend(ids),
                Ok(ids) => reusable.retain(|id| !ids.contains(id)),
                Err(error) => {
                    self.release(uid);
                    return Err(format!("Allocate failed due to {error}, which is unexpected"));
                }
            }
        }
        Ok(())
    }

    async fn allocate_one(
        &self,
        uid: &str,
        ask: &Ask,
        reusable: &BTreeSet<String>,
    ) -> Result<Vec<String>, String> {
        let resource = &ask.resource;
        let (choice, plugin) = {
            let state = self.state();
            let had = state.ledger.of(uid, &ask.container, resource);
            if let Some(had) = had.filter(|had| had.ids.len() == ask.count) {
                return Ok(had.ids.clone());
            }
            let plugin = state.plugins.get(resource);
            let devices = plugin.into_iter().flat_map(|plugin| &plugin.devices);
            let healthy: BTreeSet<String> =
                devices.filter(|(_, is_well)| **is_well).map(|(id, _)| id.clone()).collect();
            if healthy.is_empty() {
                return Err(format!(
                    "no healthy devices present; cannot allocate unhealthy devices {resource}"
                ));
            }
            let choice = state.ledger.choose(resource, &healthy, reusable, ask.count)?;
            (choice, plugin.map(|plugin| (plugin.socket.clone(), plugin.options.clone())))
        };
        let Some((socket, options)) = plugin else {
            return Err(format!("no plugin for {resource}"));
        };
        let preferred = match options.get_preferred_allocation_available {
            true => preferred(&socket, &choice).await,
            false => Vec::new(),
        };
        let ids = choice.settle(&preferred);
        let request = PerContainer { containers: vec![Ids { ids: ids.clone() }] };
        let answer: AllocateResponse = plugin::unary(&socket, ALLOCATE, &request).await?;
        let [response] = <[_; 1]>::try_from(answer.container_responses)
            .map_err(|_| format!("the plugin of {resource} did not answer for one container"))?;
        let grant = Grant::of(response, &self.cdi)?;
        let mut state = self.state();
        state.ledger.allocations.push(Allocation {
            pod: uid.to_owned(),
            container: ask.container.clone(),
            resource: resource.clone(),
            ids: ids.clone(),
            grant,
        });
        let written = state.ledger.write(&self.path);
        written.map_err(|error| format!("{}: {error}", self.path.display()))?;
        Ok(ids)
    }

    /// What a container that is about to start gets, once its plugins have made
    /// the devices ready.
    ///
    /// # Errors
    /// What a plugin says.
    pub(crate) async fn ready(&self, uid: &str, container: &str) -> Result<Grant, String> {
        let mut grant = Grant::default();
        let mut calls = Vec::new();
        {
            let state = self.state();
            let own = state.ledger.allocations.iter();
            for held in own.filter(|a| a.pod == uid && a.container == container) {
                grant.merge(&held.grant);
                let plugin = state.plugins.get(&held.resource);
                if let Some(plugin) = plugin.filter(|plugin| plugin.options.pre_start_required) {
                    calls.push((plugin.socket.clone(), held.ids.clone()));
                }
            }
        }
        for (socket, ids) in calls {
            plugin::unary::<_, Empty>(&socket, PRE_START, &Ids { ids }).await?;
        }
        Ok(grant)
    }

    /// A pod needs its devices no more.
    pub(crate) fn release(&self, uid: &str) {
        self.retain(|pod| pod != uid);
    }

    /// Only pods of which this is said have devices.
    pub(crate) fn retain(&self, lives: impl Fn(&str) -> bool) {
        let mut state = self.state();
        if state.ledger.retain(lives)
            && let Err(error) = state.ledger.write(&self.path)
        {
            // Written with the next change; until then a restart counts too many.
            tracing::warn!(path = %self.path.display(), %error, "devices are not let go of on disk");
        }
    }

    /// A plugin comes; the number of its registration.
    fn register(&self, resource: &str, socket: PathBuf, options: Options) -> u64 {
        let mut state = self.state();
        state.registrations += 1;
        let registration = state.registrations;
        let plugin = Plugin { socket, options, devices: BTreeMap::new(), registration };
        state.plugins.insert(resource.to_owned(), plugin);
        if state.ledger.resources.insert(resource.to_owned())
            && let Err(error) = state.ledger.write(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a resource is not noted on disk");
        }
        registration
    }

    /// Changes what is known of a plugin, if it is still the one of this
    /// registration.
    fn update(&self, resource: &str, registration: u64, change: impl FnOnce(&mut Plugin)) -> bool {
        let mut state = self.state();
        let plugin = state.plugins.get_mut(resource);
        let Some(plugin) = plugin.filter(|plugin| plugin.registration == registration) else {
            return false;
        };
        let before = plugin.devices.clone();
        change(plugin);
        if plugin.devices != before {
            self.changed.notify_one();
        }
        true
    }
}

/// The plugin's own choice; none where it does not say.
async fn preferred(socket: &Path, choice: &Choice) -> Vec<String> {
    let row = ContainerPreferredRequest {
        available: choice.must.iter().chain(&choice.free).cloned().collect(),
        must_include: choice.must.clone(),
        size: i32::try_from(choice.wanted).unwrap_or(i32::MAX),
    };
    let request = PreferredRequest { container_requests: vec![row] };
    match plugin::unary::<_, PerContainer>(socket, PREFERRED, &request).await {
        Ok(answer) => answer.containers.into_iter().flat_map(|row| row.ids).collect(),
        Err(error) => {
            tracing::warn!(socket = %socket.display(), error, "a plugin does not say which devices it prefers");
            Vec::new()
        }
    }
}

/// What a pod asks of resources that plugins serve, init containers first.
fn asks(pod: &Pod, serves: impl Fn(&str) -> bool) -> Vec<Ask> {
    let of = |container: &Container, is_init: bool| {
        let limits = container.resources.limits.iter();
        let asks = limits.filter_map(|(resource, amount)| {
            let count = usize::try_from(amount.units()).ok().filter(|count| *count > 0)?;
            serves(resource).then(|| Ask {
                container: container.name.clone(),
                resource: resource.clone(),
                count,
                is_init,
            })
        });
        asks.collect::<Vec<_>>()
    };
    let init = pod.spec.init_containers.iter().flat_map(|c| of(c, !is_sidecar(c)));
    init.chain(pod.spec.containers.iter().flat_map(|c| of(c, false))).collect()
}

//! The pods of this node, for those who ask from outside: streams.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use api_types::core::{Pod, Volume};

use super::view::{PodState, Run, containers};
use crate::volume::claim;

/// What streams need to know of one pod; replaced as a whole.
#[derive(Debug, Clone)]
pub(crate) struct PodFacts {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) containers: Vec<ContainerFacts>,
    /// Where ports are: the pod's own network namespace, or the node's.
    pub(crate) netns: Option<PathBuf>,
    pub(crate) host_network: bool,
    pub(crate) is_running: bool,
    /// Its own addresses, or the node's.
    pub(crate) ips: Vec<IpAddr>,
    /// The claim behind each volume that has one.
    pub(crate) claims: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
pub(crate) struct ContainerFacts {
    pub(crate) name: String,
    pub(crate) last: Option<Run>,
    pub(crate) previous: Option<Run>,
    /// Why it has not run yet.
    pub(crate) waiting: String,
}

fn claims(pod: &Pod) -> BTreeMap<String, String> {
    let claim = |volume: &Volume| Some((volume.name.clone(), claim::name(pod, volume)?.0));
    pod.spec.volumes.iter().filter_map(claim).collect()
}

/// All of them, by uid.
#[derive(Debug, Default)]
pub(crate) struct Lookup(RwLock<BTreeMap<String, Arc<PodFacts>>>, RwLock<BTreeMap<String, String>>);

impl Lookup {
    pub(crate) fn put(&self, state: &PodState) {
        let pod = &state.pod;
        let containers = containers(pod)
            .map(|spec| ContainerFacts {
                name: spec.name.clone(),
                last: state.last_run(&spec.name).cloned(),
                previous: state.previous_run(&spec.name).cloned(),
                waiting: match state.memory.get(&spec.name).and_then(|m| m.waiting.as_ref()) {
                    Some(waiting) => waiting.reason.clone(),
                    None if pod.spec.init_containers.is_empty() => "ContainerCreating".into(),
                    None => "PodInitializing".into(),
                },
            })
            .collect();
        let facts = PodFacts {
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            containers,
            netns: state.ready_sandbox().and_then(|sandbox| sandbox.netns.clone()),
            host_network: pod.spec.host_network,
            is_running: state.ready_sandbox().is_some(),
            ips: state.pod_ips.clone(),
            claims: claims(pod),
        };
        self.write().insert(facts.uid.clone(), Arc::new(facts));
    }

    pub(crate) fn remove(&self, uid: &str) {
        self.write().remove(uid);
        let mut aliases = self.1.write().unwrap_or_else(PoisonError::into_inner);
        aliases.retain(|_, of| of != uid);
    }

    /// A static pod is asked for by its mirror's UID.
    pub(crate) fn alias(&self, mirror: &str, uid: &str) {
        let mut aliases = self.1.write().unwrap_or_else(PoisonError::into_inner);
        aliases.retain(|_, of| of != uid);
        aliases.insert(mirror.to_owned(), uid.to_owned());
    }

    pub(crate) fn get(&self, uid: &str) -> Option<Arc<PodFacts>> {
        let aliases = self.1.read().unwrap_or_else(PoisonError::into_inner);
        let uid = aliases.get(uid).map_or(uid, String::as_str);
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    /// The pod of a name; where another of that name is still ending, the one that runs.
    pub(crate) fn named(&self, namespace: &str, name: &str) -> Option<Arc<PodFacts>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let named = |pod: &&Arc<PodFacts>| pod.namespace == namespace && pod.name == name;
        all.values().filter(named).max_by_key(|pod| pod.is_running).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<PodFacts>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Arc<PodFacts>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

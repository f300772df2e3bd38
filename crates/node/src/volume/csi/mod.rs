//! The node's side of CSI: drivers register by a socket in kubelet's
//! `plugins_registry`, and stage and publish volumes when pods need them.
//!
//! Start at [`registry::run`], then [`mount`].

mod driver;
mod growth;
mod messages;
pub(crate) mod mount;
mod record;
pub(crate) mod registry;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use driver::Socket;

/// Drivers that have registered, and which attached volumes are in use.
pub(crate) struct Drivers {
    sockets: Mutex<BTreeMap<String, Socket>>,
    /// One mount or unmount at a time: whether a volume can be unstaged
    /// depends on all pods.
    turn: tokio::sync::Mutex<()>,
    /// Name of the attached volume in the Node's status, by pod.
    in_use: Mutex<BTreeMap<String, BTreeSet<String>>>,
    followers: growth::Followers,
}

impl Drivers {
    /// Nothing has registered; what pods have mounted is read from their records.
    pub(crate) fn new(kubelet_dir: &Path) -> Self {
        let mut in_use: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (uid, record) in record::of_all_pods(kubelet_dir) {
            if record.attached {
                in_use.entry(uid).or_default().insert(record.unique_name());
            }
        }
        Self {
            sockets: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            in_use: Mutex::new(in_use),
            followers: growth::Followers::default(),
        }
    }

    fn sockets(&self) -> MutexGuard<'_, BTreeMap<String, Socket>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn users(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<String>>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `status.volumesInUse`: what must not be detached from this node.
    pub(crate) fn in_use(&self) -> Vec<String> {
        let names: BTreeSet<String> = self.users().values().flatten().cloned().collect();
        names.into_iter().collect()
    }
}

/// `plugins` below kubelet's directory, where drivers have their sockets.
fn plugins(kubelet_dir: &Path) -> PathBuf {
    kubelet_dir.join("plugins")
}

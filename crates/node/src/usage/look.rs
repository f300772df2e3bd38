//! Looks at what is used, when somebody asks.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use linux::tree::{Used, used};
use node_runtime::{ContainerId, ContainerState, Sandbox, SandboxState, Stats};
use rustix::io::Errno;
use tokio::{sync::Mutex, time::Instant};

use super::{
    machine::{MachineUse, Traffic},
    rates::{Rate, Reading, Readings, WINDOW_MIN, Whose, rate},
};
use crate::{container::spec::label, node::Deps, volume::pod_dir};

/// Who asks again this soon gets what was read.
const FRESH: Duration = Duration::from_secs(1);
/// Walking the pods' directories is the one thing here that costs; the kubelet does
/// it by the minute too.
const DISK_FRESH: Duration = Duration::from_secs(60);

/// Everything that was seen at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) at: Timestamp,
    pub(crate) machine: MachineUse,
    pub(crate) rate: Option<Rate>,
    /// The kubelet directory's file system.
    pub(crate) node_fs: FileSystem,
    /// The images' file system.
    pub(crate) image_fs: FileSystem,
    /// Bytes of all images.
    pub(crate) images_bytes: u64,
    /// Pods with a sandbox.
    pub(crate) pods: Vec<PodUse>,
}

/// A file system: bytes and inodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FileSystem {
    pub(crate) capacity: u64,
    pub(crate) available: u64,
    pub(crate) used: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_free: u64,
}

impl FileSystem {
    fn whole(self) -> Used {
        Used { bytes: self.capacity, inodes: self.inodes }
    }

    fn all_used(&self) -> Used {
        Used { bytes: self.used, inodes: self.inodes.saturating_sub(self.inodes_free) }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct PodUse {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) started_at: Timestamp,
    pub(crate) stats: Stats,
    pub(crate) rate: Option<Rate>,
    /// Of the pod's own link; none with the node's network.
    pub(crate) traffic: Option<Traffic>,
    /// Running ones.
    pub(crate) containers: Vec<ContainerUse>,
    /// Where it was asked for.
    pub(crate) disk: Option<Arc<PodDisk>>,
    /// The claim behind each volume that has one.
    pub(crate) claims: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
pub(crate) struct ContainerUse {
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) started_at: Timestamp,
    pub(crate) stats: Stats,
    pub(crate) rate: Option<Rate>,
}

/// What a pod takes of file systems.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PodDisk {
    pub(crate) volumes: Vec<VolumeDisk>,
    /// By the container's name: all its runs that are still there.
    pub(crate) containers: BTreeMap<String, ContainerDisk>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VolumeDisk {
    pub(crate) name: String,
    /// `empty-dir`, `configmap`, or `claim` for all that a claim may be bound to.
    pub(crate) plugin: String,
    pub(crate) used: Used,
    /// In memory, so that it counts as the pod's memory.
    pub(crate) in_memory: bool,
    pub(crate) file_system: FileSystem,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ContainerDisk {
    pub(crate) layer: Used,
    pub(crate) logs: Used,
}

impl PodDisk {
    /// The pod's `ephemeral-storage`: layers, logs and emptyDirs on disk.
    pub(crate) fn ephemeral(&self) -> Used {
        let mut sum = Used::default();
        for container in self.containers.values() {
            sum += container.layer;
            sum += container.logs;
        }
        for volume in self.volumes.iter().filter(|v| v.plugin == EMPTY_DIR && !v.in_memory) {
            sum += volume.used;
        }
        sum
    }
}

pub(crate) const EMPTY_DIR: &str = "empty-dir";
const CLAIM: &str = "claim";
/// Volumes of these plugins are the node's own files, which it counts.
const COUNTED: [&str; 5] = [EMPTY_DIR, "configmap", "secret", "projected", "downward-api"];

/// What was read, for those who ask next.
#[derive(Debug, Default)]
pub(crate) struct Usage(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    readings: Readings,
    last: Option<(Instant, Look)>,
    disks: Option<(Instant, BTreeMap<String, Arc<PodDisk>>)>,
}

impl Usage {
    /// A look that is not older than a second; `disk` fills in the pods' share of
    /// file systems, not older than a minute.
    ///
    /// # Errors
    /// Where the machine or the runtime cannot be read.
    pub(crate) async fn look(&self, deps: &Arc<Deps>, disk: bool) -> io::Result<Look> {
        let mut known = self.0.lock().await;
        let fresh = known.last.as_ref().filter(|(at, _)| at.elapsed() < FRESH);
        let mut look = match fresh {
            Some((_, look)) => look.clone(),
            None => {
                let mut seen = Seen::read(deps).await?;
                if known.readings.base(seen.at).is_none() {
                    // A speed needs two readings: the first one to ask waits for it, so
                    // that nothing has to be read while nobody asks.
                    known.readings.keep(seen.at, seen.reading());
                    tokio::time::sleep_until(seen.at + WINDOW_MIN).await;
                    seen = Seen::read(deps).await?;
                }
                let (at, reading) = (seen.at, seen.reading());
                let look = seen.judged(deps, &known.readings)?;
                known.readings.keep(at, reading);
                known.last = Some((at, look.clone()));
                look
            }
        };
        if disk {
            let disks = match &known.disks {
                Some((at, disks)) if at.elapsed() < DISK_FRESH => disks.clone(),
                _ => {
                    let disks = disks(deps, None).await?;
                    known.disks = Some((Instant::now(), disks.clone()));
                    disks
                }
            };
            for pod in &mut look.pods {
                pod.disk = disks.get(&pod.uid).cloned();
            }
        }
        Ok(look)
    }
}

/// Readings of one moment, before they are compared.
struct Seen {
    at: Instant,
    machine: MachineUse,
    pods: Vec<(Sandbox, Stats, Vec<Running>)>,
}

/// Every pod that runs, its running containers, and what their cgroups say.
async fn read_pods(deps: &Deps) -> io::Result<Vec<(Sandbox, Stats, Vec<Running>)>> {
    let mut pods = Vec::new();
    for sandbox in sandboxes(deps).await? {
        // One that ends meanwhile is left out.
        let Ok(stats) = deps.runtime.sandbox_stats(&sandbox.id).await else { continue };
        let mut containers = Vec::new();
        for container in &sandbox.containers {
            if !matches!(container.state, ContainerState::Running { .. }) {
                continue;
            }
            if let Ok(stats) = deps.runtime.container_stats(&container.id).await {
                containers.push((container.clone(), stats));
            }
        }
        pods.push((sandbox, stats, containers));
    }
    Ok(pods)
}

/// A running container and what its cgroup says.
type Running = (node_runtime::Container, Stats);

impl Seen {
    async fn read(deps: &Deps) -> io::Result<Self> {
        let pods = read_pods(deps).await?;
        Ok(Self { at: Instant::now(), machine: MachineUse::read()?, pods })
    }

    fn reading(&self) -> Reading {
        let mut reading = Reading::from([(Whose::Node, self.machine.cpu_ns)]);
        for (sandbox, stats, containers) in &self.pods {
            reading.insert(Whose::Pod(sandbox.id.to_string()), stats.cpu_ns);
            for (container, stats) in containers {
                reading.insert(Whose::Container(container.id.to_string()), stats.cpu_ns);
            }
        }
        reading
    }

    fn judged(self, deps: &Deps, readings: &Readings) -> io::Result<Look> {
        let base = readings.base(self.at);
        let now = SystemTime::now();
        let age = |since: SystemTime| now.duration_since(since).ok();
        let links = &self.machine.links;
        let pods = self.pods.into_iter().map(|(sandbox, stats, containers)| {
            let whose = Whose::Pod(sandbox.id.to_string());
            let facts = deps.lookup.get(&sandbox.spec.pod_uid);
            let claims = facts.map(|facts| facts.claims.clone()).unwrap_or_default();
            let link = netlink::pod_link::host_ifname(&sandbox.spec.pod_uid);
            let containers = containers.into_iter().map(|(container, stats)| {
                let ContainerState::Running { started_at, .. } = container.state else {
                    unreachable!("only running ones were read")
                };
                let whose = Whose::Container(container.id.to_string());
                ContainerUse {
                    rate: rate(base, &whose, stats.cpu_ns, age(started_at)),
                    id: container.id,
                    name: container.spec.name,
                    image: container.spec.labels.get(label::IMAGE).cloned().unwrap_or_default(),
                    started_at: timestamp(started_at),
                    stats,
                }
            });
            PodUse {
                rate: rate(base, &whose, stats.cpu_ns, age(sandbox.created_at)),
                containers: containers.collect(),
                started_at: timestamp(sandbox.created_at),
                traffic: links.get(&link).map(|link| link.seen_from_the_other_end()),
                uid: sandbox.spec.pod_uid,
                name: sandbox.spec.pod_name,
                namespace: sandbox.spec.pod_namespace,
                stats,
                disk: None,
                claims,
            }
        });
        let images = deps.images_seen.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Look {
            at: deps.ambient.now(),
            rate: rate(base, &Whose::Node, self.machine.cpu_ns, None),
            node_fs: file_system(&deps.config.kubelet_dir)?,
            image_fs: file_system(&deps.config.images_dir)?,
            images_bytes: images.iter().map(|image| image.size_bytes).sum(),
            pods: pods.collect(),
            machine: self.machine,
        })
    }
}

/// The newest sandbox of each pod that runs.
async fn sandboxes(deps: &Deps) -> io::Result<Vec<Sandbox>> {
    let mut newest: BTreeMap<String, Sandbox> = BTreeMap::new();
    for sandbox in deps.runtime.list().await.map_err(io::Error::other)? {
        let uid = sandbox.spec.pod_uid.clone();
        let older = newest.get(&uid).is_none_or(|other| other.spec.attempt < sandbox.spec.attempt);
        if sandbox.state == SandboxState::Ready && older {
            newest.insert(uid, sandbox);
        }
    }
    Ok(newest.into_values().collect())
}

/// What pods and, by name, the working sets of their containers are now.
pub(crate) async fn stats(
    deps: &Deps,
) -> io::Result<BTreeMap<String, (Stats, BTreeMap<String, u64>)>> {
    let pods = read_pods(deps).await?.into_iter().map(|(sandbox, stats, containers)| {
        let working_set = |(container, stats): (node_runtime::Container, Stats)| {
            (container.spec.name, stats.memory_working_set)
        };
        (sandbox.spec.pod_uid, (stats, containers.into_iter().map(working_set).collect()))
    });
    Ok(pods.collect())
}

/// Measures the directories of pods, of all where none are named; what cannot be read
/// is told and left out.
pub(crate) async fn disks(
    deps: &Arc<Deps>,
    only: Option<BTreeSet<String>>,
) -> io::Result<BTreeMap<String, Arc<PodDisk>>> {
    let mut sandboxes = deps.runtime.list().await.map_err(io::Error::other)?;
    if let Some(only) = only {
        sandboxes.retain(|sandbox| only.contains(&sandbox.spec.pod_uid));
    }
    let deps = deps.clone();
    let measured = tokio::task::spawn_blocking(move || {
        let mut disks: BTreeMap<String, PodDisk> = BTreeMap::new();
        for sandbox in &sandboxes {
            let disk = disks.entry(sandbox.spec.pod_uid.clone()).or_default();
            for container in &sandbox.containers {
                let of = disk.containers.entry(container.spec.name.clone()).or_default();
                let layer = deps.runtime.writable_layer(&sandbox.id, &container.id);
                of.layer += measure(&layer);
                // Each container's logs have a folder, rotated ones included.
                if let (Used { inodes: 0, .. }, Some(logs)) = (of.logs, container.log_path.parent())
                {
                    of.logs = measure(logs);
                }
            }
        }
        for (uid, disk) in &mut disks {
            let claimed = deps.volumes.claimed(uid);
            disk.volumes = volumes(&pod_dir(&deps.config.kubelet_dir, uid), claimed);
        }
        disks.into_iter().map(|(uid, disk)| (uid, Arc::new(disk))).collect()
    });
    measured.await.map_err(io::Error::other)
}

fn measure(path: &Path) -> Used {
    used(path).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "what a pod has stored is not known");
        unknown(path, &error)
    })
}

/// What cannot be measured, such as what a container moves about all the time, counts as all
/// that its file system has: that is no way around a limit. Nothing where it is the node that
/// is short of something, as no pod should go for that.
fn unknown(path: &Path, error: &io::Error) -> Used {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => Used::default(),
        _ => file_system(path).map(FileSystem::whole).unwrap_or_default(),
    }
}

/// Those in the pod's directory, and those of claims wherever they are, which tell what
/// their file system says of itself.
fn volumes(pod_dir: &Path, claimed: BTreeMap<String, PathBuf>) -> Vec<VolumeDisk> {
    let mut found = Vec::new();
    let below = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let here = rustix::fs::stat(pod_dir).map(|stat| stat.st_dev).ok();
    for plugin_dir in below(&pod_dir.join("volumes")) {
        let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
        let Some(plugin) = name(&plugin_dir) else { continue };
        let plugin = plugin.strip_prefix("kubernetes.io~").unwrap_or(&plugin).to_owned();
        for dir in below(&plugin_dir) {
            // A claim's place is named after what it is bound to.
            if claimed.values().any(|place| place.starts_with(&dir)) {
                continue;
            }
            let (Some(name), Ok(file_system)) = (name(&dir), file_system(&dir)) else { continue };
            let device = rustix::fs::stat(&dir).map(|stat| stat.st_dev).ok();
            let own = COUNTED.contains(&&*plugin);
            let used = match own {
                true => measure(&dir),
                false => file_system.all_used(),
            };
            let in_memory = own && device != here;
            found.push(VolumeDisk { name, plugin: plugin.clone(), used, in_memory, file_system });
        }
    }
    for (name, place) in claimed {
        let Ok(file_system) = file_system(&place) else { continue };
        found.push(VolumeDisk {
            name,
            plugin: CLAIM.into(),
            used: file_system.all_used(),
            in_memory: false,
            file_system,
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// A path's file system; its nearest parent's where it does not exist yet.
pub(crate) fn file_system(path: &Path) -> io::Result<FileSystem> {
    let mut at = path;
    while !at.exists() {
        at = at.parent().unwrap_or(Path::new("/"));
    }
    let stat = rustix::fs::statvfs(at)?;
    Ok(FileSystem {
        capacity: stat.f_blocks * stat.f_frsize,
        available: stat.f_bavail * stat.f_frsize,
        used: stat.f_blocks.saturating_sub(stat.f_bfree) * stat.f_frsize,
        inodes: stat.f_files,
        inodes_free: stat.f_ffree,
    })
}

fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_measured_is_as_large_as_can_be_unless_the_node_is_short() {
        let root = Path::new("/");
        let counted = |error: Errno| unknown(root, &error.into());
        let capacity = file_system(root).expect("it is mounted").capacity;
        assert!(capacity > 0);
        assert_eq!(counted(Errno::STALE).bytes, capacity);
        assert_eq!(counted(Errno::MFILE), Used::default());
    }
}

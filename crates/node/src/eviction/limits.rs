//! Pods that use more local storage than their limits: `sizeLimit` of emptyDirs, and
//! `ephemeral-storage` of containers and of the pod. Pure.

use api_object::Quantity;
use api_types::core::Pod;

use crate::usage::look::{EMPTY_DIR, PodDisk};

const RESOURCE: &str = "ephemeral-storage";

/// Why a pod has to go, and what counts it in `kubelet_evictions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exceeded {
    pub(super) signal: &'static str,
    pub(super) message: String,
}

/// Whether anything of the pod is limited, so that it has to be measured.
pub(super) fn is_limited(pod: &Pod) -> bool {
    size_limits(pod).next().is_some() || !limits(pod).is_empty()
}

fn size_limits(pod: &Pod) -> impl Iterator<Item = (&str, Quantity)> {
    pod.spec.volumes.iter().filter_map(|volume| {
        let limit = volume.empty_dir.as_ref()?.size_limit?;
        (!limit.is_zero()).then_some((&*volume.name, limit))
    })
}

/// Of containers that have one.
fn limits(pod: &Pod) -> Vec<(&str, Quantity)> {
    let all = pod.spec.init_containers.iter().chain(&pod.spec.containers);
    let limit = |c: &api_types::core::Container| c.resources.limits.get(RESOURCE).copied();
    all.filter_map(|c| Some((&*c.name, limit(c)?))).collect()
}

fn exceeds(used: u64, limit: Quantity) -> bool {
    i64::try_from(used).unwrap_or(i64::MAX) > limit.units()
}

/// The first limit that is exceeded, in upstream's order and words.
pub(super) fn exceeded(pod: &Pod, disk: &PodDisk) -> Option<Exceeded> {
    for (name, limit) in size_limits(pod) {
        let volume = disk.volumes.iter().find(|v| v.plugin == EMPTY_DIR && v.name == name);
        if volume.is_some_and(|volume| exceeds(volume.used.bytes, limit)) {
            let message =
                format!("Usage of EmptyDir volume {name:?} exceeds the limit \"{limit}\". ");
            return Some(Exceeded { signal: "emptydirfs.limit", message });
        }
    }
    let limits = limits(pod);
    if limits.is_empty() {
        return None;
    }
    // Init containers run one after the other, and their limits are not added up.
    let is_main = |name: &str| pod.spec.containers.iter().any(|c| c.name == name);
    let mains: Quantity =
        limits.iter().filter(|(name, _)| is_main(name)).map(|(_, limit)| *limit).sum();
    let inits = limits.iter().filter(|(name, _)| !is_main(name)).map(|(_, limit)| *limit);
    let total = inits.fold(mains, |a, b| if a.units() < b.units() { b } else { a });
    if exceeds(disk.ephemeral().bytes, total) {
        let message = format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {total}. "
        );
        return Some(Exceeded { signal: "ephemeralpodfs.limit", message });
    }
    for (name, limit) in limits {
        let Some(used) = disk.containers.get(name) else { continue };
        if exceeds(used.layer.bytes + used.logs.bytes, limit) {
            let message = format!(
                "Container {name} exceeded its local ephemeral storage limit \"{limit}\". "
            );
            return Some(Exceeded { signal: "ephemeralcontainerfs.limit", message });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use linux::tree::Used;
    use serde_json::json;

    use super::*;
    use crate::usage::look::{ContainerDisk, FileSystem, VolumeDisk};

    fn pod() -> Pod {
        let limit = |amount: &str| json!({"limits": {"ephemeral-storage": amount}});
        serde_json::from_value(json!({"spec": {
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Ki"}}, {"name": "w", "emptyDir": {}}],
            "containers": [
                {"name": "a", "resources": limit("2Ki")},
                {"name": "b", "resources": limit("8Ki")},
                {"name": "c"}],
        }}))
        .expect("a pod")
    }

    fn disk(volume: u64, containers: &[(&str, u64, u64)]) -> PodDisk {
        let used = |bytes| Used { bytes, inodes: 1 };
        PodDisk {
            volumes: vec![VolumeDisk {
                name: "v".into(),
                plugin: EMPTY_DIR.into(),
                used: used(volume),
                in_memory: false,
                file_system: FileSystem::default(),
            }],
            containers: containers
                .iter()
                .map(|(name, layer, logs)| {
                    ((*name).to_owned(), ContainerDisk { layer: used(*layer), logs: used(*logs) })
                })
                .collect(),
        }
    }

    #[test]
    fn limits_of_volumes_containers_and_the_whole() {
        let told =
            |disk: PodDisk| exceeded(&pod(), &disk).map(|e| format!("{}: {}", e.signal, e.message));
        assert_eq!(told(disk(1024, &[("a", 1024, 1024), ("b", 1, 1)])), None, "all that they may");
        assert_eq!(
            told(disk(1025, &[])).as_deref(),
            Some("emptydirfs.limit: Usage of EmptyDir volume \"v\" exceeds the limit \"1Ki\". ")
        );
        assert_eq!(
            told(disk(0, &[("a", 1024, 1025)])).as_deref(),
            Some(
                "ephemeralcontainerfs.limit: Container a exceeded its local ephemeral storage limit \"2Ki\". "
            )
        );
        assert_eq!(
            told(disk(0, &[("c", 10_000, 241)])).as_deref(),
            Some(
                "ephemeralpodfs.limit: Pod ephemeral local storage usage exceeds the total limit of containers 10Ki. "
            )
        );
        assert!(is_limited(&pod()) && !is_limited(&Pod::default()));
    }
}

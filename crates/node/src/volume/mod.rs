//! Volumes: directories of the node that containers see.
//!
//! Each kind makes `<kubelet dir>/pods/<uid>/volumes/kubernetes.io~<plugin>/<name>`
//! (hostPath names a path of the node instead), may be made again at any time,
//! and is removed with everything mounted below it.

pub(crate) mod atomic;
pub(crate) mod claim;
pub(crate) mod csi;
pub(crate) mod host_path;
pub(crate) mod local_path;
pub(crate) mod mounts;
pub(crate) mod objects;
pub(crate) mod payload;
pub(crate) mod persistent;
mod pod_certificate;
pub(crate) mod ready;
pub(crate) mod refresh;
pub(crate) mod tree;
pub(crate) mod trust;

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

use api_types::core::{Pod, Volume};

use crate::container::{qos::HUGE_PAGES, spec::ReadyVolume};

/// Why a volume is not there, without its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct VolumeError(pub(crate) String);

impl VolumeError {
    pub(crate) fn io(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |error| Self(format!("{what}: {error}"))
    }
}

/// `<kubelet dir>/pods/<uid>`.
pub(crate) fn pod_dir(kubelet_dir: &Path, uid: &str) -> PathBuf {
    kubelet_dir.join("pods").join(uid)
}

/// Where a volume of a plugin (`configmap`) is.
pub(crate) fn volume_dir(pod_dir: &Path, plugin: &str, name: &str) -> PathBuf {
    pod_dir.join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
}

/// What kind of volume it is.
pub(crate) enum Kind<'a> {
    EmptyDir(&'a api_types::core::EmptyDirVolumeSource),
    HostPath(&'a api_types::core::HostPathVolumeSource),
    /// Files that the node writes from objects of the API.
    Payload {
        plugin: &'static str,
        memory: bool,
    },
    /// What a claim is bound to.
    Claim,
    Nfs(&'a api_types::core::NfsVolumeSource),
    Csi(&'a api_types::core::CsiVolumeSource),
    /// The files of an image.
    Image(&'a api_types::core::ImageVolumeSource),
    Unsupported(&'a str),
}

/// Tells kinds apart.
pub(crate) fn kind(volume: &Volume) -> Kind<'_> {
    if let Some(source) = &volume.empty_dir {
        Kind::EmptyDir(source)
    } else if let Some(source) = &volume.host_path {
        Kind::HostPath(source)
    } else if volume.config_map.is_some() {
        Kind::Payload { plugin: "configmap", memory: false }
    } else if volume.secret.is_some() {
        Kind::Payload { plugin: "secret", memory: true }
    } else if volume.projected.is_some() {
        Kind::Payload { plugin: "projected", memory: true }
    } else if volume.downward_api.is_some() {
        Kind::Payload { plugin: "downward-api", memory: true }
    } else if volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() {
        Kind::Claim
    } else if let Some(source) = &volume.nfs {
        Kind::Nfs(source)
    } else if let Some(source) = &volume.csi {
        Kind::Csi(source)
    } else if let Some(source) = &volume.image {
        Kind::Image(source)
    } else {
        Kind::Unsupported(volume.other.keys().next().map_or("(none)", String::as_str))
    }
}

/// Makes a volume's place; payload volumes are filled by their writer.
/// `bytes_max` caps a memory-backed emptyDir without a limit of its own.
pub(crate) fn make(
    pod: &Pod,
    volume: &Volume,
    pod_dir: &Path,
    bytes_max: u64,
) -> Result<ReadyVolume, VolumeError> {
    match kind(volume) {
        Kind::HostPath(source) => {
            host_path::check(source)?;
            Ok(ReadyVolume { path: source.path.clone().into(), ..ReadyVolume::default() })
        }
        Kind::EmptyDir(source) => {
            let path = volume_dir(pod_dir, "empty-dir", &volume.name);
            make_dir(&path, 0o777)?;
            let limit = source.size_limit.filter(|q| !q.is_zero());
            let limit = limit.and_then(|q| u64::try_from(q.units()).ok());
            match source.medium.as_str() {
                "Memory" => {
                    mounts::ensure_tmpfs(&path, limit.unwrap_or(bytes_max).min(bytes_max), 0o777)?;
                }
                "" => {}
                medium if medium.starts_with("HugePages") => {
                    let size = huge_page_size(pod, medium)?;
                    let limit = limit.map(|limit| format!(",size={limit}")).unwrap_or_default();
                    let options = format!("pagesize={size},mode=777{limit}");
                    mounts::ensure(&path, "nodev".as_ref(), "hugetlbfs", &options)?;
                }
                medium => return Err(VolumeError(format!("unknown storage medium \"{medium}\""))),
            }
            if let Some(gid) = fs_group(pod) {
                own_by_group(&path, gid)?;
            }
            Ok(ReadyVolume { path, ..ReadyVolume::default() })
        }
        Kind::Payload { plugin, memory } => {
            let path = volume_dir(pod_dir, plugin, &volume.name);
            make_dir(&path, 0o755)?;
            if memory {
                // Secrets must not reach the disk.
                mounts::ensure_tmpfs(&path, bytes_max, 0o755)?;
            }
            Ok(ReadyVolume { path, read_only: true, ..ReadyVolume::default() })
        }
        Kind::Claim | Kind::Nfs(_) | Kind::Csi(_) | Kind::Image(_) => {
            Err(VolumeError("is made ready elsewhere".into()))
        }
        Kind::Unsupported(kind) => Err(VolumeError(format!(
            "volumes of type {kind} are not supported by skiff: use a CSI driver"
        ))),
    }
}

/// The size of pages for a medium `HugePages-2Mi`; for plain `HugePages` the one
/// size that the pod's containers ask for.
fn huge_page_size(pod: &Pod, medium: &str) -> Result<u64, VolumeError> {
    let containers = pod.spec.init_containers.iter().chain(&pod.spec.containers);
    let asked: std::collections::BTreeSet<&str> = containers
        .map(|c| &c.resources)
        .chain(&pod.spec.resources)
        .flat_map(|r| r.requests.keys().chain(r.limits.keys()))
        .filter_map(|name| name.strip_prefix(HUGE_PAGES))
        .collect();
    let size = match (medium.strip_prefix("HugePages-"), asked.len()) {
        (Some(size), _) => size,
        (None, 1) => asked.first().copied().unwrap_or_default(),
        (None, n) => {
            return Err(VolumeError(format!(
                "medium HugePages needs containers that ask for one size of huge pages, not {n}: name it as HugePages-<size>"
            )));
        }
    };
    let bytes = api_object::Quantity::parse(size).ok().and_then(api_object::Quantity::whole);
    bytes
        .and_then(|bytes| u64::try_from(bytes).ok())
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| VolumeError(format!("\"{size}\" is no size of huge pages")))
}

/// The group that owns a pod's volumes.
pub(crate) fn fs_group(pod: &Pod) -> Option<u32> {
    u32::try_from(pod.spec.security_context.fs_group?).ok()
}

fn make_dir(path: &Path, mode: u32) -> Result<(), VolumeError> {
    fs::create_dir_all(path).map_err(VolumeError::io(path.display()))?;
    let now = fs::metadata(path).map_err(VolumeError::io(path.display()))?.permissions();
    // A set-group bit that fsGroup added stays.
    if now.mode() & 0o777 != mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(VolumeError::io(path.display()))?;
    }
    Ok(())
}

/// New files of the volume belong to the group, and it may write.
fn own_by_group(path: &Path, gid: u32) -> Result<(), VolumeError> {
    chown(path, None, Some(gid)).map_err(VolumeError::io(path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o2777))
        .map_err(VolumeError::io(path.display()))
}

/// Removes the volumes and, where `all`, everything else of the pod. Whatever
/// could not be unmounted keeps its files.
pub(crate) fn remove(pod_dir: &Path, all: bool) -> Result<(), VolumeError> {
    let target = if all { pod_dir.to_owned() } else { pod_dir.join("volumes") };
    mounts::unmount_below(&target)?;
    tree::remove(&target)
}

/// All volumes of a pod by name, as containers get them.
pub(crate) type ReadyVolumes = BTreeMap<String, ReadyVolume>;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(volume: Value) -> Result<ReadyVolume, VolumeError> {
        let dir = tempfile::tempdir().expect("a directory");
        let volume = serde_json::from_value(volume).expect("a volume");
        make(&Pod::default(), &volume, &dir.path().join("pods/u"), 1 << 20)
    }

    #[test]
    fn an_empty_dir_is_writable_for_all_and_made_twice() {
        let dir = tempfile::tempdir().expect("a directory");
        let volume =
            serde_json::from_value(json!({"name": "v", "emptyDir": {}})).expect("a volume");
        for _ in 0..2 {
            let ready = make(&Pod::default(), &volume, dir.path(), 0).expect("made");
            assert!(ready.path.ends_with("volumes/kubernetes.io~empty-dir/v"));
            let mode = fs::metadata(&ready.path).expect("there").permissions().mode();
            assert_eq!(mode & 0o7777, 0o777);
        }
        remove(dir.path(), true).expect("removed");
        assert!(!dir.path().exists());
        remove(dir.path(), true).expect("removing what is gone");
    }

    #[test]
    fn the_size_of_huge_pages_is_the_mediums_or_the_one_that_is_asked_for() {
        let huge = |size: &str| json!({"name": "c", "resources": {"limits": {size: "4Mi"}}});
        let (small, large) = (huge("hugepages-2Mi"), huge("hugepages-1Gi"));
        let none = json!({"name": "c"});
        const WHICH: &str =
            "medium HugePages needs containers that ask for one size of huge pages, not";
        for (spec, medium, expected) in [
            (json!({"containers": [small, none]}), "HugePages", Ok(2 << 20)),
            (json!({"initContainers": [large], "containers": [none]}), "HugePages", Ok(1 << 30)),
            (
                json!({"resources": small["resources"], "containers": [none]}),
                "HugePages",
                Ok(2 << 20),
            ),
            (json!({"containers": [small, large]}), "HugePages-1Gi", Ok(1 << 30)),
            (
                json!({"containers": [small, large]}),
                "HugePages",
                Err(format!("{WHICH} 2: name it as HugePages-<size>")),
            ),
            (
                json!({"containers": [none]}),
                "HugePages",
                Err(format!("{WHICH} 0: name it as HugePages-<size>")),
            ),
            (
                json!({"containers": [small]}),
                "HugePages-0",
                Err("\"0\" is no size of huge pages".into()),
            ),
        ] {
            let pod = serde_json::from_value(json!({"spec": spec})).expect("a pod");
            let size = huge_page_size(&pod, medium).map_err(|error| error.0);
            assert_eq!(size, expected, "{medium}: {spec}");
        }
    }

    /// The file system is there without a single page: those are looked for when somebody
    /// writes.
    #[test]
    fn huge_pages_are_a_file_system_of_their_size() {
        if !rustix::process::geteuid().is_root() {
            return println!("skipped: mounting needs root");
        }
        if !Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
            return println!("skipped: this kernel has no huge pages of 2 MiB");
        }
        let dir = tempfile::tempdir().expect("a directory");
        let limits = json!({"hugepages-2Mi": "4Mi"});
        let pod = json!({"spec": {"containers": [{"name": "c", "resources": {"limits": limits}}]}});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        for medium in ["HugePages", "HugePages-2Mi"] {
            let volume = json!({"name": "v", "emptyDir": {"medium": medium, "sizeLimit": "4Mi"}});
            let volume = serde_json::from_value(volume).expect("a volume");
            let ready = make(&pod, &volume, dir.path(), 0).expect("mounted");
            make(&pod, &volume, dir.path(), 0).expect("mounted already");
            let table = fs::read_to_string("/proc/self/mounts").expect("readable");
            let mine = |line: &&str| line.split(' ').nth(1) == ready.path.to_str();
            let mounted: Vec<&str> = table.lines().filter(mine).collect();
            assert!(
                mounted.len() == 1
                    && mounted[0].contains(" hugetlbfs ")
                    && mounted[0].contains("pagesize=2M")
                    && mounted[0].contains("size=4194304"),
                "{mounted:?}"
            );
            remove(dir.path(), false).expect("unmounted");
        }
    }

    #[test]
    fn other_kinds_are_refused_by_name() {
        let error = check(json!({"name": "v", "iscsi": {"iqn": "x"}}));
        assert_eq!(
            error.expect_err("refused").0,
            "volumes of type iscsi are not supported by skiff: use a CSI driver"
        );
    }
}

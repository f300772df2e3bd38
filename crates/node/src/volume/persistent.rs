//! PersistentVolumes on this node, and sources that a pod names itself but
//! that outlive it: local paths, devices, NFS.

use std::{
    fs,
    net::{IpAddr, ToSocketAddrs},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use api_types::core::{NfsVolumeSource, PersistentVolume, Pod};

use super::{VolumeError, claim::Bound, fs_group, host_path, local_path, make_dir, mounts, tree};
use crate::container::spec::ReadyVolume;

/// What a volume is made ready with.
pub(crate) struct Place<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) pod_dir: &'a Path,
    /// This node's name.
    pub(crate) node: &'a str,
    /// Where this node keeps directories that are volumes.
    pub(crate) local_root: &'a Path,
}

/// Makes a bound volume ready, but for those of CSI drivers.
pub(crate) fn make(place: &Place<'_>, bound: &Bound) -> Result<ReadyVolume, VolumeError> {
    let volume = &bound.volume;
    let spec = &volume.spec;
    let read_only = bound.read_only;
    let ready = |path: PathBuf, read_only: bool| ReadyVolume {
        path,
        read_only,
        is_block: bound.is_block(),
        volume: volume.metadata.name.clone(),
        plugin: String::new(),
    };
    if let Some(source) = &spec.host_path {
        host_path::check(source)?;
        return Ok(ready(source.path.clone().into(), read_only));
    }
    if spec.local.is_some() {
        let path = local(place, bound)?;
        if let Some(ownership) = ownership(place.pod, read_only).filter(|_| !bound.is_block()) {
            tree::own(&path, ownership)?;
        }
        return Ok(ready(path, read_only));
    }
    if let Some(source) = &spec.nfs {
        let read_only = read_only || source.read_only;
        let name = &volume.metadata.name;
        return Ok(ready(nfs(place, name, source, &spec.mount_options)?, read_only));
    }
    let kind = spec.other.keys().next().map_or("(none)", String::as_str);
    Err(VolumeError(format!(
        "PersistentVolumes of type {kind} are not supported by skiff: use a CSI driver"
    )))
}

/// How a pod wants its volumes to be owned, if it says so.
pub(crate) fn ownership(pod: &Pod, read_only: bool) -> Option<tree::Ownership> {
    let policy = pod.spec.security_context.fs_group_change_policy.as_deref();
    // What cannot be written cannot be given away either.
    fs_group(pod).filter(|_| !read_only).map(|gid| tree::Ownership {
        gid,
        read_only,
        root_decides: policy == Some("OnRootMismatch"),
    })
}

fn local(place: &Place<'_>, bound: &Bound) -> Result<PathBuf, VolumeError> {
    let volume = &bound.volume;
    if local_path::is_one(volume) {
        return local_path::ensure(volume, place.node, place.local_root);
    }
    let source = volume.spec.local.clone().unwrap_or_default();
    let path = PathBuf::from(&source.path);
    let meta = match fs::metadata(&path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(VolumeError(format!("path \"{}\" does not exist", source.path)));
        }
        Err(error) => return Err(VolumeError(format!("{}: {error}", source.path))),
    };
    let is_device = meta.file_type().is_block_device();
    match (bound.is_block(), is_device) {
        (true, true) => Ok(path),
        (true, false) => {
            Err(VolumeError(format!("path \"{}\" is not a block device", source.path)))
        }
        (false, true) => device(place, volume, &path, &source.fs_type),
        (false, false) => Ok(path),
    }
}

/// A file system on a device, mounted for this pod. Devices are never
/// formatted here: a wrong guess would cost what is on them.
fn device(
    place: &Place<'_>,
    volume: &PersistentVolume,
    device: &Path,
    fs_type: &str,
) -> Result<PathBuf, VolumeError> {
    let target = super::volume_dir(place.pod_dir, "local-volume", &volume.metadata.name);
    make_dir(&target, 0o750)?;
    let fs_type = if fs_type.is_empty() { "ext4" } else { fs_type };
    let options = volume.spec.mount_options.join(",");
    mounts::ensure(&target, device.as_os_str(), fs_type, &options).map_err(|error| {
        VolumeError(format!(
            "{error} (skiff does not format devices: make the file system first, or name another with fsType)"
        ))
    })?;
    Ok(target)
}

/// An NFS export, mounted for this pod by the kernel alone.
pub(crate) fn nfs(
    place: &Place<'_>,
    name: &str,
    source: &NfsVolumeSource,
    options: &[String],
) -> Result<PathBuf, VolumeError> {
    let target = super::volume_dir(place.pod_dir, "nfs", name);
    make_dir(&target, 0o750)?;
    let address = resolve(&source.server)?;
    let what = match source.server.contains(':') {
        true => format!("[{}]:{}", source.server, source.path),
        false => format!("{}:{}", source.server, source.path),
    };
    let mut last = None;
    for version in versions(options) {
        let text = nfs_options(options, version, address);
        match mounts::ensure(&target, what.as_ref(), "nfs", &text) {
            Ok(()) => return Ok(target),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| VolumeError("no version of NFS to try".into())))
}

/// The kernel negotiates no version: the newest that works is taken, unless the
/// options name one.
fn versions(options: &[String]) -> &'static [&'static str] {
    let named = options.iter().flat_map(|o| o.split(',')).any(|option| {
        option.starts_with("vers=")
            || option.starts_with("nfsvers=")
            || option.starts_with("minorversion=")
    });
    if named { &[""] } else { &["4.2", "4.1", "4.0", "3"] }
}

fn nfs_options(options: &[String], version: &str, address: IpAddr) -> String {
    let mut all: Vec<String> = options.to_vec();
    if !version.is_empty() {
        all.push(format!("vers={version}"));
    }
    // Version 3 locks through a daemon that this node does not run.
    if version == "3" && !options.iter().any(|option| option.contains("lock")) {
        all.push("nolock".into());
    }
    all.push(format!("addr={address}"));
    all.join(",")
}

fn resolve(server: &str) -> Result<IpAddr, VolumeError> {
    if let Ok(address) = server.parse() {
        return Ok(address);
    }
    let found = (server, 2049).to_socket_addrs();
    let mut found = found.map_err(|error| VolumeError(format!("{server}: {error}")))?;
    let address = found.next().ok_or_else(|| VolumeError(format!("{server} has no address")))?;
    Ok(address.ip())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(spec: serde_json::Value) -> Result<ReadyVolume, VolumeError> {
        let dir = tempfile::tempdir().expect("a directory");
        let volume = json!({"metadata": {"name": "pv"}, "spec": spec});
        let bound = Bound {
            claim: serde_json::from_value(json!({})).expect("a claim"),
            volume: serde_json::from_value(volume).expect("a volume"),
            read_only: false,
        };
        let pod = Pod::default();
        let place = Place {
            pod: &pod,
            pod_dir: dir.path(),
            node: "n1",
            local_root: Path::new("/srv/storage"),
        };
        make(&place, &bound)
    }

    #[test]
    fn paths_of_the_node() {
        let ready = check(json!({"local": {"path": "/tmp"}})).expect("there");
        assert_eq!((ready.path.as_path(), ready.is_block), (Path::new("/tmp"), false));
        assert!(check(json!({"hostPath": {"path": "/tmp", "type": "Directory"}})).is_ok());
        for (spec, message) in [
            (json!({"local": {"path": "/nope"}}), "path \"/nope\" does not exist"),
            (
                json!({"local": {"path": "/tmp"}, "volumeMode": "Block"}),
                "path \"/tmp\" is not a block device",
            ),
            (
                json!({"iscsi": {"iqn": "x"}}),
                "PersistentVolumes of type iscsi are not supported by skiff: use a CSI driver",
            ),
        ] {
            assert_eq!(check(spec).expect_err("refused").0, message);
        }
    }

    #[test]
    fn options_of_nfs() {
        let address: IpAddr = "192.0.2.1".parse().expect("an address");
        let given = |list: &[&str]| list.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>();
        assert_eq!(versions(&given(&["hard"])), ["4.2", "4.1", "4.0", "3"]);
        assert_eq!(versions(&given(&["hard,nfsvers=4.1"])), [""]);
        assert_eq!(nfs_options(&given(&["hard"]), "4.2", address), "hard,vers=4.2,addr=192.0.2.1");
        assert_eq!(nfs_options(&[], "3", address), "vers=3,nolock,addr=192.0.2.1");
    }
}

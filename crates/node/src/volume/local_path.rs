//! Directories of this node that are volumes: made when they are first
//! mounted, removed when their PersistentVolume is being deleted.
//!
//! The control plane decides which there are (the provisioner in
//! `controllers`); the node acts only below its own directory, and only on
//! names that lie right in it.

use std::{
    ffi::CString,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use api_types::core::{PersistentVolume, PersistentVolumeSpec, PersistentVolumeStatus};
use client::{Informer, Outcome, PatchKind, Reference, Selection, reconcile_loop};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{VolumeError, tree};
use crate::{node::Deps, pod::setup::blocking, resources::PERSISTENT_VOLUMES};

/// On the Node: where its directories are.
pub(crate) const DIRECTORY: &str = "skiff.sh/local-path-directory";
/// On a volume: whose directory it is. A node may follow volumes by it alone.
const NODE: &str = "skiff.sh/local-path-node";
/// On a volume: that the directory is still to be removed.
const FINALIZER: &str = "skiff.sh/local-path";

/// Until a directory that could not be removed is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// Whether a volume is a directory of this kind, on whatever node.
pub(crate) fn is_one(volume: &PersistentVolume) -> bool {
    volume.spec.local.is_some() && volume.metadata.labels.contains_key(NODE)
}

/// The name below `root` of a volume's directory on this node.
fn own_name(volume: &PersistentVolume, node: &str, root: &Path) -> Result<CString, VolumeError> {
    let of = volume.metadata.labels.get(NODE).map_or("", String::as_str);
    if of != node {
        return Err(VolumeError(format!("the volume's directory is on node \"{of}\"")));
    }
    let path = volume.spec.local.as_ref().map_or("", |local| local.path.as_str());
    let outside =
        || VolumeError(format!("the volume's directory {path} is not one of {}", root.display()));
    let below = Path::new(path).strip_prefix(root).map_err(|_| outside())?;
    let mut parts = below.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) => {
            CString::new(name.as_encoded_bytes()).map_err(|_| outside())
        }
        _ => Err(outside()),
    }
}

/// The volume's directory, made where it is missing, writable for any user of
/// its pods.
pub(crate) fn ensure(
    volume: &PersistentVolume,
    node: &str,
    root: &Path,
) -> Result<PathBuf, VolumeError> {
    let name = own_name(volume, node, root)?;
    let path = volume.spec.local.as_ref().map(|local| PathBuf::from(&local.path));
    let path = path.unwrap_or_default();
    let failed = |error: io::Error| VolumeError(format!("{}: {error}", path.display()));
    fs::create_dir_all(root)
        // Who may not list it may not look into others' data.
        .and_then(|()| fs::set_permissions(root, fs::Permissions::from_mode(0o711)))
        .map_err(failed)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = openat(CWD, root, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
    let is_new = match mkdirat(&parent, &name, Mode::from_raw_mode(0o777)) {
        Ok(()) => true,
        Err(rustix::io::Errno::EXIST) => false,
        Err(error) => return Err(failed(error.into())),
    };
    let dir = openat(&parent, &name, flags | OFlags::NOFOLLOW, Mode::empty())
        .map_err(|e| failed(e.into()))?;
    if is_new {
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o777)).map_err(|e| failed(e.into()))?;
    }
    Ok(path)
}

/// A volume without its metadata, which the cache has beside it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rest {
    spec: PersistentVolumeSpec,
    status: PersistentVolumeStatus,
}

/// Follows the volumes that are directories of this node, and removes those
/// that are being deleted. Never returns.
pub(crate) async fn run(deps: Arc<Deps>) {
    let queue = deps.volumes.reclaim.clone();
    let selection =
        Selection::all(PERSISTENT_VOLUMES).labels(&format!("{NODE}={}", deps.config.name));
    let volumes: Informer<Rest> = Informer::new(selection);
    let keys = queue.clone();
    volumes.on_change(move |change| {
        if let Some(volume) = &change.new
            && volume.meta.deletion_timestamp.is_some()
        {
            keys.add(volume.key());
        }
    });
    let (api, ambient) = (deps.api.clone(), deps.ambient.clone());
    let follow = volumes.run(&api, &ambient);
    let known = volumes.clone();
    let work = reconcile_loop("local-path", queue, 1, move |name| {
        let (deps, volumes) = (deps.clone(), known.clone());
        async move { reclaim(&deps, &volumes, &name).await }
    });
    tokio::join!(follow, work);
}

async fn reclaim(deps: &Arc<Deps>, volumes: &Informer<Rest>, name: &str) -> Outcome {
    let Some(found) = volumes.get(name) else { return Ok(None) };
    let finalizers = &found.meta.finalizers;
    if found.meta.deletion_timestamp.is_none() || !finalizers.iter().any(|f| f == FINALIZER) {
        return Ok(None);
    }
    let volume = PersistentVolume {
        metadata: found.meta.clone(),
        spec: found.view.spec.clone(),
        status: found.view.status.clone(),
    };
    // One that is bound or kept is not ours to remove; a pod that still runs
    // says so when it has ended.
    if volume.status.phase == "Bound"
        || volume.spec.persistent_volume_reclaim_policy != "Delete"
        || deps.volumes.is_used(name)
    {
        return Ok(None);
    }
    let root = deps.config.storage_dir.clone();
    let removed = match own_name(&volume, &deps.config.name, &root) {
        Ok(_) => {
            let path = volume.spec.local.map(|local| PathBuf::from(local.path));
            blocking(move || tree::remove(&path.unwrap_or_default())).await
        }
        Err(error) => Err(error.0),
    };
    if let Err(error) = removed {
        let about = Reference::new("v1", "PersistentVolume", &found.meta);
        deps.recorder.warning(&about, "VolumeFailedDelete", error);
        return Ok(Some(RETRY));
    }
    let kept: Vec<&String> = finalizers.iter().filter(|f| *f != FINALIZER).collect();
    let patch = json!({"metadata": {
        "uid": found.meta.uid,
        "resourceVersion": found.meta.resource_version,
        "finalizers": if kept.is_empty() { Value::Null } else { json!(kept) },
    }});
    match deps.api.patch(PERSISTENT_VOLUMES, "", name, "", PatchKind::Merge, &patch).await {
        Err(error) if error.is_not_found() => {}
        result => drop(result?),
    }
    tracing::info!(volume = name, "the directory of a deleted volume is removed");
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(node: &str, path: &Path) -> PersistentVolume {
        serde_json::from_value(json!({
            "metadata": {"name": "pv", "labels": {NODE: node}},
            "spec": {"local": {"path": path}},
        }))
        .expect("a volume")
    }

    #[test]
    fn only_what_lies_right_in_the_nodes_own_directory() {
        let root = Path::new("/srv/storage");
        for (node, path, good) in [
            ("n1", "/srv/storage/pvc-1_ns_data", true),
            ("n2", "/srv/storage/pvc-1_ns_data", false),
            ("n1", "/srv/storage", false),
            ("n1", "/srv/storage/", false),
            ("n1", "/srv/storage/..", false),
            ("n1", "/srv/storage/../storage/x", false),
            ("n1", "/srv/storage/a/b", false),
            ("n1", "/srv/other/a", false),
            ("n1", "", false),
            ("n1", "/", false),
        ] {
            let volume = volume(node, Path::new(path));
            assert_eq!(own_name(&volume, "n1", root).is_ok(), good, "{node} {path}");
        }
    }

    #[test]
    fn a_directory_is_made_once_and_a_link_in_its_place_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("storage");
        let path = root.join("pvc-1_ns_data");
        let made = ensure(&volume("n1", &path), "n1", &root).expect("made");
        assert_eq!(made, path);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o7777, 0o777);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("set");
        ensure(&volume("n1", &path), "n1", &root).expect("there already");
        let mode = fs::metadata(&path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "what a pod made of it stays");
        let link = root.join("pvc-2_ns_data");
        std::os::unix::fs::symlink("/etc", &link).expect("linked");
        ensure(&volume("n1", &link), "n1", &root).expect_err("refused");
    }
}

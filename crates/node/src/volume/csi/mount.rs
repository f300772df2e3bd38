//! A volume of a CSI driver on its way to a pod and back: attached, staged,
//! published; unpublished, unstaged. Every call may be repeated.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use api_types::core::{CsiVolumeSource, Pod, Secret, SecretReference, Volume};
use base64::{Engine, engine::general_purpose::STANDARD};
use client::Api;
use serde::Deserialize;

use super::{
    driver::Socket,
    growth::Growth,
    messages::{
        AccessMode, Empty, MountVolume, NodeExpandVolume, NodePublishVolume, NodeStageVolume,
        VolumeCapability, access as modes, capability,
    },
    plugins,
    record::{self, Record},
};
use crate::{
    container::spec::ReadyVolume,
    node::Deps,
    plugin::digest,
    pod::{setup::blocking, start::reference},
    resources::{CSI_DRIVERS, SECRETS, VOLUME_ATTACHMENTS},
    volume::{VolumeError, claim::Bound, fs_group, make_dir, mounts, persistent, tree, volume_dir},
};

/// What a CSIDriver object says; all of it has a default where there is none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DriverSpec {
    attach_required: Option<bool>,
    pod_info_on_mount: bool,
    fs_group_policy: String,
    volume_lifecycle_modes: Vec<String>,
}

/// Everything about one volume that the calls need.
struct Wanted {
    driver: String,
    handle: String,
    /// The directory of the pod's volume.
    dir: PathBuf,
    /// The PersistentVolume; empty for a volume that the pod itself describes.
    volume: String,
    read_only: bool,
    is_block: bool,
    fs_type: String,
    access_modes: Vec<String>,
    mount_flags: Vec<String>,
    context: BTreeMap<String, String>,
    stage_secrets: BTreeMap<String, String>,
    publish_secrets: BTreeMap<String, String>,
}

/// Makes a PersistentVolume of a driver ready for a pod.
pub(crate) async fn bound(
    deps: &Deps,
    pod: &Pod,
    pod_dir: &Path,
    bound: &Bound,
) -> Result<ReadyVolume, VolumeError> {
    let spec = &bound.volume.spec;
    let Some(csi) = &spec.csi else {
        return Err(VolumeError("is no volume of a CSI driver".into()));
    };
    let name = &bound.volume.metadata.name;
    let wanted = Wanted {
        driver: csi.driver.clone(),
        handle: csi.volume_handle.clone(),
        dir: volume_dir(pod_dir, "csi", name),
        volume: name.clone(),
        read_only: bound.read_only || csi.read_only,
        is_block: bound.is_block(),
        fs_type: csi.fs_type.clone(),
        access_modes: spec.access_modes.clone(),
        mount_flags: spec.mount_options.clone(),
        context: csi.volume_attributes.clone(),
        stage_secrets: secrets(&deps.api, csi.node_stage_secret_ref.as_ref()).await?,
        publish_secrets: secrets(&deps.api, csi.node_publish_secret_ref.as_ref()).await?,
    };
    let socket = socket(deps, &wanted.driver)?;
    let driver = driver(deps, &wanted.driver).await?;
    let attachment = match driver.attach_required {
        Some(false) => None,
        _ => Some(attached(deps, &wanted).await?),
    };
    let ready = mount(deps, pod, &wanted, &socket, &driver, attachment).await?;
    let capabilities = socket.capabilities().await?;
    let request = NodeExpandVolume {
        volume_id: wanted.handle.clone(),
        volume_path: wanted.dir.join("mount").to_string_lossy().into_owned(),
        staging_target_path: staging(deps, &wanted, &capabilities).to_string_lossy().into_owned(),
        volume_capability: Some(access(pod, &wanted, &capabilities)),
        ..NodeExpandVolume::default()
    };
    let (about, secret) = (reference(pod, None), csi.node_expand_secret_ref.clone());
    let growth = Growth::new(deps, about, socket, &capabilities, request, secret);
    growth.catch_up(&bound.claim, &bound.volume).await?;
    deps.volumes.drivers.followers.add(deps, growth, bound);
    Ok(ready)
}

/// Makes a volume ready that is described in the pod and lives with it.
pub(crate) async fn inline(
    deps: &Deps,
    pod: &Pod,
    pod_dir: &Path,
    volume: &Volume,
    source: &CsiVolumeSource,
) -> Result<ReadyVolume, VolumeError> {
    let socket = socket(deps, &source.driver)?;
    let driver = driver(deps, &source.driver).await?;
    if !driver.volume_lifecycle_modes.iter().any(|mode| mode == "Ephemeral") {
        return Err(VolumeError(format!(
            "volume mode \"Ephemeral\" not supported by driver {} (only supports {:?})",
            source.driver, driver.volume_lifecycle_modes
        )));
    }
    let reference = source.node_publish_secret_ref.as_ref().map(|secret| SecretReference {
        name: secret.name.clone(),
        namespace: pod.metadata.namespace.clone(),
    });
    let wanted = Wanted {
        driver: source.driver.clone(),
        handle: format!("csi-{}", digest(&format!("{}{}", pod.metadata.uid, volume.name))),
        dir: volume_dir(pod_dir, "csi", &volume.name),
        volume: String::new(),
        read_only: source.read_only,
        is_block: false,
        fs_type: source.fs_type.clone(),
        access_modes: vec!["ReadWriteOnce".into()],
        mount_flags: Vec::new(),
        context: source.volume_attributes.clone(),
        stage_secrets: BTreeMap::new(),
        publish_secrets: secrets(&deps.api, reference.as_ref()).await?,
    };
    mount(deps, pod, &wanted, &socket, &driver, None).await
}

fn socket(deps: &Deps, driver: &str) -> Result<Socket, VolumeError> {
    let found = deps.volumes.drivers.sockets().get(driver).cloned();
    found.ok_or_else(|| {
        VolumeError(format!(
            "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name {driver} not found in the list of registered CSI drivers"
        ))
    })
}

async fn driver(deps: &Deps, name: &str) -> Result<DriverSpec, VolumeError> {
    #[derive(Deserialize)]
    struct Driver {
        spec: DriverSpec,
    }
    match deps.api.get(CSI_DRIVERS, "", name).await {
        Ok(object) => serde_json::from_slice::<Driver>(&object.bytes)
            .map(|driver| driver.spec)
            .map_err(|error| VolumeError(format!("CSIDriver {name}: {error}"))),
        Err(error) if error.is_not_found() => Ok(DriverSpec::default()),
        Err(error) => Err(VolumeError(format!("CSIDriver {name}: {error}"))),
    }
}

/// What the attacher says for publishing, once it has attached the volume here.
async fn attached(deps: &Deps, wanted: &Wanted) -> Result<BTreeMap<String, String>, VolumeError> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Attachment {
        status: Status,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Status {
        attached: bool,
        attachment_metadata: BTreeMap<String, String>,
    }
    let node = &deps.config.name;
    let name = format!("csi-{}", digest(&format!("{}{}{node}", wanted.handle, wanted.driver)));
    let waits = || {
        VolumeError(format!(
            "volume {} is not attached to node {node} yet: waiting for VolumeAttachment {name} of attacher {}",
            wanted.volume, wanted.driver
        ))
    };
    match deps.api.get(VOLUME_ATTACHMENTS, "", &name).await {
        Ok(object) => {
            let found: Attachment = serde_json::from_slice(&object.bytes)
                .map_err(|error| VolumeError(format!("VolumeAttachment {name}: {error}")))?;
            let is_there = found.status.attached && object.meta.deletion_timestamp.is_none();
            if is_there { Ok(found.status.attachment_metadata) } else { Err(waits()) }
        }
        // A node may not ask for what does not exist either.
        Err(error) if matches!(error.code(), Some(403 | 404)) => Err(waits()),
        Err(error) => Err(VolumeError(format!("VolumeAttachment {name}: {error}"))),
    }
}

pub(super) async fn secrets(
    api: &Api,
    reference: Option<&SecretReference>,
) -> Result<BTreeMap<String, String>, VolumeError> {
    let Some(reference) = reference.filter(|reference| !reference.name.is_empty()) else {
        return Ok(BTreeMap::new());
    };
    let (namespace, name) = (&reference.namespace, &reference.name);
    let failed = |why: String| VolumeError(format!("secret {namespace}/{name}: {why}"));
    let object = api.get(SECRETS, namespace, name).await;
    let object = object.map_err(|error| failed(error.to_string()))?;
    let secret: Secret =
        serde_json::from_slice(&object.bytes).map_err(|error| failed(error.to_string()))?;
    let text = |(key, value): (String, String)| {
        let bytes = STANDARD.decode(value).map_err(|error| failed(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|error| failed(error.to_string()))?;
        Ok((key, text))
    };
    secret.data.into_iter().map(text).collect()
}

/// The access mode in CSI's words; drivers that tell single writers apart are
/// told which.
fn access_mode(modes: &[String], capabilities: &[i32]) -> i32 {
    let has = |mode: &str| modes.iter().any(|own| own == mode);
    let tells = capabilities.contains(&capability::SINGLE_NODE_MULTI_WRITER);
    if has("ReadWriteMany") {
        modes::MULTI_NODE_MULTI_WRITER
    } else if has("ReadWriteOnce") && tells {
        modes::SINGLE_NODE_MULTI_WRITER
    } else if has("ReadWriteOncePod") && tells {
        modes::SINGLE_NODE_SINGLE_WRITER
    } else if has("ReadOnlyMany") && !has("ReadWriteOnce") {
        modes::MULTI_NODE_READER_ONLY
    } else {
        modes::SINGLE_NODE_WRITER
    }
}

/// How the pod gets the volume, in CSI's words.
fn access(pod: &Pod, wanted: &Wanted, capabilities: &[i32]) -> VolumeCapability {
    let gives_group = capabilities.contains(&capability::VOLUME_MOUNT_GROUP);
    let group = fs_group(pod).filter(|_| gives_group);
    VolumeCapability {
        block: wanted.is_block.then_some(Empty {}),
        mount: (!wanted.is_block).then(|| MountVolume {
            fs_type: wanted.fs_type.clone(),
            mount_flags: wanted.mount_flags.clone(),
            volume_mount_group: group.map(|gid| gid.to_string()).unwrap_or_default(),
        }),
        access_mode: Some(AccessMode { mode: access_mode(&wanted.access_modes, capabilities) }),
    }
}

/// Whether the node gives the files to the pod's group.
fn owns_files(driver: &DriverSpec, wanted: &Wanted) -> bool {
    match driver.fs_group_policy.as_str() {
        "None" => false,
        "File" => true,
        _ => {
            let one = wanted.access_modes.iter().any(|mode| mode.starts_with("ReadWriteOnce"));
            !wanted.fs_type.is_empty() && one
        }
    }
}

async fn mount(
    deps: &Deps,
    pod: &Pod,
    wanted: &Wanted,
    socket: &Socket,
    driver: &DriverSpec,
    attachment: Option<BTreeMap<String, String>>,
) -> Result<ReadyVolume, VolumeError> {
    let _turn = deps.volumes.drivers.turn.lock().await;
    let capabilities = socket.capabilities().await?;
    let gives_group = capabilities.contains(&capability::VOLUME_MOUNT_GROUP);
    let access = access(pod, wanted, &capabilities);
    let staging = staging(deps, wanted, &capabilities);
    let stages = !staging.as_os_str().is_empty();
    let target = wanted.dir.join("mount");
    make_dir(&wanted.dir, 0o750)?;
    // Before the first call: what may have been done can be undone.
    let record = Record {
        driver: wanted.driver.clone(),
        handle: wanted.handle.clone(),
        target: target.clone(),
        staging: staging.clone(),
        attached: attachment.is_some(),
    };
    record.write(&wanted.dir)?;
    if record.attached {
        let name = record.unique_name();
        let mut users = deps.volumes.drivers.users();
        users.entry(pod.metadata.uid.clone()).or_default().insert(name);
        drop(users);
        deps.images_changed.notify_one();
    }
    let publish_context = attachment.unwrap_or_default();
    if stages {
        make_dir(&staging, 0o750)?;
        socket
            .stage(&NodeStageVolume {
                volume_id: wanted.handle.clone(),
                publish_context: publish_context.clone(),
                staging_target_path: staging.to_string_lossy().into_owned(),
                volume_capability: Some(access.clone()),
                secrets: wanted.stage_secrets.clone(),
                volume_context: wanted.context.clone(),
            })
            .await
            .map_err(|error| VolumeError(format!("MountVolume.MountDevice failed: {}", error.0)))?;
    }
    let mut context = wanted.context.clone();
    if driver.pod_info_on_mount {
        let account = match pod.spec.service_account_name.as_str() {
            "" => "default",
            name => name,
        };
        for (key, value) in [
            ("csi.storage.k8s.io/pod.name", pod.metadata.name.as_str()),
            ("csi.storage.k8s.io/pod.namespace", &pod.metadata.namespace),
            ("csi.storage.k8s.io/pod.uid", &pod.metadata.uid),
            ("csi.storage.k8s.io/serviceAccount.name", account),
            (
                "csi.storage.k8s.io/ephemeral",
                if wanted.volume.is_empty() { "true" } else { "false" },
            ),
        ] {
            context.insert(key.into(), value.into());
        }
    }
    let published = socket
        .publish(&NodePublishVolume {
            volume_id: wanted.handle.clone(),
            publish_context,
            staging_target_path: staging.to_string_lossy().into_owned(),
            target_path: target.to_string_lossy().into_owned(),
            volume_capability: Some(access),
            readonly: wanted.read_only,
            secrets: wanted.publish_secrets.clone(),
            volume_context: context,
        })
        .await;
    published.map_err(|error| {
        VolumeError(format!("kubernetes.io/csi: mounter.SetUpAt failed to publish: {}", error.0))
    })?;
    if let Some(ownership) = persistent::ownership(pod, wanted.read_only)
        && !wanted.is_block
        && !gives_group
        && owns_files(driver, wanted)
    {
        let at = target.clone();
        blocking(move || tree::own(&at, ownership)).await.map_err(VolumeError)?;
    }
    Ok(ReadyVolume {
        path: target,
        read_only: wanted.read_only,
        is_block: wanted.is_block,
        volume: wanted.volume.clone(),
        plugin: String::new(),
    })
}

/// Where a driver mounts a volume once for all pods of the node; empty for one that
/// does not.
fn staging(deps: &Deps, wanted: &Wanted, capabilities: &[i32]) -> PathBuf {
    if wanted.volume.is_empty() || !capabilities.contains(&capability::STAGE_UNSTAGE_VOLUME) {
        return PathBuf::new();
    }
    let base = plugins(&deps.config.kubelet_dir).join("kubernetes.io/csi");
    match wanted.is_block {
        true => base.join("volumeDevices/staging").join(&wanted.volume),
        false => base.join(&wanted.driver).join(digest(&wanted.handle)).join("globalmount"),
    }
}

/// Unpublishes what a pod's records name, and unstages what no other pod of
/// the node uses.
pub(crate) async fn tear_down(deps: &Deps, uid: &str, pod_dir: &Path) -> Result<(), VolumeError> {
    deps.volumes.drivers.followers.forget(uid);
    let dirs = record::dirs(pod_dir);
    if dirs.is_empty() {
        return Ok(());
    }
    let _turn = deps.volumes.drivers.turn.lock().await;
    for dir in dirs {
        let Some(record) = Record::read(&dir)? else { continue };
        let socket = socket(deps, &record.driver)?;
        socket.unpublish(&record.handle, &record.target).await.map_err(|error| {
            VolumeError(format!("kubernetes.io/csi: Unmounter.TearDownAt failed: {}", error.0))
        })?;
        // What the driver left mounted is not for the node to empty.
        if record.target.exists() && mounts::is_mount_point(&record.target)? {
            return Err(VolumeError(format!("{} is still mounted", record.target.display())));
        }
        let gone = dir.clone();
        blocking(move || tree::remove(&gone)).await.map_err(VolumeError)?;
        let others = record::of_all_pods(&deps.config.kubelet_dir);
        let is_used = others
            .iter()
            .any(|(_, other)| other.driver == record.driver && other.handle == record.handle);
        if !is_used && !record.staging.as_os_str().is_empty() {
            socket.unstage(&record.handle, &record.staging).await.map_err(|error| {
                VolumeError(format!("UnmountVolume.UnmountDevice failed: {}", error.0))
            })?;
            remove_staging(&record.staging)?;
        }
    }
    if deps.volumes.drivers.users().remove(uid).is_some() {
        deps.images_changed.notify_one();
    }
    Ok(())
}

/// The directory that the node made for staging; the driver may have removed it.
fn remove_staging(staging: &Path) -> Result<(), VolumeError> {
    for dir in [Some(staging), staging.parent().filter(|_| staging.ends_with("globalmount"))] {
        let Some(dir) = dir else { continue };
        match fs::remove_dir(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(VolumeError(format!("{}: {error}", dir.display())));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_modes_in_the_drivers_words() {
        let owned = |list: &[&str]| list.iter().map(|m| (*m).to_owned()).collect::<Vec<_>>();
        let tells = [capability::SINGLE_NODE_MULTI_WRITER];
        for (list, capabilities, mode) in [
            (&["ReadWriteOnce"][..], &[][..], modes::SINGLE_NODE_WRITER),
            (&["ReadWriteOnce"], &tells, modes::SINGLE_NODE_MULTI_WRITER),
            (&["ReadWriteOncePod"], &tells, modes::SINGLE_NODE_SINGLE_WRITER),
            (&["ReadWriteOncePod"], &[], modes::SINGLE_NODE_WRITER),
            (&["ReadOnlyMany"], &[], modes::MULTI_NODE_READER_ONLY),
            (&["ReadWriteMany", "ReadWriteOnce"], &[], modes::MULTI_NODE_MULTI_WRITER),
        ] {
            assert_eq!(access_mode(&owned(list), capabilities), mode, "{list:?}");
        }
    }
}

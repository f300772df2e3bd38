//! The container as the runtime is asked for it.

use std::{collections::BTreeMap, path::PathBuf};

use api_types::core::{Container, Pod, VolumeMount};
use node_runtime::spec::{ContainerSpec, Device, Mount, MountSource, Propagation, Security, User};

use super::{ConfigError, env::Environment, expand, qos};
use crate::{device::Grant, images::Image, pod::resize};

/// Labels on what the runtime holds; adoption reads them.
pub(crate) mod label {
    pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
    pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
    pub(crate) const CONTAINER: &str = "io.kubernetes.container.name";
    /// The image as the pod wrote it.
    pub(crate) const IMAGE: &str = "skiff.sh/image";
    /// What the image was found to be.
    pub(crate) const IMAGE_ID: &str = "skiff.sh/image-id";
    /// Signal number that asks the container to end.
    pub(crate) const STOP_SIGNAL: &str = "skiff.sh/stop-signal";
    /// The node's file behind the termination message path.
    pub(crate) const TERMINATION_LOG: &str = "skiff.sh/termination-log";
    /// The pod's addresses, with commas.
    pub(crate) const POD_IPS: &str = "skiff.sh/pod-ips";
    /// The container's resources as the API writes them, as it has them now.
    pub(crate) const RESOURCES: &str = "skiff.sh/resources";
    /// Seconds that the pod's containers have to end.
    pub(crate) const GRACE: &str = "skiff.sh/termination-grace-seconds";
}

/// A volume that is ready to be mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ReadyVolume {
    pub(crate) path: PathBuf,
    /// configMap, secret, downwardAPI and projected volumes are never written.
    pub(crate) read_only: bool,
    /// The path is a device, for `volumeDevices`.
    pub(crate) is_block: bool,
    /// The PersistentVolume that it is; empty where it is none.
    pub(crate) volume: String,
    /// Of what kind it is, as the kubelet names its plugins.
    pub(crate) plugin: String,
}

/// Files that the node makes for every container of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PodFiles {
    pub(crate) hosts: PathBuf,
    pub(crate) hostname: PathBuf,
    pub(crate) resolv_conf: PathBuf,
}

/// All that a container is made of.
pub(crate) struct Inputs<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) container: &'a Container,
    pub(crate) attempt: u32,
    pub(crate) image: &'a Image,
    pub(crate) user: User,
    pub(crate) security: Security,
    /// From [`super::env::variables`].
    pub(crate) env: Vec<(String, String)>,
    pub(crate) volumes: &'a BTreeMap<String, ReadyVolume>,
    pub(crate) files: &'a PodFiles,
    pub(crate) termination_log: PathBuf,
    /// What device plugins gave it.
    pub(crate) granted: Grant,
    /// Bytes of the machine.
    pub(crate) memory_capacity: u64,
    /// The container whose PID namespace it joins.
    pub(crate) pid_of: Option<String>,
}

/// Puts a container together.
pub(crate) fn container_spec(inputs: Inputs<'_>) -> Result<ContainerSpec, ConfigError> {
    let Inputs { pod, container, attempt, image, .. } = inputs;
    let env = &inputs.env;
    let map: BTreeMap<&str, &str> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let expanded = |words: &[String]| -> Vec<String> {
        words.iter().map(|word| expand(word, |name| map.get(name).copied())).collect()
    };
    // A command replaces the image's arguments too, or they would be given to
    // a program they were not meant for.
    let mut args = match container.command.is_empty() {
        true => image.config.entrypoint.clone(),
        false => expanded(&container.command),
    };
    match (container.args.is_empty(), container.command.is_empty()) {
        (false, _) => args.extend(expanded(&container.args)),
        (true, true) => args.extend(image.config.cmd.iter().cloned()),
        (true, false) => {}
    }
    if args.is_empty() {
        return Err(ConfigError::new("no command specified"));
    }
    let mounts = mounts(&inputs, &map)?;
    let mut all = Environment::default();
    for variable in &image.config.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        all.set(name.to_owned(), value.to_owned());
    }
    inputs.granted.env.iter().for_each(|(name, value)| all.set(name.clone(), value.clone()));
    env.iter().for_each(|(name, value)| all.set(name.clone(), value.clone()));

    let stop_signal = container
        .lifecycle
        .stop_signal
        .as_deref()
        .or(image.config.stop_signal.as_deref())
        .and_then(super::security::signal_number);
    let mut labels = BTreeMap::from([
        (label::CONTAINER.into(), container.name.clone()),
        (label::IMAGE.into(), container.image.clone()),
        (label::IMAGE_ID.into(), image.id.clone()),
        (label::RESOURCES.into(), resize::text(&container.resources)),
        (label::TERMINATION_LOG.into(), inputs.termination_log.to_string_lossy().into_owned()),
    ]);
    if let Some(signal) = stop_signal {
        labels.insert(label::STOP_SIGNAL.into(), signal.to_string());
    }
    let cwd = match container.working_dir.as_str() {
        "" => image.config.working_dir.clone(),
        dir => dir.to_owned(),
    };
    Ok(ContainerSpec {
        name: container.name.clone(),
        attempt,
        labels,
        layers: image.layers.clone(),
        args,
        env: all.into_variables(),
        cwd,
        user: inputs.user.clone(),
        mounts,
        security: inputs.security.clone(),
        devices: devices(&inputs)?.into_iter().chain(inputs.granted.devices.clone()).collect(),
        tty: container.tty,
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        resources: qos::container(pod, container),
        oom_score_adj: Some(qos::oom_score_adj(pod, container, inputs.memory_capacity)),
        log_path: None,
        pid_of: inputs.pid_of.clone(),
    })
}

/// Block volumes, each under the name that the container gives it.
fn devices(inputs: &Inputs<'_>) -> Result<Vec<Device>, ConfigError> {
    let devices = inputs.container.volume_devices.iter().map(|device| {
        let volume = inputs.volumes.get(&device.name).filter(|volume| volume.is_block);
        let volume = volume.ok_or_else(|| {
            ConfigError(format!(
                "cannot find volume \"{}\" to pass into container \"{}\"",
                device.name, inputs.container.name
            ))
        })?;
        Ok(Device {
            host_path: volume.path.clone(),
            container_path: device.device_path.clone(),
            access: if volume.read_only { "r" } else { "rwm" }.into(),
        })
    });
    devices.collect()
}

fn mounts(inputs: &Inputs<'_>, env: &BTreeMap<&str, &str>) -> Result<Vec<Mount>, ConfigError> {
    let container = inputs.container;
    let mut mounts = Vec::new();
    for mount in &container.volume_mounts {
        let volume = inputs.volumes.get(&mount.name).ok_or_else(|| {
            ConfigError(format!(
                "cannot find volume \"{}\" to mount into container \"{}\"",
                mount.name, container.name
            ))
        })?;
        let sub_path = match (mount.sub_path.as_str(), mount.sub_path_expr.as_str()) {
            ("", "") => None,
            (path, "") => Some(path.to_owned()),
            (_, expr) => {
                let path = expand(expr, |name| env.get(name).copied());
                if path.contains("$(") {
                    return Err(ConfigError(format!("missing value for \"{expr}\"")));
                }
                Some(path)
            }
        };
        if let Some(path) = &sub_path
            && (path.starts_with('/') || path.split('/').any(|part| part == ".."))
        {
            return Err(ConfigError(format!(
                "subPath \"{path}\" must be a relative path without '..'"
            )));
        }
        let propagation = match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => Propagation::HostToContainer,
            Some("Bidirectional") => Propagation::Bidirectional,
            _ => Propagation::Private,
        };
        let destination = match mount.mount_path.starts_with('/') {
            true => mount.mount_path.clone(),
            false => format!("/{}", mount.mount_path),
        };
        mounts.push(Mount {
            destination,
            source: MountSource::Bind { path: volume.path.clone(), sub_path },
            read_only: mount.read_only || volume.read_only,
            recursive_read_only: is_recursively_read_only(mount),
            propagation,
        });
    }
    for mount in &inputs.granted.mounts {
        if !mounts.iter().any(|own| own.destination == mount.destination) {
            mounts.push(mount.clone());
        }
    }
    // What the pod mounts itself at one of these places is left alone.
    let files = inputs.files;
    let made = [
        ("/etc/hosts", &files.hosts),
        ("/etc/hostname", &files.hostname),
        ("/etc/resolv.conf", &files.resolv_conf),
        (container.termination_message_path.as_str(), &inputs.termination_log),
    ];
    for (destination, path) in made {
        let taken = mounts.iter().any(|m: &Mount| m.destination == destination);
        if taken || destination.is_empty() || path.as_os_str().is_empty() {
            continue;
        }
        mounts.push(Mount {
            destination: destination.to_owned(),
            source: MountSource::Bind { path: path.clone(), sub_path: None },
            read_only: false,
            recursive_read_only: false,
            propagation: Propagation::Private,
        });
    }
    Ok(mounts)
}

/// Whether what is mounted below is read-only too: every kernel that skiff runs on can,
/// so that `IfPossible` is a yes.
pub(crate) fn is_recursively_read_only(mount: &VolumeMount) -> bool {
    mount.read_only
        && matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::ImageConfig;
    use serde_json::{Value, json};

    fn check(container: Value) -> Result<ContainerSpec, ConfigError> {
        let pod: Pod =
            serde_json::from_value(json!({"spec": {"containers": [container]}})).expect("a pod");
        let image = Image {
            config: ImageConfig {
                entrypoint: vec!["/entry".into()],
                cmd: vec!["cmd".into()],
                env: vec!["PATH=/bin".into(), "X=image".into()],
                ..Default::default()
            },
            ..Default::default()
        };
        let volume = ReadyVolume { path: "/vol".into(), read_only: true, ..ReadyVolume::default() };
        container_spec(Inputs {
            pod: &pod,
            container: &pod.spec.containers[0],
            attempt: 0,
            image: &image,
            user: User::default(),
            security: Security::default(),
            env: vec![("X".into(), "pod".into()), ("N".into(), "7".into())],
            volumes: &BTreeMap::from([("v".into(), volume)]),
            files: &PodFiles { hosts: "/f/hosts".into(), ..Default::default() },
            termination_log: "/f/log".into(),
            granted: Grant::default(),
            memory_capacity: 1 << 30,
            pid_of: None,
        })
    }

    #[test]
    fn command_and_arguments() {
        for (container, expected) in [
            (json!({}), vec!["/entry", "cmd"]),
            (json!({"args": ["a$(N)"]}), vec!["/entry", "a7"]),
            (json!({"command": ["/c"]}), vec!["/c"]),
            (json!({"command": ["/c"], "args": ["$$(N)"]}), vec!["/c", "$(N)"]),
        ] {
            assert_eq!(check(container).expect("fine").args, expected);
        }
    }

    #[test]
    fn environment_and_mounts() {
        let spec = check(json!({"terminationMessagePath": "/dev/termination-log",
            "volumeMounts": [{"name": "v", "mountPath": "/data", "subPathExpr": "a$(N)"}]}))
        .expect("fine");
        let env: Vec<String> = spec.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(env, ["PATH=/bin", "X=pod", "N=7"]);
        let mounts: Vec<&str> = spec.mounts.iter().map(|m| m.destination.as_str()).collect();
        assert_eq!(mounts, ["/data", "/etc/hosts", "/dev/termination-log"]);
        assert!(spec.mounts[0].read_only);
        assert_eq!(
            spec.mounts[0].source,
            MountSource::Bind { path: "/vol".into(), sub_path: Some("a7".into()) }
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for mount in [
            json!({"name": "none", "mountPath": "/d"}),
            json!({"name": "v", "mountPath": "/d", "subPath": "../x"}),
            json!({"name": "v", "mountPath": "/d", "subPathExpr": "$(NOPE)"}),
        ] {
            assert!(check(json!({"volumeMounts": [mount]})).is_err());
        }
    }
}

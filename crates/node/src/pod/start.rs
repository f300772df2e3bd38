//! One start of one container: image, configuration, run, hook.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    sync::PoisonError,
    time::Instant,
};

use api_types::core::{ConfigMap, Container, Pod, Secret, Service};
use client::{ListOptions, Reference};
use node_runtime::SandboxId;
use serde::de::DeserializeOwned;

use super::{
    setup,
    stop::{self, Hook},
};
use crate::{
    container::{
        ConfigError,
        env::{self, Sources},
        security,
        spec::{Inputs, container_spec},
    },
    images::{Fetched, Image, ImageError},
    node::Deps,
    probe::check::words,
    pulled::PullSecret,
    resources::{CONFIG_MAPS, SECRETS, SERVICES},
    volume,
};

/// Why a start failed: `state.waiting.reason`, and its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StartFailure {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// The program itself could not be run: this counts as a run that ended.
    pub(crate) exit_code: Option<i32>,
}

impl StartFailure {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), exit_code: None }
    }

    /// Whether what failed was getting the image, whose next wait is called
    /// `ImagePullBackOff`.
    pub(crate) fn is_pull(&self) -> bool {
        self.reason == "ErrImagePull"
    }
}

/// What events are about: the pod, or one of its containers.
pub(crate) fn reference(pod: &Pod, container: Option<&str>) -> Reference {
    let reference = Reference::new("v1", "Pod", &pod.metadata);
    let Some(name) = container else { return reference };
    let named = |list: &[Container]| list.iter().any(|c| c.name == name);
    let list = match &pod.spec {
        spec if named(&spec.init_containers) => "initContainers",
        spec if named(&spec.ephemeral_containers) => "ephemeralContainers",
        _ => "containers",
    };
    reference.field(&format!("spec.{list}{{{name}}}"))
}

/// All steps of a start.
pub(crate) async fn start(
    deps: &Deps,
    pod: &Pod,
    container: &Container,
    sandbox: &SandboxId,
    attempt: u32,
    pod_ips: &[IpAddr],
) -> Result<(), StartFailure> {
    let about = reference(pod, Some(&container.name));
    let policy = container.image_pull_policy.as_str();
    let image = image(deps, pod, &container.image, policy, &about).await?;
    let pid_of = target(deps, pod, container).await?;
    let config = |error: ConfigError| StartFailure::new("CreateContainerConfigError", error.0);
    let dir = volume::pod_dir(&deps.config.kubelet_dir, &pod.metadata.uid);
    let termination_log = dir.join("containers").join(&container.name).join(attempt.to_string());
    make_termination_log(&termination_log)
        .map_err(|e| StartFailure::new("CreateContainerError", e.to_string()))?;

    security::verify_non_root(pod, container, &image.config.user).map_err(config)?;
    let user = security::user_text(pod, container, &image.config.user);
    let user = deps.images.user(&image, &user).await;
    let user = user.map_err(|e| StartFailure::new("CreateContainerError", e.to_string()))?;
    let profiles = deps.config.kubelet_dir.join("seccomp");
    let security = security::security(pod, container, |name| seccomp_profile(&profiles, name))?;
    if security.app_armor.is_some() {
        let path = "/sys/kernel/security/apparmor/profiles";
        let failed =
            |text: String| StartFailure::new("CreateContainerError", format!("{path}: {text}"));
        let loaded = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        security::verify_app_armor(&security, &loaded)
            .map_err(|error| StartFailure::new("CreateContainerError", error.0))?;
    }
    let volumes = volume::ready::all(deps, pod)
        .await
        .map_err(|not_ready| StartFailure::new("CreateContainerError", not_ready.to_string()))?;
    let mut sources = sources(deps, pod, container).await.map_err(config)?;
    for (volume, path) in env::files(container) {
        let ready = volumes.get(volume).ok_or_else(|| {
            let text = format!("cannot find the volume {volume:?} referenced by FileKeyRef");
            StartFailure::new("CreateContainerConfigError", text)
        })?;
        let text = env_file(&ready.path, path)
            .map_err(|error| StartFailure::new("CreateContainerConfigError", error))?;
        sources.files.insert((volume.to_owned(), path.to_owned()), text);
    }
    let granted = deps.devices.ready(&pod.metadata.uid, &container.name).await;
    let granted = granted.map_err(|e| StartFailure::new("CreateContainerConfigError", e))?;
    let around = setup::surroundings(deps, pod_ips);
    let env = env::variables(pod, container, &around, &sources).map_err(config)?;
    let spec = container_spec(Inputs {
        pod,
        container,
        attempt,
        image: &image,
        user: security::user(pod, container, user).map_err(config)?,
        security,
        env,
        volumes: &volumes,
        files: &setup::files(deps, pod),
        termination_log,
        granted,
        memory_capacity: deps.machine.memory_bytes,
        pid_of,
    })
    .map_err(config)?;
    make_sub_paths(&spec).map_err(|e| StartFailure::new("CreateContainerConfigError", e))?;

    let started = match deps.runtime.start_container(sandbox, spec).await {
        Ok(started) => started,
        Err(error) => {
            let exit_code = error.exit_code();
            let message = match exit_code {
                Some(_) => format!("failed to start container \"{}\": {error}", container.name),
                None => error.to_string(),
            };
            let reason =
                if exit_code.is_some() { "RunContainerError" } else { "CreateContainerError" };
            return Err(StartFailure { reason, message, exit_code });
        }
    };
    deps.recorder.normal(&about, "Created", "Container created");
    deps.recorder.normal(&about, "Started", "Container started");
    for warning in started.warnings {
        // What the machine lacks it lacks for every container: said once.
        let mut warned = deps.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if !warned.contains(&warning) {
            tracing::warn!(warning, "containers start with less on this machine");
            warned.insert(warning);
        }
    }
    link_log(deps, pod, container, started.id.as_str(), &started.log_path);
    if let Some(handler) = &container.lifecycle.post_start {
        let hook = Hook { deps, container, id: &started.id, pod_ips };
        if let Err(error) = stop::run_hook(&hook, handler).await {
            let message = format!("PostStartHook failed: {error}");
            // What the hook said may be secret; events are read by more than the status is.
            deps.recorder.warning(&about, "FailedPostStartHook", "PostStartHook failed");
            return Err(StartFailure::new("PostStartHookError", message));
        }
    }
    Ok(())
}

/// A profile of the node's operator, in containerd's words where there is none.
fn seccomp_profile(dir: &Path, name: &str) -> Result<String, StartFailure> {
    let failed = |text| StartFailure::new("CreateContainerError", text);
    let path = dir.join(name);
    let inside = !Path::new(name).components().any(|c| c.as_os_str() == "..");
    if !inside || name.starts_with('/') {
        return Err(failed(format!("seccomp profile {name} must be a relative path")));
    }
    fs::read_to_string(&path).map_err(|error| {
        let path = path.display();
        let why = words(&error);
        failed(format!("cannot load seccomp profile \"{path}\": open {path}: {why}"))
    })
}

/// The running container whose processes an ephemeral one wants to see.
async fn target(
    deps: &Deps,
    pod: &Pod,
    container: &Container,
) -> Result<Option<String>, StartFailure> {
    let name = container.target_container_name.as_str();
    if name.is_empty() {
        return Ok(None);
    }
    let failed = |text: String| StartFailure::new("CreateContainerConfigError", text);
    let sandboxes = setup::of_pod(deps, &pod.metadata.uid).await;
    let sandboxes = sandboxes.map_err(|error| failed(error.to_string()))?;
    let running = sandboxes.iter().flat_map(|sandbox| &sandbox.containers).find(|c| {
        c.spec.name == name && matches!(c.state, node_runtime::ContainerState::Running { .. })
    });
    match running {
        Some(found) => Ok(Some(found.id.to_string())),
        None => Err(failed(format!("unable to find target container {name}"))),
    }
}

/// The image of a volume.
pub(crate) async fn image_of(
    deps: &Deps,
    pod: &Pod,
    name: &str,
    pull_policy: &str,
) -> Result<Image, StartFailure> {
    image(deps, pod, name, pull_policy, &reference(pod, None)).await
}

/// The image by the pull policy.
async fn image(
    deps: &Deps,
    pod: &Pod,
    name: &str,
    pull_policy: &str,
    about: &Reference,
) -> Result<Image, StartFailure> {
    let failed = |error: ImageError| match error {
        ImageError::InvalidName { .. } => {
            let message = format!("Failed to apply default image tag \"{name}\": {error}");
            deps.recorder.warning(about, "InspectFailed", &message);
            StartFailure::new("InvalidImageName", message)
        }
        ImageError::Failed(_) => StartFailure::new("ErrImagePull", error.to_string()),
    };
    let found = deps.images.find(name).await.map_err(failed)?;
    let found = found.filter(|_| pull_policy != "Always");
    let is_free = found.as_ref().is_some_and(|found| deps.pulled.is_everybodys(name, &found.id));
    let (secrets, configs) = match is_free || pull_policy == "Never" && found.is_none() {
        true => Default::default(),
        false => pull_secrets(deps, pod, about).await,
    };
    if let Some(image) = found.filter(|found| deps.pulled.lets_in(name, &found.id, &secrets)) {
        let message = format!(
            "Container image \"{name}\" already present on machine and can be accessed by the pod"
        );
        deps.recorder.normal(about, "Pulled", message);
        return Ok(image);
    }
    if pull_policy == "Never" {
        let message =
            format!("Container image \"{name}\" is not present with pull policy of Never");
        deps.recorder.warning(about, "ErrImageNeverPull", &message);
        return Err(StartFailure::new("ErrImageNeverPull", message));
    }
    deps.recorder.normal(about, "Pulling", format!("Pulling image \"{name}\""));
    let waits = Instant::now();
    let turn = deps.pulled.turn().await;
    let begun = Instant::now();
    let pulled = match deps.pulled.begin(name) {
        Ok(()) => deps.counts.call("pull_image", deps.images.pull(name, &configs)).await,
        Err(error) => Err(ImageError::Failed(format!(
            "failed to record image pull intent for container image \"{name}\": {error}"
        ))),
    };
    drop(turn);
    match pulled {
        Ok(Fetched { image, by }) => {
            deps.pulled.done(name, &image.id, by.and_then(|by| secrets.get(by)));
            deps.counts.pulled(image.size_bytes, begun.elapsed());
            let (took, in_all) = (go_seconds(begun.elapsed()), go_seconds(waits.elapsed()));
            let message = format!(
                "Successfully pulled image \"{name}\" in {took} ({in_all} including waiting). Image size: {} bytes.",
                image.size_bytes
            );
            deps.recorder.normal(about, "Pulled", message);
            deps.images_changed.notify_one();
            Ok(image)
        }
        Err(error) => {
            deps.pulled.failed(name);
            let message = format!("Failed to pull image \"{name}\": {error}");
            deps.recorder.warning(about, "Failed", message);
            deps.recorder.warning(about, "Failed", "Error: ErrImagePull");
            Err(failed(error))
        }
    }
}

/// `1.234s` or `56ms`, as Go rounds to milliseconds.
fn go_seconds(took: std::time::Duration) -> String {
    match took.as_millis() {
        ms if ms < 1000 => format!("{ms}ms"),
        ms => {
            let text = format!("{}.{:03}", ms / 1000, ms % 1000);
            format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
        }
    }
}

/// The Secrets that a pod names for its pulls, and what those hold that can be used, in
/// the same order; behind them those that the API could not be asked for.
async fn pull_secrets(
    deps: &Deps,
    pod: &Pod,
    about: &Reference,
) -> (Vec<PullSecret>, Vec<Vec<u8>>) {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let namespace = &pod.metadata.namespace;
    let (mut secrets, mut unread, mut configs) = (Vec::new(), Vec::new(), Vec::new());
    for secret in &pod.spec.image_pull_secrets {
        let name = &secret.name;
        let found: Result<Option<Secret>, _> = get(deps, SECRETS, namespace, name).await;
        if found.is_err() {
            unread.push(PullSecret::unread(namespace, name));
        }
        let config = found.ok().flatten().and_then(|secret| {
            let config = STANDARD.decode(secret.data.get(".dockerconfigjson")?).ok()?;
            Some((secret.metadata.uid, config))
        });
        match config {
            Some((uid, config)) => {
                secrets.push(PullSecret::new(&uid, namespace, name, &config));
                configs.push(config);
            }
            None => {
                let message = format!(
                    "Unable to retrieve some image pull secrets ({name}); attempting to pull the image may not succeed.",
                );
                deps.recorder.warning(about, "FailedToRetrieveImagePullSecret", message);
            }
        }
    }
    secrets.append(&mut unread);
    (secrets, configs)
}

/// What the container's environment refers to.
async fn sources(deps: &Deps, pod: &Pod, container: &Container) -> Result<Sources, ConfigError> {
    let mut sources = Sources::default();
    let namespace = &pod.metadata.namespace;
    let (config_maps, secrets) = env::references(container);
    for name in config_maps {
        let map: Option<ConfigMap> = get(deps, CONFIG_MAPS, namespace, name).await?;
        sources.config_maps.insert(name.to_owned(), map);
    }
    for name in secrets {
        let secret: Option<Secret> = get(deps, SECRETS, namespace, name).await?;
        sources.secrets.insert(name.to_owned(), secret);
    }
    // The API server's own address is always told.
    let kubernetes: Option<Service> = get(deps, SERVICES, "default", "kubernetes").await?;
    sources.services.extend(kubernetes);
    if pod.spec.enable_service_links != Some(false) {
        let options = ListOptions { resource_version: "0".into(), ..ListOptions::default() };
        let list = deps.api.list(SERVICES, namespace, &options).await;
        let list = list.map_err(|error| ConfigError(format!("services: {error}")))?;
        for item in list.items {
            let service: Service = serde_json::from_slice(&item)
                .map_err(|error| ConfigError(format!("services: {error}")))?;
            if !(namespace == "default" && service.metadata.name == "kubernetes") {
                sources.services.push(service);
            }
        }
    }
    Ok(sources)
}

pub(super) async fn get<T: DeserializeOwned>(
    deps: &Deps,
    resource: client::Resource,
    namespace: &str,
    name: &str,
) -> Result<Option<T>, ConfigError> {
    match deps.api.get(resource, namespace, name).await {
        Ok(object) => serde_json::from_slice(&object.bytes)
            .map(Some)
            .map_err(|error| ConfigError(format!("{} {name}: {error}", resource.plural))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(ConfigError(format!("{} {name}: {error}", resource.plural))),
    }
}

/// The file behind the termination message path, which any user may write.
fn make_termination_log(path: &Path) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, "")?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
}

/// Most of a file of variables that is read, bytes.
const ENV_FILE_MAX: u64 = 64 * 1024;

/// A file of a volume, which a container wrote: no link of it leads elsewhere.
fn env_file(volume: &Path, path: &str) -> Result<Option<String>, String> {
    use rustix::{
        fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2},
        io::Errno,
    };
    let failed = |error: Errno| format!("couldn't parse env file {path}: {error}");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(CWD, volume, flags, Mode::empty()).map_err(failed)?;
    // A pipe in its place would be waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = match openat2(&dir, path, flags, Mode::empty(), inside) {
        Err(Errno::NOENT) => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mode = fstat(&file).map_err(failed)?.st_mode;
    if FileType::from_raw_mode(mode) != FileType::RegularFile {
        return Err(format!("couldn't parse env file {path}: not a regular file"));
    }
    let mut text = String::new();
    std::io::Read::read_to_string(
        &mut std::io::Read::take(fs::File::from(file), ENV_FILE_MAX),
        &mut text,
    )
    .map_err(|error| format!("couldn't parse env file {path}: {error}"))?;
    Ok(Some(text))
}

/// Makes the directories that `subPath`s name and that are not there yet, with
/// the volume's mode: whoever may write the volume may write them, by `fsGroup`
/// too. The way is walked by descriptor, so that links a container left lead
/// nowhere.
fn make_sub_paths(spec: &node_runtime::ContainerSpec) -> Result<(), String> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fchmod, fstat, mkdirat, openat, openat2};
    for mount in &spec.mounts {
        let node_runtime::spec::MountSource::Bind { path, sub_path: Some(sub) } = &mount.source
        else {
            continue;
        };
        let failed = |error: rustix::io::Errno| {
            format!("failed to prepare subPath for volumeMount \"{}\": {error}", mount.destination)
        };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let mut dir =
            openat(CWD, path, flags | OFlags::DIRECTORY, Mode::empty()).map_err(failed)?;
        let mode = Mode::from_raw_mode(fstat(&dir).map_err(failed)?.st_mode);
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        if openat2(&dir, sub, flags, Mode::empty(), inside).is_ok() {
            continue;
        }
        for part in sub.split('/').filter(|part| !part.is_empty() && *part != ".") {
            let made = match mkdirat(&dir, part, Mode::from(0o755)) {
                Ok(()) => true,
                Err(rustix::io::Errno::EXIST) => false,
                Err(error) => return Err(failed(error)),
            };
            // A mode cannot be set through a descriptor that is only a path.
            let flags = if made { OFlags::CLOEXEC } else { flags } | OFlags::DIRECTORY;
            dir = openat2(&dir, part, flags, Mode::empty(), inside).map_err(failed)?;
            if made {
                fchmod(&dir, mode).map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// `/var/log/containers/<pod>_<namespace>_<container>-<id>.log`, which log
/// collectors read.
fn link_log(deps: &Deps, pod: &Pod, container: &Container, id: &str, log: &Path) {
    let dir = deps.config.log_dir.join("containers");
    let meta = &pod.metadata;
    let name = format!("{}_{}_{}-{id}.log", meta.name, meta.namespace, container.name);
    let made = fs::create_dir_all(&dir).and_then(|()| symlink(log, dir.join(name)));
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            tracing::warn!(pod = meta.name, container = container.name, %error, "no log link");
        }
        _ => {}
    }
}

//! The start steps of a pod before its first container: directories, volumes,
//! sandbox, network, files. Each looks first, so all may be repeated.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use api_types::core::Pod;
use netlink::pod_link::{self, PodLink};
use node_runtime::{
    Sandbox, SandboxSpec, SandboxState,
    spec::{Namespace, Resources},
};
use serde::Deserialize;

use crate::{
    container::{
        fields::Surroundings,
        qos,
        spec::{PodFiles, label},
    },
    network::files::{Resolver, hosts, kernel_name, resolv_conf},
    node::Deps,
    pod::{host_ports, start},
    resources::RUNTIME_CLASSES,
    volume::{
        self, VolumeError,
        refresh::{self, Holdings},
    },
};

/// The handler that a RuntimeClass names to get this node's own runtime.
pub(crate) const RUNTIME_HANDLER: &str = "skiff";

/// What comes with a pod or its namespace may be a moment behind it: a ConfigMap that was
/// applied after it, the cluster's CA. Sooner it is no failure.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why a step failed, as the pod's event says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SetupError {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

fn sandbox_error(error: impl std::fmt::Display) -> SetupError {
    SetupError {
        reason: "FailedCreatePodSandBox",
        message: format!("Failed to create pod sandbox: {error}"),
    }
}

/// All steps; answers with the pod's addresses.
pub(crate) async fn setup(
    deps: &Deps,
    pod: &Pod,
    attempt: u32,
    holdings: &mut Holdings,
) -> Result<Vec<IpAddr>, SetupError> {
    claims_of_devices(pod)?;
    volumes(deps, pod, holdings).await?;
    let sandboxes = of_pod(deps, &pod.metadata.uid).await.map_err(sandbox_error)?;
    let ready =
        sandboxes.iter().find(|s| s.state == SandboxState::Ready && s.spec.attempt == attempt);
    let (sandbox, ips) = match ready {
        Some(sandbox) => (sandbox.clone(), ips_of(sandbox)),
        None => new_sandbox(deps, pod, attempt, &sandboxes).await?,
    };
    let ips = if pod.spec.host_network { deps.config.ips.get() } else { ips };
    if let Some(netns_path) = sandbox.netns_path.clone().filter(|_| !pod.spec.host_network) {
        let link = PodLink {
            netns_path,
            host_ifname: pod_link::host_ifname(&pod.metadata.uid),
            pod_ifname: "eth0".into(),
            addresses: ips.clone(),
            mtu: deps.config.pod_mtu.get(),
            from_loopback: !host_ports::ports(pod).is_empty(),
        };
        blocking(move || pod_link::ensure(&link)).await.map_err(|error| {
            sandbox_error(format!("failed to set up network for sandbox {}: {error}", sandbox.id))
        })?;
    }
    write_files(deps, pod, &ips).map_err(|error| sandbox_error(error.0))?;
    Ok(ips)
}

/// No driver of claimed devices (DRA) is spoken to here, and a pod that wants one must
/// not run without; it waits, and says for what.
fn claims_of_devices(pod: &Pod) -> Result<(), SetupError> {
    let Some(claim) = pod.spec.resource_claims.first() else { return Ok(()) };
    Err(SetupError {
        reason: "FailedPrepareDynamicResources",
        message: format!(
            "Failed to prepare dynamic resources: this node prepares no devices of resource \
             claims, and the pod has \"{}\"; take spec.resourceClaims away, or use a device \
             plugin",
            claim.name
        ),
    })
}

/// The pod's sandboxes that the runtime knows.
pub(crate) async fn of_pod(deps: &Deps, uid: &str) -> Result<Vec<Sandbox>, node_runtime::Error> {
    let all = deps.runtime.list().await?;
    Ok(all.into_iter().filter(|sandbox| sandbox.spec.pod_uid == uid).collect())
}

/// The addresses that a sandbox was made with.
pub(crate) fn ips_of(sandbox: &Sandbox) -> Vec<IpAddr> {
    let text = sandbox.spec.labels.get(label::POD_IPS).map_or("", String::as_str);
    text.split(',').filter_map(|ip| ip.parse().ok()).collect()
}

/// Runs something that waits for the kernel or the disk.
pub(crate) async fn blocking<T, E>(
    f: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, String>
where
    T: Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    match tokio::task::spawn_blocking(f).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Makes and fills the pod's volumes.
async fn volumes(deps: &Deps, pod: &Pod, holdings: &mut Holdings) -> Result<(), SetupError> {
    let failed = |name: &str, error: &VolumeError| SetupError {
        reason: "FailedMount",
        message: format!("MountVolume.SetUp failed for volume \"{name}\" : {error}"),
    };
    let dir = volume::pod_dir(&deps.config.kubelet_dir, &pod.metadata.uid);
    for sub in ["volumes", "containers"] {
        let path = dir.join(sub);
        fs::create_dir_all(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o750)))
            .map_err(|error| SetupError {
                reason: "Failed",
                message: format!("error making pod data directories: {}: {error}", path.display()),
            })?;
    }
    volume::ready::all(deps, pod).await.map_err(|not_ready| not_ready.event())?;
    let around = surroundings(deps, &[]);
    let sources = refresh::Sources {
        api: &deps.api,
        objects: &deps.objects,
        ambient: &deps.ambient,
        around: &around,
        pod_dir: &dir,
        patience: PATIENCE,
    };
    refresh::fill(&sources, pod, holdings).await.map_err(|(name, error)| failed(&name, &error))
}

/// What the downward API can tell on this node.
pub(crate) fn surroundings(deps: &Deps, pod_ips: &[IpAddr]) -> Surroundings {
    Surroundings {
        node_name: deps.config.name.clone(),
        host_ips: deps.config.ips.get(),
        pod_ips: pod_ips.to_vec(),
        allocatable_cpu_millis: deps.machine.allocatable_cpu_millis(),
        allocatable_memory: i64::try_from(deps.machine.allocatable_memory()).unwrap_or(i64::MAX),
        allocatable_storage: i64::try_from(deps.machine.allocatable_storage()).unwrap_or(i64::MAX),
    }
}

/// Those that the pod's status tells.
fn addresses_before(pod: &Pod) -> Vec<IpAddr> {
    pod.status.pod_ips.iter().filter_map(|told| told.ip.parse().ok()).collect()
}

async fn new_sandbox(
    deps: &Deps,
    pod: &Pod,
    attempt: u32,
    old: &[Sandbox],
) -> Result<(Sandbox, Vec<IpAddr>), SetupError> {
    let uid = &pod.metadata.uid;
    let hostname = kernel_name(pod, &deps.config.cluster_domain).map_err(sandbox_error)?;
    runtime_class(deps, pod).await?;
    // What is left of earlier sandboxes: their link carries the same name, and
    // only the newest one's exits are still asked for.
    for (i, sandbox) in old.iter().enumerate() {
        deps.runtime.stop_sandbox(&sandbox.id).await.map_err(sandbox_error)?;
        if i + 1 < old.len() {
            deps.runtime.remove_sandbox(&sandbox.id).await.map_err(sandbox_error)?;
        }
    }
    if !old.is_empty() && !pod.spec.host_network {
        let name = pod_link::host_ifname(uid);
        blocking(move || pod_link::remove(&name)).await.map_err(sandbox_error)?;
    }
    let ips = match pod.spec.host_network {
        true => Vec::new(),
        false => deps.addresses.allocate(uid, &addresses_before(pod)).map_err(sandbox_error)?,
    };
    let mut spec = sandbox_spec(deps, pod, attempt, hostname, &ips);
    if pod.spec.host_users == Some(false) {
        spec.ids = Some(deps.users.allocate(uid).map_err(sandbox_error)?);
    }
    let sandbox = deps.runtime.run_sandbox(spec).await.map_err(sandbox_error)?;
    Ok((sandbox, ips))
}

/// Refuses a pod whose RuntimeClass asks for another runtime than this one.
async fn runtime_class(deps: &Deps, pod: &Pod) -> Result<(), SetupError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct RuntimeClass {
        handler: String,
    }
    let name = pod.spec.runtime_class_name.as_str();
    if name.is_empty() {
        return Ok(());
    }
    let failed = |error: String| sandbox_error(format!("failed to get runtime handler: {error}"));
    let class = start::get::<RuntimeClass>(deps, RUNTIME_CLASSES, "", name).await;
    match class.map_err(|error| failed(error.0))? {
        Some(class) if class.handler == RUNTIME_HANDLER => Ok(()),
        Some(class) => Err(sandbox_error(format!(
            "failed to get sandbox runtime: no runtime for \"{}\" is configured",
            class.handler
        ))),
        None => Err(failed(format!("runtimeclass.node.k8s.io \"{name}\" not found"))),
    }
}

fn sandbox_spec(
    deps: &Deps,
    pod: &Pod,
    attempt: u32,
    hostname: String,
    ips: &[IpAddr],
) -> SandboxSpec {
    let meta = &pod.metadata;
    let own = |is_host: bool| if is_host { Namespace::Host } else { Namespace::Own };
    let text: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
    let grace = pod.spec.termination_grace_period_seconds.unwrap_or(30);
    let labels = BTreeMap::from([
        (label::POD_NAME.into(), meta.name.clone()),
        (label::POD_NAMESPACE.into(), meta.namespace.clone()),
        (label::POD_UID.into(), meta.uid.clone()),
        (label::POD_IPS.into(), text.join(",")),
        (label::GRACE.into(), grace.to_string()),
    ]);
    let sysctls = pod.spec.security_context.sysctls.iter();
    let resources: Resources = qos::pod(pod, deps.config.pod_pids_max);
    SandboxSpec {
        pod_uid: meta.uid.clone(),
        pod_name: meta.name.clone(),
        pod_namespace: meta.namespace.clone(),
        attempt,
        hostname,
        network: own(pod.spec.host_network),
        ipc: own(pod.spec.host_ipc),
        pid: own(pod.spec.host_pid),
        share_pid: pod.spec.share_process_namespace,
        cgroup_parent: qos::class(pod).cgroup_parent().into(),
        labels,
        log_dir: log_dir(&deps.config.log_dir, pod),
        sysctls: sysctls.map(|s| (s.name.clone(), s.value.clone())).collect(),
        resources,
        ids: None,
    }
}

/// `/var/log/pods/<namespace>_<name>_<uid>`.
pub(crate) fn log_dir(root: &Path, pod: &Pod) -> PathBuf {
    let meta = &pod.metadata;
    root.join("pods").join(format!("{}_{}_{}", meta.namespace, meta.name, meta.uid))
}

/// Where the pod's own `/etc` files are.
pub(crate) fn files(deps: &Deps, pod: &Pod) -> PodFiles {
    let dir = volume::pod_dir(&deps.config.kubelet_dir, &pod.metadata.uid);
    PodFiles {
        hosts: dir.join("etc-hosts"),
        hostname: if pod.spec.host_network { PathBuf::new() } else { dir.join("etc-hostname") },
        resolv_conf: dir.join("etc-resolv.conf"),
    }
}

fn write_files(deps: &Deps, pod: &Pod, ips: &[IpAddr]) -> Result<(), VolumeError> {
    let files = files(deps, pod);
    let node_hosts = match pod.spec.host_network {
        true => match fs::read_to_string("/etc/hosts") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(VolumeError::io("/etc/hosts"))?,
        },
        false => String::new(),
    };
    let path = (deps.config.resolv_conf)();
    let node = match fs::read_to_string(&path) {
        Ok(text) => Resolver::parse(&text),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "no resolver of the node");
            Resolver::default()
        }
    };
    let config = &deps.config;
    let hosts = hosts(pod, ips, &config.cluster_domain, &node_hosts);
    let resolv = resolv_conf(pod, &node, &config.cluster_dns, &config.cluster_domain);
    let name = kernel_name(pod, &config.cluster_domain).map_err(VolumeError)?;
    let name = format!("{name}\n");
    for (path, text) in [(files.hosts, hosts), (files.resolv_conf, resolv), (files.hostname, name)]
    {
        // An unchanged file stays, so that nothing is written at adoption and
        // what a container mounted is never swapped under it.
        let is_there = fs::read_to_string(&path).is_ok_and(|old| old == text);
        if !is_there && !path.as_os_str().is_empty() {
            fs::write(&path, text)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o644)))
                .map_err(VolumeError::io(path.display()))?;
        }
    }
    Ok(())
}

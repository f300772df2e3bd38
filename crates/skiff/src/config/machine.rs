//! What a machine runs with, whichever its role: its node's name, labels, limits and
//! folders.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use super::{absolute, all, ip, parsed};
use crate::flags::{UsageError, Values};

/// Where the machine's own data directory is; other directories belong to
/// further servers on the machine, which keep everything below theirs.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/skiff";

/// What a machine runs with, whichever its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// All state.
    pub data_dir: PathBuf,
    /// 0 information, 2 debug, 4 trace.
    pub verbosity: u8,
    /// This node's name.
    pub node_name: String,
    /// This node's addresses; empty for that of the default route.
    pub node_ips: Vec<IpAddr>,
    /// Where this node answers as a kubelet does; nowhere where `None`.
    pub kubelet_port: Option<u16>,
    /// Key and value.
    pub node_labels: Vec<(String, String)>,
    /// Key, value and effect.
    pub node_taints: Vec<(String, String, String)>,
    /// The directory of static pods, where given.
    pub static_pods: Option<PathBuf>,
    /// Sysctls that pods may set beyond the safe ones.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// The registries file, which need not be there.
    pub registries: PathBuf,
    /// The file of credential plugins and the folder of their programs.
    pub credential_plugins: Option<(PathBuf, PathBuf)>,
    /// When pods are evicted and images collected.
    pub eviction: ::node::Eviction,
    /// Pods together are kept to what they may request.
    pub enforce_allocatable: bool,
    /// Which containers that have ended are kept.
    pub dead_containers: ::node::DeadContainers,
    /// How long pods may take to end when the machine shuts down.
    pub shutdown: Vec<::node::ShutdownGrace>,
    /// What is kept back from pods, where something is said.
    pub reserved: Option<::node::Reserved>,
}

impl Machine {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the flag and what it should look like.
    pub fn new(values: &Values, host_name: &str) -> Result<Self, UsageError> {
        let one = |name: &str| values.one(name).unwrap_or_default().to_owned();
        let node_name = match one("node-name") {
            name if name.is_empty() => host_name.to_lowercase(),
            name => name,
        };
        if let Some(fault) = api_object::name::dns1123_subdomain(&node_name).first() {
            return Err(UsageError(format!("--node-name: \"{node_name}\": {fault}")));
        }
        Ok(Self {
            data_dir: absolute(&one("data-dir"))?,
            verbosity: parsed(values, "v", "a number from 0 to 10", |text| text.parse().ok())?,
            node_name,
            node_ips: all(values, "node-ip", "an address such as 192.168.1.10", ip)?,
            kubelet_port: parsed(values, "kubelet-port", "a port such as 10250, or 0", |text| {
                text.parse().ok().map(|port: u16| (port != 0).then_some(port))
            })?,
            node_labels: all(values, "node-label", "key=value, both valid labels", node_label)?,
            node_taints: all(
                values,
                "node-taint",
                "key=value:effect with NoSchedule, PreferNoSchedule or NoExecute",
                node_taint,
            )?,
            static_pods: values.one("pod-manifest-path").map(absolute).transpose()?,
            allowed_unsafe_sysctls: (values.many("allowed-unsafe-sysctls").into_iter())
                .map(str::to_owned)
                .collect(),
            registries: absolute(&one("private-registry"))?,
            credential_plugins: credential_plugins(values)?,
            eviction: eviction(values)?,
            enforce_allocatable: enforce_allocatable(&one("enforce-node-allocatable"))?,
            dead_containers: ::node::DeadContainers::read(one).map_err(UsageError)?,
            shutdown: ::node::ShutdownGrace::read(|flag| {
                values.many(flag).into_iter().map(str::to_owned).collect()
            })
            .map_err(UsageError)?,
            reserved: reserved(values)?,
        })
    }

    /// See [`kubelet_dir`].
    pub fn kubelet_dir(&self) -> PathBuf {
        kubelet_dir(&self.data_dir)
    }

    /// `/var/log`, by the rule of [`kubelet_dir`].
    pub fn log_dir(&self) -> PathBuf {
        upstream_path(&self.data_dir, "/var/log", "log")
    }

    /// A short name for what this machine's node makes (cgroups, links), so that
    /// those of different data directories do not meet.
    pub fn instance(&self) -> String {
        instance(&self.data_dir)
    }
}

/// `/var/lib/kubelet`, or below the data directory where that is not the
/// machine's own.
pub fn kubelet_dir(data_dir: &Path) -> PathBuf {
    upstream_path(data_dir, "/var/lib/kubelet", "kubelet")
}

fn upstream_path(data_dir: &Path, upstream: &str, below: &str) -> PathBuf {
    match data_dir == Path::new(DEFAULT_DATA_DIR) {
        true => PathBuf::from(upstream),
        false => data_dir.join(below),
    }
}

/// See [`Machine::instance`].
pub fn instance(data_dir: &Path) -> String {
    match data_dir == Path::new(DEFAULT_DATA_DIR) {
        true => "skiff".to_owned(),
        false => format!("skiff-{:08x}", crc32fast::hash(data_dir.as_os_str().as_encoded_bytes())),
    }
}

fn node_label(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=')?;
    let valid = api_object::name::qualified_name(key).is_empty()
        && api_object::name::label_value(value).is_empty();
    valid.then(|| (key.to_owned(), value.to_owned()))
}

fn node_taint(text: &str) -> Option<(String, String, String)> {
    let (pair, effect) = text.rsplit_once(':')?;
    let (key, value) =
        node_label(if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") }.as_str())?;
    ["NoSchedule", "PreferNoSchedule", "NoExecute"]
        .contains(&effect)
        .then(|| (key, value, effect.to_owned()))
}

/// The kubelet's flags; an empty list is one.
fn eviction(values: &Values) -> Result<::node::Eviction, UsageError> {
    let read = ::node::Eviction::read(|flag| {
        let many: Vec<String> = values.many(flag).into_iter().map(str::to_owned).collect();
        match many.is_empty() && values.is_given(flag) {
            true => vec![String::new()],
            false => many,
        }
    });
    read.map_err(UsageError)
}

/// The kubelet's words, as far as there are cgroups for them.
fn enforce_allocatable(text: &str) -> Result<bool, UsageError> {
    match text {
        "pods" => Ok(true),
        "none" | "" => Ok(false),
        other => Err(UsageError(format!(
            "--enforce-node-allocatable: {other:?} is neither pods nor none; the system's own cgroups are not skiff's to limit"
        ))),
    }
}

/// Both or neither, as of a kubelet.
fn credential_plugins(values: &Values) -> Result<Option<(PathBuf, PathBuf)>, UsageError> {
    const FLAGS: [&str; 2] =
        ["image-credential-provider-config", "image-credential-provider-bin-dir"];
    let path = |flag: &str| match values.one(flag) {
        None | Some("") => Ok(None),
        Some(path) => absolute(path).map(Some),
    };
    match (path(FLAGS[0])?, path(FLAGS[1])?) {
        (Some(file), Some(programs)) => Ok(Some((file, programs))),
        (None, None) => Ok(None),
        (file, _) => {
            let (given, missing) = if file.is_some() { (0, 1) } else { (1, 0) };
            Err(UsageError(format!("--{} needs --{} too", FLAGS[given], FLAGS[missing])))
        }
    }
}

/// The sum of `--kube-reserved` and `--system-reserved`.
fn reserved(values: &Values) -> Result<Option<::node::Reserved>, UsageError> {
    let mut sum = None;
    for flag in ["kube-reserved", "system-reserved"] {
        for pair in values.many(flag) {
            let wrong = || {
                UsageError(format!(
                    "--{flag}: {pair:?} is not cpu, memory or ephemeral-storage with an amount, such as memory=256Mi"
                ))
            };
            let (name, amount) = pair.split_once('=').ok_or_else(wrong)?;
            let amount = api_object::Quantity::parse(amount).map_err(|_| wrong())?;
            let bytes = u64::try_from(amount.units()).map_err(|_| wrong())?;
            let none = ::node::Reserved { cpu_millis: 0, memory_bytes: 0, storage_bytes: 0 };
            let sum = sum.get_or_insert(none);
            match name {
                "cpu" => sum.cpu_millis += amount.millis(),
                "memory" => sum.memory_bytes += bytes,
                "ephemeral-storage" => sum.storage_bytes += bytes,
                _ => return Err(wrong()),
            }
        }
    }
    Ok(sum)
}

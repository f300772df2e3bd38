//! What the caller asks for. All of it is persisted for adoption, so fields may
//! be added (with a serde default) but never change their meaning.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

/// A pod's surroundings, made once and shared by its containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Names the pod's cgroup: `<prefix>/<cgroup_parent>/pod<pod_uid>`.
    pub pod_uid: String,
    /// For log paths and messages.
    pub pod_name: String,
    /// For log paths and messages.
    pub pod_namespace: String,
    /// How many sandboxes this pod had before.
    #[serde(default)]
    pub attempt: u32,
    /// At most 63 characters; ignored where the pod uses the host's network.
    pub hostname: String,
    /// The pod's own network namespace or the node's.
    pub network: Namespace,
    /// The pod's own IPC namespace and `/dev/shm` or the node's.
    #[serde(default)]
    pub ipc: Namespace,
    /// Each container its own PID namespace or the node's.
    #[serde(default)]
    pub pid: Namespace,
    /// One PID namespace for all containers, with a first process that reaps.
    #[serde(default)]
    pub share_pid: bool,
    /// The parent below the runtime's cgroup prefix, without a leading slash,
    /// such as `pods/burstable`. Made when missing.
    pub cgroup_parent: String,
    /// Opaque to the runtime, handed back by `list` after adoption.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Directory of the pod's logs, such as
    /// `/var/log/pods/<namespace>_<name>_<uid>`; made when missing.
    pub log_dir: PathBuf,
    /// Namespaced sysctls in dotted form (`net.ipv4.ip_unprivileged_port_start`).
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// Limits of the whole pod.
    #[serde(default)]
    pub resources: Resources,
    /// A user namespace of the pod's own; the node's users where `None`.
    #[serde(default)]
    pub ids: Option<Ids>,
}

/// The users and groups of the node that a pod's own are, 0 being the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// The node's ID of the pod's root.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

/// Whose namespace of one type a pod uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Namespace {
    /// A new one.
    #[default]
    Own,
    /// The node's.
    Host,
}

/// Limits of a cgroup. `None` leaves the kernel's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// In v1's scale, 2..=262144; turned into a weight on v2.
    pub cpu_shares: Option<u64>,
    /// CPU time for each period, microseconds.
    pub cpu_quota_us: Option<u64>,
    /// Microseconds; 100,000 where `None`.
    pub cpu_period_us: Option<u64>,
    /// Bytes; swap is not granted beyond it.
    pub memory_limit: Option<u64>,
    /// Most processes and threads.
    pub pids_limit: Option<u64>,
    /// Bytes of huge pages by the size of a page; none of sizes that are not named.
    #[serde(default)]
    pub huge_pages: Option<[Option<(u64, u64)>; 4]>,
}

/// One container of a sandbox, one run of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The container's name in the pod.
    pub name: String,
    /// How often a container of this name ran before: names the log file.
    pub attempt: u32,
    /// Opaque to the runtime, handed back by `list` after adoption.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Read-only layers, **top-most first**. Each must be a directory.
    pub layers: Vec<PathBuf>,
    /// Command line, the program first. A name without a slash is looked up in
    /// the `PATH` of `env`.
    pub args: Vec<String>,
    /// Environment. `PATH`, `HOSTNAME` and `HOME` are added where missing.
    pub env: Vec<(String, String)>,
    /// Working directory, `/` where empty; made when missing.
    pub cwd: String,
    /// Who runs it.
    pub user: User,
    /// In the order of mounting.
    pub mounts: Vec<Mount>,
    /// Capabilities, seccomp and the rest.
    pub security: Security,
    /// Device nodes beyond the minimal set.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// Standard streams are a terminal.
    #[serde(default)]
    pub tty: bool,
    /// Standard input is open and waits for attach; `/dev/null` otherwise.
    #[serde(default)]
    pub stdin: bool,
    /// Standard input ends when the first attached client leaves.
    #[serde(default)]
    pub stdin_once: bool,
    /// The container's limits.
    #[serde(default)]
    pub resources: Resources,
    /// -1000..=1000. Where the kernel forbids lowering it the container runs
    /// with what it has and [`crate::state::Container::warnings`] says so.
    pub oom_score_adj: Option<i32>,
    /// The log file, `<log_dir>/<name>/<attempt>.log` where `None`.
    pub log_path: Option<PathBuf>,
    /// The running container of the same sandbox whose PID namespace this one
    /// lives in (an ephemeral container's target).
    #[serde(default)]
    pub pid_of: Option<String>,
}

/// Numeric identity. `node_runtime::passwd` resolves an image's `USER`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct User {
    /// User ID.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups (fsGroup, supplementalGroups, image groups).
    pub groups: Vec<u32>,
}

/// Something mounted into the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container; made when missing, symbolic links on the
    /// way never lead out of the container's root.
    pub destination: String,
    /// What is mounted.
    pub source: MountSource,
    /// No writes through this mount.
    pub read_only: bool,
    /// Nor through what is mounted below it.
    #[serde(default)]
    pub recursive_read_only: bool,
    /// How mounts travel between node and container.
    #[serde(default)]
    pub propagation: Propagation,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file or directory of the node, with what is mounted below it.
    Bind {
        /// Absolute path on the node.
        path: PathBuf,
        /// Path below `path` that may not leave it, whatever links a container
        /// put there (a volume mount's `subPath`); must exist.
        sub_path: Option<String>,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Bytes; half of the node's memory where `None`.
        size: Option<u64>,
        /// Permission bits of its root.
        mode: u32,
    },
}

/// Mount propagation as in a volume mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Propagation {
    /// Nothing travels (`None`).
    #[default]
    Private,
    /// The container sees later mounts of the node.
    HostToContainer,
    /// And the node sees the container's. For privileged containers.
    Bidirectional,
}

/// What the container may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// All capabilities and devices, nothing masked, no seccomp, writable /sys.
    pub privileged: bool,
    /// Added to the default set, without `CAP_`, or `ALL`.
    pub capabilities_add: Vec<String>,
    /// Taken away first, without `CAP_`, or `ALL`.
    pub capabilities_drop: Vec<String>,
    /// `allowPrivilegeEscalation: false`.
    pub no_new_privs: bool,
    /// System call filter.
    pub seccomp: Seccomp,
    /// The root file system is read-only.
    pub read_only_root: bool,
    /// The AppArmor profile, which must be loaded; that of this process where
    /// `None`.
    #[serde(default)]
    pub app_armor: Option<String>,
    /// `procMount: Unmasked`: /proc without masked and read-only paths.
    #[serde(default)]
    pub unmasked_proc: bool,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            privileged: false,
            capabilities_add: Vec::new(),
            capabilities_drop: Vec::new(),
            no_new_privs: false,
            seccomp: Seccomp::RuntimeDefault,
            read_only_root: false,
            app_armor: None,
            unmasked_proc: false,
        }
    }
}

/// System call filter of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Seccomp {
    /// The built-in profile.
    #[default]
    RuntimeDefault,
    /// None.
    Unconfined,
    /// A profile file's JSON text (OCI runtime or Docker form).
    Localhost(String),
}

/// A device node of the node, put at the same kind of place in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// On the node.
    pub host_path: PathBuf,
    /// In the container.
    pub container_path: String,
    /// Any of `rwm`.
    pub access: String,
}

/// One more process in a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecSpec {
    /// Command line; environment, user and working directory are the container's.
    pub args: Vec<String>,
    /// Give it a terminal.
    pub tty: bool,
    /// Its first size: rows, columns.
    pub window: Option<(u16, u16)>,
    /// Keep standard input open.
    pub stdin: bool,
    /// Collect standard output; `/dev/null` otherwise.
    pub stdout: bool,
    /// Collect standard error; `/dev/null` otherwise.
    pub stderr: bool,
}

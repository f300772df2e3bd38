//! What is done for a sandbox: making, adopting, stopping, removing. Making is
//! ordered so that whatever exists is found by its record, whenever the process
//! is killed.

use std::{
    fs, io,
    os::fd::AsRawFd,
    path::PathBuf,
    process::Stdio,
    time::{Duration, SystemTime},
};

use linux::cgroup::Limits;
use node_shim::protocol::{Reply, Request};
use serde::{Deserialize, Serialize};

use crate::{
    client::{self, Client},
    container::{failure, start_failure},
    error::{Error, Result},
    layout::{self, SandboxDir},
    plan,
    record::{self, Unsynced},
    shim_runtime::{ShimRuntime, blocking, not_ready},
    spec::{Namespace, Resources, SandboxSpec},
    state::{ContainerId, ContainerState, Sandbox, SandboxId, SandboxState, Stats},
};

/// Size of a pod's `/dev/shm`, as upstream.
const SHM_BYTES: u64 = 64 << 20;

/// Kubelet's and containerd's own.
const SHIM_OOM_SCORE: &str = "-998";

/// How long a shim may take to serve its socket.
const SHIM_START_TIMEOUT: Duration = Duration::from_secs(30);

/// What a later process must know of a sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) id: String,
    pub(crate) created_ns: u64,
    pub(crate) spec: SandboxSpec,
    /// The pod's cgroup.
    pub(crate) cgroup: String,
}

impl ShimRuntime {
    pub(crate) async fn run_sandbox(&self, spec: SandboxSpec) -> Result<Sandbox> {
        check(&spec)?;
        linux::detect::memory_cgroup().map_err(Error::MemoryCgroupMissing)?;
        let id = SandboxId::new(new_id()?);
        let created_at = SystemTime::now();
        let dir = self.sandbox_dir(&id);
        let cgroup = self.pod_cgroup(&spec);
        let made = self.make_sandbox(&id, &dir, &cgroup, &spec, created_at).await;
        let sandbox = Sandbox {
            id,
            netns_path: (spec.network == Namespace::Own).then(|| dir.namespace("net")),
            spec,
            state: SandboxState::NotReady,
            shim_pid: 0,
            created_at,
            containers: Vec::new(),
        };
        match made {
            Ok((client, events)) => {
                let state = SandboxState::Ready;
                let sandbox = Sandbox { state, shim_pid: client.pid, ..sandbox };
                self.enter(sandbox.clone(), Some((client, events)));
                Ok(sandbox)
            }
            Err(error) => {
                let cgroups = self.cgroups.clone();
                let undone = blocking(move || take_down(&*cgroups, &dir, Some(&cgroup))).await?;
                if !undone.is_empty() {
                    // Known like one that runs no more, it is removed before the next.
                    self.enter(sandbox, None);
                }
                for failure in undone {
                    tracing::warn!(failure, "cleaning up after a failed sandbox");
                }
                Err(error)
            }
        }
    }

    async fn make_sandbox(
        &self,
        id: &SandboxId,
        dir: &SandboxDir,
        cgroup: &str,
        spec: &SandboxSpec,
        created_at: SystemTime,
    ) -> Result<(std::sync::Arc<Client>, tokio::sync::mpsc::UnboundedReceiver<Reply>)> {
        let record = SandboxRecord {
            id: id.to_string(),
            created_ns: ns(created_at),
            spec: spec.clone(),
            cgroup: cgroup.to_owned(),
        };
        let cgroups = self.cgroups.clone();
        let made_dir = dir.clone();
        let shim_group = layout::shim_cgroup(cgroup);
        let (pod_group, shim_in) = (cgroup.to_owned(), shim_group.clone());
        let unsynced = blocking(move || -> Result<Unsynced> {
            let dir = made_dir;
            make_dirs(&dir)?;
            let unsynced =
                record::put(&dir.record(), &record).map_err(Error::io("write the record"))?;
            cgroups.create(&pod_group).map_err(Error::io("make the pod's cgroup"))?;
            cgroups
                .limit(&pod_group, &limits(&record.spec.resources))
                .map_err(Error::io("limit the pod"))?;
            cgroups.create(&shim_in).map_err(Error::io("make the shim's cgroup"))?;
            fs::create_dir_all(&record.spec.log_dir)
                .map_err(Error::io(format!("make {}", record.spec.log_dir.display())))?;
            pin(&dir, &record.spec).map_err(Error::io("make the pod's namespaces"))?;
            if record.spec.ipc == Namespace::Own {
                linux::mount::mount_tmpfs(&dir.shm(), SHM_BYTES, 0o1777)
                    .map_err(Error::io("mount the pod's /dev/shm"))?;
            }
            Ok(unsynced)
        })
        .await??;
        // A power cut takes all but folders away, and those are found without it.
        unsynced.sync_aside();
        self.start_shim(dir, &shim_group).await?;
        let shim = tokio::time::timeout(SHIM_START_TIMEOUT, self.meet_shim(dir))
            .await
            .map_err(|_| Error::Timeout(SHIM_START_TIMEOUT))?
            .map_err(Error::io("connect to the shim"))?;
        // The last to be killed for memory, where this process may say so.
        let score = format!("/proc/{}/oom_score_adj", shim.0.pid);
        if let Err(error) = fs::write(score, SHIM_OOM_SCORE) {
            tracing::debug!(sandbox = %id, %error, "the shim keeps its OOM score");
        }
        if spec.share_pid && spec.pid == Namespace::Own {
            let steps = plan::init(&dir.empty(), spec, &dir.namespace("user"), &pins(dir, spec))?;
            let answer = shim.0.call(&Request::Init { steps: steps.clone() }).await;
            match answer.map_err(Error::io("talk to the shim"))? {
                Reply::Done => {}
                Reply::Failed(failed) => return Err(start_failure(&failed, &steps)),
                other => return Err(unexpected(&other)),
            }
        }
        Ok(shim)
    }

    /// Changes the limits of a pod that runs.
    pub(crate) async fn update_sandbox(&self, id: &SandboxId, resources: Resources) -> Result<()> {
        let mut sandbox = self
            .lock()
            .get(id)
            .map(|entry| entry.sandbox.clone())
            .ok_or_else(|| Error::SandboxNotFound(id.to_string()))?;
        let (cgroups, cgroup) = (self.cgroups.clone(), self.pod_cgroup(&sandbox.spec));
        sandbox.spec.resources = resources;
        let record = SandboxRecord {
            id: id.to_string(),
            created_ns: ns(sandbox.created_at),
            spec: sandbox.spec.clone(),
            cgroup: cgroup.clone(),
        };
        let path = self.sandbox_dir(id).record();
        blocking(move || {
            cgroups.limit(&cgroup, &limits(&resources))?;
            record::write(&path, &record)
        })
        .await?
        .map_err(Error::io("limit the pod"))?;
        if let Some(entry) = self.lock().get_mut(id) {
            entry.sandbox.spec.resources = resources;
        }
        Ok(())
    }

    /// Limits a cgroup above the pods, such as `pods/besteffort`, made where
    /// missing; the empty path is the one of all pods.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn limit_parent(&self, parent: &str, resources: Resources) -> Result<()> {
        let prefix = &self.config.cgroup_prefix;
        let path = format!("{prefix}/{parent}").trim_end_matches('/').to_owned();
        let cgroups = self.cgroups.clone();
        blocking(move || {
            cgroups.create(&path)?;
            cgroups.limit(&path, &limits(&resources))
        })
        .await?
        .map_err(Error::io("limit a cgroup of pods"))
    }

    /// The shim is in its cgroup before it does anything else, so that whatever becomes of
    /// it, the cgroup's end is its own.
    async fn start_shim(&self, dir: &SandboxDir, cgroup: &str) -> Result<()> {
        let log = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(dir.shim_log())
            .map_err(Error::io("open the shim's log"))?;
        let mut command =
            tokio::process::Command::new(format!("/proc/self/fd/{}", self.shim.as_raw_fd()));
        command
            .arg0("skiff-shim")
            .arg(dir.path())
            .args(self.cgroups.entrances(cgroup))
            .env_clear()
            .current_dir("/")
            // One that has not come so far is ended with the wait for it.
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let waited = tokio::time::timeout(SHIM_START_TIMEOUT, command.status()).await;
        let ended = waited
            .map_err(|_| Error::Timeout(SHIM_START_TIMEOUT))?
            .map_err(Error::io("execute the shim"))?;
        if ended.success() {
            return Ok(());
        }
        let said = fs::read_to_string(dir.shim_log()).unwrap_or_else(|e| e.to_string());
        Err(Error::Io { what: "start the shim".into(), source: io::Error::other(said) })
    }

    /// Connects to the shim of a directory and asks for its events.
    pub(crate) async fn meet_shim(
        &self,
        dir: &SandboxDir,
    ) -> io::Result<(std::sync::Arc<Client>, tokio::sync::mpsc::UnboundedReceiver<Reply>)> {
        let (client, events) = Client::new(client::connect(dir.path()).await?);
        match client.call(&Request::Subscribe).await? {
            Reply::Done => Ok((client, events)),
            other => Err(io::Error::other(format!("the shim answered {other:?}"))),
        }
    }

    pub(crate) async fn stop_sandbox(&self, id: &SandboxId) -> Result<()> {
        let (spec, containers, client) = {
            let mut state = self.lock();
            let Some(entry) = state.get_mut(id) else { return Ok(()) };
            entry.stopping = true;
            let running: Vec<ContainerId> = entry
                .sandbox
                .containers
                .iter()
                .filter(|c| matches!(c.state, ContainerState::Running { .. }))
                .map(|c| c.id.clone())
                .collect();
            (entry.sandbox.spec.clone(), running, entry.client.clone())
        };
        let Some(client) = client else { return Ok(()) };
        for container in &containers {
            self.stop_container(container, Some(9), Duration::ZERO).await?;
        }
        // A refusal or silence leads to the same end: the shim's cgroup is
        // killed with the pod's.
        let answer = client.call(&Request::Shutdown).await;
        if !matches!(answer, Ok(Reply::Done)) {
            tracing::warn!(sandbox = %id, ?answer, "its shim did not end by itself");
        }
        let (cgroups, cgroup) = (self.cgroups.clone(), self.pod_cgroup(&spec));
        blocking(move || cgroups.kill(&cgroup))
            .await?
            .map_err(Error::io("kill the pod's processes"))?;
        if let Some(entry) = self.lock().get_mut(id) {
            not_ready(&mut entry.sandbox);
            entry.client = None;
        }
        Ok(())
    }

    pub(crate) async fn remove_sandbox(&self, id: &SandboxId) -> Result<()> {
        if !self.lock().contains_key(id) {
            return Ok(());
        }
        self.stop_sandbox(id).await?;
        let Some(spec) = self.lock().get(id).map(|entry| entry.sandbox.spec.clone()) else {
            return Ok(());
        };
        let (cgroups, dir, cgroup) =
            (self.cgroups.clone(), self.sandbox_dir(id), self.pod_cgroup(&spec));
        // Another sandbox of the same pod (a later attempt) keeps the cgroup.
        let shared = self
            .lock()
            .values()
            .any(|other| other.sandbox.id != *id && self.pod_cgroup(&other.sandbox.spec) == cgroup);
        let failures =
            blocking(move || take_down(&*cgroups, &dir, (!shared).then_some(cgroup.as_str())))
                .await?;
        if !failures.is_empty() {
            return Err(Error::Several(failures));
        }
        self.lock().remove(id);
        Ok(())
    }

    pub(crate) async fn sandbox_stats(&self, id: &SandboxId) -> Result<Stats> {
        let spec = self
            .lock()
            .get(id)
            .map(|entry| entry.sandbox.spec.clone())
            .ok_or_else(|| Error::SandboxNotFound(id.to_string()))?;
        self.cgroup_stats(&self.pod_cgroup(&spec))
    }
}

/// Takes away what a sandbox has on this node, trying everything; answers what
/// failed. The folder goes last, and only when nothing failed, so that a later
/// try finds the rest.
pub(crate) fn take_down(
    cgroups: &dyn linux::cgroup::Hierarchy,
    dir: &SandboxDir,
    cgroup: Option<&str>,
) -> Vec<String> {
    let mut failures = Vec::new();
    let mut note = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            failures.push(format!("{what}: {error}"));
        }
    };
    if let Some(cgroup) = cgroup {
        note("kill the pod's processes", cgroups.kill(cgroup));
        note("remove the pod's cgroup", cgroups.remove(cgroup));
    }
    for kind in ["net", "ipc", "uts", "user"] {
        note("unpin a namespace", linux::mount::unmount(&dir.namespace(kind)));
    }
    note("unmount /dev/shm", linux::mount::unmount(&dir.shm()));
    if failures.is_empty()
        && let Err(error) = linux::tree::remove(dir.path())
    {
        failures.push(format!("remove {}: {error}", dir.path().display()));
    }
    failures
}

fn check(spec: &SandboxSpec) -> Result<()> {
    let plain = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && text != "."
            && text != ".."
    };
    if !plain(&spec.pod_uid) {
        return Err(Error::InvalidSpec(format!("pod UID {:?}", spec.pod_uid)));
    }
    if !spec.cgroup_parent.split('/').filter(|c| !c.is_empty()).all(plain) {
        return Err(Error::InvalidSpec(format!("cgroup parent {:?}", spec.cgroup_parent)));
    }
    if spec.hostname.len() > 64 {
        return Err(Error::InvalidSpec(format!("host name {:?} is too long", spec.hostname)));
    }
    let shares = [spec.network, spec.ipc, spec.pid].contains(&Namespace::Host);
    if spec.ids.is_some() && shares {
        return Err(Error::InvalidSpec("a pod with users of its own shares no namespace".into()));
    }
    let allowed = |name: &str| {
        (name.starts_with("net.") && spec.network == Namespace::Own)
            || ((name.starts_with("kernel.shm")
                || name.starts_with("kernel.msg")
                || name == "kernel.sem"
                || name.starts_with("fs.mqueue."))
                && spec.ipc == Namespace::Own)
    };
    match spec
        .sysctls
        .keys()
        .find(|name| !allowed(name) || name.contains("..") || name.contains('/'))
    {
        Some(name) => Err(Error::InvalidSpec(format!("sysctl {name:?} is not of this pod alone"))),
        None => Ok(()),
    }
}

fn make_dirs(dir: &SandboxDir) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let all =
        [dir.path().to_owned(), dir.path().join("ns"), dir.shm(), dir.empty(), dir.containers()];
    for path in all {
        fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&path)
            .map_err(Error::io(format!("make {}", path.display())))?;
    }
    Ok(())
}

fn pin(dir: &SandboxDir, spec: &SandboxSpec) -> io::Result<()> {
    let mut pins = linux::namespace::Pins::default();
    for kind in namespaces(spec) {
        pins.namespaces.push((kind, dir.namespace(kind)));
        if kind == "uts" {
            pins.hostname = Some(spec.hostname.clone());
        }
    }
    pins.sysctls =
        spec.sysctls.iter().map(|(name, value)| (name.replace('.', "/"), value.clone())).collect();
    pins.user = spec.ids.map(|ids| (dir.namespace("user"), ids.first, ids.count));
    if pins.namespaces.is_empty() { Ok(()) } else { linux::namespace::pin(pins) }
}

/// The namespaces that a sandbox pins. With the node's network comes the
/// node's host name.
pub(crate) fn namespaces(spec: &SandboxSpec) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    if spec.network == Namespace::Own {
        kinds.extend(["net", "uts"]);
    }
    if spec.ipc == Namespace::Own {
        kinds.push("ipc");
    }
    kinds
}

pub(crate) fn limits(resources: &Resources) -> Limits {
    Limits {
        cpu_shares: resources.cpu_shares,
        cpu_quota_us: resources.cpu_quota_us,
        cpu_period_us: resources.cpu_period_us.or(resources.cpu_quota_us.map(|_| 100_000)),
        memory_limit: resources.memory_limit,
        pids_limit: resources.pids_limit,
        huge_pages: resources.huge_pages,
        oom_group: false,
    }
}

/// A container dies of memory as a whole, where the kernel can do that; a pod's
/// other containers and its shim live on.
pub(crate) fn container_limits(resources: &Resources) -> Limits {
    Limits { oom_group: true, ..limits(resources) }
}

/// 64 random hexadecimal digits.
pub(crate) fn new_id() -> Result<String> {
    use std::fmt::Write;
    let mut bytes = [0u8; 32];
    io::Read::read_exact(
        &mut fs::File::open("/dev/urandom").map_err(Error::io("open /dev/urandom"))?,
        &mut bytes,
    )
    .map_err(Error::io("read /dev/urandom"))?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    }))
}

pub(crate) fn ns(time: SystemTime) -> u64 {
    // A clock before 1970 counts as 1970.
    time.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

/// Paths of the pins, by `CLONE_NEW*`.
pub(crate) fn pins(dir: &SandboxDir, spec: &SandboxSpec) -> Vec<(u32, PathBuf)> {
    namespaces(spec)
        .into_iter()
        .map(|kind| (linux::namespace::kind(kind), dir.namespace(kind)))
        .collect()
}

/// An unexpected answer.
pub(crate) fn unexpected(reply: &Reply) -> Error {
    match reply {
        Reply::Failed(failed) => failure(failed),
        other => Error::Io {
            what: "talk to the shim".into(),
            source: io::Error::other(format!("it answered {other:?}")),
        },
    }
}

//! The implementation of [`Runtime`] through shims: what is known, and who is
//! told. What is done to the kernel is in `sandbox` and `container`.

use std::{
    collections::BTreeMap,
    io::Read as _,
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use flate2::read::DeflateDecoder;
use linux::cgroup::Hierarchy;
use node_shim::protocol::{Exit, Reply};
use tokio::sync::{broadcast, mpsc, watch};

use crate::{
    client::Client,
    error::{Error, Result},
    layout::{self, SandboxDir},
    record,
    runtime::{AttachStreams, BoxFuture, ExecSession, Runtime},
    spec::{ContainerSpec, ExecSpec, Resources, SandboxSpec},
    state::{
        Container, ContainerId, ContainerState, Event, ExecOutput, ExitStatus, Sandbox, SandboxId,
        SandboxState, Stats,
    },
};

/// Where a [`ShimRuntime`] keeps things.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its state, such as `<data-dir>/node/runtime`; made when missing, and closed
    /// to all but its owner.
    pub state_dir: PathBuf,
    /// First component(s) of every cgroup path, without a leading slash
    /// (`skiff`). Two servers on one machine need two.
    pub cgroup_prefix: String,
}

/// The shim's ELF, packed: it is needed once, to be copied.
static SHIM: &[u8] = include_bytes!(env!("NODE_SHIM"));

/// Runs pods through shims that outlive this process.
pub struct ShimRuntime {
    /// For the tasks that follow shims.
    me: Weak<Self>,
    pub(crate) config: Config,
    pub(crate) cgroups: Arc<dyn Hierarchy>,
    /// The sealed program of all shims that this process starts: one copy.
    pub(crate) shim: OwnedFd,
    state: Mutex<BTreeMap<SandboxId, Entry>>,
    events: broadcast::Sender<Event>,
    /// Rises with every change of a container's or sandbox's state.
    changed: watch::Sender<u64>,
}

/// A sandbox and the way to its shim.
pub(crate) struct Entry {
    pub(crate) sandbox: Sandbox,
    pub(crate) client: Option<Arc<Client>>,
    /// Its shim was told to end, so its end is no surprise.
    pub(crate) stopping: bool,
    /// Bytes of the shim's own log that have been told.
    told: usize,
}

impl ShimRuntime {
    /// Opens the state folder and adopts what earlier processes left running.
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the folder cannot be used, or there is no cgroup.
    pub async fn open(config: Config) -> Result<Arc<Self>> {
        let sandboxes = layout::sandboxes(&config.state_dir);
        std::fs::create_dir_all(&sandboxes)
            .map_err(Error::io(format!("make {}", sandboxes.display())))?;
        // Containers' files lie below, with programs that give their user's rights
        // away; at every start, since a folder of before may let others in.
        let state_dir = &config.state_dir;
        std::fs::set_permissions(state_dir, std::fs::Permissions::from_mode(0o700))
            .map_err(Error::io(format!("close {}", state_dir.display())))?;
        let path = layout::prefix_record(&config.state_dir);
        if record::read::<String>(&path).ok().as_ref() != Some(&config.cgroup_prefix) {
            record::write(&path, &config.cgroup_prefix)
                .map_err(Error::io(format!("write {}", path.display())))?;
        }
        let cgroups = linux::cgroup::detect().map_err(Error::io("find cgroups"))?;
        let mut shim = Vec::new();
        let shim = DeflateDecoder::new(SHIM)
            .read_to_end(&mut shim)
            .and_then(|_| linux::memfd::sealed("skiff-shim", &shim))
            .map_err(Error::io("load the shim"))?;
        let runtime = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            config,
            cgroups: cgroups.into(),
            shim,
            state: Mutex::default(),
            events: broadcast::channel(1024).0,
            changed: watch::channel(0).0,
        });
        runtime.adopt_all().await?;
        Ok(runtime)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<SandboxId, Entry>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a sandbox and follows its shim.
    pub(crate) fn enter(
        &self,
        sandbox: Sandbox,
        shim: Option<(Arc<Client>, mpsc::UnboundedReceiver<Reply>)>,
    ) {
        let id = sandbox.id.clone();
        let (client, receiver) = shim.unzip();
        self.lock().insert(id.clone(), Entry { sandbox, client, stopping: false, told: 0 });
        if let Some(receiver) = receiver {
            // Weak: a runtime that nobody holds any more stops following.
            tokio::spawn(follow(self.me.clone(), id, receiver));
        }
    }

    pub(crate) fn tell(&self, event: Event) {
        // Nobody needs to listen.
        let _ = self.events.send(event);
        self.changed.send_modify(|generation| *generation += 1);
    }

    pub(crate) fn sandbox_dir(&self, id: &SandboxId) -> SandboxDir {
        SandboxDir::new(&self.config, id)
    }

    pub(crate) fn pod_cgroup(&self, spec: &SandboxSpec) -> String {
        layout::pod_cgroup(&self.config.cgroup_prefix, spec)
    }

    /// A container with its sandbox and its shim.
    pub(crate) fn find(&self, id: &ContainerId) -> Result<Found> {
        let state = self.lock();
        for entry in state.values() {
            if let Some(container) = entry.sandbox.containers.iter().find(|c| c.id == *id) {
                return Ok(Found {
                    sandbox: entry.sandbox.clone(),
                    container: container.clone(),
                    client: entry.client.clone(),
                });
            }
        }
        Err(Error::ContainerNotFound(id.to_string()))
    }

    /// Changes a container's state in memory.
    pub(crate) fn update(
        &self,
        sandbox: &SandboxId,
        id: &ContainerId,
        change: impl FnOnce(&mut Container),
    ) {
        if let Some(entry) = self.lock().get_mut(sandbox)
            && let Some(container) = entry.sandbox.containers.iter_mut().find(|c| c.id == *id)
        {
            change(container);
        }
    }

    /// Says what a shim could not do, such as writing a container's log: it has nobody
    /// else to tell.
    async fn tell_complaints(&self, id: &SandboxId) {
        let path = self.sandbox_dir(id).shim_log();
        let text = match blocking(move || std::fs::read_to_string(path)).await {
            Ok(Ok(text)) => text,
            // Its folder is gone.
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => return,
            Ok(Err(error)) => return tracing::warn!(sandbox = %id, %error, "its shim's log"),
            Err(error) => return tracing::warn!(sandbox = %id, %error, "its shim's log"),
        };
        let told = match self.lock().get_mut(id) {
            Some(entry) => std::mem::replace(&mut entry.told, text.len()),
            None => return,
        };
        for line in text.get(told..).unwrap_or_default().lines() {
            tracing::warn!(sandbox = %id, line, "a shim complains");
        }
    }

    /// Notes that a container ended, once, and tells.
    pub(crate) fn exited(&self, sandbox: &SandboxId, id: &ContainerId, status: ExitStatus) {
        let mut news = false;
        self.update(sandbox, id, |container| {
            if !matches!(container.state, ContainerState::Exited(_)) {
                container.state = ContainerState::Exited(status.clone());
                news = true;
            }
        });
        if news {
            self.tell(Event::ContainerExited {
                sandbox: sandbox.clone(),
                container: id.clone(),
                status,
            });
        }
    }

    /// Waits until a container has ended or is gone.
    pub(crate) async fn wait_exit(&self, id: &ContainerId) -> Result<ExitStatus> {
        let mut changed = self.changed.subscribe();
        loop {
            if let ContainerState::Exited(status) = self.find(id)?.container.state {
                return Ok(status);
            }
            // The sender lives in `self`.
            changed.changed().await.map_err(|_| Error::ContainerNotFound(id.to_string()))?;
        }
    }
}

/// What [`ShimRuntime::find`] finds.
pub(crate) struct Found {
    pub(crate) sandbox: Sandbox,
    pub(crate) container: Container,
    pub(crate) client: Option<Arc<Client>>,
}

impl Found {
    pub(crate) fn client(&self) -> Result<&Arc<Client>> {
        self.client.as_ref().ok_or_else(|| Error::ShimGone(self.sandbox.id.to_string()))
    }
}

/// Brings a shim's events into the state until the shim is gone.
async fn follow(
    runtime: Weak<ShimRuntime>,
    id: SandboxId,
    mut events: mpsc::UnboundedReceiver<Reply>,
) {
    while let Some(reply) = events.recv().await {
        let Some(runtime) = runtime.upgrade() else { return };
        match reply {
            Reply::Exited { id: container, exit } => {
                let container = ContainerId::new(container);
                runtime.exited(&id, &container, status(&exit));
                runtime.end_stragglers(&id, &container).await;
                runtime.tell_complaints(&id).await;
            }
            Reply::Running { id: container, pid, started_ns } => {
                let container = ContainerId::new(container);
                runtime.update(&id, &container, |known| {
                    if known.state == ContainerState::Created {
                        known.state = ContainerState::Running { pid, started_at: time(started_ns) };
                    }
                });
                runtime.tell(Event::ContainerStarted { sandbox: id.clone(), container });
            }
            _ => {}
        }
    }
    let Some(runtime) = runtime.upgrade() else { return };
    runtime.tell_complaints(&id).await;
    let surprise = runtime.lock().get(&id).is_some_and(|entry| !entry.stopping);
    if surprise {
        runtime.shim_died(&id).await;
    }
}

pub(crate) fn time(ns_since_1970: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(ns_since_1970)
}

pub(crate) fn status(exit: &Exit) -> ExitStatus {
    ExitStatus {
        code: exit.code,
        signal: (exit.signal != 0).then_some(exit.signal),
        oom_killed: exit.oom,
        unknown: false,
        started_at: time(exit.started_ns),
        finished_at: time(exit.finished_ns),
    }
}

/// Runs what blocks on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::Io { what: "blocking work".into(), source: e.into() })
}

impl Runtime for ShimRuntime {
    fn limit_parent<'a>(
        &'a self,
        parent: &'a str,
        resources: crate::spec::Resources,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(Self::limit_parent(self, parent, resources))
    }

    fn run_sandbox(&self, spec: SandboxSpec) -> BoxFuture<'_, Result<Sandbox>> {
        Box::pin(ShimRuntime::run_sandbox(self, spec))
    }

    fn stop_sandbox<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<()>> {
        Box::pin(ShimRuntime::stop_sandbox(self, id))
    }

    fn remove_sandbox<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<()>> {
        Box::pin(ShimRuntime::remove_sandbox(self, id))
    }

    fn start_container<'a>(
        &'a self,
        sandbox: &'a SandboxId,
        spec: ContainerSpec,
    ) -> BoxFuture<'a, Result<Container>> {
        Box::pin(ShimRuntime::start_container(self, sandbox, spec))
    }

    fn signal<'a>(&'a self, id: &'a ContainerId, signal: i32) -> BoxFuture<'a, Result<()>> {
        Box::pin(ShimRuntime::signal(self, id, signal))
    }

    fn stop_container<'a>(
        &'a self,
        id: &'a ContainerId,
        signal: Option<i32>,
        grace: Duration,
    ) -> BoxFuture<'a, Result<ExitStatus>> {
        Box::pin(ShimRuntime::stop_container(self, id, signal, grace))
    }

    fn remove_container<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(ShimRuntime::remove_container(self, id))
    }

    fn update_container<'a>(
        &'a self,
        id: &'a ContainerId,
        resources: Resources,
        labels: BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(ShimRuntime::update_container(self, id, resources, labels))
    }

    fn update_sandbox<'a>(
        &'a self,
        id: &'a SandboxId,
        resources: Resources,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(ShimRuntime::update_sandbox(self, id, resources))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Sandbox>>> {
        let all = self.lock().values().map(|entry| entry.sandbox.clone()).collect();
        Box::pin(std::future::ready(Ok(all)))
    }

    fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    fn exec<'a>(
        &'a self,
        id: &'a ContainerId,
        spec: ExecSpec,
    ) -> BoxFuture<'a, Result<ExecSession>> {
        Box::pin(ShimRuntime::exec(self, id, spec))
    }

    fn exec_sync<'a>(
        &'a self,
        id: &'a ContainerId,
        args: Vec<String>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<ExecOutput>> {
        Box::pin(ShimRuntime::exec_sync(self, id, args, timeout))
    }

    fn attach<'a>(
        &'a self,
        id: &'a ContainerId,
        want: AttachStreams,
    ) -> BoxFuture<'a, Result<ExecSession>> {
        Box::pin(ShimRuntime::attach(self, id, want))
    }

    fn reopen_log<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(ShimRuntime::reopen_log(self, id))
    }

    fn container_stats<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<Stats>> {
        Box::pin(ShimRuntime::container_stats(self, id))
    }

    fn sandbox_stats<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<Stats>> {
        Box::pin(ShimRuntime::sandbox_stats(self, id))
    }

    fn writable_layer(&self, sandbox: &SandboxId, id: &ContainerId) -> PathBuf {
        SandboxDir::new(&self.config, sandbox).container(id).upper()
    }
}

/// How a container whose end nobody saw is reported.
pub(crate) fn unknown_exit(started_at: SystemTime) -> ExitStatus {
    ExitStatus {
        code: 137,
        signal: None,
        oom_killed: false,
        unknown: true,
        started_at,
        finished_at: SystemTime::now(),
    }
}

/// A sandbox as far as it is known without its shim.
pub(crate) fn not_ready(sandbox: &mut Sandbox) {
    sandbox.state = SandboxState::NotReady;
    sandbox.shim_pid = 0;
}

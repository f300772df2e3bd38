//! What a runtime does about pods that it did not start, or whose shim died:
//! everything is read back from folders and from the shims that answer.

use std::{fs, io, sync::Arc, time::Duration};

use node_shim::protocol::{Exit, Info, Reply, Request};

use tokio::{sync::mpsc::UnboundedReceiver, time::timeout};

use crate::{
    client::{self, Client},
    container::ContainerRecord,
    error::{Error, Result},
    layout::{self, ContainerDir, SandboxDir},
    record,
    sandbox::{SandboxRecord, take_down},
    shim_runtime::{Entry, ShimRuntime, blocking, not_ready, status, time, unknown_exit},
    spec::Namespace,
    state::{
        Container, ContainerId, ContainerState, Event, ExitStatus, Sandbox, SandboxId, SandboxState,
    },
};

/// How often, how long and how far apart a shim is asked that should be there.
const MEET_TRIES: u32 = 5;
const MEET_TIMEOUT: Duration = Duration::from_secs(10);
const MEET_PAUSE: Duration = Duration::from_millis(200);
/// What a socket says that nobody listens on any more.
const GONE: [io::ErrorKind; 2] = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];

impl ShimRuntime {
    /// Brings back every sandbox that has a folder.
    pub(crate) async fn adopt_all(&self) -> Result<()> {
        let folder = layout::sandboxes(&self.config.state_dir);
        let entries =
            fs::read_dir(&folder).map_err(Error::io(format!("read {}", folder.display())))?;
        let mut dead = Vec::new();
        for entry in entries {
            let dir = SandboxDir::at(
                entry.map_err(Error::io(format!("read {}", folder.display())))?.path(),
            );
            match record::read::<SandboxRecord>(&dir.record()) {
                Ok(record) => dead.extend(self.adopt(dir, record).await),
                // Killed before the record: nothing else was made yet.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    if let Err(error) = linux::tree::remove(dir.path()) {
                        tracing::warn!(path = %dir.path().display(), %error, "unfinished sandbox");
                    }
                }
                Err(error) => self.adopt_nothing(dir, error).await,
            }
        }
        // Only now it is known who lives beside them.
        for id in dead {
            self.bury(&id).await;
        }
        Ok(())
    }

    /// What became of a sandbox whose record is not whole. Where a power cut came before
    /// the record was on the disk, nothing of it runs any more; where the disk is dying
    /// and its shim serves, it is left for `killall`, which works without records.
    async fn adopt_nothing(&self, dir: SandboxDir, error: io::Error) {
        let met = timeout(MEET_TIMEOUT, client::connect(dir.path())).await;
        let is_gone = matches!(&met, Ok(Err(error)) if GONE.contains(&error.kind()));
        if !is_gone {
            tracing::error!(path = %dir.path().display(), %error, "sandbox not adopted");
            return;
        }
        tracing::warn!(path = %dir.path().display(), %error, "a sandbox that is gone is removed");
        for failure in take_down(&*self.cgroups, &dir, None) {
            tracing::warn!(failure, "removing a sandbox that is gone");
        }
    }

    /// Answers the sandbox's name where its shim is no more.
    async fn adopt(&self, dir: SandboxDir, record: SandboxRecord) -> Option<SandboxId> {
        let id = SandboxId::new(record.id);
        let own_network = record.spec.network == Namespace::Own;
        let mut sandbox = Sandbox {
            id: id.clone(),
            netns_path: own_network.then(|| dir.namespace("net")),
            spec: record.spec,
            state: SandboxState::Ready,
            shim_pid: 0,
            created_at: time(record.created_ns),
            containers: container_records(&dir, &id),
        };
        let met = self.meet_again(&dir).await;
        let (client, events, known) = match met {
            Ok(met) => met,
            Err(error) => {
                // The shim of a pod that has ended has nothing more to say.
                let has_ended =
                    sandbox.containers.iter().all(|c| recorded_exit(&dir, &c.id).is_some());
                if !(has_ended && GONE.contains(&error.kind())) {
                    tracing::warn!(sandbox = %id, %error, "its shim does not answer");
                }
                not_ready(&mut sandbox);
                self.enter(sandbox, None);
                return Some(id);
            }
        };
        sandbox.shim_pid = client.pid;
        for container in &mut sandbox.containers {
            let info = known.iter().find(|info| info.id == container.id.as_str());
            container.state = adopted_state(&dir, container, info);
        }
        self.enter(sandbox, Some((client, events)));
        None
    }

    /// Connects to a shim and lists its containers. A shim that does not exist
    /// any more says so at once; anything else (too many open files here, a
    /// machine that is just starting everything) may pass, and a healthy pod
    /// should not die of it.
    async fn meet_again(
        &self,
        dir: &SandboxDir,
    ) -> io::Result<(Arc<Client>, UnboundedReceiver<Reply>, Vec<Info>)> {
        let mut tries = 0;
        loop {
            let error = match timeout(MEET_TIMEOUT, self.meet(dir)).await {
                Ok(Ok(met)) => return Ok(met),
                Ok(Err(error)) => error,
                Err(_) => io::ErrorKind::TimedOut.into(),
            };
            tries += 1;
            if GONE.contains(&error.kind()) || tries == MEET_TRIES {
                return Err(error);
            }
            tokio::time::sleep(MEET_PAUSE).await;
        }
    }

    async fn meet(
        &self,
        dir: &SandboxDir,
    ) -> io::Result<(Arc<Client>, UnboundedReceiver<Reply>, Vec<Info>)> {
        let (client, events) = self.meet_shim(dir).await?;
        match client.call(&Request::List).await? {
            Reply::Containers(known) => Ok((client, events, known)),
            other => Err(io::Error::other(format!("the shim answered {other:?}"))),
        }
    }

    /// The shim is gone: nobody holds the streams of what still runs, so that
    /// is killed and every container without a recorded exit is unknown.
    pub(crate) async fn shim_died(&self, id: &SandboxId) {
        tracing::error!(sandbox = %id, "the shim died");
        if let Some(entry) = self.lock().get_mut(id) {
            not_ready(&mut entry.sandbox);
            entry.client = None;
        }
        self.bury(id).await;
        self.tell(Event::ShimDied { sandbox: id.clone() });
    }

    async fn bury(&self, id: &SandboxId) {
        let Some(sandbox) = self.lock().get(id).map(|entry| entry.sandbox.clone()) else { return };
        let containers = &sandbox.containers;
        let pod = self.pod_cgroup(&sandbox.spec);
        let lives =
            |other: &Entry| other.client.is_some() && self.pod_cgroup(&other.sandbox.spec) == pod;
        // A later attempt of the same pod lives in the same cgroup; the shim of this one
        // was ended before that came.
        let is_shared = self.lock().values().any(lives);
        let killed: Vec<String> = match is_shared {
            true => containers.iter().map(|c| self.container_cgroup(&sandbox, &c.id)).collect(),
            false => vec![pod],
        };
        let cgroups = self.cgroups.clone();
        let kill = move || killed.iter().try_for_each(|cgroup| cgroups.kill(cgroup));
        match blocking(kill).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(sandbox = %id, %error, "kill what its shim held"),
            Err(error) => tracing::error!(sandbox = %id, %error, "kill what its shim held"),
        }
        let dir = self.sandbox_dir(id);
        for container in &sandbox.containers {
            let exit = match &container.state {
                ContainerState::Exited(_) => continue,
                ContainerState::Running { started_at, .. } => {
                    recorded_exit(&dir, &container.id).unwrap_or_else(|| unknown_exit(*started_at))
                }
                ContainerState::Created => recorded_exit(&dir, &container.id)
                    .unwrap_or_else(|| unknown_exit(container.created_at)),
            };
            self.exited(id, &container.id, exit);
        }
    }
}

fn container_records(dir: &SandboxDir, sandbox: &SandboxId) -> Vec<Container> {
    let mut containers = Vec::new();
    let entries = match fs::read_dir(dir.containers()) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::error!(%sandbox, %error, "its containers cannot be listed");
            return containers;
        }
    };
    for path in entries.flatten().map(|e| e.path()) {
        let place = ContainerDir::at(path);
        match record::read::<ContainerRecord>(&place.record()) {
            Ok(record) => containers.push(record.container(sandbox)),
            // Removed halfway, or killed before its record: nothing runs in it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if let Err(error) = linux::tree::remove(place.path()) {
                    tracing::warn!(path = %place.path().display(), %error, "unfinished container");
                }
            }
            Err(error) => {
                tracing::error!(path = %place.path().display(), %error, "container not adopted");
            }
        }
    }
    containers.sort_by_key(|c| c.created_at);
    containers
}

fn recorded_exit(dir: &SandboxDir, id: &ContainerId) -> Option<ExitStatus> {
    let text = fs::read_to_string(dir.container(id).exit()).ok()?;
    Exit::from_record(&text).map(|exit| status(&exit))
}

/// What a living shim says of a container, or what its record says.
fn adopted_state(dir: &SandboxDir, container: &Container, info: Option<&Info>) -> ContainerState {
    match info {
        Some(Info { exit: Some(exit), .. }) => ContainerState::Exited(status(exit)),
        Some(Info { started_ns: 0, .. }) => ContainerState::Created,
        Some(Info { pid, started_ns, .. }) => {
            ContainerState::Running { pid: *pid, started_at: time(*started_ns) }
        }
        None => recorded_exit(dir, &container.id)
            .map_or(ContainerState::Created, ContainerState::Exited),
    }
}

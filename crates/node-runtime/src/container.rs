//! What is done for a container: starting, signalling, stopping, removing.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use node_shim::protocol::{Failure, FailureKind, Reply, Request, Start};
use serde::{Deserialize, Serialize};

use crate::{
    client::ANSWER_MAX,
    device,
    error::{Error, Result},
    layout::ContainerDir,
    passwd,
    plan::{self, Place},
    record::{self, Unsynced},
    sandbox::{container_limits, new_id, ns, pins, unexpected},
    seccomp,
    shim_runtime::{ShimRuntime, blocking, time},
    spec::{ContainerSpec, Namespace, Resources},
    state::{Container, ContainerId, ContainerState, Event, ExitStatus, Sandbox, SandboxId, Stats},
};

/// Kubelet's defaults: containerLogMaxSize and containerLogMaxFiles - 1.
const LOG_SIZE_MAX: u64 = 10 << 20;
const LOG_FILES_MAX: u32 = 4;

/// How long the end of killed processes may take to be reported.
const KILL_TIMEOUT: Duration = Duration::from_secs(20);

/// What a later process must know of a container.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) id: String,
    pub(crate) created_ns: u64,
    pub(crate) spec: ContainerSpec,
    pub(crate) log_path: PathBuf,
}

impl ContainerRecord {
    pub(crate) fn container(self, sandbox: &SandboxId) -> Container {
        Container {
            id: ContainerId::new(self.id),
            sandbox: sandbox.clone(),
            spec: self.spec,
            created_at: time(self.created_ns),
            state: ContainerState::Created,
            log_path: self.log_path,
            warnings: Vec::new(),
        }
    }
}

impl ShimRuntime {
    pub(crate) async fn start_container(
        &self,
        sandbox_id: &SandboxId,
        spec: ContainerSpec,
    ) -> Result<Container> {
        let (sandbox, client) = {
            let state = self.lock();
            let entry = state
                .get(sandbox_id)
                .ok_or_else(|| Error::SandboxNotFound(sandbox_id.to_string()))?;
            let client = entry.client.clone().filter(|_| !entry.stopping);
            (entry.sandbox.clone(), client.ok_or_else(|| Error::ShimGone(sandbox_id.to_string()))?)
        };
        let id = ContainerId::new(new_id()?);
        let dir = self.sandbox_dir(sandbox_id).container(&id);
        let cgroup = self.container_cgroup(&sandbox, &id);
        let record = ContainerRecord {
            id: id.to_string(),
            created_ns: ns(SystemTime::now()),
            log_path: log_path(&sandbox, &spec),
            spec,
        };
        let place = self.place(&sandbox, &record.spec, &id)?;
        let mut steps = plan::container(&sandbox.spec, &record.spec, &place)?;
        if client.version < 3 {
            plan::without_read_only_tops(&mut steps);
        }
        let beside = record.spec.pid_of.clone();
        if beside.is_some() && client.version < 2 {
            return Err(Error::Unsupported("a target container in a pod of an older skiff"));
        }
        let start = Start {
            id: id.to_string(),
            new_namespaces: plan::new_namespaces(&sandbox.spec, &record.spec),
            steps: steps.clone(),
            log_path: utf8(&record.log_path)?,
            log_size_max: LOG_SIZE_MAX,
            log_files_max: LOG_FILES_MAX,
            exit_path: utf8(&dir.exit())?,
            oom_path: String::new(),
            tty: record.spec.tty,
            stdin: record.spec.stdin,
            stdin_once: record.spec.stdin_once,
        };
        let mut container = record.container(sandbox_id);
        let made = self.make_container(&dir, &cgroup, &container, &place).await;
        let (oom_path, unsynced) = match made {
            Ok(made) => made,
            Err(error) => {
                self.clear(&dir, &cgroup).await;
                return Err(error);
            }
        };
        let start = Box::new(Start { oom_path, ..start });
        let request = match beside {
            Some(target) => Request::StartBeside { start, target },
            None => Request::Start(start),
        };
        if let Some(entry) = self.lock().get_mut(sandbox_id) {
            entry.sandbox.containers.push(container.clone());
        }
        let reply = client.call(&request).await;
        // A power cut takes the container too; its end, should there be one by then, is to
        // be found.
        unsynced.sync_aside();
        match reply {
            Ok(Reply::Started { pid, started_ns, warnings }) => {
                let started_at = time(started_ns);
                container.warnings = warnings.iter().map(|w| warning(&steps, w)).collect();
                self.update(sandbox_id, &id, |known| {
                    known.warnings.clone_from(&container.warnings);
                    // Its end may have been told before.
                    if known.state == ContainerState::Created {
                        known.state = ContainerState::Running { pid, started_at };
                    }
                    container.state = known.state.clone();
                });
                self.tell(Event::ContainerStarted { sandbox: sandbox_id.clone(), container: id });
                Ok(container)
            }
            Ok(other) => {
                self.forget(sandbox_id, &id);
                self.clear(&dir, &cgroup).await;
                Err(match &other {
                    Reply::Failed(failed) => start_failure(failed, &steps),
                    other => unexpected(other),
                })
            }
            // Never sent: longer than a shim takes.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.forget(sandbox_id, &id);
                self.clear(&dir, &cgroup).await;
                Err(Error::InvalidSpec(error.to_string()))
            }
            // Whatever hangs is ended, so that the next try does not meet it.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                self.forget(sandbox_id, &id);
                self.clear(&dir, &cgroup).await;
                Err(Error::Timeout(ANSWER_MAX))
            }
            // Unknown what became of it; burying the sandbox will tell.
            Err(_) => Err(Error::ShimGone(sandbox_id.to_string())),
        }
    }

    /// Makes folders, record and cgroup; answers the file that counts kills, and the record.
    async fn make_container(
        &self,
        dir: &ContainerDir,
        cgroup: &str,
        container: &Container,
        place: &Place,
    ) -> Result<(String, Unsynced)> {
        let (dir, cgroup, cgroups) = (dir.clone(), cgroup.to_owned(), self.cgroups.clone());
        let rules = plan::device_rules(&container.spec, place);
        let first = place.userns.as_ref().map_or(0, |(ids, _)| ids.first);
        let record = ContainerRecord {
            id: container.id.to_string(),
            created_ns: ns(container.created_at),
            spec: container.spec.clone(),
            log_path: container.log_path.clone(),
        };
        blocking(move || -> Result<(String, Unsynced)> {
            for layer in &record.spec.layers {
                if !layer.is_dir() {
                    return Err(Error::LayerMissing(layer.clone()));
                }
            }
            for path in [dir.root(), dir.upper(), dir.work()] {
                fs::create_dir_all(&path).map_err(Error::io(format!("make {}", path.display())))?;
            }
            copy_root_attributes(&record.spec, &dir, first)?;
            let unsynced =
                record::put(&dir.record(), &record).map_err(Error::io("write the record"))?;
            cgroups.create(&cgroup).map_err(Error::io("make the container's cgroup"))?;
            cgroups
                .limit(&cgroup, &container_limits(&record.spec.resources))
                .map_err(Error::io("limit the container"))?;
            cgroups
                .allow_devices(&cgroup, &rules)
                .map_err(Error::io("restrict the container's devices"))?;
            let oom = cgroups.oom_file(&cgroup);
            Ok((oom.map_or(Ok(String::new()), |path| utf8(&path))?, unsynced))
        })
        .await?
    }

    /// Where a container finds things.
    pub(crate) fn place(
        &self,
        sandbox: &Sandbox,
        spec: &ContainerSpec,
        id: &ContainerId,
    ) -> Result<Place> {
        let sandbox_dir = self.sandbox_dir(&sandbox.id);
        let dir = sandbox_dir.container(id);
        let cgroup = self.container_cgroup(sandbox, id);
        let own_ipc = sandbox.spec.ipc == Namespace::Own;
        Ok(Place {
            root: dir.root(),
            upper: dir.upper(),
            work: dir.work(),
            pins: pins(&sandbox_dir, &sandbox.spec),
            userns: sandbox.spec.ids.map(|ids| (ids, sandbox_dir.namespace("user"))),
            shm: if own_ipc { sandbox_dir.shm() } else { PathBuf::from("/dev/shm") },
            entrances: self.cgroups.entrances(&cgroup),
            controllers: self.cgroups.controllers(&cgroup),
            home: passwd::home(&spec.layers, spec.user.uid),
            filter: seccomp::filter(&spec.security)?,
            devices: device::nodes(spec)?,
        })
    }

    pub(crate) fn container_cgroup(&self, sandbox: &Sandbox, id: &ContainerId) -> String {
        format!("{}/{id}", self.pod_cgroup(&sandbox.spec))
    }

    pub(crate) async fn signal(&self, id: &ContainerId, signal: i32) -> Result<()> {
        let found = self.find(id)?;
        if !matches!(found.container.state, ContainerState::Running { .. }) {
            return Err(Error::NotRunning(id.to_string()));
        }
        let request = Request::Signal { id: id.to_string(), signal };
        match found.client()?.call(&request).await {
            Ok(Reply::Done) => Ok(()),
            Ok(Reply::Failed(Failure { kind: FailureKind::NotFound, .. })) => {
                Err(Error::NotRunning(id.to_string()))
            }
            Ok(other) => Err(unexpected(&other)),
            Err(_) => Err(Error::ShimGone(found.sandbox.id.to_string())),
        }
    }

    pub(crate) async fn stop_container(
        &self,
        id: &ContainerId,
        signal: Option<i32>,
        grace: Duration,
    ) -> Result<ExitStatus> {
        const SIGTERM: i32 = 15;
        match self.signal(id, signal.unwrap_or(SIGTERM)).await {
            Ok(()) => {
                if let Ok(status) = tokio::time::timeout(grace, self.wait_exit(id)).await {
                    return status;
                }
            }
            // Ended already, or never started: nothing to wait for.
            Err(Error::NotRunning(_)) => {
                let found = self.find(id)?;
                match found.container.state {
                    ContainerState::Exited(status) => return Ok(status),
                    ContainerState::Created => return Err(Error::NotRunning(id.to_string())),
                    ContainerState::Running { .. } => {}
                }
            }
            Err(error) => return Err(error),
        }
        let found = self.find(id)?;
        let (cgroups, cgroup) = (self.cgroups.clone(), self.container_cgroup(&found.sandbox, id));
        blocking(move || cgroups.kill(&cgroup))
            .await?
            .map_err(Error::io("kill the container's processes"))?;
        tokio::time::timeout(KILL_TIMEOUT, self.wait_exit(id))
            .await
            .map_err(|_| Error::Timeout(KILL_TIMEOUT))?
    }

    pub(crate) async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        let found = match self.find(id) {
            Ok(found) => found,
            Err(Error::ContainerNotFound(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        if matches!(found.container.state, ContainerState::Running { .. }) {
            self.stop_container(id, Some(9), Duration::ZERO).await?;
        }
        if let Some(client) = &found.client {
            match client.call(&Request::Remove { id: id.to_string() }).await {
                Ok(Reply::Done) => {}
                Ok(other) => return Err(unexpected(&other)),
                Err(_) => return Err(Error::ShimGone(found.sandbox.id.to_string())),
            }
        }
        let dir = self.sandbox_dir(&found.sandbox.id).container(id);
        let cgroup = self.container_cgroup(&found.sandbox, id);
        let cgroups = self.cgroups.clone();
        blocking(move || -> Result<()> {
            cgroups.kill(&cgroup).map_err(Error::io("kill what is left"))?;
            cgroups.remove(&cgroup).map_err(Error::io("remove the container's cgroup"))?;
            // The record first, so that a removal cut short is known as one.
            absent(fs::remove_file(dir.record()))
                .and_then(|()| linux::tree::remove(dir.path()))
                .map_err(Error::io(format!("remove {}", dir.path().display())))
        })
        .await??;
        self.forget(&found.sandbox.id, id);
        Ok(())
    }

    /// Without a PID namespace of its own, what a container's first process
    /// left running does not end with it.
    pub(crate) async fn end_stragglers(&self, sandbox: &SandboxId, id: &ContainerId) {
        let Ok(found) = self.find(id) else { return };
        if plan::has_own_pids(&found.sandbox.spec, &found.container.spec) {
            return;
        }
        let (cgroups, cgroup) = (self.cgroups.clone(), self.container_cgroup(&found.sandbox, id));
        match blocking(move || cgroups.kill(&cgroup)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%sandbox, container = %id, %error, "stragglers"),
            Err(error) => tracing::warn!(%sandbox, container = %id, %error, "stragglers"),
        }
    }

    fn forget(&self, sandbox: &SandboxId, id: &ContainerId) {
        if let Some(entry) = self.lock().get_mut(sandbox) {
            entry.sandbox.containers.retain(|c| c.id != *id);
        }
    }

    /// Takes away what a container that did not start left.
    async fn clear(&self, dir: &ContainerDir, cgroup: &str) {
        let (dir, cgroup, cgroups) = (dir.clone(), cgroup.to_owned(), self.cgroups.clone());
        let cleared = blocking(move || {
            cgroups.kill(&cgroup)?;
            cgroups.remove(&cgroup)?;
            linux::tree::remove(dir.path())
        });
        match cleared.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cleaning up after a failed start"),
            Err(error) => tracing::warn!(%error, "cleaning up after a failed start"),
        }
    }

    pub(crate) async fn update_container(
        &self,
        id: &ContainerId,
        resources: Resources,
        labels: BTreeMap<String, String>,
    ) -> Result<()> {
        let found = self.find(id)?;
        let (cgroups, cgroup) = (self.cgroups.clone(), self.container_cgroup(&found.sandbox, id));
        let mut spec = found.container.spec;
        spec.resources = resources;
        spec.labels.extend(labels);
        let record = ContainerRecord {
            id: id.to_string(),
            created_ns: ns(found.container.created_at),
            spec: spec.clone(),
            log_path: found.container.log_path,
        };
        let path = self.sandbox_dir(&found.sandbox.id).container(id).record();
        blocking(move || {
            cgroups.limit(&cgroup, &container_limits(&resources))?;
            record::write(&path, &record)
        })
        .await?
        .map_err(Error::io("limit the container"))?;
        self.update(&found.sandbox.id, id, |known| known.spec = spec);
        Ok(())
    }

    pub(crate) async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        let found = self.find(id)?;
        match found.client()?.call(&Request::ReopenLog { id: id.to_string() }).await {
            Ok(Reply::Done) => Ok(()),
            Ok(other) => Err(unexpected(&other)),
            Err(_) => Err(Error::ShimGone(found.sandbox.id.to_string())),
        }
    }

    pub(crate) async fn container_stats(&self, id: &ContainerId) -> Result<Stats> {
        let found = self.find(id)?;
        self.cgroup_stats(&self.container_cgroup(&found.sandbox, id))
    }

    pub(crate) fn cgroup_stats(&self, cgroup: &str) -> Result<Stats> {
        self.cgroups.stats(cgroup).map_err(Error::io("read cgroup statistics"))
    }
}

fn absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The overlay's root has the mode and owner of the writable layer's root, so
/// that takes over those of the image's.
fn copy_root_attributes(spec: &ContainerSpec, dir: &ContainerDir, first: u32) -> Result<()> {
    let Some(top) = spec.layers.first() else {
        return Err(Error::InvalidSpec("the image has no layer".into()));
    };
    let metadata = fs::metadata(top).map_err(Error::io(format!("read {}", top.display())))?;
    let (uid, gid) = (first + metadata.uid(), first + metadata.gid());
    std::os::unix::fs::chown(dir.upper(), Some(uid), Some(gid))
        .and_then(|()| fs::set_permissions(dir.upper(), metadata.permissions()))
        .map_err(Error::io("prepare the writable layer"))
}

fn log_path(sandbox: &Sandbox, spec: &ContainerSpec) -> PathBuf {
    spec.log_path.clone().unwrap_or_else(|| {
        sandbox.spec.log_dir.join(&spec.name).join(format!("{}.log", spec.attempt))
    })
}

fn utf8(path: &Path) -> Result<String> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::InvalidSpec(format!("path {} is not UTF-8", path.display())))
}

fn warning(steps: &[linux::steps::Step], (step, errno): &(u32, i32)) -> String {
    let name = steps.get(*step as usize).map(ToString::to_string).unwrap_or_default();
    format!("{name}: {}", io::Error::from_raw_os_error(*errno))
}

/// What a failed start means to whoever asked.
pub(crate) fn start_failure(failed: &Failure, steps: &[linux::steps::Step]) -> Error {
    use linux::steps::Step;
    if failed.kind != FailureKind::Step {
        return failure(failed);
    }
    let source = io::Error::from_raw_os_error(failed.errno);
    let step = failed.what.parse::<usize>().ok().and_then(|index| steps.get(index));
    let Some(step) = step else {
        return Error::Start { step: "an unknown step".into(), source };
    };
    // Where it should live is gone, by somebody else's hand: nothing of the container's
    // own has been tried, so this is no run of it, and the next attempt makes it anew.
    if matches!(step, Step::JoinCgroup { .. } | Step::EnterNamespace { .. }) {
        return Error::Io { what: step.to_string(), source };
    }
    if let Step::Exec { args, .. } = step {
        let program = args.first().map(|a| a.to_string_lossy().into_owned()).unwrap_or_default();
        match source.kind() {
            io::ErrorKind::NotFound => return Error::CommandNotFound { program },
            io::ErrorKind::PermissionDenied => return Error::PermissionDenied { program },
            _ => {}
        }
    }
    Error::Start { step: step.to_string(), source }
}

/// A failure that is no step's.
pub(crate) fn failure(failed: &Failure) -> Error {
    let source = match failed.errno {
        0 => io::Error::other("refused"),
        errno => io::Error::from_raw_os_error(errno),
    };
    Error::Io { what: format!("the shim: {}", failed.what), source }
}

#[cfg(test)]
mod tests {
    use linux::steps::Step;

    use super::*;

    #[test]
    fn only_what_the_container_itself_meets_counts_as_a_run() {
        let exec = Step::Exec {
            programs: vec![c"/bin/a".into()],
            args: vec![c"a".into()],
            env: Vec::new(),
        };
        let steps = [
            Step::JoinCgroup { entrance: c"/sys/fs/cgroup/x/cgroup.procs".into() },
            Step::Chdir { path: c"/work".into() },
            exec,
        ];
        let (enoent, eacces) = (2, 13);
        let table = [
            (0, enoent, None, "join cgroup /sys/fs/cgroup/x/cgroup.procs: No such file"),
            (1, enoent, Some(128), "change directory to \"/work\": No such file"),
            (2, enoent, Some(128), "exec: \"a\": executable file not found in $PATH"),
            (2, eacces, Some(128), "exec: \"a\": permission denied"),
            (9, enoent, Some(128), "an unknown step: No such file"),
        ];
        for (step, errno, code, text) in table {
            let failed = Failure { kind: FailureKind::Step, errno, what: step.to_string() };
            let error = start_failure(&failed, &steps);
            assert_eq!(error.exit_code(), code, "step {step}");
            assert!(error.to_string().starts_with(text), "{error}");
        }
    }
}

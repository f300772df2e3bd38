//! The trait that the node programs against.

use std::{collections::BTreeMap, future::Future, path::PathBuf, pin::Pin, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::broadcast,
};

use crate::{
    error::Result,
    spec::{ContainerSpec, ExecSpec, SandboxSpec},
    state::{Container, ContainerId, Event, ExecOutput, ExitStatus, Sandbox, SandboxId, Stats},
};

/// A boxed future, so that the trait can stand behind `Arc<dyn Runtime>`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Runs pods' sandboxes and the containers in them.
///
/// Every call may be repeated: stopping what is stopped and removing what is
/// gone succeed, so that a caller killed at any line just starts over.
pub trait Runtime: Send + Sync + 'static {
    /// Makes a pod's cgroup, namespaces and shim. The network namespace exists
    /// and is empty (loopback down) when this returns.
    fn run_sandbox(&self, spec: SandboxSpec) -> BoxFuture<'_, Result<Sandbox>>;

    /// Stops the sandbox's containers (SIGKILL) and ends its shim. Exits stay
    /// listed until [`Runtime::remove_sandbox`].
    fn stop_sandbox<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<()>>;

    /// Removes what is left: containers, mounts, pinned namespaces, cgroups and
    /// state. Stops the sandbox first if that was not done. Logs stay.
    fn remove_sandbox<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<()>>;

    /// Creates and starts a container. When this returns `Ok` its program has
    /// been executed; an error that the user's specification caused answers
    /// [`crate::Error::exit_code`].
    fn start_container<'a>(
        &'a self,
        sandbox: &'a SandboxId,
        spec: ContainerSpec,
    ) -> BoxFuture<'a, Result<Container>>;

    /// Sends one signal to the container's first process.
    fn signal<'a>(&'a self, id: &'a ContainerId, signal: i32) -> BoxFuture<'a, Result<()>>;

    /// Sends `signal` (SIGTERM where `None`), waits up to `grace` for the exit,
    /// then kills everything in the container's cgroup. Returns the exit.
    fn stop_container<'a>(
        &'a self,
        id: &'a ContainerId,
        signal: Option<i32>,
        grace: Duration,
    ) -> BoxFuture<'a, Result<ExitStatus>>;

    /// Forgets a container and deletes its writable layer and cgroup. A running
    /// one is killed first. Its log stays.
    fn remove_container<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<()>>;

    /// Changes the cgroup limits of a running container and some of its labels,
    /// for good: `list` and later processes see both.
    fn update_container<'a>(
        &'a self,
        id: &'a ContainerId,
        resources: crate::spec::Resources,
        labels: BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<()>>;

    /// Changes the cgroup limits of a whole pod.
    fn update_sandbox<'a>(
        &'a self,
        id: &'a SandboxId,
        resources: crate::spec::Resources,
    ) -> BoxFuture<'a, Result<()>>;

    /// Limits a cgroup above the pods, such as `pods/besteffort`, made where missing;
    /// the empty path is the one of all pods.
    fn limit_parent<'a>(
        &'a self,
        parent: &'a str,
        resources: crate::spec::Resources,
    ) -> BoxFuture<'a, Result<()>>;

    /// Everything known, sandboxes with their containers, adopted ones included.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Sandbox>>>;

    /// What happens from now on. Events are hints that [`Runtime::list`] is
    /// worth reading again; a receiver that lags loses events and must list.
    fn subscribe(&self) -> broadcast::Receiver<Event>;

    /// Runs one more process in a running container.
    fn exec<'a>(
        &'a self,
        id: &'a ContainerId,
        spec: ExecSpec,
    ) -> BoxFuture<'a, Result<ExecSession>>;

    /// Runs one more process to its end and collects its output (each stream
    /// up to 64 KiB, the rest is dropped). On timeout the process is killed and
    /// the answer is [`crate::Error::Timeout`].
    fn exec_sync<'a>(
        &'a self,
        id: &'a ContainerId,
        args: Vec<String>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<ExecOutput>>;

    /// Joins the streams of the container's first process, from now on. The
    /// session's `exit` is the container's exit.
    fn attach<'a>(
        &'a self,
        id: &'a ContainerId,
        want: AttachStreams,
    ) -> BoxFuture<'a, Result<ExecSession>>;

    /// Closes the container's log file and opens it again at its path, for
    /// somebody who rotates logs from outside. The shim rotates by itself.
    fn reopen_log<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<()>>;

    /// What the container uses now, read from its cgroup.
    fn container_stats<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<Stats>>;

    /// What the whole pod uses now, read from the pod's cgroup.
    fn sandbox_stats<'a>(&'a self, id: &'a SandboxId) -> BoxFuture<'a, Result<Stats>>;

    /// The directory of what the container changed in its image, for those who
    /// measure it. The container may write there at any time.
    fn writable_layer(&self, sandbox: &SandboxId, id: &ContainerId) -> PathBuf;
}

/// Which streams an attach asks for. With a terminal stderr never comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachStreams {
    /// Write to the container's standard input (it must have been made with one).
    pub stdin: bool,
    /// Read standard output.
    pub stdout: bool,
    /// Read standard error.
    pub stderr: bool,
}

/// The live streams of an exec or attach.
pub struct ExecSession {
    /// Dropping or shutting it down closes the process's standard input.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Ends at the process's end of file.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// `None` with a terminal, where everything comes on `stdout`.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Window size and signals.
    pub control: SessionControl,
    /// Resolves once, when the process has ended.
    pub exit: BoxFuture<'static, Result<ExitStatus>>,
}

/// Acts on the process behind an [`ExecSession`]; may be cloned into other tasks.
#[derive(Clone)]
pub struct SessionControl {
    pub(crate) sender: tokio::sync::mpsc::UnboundedSender<ControlMessage>,
}

/// What a [`SessionControl`] asks of the task that owns the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlMessage {
    /// A new window size in characters.
    Resize {
        /// Height.
        rows: u16,
        /// Width.
        columns: u16,
    },
    /// A signal for the process.
    Signal(i32),
}

impl SessionControl {
    /// A control and the end where its messages arrive; for implementations of
    /// [`Runtime`], fakes among them.
    pub fn channel() -> (Self, tokio::sync::mpsc::UnboundedReceiver<ControlMessage>) {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        (Self { sender }, receiver)
    }

    /// Sets the terminal's size; does nothing without a terminal or after the end.
    pub fn resize(&self, rows: u16, columns: u16) {
        // A closed channel means that the process has ended, which `exit` tells.
        let _ = self.sender.send(ControlMessage::Resize { rows, columns });
    }

    /// Sends a signal to the process; does nothing after its end.
    pub fn signal(&self, signal: i32) {
        let _ = self.sender.send(ControlMessage::Signal(signal));
    }
}

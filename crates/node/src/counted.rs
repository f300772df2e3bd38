//! A runtime whose operations are counted, under the names that they have in the kubelet's
//! interface to its runtime.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use node_runtime::{
    AttachStreams, BoxFuture, Container, ContainerId, ContainerSpec, Event, ExecOutput,
    ExecSession, ExecSpec, ExitStatus, Result, Runtime, Sandbox, SandboxId, SandboxSpec, Stats,
    spec::Resources,
};
use tokio::sync::broadcast;

use crate::counts::Counts;

pub(crate) struct Counted {
    pub(crate) inner: Arc<dyn Runtime>,
    pub(crate) counts: Arc<Counts>,
}

macro_rules! counted {
    ($($kind:literal: $name:ident<$life:lifetime>($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        $(
            fn $name<$life>(&$life self $(, $arg: $type)*) -> BoxFuture<$life, Result<$result>> {
                Box::pin(self.counts.call($kind, self.inner.$name($($arg),*)))
            }
        )*
    };
}

impl Runtime for Counted {
    counted! {
        "run_podsandbox": run_sandbox<'a>(spec: SandboxSpec) -> Sandbox;
        "stop_podsandbox": stop_sandbox<'a>(id: &'a SandboxId) -> ();
        "remove_podsandbox": remove_sandbox<'a>(id: &'a SandboxId) -> ();
        "update_podsandbox_resources": update_sandbox<'a>(id: &'a SandboxId, resources: Resources) -> ();
        "podsandbox_stats": sandbox_stats<'a>(id: &'a SandboxId) -> Stats;
        "list_podsandbox": list<'a>() -> Vec<Sandbox>;
        "start_container": start_container<'a>(sandbox: &'a SandboxId, spec: ContainerSpec) -> Container;
        "stop_container": stop_container<'a>(id: &'a ContainerId, signal: Option<i32>, grace: Duration) -> ExitStatus;
        "remove_container": remove_container<'a>(id: &'a ContainerId) -> ();
        "update_container": update_container<'a>(id: &'a ContainerId, resources: Resources, labels: BTreeMap<String, String>) -> ();
        "container_stats": container_stats<'a>(id: &'a ContainerId) -> Stats;
        "reopen_container_log": reopen_log<'a>(id: &'a ContainerId) -> ();
        "exec": exec<'a>(id: &'a ContainerId, spec: ExecSpec) -> ExecSession;
        "exec_sync": exec_sync<'a>(id: &'a ContainerId, args: Vec<String>, timeout: Duration) -> ExecOutput;
        "attach": attach<'a>(id: &'a ContainerId, want: AttachStreams) -> ExecSession;
    }

    // The kubelet asks its runtime for neither of these.
    fn signal<'a>(&'a self, id: &'a ContainerId, signal: i32) -> BoxFuture<'a, Result<()>> {
        self.inner.signal(id, signal)
    }

    fn limit_parent<'a>(&'a self, parent: &'a str, all: Resources) -> BoxFuture<'a, Result<()>> {
        self.inner.limit_parent(parent, all)
    }

    fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.inner.subscribe()
    }

    fn writable_layer(&self, sandbox: &SandboxId, id: &ContainerId) -> PathBuf {
        self.inner.writable_layer(sandbox, id)
    }
}

//! A runtime that fails where a story wants it.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use node_runtime::{
    AttachStreams, BoxFuture, Container, ContainerId, ContainerSpec, ContainerState, Event,
    ExecOutput, ExecSession, ExecSpec, ExitStatus, Runtime, Sandbox, SandboxId, SandboxSpec,
    ShimRuntime, Stats, spec::Resources,
};
use tokio::sync::{Notify, broadcast};

type Result<T> = node_runtime::Result<T>;

/// Burns down with everything that the agent waits for in its runtime; then
/// nothing goes on any more.
#[derive(Default)]
pub(super) struct Fuse {
    left: AtomicI64,
    pub(super) out: Notify,
}

impl Fuse {
    pub(super) fn of(length: i64) -> Arc<Self> {
        Arc::new(Self { left: length.into(), out: Notify::new() })
    }

    fn is_out(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    /// Whether this was too much.
    fn burn(&self) -> bool {
        let out = self.left.fetch_sub(1, Ordering::SeqCst) <= 0;
        if out {
            self.out.notify_one();
        }
        out
    }
}

/// A runtime whose calls break off where the fuse is out: before, after, and
/// wherever they wait in between.
pub(super) struct Fused {
    pub(super) inner: Arc<ShimRuntime>,
    pub(super) fuse: Arc<Fuse>,
    /// Whoever first sees that a container has ended breaks off: its pod's worker, which is
    /// told of it.
    pub(super) trap: Arc<AtomicBool>,
    /// So many looks fail.
    pub(super) blind: AtomicI64,
    pub(super) stops: Arc<Stops>,
}

/// The stops of containers.
#[derive(Default)]
pub(super) struct Stops {
    /// Breaks off once another one is under way.
    pub(super) breaks: AtomicBool,
    another: Notify,
    /// How many are under way, by container, and the most that were.
    under_way: Mutex<(BTreeMap<ContainerId, usize>, usize)>,
}

impl Stops {
    fn under_way(&self) -> MutexGuard<'_, (BTreeMap<ContainerId, usize>, usize)> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The most stops of one container that were under way at once.
    pub(super) fn most(&self) -> usize {
        self.under_way().1
    }

    fn begun(&self, id: &ContainerId) -> UnderWay<'_> {
        let mut all = self.under_way();
        let (counts, most) = &mut *all;
        let count = counts.entry(id.clone()).or_default();
        *count += 1;
        *most = (*most).max(*count);
        UnderWay { stops: self, id: id.clone() }
    }
}

struct UnderWay<'a> {
    stops: &'a Stops,
    id: ContainerId,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.stops.under_way().0.entry(self.id.clone()).and_modify(|count| *count -= 1);
    }
}

impl Fused {
    pub(super) fn new(inner: Arc<ShimRuntime>) -> Self {
        let (fuse, trap) = (Fuse::of(i64::MAX), Arc::default());
        Self { inner, fuse, trap, blind: AtomicI64::new(0), stops: Arc::default() }
    }

    fn call<'a, T: Send + 'a>(&'a self, call: BoxFuture<'a, T>) -> BoxFuture<'a, T> {
        let mut call = Some(call);
        let mut result = None;
        Box::pin(poll_fn(move |context| {
            if self.fuse.is_out() || self.fuse.burn() {
                call = None;
                return Poll::Pending;
            }
            if let Some(future) = &mut call
                && let Poll::Ready(value) = future.as_mut().poll(context)
            {
                (call, result) = (None, Some(value));
            }
            match result.take() {
                Some(_) if self.fuse.burn() => Poll::Pending,
                Some(value) => Poll::Ready(value),
                None => Poll::Pending,
            }
        }))
    }
}

macro_rules! fused {
    ($($name:ident<$life:lifetime>($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        $(
            fn $name<$life>(&$life self $(, $arg: $type)*) -> BoxFuture<$life, $result> {
                self.call(Runtime::$name(&*self.inner $(, $arg)*))
            }
        )*
    };
}

impl Runtime for Fused {
    fused! {
        run_sandbox<'a>(spec: SandboxSpec) -> Result<Sandbox>;
        stop_sandbox<'a>(id: &'a SandboxId) -> Result<()>;
        remove_sandbox<'a>(id: &'a SandboxId) -> Result<()>;
        start_container<'a>(sandbox: &'a SandboxId, spec: ContainerSpec) -> Result<Container>;
        signal<'a>(id: &'a ContainerId, signal: i32) -> Result<()>;
        remove_container<'a>(id: &'a ContainerId) -> Result<()>;
        update_container<'a>(id: &'a ContainerId, resources: Resources, labels: BTreeMap<String, String>) -> Result<()>;
        update_sandbox<'a>(id: &'a SandboxId, resources: Resources) -> Result<()>;
        exec<'a>(id: &'a ContainerId, spec: ExecSpec) -> Result<ExecSession>;
        exec_sync<'a>(id: &'a ContainerId, args: Vec<String>, timeout: Duration) -> Result<ExecOutput>;
        attach<'a>(id: &'a ContainerId, want: AttachStreams) -> Result<ExecSession>;
        reopen_log<'a>(id: &'a ContainerId) -> Result<()>;
        container_stats<'a>(id: &'a ContainerId) -> Result<Stats>;
        sandbox_stats<'a>(id: &'a SandboxId) -> Result<Stats>;
    }

    fn stop_container<'a>(
        &'a self,
        id: &'a ContainerId,
        signal: Option<i32>,
        grace: Duration,
    ) -> BoxFuture<'a, Result<ExitStatus>> {
        Box::pin(async move {
            if self.stops.breaks.swap(false, Ordering::SeqCst) {
                self.stops.another.notified().await;
                panic!("as this story wants it");
            }
            let _under_way = self.stops.begun(id);
            self.stops.another.notify_one();
            self.call(Runtime::stop_container(&*self.inner, id, signal, grace)).await
        })
    }

    // Not of any pod.
    fn limit_parent<'a>(&'a self, parent: &'a str, all: Resources) -> BoxFuture<'a, Result<()>> {
        Runtime::limit_parent(&*self.inner, parent, all)
    }

    // Looking changes nothing.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Sandbox>>> {
        Box::pin(async {
            if self.blind.fetch_sub(1, Ordering::SeqCst) > 0 {
                return Err(node_runtime::Error::Timeout(Duration::ZERO));
            }
            let all = Runtime::list(&*self.inner).await?;
            let mut containers = all.iter().flat_map(|sandbox| &sandbox.containers);
            let has_ended = containers.any(|c| matches!(c.state, ContainerState::Exited(_)));
            let springs = has_ended && self.trap.swap(false, Ordering::SeqCst);
            assert!(!springs, "as this story wants it");
            Ok(all)
        })
    }

    fn subscribe(&self) -> broadcast::Receiver<Event> {
        Runtime::subscribe(&*self.inner)
    }

    fn writable_layer(&self, sandbox: &SandboxId, id: &ContainerId) -> std::path::PathBuf {
        Runtime::writable_layer(&*self.inner, sandbox, id)
    }
}

//! Where Raft's tasks run: on one thread with a runtime of its own.
//!
//! A write passes through half a dozen tasks before it is acknowledged. On the
//! runtime of the requests each of them would wake another of its threads, and
//! that costs more than what the tasks do. Here they take turns, and a write
//! changes threads twice: on its way in and on its way back.

use std::{io, sync::Mutex, sync::PoisonError};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// The runtime of Raft's tasks. It ends when this is dropped.
pub(crate) struct Home {
    handle: Handle,
    /// Nothing where the tasks run on the caller's runtime.
    stop: Mutex<Option<oneshot::Sender<()>>>,
}

impl Home {
    /// Starts the thread; or takes the caller's runtime, on whose order of events
    /// tests rely.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub(crate) fn start(own_thread: bool) -> io::Result<Self> {
        if !own_thread {
            return Ok(Self { handle: Handle::current(), stop: Mutex::default() });
        }
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        // It ends with the store, which nobody waits for who drops it without a
        // shutdown.
        std::thread::Builder::new().name("raft".into()).spawn(move || {
            // The sender is dropped or has sent: both mean the same.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, stop: Mutex::new(Some(stop)) })
    }

    /// The runtime, for tasks that go on.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Does something there.
    ///
    /// # Errors
    /// Where it panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        act: impl Future<Output = T> + Send + 'static,
    ) -> io::Result<T> {
        let own_thread = self.stop.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        match own_thread {
            true => self.handle.spawn(act).await.map_err(io::Error::other),
            false => Ok(act.await),
        }
    }
}

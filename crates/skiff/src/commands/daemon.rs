//! What `skiff server` and `skiff agent` share: a runtime, signals, and the
//! service manager.

use std::{error::Error, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, info, warn};

use crate::{StartError, flags::UsageError, logging, notify::Notify};

/// More threads than this serve nobody at home and cost memory each.
const WORKERS_MAX: usize = 4;

/// By then the controllers have seen everything and the node is Ready.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// Neither takes words beside flags.
pub(super) fn no_words(words: &[String]) -> Result<(), UsageError> {
    match words.first() {
        Some(word) => Err(UsageError(format!("unexpected argument \"{word}\" (see --help)"))),
        None => Ok(()),
    }
}

/// Runs what `start` brings up until a signal comes, then `stop`s it.
pub(super) fn run<H>(
    verbosity: u8,
    start: impl Future<Output = Result<H, StartError>>,
    stop: impl AsyncFnOnce(H),
) -> Result<(), Box<dyn Error>> {
    logging::start(verbosity);
    if let Err(error) = linux::allocator::keep_small() {
        warn!(%error, "huge pages stay on; this takes more memory than it needs");
    }
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let result = runtime.block_on(until_signal(start, stop));
    // A thread that hangs in the kernel must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

/// Once the start has been left behind, gives back what only it needed.
async fn settle() {
    tokio::time::sleep(SETTLED_AFTER).await;
    match tokio::task::spawn_blocking(linux::program_pages::unmap_clean).await {
        Ok(Ok(bytes)) => debug!(bytes, "pages of the program that the start needed are unmapped"),
        Ok(Err(error)) => warn!(%error, "pages that only the start needed stay in memory"),
        Err(error) => warn!(%error, "pages that only the start needed stay in memory"),
    }
}

async fn until_signal<H>(
    start: impl Future<Output = Result<H, StartError>>,
    stop: impl AsyncFnOnce(H),
) -> Result<(), Box<dyn Error>> {
    let notify = Notify::new(std::env::var_os("NOTIFY_SOCKET"));
    let tell = |state: &str| {
        if let Err(error) = notify.send(state) {
            warn!(%error, "the service manager does not listen");
        }
    };
    // Before anything is started, so that no signal finds us without a handler.
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let handle = tokio::select! {
        started = start => started.map_err(|error| -> Box<dyn Error> { error })?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    tell("READY=1");
    let settling = tokio::spawn(settle());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    settling.abort();
    tell("STOPPING=1");
    info!("stopping; pods go on running");
    stop(handle).await;
    info!("stopped");
    Ok(())
}

//! `skiff server`

use std::error::Error;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::{
    config::Config,
    flags::{UsageError, Values},
    logging,
    notify::Notify,
    server,
};

/// More threads than this serve nobody at home and cost memory each.
const WORKERS_MAX: usize = 4;

pub(super) fn run(values: Values, positional: Vec<String>) -> Result<(), Box<dyn Error>> {
    if let Some(word) = positional.first() {
        return Err(Box::new(UsageError(format!("unexpected argument \"{word}\" (see --help)"))));
    }
    let host_name = rustix::system::uname();
    let config = Config::new(&values, &host_name.nodename().to_string_lossy())?;
    logging::start(config.verbosity);
    if let Err(error) = linux::allocator::keep_small() {
        warn!(%error, "huge pages stay on; the server takes more memory than it needs");
    }
    if config.cluster_reset {
        return server::reset(&config).map_err(|error| -> Box<dyn Error> { error });
    }
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let result = runtime.block_on(serve(&config));
    // A thread that hangs in the kernel must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}

async fn serve(config: &Config) -> Result<(), Box<dyn Error>> {
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
        started = server::start(config) => started.map_err(|error| -> Box<dyn Error> { error })?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    tell("READY=1");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tell("STOPPING=1");
    info!("stopping; pods go on running");
    handle.stop().await;
    info!("stopped");
    Ok(())
}

//! What `skiff server` and `skiff agent` share: a runtime, signals, and the
//! service manager.

use std::{error::Error, time::Duration};

use ::node::NodeHandle;
use linux::program_pages::{self, Used};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing::{debug, info, warn};

use crate::{
    StartError,
    flags::{self, Commands, UsageError},
    logging,
    notify::Notify,
    service,
};

/// More threads than this serve nobody at home and cost memory each.
const WORKERS_MAX: usize = 4;

/// By then the controllers have seen everything and the node is Ready.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// How often to look whether all is quiet again. No event tells that pages were
/// mapped or that nobody asks for anything any more; a look is one system call.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// So little in that time is quiet: one in a hundred of one processor.
const QUIET_CPU: Duration = Duration::from_millis(600);
/// Each maps up to 64 KiB of the program; fewer are not worth the trouble.
const FAULTS_MIN: u64 = 256;
/// How long it may take to tell of a shutdown, and to end once the pods have.
const AFTER_PODS_MAX: Duration = Duration::from_secs(30);

/// Neither takes words beside flags.
pub(super) fn no_words(words: &[String]) -> Result<(), UsageError> {
    match words.first() {
        Some(word) => Err(UsageError(format!("unexpected argument \"{word}\" (see --help)"))),
        None => Ok(()),
    }
}

/// What of it tells whether it is to run anew, and its node.
pub(super) type Watched<H> = (fn(&H) -> watch::Receiver<bool>, fn(&H) -> &NodeHandle);

/// Runs what `start` brings up until a signal comes, then `stop`s it. Where `again`
/// says so it is stopped as well, and this process runs its program anew: its pods,
/// its number and its service manager see nothing of it. Where the whole machine shuts
/// down, its node's pods are ended first, if they are to be.
pub(super) fn run<H>(
    command: Commands,
    verbosity: u8,
    start: impl Future<Output = Result<H, StartError>>,
    watched: Watched<H>,
    stop: impl AsyncFnOnce(H),
) -> Result<(), Box<dyn Error>> {
    logging::start(verbosity);
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in flags::without_meaning(command, names) {
        warn!(%name, "this variable is no flag's here and does nothing; see --help");
    }
    if let Err(error) = linux::allocator::keep_small() {
        warn!(%error, "huge pages stay on; this takes more memory than it needs");
    }
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let result = runtime.block_on(until_signal(start, watched, stop));
    // A thread that hangs in the kernel must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    match result? {
        End::Stopped => Ok(()),
        End::Again => Err(run_anew().into()),
    }
}

/// Why it ended.
enum End {
    Stopped,
    Again,
}

/// The same program, arguments and environment. Nothing that is open stays so, as all
/// of it is closed by exec. Returns only where that fails.
fn run_anew() -> std::io::Error {
    use std::os::unix::process::CommandExt as _;
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_else(|| "skiff".into());
    // Also where the file has been replaced meanwhile: an upgrade is for its own restart.
    std::process::Command::new("/proc/self/exe").arg0(name).args(args).exec()
}

/// Gives back the pages of the program that only the start needed, once it has been
/// left behind, and those that only requests needed, whenever those have ceased.
async fn settle() {
    tokio::time::sleep(SETTLED_AFTER).await;
    if let Err(error) = keep_settled().await {
        warn!(%error, "pages of the program that nothing needs stay in memory");
    }
}

async fn keep_settled() -> std::io::Result<()> {
    loop {
        let bytes = tokio::task::spawn_blocking(program_pages::unmap_clean).await??;
        debug!(bytes, "pages of the program that nothing needs are unmapped");
        let unmapped = program_pages::used()?;
        let mut before = unmapped;
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            let now = program_pages::used()?;
            if is_worth_it(unmapped, before, now) {
                break;
            }
            before = now;
        }
    }
}

/// Whether pages have come back since they were unmapped, and the process has done
/// next to nothing since `before`, so that it needs few of them.
fn is_worth_it(unmapped: Used, before: Used, now: Used) -> bool {
    now.cpu.saturating_sub(before.cpu) < QUIET_CPU
        && now.minor_faults.saturating_sub(unmapped.minor_faults) >= FAULTS_MIN
}

async fn until_signal<H>(
    start: impl Future<Output = Result<H, StartError>>,
    (again, node): Watched<H>,
    stop: impl AsyncFnOnce(H),
) -> Result<End, Box<dyn Error>> {
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
        _ = terminate.recv() => return Ok(End::Stopped),
        _ = interrupt.recv() => return Ok(End::Stopped),
    };
    tell("READY=1");
    let settling = tokio::spawn(settle());
    let mut again = again(&handle);
    let end = tokio::select! {
        _ = terminate.recv() => End::Stopped,
        _ = interrupt.recv() => End::Stopped,
        Ok(_) = again.wait_for(|again| *again) => End::Again,
    };
    settling.abort();
    match end {
        End::Stopped => tell("STOPPING=1"),
        End::Again => tell("RELOADING=1"),
    }
    let pods_max = node(&handle).end_pods_max();
    let asks = matches!(end, End::Stopped) && !pods_max.is_zero();
    if asks && service::machine_shuts_down().await {
        // The service manager would not wait for so long by itself.
        tell(&format!("EXTEND_TIMEOUT_USEC={}", (pods_max + AFTER_PODS_MAX).as_micros()));
        info!(?pods_max, "the machine shuts down; pods are ended");
        node(&handle).end_pods().await;
    } else {
        info!("stopping; pods go on running");
    }
    stop(handle).await;
    info!("stopped");
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_given_back_when_a_busy_time_is_over() {
        let used =
            |cpu_ms: u64, minor_faults| Used { cpu: Duration::from_millis(cpu_ms), minor_faults };
        // At the last unmapping, a minute ago, now.
        let table = [
            ("nothing happened", used(500, 1000), used(500, 1000), used(510, 1010), false),
            ("it is busy", used(500, 1000), used(500, 1000), used(9000, 4000), false),
            ("it was busy", used(500, 1000), used(9000, 4000), used(9050, 4003), true),
            ("few came back", used(500, 1000), used(1500, 1200), used(1510, 1255), false),
        ];
        for (what, unmapped, before, now, worth) in table {
            assert_eq!(is_worth_it(unmapped, before, now), worth, "{what}");
        }
    }
}

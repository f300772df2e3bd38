//! What time it is, on a machine that may have booted in the past.

use std::{io, path::Path, time::SystemTime};

use jiff::Timestamp;
use linux::clock::ClockSets;
use tokio::{io::unix::AsyncFd, sync::watch};

/// When this binary's source was committed.
pub(crate) fn built() -> Timestamp {
    env!("SKIFF_BUILD_EPOCH")
        .parse()
        .ok()
        .and_then(|second| Timestamp::from_second(second).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The newest file in a folder: a server that ran left it behind, so the time
/// it saw costs no write of its own.
pub(crate) fn last_seen(dir: &Path) -> Option<Timestamp> {
    let entries = std::fs::read_dir(dir).ok()?;
    let newest: SystemTime =
        entries.filter_map(|entry| entry.ok()?.metadata().ok()?.modified().ok()).max()?;
    Timestamp::try_from(newest).ok()
}

/// Tells whenever the machine's clock is set, for as long as it is not dropped.
pub(crate) async fn follow_sets(told: watch::Sender<()>) {
    let follow = async {
        #[expect(
            deprecated,
            reason = "its successor is unsafe; the descriptor stays open and the same"
        )]
        let sets = AsyncFd::new(ClockSets::new()?)?;
        loop {
            let mut ready = sets.readable().await?;
            if sets.get_ref().take()? {
                told.send_replace(());
            }
            ready.clear_ready();
        }
    };
    let ended: io::Result<()> = follow.await;
    if let Err(error) = ended {
        tracing::warn!(%error, "that the clock is set cannot be followed: CronJobs and deadlines may be late after it is");
    }
}

//! What time it is, on a machine that may have booted in the past.

use std::{
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

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

/// Takes note that it was this time: [`last_seen`] of the file's folder is not before that.
///
/// # Errors
/// Where the file is not there, or not ours.
pub(crate) fn saw(file: &Path, time: Timestamp) -> io::Result<()> {
    std::fs::File::open(file)?.set_modified(time.into())
}

/// What was seen while the clock was ahead is no longer believed once it was set
/// back: files of the folder that are newer than `now` become as old as that.
fn forget_ahead(dir: &Path, now: SystemTime) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let found = entry.metadata()?;
        if found.is_file() && found.modified()? > now {
            std::fs::File::open(entry.path())?.set_modified(now)?;
        }
    }
    Ok(())
}

/// Tells whenever the machine's clock is set, for as long as it is not dropped.
/// `seen` is the folder that [`last_seen`] looks at.
pub(crate) async fn follow_sets(told: watch::Sender<()>, seen: PathBuf) {
    let follow = async {
        #[expect(
            deprecated,
            reason = "its successor is unsafe; the descriptor stays open and the same"
        )]
        let sets = AsyncFd::new(ClockSets::new()?)?;
        loop {
            let mut ready = sets.readable().await?;
            if sets.get_ref().take()? {
                // First, since who is told dates certificates by what was seen.
                if let Err(error) = forget_ahead(&seen, SystemTime::now()) {
                    tracing::warn!(%error, "{} may tell a later time than it is", seen.display());
                }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_seen_ahead_of_a_clock_that_was_set_back_is_forgotten() {
        let dir = tempfile::tempdir().expect("a folder");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let at = |years: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(years * 31_557_600);
        for (name, time) in [("ahead", at(80)), ("before", at(40))] {
            let file = std::fs::File::create(dir.path().join(name)).expect("a file");
            file.set_modified(time).expect("its time is set");
        }
        assert_eq!(last_seen(dir.path()), Timestamp::try_from(at(80)).ok());
        forget_ahead(dir.path(), now).expect("it is ours");
        assert_eq!(last_seen(dir.path()), Timestamp::try_from(now).ok());
        let before = dir.path().join("before").metadata().and_then(|found| found.modified());
        assert_eq!(before.expect("a time"), at(40), "left alone");
        let told = Timestamp::try_from(at(60)).expect("in range");
        saw(&dir.path().join("before"), told).expect("it is ours");
        assert_eq!(last_seen(dir.path()), Some(told));
    }
}

//! What time it is, on a machine that may have booted in the past.

use std::{path::Path, time::SystemTime};

use jiff::Timestamp;

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

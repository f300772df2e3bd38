//! The log: one line an event, on stderr, for journald or a terminal.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Libraries whose debug output tells nobody anything about skiff.
const NOISY: &[&str] = &["h2", "hyper", "hyper_util", "rustls", "tokio_rustls", "tungstenite"];

/// Starts logging; `verbosity` is the flag `-v`.
pub(crate) fn start(verbosity: u8) {
    let level = match verbosity {
        0..=1 => LevelFilter::INFO,
        2..=3 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let noisy = if verbosity < 6 { LevelFilter::WARN } else { level };
    // It warns of every election, and a server alone holds one at each start.
    let raft = if verbosity < 6 { LevelFilter::ERROR } else { level };
    let targets = NOISY.iter().fold(Targets::new().with_default(level), |targets, name| {
        targets.with_target(*name, noisy)
    });
    // It takes a session that nobody used any more for an error.
    let wireguard = if verbosity < 6 { LevelFilter::OFF } else { level };
    // Its API tells of each error as well as returning it: while there is no leader, many
    // a second.
    let raft_api = if verbosity < 6 { LevelFilter::OFF } else { level };
    let targets = targets
        .with_target("openraft", raft)
        .with_target("openraft::raft::api", raft_api)
        .with_target("boringtun", wireguard);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    // A second call in one process (tests) keeps the first subscriber.
    let _ = tracing_subscriber::registry().with(lines).with(targets).try_init();
}

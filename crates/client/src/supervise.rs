//! Tasks that are to go on for ever, kept at work.

use std::{any::Any, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::Instant;

use crate::Backoff;

/// Between the end of a task that has none and its next start.
const RESTART: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(60) };

/// Runs what never returns, and runs it anew where it does after all or panics, ever less
/// often while it does. `what` it is, is told in the log. Never returns.
pub async fn supervise<F: Future<Output = ()>>(what: &str, run: impl FnMut() -> F) {
    let told = |why: &str, pause: Duration| {
        tracing::error!("{what} failed and starts anew in {pause:?}: {why}");
    };
    restarted(RESTART, run, told).await;
}

/// [`supervise`] with pauses of one's own, and with one's own words: `told` hears why it
/// broke off, and when it starts anew.
pub async fn restarted<F: Future<Output = ()>>(
    pauses: Backoff,
    mut run: impl FnMut() -> F,
    told: impl Fn(&str, Duration),
) {
    let mut failures = 0;
    loop {
        let since = Instant::now();
        let attempt = async { run().await };
        let ended = AssertUnwindSafe(attempt).catch_unwind().await;
        failures = pauses.broken(failures, since.elapsed());
        let pause = pauses.delay(failures);
        match ended {
            Ok(()) => told("it ended", pause),
            Err(panic) => told(&format!("it panicked: {}", text(&*panic)), pause),
        }
        tokio::time::sleep(pause).await;
    }
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_panics_or_returns_starts_anew() {
        let begun = Instant::now();
        let mut starts = Vec::new();
        let run = || {
            starts.push(begun.elapsed().as_secs());
            let number = starts.len();
            async move {
                match number {
                    1 => panic!("as this test wants it"),
                    2 | 3 => {}
                    4 => tokio::time::sleep(RESTART.cap * 2).await,
                    _ => std::future::pending().await,
                }
            }
        };
        let hour = Duration::from_secs(3600);
        tokio::time::timeout(hour, supervise("a test", run)).await.expect_err("it never returns");
        assert_eq!(starts, [0, 1, 3, 7, 128]);
    }

    #[test]
    fn a_panic_is_told_in_its_words() {
        let words: [(Box<dyn Any + Send>, &str); 3] = [
            (Box::new("plain"), "plain"),
            (Box::new("put together".to_owned()), "put together"),
            (Box::new(5), "without a word"),
        ];
        for (panic, told) in words {
            assert_eq!(text(&*panic), told);
        }
    }
}

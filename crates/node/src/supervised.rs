//! Tasks that are to go on for ever, kept at work: one that breaks off is told of and
//! started again. The process does not end for it, since a server is more than its node.

use std::time::Duration;

use client::{Backoff, restarted};

/// Between a task's end that was none and its next start.
pub(crate) const RESTART: Backoff =
    Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(300) };

/// Runs what never returns, again and again where it does after all. `told` hears of it:
/// the panic itself has been told where it happened.
pub(crate) async fn keep<F: Future<Output = ()>>(run: impl FnMut() -> F, told: impl Fn(Duration)) {
    restarted(RESTART, run, |_, pause| told(pause)).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn who_breaks_off_again_and_again_rests_longer() {
        let seconds = |lasted: &[u64]| {
            let mut before = 0;
            let rest = |lasted: &u64| {
                before = RESTART.broken(before, Duration::from_secs(*lasted));
                RESTART.delay(before).as_secs()
            };
            lasted.iter().map(rest).collect::<Vec<_>>()
        };
        assert_eq!(seconds(&[0, 0, 0, 0]), [1, 2, 4, 8]);
        assert_eq!(seconds(&[0, 0, 0, 301, 0]), [1, 2, 4, 1, 2], "it was well for a while");
        assert_eq!(seconds(&[0; 40])[39], 300);
    }

    #[tokio::test(start_paused = true)]
    async fn what_breaks_off_or_returns_starts_again() {
        let begun = Instant::now();
        let (starts, told) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let run = || {
            let mut starts = starts.lock().expect("no panic");
            starts.push(begun.elapsed().as_secs());
            let number = starts.len();
            async move {
                match number {
                    1 => panic!("as this test wants it"),
                    2 => {}
                    _ => std::future::pending().await,
                }
            }
        };
        let kept = keep(run, |pause| told.lock().expect("no panic").push(pause.as_secs()));
        let hour = Duration::from_secs(3600);
        tokio::time::timeout(hour, kept).await.expect_err("it never returns");
        assert_eq!(*starts.lock().expect("no panic"), [0, 1, 3]);
        assert_eq!(*told.lock().expect("no panic"), [1, 2]);
    }
}

//! How long a Job waits before it replaces pods that failed.

use std::time::Duration;

use client::Backoff;
use jiff::Timestamp;

/// Upstream's numbers.
const BACKOFF: Backoff =
    Backoff { base: Duration::from_secs(10), cap: Duration::from_secs(10 * 60) };

/// The failures in a row, and when the last one was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Failures {
    pub(super) count: u32,
    pub(super) last: Option<Timestamp>,
}

impl Failures {
    /// With pods that have ended since, in whatever order.
    pub(super) fn with(self, succeeded: &[Timestamp], failed: &[Timestamp]) -> Self {
        let success = succeeded.iter().max();
        let before = match success {
            Some(_) => Self::default(),
            None => self,
        };
        let after_success = failed.iter().filter(|at| success.is_none_or(|success| *at > success));
        let (more, last) = after_success.fold((0, before.last), |(n, last), at| {
            (n + 1, Some(last.map_or(*at, |last| last.max(*at))))
        });
        Self { count: before.count.saturating_add(more), last }
    }

    /// How long pods must not be created yet; zero once they may.
    pub(super) fn wait(self, now: Timestamp) -> Duration {
        let Some(last) = self.last.filter(|_| self.count > 0) else { return Duration::ZERO };
        let delay = BACKOFF.delay(self.count);
        match Duration::try_from(now.duration_since(last)) {
            Ok(passed) => delay.saturating_sub(passed),
            // A node's clock may be a little ahead; where it is more, ours was set back.
            Err(_) if last <= now + delay => delay,
            Err(_) => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_from_ten_seconds_and_a_success_ends_it() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let one = Failures::default().with(&[], &[at(100)]);
        assert_eq!((one.wait(at(100)).as_secs(), one.wait(at(107)).as_secs()), (10, 3));
        assert_eq!((one.wait(at(110)).as_secs(), one.wait(at(95)).as_secs()), (0, 10));
        assert_eq!(one.wait(at(0)).as_secs(), 0, "else it would wait until that has come again");
        let three = one.with(&[], &[at(130), at(120)]);
        assert_eq!((three.count, three.wait(at(130)).as_secs()), (3, 40));
        assert_eq!(three.with(&[], &[at(131); 20]).wait(at(131)).as_secs(), 600);
        assert_eq!(three.with(&[at(140)], &[at(135)]), Failures::default());
        assert_eq!(three.with(&[at(140)], &[at(141)]).wait(at(141)).as_secs(), 10);
    }
}

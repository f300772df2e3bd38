//! The wall clock beside one that nobody sets: a pod's delays and periods of grace
//! are moments of the former and last as long as the latter says.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// What is less comes from a clock that is brought into step, not set.
const LEAP: SignedDuration = SignedDuration::from_secs(1);

/// What the wall clock showed when it was last looked at.
#[derive(Debug)]
pub(super) struct Clock {
    shown: Timestamp,
    at: Instant,
}

impl Clock {
    pub(super) fn new(shown: Timestamp, at: Instant) -> Self {
        Self { shown, at }
    }

    /// Looks at it again; by how much it was set meanwhile, where it was.
    pub(super) fn follow(&mut self, shown: Timestamp, at: Instant) -> Option<SignedDuration> {
        let passed = SignedDuration::try_from(at.duration_since(self.at)).ok()?;
        let set_by = shown.duration_since(self.shown) - passed;
        *self = Self { shown, at };
        (set_by.abs() >= LEAP).then_some(set_by)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_a_leap_counts_and_only_once() {
        let start = Instant::now();
        let mut clock = Clock::new(Timestamp::UNIX_EPOCH, start);
        // Milliseconds: on the wall clock, on the steady one; by how much it was set.
        let table = [
            (5_000, 5_000, None),
            (10_400, 10_000, None),
            (15_900, 15_000, None),
            (3_600_900, 16_000, Some(3_584_000)),
            (3_601_900, 17_000, None),
            (-86_400_000, 18_000, Some(-90_002_900)),
            (-86_399_000, 19_000, None),
        ];
        for (shown, at, set_by) in table {
            let shown = Timestamp::from_millisecond(shown).expect("in range");
            let found = clock.follow(shown, start + Duration::from_millis(at));
            assert_eq!(found, set_by.map(SignedDuration::from_millis), "{shown}");
        }
    }
}

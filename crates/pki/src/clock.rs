//! What time it is on a machine without a battery-backed clock.
//!
//! A Raspberry Pi boots in the past until NTP answers. Certificates would look
//! not yet valid, and tokens would be issued in the past. Time never runs
//! backwards here: it is at least the last time seen and the time of the build.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use rustls::{pki_types::UnixTime, time_provider::TimeProvider};

/// The latest of the machine's clock, the last time that was seen (persisted
/// by the caller) and the time of the build.
pub fn latest(clock: Timestamp, last_seen: Option<Timestamp>, built: Timestamp) -> Timestamp {
    clock.max(built).max(last_seen.unwrap_or(built))
}

/// The machine's clock with a floor, as TLS reads it.
#[derive(Debug)]
pub struct FlooredClock {
    floor: Timestamp,
}

impl FlooredClock {
    /// A clock that shows `floor` or later.
    pub fn new(floor: Timestamp) -> Self {
        Self { floor }
    }
}

impl TimeProvider for FlooredClock {
    fn current_time(&self) -> Option<UnixTime> {
        let floor = u64::try_from(self.floor.as_second()).unwrap_or(0);
        Some(UnixTime::now().max(UnixTime::since_unix_epoch(Duration::from_secs(floor))))
    }
}

/// The machine's clock, unless it is far from what the servers of the cluster said:
/// then theirs, carried on by the machine's steady one. Once the machine's has
/// been set right, it is believed again.
#[derive(Debug)]
pub struct JudgedClock {
    floor: Timestamp,
    told: Mutex<Told>,
}

/// What the servers have said.
#[derive(Clone, Copy, Debug, Default)]
enum Told {
    /// Nothing so far.
    #[default]
    Nothing,
    /// That the machine's clock is right, so that no floor is needed any more: what that
    /// is made of may have been seen while a clock was ahead.
    Right,
    /// A time far from the machine's, and when that was heard.
    Other(Timestamp, Instant),
}

/// Certificates are backdated by a day, so that much makes no difference.
pub const TRUSTED_DIFFERENCE: SignedDuration = SignedDuration::from_hours(12);

impl JudgedClock {
    /// A clock that shows `floor` or later until a server has told the time.
    pub fn new(floor: Timestamp) -> Self {
        Self { floor, told: Mutex::default() }
    }

    /// What the servers say that the time is. Returns by how much the machine's
    /// clock is wrong (positive: it is ahead), where that matters.
    pub fn hear(&self, told: Timestamp) -> Option<SignedDuration> {
        let difference = Timestamp::now().duration_since(told);
        let wrong = difference.abs() > TRUSTED_DIFFERENCE;
        let mut slot = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = if wrong { Told::Other(told, Instant::now()) } else { Told::Right };
        wrong.then_some(difference)
    }

    /// Whether servers have said what time it is.
    pub fn is_told(&self) -> bool {
        !matches!(*self.told.lock().unwrap_or_else(PoisonError::into_inner), Told::Nothing)
    }

    /// The time as it is judged to be.
    pub fn now(&self) -> Timestamp {
        let machine = Timestamp::now();
        match *self.told.lock().unwrap_or_else(PoisonError::into_inner) {
            Told::Nothing => machine.max(self.floor),
            Told::Right => machine,
            Told::Other(told, then) => judge(machine, told, then.elapsed()),
        }
    }
}

/// What was told some time ago where that is far from the machine's clock, else the latter.
fn judge(machine: Timestamp, told: Timestamp, elapsed: Duration) -> Timestamp {
    let now = told.checked_add(elapsed).unwrap_or(Timestamp::MAX);
    match machine.duration_since(now).abs() > TRUSTED_DIFFERENCE {
        true => now,
        false => machine,
    }
}

impl TimeProvider for JudgedClock {
    fn current_time(&self) -> Option<UnixTime> {
        let second = u64::try_from(self.now().as_second()).unwrap_or(0);
        Some(UnixTime::since_unix_epoch(Duration::from_secs(second)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_never_before_what_was_seen() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        for (clock, last_seen, built, expected) in [
            (at(100), None, at(50), at(100)),
            (at(0), None, at(50), at(50)),
            (at(0), Some(at(70)), at(50), at(70)),
            (at(100), Some(at(70)), at(50), at(100)),
            (at(0), Some(at(10)), at(50), at(50)),
        ] {
            assert_eq!(latest(clock, last_seen, built), expected);
        }
    }

    #[test]
    fn a_clock_that_is_years_off_is_not_believed_until_it_is_set() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        const DAY: i64 = 24 * 3600;
        let minute = Duration::from_secs(60);
        for machine in [0, 5000 * DAY] {
            assert_eq!(judge(at(machine), at(1000 * DAY), minute), at(1000 * DAY + 60));
        }
        let set = at(1000 * DAY + 3600);
        assert_eq!(judge(set, at(1000 * DAY), minute), set);

        let seen_ahead = Timestamp::now() + SignedDuration::from_hours(24 * 9000);
        let clock = JudgedClock::new(seen_ahead);
        assert_eq!(clock.now(), seen_ahead, "nobody has said otherwise");
        assert!(!clock.is_told());
        assert_eq!(clock.hear(Timestamp::now()), None);
        assert!(clock.now() < seen_ahead, "the servers have");
        assert!(clock.is_told());
        let future = Timestamp::now() + SignedDuration::from_hours(24 * 5000);
        assert!(clock.hear(future).is_some_and(|ahead| ahead.is_negative()));
        assert!(clock.now() >= future);
        let past = Timestamp::now() - SignedDuration::from_hours(24 * 5000);
        assert!(clock.hear(past).is_some_and(|ahead| ahead.is_positive()));
        assert!(clock.now() < past + SignedDuration::from_hours(1));
    }

    #[test]
    fn tls_reads_the_floor_or_later() {
        let far = Timestamp::from_second(40_000_000_000).expect("in range");
        let read = |floor| FlooredClock::new(floor).current_time().expect("always").as_secs();
        assert_eq!(read(far), 40_000_000_000);
        assert!(read(Timestamp::UNIX_EPOCH) > 1_700_000_000);
    }
}

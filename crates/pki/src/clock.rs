//! What time it is on a machine without a battery-backed clock.
//!
//! A Raspberry Pi boots in the past until NTP answers. Certificates would look
//! not yet valid, and tokens would be issued in the past. Time never runs
//! backwards here: it is at least the last time seen and the time of the build.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use jiff::Timestamp;
use rustls::{pki_types::UnixTime, time_provider::TimeProvider};

/// The latest of the machine's clock, the last time that was seen (persisted
/// by the caller) and the time of the build.
pub fn latest(clock: Timestamp, last_seen: Option<Timestamp>, built: Timestamp) -> Timestamp {
    clock.max(built).max(last_seen.unwrap_or(built))
}

/// The machine's clock with a floor, as TLS reads it.
#[derive(Debug)]
pub struct FlooredClock {
    /// Unix seconds.
    floor: AtomicI64,
}

impl FlooredClock {
    /// A clock that shows `floor` or later.
    pub fn new(floor: Timestamp) -> Self {
        Self { floor: AtomicI64::new(floor.as_second()) }
    }

    /// Raises the floor; a lower one changes nothing.
    pub fn raise(&self, floor: Timestamp) {
        self.floor.fetch_max(floor.as_second(), Ordering::Relaxed);
    }
}

impl TimeProvider for FlooredClock {
    fn current_time(&self) -> Option<UnixTime> {
        let floor = u64::try_from(self.floor.load(Ordering::Relaxed)).unwrap_or(0);
        Some(UnixTime::now().max(UnixTime::since_unix_epoch(Duration::from_secs(floor))))
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
    fn the_floor_only_rises() {
        let far = Timestamp::from_second(40_000_000_000).expect("in range");
        let clock = FlooredClock::new(Timestamp::UNIX_EPOCH);
        clock.raise(far);
        clock.raise(Timestamp::UNIX_EPOCH);
        assert_eq!(clock.current_time().expect("always").as_secs(), 40_000_000_000);
    }
}

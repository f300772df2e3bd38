//! From CPU time used to CPUs used: what was read earlier is kept for a minute.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

/// Over less than this a speed is noise.
pub(super) const WINDOW_MIN: Duration = Duration::from_secs(1);
/// Over this much it is steady; the window of cAdvisor's housekeeping.
const WINDOW_GOOD: Duration = Duration::from_secs(10);
/// What was read before says nothing of now.
const WINDOW_MAX: Duration = Duration::from_secs(60);
/// Readings that follow each other faster are not all kept.
const KEPT_EVERY: Duration = Duration::from_secs(5);

/// Whose CPU time it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whose {
    Node,
    /// By its sandbox's id: a new sandbox has a new cgroup.
    Pod(String),
    Container(String),
}

/// CPU time used, nanoseconds.
pub(super) type Reading = BTreeMap<Whose, u64>;

/// A speed and the time over which it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Billionths of a CPU.
    pub(crate) nano_cores: u64,
    pub(crate) window: Duration,
}

/// Readings of the last minute, oldest first.
#[derive(Debug, Default)]
pub(super) struct Readings(VecDeque<(Instant, Reading)>);

impl Readings {
    /// The reading to compare one of `now` with: the newest that is old enough
    /// for a steady speed, else the oldest that is old enough for any.
    pub(super) fn base(&self, now: Instant) -> Option<(Duration, &Reading)> {
        let mut ages = self.0.iter().map(|(at, reading)| (now.duration_since(*at), reading));
        let usable = |(age, _): &(Duration, &Reading)| (WINDOW_MIN..=WINDOW_MAX).contains(age);
        let good = ages.clone().filter(usable).rfind(|(age, _)| *age >= WINDOW_GOOD);
        good.or_else(|| ages.find(usable))
    }

    /// Keeps a reading for later ones.
    pub(super) fn keep(&mut self, now: Instant, reading: Reading) {
        self.0.retain(|(at, _)| now.duration_since(*at) <= WINDOW_MAX);
        let dense = self.0.back().is_some_and(|(at, _)| now.duration_since(*at) < KEPT_EVERY);
        if !dense {
            self.0.push_back((now, reading));
        }
    }
}

/// How fast `whose` uses CPU. What began after the base reading is judged from its
/// own beginning, `age` ago.
pub(super) fn rate(
    base: Option<(Duration, &Reading)>,
    whose: &Whose,
    cpu_ns: u64,
    age: Option<Duration>,
) -> Option<Rate> {
    let speed = |used: u64, window: Duration| {
        let nanos = window.as_nanos().max(1);
        let nano_cores = u128::from(used) * 1_000_000_000 / nanos;
        Some(Rate { nano_cores: u64::try_from(nano_cores).unwrap_or(u64::MAX), window })
    };
    let (window, before) = base?;
    match before.get(whose) {
        Some(before) => speed(cpu_ns.checked_sub(*before)?, window),
        None => speed(cpu_ns, age.filter(|age| *age <= WINDOW_MAX && *age >= WINDOW_MIN / 2)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(ns: u64) -> Reading {
        [(Whose::Node, ns)].into()
    }

    #[test]
    fn the_newest_steady_window_is_taken() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut readings = Readings::default();
        let base = |readings: &Readings, now| readings.base(at(now)).map(|(age, _)| age.as_secs());
        assert_eq!(base(&readings, 0), None);
        readings.keep(at(0), reading(0));
        assert_eq!(base(&readings, 0), None, "no time has passed");
        assert_eq!(base(&readings, 2), Some(2));
        readings.keep(at(2), reading(1));
        assert_eq!(base(&readings, 3), Some(3), "readings too close are not kept");
        readings.keep(at(20), reading(2));
        readings.keep(at(40), reading(3));
        assert_eq!(base(&readings, 45), Some(25), "the newest that is ten seconds old");
        assert_eq!(base(&readings, 55), Some(15));
        assert_eq!(base(&readings, 101), None, "too old to say anything");
        readings.keep(at(200), reading(9));
        assert_eq!(readings.0.len(), 1, "and forgotten");
    }

    #[test]
    fn speeds() {
        let before = reading(1_000_000_000);
        let base = Some((Duration::from_secs(10), &before));
        let cores = |whose: &Whose, ns, age: Option<u64>| {
            rate(base, whose, ns, age.map(Duration::from_secs)).map(|rate| rate.nano_cores)
        };
        assert_eq!(cores(&Whose::Node, 6_000_000_000, None), Some(500_000_000));
        assert_eq!(cores(&Whose::Node, 0, None), None, "a counter that went back");
        let new = Whose::Container("c".into());
        assert_eq!(cores(&new, 2_000_000_000, Some(4)), Some(500_000_000), "since its start");
        assert_eq!(cores(&new, 2_000_000_000, Some(3600)), None, "its past is not known");
        assert_eq!(rate(None, &Whose::Node, 1, None), None);
    }
}

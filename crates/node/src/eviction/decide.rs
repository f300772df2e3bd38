//! Which signal is to be answered, from what was seen now and before. Pure.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::thresholds::{Eviction, SIGNALS, Signal, Threshold};

/// What the node is short of: its conditions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub(crate) memory: bool,
    pub(crate) disk: bool,
    pub(crate) pids: bool,
}

impl Pressure {
    /// Conditions and whether each holds, in the order of the Node's.
    pub(crate) fn told(self) -> [(&'static str, bool); 3] {
        [("MemoryPressure", self.memory), ("DiskPressure", self.disk), ("PIDPressure", self.pids)]
    }

    fn or(self, other: Self) -> Self {
        Self {
            memory: self.memory || other.memory,
            disk: self.disk || other.disk,
            pids: self.pids || other.pids,
        }
    }
}

/// One signal's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Observed {
    pub(super) available: u64,
    pub(super) capacity: u64,
}

pub(super) type Observations = BTreeMap<Signal, Observed>;

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Since when each threshold is met without a break, by its place in the list.
    since: BTreeMap<usize, Instant>,
    /// When each condition last had a reason, by the signal.
    last: BTreeMap<Signal, Instant>,
}

/// What follows from a look.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    pub(super) pressure: Pressure,
    /// The threshold to answer first, once its time is over.
    pub(super) answer: Option<Threshold>,
    /// When a soft threshold's time is over.
    pub(super) wake_in: Option<Duration>,
}

impl Memory {
    /// Takes in a look.
    pub(super) fn judge(
        &mut self,
        eviction: &Eviction,
        seen: &Observations,
        now: Instant,
    ) -> Verdict {
        let mut due: Vec<Threshold> = Vec::new();
        let mut wake_in: Option<Duration> = None;
        for (index, threshold) in eviction.thresholds.iter().enumerate() {
            let Some(observed) = seen.get(&threshold.signal) else { continue };
            // One that was met is over once there is so much more.
            let more = self.since.get(&index).and(threshold.reclaim);
            let below = threshold.below.of(observed.capacity)
                + more.map_or(0, |amount| amount.of(observed.capacity));
            if observed.available >= below {
                self.since.remove(&index);
                continue;
            }
            let since = *self.since.entry(index).or_insert(now);
            self.last.insert(threshold.signal, now);
            let held = now.duration_since(since);
            match threshold.grace.checked_sub(held).filter(|left| !left.is_zero()) {
                None => due.push(*threshold),
                Some(left) => wake_in = Some(wake_in.map_or(left, |other| other.min(left))),
            }
        }
        let mut pressure = Pressure::default();
        self.last.retain(|signal, at| {
            let age = now.duration_since(*at);
            let holds = age <= eviction.transition || age.is_zero();
            if holds {
                pressure = pressure.or(signal.row().pressure);
            }
            holds
        });
        let order = |threshold: &Threshold| {
            let place = SIGNALS.iter().position(|row| row.signal == threshold.signal);
            (place, !threshold.is_hard())
        };
        due.sort_by_key(order);
        Verdict { pressure, answer: due.first().copied(), wake_in }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    fn at(second: u64) -> Instant {
        *START + Duration::from_secs(second)
    }

    fn eviction(flags: &[(&str, &str)]) -> Eviction {
        let read = Eviction::read(|flag| {
            let given = flags.iter().find(|(name, _)| *name == flag);
            given.map(|(_, v)| v.split(',').map(str::to_owned).collect()).unwrap_or_default()
        });
        read.expect("well written")
    }

    fn seen(rows: &[(Signal, u64)]) -> Observations {
        let row = |(signal, available): &(Signal, u64)| {
            (*signal, Observed { available: *available, capacity: 1000 })
        };
        rows.iter().map(row).collect()
    }

    #[test]
    fn a_hard_threshold_is_answered_at_once_and_memory_first() {
        let eviction = eviction(&[("eviction-hard", "nodefs.available<10%,memory.available<200")]);
        let mut memory = Memory::default();
        let (ram, disk) = (Signal::MemoryAvailable, Signal::NodeFsAvailable);
        let verdict = memory.judge(&eviction, &seen(&[(ram, 200), (disk, 100)]), at(0));
        assert_eq!((verdict.pressure, verdict.answer), (Pressure::default(), None), "just enough");
        let verdict = memory.judge(&eviction, &seen(&[(ram, 199), (disk, 99)]), at(1));
        assert_eq!(verdict.pressure, Pressure { memory: true, disk: true, pids: false });
        assert_eq!(verdict.answer.map(|threshold| threshold.signal), Some(ram));
        let verdict = memory.judge(&eviction, &seen(&[(ram, 500), (disk, 99)]), at(2));
        assert_eq!(verdict.answer.map(|threshold| threshold.signal), Some(disk));
    }

    #[test]
    fn a_soft_threshold_has_to_hold() {
        let eviction = eviction(&[
            ("eviction-hard", ""),
            ("eviction-soft", "memory.available<300"),
            ("eviction-soft-grace-period", "memory.available=30s"),
        ]);
        let mut memory = Memory::default();
        let mut judge = |free, second| {
            let verdict =
                memory.judge(&eviction, &seen(&[(Signal::MemoryAvailable, free)]), at(second));
            (verdict.answer.is_some(), verdict.pressure.memory, verdict.wake_in)
        };
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(judge(299, 0), (false, true, seconds(30)));
        assert_eq!(judge(299, 20), (false, true, seconds(10)));
        assert_eq!(judge(400, 25), (false, true, None), "it has not held");
        assert_eq!(judge(299, 40), (false, true, seconds(30)));
        assert_eq!(judge(299, 70), (true, true, None));
    }

    #[test]
    fn a_condition_stays_for_its_time_and_a_reclaim_asks_for_more() {
        let eviction = eviction(&[
            ("eviction-hard", "memory.available<100"),
            ("eviction-minimum-reclaim", "memory.available=50"),
            ("eviction-pressure-transition-period", "60s"),
        ]);
        let mut memory = Memory::default();
        let mut judge = |free, second| {
            let verdict =
                memory.judge(&eviction, &seen(&[(Signal::MemoryAvailable, free)]), at(second));
            (verdict.answer.is_some(), verdict.pressure.memory)
        };
        assert_eq!(judge(120, 0), (false, false));
        assert_eq!(judge(99, 1), (true, true));
        assert_eq!(judge(120, 2), (true, true), "not enough reclaimed");
        assert_eq!(judge(150, 3), (false, true));
        assert_eq!(judge(150, 62), (false, true));
        assert_eq!(judge(150, 63), (false, false));
    }
}

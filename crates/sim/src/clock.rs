//! The wall clock of a run: it goes with tokio's, and users set it.

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex},
    time::Duration,
};

use client::Ambient;
use jiff::{SignedDuration, Timestamp};
use tokio::{sync::watch, time::Instant};

use crate::{Random, world::lock};

/// What was decided so long ago may only be written now.
const LATELY: Duration = Duration::from_secs(10);

/// Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    /// By how much it was set in all, and since when; the newest last.
    set_by: Mutex<Vec<(Instant, SignedDuration)>>,
    told: watch::Sender<()>,
}

impl Clock {
    /// Some day, and as long after it as the run has lasted.
    pub(crate) fn new() -> Self {
        let began = Instant::now();
        let set_by = Mutex::new(vec![(began, SignedDuration::ZERO)]);
        Self(Arc::new(Inner { began, set_by, told: watch::Sender::default() }))
    }

    /// The time that it shows.
    pub(crate) fn now(&self) -> Timestamp {
        let set_by = lock(&self.0.set_by).last().map(|(_, by)| *by).unwrap_or_default();
        self.unset() + set_by
    }

    /// What it would show had nobody set it.
    fn unset(&self) -> Timestamp {
        let day: Timestamp = "2026-03-01T12:00:00Z".parse().expect("a time");
        day + self.since()
    }

    /// How long the run has lasted.
    pub(crate) fn since(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// Sets it forward or back.
    pub(crate) fn set_by(&self, by: SignedDuration) {
        {
            let mut all = lock(&self.0.set_by);
            let before = all.last().map(|(_, by)| *by).unwrap_or_default();
            all.push((Instant::now(), before + by));
        }
        self.0.told.send_replace(());
    }

    /// The earliest and the latest that it has shown to whoever writes now.
    pub(crate) fn lately(&self) -> RangeInclusive<Timestamp> {
        let all = lock(&self.0.set_by);
        let is_over = |(at, _): &(Instant, SignedDuration)| at.elapsed() > LATELY;
        // The last of those from before holds at the beginning of that time.
        let first = all.iter().rposition(is_over).unwrap_or(0);
        let least = all[first..].iter().map(|(_, by)| *by).min().unwrap_or_default();
        let most = all[first..].iter().map(|(_, by)| *by).max().unwrap_or_default();
        (self.unset() - LATELY + least)..=(self.unset() + most)
    }

    /// The same with a randomness of its own.
    pub(crate) fn ambient(&self, random: Random) -> Ambient {
        let clock = self.clone();
        let ambient = Ambient::new(move || clock.now(), move || random.next());
        ambient.with_clock_sets(self.0.told.subscribe())
    }
}

//! Time and randomness, which come from outside so that a whole cluster can
//! run deterministically in one process.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::watch;

/// The wall clock and a source of randomness. Durations are waited for with
/// tokio's clock, which tests pause.
#[derive(Clone)]
pub struct Ambient {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    random: Arc<dyn Fn() -> u64 + Send + Sync>,
    clock_sets: watch::Receiver<()>,
}

impl fmt::Debug for Ambient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ambient")
    }
}

impl Ambient {
    /// A clock and a randomness of one's own: tests and simulation.
    pub fn new(
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
        random: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        // Nobody sets this clock.
        let clock_sets = watch::Sender::new(()).subscribe();
        Self { now: Arc::new(now), random: Arc::new(random), clock_sets }
    }

    /// The same, whose wall clock is set now and then; each time this is told.
    #[must_use]
    pub fn with_clock_sets(self, clock_sets: watch::Receiver<()>) -> Self {
        Self { clock_sets, ..self }
    }

    /// The machine's. The randomness spreads retries and names; it is not for
    /// secrets.
    pub fn system() -> Self {
        // A fresh `RandomState` differs from the last by a counter under keys
        // from the kernel, which the hash spreads over all bits.
        Self::new(Timestamp::now, || RandomState::new().hash_one(0u8))
    }

    /// The wall clock.
    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// Tells whenever the wall clock was set and no longer goes with tokio's: what
    /// waits for a moment of it has to reckon anew.
    pub fn clock_sets(&self) -> ClockSets {
        let mut sets = self.clock_sets.clone();
        sets.mark_unchanged();
        ClockSets(sets)
    }

    /// Waits until the wall clock shows `at` or later, whichever way it is set
    /// meanwhile.
    pub async fn sleep_until(&self, at: Timestamp) {
        // From before the first look, so that nothing is missed between the two.
        let mut sets = self.clock_sets();
        loop {
            let left = Duration::try_from(at.duration_since(self.now())).unwrap_or_default();
            if left.is_zero() {
                return;
            }
            tokio::select! {
                biased;
                () = sets.next() => {}
                () = tokio::time::sleep(left) => {}
            }
        }
    }

    /// 64 random bits.
    pub fn random(&self) -> u64 {
        (self.random)()
    }

    /// `delay` plus up to half of it, so that clients which were cut off
    /// together do not return together.
    pub fn jittered(&self, delay: Duration) -> Duration {
        let half_us = (delay.as_micros() / 2).min(u128::from(u64::MAX - 1)) as u64;
        delay + Duration::from_micros(self.random() % (half_us + 1))
    }

    /// `n` letters and digits that spell no word: the suffix of generated
    /// names, in upstream's alphabet.
    pub fn suffix(&self, n: usize) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        (0..n).map(|_| char::from(ALPHABET[(self.random() % 27) as usize])).collect()
    }
}

/// Tells that the wall clock was set.
#[derive(Clone, Debug)]
pub struct ClockSets(watch::Receiver<()>);

impl ClockSets {
    /// Waits until it is set once more, counted from the last time that was told;
    /// for ever where nobody tells. Nothing is lost where this is dropped.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Exponential delays: `base`, twice that, and so on up to `cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub base: Duration,
    /// Never more.
    pub cap: Duration,
}

impl Backoff {
    /// What client-go's rate limiting queue uses for each key.
    pub const RECONCILE: Self =
        Self { base: Duration::from_millis(5), cap: Duration::from_secs(1000) };
    /// For watches that broke and servers that are away.
    pub const CONNECT: Self =
        Self { base: Duration::from_millis(100), cap: Duration::from_secs(10) };

    /// The delay after `failures` failures in a row; none after zero.
    pub fn delay(self, failures: u32) -> Duration {
        match failures {
            0 => Duration::ZERO,
            n => {
                self.base.saturating_mul(1u32.checked_shl(n - 1).unwrap_or(u32::MAX)).min(self.cap)
            }
        }
    }

    /// How many in a row broke off, with one that has lasted so long: one that was well for
    /// longer than the longest delay starts afresh.
    pub fn broken(self, before: u32, lasted: Duration) -> u32 {
        if lasted > self.cap { 1 } else { before.saturating_add(1) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_cap() {
        let delays: Vec<u128> = [0, 1, 2, 3, 18, 19, 40, u32::MAX]
            .map(|n| Backoff::RECONCILE.delay(n).as_millis())
            .into();
        assert_eq!(delays, [0, 5, 10, 20, 655_360, 1_000_000, 1_000_000, 1_000_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_is_waited_for_whichever_way_the_clock_is_set() {
        let (began, set_by_s) = (tokio::time::Instant::now(), Arc::new(AtomicI64::new(0)));
        let told = watch::Sender::new(());
        let offset = set_by_s.clone();
        let now = move || {
            let set = jiff::SignedDuration::from_secs(offset.load(Ordering::Relaxed));
            Timestamp::UNIX_EPOCH + began.elapsed() + set
        };
        let ambient = Ambient::new(now, || 0).with_clock_sets(told.subscribe());
        let at = Timestamp::from_second(3600).expect("in range");
        let waiting = tokio::spawn(async move {
            ambient.sleep_until(at).await;
            began.elapsed().as_secs()
        });
        let set = |to| {
            set_by_s.store(to, Ordering::Relaxed);
            told.send_replace(());
        };
        tokio::time::sleep(Duration::from_secs(60)).await;
        set(-1000);
        tokio::time::sleep(Duration::from_secs(3700)).await;
        assert!(!waiting.is_finished(), "it was set back: there are 840 seconds left");
        set(100_000_000);
        assert_eq!(waiting.await.expect("no panic"), 3760, "it has come and gone");
    }

    #[test]
    fn jitter_stays_in_its_bounds() {
        for random in [0, 1, u64::MAX] {
            let ambient = Ambient::new(|| Timestamp::UNIX_EPOCH, move || random);
            let delay = ambient.jittered(Duration::from_secs(2));
            assert!((Duration::from_secs(2)..=Duration::from_secs(3)).contains(&delay));
        }
        assert_eq!(Ambient::system().suffix(5).len(), 5);
        assert_ne!(Ambient::system().random(), Ambient::system().random());
    }
}

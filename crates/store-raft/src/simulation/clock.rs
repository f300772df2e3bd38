//! A clock for each server: one that runs fast or slow beside the others'.
//!
//! Raft's own moments and timers go by it, and so does what stands on its lease. What
//! a server waits for with patience alone goes by the test's clock: it promises nothing.
//! What time of day it is, neither `store` nor `store-raft` ever asks.

use std::{
    fmt::Debug,
    future::Future,
    ops::{Add, AddAssign, Sub, SubAssign},
    sync::Arc,
    time::Duration,
};

use grpc::{BoxFuture, Call, Messages, Service, Status};
use openraft::{AsyncRuntime, OptionalSend, TokioRuntime};
use tokio::time::Instant;

use super::random::Random;

/// The slowest and the fastest clock, in thousandths. The lease holds up to 1.5 times
/// the one beside the other (see `consensus`); these are just within.
const RATES: (u64, u64) = (834, 1250);

tokio::task_local! {
    static PACE: Pace;
}

/// How fast a clock runs: it was right at the origin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    origin: Instant,
    per_mille: u32,
}

impl Pace {
    pub(crate) fn new(per_mille: u32) -> Self {
        Self { origin: Instant::now(), per_mille }
    }

    /// Most often the slowest or the fastest.
    pub(crate) fn any(random: &Random) -> Self {
        let (slow, fast) = RATES;
        let between = slow + random.below(fast - slow);
        let rate = [slow, fast, between, 1000][random.index(4)];
        Self::new(u32::try_from(rate).expect("it is small"))
    }

    /// Of the task that runs; right where it has none.
    fn here() -> Self {
        PACE.try_with(|pace| *pace).unwrap_or_else(|_| Self::new(1000))
    }

    /// Does something by this clock, with all that it starts through [`Paced`].
    pub(crate) fn scope<F: Future>(self, act: F) -> impl Future<Output = F::Output> {
        PACE.scope(self, act)
    }

    /// How long by the test's clock what is so long by this one lasts.
    pub(crate) fn lasts(self, by_this: Duration) -> Duration {
        by_this * 1000 / self.per_mille
    }

    fn now(self) -> Instant {
        self.origin + self.origin.elapsed() * self.per_mille / 1000
    }

    /// What the test's clock says when this one says so.
    fn when(self, moment: Moment) -> Instant {
        match moment.0.checked_duration_since(self.origin) {
            Some(since) => self.origin + self.lasts(since),
            None => self.origin,
        }
    }
}

/// What a server's clock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Instant);

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

impl AddAssign<Duration> for Moment {
    fn add_assign(&mut self, duration: Duration) {
        self.0 += duration;
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0 - duration)
    }
}

impl Sub for Moment {
    type Output = Duration;

    fn sub(self, other: Self) -> Duration {
        self.0 - other.0
    }
}

impl SubAssign<Duration> for Moment {
    fn sub_assign(&mut self, duration: Duration) {
        self.0 -= duration;
    }
}

impl openraft::Instant for Moment {
    fn now() -> Self {
        Self(Pace::here().now())
    }
}

/// tokio, by the clock of the task's server.
#[derive(Debug)]
pub(crate) struct Paced(TokioRuntime);

impl AsyncRuntime for Paced {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = Moment;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> =
        <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(PACE.scope(Pace::here(), future))
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        tokio::time::sleep(Pace::here().lasts(duration))
    }

    fn sleep_until(deadline: Moment) -> Self::Sleep {
        tokio::time::sleep_until(Pace::here().when(deadline))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        tokio::time::timeout(Pace::here().lasts(duration), future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Moment,
        future: F,
    ) -> Self::Timeout<R, F> {
        tokio::time::timeout_at(Pace::here().when(deadline), future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F: Future<Output = T>, T>(&mut self, future: F) -> T {
        self.0.block_on(future)
    }
}

/// A server's answers by its own clock, whoever asks.
pub(crate) fn paced(pace: Pace, service: Arc<dyn Service>) -> Arc<dyn Service> {
    struct ByClock(Pace, Arc<dyn Service>);

    impl Service for ByClock {
        fn call(&self, call: Call) -> BoxFuture<Result<Messages, Status>> {
            Box::pin(self.0.scope(self.1.call(call)))
        }
    }

    Arc::new(ByClock(pace, service))
}

mod tests {
    use openraft::Instant as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fast_clock_is_early_and_a_slow_one_late() {
        const HOUR: Duration = Duration::from_secs(3600);
        for (per_mille, lasts) in [(500, 2 * HOUR), (1000, HOUR), (1250, HOUR * 4 / 5)] {
            let pace = Pace::new(per_mille);
            let start = Instant::now();
            let slept = pace.scope(async {
                let asleep = async {
                    let before = Moment::now();
                    Paced::sleep(HOUR).await;
                    Paced::sleep_until(before + 2 * HOUR).await;
                    before.elapsed()
                };
                Paced::spawn(asleep).await.expect("it ends")
            });
            assert_eq!(slept.await, 2 * HOUR, "by its own clock");
            assert_eq!(start.elapsed(), 2 * lasts, "by the test's");
        }
    }
}

//! The runtime that openraft is given: another's, with patience for who is asked for a vote.
//!
//! openraft gives a vote up after the shortest election timeout, a fraction of a second.
//! A member whose disk is slow needs longer to write the vote down, and were it asked again
//! and again, nobody would ever lead. An answer that comes late does no harm: one to a
//! question that nobody asks any more is not counted.

use std::{future::Future, time::Duration};

use openraft::{AsyncRuntime, OptionalSend};

/// After which time openraft gives a vote up, and handing over the lead. What is not of
/// exactly this length is something else, such as a heartbeat, and stays as it is.
pub(super) const VOTE_MIN: Duration = Duration::from_millis(350);
/// How long a member may really take to answer.
pub(super) const VOTE_MAX: Duration = Duration::from_secs(20);

/// Another's threads, clock and randomness.
#[derive(Debug)]
pub(crate) struct Unhurried<R>(R);

impl<R: AsyncRuntime> AsyncRuntime for Unhurried<R> {
    type JoinError = R::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = R::JoinHandle<T>;
    type Sleep = R::Sleep;
    type Instant = R::Instant;
    type TimeoutError = R::TimeoutError;
    type Timeout<T, F: Future<Output = T> + OptionalSend> = R::Timeout<T, F>;
    type ThreadLocalRng = R::ThreadLocalRng;
    type Mpsc = R::Mpsc;
    type Watch = R::Watch;
    type Oneshot = R::Oneshot;
    type Mutex<T: OptionalSend + 'static> = R::Mutex<T>;

    fn spawn<F>(future: F) -> Self::JoinHandle<F::Output>
    where
        F: Future + OptionalSend + 'static,
        F::Output: OptionalSend + 'static,
    {
        R::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        R::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        R::sleep_until(deadline)
    }

    fn timeout<T, F: Future<Output = T> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<T, F> {
        let duration = if duration == VOTE_MIN { VOTE_MAX } else { duration };
        R::timeout(duration, future)
    }

    fn timeout_at<T, F: Future<Output = T> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<T, F> {
        R::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        R::is_panic(error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        R::thread_rng()
    }

    fn new(threads: usize) -> Self {
        Self(R::new(threads))
    }

    fn block_on<F: Future<Output = T>, T>(&mut self, future: F) -> T {
        self.0.block_on(future)
    }
}

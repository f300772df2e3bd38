//! Whether somebody set the wall clock: by hand, or the time service that found it
//! wrong. Man page: timerfd_create(2), `TFD_TIMER_CANCEL_ON_SET`.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use rustix::{
    io::Errno,
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};

/// Becomes readable each time the wall clock is set. It is a timer for a moment that
/// never comes, which the kernel cancels then.
#[derive(Debug)]
pub struct ClockSets(OwnedFd);

impl ClockSets {
    /// Told of from now on.
    ///
    /// # Errors
    /// Where the kernel has no such timers, or no file descriptor is left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let sets = Self(timerfd_create(TimerfdClockId::Realtime, flags)?);
        sets.arm()?;
        Ok(sets)
    }

    /// Takes what was told; whether the clock was set since the last time.
    ///
    /// # Errors
    /// What the kernel says, which is not expected.
    pub fn take(&self) -> io::Result<bool> {
        match rustix::io::read(&self.0, &mut [0; 8]) {
            Err(Errno::AGAIN) => Ok(false),
            // Cancelled; and were it the moment itself, that is no less strange.
            Err(Errno::CANCELED) | Ok(_) => {
                self.arm()?;
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn arm(&self) -> io::Result<()> {
        let never = Timespec { tv_sec: i64::MAX / 4, tv_nsec: 0 };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: never };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(&self.0, flags, &once)?;
        Ok(())
    }
}

impl AsFd for ClockSets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

// For event loops that know descriptors by number.
impl AsRawFd for ClockSets {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_set_the_clock() {
        let sets = ClockSets::new().expect("timers that are cancelled");
        assert!(!sets.take().expect("an answer"));
    }
}

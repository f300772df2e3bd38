//! When a tunnel has to be looked at though nothing passes. Pure.
//!
//! The protocol's timers only matter while there is something to say: so a
//! tunnel in use is looked at each second, one that fell silent once more when
//! its session is over, and then not at all until the next packet.

use std::time::Duration;

/// Between two looks at a tunnel in use.
pub(super) const STEP: Duration = Duration::from_secs(1);
/// For so long after the last datagram something may be due: an empty answer
/// after 10 s, a new handshake after 15 s, another attempt at one after 5 s.
const BUSY: Duration = Duration::from_secs(25);
/// Sessions are of no use after this (`Reject-After-Time`), and their keys are
/// forgotten.
const SESSION: Duration = Duration::from_secs(181);

/// How long until the next look. `silent` is the time since a datagram came or
/// went, `session` the age of the session, where there is one.
pub(super) fn next(silent: Duration, session: Option<Duration>) -> Option<Duration> {
    if silent < BUSY {
        return Some(STEP);
    }
    session.map(|age| SESSION.saturating_sub(age).max(STEP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_tunnel_is_left_alone() {
        let s = Duration::from_secs;
        assert_eq!(next(s(0), None), Some(STEP));
        assert_eq!(next(s(24), Some(s(100))), Some(STEP));
        assert_eq!(next(s(25), Some(s(30))), Some(s(151)));
        assert_eq!(next(s(300), Some(s(400))), Some(STEP));
        assert_eq!(next(s(25), None), None);
    }
}

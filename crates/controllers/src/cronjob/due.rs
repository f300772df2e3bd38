//! Which moment of a schedule is due.

use std::time::Duration;

use api_kinds::cron::Schedule;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

/// More missed moments than this are worth a warning; upstream's number.
const MISSED_MAX: i64 = 100;
/// Keeps from waking up a moment too early.
const SLACK: Duration = Duration::from_millis(100);

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// The latest moment that has come and was not served.
    pub(super) at: Option<Timestamp>,
    /// Whether very many have come before it.
    pub(super) too_many: bool,
}

/// A schedule that fires less than twice in five years.
pub(super) const NEVER: &str = "time difference between two schedules is less than 1 second";

/// The latest moment in `(since, now]`.
///
/// # Errors
/// Where the schedule never fires.
pub(super) fn due(
    schedule: &Schedule,
    zone: &TimeZone,
    since: Timestamp,
    now: Timestamp,
) -> Result<Due, &'static str> {
    let first = schedule.next(since, zone).ok_or(NEVER)?;
    if now < first {
        return Ok(Due { at: None, too_many: false });
    }
    let Some(second) = schedule.next(first, zone) else {
        return Ok(Due { at: Some(first), too_many: false });
    };
    if now < second {
        return Ok(Due { at: Some(first), too_many: false });
    }
    // A rough count, by the distance of the first two. The latest is looked for
    // from shortly before the end, and from further back where that holds none.
    let between = second.duration_since(first).as_secs().max(1);
    let missed = now.duration_since(first).as_secs() / between + 1;
    let mut at = first;
    let mut back = 2;
    loop {
        let from = first + SignedDuration::from_secs((missed - back).max(0) * between);
        let mut next = schedule.next(from, zone);
        let found = next.is_some_and(|moment| moment <= now);
        while let Some(moment) = next.filter(|moment| *moment <= now) {
            at = moment;
            next = schedule.next(moment, zone);
        }
        if found || back >= missed {
            break;
        }
        back *= 2;
    }
    Ok(Due { at: Some(at), too_many: missed > MISSED_MAX })
}

/// How long until the next moment.
pub(super) fn until_next(schedule: &Schedule, zone: &TimeZone, now: Timestamp) -> Option<Duration> {
    let next = schedule.next(now, zone)?;
    Some(Duration::try_from(next.duration_since(now)).ok()? + SLACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schedule: &str, since: &str, now: &str, at: Option<&str>, too_many: bool) {
        let parse = |text: &str| text.parse::<Timestamp>().expect("a time");
        let schedule = Schedule::parse(schedule).expect("a schedule");
        let due = due(&schedule, &TimeZone::UTC, parse(since), parse(now));
        assert_eq!(due, Ok(Due { at: at.map(parse), too_many }));
    }

    #[test]
    fn the_latest_of_what_was_missed() {
        let day = "2026-11-26T00:00:00Z";
        check("0 * * * *", day, "2026-11-26T00:59:59Z", None, false);
        check("0 * * * *", day, "2026-11-26T01:00:00Z", Some("2026-11-26T01:00:00Z"), false);
        check("0 * * * *", day, "2026-11-26T05:30:00Z", Some("2026-11-26T05:00:00Z"), false);
        check("* * * * *", day, "2026-11-26T01:40:30Z", Some("2026-11-26T01:40:00Z"), false);
        check("* * * * *", day, "2026-11-26T01:41:30Z", Some("2026-11-26T01:41:00Z"), true);
        check(
            "30 6-16/4 * * 1-5",
            day,
            "2026-11-29T12:00:00Z",
            Some("2026-11-27T14:30:00Z"),
            false,
        );
        check("@every 7m", day, "2026-11-26T00:30:00Z", Some("2026-11-26T00:28:00Z"), false);
        // The clock was set back.
        check("* * * * *", day, "2026-11-25T00:00:00Z", None, false);
        let never = Schedule::parse("0 0 30 2 *").expect("a schedule");
        let now = day.parse().expect("a time");
        assert_eq!(super::due(&never, &TimeZone::UTC, now, now), Err(NEVER));
    }
}

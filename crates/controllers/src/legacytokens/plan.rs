//! When a token that nobody uses is refused, and when it goes.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};

/// Unused for as long, a token is refused, and as long again after that it is
/// deleted; upstream's `--legacy-service-account-token-clean-up-period`.
const PERIOD: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Uses are noted by the day.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// What is known of a Secret with a token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    /// Whether its account lists it: clusters before 1.24 made one for each account by
    /// themselves. What somebody asked for stays.
    pub(super) is_made_by_itself: bool,
    pub(super) is_mounted: bool,
    pub(super) created: Option<Timestamp>,
    /// The day of the last use, and the day since which it is refused.
    pub(super) last_used: Option<&'a str>,
    pub(super) invalid_since: Option<&'a str>,
    /// Since when uses are noted at all; nothing is judged before it is known.
    pub(super) tracked_since: Option<Timestamp>,
    pub(super) now: Timestamp,
}

/// What is done with it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Leave,
    /// It may have to go by then.
    LookAgain(Duration),
    /// Refused from today on.
    Refuse,
    Delete,
}

/// The moment at which a day begins; what is no day was never.
pub(super) fn day(text: &str) -> Option<Timestamp> {
    let date: Date = text.parse().ok()?;
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// A moment's day, as labels have it.
pub(super) fn today(now: Timestamp) -> String {
    now.to_zoned(TimeZone::UTC).date().to_string()
}

/// Decides from what is seen.
pub(super) fn plan(seen: &Seen<'_>) -> Action {
    let Some(tracked) = seen.tracked_since.filter(|_| seen.is_made_by_itself) else {
        return Action::Leave;
    };
    // A use is of any moment of its day.
    let used = seen.last_used.and_then(day).map(|day| day + DAY);
    let latest = [Some(tracked), seen.created, used].into_iter().flatten().max();
    let due = latest.unwrap_or(tracked).checked_add(PERIOD).unwrap_or(Timestamp::MAX);
    if let Some(wait) = left(due, seen.now) {
        return Action::LookAgain(wait);
    }
    if seen.is_mounted {
        // Pods come and go; it is no hurry.
        return Action::LookAgain(DAY.unsigned_abs());
    }
    let Some(since) = seen.invalid_since.and_then(day) else { return Action::Refuse };
    let due = since.checked_add(PERIOD).unwrap_or(Timestamp::MAX);
    left(due, seen.now).map_or(Action::Delete, Action::LookAgain)
}

fn left(due: Timestamp, now: Timestamp) -> Option<Duration> {
    Duration::try_from(due.duration_since(now)).ok().filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_unused_and_a_year_refused() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let seen = Seen {
            is_made_by_itself: true,
            is_mounted: false,
            created: Some(at("2020-01-01T00:00:00Z")),
            last_used: None,
            invalid_since: None,
            tracked_since: Some(at("2025-01-01T00:00:00Z")),
            now: at("2026-06-01T00:00:00Z"),
        };
        let days = |n: i64| Action::LookAgain(SignedDuration::from_hours(24 * n).unsigned_abs());
        let table = [
            ("nobody used it", seen, Action::Refuse),
            ("asked for", Seen { is_made_by_itself: false, ..seen }, Action::Leave),
            ("nothing is noted", Seen { tracked_since: None, ..seen }, Action::Leave),
            ("not noted for long", Seen { now: at("2025-12-31T00:00:00Z"), ..seen }, days(1)),
            ("new", Seen { created: Some(at("2026-05-30T00:00:00Z")), ..seen }, days(363)),
            ("used", Seen { last_used: Some("2026-05-30"), ..seen }, days(364)),
            ("used long ago", Seen { last_used: Some("2025-02-01"), ..seen }, Action::Refuse),
            ("in a pod", Seen { is_mounted: true, ..seen }, days(1)),
            ("refused", Seen { invalid_since: Some("2026-05-30"), ..seen }, days(363)),
            (
                "refused for long",
                Seen { invalid_since: Some("2025-05-30"), ..seen },
                Action::Delete,
            ),
            ("refused since when?", Seen { invalid_since: Some("soon"), ..seen }, Action::Refuse),
        ];
        for (name, seen, action) in table {
            assert_eq!(plan(&seen), action, "{name}");
        }
        assert_eq!(today(seen.now), "2026-06-01");
    }
}

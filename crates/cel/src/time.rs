//! Points and spans of time: reading, writing and the calendar. Times are those
//! of RFC 3339, years 1 to 9999; spans are nanoseconds in Go's notation.

use std::fmt;

use crate::fault::Fault;

const SECOND: i64 = 1_000_000_000;
const DAY_SECONDS: i64 = 86_400;
/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z.
const SECONDS_MIN: i64 = -62_135_596_800;
const SECONDS_MAX: i64 = 253_402_300_799;

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Since 1970 began.
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

/// A point in time as a calendar and a clock show it.
pub(crate) struct Civil {
    pub(crate) year: i64,
    /// From 1.
    pub(crate) month: i64,
    /// From 1.
    pub(crate) day: i64,
    /// From 0.
    pub(crate) day_of_year: i64,
    /// From 0, Sunday.
    pub(crate) weekday: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
}

impl Timestamp {
    /// # Errors
    /// Outside of the years 1 to 9999.
    pub(crate) fn new(seconds: i64, nanos: u32) -> Result<Self, Fault> {
        match (SECONDS_MIN..=SECONDS_MAX).contains(&seconds) {
            true => Ok(Self { seconds, nanos }),
            false => Err(Fault::new("timestamp overflow")),
        }
    }

    /// Reads RFC 3339.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let wrong = || {
            Fault::new(format!(
                "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse"
            ))
        };
        let (date, rest) = text.split_at_checked(10).ok_or_else(wrong)?;
        let days = parse_date(date).ok_or_else(wrong)?;
        let clock = rest.strip_prefix('T').ok_or_else(wrong)?;
        let (clock, rest) = clock.split_at_checked(8).ok_or_else(wrong)?;
        let mut parts = clock.split(':').map(|part| digits(part, 2));
        let (Some(Some(hour)), Some(Some(minute)), Some(Some(second)), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        if hour > 23 || minute > 59 || second > 59 {
            return Err(wrong());
        }
        let (nanos, zone) = match rest.strip_prefix(['.', ',']) {
            None => (0, rest),
            Some(rest) => {
                let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                let fraction = &rest[..end.min(9)];
                let number: u32 = fraction.parse().map_err(|_| wrong())?;
                (number * 10u32.pow(9 - fraction.len() as u32), &rest[end..])
            }
        };
        let offset = match zone {
            "Z" => 0,
            _ => zone_offset(zone).filter(|_| zone.len() == 6).ok_or_else(wrong)?,
        };
        Self::new(days * DAY_SECONDS + hour * 3600 + minute * 60 + second - offset, nanos)
    }

    pub(crate) fn plus(self, nanos: i64) -> Result<Self, Fault> {
        let sum = i64::from(self.nanos) + nanos.rem_euclid(SECOND);
        let seconds = self.seconds + nanos.div_euclid(SECOND) + sum.div_euclid(SECOND);
        Self::new(seconds, sum.rem_euclid(SECOND) as u32)
    }

    /// The span from `other` to here.
    pub(crate) fn since(self, other: Self) -> Result<i64, Fault> {
        let nanos = i128::from(self.seconds - other.seconds) * i128::from(SECOND)
            + i128::from(self.nanos)
            - i128::from(other.nanos);
        i64::try_from(nanos).map_err(|_| Fault::new("duration overflow"))
    }

    /// What a calendar shows `offset` seconds east of Greenwich.
    pub(crate) fn civil(self, offset: i64) -> Civil {
        let local = self.seconds + offset;
        let days = local.div_euclid(DAY_SECONDS);
        let clock = local.rem_euclid(DAY_SECONDS);
        let (year, month, day) = date_of(days);
        Civil {
            year,
            month,
            day,
            day_of_year: days - days_of(year, 1, 1),
            weekday: (days + 4).rem_euclid(7),
            hour: clock / 3600,
            minute: clock % 3600 / 60,
            second: clock % 60,
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.civil(0);
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            at.year, at.month, at.day, at.hour, at.minute, at.second
        )?;
        if self.nanos > 0 {
            let fraction = format!("{:09}", self.nanos);
            write!(f, ".{}", fraction.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

/// Reads `YYYY-MM-DD` as the start of that day.
pub(crate) fn date(text: &str) -> Result<Timestamp, Fault> {
    let days = parse_date(text)
        .ok_or_else(|| Fault::new(format!("Invalid date formatted string {text}: cannot parse")))?;
    Timestamp::new(days * DAY_SECONDS, 0)
}

/// `+01:00` or `01:00` as seconds; `None` for anything else.
pub(crate) fn zone_offset(zone: &str) -> Option<i64> {
    let (sign, rest) = match zone.as_bytes().first()? {
        b'-' => (-1, &zone[1..]),
        b'+' => (1, &zone[1..]),
        _ => (1, zone),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn digits(text: &str, len: usize) -> Option<i64> {
    let all = text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten()
}

/// Days from 1970 to a date, where it is one.
fn parse_date(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let year = digits(parts.next()?, 4)?;
    let month = digits(parts.next()?, 2)?;
    let day = digits(parts.next()?, 2)?;
    let days = days_of(year, month, day);
    (parts.next().is_none() && year > 0 && date_of(days) == (year, month, day)).then_some(days)
}

/// Days from 1970 to a date of the Gregorian calendar; years begin in March
/// here, so that leap days come last.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_of`].
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day = days.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// Units of Go's durations, in nanoseconds.
const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3600 * SECOND),
];

/// Reads a duration as Go does: `1h30m`, `-1.5s`, `0`.
pub(crate) fn duration(text: &str) -> Result<i64, Fault> {
    let wrong = || Fault::new(format!("time: invalid duration {text:?}"));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let scale = i128::from(*scale);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(wrong());
        }
        let whole: i128 = match whole {
            "" => 0,
            digits => digits.parse::<i64>().map_err(|_| wrong())?.into(),
        };
        let mut part = whole * scale;
        let mut unit = scale;
        for digit in fraction.bytes() {
            unit /= 10;
            part += i128::from(digit - b'0') * unit;
        }
        total += part;
        rest = after;
    }
    let total = if negative { -total } else { total };
    i64::try_from(total).map_err(|_| wrong())
}

/// Units that durations in schemas may be written with beyond Go's.
const WORDS: [(&str, i64); 14] = [
    ("nano", 1),
    ("nanosecond", 1),
    ("micro", 1_000),
    ("microsecond", 1_000),
    ("milli", 1_000_000),
    ("millisecond", 1_000_000),
    ("second", SECOND),
    ("sec", SECOND),
    ("min", 60 * SECOND),
    ("minute", 60 * SECOND),
    ("hour", 3600 * SECOND),
    ("hr", 3600 * SECOND),
    ("day", 86_400 * SECOND),
    ("week", 604_800 * SECOND),
];

/// Reads a duration of a schema's `duration` format: Go's, or one number with a
/// word (`3 days`).
pub(crate) fn schema_duration(text: &str) -> Result<i64, Fault> {
    let parsed = duration(text);
    if parsed.is_ok() {
        return parsed;
    }
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, word) = (text[..end].parse::<i64>(), text[end..].trim());
    let word = match word {
        "d" => "day",
        "w" | "wk" => "week",
        word => word.strip_suffix('s').unwrap_or(word),
    };
    let unit = WORDS.iter().find(|(name, _)| *name == word);
    match (number, unit) {
        (Ok(number), Some((_, unit))) => {
            number.checked_mul(*unit).ok_or_else(|| Fault::new("duration overflow"))
        }
        _ => Err(Fault::new(format!("Invalid duration {text}: unable to parse"))),
    }
}

/// Writes a duration as seconds: `3723.004s`.
pub(crate) fn duration_text(nanos: i64) -> String {
    format!("{}s", nanos as f64 / SECOND as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, shown) in [
            ("1970-01-01T00:00:00Z", Some("1970-01-01T00:00:00Z")),
            ("2011-08-18T19:03:37.010000000+01:00", Some("2011-08-18T18:03:37.01Z")),
            ("2024-02-29T23:59:59-00:30", Some("2024-03-01T00:29:59Z")),
            ("0001-01-01T00:00:00Z", Some("0001-01-01T00:00:00Z")),
            ("9999-12-31T23:59:59.999999999Z", Some("9999-12-31T23:59:59.999999999Z")),
            ("2023-02-29T00:00:00Z", None),
            ("2023-02-28T24:00:00Z", None),
            ("2023-02-28 12:00:00Z", None),
            ("2023-02-28T12:00:00", None),
            ("9999-12-31T23:59:59-01:00", None),
        ] {
            let read = Timestamp::parse(text).ok().map(|time| time.to_string());
            assert_eq!(read.as_deref(), shown, "{text}");
        }
    }

    #[test]
    fn durations_are_read_and_written() {
        for (text, shown) in [
            ("1h2m3s4ms", Some("3723.004s")),
            ("-1.5h", Some("-5400s")),
            ("0", Some("0s")),
            ("1.5.5s", None),
            ("5", None),
            ("", None),
            ("-", None),
            ("1d", None),
            ("9999999999h", None),
        ] {
            assert_eq!(duration(text).ok().map(duration_text).as_deref(), shown, "{text}");
        }
        assert_eq!(schema_duration("3 days").ok(), Some(3 * 86_400 * SECOND));
    }

    #[test]
    fn calendars() {
        let at = Timestamp::parse("2024-12-31T23:00:00Z").unwrap();
        let civil = at.civil(3600);
        assert_eq!((civil.year, civil.month, civil.day, civil.hour), (2025, 1, 1, 0));
        assert_eq!((civil.day_of_year, civil.weekday), (0, 3));
        assert_eq!(at.civil(0).day_of_year, 365);
    }
}

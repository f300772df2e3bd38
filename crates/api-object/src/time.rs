//! Kubernetes' two time formats, and Go's durations. "Now" always comes from
//! outside.

use jiff::{Timestamp, tz::TimeZone};

/// `metav1.Time`: RFC 3339 in UTC, whole seconds.
pub fn format_seconds(now: Timestamp) -> String {
    now.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `metav1.MicroTime`: RFC 3339 in UTC, always six fractional digits.
pub fn format_micros(now: Timestamp) -> String {
    now.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Reads RFC 3339 with any offset and precision.
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// `metav1.Duration`: Go's text of a number of nanoseconds, `1h2m3.5s`, `20ms`.
pub fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let small = [("ns", 1), ("\u{b5}s", 1_000), ("ms", 1_000_000)];
    let unit = small.iter().rev().find(|(_, unit)| (*unit..1_000_000_000).contains(&nanos));
    if let Some((name, unit)) = unit {
        return format!("{sign}{}{name}", decimal(nanos, *unit));
    }
    let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
    let seconds = decimal(rest, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / unit` with as many digits as it takes; `unit` is a power of ten.
fn decimal(value: u64, unit: u64) -> String {
    let digits = unit.ilog10() as usize;
    let text = format!("{}.{:0digits$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Reads Go's text of a duration: numbers with units, `1.5h`, `-2m3s`, `0`. In
/// nanoseconds.
pub fn parse_duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1.0),
        ("us", 1e3),
        ("\u{b5}s", 1e3),
        ("\u{3bc}s", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
        ("m", 60e9),
        ("h", 3600e9),
    ];
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0i64;
    while !rest.is_empty() || total == 0 {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (name, tail) = tail.split_at(end);
        let (_, unit) = UNITS.iter().find(|(unit, _)| *unit == name)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let fraction: f64 = format!("0.{fraction}0").parse().ok()?;
        total = whole
            .checked_mul(*unit as i64)
            .and_then(|nanos| nanos.checked_add((fraction * unit) as i64))
            .and_then(|nanos| nanos.checked_add(total))?;
        rest = tail;
        if rest.is_empty() {
            break;
        }
    }
    Some(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats() {
        let t = Timestamp::from_microsecond(1_700_000_000_000_007).expect("in range");
        assert_eq!(format_seconds(t), "2023-11-14T22:13:20Z");
        assert_eq!(format_micros(t), "2023-11-14T22:13:20.000007Z");
        assert_eq!(parse("2023-11-14T23:13:20.000007+01:00"), Some(t));
    }

    #[test]
    fn durations_read_back() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5\u{b5}s"),
            (20_000_000, "20ms"),
            (3_500_000_000, "3.5s"),
            (-90_000_000_000, "-1m30s"),
            (3_723_000_000_000, "1h2m3s"),
            (36_000_000_000_000, "10h0m0s"),
        ] {
            assert_eq!(
                (format_duration(nanos).as_str(), parse_duration(text)),
                (text, Some(nanos))
            );
        }
        assert_eq!(parse_duration("1.5h"), Some(5_400_000_000_000));
        for text in ["", "-", "1", "1x", ".s", "1h2", "99999999999h", "1.2.3s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}

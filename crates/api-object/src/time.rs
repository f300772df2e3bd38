//! Kubernetes' two time formats. "Now" always comes from outside.

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
}

//! Durations as Go writes and reads them: `1h30m`, `500ms`.

use std::time::Duration;

/// Reads a duration; `None` for what is none. Negative ones are zero.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    if let Some(negative) = text.strip_prefix('-') {
        return api_object::time::parse_duration(negative).map(|_| Duration::ZERO);
    }
    let nanos = api_object::time::parse_duration(text)?;
    Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
}

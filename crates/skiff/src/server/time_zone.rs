//! The machine's time zone: what schedules mean that name none.

use jiff::tz::TimeZone;
use tracing::warn;

/// The rules that the machine's clocks show local time by.
const LOCAL_TIME: &str = "/etc/localtime";

/// The zone that `TZ` names, else that of `/etc/localtime`, else UTC.
pub(super) fn local() -> TimeZone {
    if let Some(name) = std::env::var("TZ").ok().filter(|name| !name.is_empty()) {
        return api_kinds::cron::zone(&name).unwrap_or_else(|| {
            warn!(name, "TZ names no time zone of the IANA database: schedules are read as UTC");
            TimeZone::UTC
        });
    }
    // Without the file, the machine's time is UTC.
    let Ok(rules) = std::fs::read(LOCAL_TIME) else { return TimeZone::UTC };
    TimeZone::tzif("Local", &rules).unwrap_or_else(|error| {
        warn!(%error, "{LOCAL_TIME} is not readable: schedules are read as UTC");
        TimeZone::UTC
    })
}

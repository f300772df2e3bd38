//! Formats of strings. One that is not in the table means nothing, as upstream.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api_object::{name, time};
use base64::{Engine, engine::general_purpose::STANDARD};

/// Whether a text has a format.
type Has = fn(&str) -> bool;

const FORMATS: &[(&str, Has)] = &[
    ("bsonobjectid", |text| text.len() == 24 && hex(text)),
    ("byte", |text| STANDARD.decode(text).is_ok()),
    ("cidr", cidr),
    ("creditcard", creditcard),
    ("date", |text| text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()),
    ("date-time", |text| time::parse(text).is_some()),
    ("datetime", |text| time::parse(text).is_some()),
    ("duration", duration),
    ("email", email),
    ("hexcolor", |text| {
        let digits = text.strip_prefix('#').unwrap_or(text);
        matches!(digits.len(), 3 | 6) && hex(digits)
    }),
    ("hostname", hostname),
    ("ipv4", |text| text.parse::<Ipv4Addr>().is_ok()),
    ("ipv6", |text| text.parse::<Ipv6Addr>().is_ok()),
    ("isbn", |text| isbn10(text) || isbn13(text)),
    ("isbn10", isbn10),
    ("isbn13", isbn13),
    ("k8s-long-name", |text| name::dns1123_subdomain(text).is_empty()),
    ("k8s-short-name", |text| name::dns1123_label(text).is_empty()),
    ("mac", mac),
    ("password", |_| true),
    ("rgbcolor", rgbcolor),
    ("ssn", ssn),
    ("uri", uri),
    ("uuid", |text| uuid(text, None)),
    ("uuid3", |text| uuid(text, Some('3'))),
    ("uuid4", |text| uuid(text, Some('4'))),
    ("uuid5", |text| uuid(text, Some('5'))),
];

/// Whether a text has a format; yes for formats that nobody knows.
pub(super) fn matches(format: &str, text: &str) -> bool {
    match FORMATS.binary_search_by(|(known, _)| (*known).cmp(format)) {
        Ok(at) => FORMATS[at].1(text),
        Err(_) => true,
    }
}

fn hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

fn cidr(text: &str) -> bool {
    let Some((address, prefix)) = text.split_once('/') else { return false };
    let max = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    let plain = digits(prefix) && (prefix == "0" || !prefix.starts_with('0'));
    plain && prefix.parse::<u8>().is_ok_and(|bits| bits <= max)
}

fn mac(text: &str) -> bool {
    let separated = |separator: char, width: usize| {
        let parts: Vec<&str> = text.split(separator).collect();
        matches!(parts.len() * width / 2, 6 | 8 | 20)
            && parts.iter().all(|part| part.len() == width && hex(part))
    };
    separated(':', 2) || separated('-', 2) || separated('.', 4)
}

fn uuid(text: &str, version: Option<char>) -> bool {
    let bare: String = text.chars().filter(|c| *c != '-').collect();
    let dashes_fit = {
        let mut rest = text;
        [8, 4, 4, 4, 12].into_iter().enumerate().all(|(index, len)| {
            let Some(part) = rest.get(..len).filter(|part| hex(part)) else { return false };
            rest = &rest[part.len()..];
            if index < 4 {
                rest = rest.strip_prefix('-').unwrap_or(rest);
            }
            true
        }) && rest.is_empty()
    };
    let version_fits = match version {
        None => true,
        Some(version) => {
            let variant = bare.chars().nth(16).is_some_and(|c| "89abAB".contains(c));
            bare.chars().nth(12) == Some(version) && (variant || version == '3')
        }
    };
    dashes_fit && version_fits
}

/// Letters, digits and dashes between dots; no label longer than 63.
fn hostname(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    !name.is_empty()
        && name.len() <= 255
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
        })
}

fn email(text: &str) -> bool {
    // `Name <a@b>` is an address too.
    let address = match text.split_once('<') {
        Some((_, rest)) => match rest.strip_suffix('>') {
            Some(address) => address,
            None => return false,
        },
        None => text,
    };
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let quoted = local.len() > 1 && local.starts_with('"') && local.ends_with('"');
    let plain = |text: &str| {
        !text.is_empty()
            && !text.starts_with('.')
            && !text.ends_with('.')
            && !text.contains("..")
            && !text.chars().any(|c| c.is_whitespace() || "()<>[]:;@\\,\"".contains(c))
    };
    let literal = domain.starts_with('[') && domain.ends_with(']');
    (quoted || plain(local)) && (literal || plain(domain))
}

/// An absolute URI, or an absolute path.
fn uri(text: &str) -> bool {
    if text.chars().any(|c| c.is_control() || c == ' ') || !escapes_fit(text) {
        return false;
    }
    let Some((scheme, rest)) = text.split_once(':') else { return text.starts_with('/') };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    text.starts_with('/') || (is_scheme && !rest.is_empty())
}

fn escapes_fit(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| rest.get(..2).is_some_and(hex))
}

fn creditcard(text: &str) -> bool {
    let digits: Vec<u32> =
        text.chars().filter(|c| !matches!(c, ' ' | '-')).filter_map(|c| c.to_digit(10)).collect();
    let all = text.chars().all(|c| c.is_ascii_digit() || matches!(c, ' ' | '-'));
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, &digit)| match (index % 2, digit * 2) {
            (0, _) => digit,
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    all && (13..=19).contains(&digits.len()) && sum.is_multiple_of(10)
}

fn isbn10(text: &str) -> bool {
    let bare: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    let values = bare.chars().enumerate().map(|(index, c)| match c {
        'X' if index == 9 => Some(10),
        c => c.to_digit(10),
    });
    let values: Option<Vec<u32>> = values.collect();
    values.is_some_and(|values| {
        let sum: u32 =
            values.iter().zip((1..=10).rev()).map(|(value, weight)| value * weight).sum();
        values.len() == 10 && sum.is_multiple_of(11)
    })
}

fn isbn13(text: &str) -> bool {
    let bare: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    let values: Option<Vec<u32>> = bare.chars().map(|c| c.to_digit(10)).collect();
    values.is_some_and(|values| {
        let sum: u32 =
            values.iter().enumerate().map(|(at, value)| value * (1 + 2 * (at as u32 % 2))).sum();
        values.len() == 13 && sum.is_multiple_of(10)
    })
}

fn ssn(text: &str) -> bool {
    let bare: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    let grouped = [text.get(3..4), text.get(6..7)];
    bare.len() == 9
        && digits(&bare)
        && (text.len() == 9 || grouped.iter().flatten().all(|c| matches!(*c, " " | "-")))
}

fn rgbcolor(text: &str) -> bool {
    let inner = text.strip_prefix("rgb(").and_then(|rest| rest.strip_suffix(')'));
    inner.is_some_and(|inner| {
        let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
        parts.len() == 3 && parts.iter().all(|part| digits(part) && part.parse::<u8>().is_ok())
    })
}

/// Go's `1h2m3.5s`, and `3 days`, `2 wk`.
fn duration(text: &str) -> bool {
    const UNITS: [&str; 32] = [
        "ns",
        "nano",
        "nanos",
        "nanosecond",
        "nanoseconds",
        "us",
        "µs",
        "μs",
        "micro",
        "micros",
        "microsecond",
        "microseconds",
        "ms",
        "milli",
        "millis",
        "millisecond",
        "milliseconds",
        "s",
        "sec",
        "secs",
        "second",
        "seconds",
        "m",
        "min",
        "mins",
        "minute",
        "minutes",
        "h",
        "hr",
        "hour",
        "hours",
        "d",
    ];
    const LONG_UNITS: [&str; 8] = ["day", "days", "w", "wk", "wks", "week", "weeks", "hrs"];
    let mut rest = text.trim_start_matches(['-', '+']);
    if rest == "0" {
        return true;
    }
    let mut any = false;
    while !rest.is_empty() {
        let after = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = &rest[..rest.len() - after.len()];
        let after = after.trim_start();
        let tail = after.trim_start_matches(|c: char| c.is_alphabetic());
        let unit = &after[..after.len() - tail.len()];
        let known = UNITS.contains(&unit) || LONG_UNITS.contains(&unit);
        if number.parse::<f64>().is_err() || !known {
            return false;
        }
        any = true;
        rest = tail.trim_start();
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(FORMATS.is_sorted_by_key(|(name, _)| *name));
    }

    #[test]
    fn formats() {
        for (format, good, bad) in [
            ("bsonobjectid", "507f1f77bcf86cd799439011", "507f"),
            ("byte", "aGVsbG8=", "a"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("cidr", "fd00::/64", "fd00::/129"),
            ("creditcard", "4012 8888 8888 1881", "4012888888881882"),
            ("date", "2024-02-29", "2023-02-29"),
            ("date-time", "2024-02-29T01:02:03Z", "2024-02-29"),
            ("duration", "1h2m3.5s", "1x"),
            ("duration", "3 days", "three days"),
            ("email", "a.b@example.com", "a.b"),
            ("hexcolor", "#ffF", "#ffff"),
            ("hostname", "a.example", "a..b"),
            ("ipv4", "1.2.3.4", "1.2.3"),
            ("ipv6", "::1", "1.2.3.4"),
            ("isbn10", "0-306-40615-2", "0-306-40615-3"),
            ("isbn13", "978-0-306-40615-7", "978-0-306-40615-8"),
            ("isbn", "0306406152", "1"),
            ("k8s-short-name", "a-b", "a.b"),
            ("k8s-long-name", "a.b", "A"),
            ("mac", "00:00:5e:00:53:01", "00:00:5e"),
            ("rgbcolor", "rgb(1, 2,255)", "rgb(1,2,256)"),
            ("ssn", "111-11-1111", "111-11-111"),
            ("uri", "https://a/b?c", "a b"),
            ("uri", "/a", "a"),
            ("uuid", "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d", "9b1d"),
            (
                "uuid4",
                "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d",
                "9b1deb4d-3b7d-3bad-9bdd-2b0d7b3dcb6d",
            ),
        ] {
            assert!(matches(format, good), "{format} {good}");
            assert!(!matches(format, bad), "{format} {bad}");
        }
        assert!(matches("nobody-knows", "anything") && matches("password", ""));
    }
}

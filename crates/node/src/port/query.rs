//! Queries: what follows a path.

use std::borrow::Cow;

/// The names and values of a query, in its order.
pub(super) fn pairs(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decoded(name).into_owned(), decoded(value).into_owned()))
        .collect()
}

/// As queries write what is on or off.
pub(super) fn is_set(value: &str) -> bool {
    !matches!(value, "false" | "0")
}

/// Undoes the encoding of a query's name or value.
fn decoded(value: &str) -> Cow<'_, str> {
    if !value.contains(['%', '+']) {
        return value.into();
    }
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = match (first, tail) {
            (b'%', [high, low, ..]) => std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|digits| u8::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        match (hex, first) {
            (Some(byte), _) => bytes.push(byte),
            (None, b'+') => bytes.push(b' '),
            (None, other) => bytes.push(*other),
        }
        rest = if hex.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded() {
        for (value, expected) in
            [("a", "a"), ("a%3Ab", "a:b"), ("a+b", "a b"), ("%", "%"), ("%zz", "%zz"), ("%4", "%4")]
        {
            assert_eq!(decoded(value), expected);
        }
    }

    #[test]
    fn names_and_values_are_paired() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            pairs("command=sh&command=-c&&tty&a%3Db=1=2"),
            [pair("command", "sh"), pair("command", "-c"), pair("tty", ""), pair("a=b", "1=2")]
        );
    }
}

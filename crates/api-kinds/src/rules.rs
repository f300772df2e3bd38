//! Rules that several kinds share: ports, addresses, amounts, selectors. Words
//! are upstream's.

use std::net::IpAddr;

use api_object::{Quantity, name};
use api_schema::{Faults, NameRule, Path, meta, tree};
use serde_json::Value;

/// 1 to 65535.
pub(crate) fn port(path: &Path<'_>, number: i64, faults: &mut Faults) {
    if !(1..=65535).contains(&number) {
        faults.invalid(path, number, "must be between 1 and 65535, inclusive");
    }
}

/// A port's name: up to 15 lower-case letters, digits and single dashes, one
/// letter at least (IANA service names).
pub(crate) fn port_name(path: &Path<'_>, text: &str, faults: &mut Faults) {
    faults.invalid_all(path, text, port_name_faults(text));
}

fn port_name_faults(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if text.len() > 15 {
        found.push("must be no more than 15 characters".into());
    }
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if text.is_empty() || !text.bytes().all(allowed) {
        found.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !text.bytes().any(|c| c.is_ascii_lowercase()) {
        found.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        found.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        found.push("must not begin or end with a hyphen".into());
    }
    found
}

/// A port's number or its name.
pub(crate) fn port_or_name(path: &Path<'_>, value: &Value, faults: &mut Faults) {
    match value {
        Value::Number(number) => port(path, number.as_i64().unwrap_or(0), faults),
        Value::String(text) => port_name(path, text, faults),
        _ => faults.required(path, ""),
    }
}

/// An IP address.
pub(crate) fn ip(path: &Path<'_>, text: &str, faults: &mut Faults) {
    if text.parse::<IpAddr>().is_err() {
        faults.invalid(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
}

/// Where a load balancer is reached: an address, a DNS name.
pub(crate) fn balancer_point(path: &Path<'_>, point: &Value, faults: &mut Faults) {
    let (address, host) = (tree::text(point, "ip"), tree::text(point, "hostname"));
    if !address.is_empty() {
        ip(&path.child("ip"), address, faults);
    }
    if host.parse::<IpAddr>().is_ok() {
        let detail = "must be a DNS name, not an IP address";
        faults.invalid(&path.child("hostname"), host, detail);
    } else {
        optional_name(&path.child("hostname"), host, name::dns1123_subdomain, faults);
    }
}

/// An address and the length of its prefix.
pub(crate) fn cidr(path: &Path<'_>, text: &str, faults: &mut Faults) {
    let good = text.split_once('/').is_some_and(|(address, bits)| {
        let bits_max = match address.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        bits.parse::<u8>().is_ok_and(|bits| bits <= bits_max)
    });
    if !good {
        faults.invalid(
            path,
            text,
            "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        );
    }
}

/// Whether the addresses or ranges are at most one of each family.
pub(crate) fn one_of_each_family<'a>(texts: impl Iterator<Item = &'a str>) -> bool {
    let families: Vec<bool> = texts.map(|text| text.contains(':')).collect();
    match families[..] {
        [] | [_] => true,
        [first, second] => first != second,
        _ => false,
    }
}

/// An amount of a resource, not below zero.
pub(crate) fn amount(path: &Path<'_>, text: &str, faults: &mut Faults) {
    match Quantity::parse(text) {
        Ok(quantity) if quantity.is_negative() => {
            faults.invalid(path, text, "must be greater than or equal to 0");
        }
        Ok(_) => {}
        Err(error) => faults.invalid(path, text, error.to_string()),
    }
}

/// An amount of a resource, above zero.
pub(crate) fn positive_amount(path: &Path<'_>, text: &str, faults: &mut Faults) {
    if Quantity::parse(text).is_ok_and(|quantity| quantity.is_zero() || quantity.is_negative()) {
        faults.invalid(path, text, "must be greater than zero");
    }
}

/// A count or a percentage, not below zero; the number where it is one.
pub(crate) fn number_or_percent(
    path: &Path<'_>,
    value: &Value,
    faults: &mut Faults,
) -> Option<i64> {
    match value {
        Value::String(text) => {
            let percent = percent(text);
            if percent.is_none() {
                faults.invalid(path, text.as_str(), "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')");
            }
            percent
        }
        value => {
            let number = value.as_i64().unwrap_or(0);
            not_negative(path, Some(number), faults);
            Some(number)
        }
    }
}

/// A percentage that is a part of a whole.
pub(crate) fn hundred_percent_at_most(path: &Path<'_>, value: &Value, faults: &mut Faults) {
    if value.as_str().and_then(percent).is_some_and(|percent| percent > 100) {
        faults.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

fn percent(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('%')?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // More digits than that is a very high percentage all the same.
    Some(digits.parse().unwrap_or(i64::MAX))
}

/// A whole number, not below zero.
pub(crate) fn not_negative(path: &Path<'_>, number: Option<i64>, faults: &mut Faults) {
    if let Some(number) = number.filter(|&number| number < 0) {
        faults.invalid(path, number, "must be greater than or equal to 0");
    }
}

/// A name that is required and must follow a rule.
pub(crate) fn required_name(path: &Path<'_>, text: &str, rule: NameRule, faults: &mut Faults) {
    match text {
        "" => faults.required(path, ""),
        text => faults.invalid_all(path, text, rule(text)),
    }
}

/// A name that must follow a rule where there is one.
pub(crate) fn optional_name(path: &Path<'_>, text: &str, rule: NameRule, faults: &mut Faults) {
    if !text.is_empty() {
        faults.invalid_all(path, text, rule(text));
    }
}

/// `example.com/name`: a domain and a path in it.
pub(crate) fn domain_prefixed_path(path: &Path<'_>, text: &str, faults: &mut Faults) {
    let Some((domain, rest)) = text.split_once('/').filter(|(a, b)| !a.is_empty() && !b.is_empty())
    else {
        match text {
            "" => faults.required(path, ""),
            text => faults.invalid(
                path,
                text,
                "must be a domain-prefixed path (such as \"acme.io/foo\")",
            ),
        }
        return;
    };
    faults.invalid_all(path, domain, name::dns1123_subdomain(domain));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    if !rest.bytes().all(allowed) {
        faults.invalid(
            path,
            rest,
            "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
        );
    }
}

/// Labels: delegated to the rule that metadata has.
pub(crate) fn labels(path: &Path<'_>, value: &Value, faults: &mut Faults) {
    meta::labels(path, value, faults);
}

/// A `metav1.LabelSelector`.
pub(crate) fn label_selector(path: &Path<'_>, selector: &Value, faults: &mut Faults) {
    labels(&path.child("matchLabels"), tree::get(selector, "matchLabels"), faults);
    let expressions = path.child("matchExpressions");
    for (index, term) in tree::list(selector, "matchExpressions").iter().enumerate() {
        let path = expressions.index(index);
        let values = tree::list(term, "values");
        match tree::text(term, "operator") {
            "In" | "NotIn" if values.is_empty() => faults.required(
                &path.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => faults.forbidden(
                &path.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                faults.invalid(&path.child("operator"), other, "not a valid selector operator");
            }
        }
        let key = tree::text(term, "key");
        faults.invalid_all(&path.child("key"), key, name::qualified_name(key));
        for (index, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or_default();
            let values = path.child("values");
            faults.invalid_all(&values.index(index), value, name::label_value(value));
        }
    }
}

/// A field that must stay what it is.
pub(crate) fn immutable(path: &Path<'_>, new: &Value, old: &Value, faults: &mut Faults) {
    if new != old {
        faults.invalid(path, new.clone(), "field is immutable");
    }
}

/// Rounds the amounts of a ResourceList up to thousandths, as upstream stores them.
pub(crate) fn round_amounts(list: &mut Value) {
    for amount in list.as_object_mut().into_iter().flat_map(|map| map.values_mut()) {
        if let Some(quantity) = amount.as_str().and_then(|text| Quantity::parse(text).ok()) {
            *amount = quantity.rounded_to_milli().to_string().into();
        }
    }
}

//! Names of drivers, pools, attributes, and lists that have a limit.

use std::collections::BTreeSet;

use api_object::name;
use api_schema::{Faults, Path};
use serde_json::Value;

const POOL_LEN_MAX: usize = 253;
const IDENTIFIER_LEN_MAX: usize = 32;

/// A driver: as a CSI driver's name.
pub(super) use crate::storage::driver_name as driver;

/// DNS subdomains joined by slashes.
pub(super) fn pool(path: &Path<'_>, text: &str, faults: &mut Faults) {
    if text.is_empty() {
        faults.required(path, "");
        return;
    }
    if text.len() > POOL_LEN_MAX {
        faults.too_long(path, POOL_LEN_MAX);
    }
    for part in text.split('/') {
        faults.invalid_all(path, part, name::dns1123_subdomain(part));
    }
}

/// A device, a request, a counter.
pub(super) fn label(path: &Path<'_>, text: &str, faults: &mut Faults) {
    faults.invalid_all(path, text, name::dns1123_label(text));
}

/// An attribute or a capacity: a C identifier, with a driver's domain before it
/// where it is another's.
pub(super) fn qualified(path: &Path<'_>, text: &str, faults: &mut Faults) {
    match text.split_once('/') {
        None => identifier(path, text, faults),
        Some((domain, rest)) => {
            match domain {
                "" => faults.invalid(path, "", "the domain must not be empty"),
                domain => driver(path, domain, faults),
            }
            match rest {
                "" => faults.invalid(path, "", "the name must not be empty"),
                rest => identifier(path, rest, faults),
            }
        }
    }
}

/// The same, where the domain must be there.
pub(super) fn fully_qualified(path: &Path<'_>, text: &str, faults: &mut Faults) {
    qualified(path, text, faults);
    if !text.contains('/') {
        faults.invalid(
            path,
            text,
            "a fully qualified name must be a domain and a name separated by a slash",
        );
    }
}

fn identifier(path: &Path<'_>, text: &str, faults: &mut Faults) {
    if text.len() > IDENTIFIER_LEN_MAX {
        faults.too_long(path, IDENTIFIER_LEN_MAX);
    }
    let good = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
    if !good {
        faults.invalid(
            path,
            text,
            "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')",
        );
    }
}

/// A UUID in lower case.
pub(super) fn uuid(path: &Path<'_>, text: &str, faults: &mut Faults) {
    let good = text.len() == 36
        && text.bytes().enumerate().all(|(index, c)| match index {
            8 | 13 | 18 | 23 => c == b'-',
            _ => c.is_ascii_digit() || (b'a'..=b'f').contains(&c),
        });
    if !good {
        faults.invalid(
            path,
            text,
            "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters",
        );
    }
}

/// Each element, unless there are too many to look at.
pub(super) fn list(
    path: &Path<'_>,
    items: &[Value],
    count_max: usize,
    faults: &mut Faults,
    mut check: impl FnMut(&Path<'_>, &Value, &mut Faults),
) -> bool {
    if items.len() > count_max {
        faults.too_many(path, items.len(), count_max);
        return false;
    }
    for (index, item) in items.iter().enumerate() {
        check(&path.index(index), item, faults);
    }
    true
}

/// The same, where no two elements have one key.
pub(super) fn set(
    path: &Path<'_>,
    items: &[Value],
    count_max: usize,
    key: impl Fn(&Value) -> String,
    faults: &mut Faults,
    check: impl FnMut(&Path<'_>, &Value, &mut Faults),
) {
    if !list(path, items, count_max, faults, check) {
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let key = key(item);
        if !seen.insert(key.clone()) {
            faults.duplicate(&path.index(index), key);
        }
    }
}

/// Parameters that a driver reads: a JSON object that is not too large.
pub(super) fn parameters(path: &Path<'_>, value: &Value, bytes_max: usize, faults: &mut Faults) {
    if value.is_null() {
        faults.required(path, "");
    } else if value.to_string().len() > bytes_max {
        faults.too_long(path, bytes_max);
    } else if !value.is_object() {
        faults.invalid(path, "<value omitted>", "must be a valid JSON object");
    }
}

//! What a name may look like. Messages are upstream's
//! (apimachinery `util/validation`), since people search for them.

/// Longest DNS label (RFC 1123).
pub const DNS1123_LABEL_LEN_MAX: usize = 63;
/// Longest DNS subdomain (RFC 1123).
pub const DNS1123_SUBDOMAIN_LEN_MAX: usize = 253;

const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const DNS1035_RULE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_RULE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const PATH_SEGMENT_RULES: [(&str, &str); 2] = [(".", "may not be '.'"), ("..", "may not be '..'")];

/// The faults of a DNS label; empty when it is one.
pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut faults = too_long(text, DNS1123_LABEL_LEN_MAX);
    if !is_label(text) {
        faults.push(LABEL_RULE.into());
    }
    faults
}

/// The faults of a DNS subdomain (labels joined by dots).
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut faults = too_long(text, DNS1123_SUBDOMAIN_LEN_MAX);
    if !text.split('.').all(is_label) {
        faults.push(SUBDOMAIN_RULE.into());
    }
    faults
}

/// The faults of a DNS label that starts with a letter (RFC 1035): Service names.
pub fn dns1035_label(text: &str) -> Vec<String> {
    let mut faults = too_long(text, DNS1123_LABEL_LEN_MAX);
    if !is_label(text) || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        faults.push(DNS1035_RULE.into());
    }
    faults
}

/// The faults of a name that only has to be one path segment: Roles and bindings.
pub fn path_segment(text: &str) -> Vec<String> {
    for (bad, fault) in PATH_SEGMENT_RULES {
        if text == bad {
            return vec![fault.into()];
        }
    }
    ["/", "%"]
        .into_iter()
        .filter(|bad| text.contains(bad))
        .map(|bad| format!("may not contain '{bad}'"))
        .collect()
}

/// The faults of a label or annotation key: an optional DNS subdomain and a
/// slash, then up to 63 letters, digits, `-`, `_`, `.`.
pub fn qualified_name(text: &str) -> Vec<String> {
    let (prefix, name) = match text.split_once('/') {
        Some((_, rest)) if rest.contains('/') => {
            return vec!["a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')".into()];
        }
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let mut faults = Vec::new();
    match prefix {
        Some("") => faults.push("prefix part must be non-empty".into()),
        Some(prefix) => {
            faults
                .extend(dns1123_subdomain(prefix).into_iter().map(|f| format!("prefix part {f}")));
        }
        None => {}
    }
    match name {
        "" => faults.push("name part must be non-empty".into()),
        name if name.len() > 63 => {
            faults.push("name part must be no more than 63 bytes".into());
        }
        _ => {}
    }
    if !is_word(name) {
        faults.push(QUALIFIED_RULE.into());
    }
    faults
}

/// The faults of a label's value.
pub fn label_value(text: &str) -> Vec<String> {
    let mut faults = too_long(text, 63);
    if !text.is_empty() && !is_word(text) {
        faults.push(LABEL_VALUE_RULE.into());
    }
    faults
}

fn too_long(text: &str, len_max: usize) -> Vec<String> {
    match text.len() > len_max {
        true => vec![format!("must be no more than {len_max} bytes")],
        false => Vec::new(),
    }
}

fn is_label(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(&a), Some(&b)) if inner(a) && inner(b))
        && bytes.iter().all(|&c| inner(c) || c == b'-')
}

fn is_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(a), Some(b)) if a.is_ascii_alphanumeric() && b.is_ascii_alphanumeric())
        && bytes.iter().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        type Rule = fn(&str) -> Vec<String>;
        let table: [(Rule, &[&str], &[&str]); 5] = [
            (dns1123_label, &["a", "0a-b"], &["", "A", "a.", "-a", "a-", "a.b"]),
            (dns1123_subdomain, &["a", "a.b-c.d"], &["", "a..b", ".a", "a_b"]),
            (dns1035_label, &["a", "a-0"], &["0a", "", "a.b"]),
            (qualified_name, &["a", "A_b.c", "x.y/Z"], &["", "/a", "a/", "a/b/c", "A/b", "-a"]),
            (label_value, &["", "a", "A.b_c-D"], &["-", "a b", "ä"]),
        ];
        for (rule, good, bad) in table {
            for text in good {
                assert_eq!(rule(text), Vec::<String>::new(), "{text}");
            }
            for text in bad {
                assert_ne!(rule(text), Vec::<String>::new(), "{text}");
            }
        }
        assert_ne!(dns1123_label(&"a".repeat(64)), Vec::<String>::new());
        assert_eq!(path_segment("system:node"), Vec::<String>::new());
        assert_ne!(path_segment(".."), Vec::<String>::new());
    }
}

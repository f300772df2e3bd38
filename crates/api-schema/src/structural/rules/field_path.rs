//! `fieldPath` of a rule: which field a fault is told of.

use super::super::{Additional, Node};

/// The path as faults show it, where it leads to a field of the schema.
///
/// # Errors
/// Why it does not.
pub(super) fn normalize(path: &str, schema: &Node) -> Result<String, String> {
    let mut shown = String::new();
    let mut node = schema;
    let mut rest = path;
    while !rest.is_empty() {
        let name = match rest.as_bytes()[0] {
            b'.' => {
                let end = rest[1..].find(['.', '[']).map_or(rest.len(), |at| at + 1);
                let name = rest[1..end].to_owned();
                rest = &rest[end..];
                name
            }
            b'[' => {
                let (name, after) = quoted(&rest[1..])?;
                rest = after;
                name
            }
            _ => return Err(format!("expected [ or . but got: {rest}")),
        };
        let none = || "does not refer to a valid field".to_owned();
        if !node.properties.is_empty() {
            node = node.property(&name).ok_or_else(none)?;
            if !shown.is_empty() {
                shown.push('.');
            }
            shown.push_str(&name);
        } else if let Additional::Node(values) = &node.additional {
            node = values;
            shown.push_str(&format!("[{name}]"));
        } else {
            return Err(none());
        }
    }
    if shown.is_empty() { Err("it is empty".into()) } else { Ok(shown) }
}

/// `'name']` with escapes, and what follows.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let wrong = || format!("expected single quoted string but got {text}");
    let mut chars = text.char_indices();
    if !matches!(chars.next(), Some((_, '\''))) {
        return Err(wrong());
    }
    let mut name = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => {
                let after = text[at + 1..].strip_prefix(']').ok_or("expected ]")?;
                return Ok((name, after));
            }
            '\\' => name.push(match chars.next() {
                Some((_, 'a')) => '\u{7}',
                Some((_, 'b')) => '\u{8}',
                Some((_, 'f')) => '\u{c}',
                Some((_, 'n')) => '\n',
                Some((_, 'r')) => '\r',
                Some((_, 't')) => '\t',
                Some((_, 'v')) => '\u{b}',
                Some((_, c @ ('\'' | '\\'))) => c,
                other => return Err(format!("invalid escape char {other:?}")),
            }),
            c => name.push(c),
        }
    }
    Err(wrong())
}

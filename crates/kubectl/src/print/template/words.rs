//! An action is cut into words, and each read for itself.

use serde_json::{Number, Value};

use super::{Place, Term, functions, go_text};

pub(super) fn tokens(text: &str, at: usize) -> Result<Vec<Place>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(quote) = rest.chars().next() {
        let end = match quote {
            '"' | '\'' => {
                let mut escaped = false;
                let close = rest[1..].char_indices().find(|(_, c)| {
                    let ends = *c == quote && !escaped;
                    escaped = *c == '\\' && !escaped;
                    ends
                });
                close.map(|(at, _)| at + 2).ok_or(match quote {
                    '"' => "unterminated quoted string",
                    _ => "unterminated character constant",
                })?
            }
            '`' => rest[1..].find('`').map(|at| at + 2).ok_or("unterminated raw quoted string")?,
            '|' | '(' | ',' => 1,
            // What stands behind the bracket belongs to it: `(index .a 0).b`.
            ')' => {
                1 + rest[1..]
                    .find(|c: char| c.is_whitespace() || "|(),".contains(c))
                    .unwrap_or(rest.len() - 1)
            }
            ':' if rest.starts_with(":=") => 2,
            '=' => 1,
            _ => rest
                .find(|c: char| c.is_whitespace() || "|(),=".contains(c))
                .map(|at| if rest[..at].ends_with(':') { at - 1 } else { at })
                .unwrap_or(rest.len()),
        };
        let at = at + text.len() - rest.len();
        tokens.push(Place { at, text: rest[..end].to_owned() });
        rest = rest[end..].trim_start();
    }
    Ok(tokens)
}
/// Tokens as Go writes them.
pub(super) fn written(tokens: &[Place]) -> String {
    let mut text = String::new();
    for token in tokens {
        if !text.is_empty() && !text.ends_with('(') && !token.text.starts_with(')') {
            text.push(' ');
        }
        text.push_str(&token.text);
    }
    text
}

pub(super) fn names(path: &str) -> Vec<String> {
    path.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

pub(super) fn term(token: &Place) -> Result<Term, String> {
    let place = |skipped: usize| Place { at: token.at + skipped, text: token.text.clone() };
    let token = token.text.as_str();
    if let Some(path) = token.strip_prefix('.') {
        // To Go a path of several names is where the second is.
        let second = path.find('.').map_or(0, |at| at + 1);
        return Ok(Term::Path(None, names(path), place(second)));
    }
    if token.starts_with('$') {
        let (name, path) = token.split_once('.').unwrap_or((token, ""));
        let skipped = if path.is_empty() { 0 } else { name.len() };
        return Ok(Term::Path(Some(name.to_owned()), names(path), place(skipped)));
    }
    if let Some(text) = token.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        let text = go_text::unquote(text, '"').ok_or_else(|| format!("invalid syntax: {token}"))?;
        return Ok(Term::Literal(Value::String(text)));
    }
    if let Some(text) = token.strip_prefix('\'') {
        let text = text.strip_suffix('\'').and_then(|text| go_text::unquote(text, '\''));
        let mut chars = text.as_deref().unwrap_or_default().chars();
        return match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(Term::Literal(u32::from(c).into())),
            _ => Err(format!("malformed character constant: {token}")),
        };
    }
    if token.starts_with('`') {
        return Ok(Term::Literal(Value::String(token.trim_matches('`').to_owned())));
    }
    match token {
        "true" => Ok(Term::Literal(true.into())),
        "false" => Ok(Term::Literal(false.into())),
        "nil" => Ok(Term::Literal(Value::Null)),
        name if functions::is_known(name) => Ok(Term::Function(name.to_owned(), place(0))),
        other if other.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+') => {
            number(other)
                .map(|number| Term::Literal(Value::Number(number)))
                .ok_or_else(|| format!("bad number syntax: {other:?}"))
        }
        "|" | "," => Err(format!("unexpected {token:?} in operand")),
        name => Err(format!("function {name:?} not defined")),
    }
}

/// A number as Go's source has it: `1_000`, `0x1f`, `017`, `1e3`.
fn number(token: &str) -> Option<Number> {
    let (sign, digits) = match token.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", token.strip_prefix('+').unwrap_or(token)),
    };
    let digits = digits.replace('_', "").to_ascii_lowercase();
    let octal = digits.strip_prefix("0o").or_else(|| {
        digits
            .strip_prefix('0')
            .filter(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    });
    let (radix, whole) = if let Some(rest) = digits.strip_prefix("0x") {
        (16, rest)
    } else if let Some(rest) = digits.strip_prefix("0b") {
        (2, rest)
    } else if let Some(rest) = octal {
        (8, rest)
    } else {
        (10, digits.as_str())
    };
    if whole.contains(['+', '-']) && radix != 10 {
        return None;
    }
    if let Ok(number) = i64::from_str_radix(&format!("{sign}{whole}"), radix) {
        return Some(number.into());
    }
    let fractional = radix == 10 && digits.contains(['.', 'e']);
    let float = fractional.then(|| format!("{sign}{digits}").parse().ok()).flatten();
    float.and_then(Number::from_f64)
}

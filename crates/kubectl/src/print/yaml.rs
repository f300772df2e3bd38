//! YAML as kubectl writes it: keys sorted, lists not indented, quotes only where
//! a reader of YAML 1.1 needs them, lines folded behind 80 columns. Rules of
//! style are those of libyaml's emitter.

use std::cmp::Ordering;

use serde_json::Value;

use super::number;

/// Where lines are folded, at the next space.
const COLUMNS: usize = 80;

/// A document, ended by a newline.
pub(crate) fn document(value: &Value) -> String {
    let mut writer = Writer { out: String::new(), column: 0 };
    match value {
        Value::Object(map) if !map.is_empty() => writer.map(map, 0),
        Value::Array(items) if !items.is_empty() => writer.list(items, 0),
        scalar => writer.scalar(scalar, 0, false),
    }
    writer.out.push('\n');
    writer.out
}

struct Writer {
    out: String,
    column: usize,
}

impl Writer {
    fn push(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    fn line(&mut self, indent: usize) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(' ', indent));
        self.column = indent;
    }

    /// The cursor is where the first key begins.
    fn map(&mut self, map: &serde_json::Map<String, Value>, indent: usize) {
        let mut entries: Vec<_> = map.iter().collect();
        entries.sort_by(|a, b| natural(a.0, b.0));
        for (i, (key, value)) in entries.into_iter().enumerate() {
            if i > 0 {
                self.line(indent);
            }
            self.text(key, indent, true);
            self.push(":");
            match value {
                Value::Object(inner) if !inner.is_empty() => {
                    self.line(indent + 2);
                    self.map(inner, indent + 2);
                }
                Value::Array(items) if !items.is_empty() => {
                    self.line(indent);
                    self.list(items, indent);
                }
                scalar => {
                    self.push(" ");
                    self.scalar(scalar, indent + 2, false);
                }
            }
        }
    }

    fn list(&mut self, items: &[Value], indent: usize) {
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.line(indent);
            }
            self.push("- ");
            match item {
                Value::Object(map) if !map.is_empty() => self.map(map, indent + 2),
                Value::Array(inner) if !inner.is_empty() => self.list(inner, indent + 2),
                scalar => self.scalar(scalar, indent + 2, false),
            }
        }
    }

    fn scalar(&mut self, value: &Value, indent: usize, key: bool) {
        match value {
            Value::String(text) => self.text(text, indent, key),
            Value::Array(_) => self.push("[]"),
            Value::Object(_) => self.push("{}"),
            Value::Number(number) => self.push(&number::yaml(number)),
            other => self.push(&other.to_string()),
        }
    }

    fn text(&mut self, text: &str, indent: usize, key: bool) {
        match style(text, key) {
            Style::Plain => self.folded(text, indent, key, ""),
            Style::Single => self.folded(text, indent, key, "'"),
            Style::Double => self.double(text, indent, key),
            Style::Literal => self.literal(text, indent),
        }
    }

    /// Plain and single-quoted text.
    fn folded(&mut self, text: &str, indent: usize, key: bool, quote: &str) {
        self.push(quote);
        let chars: Vec<char> = text.chars().collect();
        let mut in_spaces = false;
        for (i, &c) in chars.iter().enumerate() {
            let inside = quote.is_empty() || (i > 0 && i + 1 < chars.len());
            let next_space = chars.get(i + 1) == Some(&' ');
            if c == ' ' && !key && !in_spaces && self.column > COLUMNS && inside && !next_space {
                self.line(indent);
            } else if c == '\'' && !quote.is_empty() {
                self.push("''");
            } else {
                self.push(c.encode_utf8(&mut [0; 4]));
            }
            in_spaces = c == ' ';
        }
        self.push(quote);
    }

    fn double(&mut self, text: &str, indent: usize, key: bool) {
        self.push("\"");
        let chars: Vec<char> = text.chars().collect();
        let mut in_spaces = false;
        for (i, &c) in chars.iter().enumerate() {
            let fold = !key && !in_spaces && self.column > COLUMNS && i > 0 && i + 1 < chars.len();
            if c == ' ' && fold {
                self.line(indent);
                if chars[i + 1] == ' ' {
                    self.push("\\");
                }
                in_spaces = true;
                continue;
            }
            in_spaces = c == ' ';
            match c {
                '"' => self.push("\\\""),
                '\\' => self.push("\\\\"),
                '\0' => self.push("\\0"),
                '\x07' => self.push("\\a"),
                '\x08' => self.push("\\b"),
                '\t' => self.push("\\t"),
                '\n' => self.push("\\n"),
                '\x0b' => self.push("\\v"),
                '\x0c' => self.push("\\f"),
                '\r' => self.push("\\r"),
                '\x1b' => self.push("\\e"),
                '\u{85}' => self.push("\\N"),
                '\u{a0}' => self.push("\\_"),
                '\u{2028}' => self.push("\\L"),
                '\u{2029}' => self.push("\\P"),
                c if is_printable(c) => self.push(c.encode_utf8(&mut [0; 4])),
                c => {
                    let escaped = match u32::from(c) {
                        n @ ..=0xff => format!("\\x{n:02X}"),
                        n @ ..=0xffff => format!("\\u{n:04X}"),
                        n => format!("\\U{n:08X}"),
                    };
                    self.push(&escaped);
                }
            }
        }
        self.push("\"");
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.push("|");
        if text.starts_with([' ', '\n']) {
            self.push("2");
        }
        let trimmed = text.trim_end_matches('\n');
        let chomp = match text.len() - trimmed.len() {
            0 => "-",
            1 if !trimmed.is_empty() => "",
            _ => "+",
        };
        self.push(chomp);
        let body = text.strip_suffix('\n').unwrap_or(text);
        for line in body.split('\n') {
            if line.is_empty() {
                self.out.push('\n');
            } else {
                self.line(indent);
                self.push(line);
            }
        }
        // What comes next begins behind a break of its own.
        self.column = indent;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

/// What an emitter must know of a text (libyaml's `analyze_scalar`).
fn style(text: &str, key: bool) -> Style {
    let chars: Vec<char> = text.chars().collect();
    let wanted = if text.contains('\n') {
        Style::Literal
    } else if reads_as_text(text) {
        Style::Plain
    } else {
        Style::Double
    };
    if text.is_empty() {
        return Style::Double;
    }
    let mut indicators = text.starts_with("---") || text.starts_with("...");
    let (mut special, mut break_space, mut space_break) = (false, false, false);
    let mut before = ' ';
    for (i, &c) in chars.iter().enumerate() {
        let next = chars.get(i + 1).copied();
        let blank_next = matches!(next, None | Some(' ' | '\t' | '\n'));
        indicators |= match (i, c) {
            (0, '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>') => true,
            (0, '\'' | '"' | '%' | '@' | '`') => true,
            (0, '?' | '-') => blank_next,
            (_, ':') => blank_next,
            (_, '#') => i > 0 && matches!(before, ' ' | '\t' | '\n'),
            _ => false,
        };
        special |= !is_printable(c) && c != '\n';
        break_space |= c == ' ' && i > 0 && before == '\n';
        space_break |= c == '\n' && i > 0 && before == ' ';
        before = c;
    }
    let multiline = text.contains('\n');
    let edge = text.starts_with([' ', '\n']) || text.ends_with([' ', '\n']);
    let plain = !(indicators || edge || break_space || space_break || special || multiline);
    let single = !(break_space || space_break || special || (key && multiline));
    let literal = !(text.ends_with(' ') || space_break || special || key);
    match wanted {
        Style::Literal if literal => Style::Literal,
        Style::Plain if plain => Style::Plain,
        Style::Plain if single => Style::Single,
        _ => Style::Double,
    }
}

fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
        || (c > '\u{ffff}' && c <= '\u{10ffff}')
}

/// Whether unquoted text stays text for a reader of YAML 1.1.
fn reads_as_text(text: &str) -> bool {
    const WORDS: &[&str] = &[
        "", "~", "null", "Null", "NULL", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true",
        "True", "TRUE", "n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE",
        "<<", ".nan", ".NaN", ".NAN", ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf",
        "-.Inf", "-.INF",
    ];
    !WORDS.contains(&text) && !is_number(text) && !is_time(text) && !is_base_60(text)
}

fn is_number(text: &str) -> bool {
    let bare: String = text.chars().filter(|c| *c != '_').collect();
    let digits = bare.strip_prefix(['-', '+']).unwrap_or(&bare);
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
        return false;
    }
    let radix = |prefixes: [&str; 2], radix: u32| {
        prefixes.iter().any(|prefix| {
            digits
                .strip_prefix(prefix)
                .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(radix)))
        })
    };
    if radix(["0x", "0X"], 16) || radix(["0o", "0O"], 8) || radix(["0b", "0B"], 2) {
        return true;
    }
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (digits, None),
    };
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let mantissa_ok = match mantissa.split_once('.') {
        Some(("", fraction)) => !fraction.is_empty() && all_digits(fraction),
        Some((whole, fraction)) => all_digits(whole) && all_digits(fraction),
        None => !mantissa.is_empty() && all_digits(mantissa),
    };
    let exponent_ok = exponent.is_none_or(|exponent| {
        let bare = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !bare.is_empty() && all_digits(bare)
    });
    mantissa_ok && exponent_ok
}

/// `2001-12-14`, with a time or without.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() < 8 || !bytes[..4].iter().all(u8::is_ascii_digit) || bytes[4] != b'-' {
        return false;
    }
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let numbers = |text: &str, separator: char, count: usize| {
        let parts: Vec<&str> = text.split(separator).collect();
        parts.len() == count
            && parts.iter().all(|part| {
                !part.is_empty() && part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit())
            })
    };
    let time_ok = time.is_none_or(|time| {
        let zone = time.find(['Z', '+', '-']).unwrap_or(time.len());
        let (clock, _) = time.split_at(zone);
        let clock = clock.split_once('.').map_or(clock, |(clock, _)| clock);
        numbers(clock, ':', 3)
    });
    numbers(date, '-', 3) && time_ok
}

/// `1:30`, which YAML 1.1 takes for a number of base 60.
fn is_base_60(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mut parts = digits.split(':');
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    !rest.is_empty()
        && first.starts_with(|c: char| c.is_ascii_digit())
        && first.bytes().all(|b| b.is_ascii_digit() || b == b'_')
        && rest.iter().enumerate().all(|(i, part)| {
            let whole = match part.split_once('.') {
                Some((whole, _)) if i + 1 == rest.len() => whole,
                _ => part,
            };
            number(whole) && whole.parse::<u32>().is_ok_and(|n| n < 60) && whole.len() <= 2
        })
}

/// The order of keys: signs and digits before letters, numbers by their value.
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = a.iter().zip(&b).position(|(a, b)| a != b) else {
        return a.len().cmp(&b.len());
    };
    match (a[at].is_alphabetic(), b[at].is_alphabetic()) {
        (true, true) => return a[at].cmp(&b[at]),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    // Zeros inside a number count, those in front of one do not.
    let inside = (a[at] == '0' || b[at] == '0')
        && a[..at].iter().rev().take_while(|c| c.is_ascii_digit()).any(|c| *c != '0');
    let number = |chars: &[char]| {
        let digits: String = chars[at..].iter().take_while(|c| c.is_ascii_digit()).collect();
        let value = format!("{}{digits}", if inside { "1" } else { "0" }).parse::<u64>();
        (value.unwrap_or(u64::MAX), digits.len())
    };
    number(&a).cmp(&number(&b)).then(a[at].cmp(&b[at]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_are_quoted_where_they_must_be() {
        for (text, yaml) in [
            ("b", "b"),
            ("a: b", "'a: b'"),
            ("", "\"\""),
            ("123", "\"123\""),
            ("1e5", "\"1e5\""),
            ("0x1F", "\"0x1F\""),
            ("1.2.3", "1.2.3"),
            ("yes", "\"yes\""),
            ("n", "\"n\""),
            ("null", "\"null\""),
            ("2026-11-26T03:06:25Z", "\"2026-11-26T03:06:25Z\""),
            ("1:30", "\"1:30\""),
            ("10.42.0.0/16", "10.42.0.0/16"),
            ("a\tb", "\"a\\tb\""),
            ("trailing \n\n", "\"trailing \\n\\n\""),
            ("- a", "'- a'"),
            ("it's", "it's"),
            ("'x", "'''x'"),
            (" lead", "' lead'"),
            ("ünï", "ünï"),
            ("a #b", "'a #b'"),
            ("a#b", "a#b"),
            ("*", "'*'"),
            ("-", "'-'"),
            ("--flag", "--flag"),
            ("0s", "0s"),
            ("one\ntwo", "|-\n  one\n  two"),
            ("one\n\ntwo\n", "|\n  one\n\n  two\n"),
            ("a\n\n", "|+\n  a\n\n"),
        ] {
            let line = document(&json!({"k": text}));
            let expected = format!("k: {yaml}");
            assert_eq!(line.trim_end_matches('\n'), expected.trim_end_matches('\n'), "{text:?}");
        }
    }

    #[test]
    fn structures_are_laid_out_as_kubectl_does() {
        let value = json!({
            "list": [{"b": 1, "a": {"x": []}}, "s", [1, 2], {}],
            "k10": 1, "k9": null, "empty": {}, "f:x": true, ".": false,
        });
        assert_eq!(
            document(&value),
            "\
.: false
empty: {}
f:x: true
k9: null
k10: 1
list:
- a:
    x: []
  b: 1
- s
- - 1
  - 2
- {}
"
        );
    }

    #[test]
    fn long_lines_are_folded() {
        let words = "word ".repeat(40);
        let text = document(&json!({"a": {"b": words.trim()}}));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() == 4 && lines[2].starts_with("    word"), "{text}");
        assert!(lines[1].len() > 80 && lines[1].len() < 86, "{text}");
        let back: Value = serde_saphyr::from_str(&text).expect("valid YAML");
        assert_eq!(back["a"]["b"], words.trim());
    }
}
